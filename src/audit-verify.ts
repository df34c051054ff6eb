import { hash } from "node:crypto";
import { existsSync, readSync } from "node:fs";
import { join, resolve } from "node:path";
import { GENESIS_HASH, HASH_TAIL, LINE_TAIL, type LogHead, MAX_LINE, splitLine } from "./audit-event.ts";
import { keptNumber } from "./audit-newest.ts";
import { closeLog, type LogFile, noLog, openLogFiles } from "./audit-read.ts";
import { AegisError } from "./errors.ts";
import { AUDIT_FILE, SYSTEM } from "./paths.ts";

/*
 * Verifies a complete log in constant memory, byte by byte: thanks to the fixed layout of lines no JSON needs parsing.
 *
 * A hash chain reveals lines that were changed, removed from the middle, inserted or moved. It can't reveal lines cut
 * off the end, or a new chain written from some line on by someone who can write the file: both leave a valid chain.
 * Only a head kept elsewhere reveals those; without one, only the loss of all events is visible.
 */

/** An event recorded elsewhere, which must still be there, with the log continuing from it. */
export type ExpectedHead = Pick<LogHead, "sequence" | "hash">;

/**
 * What is wrong with a log. `changed`: a line differs from what was written or is out of place. `empty`, `torn`: the
 * newest file has no event, or only part of one. `missing`: the newest file is gone. `rewritten`, `cut`: the expected
 * event differs, or is gone.
 */
export type LogFault = "changed" | "empty" | "torn" | "missing" | "rewritten" | "cut";

export type Verification =
  | {
      ok: true;
      status: "intact";
      files: number;
      events: number;
      /** Number of the first event: 1, or more if a later file was verified alone. */
      first: number | null;
      head: LogHead | null;
      /** Length of an incomplete line at the end: an interrupted write, never acknowledged, repaired by the next append. */
      torn_bytes: number;
    }
  | {
      ok: false;
      status: LogFault;
      file: string;
      /** Null if it concerns the file as a whole. */
      line: number | null;
      sequence: number | null;
      reason: string;
    };

