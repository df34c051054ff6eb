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
  readlinkSync,
  type Stats,
  statSync,
} from "node:fs";
import { join } from "node:path";
import type { TreeEntry } from "./eco-managed.ts";
import { AegisError } from "./errors.ts";
import { exchangePaths } from "./sys-ffi.ts";
import { hashOpenFile } from "./sys-files.ts";
import { setXattr, xattrsOf } from "./sys-xattr.ts";

/*
 * Directories of a managed root that are taken whole: their files have owners, special modes, attributes, second names, and may be whiteouts
 * and pipes. One digest stands for all of it. They are root's, in a directory that root alone can enter, and never change: so the next
 * content of the root has the same files by hard links, and not by copies.
 */

export type WholeEntry = Extract<TreeEntry, { kind: "whole" }>;

interface WholeLimits {
  entries: number;
  /** Of all files together. */
  bytes: number;
}

const MAX_DEPTH = 512;
const PERMISSIONS = 0o7777;

/**
 * Reads a directory. Times are no part of it, nor attributes that only CAP_SYS_ADMIN sees.
 * @throws AegisError `refused` for what is too much or has a name that is no text
 */
export function readWhole(root: string, limits: WholeLimits): WholeEntry {
  const hash = createHash("sha256");
  const names = new Map<string, string>();
  const refuse = (path: string, why: string) =>
    new AegisError("refused", `${JSON.stringify(join(root, path).slice(0, 300))} ${why}`);
  let [entries, size] = [0, 0];
  const say = (path: string, stat: Stats, what: readonly (string | number)[]) => {
    const attributes = [...xattrsOf(join(root, path))].map(([name, value]) => [name, value.toString("hex")]);
    const facts = [path, stat.mode, stat.uid, stat.gid, attributes, ...what];
    hash.update(`${JSON.stringify(facts)}\n`);
  };
  const content = (path: string, stat: Stats): string => {
    const fd = openSync(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      size += stat.size;
      if (!fstatSync(fd).isFile()) throw refuse(path, "was exchanged while it was read");
      if (size > limits.bytes) throw refuse(path, `and the others are larger than ${limits.bytes} bytes`);
      return hashOpenFile(fd).sha256;
    } finally {
      closeSync(fd);
    }
  };
  const visit = (path: string, depth: number): void => {
    const stat = lstatSync(join(root, path));
    if (++entries > limits.entries) throw refuse(path, `is one of more than ${limits.entries} files`);
    if (stat.isDirectory()) {
      if (depth > MAX_DEPTH) throw refuse(path, "is too deep");
      say(path, stat, ["directory"]);
      for (const name of readdirSync(join(root, path)).sort()) {
        if (name.includes("\uFFFD")) throw refuse(path, "has a file whose name is no text");
        visit(path === "" ? name : `${path}/${name}`, depth + 1);
      }
      return;
    }
    const first = stat.nlink > 1 ? names.get(`${stat.dev}:${stat.ino}`) : undefined;
    if (first !== undefined) say(path, stat, ["same", first]);
    else if (stat.isFile()) say(path, stat, ["file", stat.size, content(path, stat)]);
    else if (stat.isSymbolicLink()) say(path, stat, ["link", readlinkSync(join(root, path))]);
    else say(path, stat, ["other", stat.rdev]);
    if (stat.nlink > 1) names.set(`${stat.dev}:${stat.ino}`, path);
  };
  visit("", 0);
  return { kind: "whole", sha256: hash.digest("hex"), entries, size };
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
  for (const [name, value] of xattrsOf(from)) setXattr(to, name, value);
  lchownSync(to, stat.uid, stat.gid);
  // After the owner, with whom special bits go.
  chmodSync(to, stat.mode & PERMISSIONS);
  lutimesSync(to, stat.atime, stat.mtime);
}

/**
 * Lets what works with directories that a root had before and has again, such as a container, keep them when the older content is removed
 * one day: of each the older directory, which may be in use, goes into the root, and its copy of the same content beside the rest of the
 * previous one. May be called again after it was interrupted.
 */
export function keepOldDirectories(root: string, previous: string, paths: readonly string[]): void {
  for (const path of paths) {
    const [now, before] = [join(root, path), join(previous, path)];
    if (!existsSync(now) || !existsSync(before)) continue;
    // A file system without times of birth has 0 for both.
    if (statSync(before).birthtimeMs < statSync(now).birthtimeMs) exchangePaths(before, now);
  }
}
