import { randomBytes, randomUUID } from "node:crypto";
import { closeSync, rmSync, statSync, truncateSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import {
  type AuditEvent,
  encodeLine,
  GENESIS_HASH,
  type LogHead,
  type NewAuditEvent,
} from "./audit-event.ts";
import { headOf, headOfRotated, openCurrent, prepare, rotateFull, writeLines } from "./audit-log-files.ts";
import { type LogTail, readTail, withLogFile } from "./audit-read.ts";
import { sha256Hex } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { AUDIT_FILE, auditDir, type Env } from "./paths.ts";
import { withFileLock } from "./sys-file-lock.ts";
import { writeFileAtomic } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";

/*
 * Writing the log: one event a line, each holding the hash of the one before. Every append looks at the file itself, at
 * its end only, so there is no state that could disagree with it and the cost does not depend on its length.
 */

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

function repairEvent({ torn }: LogTail): NewAuditEvent {
  return { kind: "log_repaired", details: { torn_bytes: torn.length, torn_sha256: sha256Hex(torn) } };
}
