import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type AuditEvent, type AuditKind, decodeLine, MAX_LINE } from "./audit-event.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { AUDIT_FILE, SYSTEM } from "./paths.ts";
import { showArgv } from "./terminal.ts";

/*
 * Reading the log. Readers take no lock: a line being written looks like a torn one, and only a line ending in a
 * newline is an event.
 */

const NEWLINE = 10;
const CHUNK = 64 * 1024;
const ROTATED = /^audit-\d{16}\.ndjson$/;

/** Name of a rotated file whose first event is `sequence`, padded so that names sort in event order. */
export function rotatedName(sequence: number): string {
  return `audit-${String(sequence).padStart(16, "0")}.ndjson`;
}

export interface LogFile {
  path: string;
  fd: number;
}

/**
 * Opens the files of a log, oldest first: those in a directory (none if nothing was recorded yet), or the single file
 * `path`. Close them with {@link closeLog}.
 * @throws AegisError `not_found` if the file or directory doesn't exist, `io`
 */
export function openLogFiles(path: string): LogFile[] {
  try {
    if (!statSync(path).isDirectory()) return openAll([path]) ?? [];
    const current = join(path, AUDIT_FILE);
    for (;;) {
      const full = rotatedNames(path).map((name) => join(path, name));
      const files = openAll(existsSync(current) ? [...full, current] : full);
      // A rotation between listing and opening would leave a gap before the current file: retry.
      const settled = rotatedNames(path).length === full.length;
      if (files !== null && settled) return files;
      closeLog(files ?? []);
    }
  } catch (error) {
    if (error instanceof AegisError) throw error;
    throw errnoOf(error) === "ENOENT" ? noLog(path) : unreadable(path, error);
  }
}

