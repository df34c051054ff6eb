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
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";

/** What the file system says, in words; what is not listed keeps the system's own. */
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

/** Errors that a path alone explains: whoever typed it can mend it. */
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

/** What went wrong with a file, in words and without its path, which the message around them names already. */
export function fileProblem(error: unknown): string {
  return WORDS[errnoOf(error)] ?? messageOf(error);
}

function ioError(what: string, error: unknown, hint: string): AegisError {
  return new AegisError("io", `${what}: ${fileProblem(error)}`, hint, { errno: errnoOf(error) });
}

/**
 * The same error for a path that the user typed: one that can't be read or written as it is, is a mistake on the command
 * line, and no fault of this program or this host.
 */
export function asTyped(error: unknown): unknown {
  if (!(error instanceof AegisError) || error.code !== "io") return error;
  const { errno } = error.details;
  const mistaken = typeof errno === "string" && PATH_ERRORS.has(errno);
  return mistaken ? new AegisError("usage", error.message, error.hint, error.details) : error;
}

/** What `use` of a path that the user typed gives, with the errors of {@link asTyped}. */
export function typedPath<T>(use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw asTyped(error);
  }
}

/**
 * {@link writeFileAtomic} to a path that the user typed.
 * @throws AegisError `usage` for what can't be written there, `io`
 */
export function writeTyped(path: string, data: string): void {
  // Looked at first: of a directory like /tmp a user hears only that its parent can't be written.
  if (isDirectory(path)) {
    throw new AegisError("usage", `can't write ${path}: it is a directory`, writeHint(path, "EISDIR"));
  }
  typedPath(() => writeFileAtomic(path, data));
}

/** False also for what can't be looked at. */
export function isDirectory(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  } catch {
    return false;
  }
}

/** What to do about a file that can't be written. `path` is the file's, and what is wrong is often its directory. */
function writeHint(path: string, errno: string): string {
  const directory = dirname(path);
  switch (errno) {
    case "ENOENT":
      return `There is no directory ${directory}: make it, or name another.`;
    case "EISDIR":
      return `Name a file in it, such as ${join(path, "<name>")}.`;
    case "EACCES":
    case "EPERM":
      return `You may not write in ${directory}: name a place of your own.`;
    case "ENOSPC":
    case "EDQUOT":
      return `Make room under ${directory}; nothing was changed there.`;
    default:
      return `Look at ${directory}: ls -ld ${directory}`;
  }
}

/**
 * Makes `path` a directory with `mode` (default 0700); an existing one is left as it is.
 * @throws AegisError `io`
 */
export function ensureDir(path: string, mode = 0o700): void {
  try {
    mkdirSync(path, { recursive: true, mode });
  } catch (error) {
    throw ioError(`can't make the directory ${path}`, error, writeHint(path, errnoOf(error)));
  }
}

/**
 * Replaces a file in one step: temporary file in the same directory, fsync, rename, fsync of the directory.
 * Nobody ever reads half a file, and a crash leaves the old one. Without `gid` it is of the group that new files get.
 * @throws AegisError `io`
 */
export function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600, gid = -1): void {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const fd = openSync(temporary, "wx", mode);
    try {
      fchownSync(fd, -1, gid);
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
      // It was never made, or has been renamed already.
    }
    throw ioError(`can't write ${path}`, error, writeHint(path, errnoOf(error)));
  }
}

/** Makes a file that must not exist yet, durably. Returns false where it exists already. */
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
    // Half a file would be taken for the whole one by whoever finds it there.
    unlinkSync(path);
    throw ioError(`can't create ${path}`, error, writeHint(path, errnoOf(error)));
  } finally {
    closeSync(fd);
  }
  syncDirectory(dirname(path));
  return true;
}

/** Makes directory entries durable (fsync(2): a file's own fsync does not cover its name). */
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
 * Reads a regular file of at most `limit` bytes. One open, so what was checked is what was read; a FIFO or device is
 * refused without blocking.
 * @throws AegisError `not_found`, `io`, `invalid_document` (too large, or not a regular file)
 */
export function readFileLimited(path: string, limit: number): Buffer {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") throw new AegisError("not_found", `there is no file ${path}`);
    throw ioError(`can't read ${path}`, error, `Who may read it: ls -l ${path}`);
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
 * Refuses a path that anyone but root could replace: the file and every directory above it must belong to root and
 * not be writable by group or others (a sticky directory is not enough, since it still lets others create names).
 * Symbolic links and relative paths are refused. Returns a reason, or null when the path is safe.
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

/** SHA-256 and length of a file, read in pieces. */
export function hashFile(path: string): { sha256: string; size: number } {
  const fd = openSync(path, "r");
  try {
    return hashOpenFile(fd);
  } finally {
    closeSync(fd);
  }
}

/** SHA-256 and length of an open file, from its first byte. */
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

/** Largest file that {@link readText} reads. */
const MAX_TEXT = 64 * 1024 * 1024;

/** The text of a regular file of the host, or null where it is not there, can't be read, or is larger than 64 MiB. */
export function readText(path: string): string | null {
  try {
    return readFileLimited(path, MAX_TEXT).toString();
  } catch {
    return null;
  }
}