const START =
  /^\{"schema_version":"1\.\d{1,4}","sequence":([1-9]\d{0,14}),"event_id":"[0-9a-f-]{36}","timestamp":"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z)","host":"/;
const LONGEST_START = 160;
const NEWLINE = 10;

/** Formats a head for keeping elsewhere: `<number>:<hash>`. */
export function showHead({ sequence, hash }: ExpectedHead): string {
  return `${sequence}:${hash}`;
}

/** Parses the format of {@link showHead}; null for anything else. */
export function parseHead(text: string): ExpectedHead | null {
  const [, sequence, hash] = /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(text) ?? [];
  return sequence === undefined || hash === undefined ? null : { sequence: Number(sequence), hash };
}

/** Evidence on a host that a log once existed. */
export interface LogTraces {
  /** Files created only after the log. */
  files: readonly string[];
  /** File with the number of the newest event, or null. Only root can read it; for others it has no effect. */
  newest: string | null;
}

/** Files that runner and monitor create only after writing to the production log. */
export const SYSTEM_TRACES: LogTraces = {
  files: [join(SYSTEM.state, "spent", "spent.ndjson"), join(SYSTEM.state, "monitor", "state.json")],
  newest: SYSTEM.newestEvent,
};

const NO_TRACES: LogTraces = { files: [], newest: null };

/**
 * Verifies all files in a log's directory, or a single file: every event's hash, the chain, the numbering, the layout,
 * the timestamps' format. `line` counts from 1 in `file`; `sequence` is the number expected there. `expected` must be
 * among the events.
 * @throws AegisError `not_found` if there is no log and never was one, `usage` for a file that begins after `expected`,
 * `io`
 */
export function verifyAuditLog(
  path: string,
  expected: ExpectedHead | null = null,
  traces: LogTraces = resolve(path) === SYSTEM.auditDir ? SYSTEM_TRACES : NO_TRACES,
): Verification {
  // Read before the log, which may grow meanwhile.
  const written = traces.newest === null ? 0 : numberIn(traces.newest);
  const result = verifyFiles(path, expected, traces.files);
  const last = result.ok ? (result.head?.sequence ?? 0) : null;
  if (last !== null && last < written) {
    const reason = `it ends with event ${last}, but this host has written event ${written}: its end was cut off`;
    return { ok: false, status: "cut", file: path, line: null, sequence: last + 1, reason };
  }
  if (result.ok || !["empty", "torn", "missing"].includes(result.status)) return result;
  // The first event of a new file may just be being written, which takes far less time.
  Bun.sleepSync(50);
  return verifyFiles(path, expected, traces.files);
}

/** The recorded number; 0 if unreadable. */
function numberIn(path: string): number {
  try {
    return keptNumber(path);
  } catch {
    return 0;
  }
}

function verifyFiles(path: string, expected: ExpectedHead | null, traces: readonly string[]): Verification {
  const files = openIfThere(path);
  const lost = newestLost(path, files, expected, traces);
  if (lost !== null) {
    closeLog(files);
    return lost;
  }
  if (files.length === 0) throw noLog(path);
  const isDirectory = files[0]?.path !== path;
  let head: LogHead | null = isDirectory ? { sequence: 0, hash: GENESIS_HASH, timestamp: "" } : null;
  let first: number | null = null;
  let events = 0;
  let torn = 0;
  let line = 1;
  try {
    for (const { path: file, fd } of files) {
      const reader = new LineReader(fd);
      line = 1;
      const problem = (reason: string, status: LogFault = "changed") => {
        const sequence = head === null ? null : head.sequence + 1;
        return { ok: false, status, file, line, sequence, reason } as const;
      };
      if (torn > 0) return problem("the file before this one is cut off in the middle of a line");
      for (let bytes = nextLine(reader); bytes !== null; bytes = nextLine(reader)) {
        const next = link(bytes, head);
        if (typeof next === "string") return problem(next);
        if (next.sequence === expected?.sequence && next.hash !== expected.hash)
          return problem(`event ${next.sequence} is not the expected one: it was rewritten`, "rewritten");
        head = next;
        first ??= next.sequence;
        events++;
        line++;
      }
      torn = reader.pending;
    }
  } finally {
    closeLog(files);
  }
  const last = events === 0 ? null : head;
  const newest = files.at(-1)?.path ?? path;
  if (line === 1) return { ...nothingIn(newest, torn), sequence: last === null ? null : last.sequence + 1 };
  if (expected !== null && first !== null && first > expected.sequence) {
    const why = `${path} begins with event ${first}: event ${expected.sequence} is in an older file`;
    throw new AegisError("usage", why, "Give the log's directory instead of one file.");
  }
  if (expected !== null && last !== null && last.sequence < expected.sequence) {
    const reason = `it ends with event ${last.sequence}, but event ${expected.sequence} is expected: its end was cut off`;
    return { ok: false, status: "cut", file: newest, line, sequence: last.sequence + 1, reason };
  }
  return { ok: true, status: "intact", files: files.length, events, first, head: last, torn_bytes: torn };
}

function openIfThere(path: string): LogFile[] {
  try {
    return openLogFiles(path);
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return [];
    throw error;
  }
}

/** A newest file without a complete event. Files are created with their first event, so it once had one or was about to. */
function nothingIn(file: string, torn: number) {
  const fault = { ok: false, file, line: null } as const;
  const first = "its very first write";
  if (torn === 0)
    return { ...fault, status: "empty", reason: `it holds no event: emptied, or ${first} failed` } as const;
  const reason = `it holds ${torn} bytes and no complete event: cut off, or ${first} was interrupted`;
  return { ...fault, status: "torn", reason } as const;
}

/** Reports a directory whose newest file is gone, if there is evidence that it existed; else null. */
function newestLost(
  path: string,
  files: readonly LogFile[],
  expected: ExpectedHead | null,
  traces: readonly string[],
): Verification | null {
  const file = existsSync(path) ? join(path, AUDIT_FILE) : path;
  const older = files.at(-1)?.path;
  if (older === path || older === file) return null;
  // The first append creates the lock.
  const trace = [join(path, "lock", "append"), ...traces].find((one) => existsSync(one));
  const why = older ?? trace ?? (expected === null ? null : `the kept event ${expected.sequence}`);
  if (why === null) return null;
  const reason = `events were written here before, as ${why} shows`;
  return { ok: false, status: "missing", file, line: null, sequence: null, reason };
}

/** The next line. Retries an incomplete one once: it may just be being written, which takes far less time. */
function nextLine(reader: LineReader): Buffer | null {
  const line = reader.next();
  if (line !== null || reader.pending === 0) return line;
  Bun.sleepSync(50);
  return reader.next();
}

/** Returns the head after `line`, which follows `head` (null: unknown), or the problem. */
function link(line: Buffer, head: LogHead | null): LogHead | string {
  const start = START.exec(line.toString("latin1", 0, LONGEST_START));
  if (start === null || line.length > MAX_LINE) return problemOf(line, head, null);
  const sequence = Number(start[1]);
  const timestamp = start[2] ?? "";
  const body = line.subarray(0, line.length - HASH_TAIL);
  const event_hash = hash("sha256", body, "hex");
  const previous = head?.hash ?? (sequence === 1 ? GENESIS_HASH : splitLine(line).previous_hash);
  const tail = `,"previous_hash":"${previous}","event_hash":"${event_hash}"}`;
  const fits =
    line.toString("latin1", line.length - LINE_TAIL) === tail &&
    (head === null || sequence === head.sequence + 1) &&
    !Number.isNaN(Date.parse(timestamp));
  return fits ? { sequence, hash: event_hash, timestamp } : problemOf(line, head, sequence);
}

/** The problem with a line, for the report. Called at most once per log. */
function problemOf(line: Buffer, head: LogHead | null, sequence: number | null): string {
  if (line.length > MAX_LINE) return `the line is longer than ${MAX_LINE} bytes`;
  const { body, previous_hash, event_hash } = splitLine(line);
  if (sequence === null || event_hash === null) return "the line is not in the format of an audit event";
  if (event_hash !== hash("sha256", body, "hex"))
    return "the line was changed: event_hash does not match its bytes";
  if (head?.sequence === 0 && sequence !== 1)
    return `the log begins with event ${sequence}: earlier files are missing`;
  if (head !== null && sequence !== head.sequence + 1) {
    return `event ${sequence} is where ${head.sequence + 1} belongs: lines were removed, moved or inserted`;
  }
  if (previous_hash !== (head?.hash ?? GENESIS_HASH)) {
    return "previous_hash is not the hash of the previous line: that line was replaced";
  }
  return "the timestamp is not a date";
}

/** Reads the lines of a file in order, through a buffer of 1 MiB. */
class LineReader {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafe(1 << 20);
  #start = 0;
  #filled = this.#buffer.subarray(0, 0);

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Bytes read after the last newline. */
  get pending(): number {
    return this.#filled.length - this.#start;
  }

  /**
   * The next complete line without its newline, or null at the end of the file; called again, it sees what was
   * appended. Valid until the next call. An overlong line is returned cut, and still too long.
   */
  next(): Buffer | null {
    for (;;) {
      const end = this.#filled.indexOf(NEWLINE, this.#start);
      if (end >= 0) {
        const line = this.#filled.subarray(this.#start, end);
        this.#start = end + 1;
        return line;
      }
      const rest = this.pending;
      if (rest > MAX_LINE) return this.#filled.subarray(this.#start);
      this.#buffer.copyWithin(0, this.#start, this.#filled.length);
      const n = readSync(this.#fd, this.#buffer, rest, this.#buffer.length - rest, null);
      this.#start = 0;
      this.#filled = this.#buffer.subarray(0, rest + n);
      if (n === 0) return null;
    }
  }
}
