import { randomBytes, randomUUID } from "node:crypto";
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
  rmSync,
  statSync,
  truncateSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import {
  type AuditEvent,
  decodeLine,
  encodeLine,
  GENESIS_HASH,
  type LogHead,
  type NewAuditEvent,
} from "./audit-event.ts";
import {
  firstSequence,
  type LogFile,
  readTail,
  rotatedName,
  rotatedNames,
  type Tail,
  tampered,
  withLogFile,
} from "./audit-read.ts";
import { sha256Hex } from "./canonical.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { AUDIT_FILE, auditDir, type Env } from "./paths.ts";
import { withFileLock } from "./sys-file-lock.ts";
import { ensureDir, syncDirectory, writeFileAtomic, writeFully } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";

/*
 * Writing the log: one event a line, each holding the hash of the one before. Every append looks at the file itself, at
 * its end only, so there is no state that could disagree with it and the cost does not depend on its length.
 */

/** Only who can enter this directory can open the lock in it, and so hold up the writers. */
const LOCK_DIR = "lock";
const RESERVE = "audit.reserve";

export interface AuditLogOptions {
  host?: string;
  now?: () => Date;
  /** Mode of the log's files. The production log is 0640 in a setgid directory of the group aegis-admin. */
  mode?: number;
  /** How long an append waits for another process's, in milliseconds. */
  lockWaitMs?: number;
  /** Size in bytes at which the current file is put aside and a new one begun. */
  rotateAt?: number;
}

export interface AuditLog {
  /**
   * Records an event and returns it as recorded. When it returns, the event is on disk.
   * @throws AegisError `busy` when another process keeps the log's lock, `io` when it could not be written (nothing was
   * recorded in either case), `log_tampered` when the log's last line
   * is not what was written (nothing is added to such a log)
   */
  append(event: NewAuditEvent): AuditEvent;
  /** The newest event, or null in an empty log. Takes no lock. @throws AegisError `io`, `log_tampered` */
  head(): LogHead | null;
  /**
   * Sets disk space aside, `bytes` of it, really allocated, for events that must not fail for want of space. What was set
   * aside beyond that is given back.
   * @throws AegisError `io` when there is not that much
   */
  reserve(bytes: number): void;
  /** Gives the space back; call it just before such an event. */
  releaseReserve(): void;
  /** Ends the use of this object: a later append is refused. Nothing is held open between two appends. */
  close(): void;
}

/**
 * The audit log in directory `dir`, which is made, 0700, where there is none. Any number of processes of its owner may
 * append at once.
 * @throws AegisError `io`
 */
export function openAuditLog(dir: string, options: AuditLogOptions = {}): AuditLog {
  const {
    host = hostname(),
    now = () => new Date(),
    mode = 0o600,
    lockWaitMs = 60_000,
    rotateAt = 256 * 1024 * 1024,
  } = options;
  const current = join(dir, AUDIT_FILE);
  const reserve = join(dir, RESERVE);
  const lock = prepare(dir);
  let open = true;

  /** Adds the events with one write and one sync; repairs a torn end first. The lock is held. */
  const add = (events: readonly NewAuditEvent[]): AuditEvent[] => {
    const fd = openCurrent(dir, current, mode);
    try {
      const tail = readTail({ path: current, fd });
      const repair = tail.torn.length > 0 ? [repairEvent(tail)] : [];
      const recorded: AuditEvent[] = [];
      let head = headOf(tail, current) ?? headOfRotated(dir);
      let lines = "";
      for (const event of [...repair, ...events]) {
        const clock = now().toISOString();
        // Times never go back: else one event under a clock that was set back would hide that it was.
        const behind = head !== null && clock < head.timestamp;
        const { event: next, line } = encodeLine(
          behind ? { ...event, details: { ...event.details, clock } } : event,
          {
            sequence: (head?.sequence ?? 0) + 1,
            event_id: randomUUID(),
            timestamp: behind && head !== null ? head.timestamp : clock,
            host,
            previous_hash: head?.hash ?? GENESIS_HASH,
          },
        );
        recorded.push(next);
        lines += line;
        head = { sequence: next.sequence, hash: next.event_hash, timestamp: next.timestamp };
      }
      writeLines({ path: current, fd }, tail, lines);
      return recorded;
    } finally {
      closeSync(fd);
    }
  };

  return {
    append(event) {
      if (!open) throw new AegisError("internal", "append to an audit log that was closed");
      const recorded = withFileLock(
        lock,
        () => {
          const rotated = rotateFull(dir, current, rotateAt);
          return add(rotated === null ? [event] : [rotated, event]);
        },
        lockWaitMs,
      );
      const last = recorded.at(-1);
      if (last === undefined) throw new AegisError("internal", "nothing was recorded");
      return last;
    },
    head() {
      return withLogFile(current, (file) => headOf(readTail(file), current)) ?? headOfRotated(dir);
    },
    reserve(bytes) {
      const { blocks = 0, size = 0 } = statSync(reserve, { throwIfNoEntry: false }) ?? {};
      if (blocks * 512 >= bytes) {
        if (size > bytes) truncateSync(reserve, bytes);
        return;
      }
      // Random, so that no file system can store it in less space than it stands for.
      writeFileAtomic(reserve, randomBytes(bytes));
    },
    releaseReserve() {
      rmSync(reserve, { force: true });
    },
    close() {
      open = false;
    },
  };
}

