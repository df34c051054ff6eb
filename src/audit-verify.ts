import { hash } from "node:crypto";
import { existsSync, readSync } from "node:fs";
import { join, resolve } from "node:path";
import { GENESIS_HASH, HASH_TAIL, LINE_TAIL, type LogHead, MAX_LINE, splitLine } from "./audit-event.ts";
import { keptNumber } from "./audit-newest.ts";
import { closeLog, type LogFile, noLog, openLogFiles } from "./audit-read.ts";
import { AegisError } from "./errors.ts";
import { AUDIT_FILE, SYSTEM } from "./paths.ts";

/*
 * Checking a whole log, in constant memory and on bytes: the fixed layout of a line lets everything be compared without
 * parsing JSON.
 *
 * A chain of hashes shows that a line was changed, removed from the middle, put in or moved. It can't show that lines were
 * cut off the end, or that whoever can write the file made a new chain from some line on: both leave a perfectly good
 * chain. Only a head kept elsewhere shows those; without one, what shows is a log that has lost all its events.
 */

/** An event that was kept elsewhere: it is to be there still, and the log to go on from it. */
export type ExpectedHead = Pick<LogHead, "sequence" | "hash">;

/**
 * What is wrong with a log. `changed`: a line is not what was written, or not where it was. `empty`, `torn`: the newest file
 * holds no event, or only the beginning of one. `missing`: the newest file is gone. `rewritten`, `cut`: the expected event is
 * another one, or is not there any more.
 */
export type LogFault = "changed" | "empty" | "torn" | "missing" | "rewritten" | "cut";

export type Verification =
  | {
      ok: true;
      status: "intact";
      files: number;
      events: number;
      /** Number of the first event: 1, or more where one later file was looked at alone. */
      first: number | null;
      head: LogHead | null;
      /** Length of an unfinished line at the end: an interrupted write, never acknowledged, repaired by the next append. */
      torn_bytes: number;
    }
  | {
      ok: false;
      status: LogFault;
      file: string;
      /** Null where it is the whole file. */
      line: number | null;
      sequence: number | null;
      reason: string;
    };

