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
import {
  headOf,
  headOfRotated,
  openCurrent,
  prepareLogDirectory,
  rotateFull,
  writeLines,
} from "./audit-log-files.ts";
import { type LogTail, readTail, withLogFile } from "./audit-read.ts";
import { sha256Hex } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { AUDIT_FILE, auditDir, type Env } from "./paths.ts";
import { withFileLock } from "./sys-file-lock.ts";
import { writeFileAtomic } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";

/*
 * Writing the log: one event per line, each with the previous line's hash. Every append reads the end of the file
 * itself, so there is no cached state that could disagree with it, and the cost doesn't depend on its length.
 */

const RESERVE = "audit.reserve";

export interface AuditLogOptions {
  host?: string;
  now?: () => Date;
  /** Mode of the log's files; the production log is 0640 in a setgid directory of the group aegis-admin. */
  mode?: number;
  /** Longest wait for another process's append, in milliseconds. */
  lockWaitMs?: number;
  /** Size in bytes at which the current file is rotated. */
  rotateAt?: number;
}

export interface AuditLog {
  /**
   * Records an event and returns it as recorded; it is then on disk.
   * @throws AegisError `busy` if another process keeps the log locked, `io` if it could not be written (in both cases
   * nothing was recorded), `log_tampered` if the log's last line has been changed (nothing is ever added to such a log)
   */
  append(event: NewAuditEvent): AuditEvent;
  /** The newest event; null for an empty log. Takes no lock. @throws AegisError `io`, `log_tampered` */
  head(): LogHead | null;
  /**
   * Reserves `bytes` of disk space, actually allocated, for events that must not fail on a full disk. Any excess
   * reserve is released.
   * @throws AegisError `io` if there isn't enough
   */
  reserve(bytes: number): void;
  /** Releases the reserve; call it just before such an event. */
  releaseReserve(): void;
  /** Makes later appends fail. Nothing is held open between appends. */
  close(): void;
}

/**
 * The audit log in directory `dir`, created (0700) if missing. Any number of processes of its owner may append
 * concurrently.
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
  const lock = prepareLogDirectory(dir);
  let open = true;

  /** Appends events with one write and one sync, repairing a torn end first. The caller holds the lock. */
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
        // Timestamps never decrease; otherwise an event written under a clock set back would hide that.
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
      // Random data, so that no file system can compress it.
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
 * Records planning, policy, review and signing events in the user's own log. The default actor is the uid (a name would
 * come from $USER).
 * @throws AegisError `refused` if root would write into another user's directory, `busy`, `io`, `log_tampered`
 */
export function recordUserEvent(env: Env, event: NewAuditEvent): AuditEvent {
  const dir = auditDir(env);
  ensureOwnDir(dir);
  return openAuditLog(dir).append({ ...event, actor: event.actor ?? `uid ${process.getuid?.()}` });
}

function repairEvent({ torn }: LogTail): NewAuditEvent {
  return { kind: "log_repaired", details: { torn_bytes: torn.length, torn_sha256: sha256Hex(torn) } };
}
