import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  lchownSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Tree, TreeEntry } from "./eco-managed.ts";
import { linkWhole } from "./eco-whole.ts";
import { AegisError } from "./errors.ts";
import type { Account } from "./sys-account.ts";
import { writeFully } from "./sys-files.ts";

/*
 * Copies of trees of managed roots, as eco-stage.ts has read them.
 */

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
      if (entry.kind === "whole") {
        linkWhole(join(from, path), target);
        continue;
      }
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
