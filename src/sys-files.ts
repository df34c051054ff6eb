import { createHash, randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";

/** Errnos in words; others keep the system's message. */
const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of that path is a file, not a directory",
  ENAMETOOLONG: "that name is too long",
  ELOOP: "too many symbolic links",
  EROFS: "the file system is read-only",
  ENOSPC: "no space left on the file system",
  EDQUOT: "the disk quota is used up",
};

/** Errnos caused by the path, which the user can fix. */
const PATH_ERRORS = new Set([
  "ENOENT",
  "EACCES",
  "EPERM",
  "EISDIR",
  "ENOTDIR",
  "ENAMETOOLONG",
  "ELOOP",
  "EROFS",
]);

/** A file error in words, without the path, which the surrounding message names. */
export function fileProblem(error: unknown): string {
  return WORDS[errnoOf(error)] ?? messageOf(error);
}

function ioError(what: string, error: unknown, hint: string): AegisError {
  return new AegisError("io", `${what}: ${fileProblem(error)}`, hint, { errno: errnoOf(error) });
}

/** The same error for a path the user typed: an unusable path is a usage error, not a fault of this program or host. */
export function asTyped(error: unknown): unknown {
  if (!(error instanceof AegisError) || error.code !== "io") return error;
  const { errno } = error.details;
  const mistaken = typeof errno === "string" && PATH_ERRORS.has(errno);
  return mistaken ? new AegisError("usage", error.message, error.hint, error.details) : error;
}

/** Runs `use` on a path the user typed, with the errors of {@link asTyped}. */
export function typedPath<T>(use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw asTyped(error);
  }
}

/** False also if the path can't be examined. */
export function isDirectory(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  } catch {
    return false;
  }
}

/** Names in a directory, in no order; none where it is not there or can't be read. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Advice for a file that can't be written. `path` is the file's, though often its directory is the problem. */
export function writeHint(path: string, errno: string): string {
  const directory = dirname(path);
  switch (errno) {
    case "ENOENT":
      return `There is no directory ${directory}: create it, or choose another.`;
    case "EISDIR":
      return `Give a file in it, such as ${join(path, "<name>")}.`;
    case "EACCES":
    case "EPERM":
      return `You may not write to ${directory}: choose a directory of yours.`;
    case "ENOSPC":
    case "EDQUOT":
      return `Free some space under ${directory}; nothing was changed there.`;
    default:
      return `Check ${directory}: ls -ld ${directory}`;
  }
}

/**
 * Creates the directory `path` with `mode` (default 0700), with its parents; an existing one is left as it is.
 * @throws AegisError `io`
 */
export function ensureDir(path: string, mode = 0o700): void {
  try {
    mkdirSync(path, { recursive: true, mode });
  } catch (error) {
    throw ioError(`can't create the directory ${path}`, error, writeHint(path, errnoOf(error)));
  }
}

/**
 * Replaces a file atomically: temporary file in the same directory, fsync, rename, fsync of the directory. Readers
 * never see a partial file, and after a crash the old one is still there. Without `gid` the file gets the default
 * group.
 * @throws AegisError `io`
 */
export function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600, gid = -1): void {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const fd = openSync(temporary, "wx", mode);
    try {
      // The unprivileged services' filters know no chown(2), not even one that changes nothing.
      if (gid !== -1) fchownSync(fd, -1, gid);
      fchmodSync(fd, mode);
      writeFully(fd, bytes);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    try {
      unlinkSync(temporary);
    } catch {
      // Never created, or already renamed.
    }
    throw ioError(`can't write ${path}`, error, writeHint(path, errnoOf(error)));
  }
}

/**
 * Creates a file durably; false if it already exists.
 * @throws AegisError `io`
 */
export function createFileExclusive(path: string, data: string, mode = 0o600): boolean {
  let fd: number;
  try {
    fd = openSync(path, "wx", mode);
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    throw ioError(`can't create ${path}`, error, writeHint(path, errnoOf(error)));
  }
  try {
    writeFully(fd, Buffer.from(data));
    fsyncSync(fd);
  } catch (error) {
    // A partial file would be taken for a complete one.
    unlinkSync(path);
    throw ioError(`can't create ${path}`, error, writeHint(path, errnoOf(error)));
  } finally {
    closeSync(fd);
  }
  syncDirectory(dirname(path));
  return true;
}

