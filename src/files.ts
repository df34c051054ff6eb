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
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";

/** Makes `path` a directory with `mode` (default 0700); an existing one is left as it is. */
export function ensureDir(path: string, mode = 0o700): void {
  mkdirSync(path, { recursive: true, mode });
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
    throw new AegisError(
      "io",
      `can't write ${path}: ${messageOf(error)}`,
      "Check the directory's permissions and free space.",
    );
  }
}

/** Makes a file that must not exist yet, durably. Returns false where it exists already. */
export function createFileExclusive(path: string, data: string, mode = 0o600): boolean {
  let fd: number;
  try {
    fd = openSync(path, "wx", mode);
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    throw new AegisError("io", `can't create ${path}: ${messageOf(error)}`);
  }
  try {
    writeFully(fd, Buffer.from(data));
    fsyncSync(fd);
  } catch (error) {
    // Half a file would be taken for the whole one by whoever finds it there.
    unlinkSync(path);
    throw new AegisError("io", `can't create ${path}: ${messageOf(error)}`, "Check the free space.");
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
    const code = errnoOf(error) === "ENOENT" ? "not_found" : "io";
    throw new AegisError(code, `can't read ${path}: ${messageOf(error)}`);
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
      return `${current}: ${messageOf(error)}`;
    }
    if (stat.isSymbolicLink()) return `${current} is a symbolic link`;
    if (stat.uid !== 0) return `${current} does not belong to root`;
    if ((stat.mode & 0o022) !== 0) return `${current} can be written by others than root`;
    if (current === "/") return null;
  }
}

/** SHA-256 and length of a file, read in pieces. */
export function hashFile(path: string): { sha256: string; size: number } {
  const hash = createHash("sha256");
  const fd = openSync(path, "r");
  try {
    const piece = Buffer.allocUnsafe(1 << 20);
    let size = 0;
    for (;;) {
      const n = readSync(fd, piece, 0, piece.length, null);
      if (n === 0) return { sha256: hash.digest("hex"), size };
      hash.update(piece.subarray(0, n));
      size += n;
    }
  } finally {
    closeSync(fd);
  }
}
