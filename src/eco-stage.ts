import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  type Stats,
  statSync,
} from "node:fs";
import { join, posix } from "node:path";
import type { ManagedStore, Tree, TreeEntry } from "./eco-managed.ts";
import { readWhole } from "./eco-whole.ts";
import { AegisError } from "./errors.ts";
import { hashOpenFile, readFileLimited } from "./sys-files.ts";
import { showArgv } from "./terminal.ts";

/*
 * Trees of managed roots, read strictly. A stage has been another user's, so nothing in it is believed: only plain files, directories, and
 * links that stay inside may be in it, and contents alone are copied (eco-stage-copy.ts).
 */

const TREE_LIMITS = { entries: 500_000, bytes: 16 * 1024 ** 3 };
/** Of directories that are taken whole, of which only digests are kept in memory. */
const WHOLE_LIMITS = { entries: 20_000_000, bytes: 4 * 1024 ** 4 };
const MAX_DEPTH = 64;
const MAX_PATH = 3000;
const MAX_LINK = 1024;
const ANY_X = 0o111;
const FOR_ALL = 0o555;
/** Set-user-id, set-group-id, sticky. */
const SPECIAL = 0o7000;

/** How a path with something that has no place in a managed root is put right, by an administrator who has looked at it. */
type Mend = (path: string) => string[];
const remove: Mend = (path) => ["rm", "-r", path];

/**
 * A managed root, or what is kept of one, as runs leave them: everything is root's. Nothing but a run writes there, so what
 * {@link readTree} refuses was put there by hand, and every run is refused until it is gone.
 * @throws AegisError `refused` with the path and what to type
 */
export function readRoot(root: string, store?: ManagedStore): Tree {
  const owner = process.getuid?.() === 0 ? 0 : statSync(root).uid;
  const refuse = (path: string, why: string, mend: Mend = remove) => {
    const at = path === root ? root : join(root, path);
    const typed = showArgv(mend(at));
    const other = mend === remove ? "" : `, or remove it: ${showArgv(remove(at))}`;
    throw new AegisError(
      "refused",
      `${JSON.stringify(at)} ${why}, which has no place in a managed directory: no run of Aegis left it so`,
      `Look at it (${showArgv(["ls", "-ld", at])}); then, as root: ${typed}${other}`,
    );
  };
  return walkTree(root, { owner, modes: "open", store }, refuse);
}

/**
 * Everything below `root`, whose files must all be `owner`'s. Nobody may be changing it meanwhile.
 * @throws AegisError `refused` for anything that is neither a plain file, a directory nor a link that stays inside, for hard links,
 * special mode bits, other owners, names with control characters, and more than the limits
 */
export function readTree(root: string, owner: number, store?: ManagedStore): Tree {
  return walkTree(root, { owner, modes: "any", store }, (path, why) => {
    throw new AegisError(
      "refused",
      `${JSON.stringify(path)} ${why}, which has no place in a managed directory`,
    );
  });
}

/**
 * A tree as it is found, for comparing: what {@link readTree} would refuse is in `odd`, path → what is wrong with it, as are modes
 * that copyTree doesn't set. The root itself is the empty path. Reads only as much as the limits allow.
 */
export function surveyTree(
  root: string,
  owner: number,
  store?: ManagedStore,
): { tree: Tree; odd: ReadonlyMap<string, string> } {
  const odd = new Map<string, string>();
  const object = (path: string, why: string) => void odd.set(path, odd.get(path) ?? why);
  const tree = walkTree(root, { owner, modes: "ours", store }, object);
  return { tree, odd };
}

interface Walk {
  owner: number;
  /** The right ones: any, what copyTree sets, or what lets everybody read, as its copies do. */
  modes: "any" | "ours" | "open";
  store: ManagedStore | undefined;
}

