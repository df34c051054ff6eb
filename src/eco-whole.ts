import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  type Stats,
  statSync,
} from "node:fs";
import { join } from "node:path";
import type { TreeEntry } from "./eco-managed.ts";
import { AegisError } from "./errors.ts";
import { linkTarget, reopen, setXattr, xattrsOf } from "./sys-beneath.ts";
import { exchangePaths } from "./sys-ffi.ts";
import { hashOpenFile } from "./sys-files.ts";

/*
 * Directories of a managed root that are taken whole: their files have owners, special modes, attributes, second names, and may be whiteouts
 * and pipes. One digest stands for all of it. They are root's, in a directory that root alone can enter, and never change: so the next
 * content of the root has the same files by hard links instead of copies.
 */

export type WholeEntry = Extract<TreeEntry, { kind: "whole" }>;

interface WholeLimits {
  entries: number;
  /** Of all files together. */
  bytes: number;
}

/** A descriptor of a link too (open(2)). By path, since a unit with RestrictSUIDSGID= has no openat2(2), and only root changes these. */
const O_PATH = 0o10000000;
const MAX_DEPTH = 512;
const PERMISSIONS = 0o7777;

/**
 * Reads a directory. Times are no part of it, nor attributes that only CAP_SYS_ADMIN sees.
 * @throws AegisError `refused` above the limits, and for a name that isn't UTF-8
 */
export function readWhole(root: string, limits: WholeLimits): WholeEntry {
  const reading = new Reading(root, limits);
  reading.visit("", 0);
  return reading.entry();
}

class Reading {
  readonly #root: string;
  readonly #limits: WholeLimits;
  readonly #hash = createHash("sha256");
  /** First paths of files with several. */
  readonly #names = new Map<string, string>();
  #entries = 0;
  #size = 0;

  constructor(root: string, limits: WholeLimits) {
    this.#root = root;
    this.#limits = limits;
  }

  entry(): WholeEntry {
    return { kind: "whole", sha256: this.#hash.digest("hex"), entries: this.#entries, size: this.#size };
  }

  visit(path: string, depth: number): void {
    if (++this.#entries > this.#limits.entries)
      throw this.#refused(path, `is one of more than ${this.#limits.entries} files`);
    const fd = openSync(join(this.#root, path), O_PATH | constants.O_NOFOLLOW);
    let isDirectory: boolean;
    try {
      const stat = fstatSync(fd);
      isDirectory = stat.isDirectory();
      const attributes = [...xattrsOf(fd)].map(([name, value]) => [name, value.toString("hex")]).sort();
      const facts = [path, stat.mode, stat.uid, stat.gid, attributes, ...this.#content(path, fd, stat)];
      this.#hash.update(`${JSON.stringify(facts)}\n`);
    } finally {
      closeSync(fd);
    }
    if (!isDirectory) return;
    if (depth > MAX_DEPTH) throw this.#refused(path, "is too deep");
    for (const name of readdirSync(join(this.#root, path)).sort()) {
      if (name.includes("\uFFFD")) throw this.#refused(path, "has a file whose name isn't UTF-8");
      this.visit(path === "" ? name : `${path}/${name}`, depth + 1);
    }
  }

  #content(path: string, fd: number, stat: Stats): (string | number)[] {
    if (stat.isDirectory()) return ["directory"];
    const inode = `${stat.dev}:${stat.ino}`;
    const first = stat.nlink > 1 ? this.#names.get(inode) : undefined;
    if (first !== undefined) return ["same", first];
    if (stat.nlink > 1) this.#names.set(inode, path);
    if (stat.isSymbolicLink()) return ["link", linkTarget(fd).toString("hex")];
    if (!stat.isFile()) return ["other", stat.rdev];
    this.#size += stat.size;
    if (this.#size > this.#limits.bytes)
      throw this.#refused(path, `and the others are larger than ${this.#limits.bytes} bytes`);
    const file = reopen(fd);
    try {
      return ["file", stat.size, hashOpenFile(file).sha256];
    } finally {
      closeSync(file);
    }
  }

  #refused(path: string, why: string): AegisError {
    return new AegisError("refused", `${JSON.stringify(join(this.#root, path).slice(0, 300))} ${why}`);
  }
}

/** Makes a directory with the files of another one, which stays, by hard links. @throws AegisError `io` */
export function linkWhole(from: string, to: string): void {
  const stat = lstatSync(from);
  mkdirSync(to, { mode: 0o700 });
  for (const name of readdirSync(from)) {
    const [source, target] = [join(from, name), join(to, name)];
    if (lstatSync(source).isDirectory()) linkWhole(source, target);
    else linkSync(source, target);
  }
  const [old, made] = [openDirectory(from), openDirectory(to)];
  for (const [name, value] of xattrsOf(old)) setXattr(made, name, value);
  closeSync(old);
  closeSync(made);
  lchownSync(to, stat.uid, stat.gid);
  // After the owner, with whom special bits go.
  chmodSync(to, stat.mode & PERMISSIONS);
  lutimesSync(to, stat.atime, stat.mtime);
}

function openDirectory(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}

/**
 * Keeps directories in use, for example by a container, where the new content has the same ones: of each pair the older directory, which
 * may be open, goes into the root, and the newer one into the previous content, which is removed some day. May be called again after it
 * was interrupted.
 */
export function keepOldDirectories(root: string, previous: string, paths: readonly string[]): void {
  for (const path of paths) {
    const [now, before] = [join(root, path), join(previous, path)];
    if (!existsSync(now) || !existsSync(before)) continue;
    // A file system without times of birth has 0 for both.
    if (statSync(before).birthtimeMs < statSync(now).birthtimeMs) exchangePaths(before, now);
  }
}