/**
 * Appends to the user's own log what planning, policy, review and signing did. The actor is the user's number where `event`
 * names no other (a name would come from $USER).
 * @throws AegisError `refused` where root would write into a directory of others, `busy`, `io`, `log_tampered`
 */
export function recordUserEvent(env: Env, event: NewAuditEvent): AuditEvent {
  const dir = auditDir(env);
  ensureOwnDir(dir);
  return openAuditLog(dir).append({ ...event, actor: event.actor ?? `uid ${process.getuid?.()}` });
}

/**
 * Makes the directories and returns the path of the lock file. Looked at and changed by descriptor, without following a link:
 * by path another directory than ours could be given another mode.
 */
function prepare(dir: string): string {
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

/** Who may not read the parent can't have made the directory in it: its name has been durable for long. */
function syncParent(dir: string): void {
  try {
    syncDirectory(dirname(dir));
  } catch (error) {
    if (errnoOf(error) !== "EACCES") throw error;
  }
}

/** Opens the current file, making it where there is none. Its name is durable before anything is written to it. */
function openCurrent(dir: string, path: string, mode: number): number {
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
 * Writes complete lines after the last complete one and waits until they are on disk. When that fails the file is put
 * back as it was: what was not acknowledged is not there, and the chain goes on from where it was.
 */
function writeLines({ path, fd }: LogFile, tail: Tail, lines: string): void {
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
      // What is left is a torn line, which the next append repairs.
    }
    throw failed(path, error);
  }
}

function repairEvent({ torn }: Tail): NewAuditEvent {
  return { kind: "log_repaired", details: { torn_bytes: torn.length, torn_sha256: sha256Hex(torn) } };
}

/**
 * Puts a full current file aside under the number of its first event. Returns the event that says so, for the new file's
 * first line, or null. A torn file waits until an append has repaired it; one that can't be renamed is written on.
 */
function rotateFull(dir: string, current: string, rotateAt: number): NewAuditEvent | null {
  return withLogFile(current, (file) => {
    const { size } = fstatSync(file.fd);
    if (size < rotateAt) return null;
    const tail = readTail(file);
    const last = headOf(tail, current);
    if (last === null || tail.torn.length > 0) return null;
    const name = rotatedName(firstSequence(file));
    if (existsSync(join(dir, name))) throw tampered(current, `there is already a full file ${name}`);
    try {
      renameSync(current, join(dir, name));
    } catch {
      return null;
    }
    return { kind: "log_rotated", details: { file: name, bytes: size, last_sequence: last.sequence } };
  });
}

/** The newest event of the newest full file: where the chain goes on when the current file is new. */
function headOfRotated(dir: string): LogHead | null {
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
 * The newest event of a file. A complete line that does not verify was acknowledged once, so it is never "repaired":
 * somebody changed it.
 */
function headOf({ line }: Tail, path: string): LogHead | null {
  if (line === null) return null;
  const { event, fault } = decodeLine(line);
  if (fault !== null) throw tampered(path, `its last line: ${fault}`);
  return { sequence: event.sequence, hash: event.event_hash, timestamp: event.timestamp };
}

function failed(path: string, error: unknown): AegisError {
  return new AegisError(
    "io",
    `can't write the audit log ${path}: ${messageOf(error)}; nothing was recorded`,
    "Check free space and who owns the directory, then try again.",
  );
}
