import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  renameSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { decodeLine, type LogHead, type NewAuditEvent } from "./audit-event.ts";
import {
  firstSequence,
  type LogFile,
  type LogTail,
  readTail,
  rotatedName,
  rotatedNames,
  tampered,
  withLogFile,
} from "./audit-read.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { ensureDir, syncDirectory, writeFully } from "./sys-files.ts";

/*
 * The log's files, as needed for writing: the directory and its lock, the current and the rotated files, and writes
 * that are on disk completely or not at all.
 */

/** Only users who can enter this directory can open the lock, and thus block writers. */
const LOCK_DIR = "lock";

/**
 * Creates the directories and returns the path of the lock file. Checks and changes go through descriptors, without
 * following links: by path another directory's mode could be changed.
 */
export function prepareLogDirectory(dir: string): string {
  const locks = join(dir, LOCK_DIR);
  const uid = process.geteuid?.();
  try {
    ensureDir(dir);
    if (uid === 0) {
      withDirectory(dir, (fd) => {
        const stat = fstatSync(fd);
        if (stat.uid !== 0) throw new Error(`${dir} belongs to another user (uid ${stat.uid})`);
        if ((stat.mode & 0o022) !== 0) throw new Error(`${dir} can be written by others than root`);
      });
    }
    ensureDir(locks);
    withDirectory(locks, (fd) => {
      const stat = fstatSync(fd);
      if (stat.uid !== uid) throw new Error(`${locks} belongs to another user (uid ${stat.uid})`);
      if ((stat.mode & 0o077) !== 0) fchmodSync(fd, 0o700);
    });
  } catch (error) {
    throw failed(dir, error);
  }
  return join(locks, "append");
}

function withDirectory(path: string, use: (fd: number) => void): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}

/** A user who can't read the parent can't have created the directory, so its name has been durable for long. */
function syncParent(dir: string): void {
  try {
    syncDirectory(dirname(dir));
  } catch (error) {
    if (errnoOf(error) !== "EACCES") throw error;
  }
}

/** Opens the current file, creating it if missing. Its name is durable before anything is written. */
export function openCurrent(dir: string, path: string, mode: number): number {
  try {
    const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
    const fd = openSync(path, flags, mode);
    if (fstatSync(fd).size === 0) {
      fchmodSync(fd, mode);
      syncDirectory(dir);
      syncParent(dir);
    }
    return fd;
  } catch (error) {
    throw failed(path, error);
  }
}

/**
 * Appends complete lines after the last complete one and syncs. On failure the file is restored: what was not
 * acknowledged is not there, and the chain continues from where it was.
 */
export function writeLines({ path, fd }: LogFile, tail: LogTail, lines: string): void {
  try {
    if (tail.torn.length > 0) ftruncateSync(fd, tail.end);
    writeFully(fd, Buffer.from(lines, "latin1"));
    fdatasyncSync(fd);
  } catch (error) {
    try {
      ftruncateSync(fd, tail.end);
      writeFully(fd, tail.torn);
      fdatasyncSync(fd);
    } catch {
      // This leaves a torn line, which the next append repairs.
    }
    throw failed(path, error);
  }
}

/**
 * Rotates a full current file, naming it after its first event's number. Returns the log_rotated event for the new
 * file's first line, or null. A torn file is rotated only after an append has repaired it; one that can't be renamed
 * stays current.
 */
export function rotateFull(dir: string, current: string, rotateAt: number): NewAuditEvent | null {
  return withLogFile(current, (file) => {
    const { size } = fstatSync(file.fd);
    if (size < rotateAt) return null;
    const tail = readTail(file);
    const last = headOf(tail, current);
    if (last === null || tail.torn.length > 0) return null;
    const name = rotatedName(firstSequence(file));
    if (existsSync(join(dir, name))) throw tampered(current, `there is already a rotated file ${name}`);
    try {
      renameSync(current, join(dir, name));
    } catch {
      return null;
    }
    return { kind: "log_rotated", details: { file: name, bytes: size, last_sequence: last.sequence } };
  });
}

/** The newest event in the newest rotated file, where the chain continues if the current file is new. */
export function headOfRotated(dir: string): LogHead | null {
  const name = rotatedNames(dir).at(-1);
  if (name === undefined) return null;
  const path = join(dir, name);
  return withLogFile(path, (file) => {
    const tail = readTail(file);
    const head = headOf(tail, path);
    if (head === null || tail.torn.length > 0) throw tampered(path, "its end is cut off");
    return head;
  });
}

/**
 * The newest event in a file. A complete line that doesn't verify was once acknowledged, so it is never "repaired": it
 * has been changed.
 */
export function headOf({ line }: LogTail, path: string): LogHead | null {
  if (line === null) return null;
  const { event, fault } = decodeLine(line);
  if (fault !== null) throw tampered(path, `its last line: ${fault}`);
  return { sequence: event.sequence, hash: event.event_hash, timestamp: event.timestamp };
}

function failed(path: string, error: unknown): AegisError {
  return new AegisError(
    "io",
    `can't write the audit log ${path}: ${messageOf(error)}; nothing was recorded`,
    "Check free space and the directory's owner, then try again.",
  );
}