/** Opens all files, or returns null if one is missing. */
function openAll(paths: readonly string[]): LogFile[] | null {
  const opened: LogFile[] = [];
  try {
    for (const path of paths) {
      const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      opened.push({ path, fd });
      if (!fstatSync(fd).isFile()) throw new AegisError("io", `${path} is not a regular file`);
    }
    return opened;
  } catch (error) {
    closeLog(opened);
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

export function closeLog(files: readonly LogFile[]): void {
  for (const { fd } of files) closeSync(fd);
}

/** Whether the log at `path` has any files. @throws AegisError `not_found`, `io` */
export function hasLog(path: string): boolean {
  const files = openLogFiles(path);
  closeLog(files);
  return files.length > 0;
}

/** Opens a file of the log for `use` and closes it; null if it doesn't exist. */
export function withLogFile<T>(path: string, use: (file: LogFile) => T): T | null {
  let files: LogFile[] | null;
  try {
    files = openAll([path]);
  } catch (error) {
    throw unreadable(path, error);
  }
  const [file] = files ?? [];
  if (file === undefined) return null;
  try {
    return use(file);
  } finally {
    closeSync(file.fd);
  }
}

/** Names of the rotated files in a log's directory, oldest first. */
export function rotatedNames(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isFile() && ROTATED.test(entry.name))
    .map((entry) => entry.name)
    .sort();
}

export interface LogTail {
  /** The last complete line, without its newline; null if there is none. */
  line: Buffer | null;
  /** End of the last complete line, as an offset in bytes. */
  end: number;
  /** What follows it: an interrupted or ongoing write. Normally empty. */
  torn: Buffer;
}

/**
 * The end of a file, with one read of at most two lines' length, whatever the file's size.
 * @throws AegisError `log_tampered` for a line longer than the limit
 */
export function readTail({ path, fd }: LogFile): LogTail {
  const { size } = fstatSync(fd);
  const window = readAt(fd, Math.max(0, size - 2 * (MAX_LINE + 1)), size);
  const start = size - window.length;
  const last = window.lastIndexOf(NEWLINE);
  const torn = window.subarray(last + 1);
  const before = last > 0 ? window.lastIndexOf(NEWLINE, last - 1) : -1;
  const line = last < 0 ? null : window.subarray(before + 1, last);
  if (torn.length > MAX_LINE || (line !== null && line.length > MAX_LINE)) {
    throw tampered(path, `its last line is longer than ${MAX_LINE} bytes`);
  }
  return { line, end: start + last + 1, torn };
}

/** The number of a file's first event. @throws AegisError `log_tampered` */
export function firstSequence({ path, fd }: LogFile): number {
  const start = /^\{"schema_version":"1\.\d{1,4}","sequence":(\d{1,15}),/.exec(
    readAt(fd, 0, 64).toString("latin1"),
  );
  if (start === null) throw tampered(path, "its first line is not an event");
  return Number(start[1]);
}

export interface EventFilter {
  /** Limit on the number of newest events; default all. */
  last?: number | undefined;
  /** Only events of this kind or these kinds. */
  kind?: AuditKind | readonly AuditKind[] | undefined;
  /** Execution id or a prefix of one. */
  execution?: string | undefined;
  /** Only events after this sequence number; reading stops there. */
  after?: number | undefined;
  /** Only events at or after this time (RFC 3339 UTC); reading stops there, since timestamps never decrease. */
  since?: string | undefined;
}

/**
 * The newest events matching the filter, oldest first, from a log's directory or a single file. Reads backwards, only
 * as far as needed. Each event is checked against its own hash; the chain is checked only by `audit verify`.
 * @throws AegisError `not_found`, `io`, `log_tampered`
 */
export function readEvents(path: string, filter: EventFilter = {}): AuditEvent[] {
  const { last, kind, execution, after, since } = filter;
  const kinds = kind === undefined ? null : [kind].flat();
  // Lines are printable ASCII in a fixed spelling, so most that don't match can be skipped without parsing.
  const kindMarks = kinds?.map((one) => `"kind":"${one}"`) ?? [""];
  const executionMark = execution === undefined ? "" : `"execution_id":"${execution}`;
  const files = openLogFiles(path);
  const events: AuditEvent[] = [];
  try {
    for (const file of files.toReversed()) {
      for (const line of linesBackwards(file)) {
        if (events.length === last || (after !== undefined && sequenceOf(line) <= after))
          return events.reverse();
        if (since !== undefined && timeOf(line) < since) return events.reverse();
        if (!line.includes(executionMark) || !kindMarks.some((mark) => line.includes(mark))) continue;
        const { event, fault } = decodeLine(line);
        if (fault !== null) throw tampered(file.path, fault);
        if (kinds !== null && !kinds.includes(event.kind)) continue;
        if (execution !== undefined && !event.execution_id?.startsWith(execution)) continue;
        events.push(event);
      }
    }
    return events.reverse();
  } finally {
    closeLog(files);
  }
}

/** The complete lines of a file, last first. */
function* linesBackwards({ path, fd }: LogFile): Generator<Buffer> {
  let position = fstatSync(fd).size;
  let rest: Buffer = Buffer.alloc(0);
  let complete = false;
  while (position > 0) {
    const from = Math.max(0, position - CHUNK);
    const data = Buffer.concat([readAt(fd, from, position), rest]);
    position = from;
    let end = data.length;
    while (end > 0) {
      const newline = data.lastIndexOf(NEWLINE, end - 1);
      if (newline < 0) break;
      if (complete) yield data.subarray(newline + 1, end);
      complete = true;
      end = newline;
    }
    rest = data.subarray(0, end);
    if (rest.length > MAX_LINE) throw tampered(path, `a line is longer than ${MAX_LINE} bytes`);
  }
  if (complete) yield rest;
}

/** The error for a log changed after it was written. */
export function tampered(file: string, reason: string, details: Record<string, unknown> = {}): AegisError {
  const directory = dirname(file);
  const which = directory === SYSTEM.auditDir ? "--system" : `--path ${showArgv([directory])}`;
  return new AegisError(
    "log_tampered",
    `the audit log ${file} was changed: ${reason}`,
    `Keep the file unchanged for inspection, compare it with your copies, and type: aegis audit verify ${which}. Moving it away starts a new log.`,
    { file, ...details },
  );
}

/** The error for a missing log. */
export function noLog(path: string): AegisError {
  return new AegisError(
    "not_found",
    `there is no audit log at ${path}`,
    "Nothing has been recorded there yet. For the log's path type: aegis audit path",
  );
}

function unreadable(path: string, error: unknown): AegisError {
  return new AegisError(
    "io",
    `can't read the audit log ${path}: ${messageOf(error)}`,
    "The production log is readable by root and the group aegis-admin.",
  );
}

function readAt(fd: number, from: number, to: number): Buffer {
  const buffer = Buffer.allocUnsafe(to - from);
  let done = 0;
  while (done < buffer.length) {
    const n = readSync(fd, buffer, done, buffer.length - done, from + done);
    if (n === 0) break;
    done += n;
  }
  return buffer.subarray(0, done);
}

/** The sequence number in a line, unverified; enough to know when to stop reading. */
function sequenceOf(line: Buffer): number {
  return Number(/"sequence":(\d+),/.exec(line.toString("latin1", 0, 80))?.[1] ?? Number.POSITIVE_INFINITY);
}

/** The timestamp in a line, unverified; if not found, reading goes on. */
function timeOf(line: Buffer): string {
  return /"timestamp":"([^"]{1,40})"/.exec(line.toString("latin1", 0, 200))?.[1] ?? "~";
}