/** Makes a directory's entries durable: fsync(2) of a file does not cover its name. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes all of `bytes` to an open file. */
export function writeFully(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done);
}

/**
 * Reads a regular file of at most `limit` bytes. It is opened once, so the file checked is the file read; a FIFO or
 * device is refused without blocking. `links`: whether `path` may be a symbolic link.
 * @throws AegisError `not_found`, `io`, `invalid_document` (too large, or not a regular file)
 */
export function readFileLimited(path: string, limit: number, links: "links" | "no links" = "links"): Buffer {
  const follow = links === "links" ? 0 : constants.O_NOFOLLOW;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | follow);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") throw new AegisError("not_found", `there is no file ${path}`);
    throw ioError(`can't read ${path}`, error, `See who may read it: ls -l ${path}`);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new AegisError("invalid_document", `${path} is not a regular file`);
    if (stat.size > limit) throw new AegisError("invalid_document", `${path} is larger than ${limit} bytes`);
    const chunks: Buffer[] = [];
    let total = 0;
    for (;;) {
      const chunk = Buffer.allocUnsafe(
        Math.min(limit + 1 - total, Math.max(stat.size + 1 - total, 4096), 1 << 20),
      );
      const n = readSync(fd, chunk, 0, chunk.length, null);
      if (n === 0) break;
      total += n;
      if (total > limit) throw new AegisError("invalid_document", `${path} is larger than ${limit} bytes`);
      chunks.push(chunk.subarray(0, n));
    }
    return Buffer.concat(chunks, total);
  } finally {
    closeSync(fd);
  }
}

/**
 * Why others than root could replace the file at `path`, or null if they can't: it and every directory above must
 * belong to root and not be writable by group or others (a sticky directory is not enough, since others can create
 * names in it). Symbolic links and relative paths are refused.
 */
export function rootOnlyProblem(path: string): string | null {
  if (!isAbsolute(path)) return `${path} is not an absolute path`;
  for (let current = path; ; current = dirname(current)) {
    let stat: ReturnType<typeof lstatSync>;
    try {
      stat = lstatSync(current);
    } catch (error) {
      return `${current}: ${fileProblem(error)}`;
    }
    if (stat.isSymbolicLink()) return `${current} is a symbolic link`;
    if (stat.uid !== 0) return `${current} does not belong to root`;
    if ((stat.mode & 0o022) !== 0) return `${current} can be written by others than root`;
    if (current === "/") return null;
  }
}

/** Why others may have read root's secret in a file, or null; also null if there is no file. */
export function secretFileProblem(path: string): string | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || (stat.isFile() && stat.uid === 0 && (stat.mode & 0o077) === 0)) return null;
  return `${path} is not a file that root alone can read`;
}

/** SHA-256 (hex) and length in bytes of a file. */
export function hashFile(path: string): { sha256: string; size: number } {
  const fd = openSync(path, "r");
  try {
    return hashOpenFile(fd);
  } finally {
    closeSync(fd);
  }
}

/** SHA-256 (hex) and length in bytes of an open file, from its start. */
export function hashOpenFile(fd: number): { sha256: string; size: number } {
  const hash = createHash("sha256");
  const piece = Buffer.allocUnsafe(1 << 20);
  let size = 0;
  for (;;) {
    const n = readSync(fd, piece, 0, piece.length, size);
    if (n === 0) return { sha256: hash.digest("hex"), size };
    hash.update(piece.subarray(0, n));
    size += n;
  }
}

/** Size limit of {@link readText}. */
const MAX_TEXT = 64 * 1024 * 1024;

/** The text of a regular file, or null if it is missing, unreadable, or larger than 64 MiB. */
export function readText(path: string): string | null {
  return readBytes(path)?.toString() ?? null;
}

/** The bytes of such a file. */
export function readBytes(path: string): Buffer | null {
  try {
    return readFileLimited(path, MAX_TEXT);
  } catch {
    return null;
  }
}
