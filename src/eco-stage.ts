import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
  statSync,
  symlinkSync,
} from "node:fs";
import { dirname, join, posix } from "node:path";
import type { Tree, TreeEntry } from "./eco-managed.ts";
import { AegisError } from "./errors.ts";
import type { Account } from "./sys-account.ts";
import { hashOpenFile, readFileLimited, writeFully } from "./sys-files.ts";
import { showArgv } from "./terminal.ts";

/*
 * Trees of managed roots: reading one strictly, and copying what was read. A stage has been another user's, so nothing in it is
 * believed: only plain files, directories, and links that stay inside may be in it, and contents alone are copied.
 */

export interface TreeLimits {
  entries: number;
  /** Of all files together. */
  bytes: number;
}

const TREE_LIMITS: TreeLimits = { entries: 500_000, bytes: 16 * 1024 ** 3 };
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
export function readRoot(root: string): Tree {
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
  return walkTree(root, owner, TREE_LIMITS, refuse, "open");
}

/**
 * Everything below `root`, whose files must all be `owner`'s. Nobody may be changing it meanwhile.
 * @throws AegisError `refused` for anything that is neither a plain file, a directory nor a link that stays inside, for hard links,
 * special mode bits, other owners, names with control characters, and more than the limits
 */
export function readTree(root: string, owner: number, limits: TreeLimits = TREE_LIMITS): Tree {
  return walkTree(root, owner, limits, (path, why) => {
    throw new AegisError(
      "refused",
      `${JSON.stringify(path)} ${why}, which has no place in a managed directory`,
    );
  });
}

/**
 * A tree as it is found, for comparing: what {@link readTree} would refuse is in `odd`, path → what is wrong with it, as are modes
 * that {@link copyTree} doesn't set. The root itself is the empty path. Reads only as much as the limits allow.
 */
export function surveyTree(
  root: string,
  owner: number,
  limits: TreeLimits = TREE_LIMITS,
): { tree: Tree; odd: ReadonlyMap<string, string> } {
  const odd = new Map<string, string>();
  const tree = walkTree(root, owner, limits, (path, why) => void odd.set(path, odd.get(path) ?? why), "ours");
  return { tree, odd };
}

/**
 * Walks a tree. `object` is told of what doesn't belong into it, and may throw; what it was told of isn't followed. `modes` are the
 * right ones: any, what {@link copyTree} sets, or what lets everybody read, as its copies do.
 */
function walkTree(
  root: string,
  owner: number,
  limits: TreeLimits,
  object: (path: string, why: string, mend?: Mend) => void,
  modes: "any" | "ours" | "open" = "any",
): Tree {
  const tree = new Map<string, TreeEntry>();
  let bytes = 0;

  const addFile = (path: string): void => {
    const fd = openSync(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(fd);
      bytes += stat.size;
      if (!stat.isFile()) object(path, "was exchanged while it was read");
      else if (bytes > limits.bytes) object(path, `and the others are larger than ${limits.bytes} bytes`);
      else tree.set(path, { kind: "file", ...hashOpenFile(fd), executable: (stat.mode & ANY_X) !== 0 });
    } finally {
      closeSync(fd);
    }
  };
  const addLink = (path: string): void => {
    const target = readlinkSync(join(root, path));
    if (staysInside(path, target)) tree.set(path, { kind: "link", target });
    else object(path, `is a link to ${JSON.stringify(target.slice(0, 200))}`);
  };
  const checkMode = (path: string, { mode }: Stats, right: readonly number[]): void => {
    const found = mode & 0o7777;
    if (modes === "ours" && !right.includes(found))
      object(path, `has the mode ${found.toString(8).padStart(4, "0")}`);
    const all = right.reduce((one, other) => one & other);
    if (modes === "open" && (found & all & FOR_ALL) !== (all & FOR_ALL))
      object(path, "is not for everybody to read", (at) => ["chmod", "a+rX", at]);
  };
  const walk = (directory: string, depth: number): void => {
    const names = readdirSync(join(root, directory)).sort();
    if (names.length === 0 && directory !== "") tree.set(directory, { kind: "directory" });
    for (const name of names) {
      const path = directory === "" ? name : `${directory}/${name}`;
      if (/[\p{Cc}\p{Cs}\uFFFD\\]/u.test(name)) object(path, "has characters that no file name needs");
      else if (depth > MAX_DEPTH || path.length > MAX_PATH) object(path.slice(0, 200), "is too deep");
      else if (tree.size >= limits.entries) {
        object(path, `is one of more than ${limits.entries} files`);
        return;
      } else visit(path, lstatSync(join(root, path)), depth);
    }
  };
  const visit = (path: string, stat: Stats, depth: number): void => {
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
    checkMode("", top, [0o755]);
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

/**
 * Copies a tree into a new directory, as root's or as `account`'s. Files are hashed as they are copied, so what arrives is what was
 * read. Nothing but contents and the execute bit goes along.
 * @throws AegisError `refused` if a file has changed since it was read
 */
export function copyTree(tree: Tree, from: string, to: string, account: Account | null): void {
  copyTrees([{ tree, from }], to, account);
}

/** Some tree, and the directory that it was read from. */
export interface Source {
  tree: Tree;
  from: string;
}

/**
 * Copies trees that have no path in common, directories aside, into one new directory: as {@link copyTree}.
 * @throws AegisError `refused` if a file has changed since it was read
 */
export function copyTrees(sources: readonly Source[], to: string, account: Account | null): void {
  const give = (path: string) => account !== null && lchownSync(path, account.uid, account.gid);
  const made = new Set<string>();
  const directory = (path: string): void => {
    if (made.has(path)) return;
    if (path !== "") directory(parentOf(path));
    mkdirSync(join(to, path), { mode: 0o755 });
    chmodSync(join(to, path), 0o755);
    give(join(to, path));
    made.add(path);
  };
  directory("");
  for (const { tree, from } of sources) {
    for (const [path, entry] of tree) {
      if (entry.kind === "directory") {
        directory(path);
        continue;
      }
      directory(parentOf(path));
      const target = join(to, path);
      if (entry.kind === "link") symlinkSync(entry.target, target);
      else copyFile(join(from, path), target, entry, account);
      give(target);
    }
  }
}

/** Trees as one, in which a directory stands only where it is empty. */
export function unionOf(sources: readonly Source[]): Tree {
  const all = sources.flatMap(({ tree }) => [...tree]);
  const filled = new Set(all.flatMap(([path]) => ancestorsOf(path)));
  return new Map(all.filter(([path, { kind }]) => kind !== "directory" || !filled.has(path)));
}

function ancestorsOf(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
}

function parentOf(path: string): string {
  const parent = dirname(path);
  return parent === "." ? "" : parent;
}

const PIECE = Buffer.allocUnsafe(1 << 20);

function copyFile(
  from: string,
  to: string,
  { sha256, executable }: Extract<TreeEntry, { kind: "file" }>,
  account: Account | null,
): void {
  const source = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const target = openSync(to, "wx", 0o600);
    try {
      const hash = createHash("sha256");
      for (;;) {
        const n = readSync(source, PIECE, 0, PIECE.length, null);
        if (n === 0) break;
        const piece = PIECE.subarray(0, n);
        hash.update(piece);
        writeFully(target, piece);
      }
      if (hash.digest("hex") !== sha256)
        throw new AegisError("refused", `${JSON.stringify(from)} changed while it was copied`);
    } finally {
      closeSync(target);
    }
    if (account !== null) chownSync(to, account.uid, account.gid);
    chmodSync(to, executable ? 0o755 : 0o644);
  } finally {
    closeSync(source);
  }
}