const START =
  /^\{"schema_version":"1\.\d{1,4}","sequence":([1-9]\d{0,14}),"event_id":"[0-9a-f-]{36}","timestamp":"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z)","host":"/;
const LONGEST_START = 160;
const NEWLINE = 10;

/** How the head is written down to be kept elsewhere: `<number>:<hash>`. */
export function showHead({ sequence, hash }: ExpectedHead): string {
  return `${sequence}:${hash}`;
}

/** Reads what {@link showHead} wrote; null for anything else. */
export function parseHead(text: string): ExpectedHead | null {
  const [, sequence, hash] = /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(text) ?? [];
  return sequence === undefined || hash === undefined ? null : { sequence: Number(sequence), hash };
}

/** What a host knows of a log besides the log. */
export interface LogTraces {
  /** Files that would not be there without the log. */
  files: readonly string[];
  /** The file that holds the number of the newest event; null for none. Only root can read it: to others it tells nothing. */
  newest: string | null;
}

/** What the runner and the monitor leave only after they have written to the production log. */
export const SYSTEM_TRACES: LogTraces = {
  files: [join(SYSTEM.state, "spent", "spent.ndjson"), join(SYSTEM.state, "monitor", "state.json")],
  newest: SYSTEM.newestEvent,
};

const NO_TRACES: LogTraces = { files: [], newest: null };

/**
 * Verifies a log's directory with all its files, or one file by itself: every event's hash, the chain, the numbering, the
 * layout, the timestamps' form. `line` counts from 1 in `file`; `sequence` is the number that belongs there. `expected` must
 * be among the events.
 * @throws AegisError `not_found` where there is no log and never was one, `usage` for a file that begins after `expected`,
 * `io`
 */
export function verifyAuditLog(
  path: string,
  expected: ExpectedHead | null = null,
  traces: LogTraces = resolve(path) === SYSTEM.auditDir ? SYSTEM_TRACES : NO_TRACES,
): Verification {
  // Before the log, which may grow meanwhile.
  const written = traces.newest === null ? 0 : numberIn(traces.newest);
  const result = look(path, expected, traces.files);
  const last = result.ok ? (result.head?.sequence ?? 0) : null;
  if (last !== null && last < written) {
    const reason = `it ends with event ${last}, and this host had written event ${written}: its end was cut off`;
    return { ok: false, status: "cut", file: path, line: null, sequence: last + 1, reason };
  }
  if (result.ok || !["empty", "torn", "missing"].includes(result.status)) return result;
  // Perhaps the first event of a file is just being written, which takes far less.
  Bun.sleepSync(50);
  return look(path, expected, traces.files);
}

/** Nothing that can be read counts as no event. */
function numberIn(path: string): number {
  try {
    return keptNumber(path);
  } catch {
    return 0;
  }
}

function look(path: string, expected: ExpectedHead | null, traces: readonly string[]): Verification {
  const files = openIfThere(path);
  const lost = newestLost(path, files, expected, traces);
  if (lost !== null) {
    closeLog(files);
    return lost;
  }
  if (files.length === 0) throw noLog(path);
  const whole = files[0]?.path !== path;
  let head: LogHead | null = whole ? { sequence: 0, hash: GENESIS_HASH, timestamp: "" } : null;
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
          return problem(
            `event ${next.sequence} is not the one that was kept: it was rewritten`,
            "rewritten",
          );
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
    throw new AegisError("usage", why, "Name the log's directory instead of one file.");
  }
  if (expected !== null && last !== null && last.sequence < expected.sequence) {
    const reason = `it ends with event ${last.sequence}, and event ${expected.sequence} was kept: its end was cut off`;
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

/** A newest file without a whole event. A file comes into being with its first event, so it had one, or was to get it. */
function nothingIn(file: string, torn: number) {
  const fault = { ok: false, file, line: null } as const;
  const first = "its very first write";
  if (torn === 0)
    return { ...fault, status: "empty", reason: `it holds no event: emptied, or ${first} failed` } as const;
  const reason = `it holds ${torn} bytes and no whole event: cut off, or ${first} was interrupted`;
  return { ...fault, status: "torn", reason } as const;
}

/** A directory whose newest file is gone, by whatever tells that it was there; null for any other. */
function newestLost(
  path: string,
  files: readonly LogFile[],
  expected: ExpectedHead | null,
  traces: readonly string[],
): Verification | null {
  const file = existsSync(path) ? join(path, AUDIT_FILE) : path;
  const older = files.at(-1)?.path;
  if (older === path || older === file) return null;
  // The lock is made by the first append.
  const trace = [join(path, "lock", "append"), ...traces].find((one) => existsSync(one));
  const why = older ?? trace ?? (expected === null ? null : `the kept event ${expected.sequence}`);
  if (why === null) return null;
  const reason = `events were written here before, as ${why} tells`;
  return { ok: false, status: "missing", file, line: null, sequence: null, reason };
}

/** The next line. At an unfinished one it waits once: perhaps that is just being written, which takes far less. */
function nextLine(reader: LineReader): Buffer | null {
  const line = reader.next();
  if (line !== null || reader.pending === 0) return line;
  Bun.sleepSync(50);
  return reader.next();
}

/** The head after `line`, which follows `head` (null: whatever it says it follows), or what is wrong with it. */
function link(line: Buffer, head: LogHead | null): LogHead | string {
  const start = START.exec(line.toString("latin1", 0, LONGEST_START));
  if (start === null || line.length > MAX_LINE) return misfit(line, head, null);
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
  return fits ? { sequence, hash: event_hash, timestamp } : misfit(line, head, sequence);
}

/** Why a line was refused, in the words of a report. Only ever called for one line of a log. */
function misfit(line: Buffer, head: LogHead | null, sequence: number | null): string {
  if (line.length > MAX_LINE) return `the line is longer than ${MAX_LINE} bytes`;
  const { body, previous_hash, event_hash } = splitLine(line);
  if (sequence === null || event_hash === null) return "the line is not laid out as an event of this log";
  if (event_hash !== hash("sha256", body, "hex"))
    return "the line was changed: event_hash does not fit its bytes";
  if (head?.sequence === 0 && sequence !== 1)
    return `the log begins with event ${sequence}: earlier files are missing`;
  if (head !== null && sequence !== head.sequence + 1) {
    return `event ${sequence} stands where ${head.sequence + 1} belongs: lines were removed, moved or put in`;
  }
  if (previous_hash !== (head?.hash ?? GENESIS_HASH)) {
    return "previous_hash is not the hash of the line before: that line was replaced";
  }
  return "the timestamp is no date";
}

/** The lines of a file, one after another, through one buffer of 1 MiB. */
class LineReader {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafe(1 << 20);
  #start = 0;
  #filled = this.#buffer.subarray(0, 0);

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Bytes that were read after the last newline. */
  get pending(): number {
    return this.#filled.length - this.#start;
  }

  /**
   * The next complete line without its newline, or null at the end of the file; asked again, it sees what was written
   * since. Good until the next call. A line that is too long comes cut, and is still too long.
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
