import { createHash } from "node:crypto";
import { closeSync, constants, createReadStream, fstatSync, openSync, readSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import * as v from "valibot";
import { messageOf } from "./errors.ts";
import { namesIn } from "./sys-files.ts";

/*
 * Logs of other programs, which logrotate(8) renames, compresses and deletes. A position is remembered by the bytes in front of
 * it, not by a file's name or inode: that survives all of these.
 */

/** Bytes in front of a position that identify it. */
const MARK_BYTES = 4096;
/** Longest line that is parsed; dpkg writes none that is longer. */
const MAX_LINE = 64 * 1024;

export const PositionSchema = v.strictObject({
  /** Bytes from the start of the (uncompressed) file. */
  offset: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  /** SHA-256 of the bytes in front of it, 4096 at most. */
  mark: v.string(),
});
/** How far a log has been read. Null for a log that was missing or empty. */
export type Position = v.InferOutput<typeof PositionSchema> | null;

/**
 * The files of a log, oldest first: the log itself and its rotated files (`.1`, `.2.gz`, or with a date). Names of one kind
 * sort by age, and no host has both kinds.
 */
export function logFiles(log: string): string[] {
  const name = basename(log);
  const rotated = namesIn(dirname(log)).flatMap((entry) => {
    const [, age] =
      /^[.-](\d{1,10})(?:\.gz)?$/.exec(entry.startsWith(name) ? entry.slice(name.length) : "") ?? [];
    return age === undefined
      ? []
      : [{ path: join(dirname(log), entry), age: entry[name.length] === "-" ? -Number(age) : Number(age) }];
  });
  const old = rotated.sort((a, b) => b.age - a.age).map(({ path }) => path);
  // A named pipe would block its reader for ever, and on Ubuntu users other than root may create one in /var/log.
  return [...old, log].filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true);
}

/** The present end of a log. */
export async function endOf(log: string): Promise<Position> {
  for (const path of logFiles(log).toReversed()) {
    const end = path.endsWith(".gz") ? await endOfCompressed(path) : positionIn(path, statSync(path).size);
    if (end !== null) return end;
  }
  return null;
}

async function endOfCompressed(path: string): Promise<Position> {
  let offset = 0;
  let last = Buffer.alloc(0);
  try {
    for await (const chunk of chunksOf(path, 0)) {
      offset += chunk.length;
      last = Buffer.concat([last, chunk]).subarray(-MARK_BYTES);
    }
  } catch {
    // A file that can't be decompressed has no position to continue from.
    return null;
  }
  return offset === 0 ? null : { offset, mark: digest(last) };
}

function markAt(fd: number, offset: number): string {
  const length = Math.min(offset, MARK_BYTES);
  const bytes = Buffer.alloc(length);
  const n = readSync(fd, bytes, 0, length, offset - length);
  return digest(bytes.subarray(0, n));
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export interface NewEntries<T> {
  entries: T[];
  /** The end of the last complete line. */
  end: Position;
  /** False if the log was truncated or rewritten: then these are all its entries. */
  found: boolean;
  /** What was not read and why, as messages. */
  problems: string[];
}

/**
 * The complete lines after `from`, parsed by `parse`, at most `most` of them: beyond that the oldest are dropped, and `problems`
 * says so. If the position is not found, the log was truncated or rewritten, and all its lines are returned.
 */
export async function entriesSince<T>(
  log: string,
  from: Position,
  parse: (line: string) => T | null,
  most: number,
): Promise<NewEntries<T>> {
  const files = logFiles(log);
  const problems: string[] = [];
  let end = await endOf(log);
  const found = from === null ? 0 : await findPosition(files, from, problems);
  if (found < 0) {
    problems.push(
      `${log} no longer has what the last run read: it was truncated, rewritten, or rotated away`,
    );
  }
  const reader = new LineReader(parse, most);
  for (const [n, path] of files.slice(Math.max(0, found)).entries()) {
    let at = n === 0 && found >= 0 ? (from?.offset ?? 0) : 0;
    try {
      for await (const chunk of chunksOf(path, at)) {
        reader.push(chunk);
        at += chunk.length;
      }
      // An incomplete line at the end of the newest file is still being written: it is left to the next run.
      if (path === log) end = positionIn(path, at - reader.rest) ?? end;
      else reader.endOfFile();
    } catch (error) {
      problems.push(`${path} can't be read: ${messageOf(error)}`);
    }
  }
  if (reader.dropped > 0)
    problems.push(`${log}: too many changes; the oldest ${reader.dropped} were not inspected`);
  return { entries: reader.entries, end, found: found >= 0, problems };
}

/** The text of a log's newest files, oldest first, at most `maxBytes`: older text is left out. */
export async function newestText(log: string, maxBytes: number): Promise<string> {
  const texts: string[] = [];
  let room = maxBytes;
  for (const path of logFiles(log).toReversed()) {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of chunksOf(path, 0)) {
        chunks.push(chunk);
        room -= chunk.length;
        if (room < 0) break;
      }
    } catch {
      // Half of a compressed file is better than nothing.
    }
    texts.unshift(Buffer.concat(chunks).toString("utf8"));
    if (room < 0) break;
  }
  return texts.join("\n");
}