/** Walks a tree. `object` is told of what doesn't belong in it, and may throw; what it was told of isn't followed. */
function walkTree(
  root: string,
  { owner, modes, store }: Walk,
  object: (path: string, why: string, mend?: Mend) => void,
): Tree {
  const tree = new Map<string, TreeEntry>();
  let bytes = 0;

  const addFile = (path: string): void => {
    const fd = openSync(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(fd);
      bytes += stat.size;
      if (!stat.isFile()) object(path, "was exchanged while it was read");
      else if (bytes > TREE_LIMITS.bytes)
        object(path, `and the others are larger than ${TREE_LIMITS.bytes} bytes`);
      else tree.set(path, { kind: "file", ...hashOpenFile(fd), executable: (stat.mode & ANY_X) !== 0 });
    } finally {
      closeSync(fd);
    }
  };
  const addWhole = (path: string): void => {
    try {
      tree.set(path, readWhole(join(root, path), WHOLE_LIMITS));
    } catch (error) {
      if (!(error instanceof AegisError)) throw error;
      object(path, `can't be taken whole: ${error.message}`);
    }
  };
  const addLink = (path: string): void => {
    const target = readlinkSync(join(root, path));
    if (staysInside(path, target)) tree.set(path, { kind: "link", target });
    else object(path, `is a link to ${JSON.stringify(target.slice(0, 200))}`);
  };
  const checkMode = (path: string, { mode }: Stats, right: readonly number[]): void => {
    // Below a directory that is closed to everybody they decide nothing.
    if (store !== undefined) return;
    const found = mode & 0o7777;
    if (modes === "ours" && !right.includes(found))
      object(path, `has the mode ${found.toString(8).padStart(4, "0")}`);
    const all = right.reduce((one, other) => one & other);
    if (modes === "open" && (found & all & FOR_ALL) !== (all & FOR_ALL))
      object(path, "is not for everybody to read", (at) => ["chmod", "a+rX", at]);
  };
  const walk = (directory: string, depth: number): void => {
    const names = readdirSync(join(root, directory)).sort();
    if (names.length === 0 && directory !== "" && store?.isPassing(`${directory}/`) !== true)
      tree.set(directory, { kind: "directory" });
    for (const name of names) {
      const path = directory === "" ? name : `${directory}/${name}`;
      if (/[\p{Cc}\p{Cs}\uFFFD\\]/u.test(name)) object(path, "has characters that no file name needs");
      else if (depth > MAX_DEPTH || path.length > MAX_PATH) object(path.slice(0, 200), "is too deep");
      else if (tree.size >= TREE_LIMITS.entries) {
        object(path, `is one of more than ${TREE_LIMITS.entries} files`);
        return;
      } else visit(path, lstatSync(join(root, path)), depth);
    }
  };
  const visit = (path: string, stat: Stats, depth: number): void => {
    if (store?.isPassing(path) === true) return;
    if (stat.isDirectory() && store?.isWhole(path) === true) {
      addWhole(path);
      return;
    }
    if (stat.uid !== owner)
      object(path, `belongs to uid ${stat.uid}`, (at) => ["chown", "-h", "root:root", at]);
    if (!stat.isSymbolicLink() && (stat.mode & SPECIAL) !== 0)
      object(path, "has special mode bits", (at) => ["chmod", "ug-s,o-t", at]);
    if (stat.isDirectory()) {
      checkMode(path, stat, [0o755]);
      walk(path, depth + 1);
      return;
    }
    if (stat.nlink !== 1) object(path, "has a second name (hard link)");
    if (stat.isFile()) {
      checkMode(path, stat, [0o644, 0o755]);
      addFile(path);
    } else if (stat.isSymbolicLink()) addLink(path);
    else object(path, "is a device, pipe or socket");
  };
  const top = lstatSync(root);
  if (!top.isDirectory() || top.uid !== owner)
    object(modes === "ours" ? "" : root, "is no directory of its owner's");
  else {
    if (store === undefined) checkMode("", top, [0o755]);
    else if (modes !== "any" && (top.mode & 0o7777) !== CLOSED_MODE)
      object("", "is not closed to everybody but root", (at) => ["chmod", "0700", at]);
    walk("", 0);
  }
  return tree;
}

/** Whether a link's target is relative and stays below the root, wherever the link is. */
function staysInside(path: string, target: string): boolean {
  if (target === "" || target.length > MAX_LINK || target.startsWith("/")) return false;
  if (/[\p{Cc}\p{Cs}\uFFFD\\]/u.test(target)) return false;
  const resolved = posix.normalize(posix.join(posix.dirname(path), target));
  return resolved !== ".." && !resolved.startsWith("../");
}

/** The mode of a root that nobody but root can enter. */
export const CLOSED_MODE = 0o700;

/** How many files a tree has, and their bytes. */
export function sizeOfTree(tree: Tree): { files: number; bytes: number } {
  let [files, bytes] = [0, 0];
  for (const entry of tree.values()) {
    files += entry.kind === "file" ? 1 : entry.kind === "whole" ? entry.entries : 0;
    bytes += entry.kind === "file" || entry.kind === "whole" ? entry.size : 0;
  }
  return { files, bytes };
}

/** Identifies a tree: SHA-256 over its sorted entries. */
export function treeDigest(tree: Tree): string {
  const hash = createHash("sha256");
  for (const [path, entry] of [...tree].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(`${JSON.stringify([path, entry])}\n`);
  return hash.digest("hex");
}

/** Reads a file of a tree that {@link readTree} has read, at most `limit` bytes. @throws AegisError `internal` for a path that isn't in it */
export function treeReader(root: string, tree: Tree): (path: string, limit: number) => Uint8Array {
  return (path, limit) => {
    if (tree.get(path)?.kind !== "file") throw new AegisError("internal", `${path} is no file of the tree`);
    return readFileLimited(join(root, path), limit);
  };
}