function chunksOf(path: string, start: number): AsyncIterable<Buffer> {
  if (!path.endsWith(".gz")) return createReadStream(path, { start });
  return skipped(createReadStream(path).pipe(createGunzip()), start);
}

async function* skipped(stream: Readable, start: number): AsyncGenerator<Buffer> {
  let left = start;
  for await (const piece of stream) {
    const chunk = Buffer.from(piece);
    if (chunk.length > left) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}

/** The index of the file that holds a position, or -1. The newest are searched first, since rotation is rare. */
async function findPosition(
  files: readonly string[],
  { offset, mark }: NonNullable<Position>,
  problems: string[],
): Promise<number> {
  for (const [n, path] of [...files.entries()].toReversed()) {
    try {
      if ((await markOf(path, offset)) === mark) return n;
    } catch (error) {
      problems.push(`${path} can't be read: ${messageOf(error)}`);
    }
  }
  return -1;
}

async function markOf(path: string, offset: number): Promise<string | null> {
  if (!path.endsWith(".gz")) return positionIn(path, offset)?.mark ?? null;
  const start = Math.max(0, offset - MARK_BYTES);
  let window = Buffer.alloc(0);
  for await (const chunk of chunksOf(path, start)) {
    window = Buffer.concat([window, chunk]);
    if (window.length >= offset - start) return digest(window.subarray(0, offset - start));
  }
  return null;
}

function positionIn(path: string, offset: number): Position {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (offset === 0 || fstatSync(fd).size < offset) return null;
    return { offset, mark: markAt(fd, offset) };
  } finally {
    closeSync(fd);
  }
}

/** Lines out of chunks, and what they are parsed to; the newest `most` of it. */
class LineReader<T> {
  entries: T[] = [];
  /** How many were left out. */
  dropped = 0;
  /** Bytes behind the last newline. */
  rest = 0;
  readonly #parse: (line: string) => T | null;
  readonly #most: number;
  #pieces: Buffer[] = [];

  constructor(parse: (line: string) => T | null, most: number) {
    this.#parse = parse;
    this.#most = most;
  }

  push(chunk: Buffer): void {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#keep(chunk.subarray(from, at));
      this.endOfFile();
      from = at + 1;
    }
    this.#keep(chunk.subarray(from));
  }

  /** Ends the current line: nothing more is appended to a rotated file. */
  endOfFile(): void {
    const entry = this.rest > MAX_LINE ? null : this.#parse(Buffer.concat(this.#pieces).toString("utf8"));
    this.#pieces = [];
    this.rest = 0;
    if (entry === null) return;
    this.entries.push(entry);
    if (this.entries.length <= this.#most) return;
    // Half of them at once, so that dropping is cheap per entry.
    this.dropped += this.entries.splice(0, Math.ceil(this.#most / 2)).length;
  }

  #keep(bytes: Buffer): void {
    if (this.rest < MAX_LINE) this.#pieces.push(bytes);
    this.rest += bytes.length;
  }
}
