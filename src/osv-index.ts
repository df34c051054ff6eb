import { hash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { crc32 } from "node:zlib";
import * as v from "valibot";
import { timestamp } from "./doc-fields.ts";
import { errnoOf, messageOf } from "./errors.ts";
import { fileProblem } from "./sys-files.ts";

/*
 * An index of what a feed says: records by name or by CVE, found without reading the others. It is written by an unprivileged account
 * and read by root, so every number in it is checked, and a look-up reads a bounded amount.
 *
 * All numbers are little-endian.
 *
 *      0   8 bytes   AEGISIX1
 *      8   u32       where the records end
 *     12   u32       records
 *     16   u32       keys
 *     20   u32       bytes of the description
 *     24   u32       CRC-32 of everything behind the records
 *     28   u32       0
 *     32   records   text, one behind the other
 *          u32 each  where each record ends
 *          u64 each  key: 40 bits of the SHA-256 of its text, 24 bits number of its record; ascending
 *          JSON      the description
 *
 * Two texts may share their 40 bits. A record says what it is about, and whoever looks it up compares.
 */

/** Data older than this causes warnings. */
export const STALE_DAYS = 14;

export const MAGIC = "AEGISIX1";
export const HEADER_BYTES = 32;
/** Numbers of records have 24 bits, offsets 32. */
export const MAX_RECORDS = 1 << 24;
export const MAX_INDEX_BYTES = 2 ** 32 - 1;
/** Keys of one index. npm's, the largest, has about 300,000. */
export const MAX_KEYS = 8_000_000;
const MAX_DESCRIPTION = 16 * 1024;
/** What one look-up reads at most, in bytes and in records. */
const MAX_FOUND_BYTES = 64 * 1024 * 1024;
const MAX_FOUND = 200_000;
/** Bytes that are read at a time. */
const BLOCK = 64 * 1024;

const short = v.pipe(v.string(), v.maxLength(1024));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const Description = v.strictObject({
  /** What kind of records: {@link indexFile}. */
  feed: short,
  /** The version of Aegis that made it: another one may keep other fields. */
  made_by: short,
  /** Where it was downloaded, without credentials. */
  url: short,
  /** The release of the distribution that the records were limited to, as OSV writes it (`12`, `24.04`); null if they weren't. */
  release: v.nullable(short),
  made_at: timestamp,
  /** The newest date in the data, none later than `made_at`; null if it has none. */
  newest: v.nullable(timestamp),
  /** What the server sends back for a conditional request (RFC 9110, 13.1); empty if it gave none. */
  etag: short,
  last_modified: short,
  records: count,
});
export type IndexDescription = v.InferOutput<typeof Description>;

/** The file of a feed: `kev`, `epss`, `vex`, or one of OSV's ecosystems as `osv-Debian`. */
export function indexFile(feed: string): string {
  return `${feed}.index`;
}

/** The 40 bits under which a key is sorted, as the upper 32 and the lower 8. */
export function keyBits(key: string): { upper: number; lower: number } {
  const digest = hash("sha256", key, "buffer");
  return { upper: digest.readUInt32BE(0), lower: digest.readUInt8(4) };
}

/** What a feed says about one key. */
export interface IndexedRecord {
  key: string;
  text: string;
}

/** An open index. */
export class FeedIndex {
  readonly description: IndexDescription;
  readonly #fd: number;
  readonly #end: number;
  readonly #records: number;
  readonly #keys: number;
  readonly #ends: Uint32Array;
  /** Two for each key, the lower one first. */
  readonly #sorted: Uint32Array;
  #bytes = 0;
  /** A part of the records, read together. */
  #block: { start: number; bytes: Buffer } = { start: 0, bytes: Buffer.alloc(0) };

  /**
   * Null if there is no such file.
   * @throws Error that says in words why the file can't be used
   */
  static open(path: string): FeedIndex | null {
    const fd = openIndex(path);
    if (fd === null) return null;
    try {
      return new FeedIndex(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /**
   * The description of an index that is whole, read in little memory: who only tells of the feeds reads all of them.
   * @throws Error as {@link FeedIndex.open}
   */
  static describe(path: string): IndexDescription | null {
    const fd = openIndex(path);
    if (fd === null) return null;
    try {
      const { end, size, bytes, sum } = readHeader(fd);
      let found = 0;
      for (let at = end; at < size; at += BLOCK)
        found = crc32(readAt(fd, at, Math.min(BLOCK, size - at)), found);
      if (found !== sum) throw new Error("it is damaged");
      return describe(readAt(fd, size - bytes, bytes));
    } finally {
      closeSync(fd);
    }
  }

  private constructor(fd: number) {
    this.#fd = fd;
    const { end, records, keys, sum, size } = readHeader(fd);
    const tables = readAt(fd, end, size - end);
    if (crc32(tables) !== sum) throw new Error("it is damaged");
    this.#end = end;
    this.#records = records;
    this.#keys = keys;
    this.#ends = numbers(tables.subarray(0, 4 * records));
    this.#sorted = numbers(tables.subarray(4 * records, 4 * records + 8 * keys));
    this.description = describe(tables.subarray(4 * records + 8 * keys));
  }

  /**
   * The records about some keys, each once, and perhaps some about others.
   * @throws Error as {@link FeedIndex.open}; also for more than any honest look-up finds
   */
  *find(keys: Iterable<string>): Generator<IndexedRecord> {
    const found = new Map<number, string>();
    for (const key of keys) this.#addNumbers(key, found);
    // In the file's order, in which one read often has several.
    for (const record of Uint32Array.from(found.keys()).sort())
      yield { key: found.get(record) ?? "", text: this.#text(record) };
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Adds the numbers of a key's records. */
  #addNumbers(key: string, found: Map<number, string>): void {
    const { upper, lower } = keyBits(key);
    let [from, to] = [0, this.#keys];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#order(middle, upper, lower) < 0) from = middle + 1;
      else to = middle;
    }
    for (; from < this.#keys && this.#order(from, upper, lower) === 0; from++) {
      const record = (this.#sorted[2 * from] ?? 0) & 0xffffff;
      if (!found.has(record)) found.set(record, key);
      if (found.size > MAX_FOUND) throw new Error(`it has more than ${MAX_FOUND} records on this`);
    }
  }

  #order(at: number, upper: number, lower: number): number {
    return (this.#sorted[2 * at + 1] ?? 0) - upper || ((this.#sorted[2 * at] ?? 0) >>> 24) - lower;
  }

  #text(record: number): string {
    if (record >= this.#records) throw new Error("it refers to a record that it doesn't have");
    const start = record === 0 ? HEADER_BYTES : (this.#ends[record - 1] ?? 0);
    const length = (this.#ends[record] ?? 0) - start;
    this.#bytes += Math.max(length, 0);
    if (length <= 0 || this.#bytes > MAX_FOUND_BYTES || start + length > this.#end)
      throw new Error("a record in it has an impossible size");
    if (start < this.#block.start || start + length > this.#block.start + this.#block.bytes.length) {
      const size = Math.min(Math.max(length, BLOCK), this.#end - start);
      this.#block = { start, bytes: readAt(this.#fd, start, size) };
    }
    const from = start - this.#block.start;
    return this.#block.bytes.toString("utf8", from, from + length);
  }
}

/** Null if there is no such file. @throws Error in words */
function openIndex(path: string): number | null {
  try {
    // A link could name any file of root's, and a FIFO would block.
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw new Error(errnoOf(error) === "ELOOP" ? "it is a symbolic link" : fileProblem(error));
  }
}

/** What the header says, and the size of the file, which fits it. @throws Error in words */
function readHeader(fd: number) {
  const stat = fstatSync(fd);
  if (!stat.isFile()) throw new Error("it is not a regular file");
  const header = readAt(fd, 0, HEADER_BYTES);
  if (header.toString("latin1", 0, 8) !== MAGIC) throw new Error("it is not an index of this version");
  const [end = 0, records = 0, keys = 0, bytes = 0, sum = 0] = [8, 12, 16, 20, 24].map((at) =>
    header.readUInt32LE(at),
  );
  if (records > MAX_RECORDS || keys > MAX_KEYS || bytes > MAX_DESCRIPTION)
    throw new Error("it is larger than any feed");
  if (end < HEADER_BYTES || end + 4 * records + 8 * keys + bytes !== stat.size)
    throw new Error("its size is not what it says");
  return { end, records, keys, bytes, sum, size: stat.size };
}

/** So many bytes of a file. @throws Error for a shorter file */
export function readAt(fd: number, start: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const n = readSync(fd, bytes, done, length - done, start + done);
    if (n === 0) throw new Error("it is cut off");
    done += n;
  }
  return bytes;
}

/** A copy, since a view needs an address that is a multiple of four. In the machine's order, as the writer's are. */
function numbers(bytes: Buffer): Uint32Array {
  return new Uint32Array(new Uint8Array(bytes).buffer);
}

function describe(bytes: Buffer): IndexDescription {
  try {
    return v.parse(Description, JSON.parse(bytes.toString("utf8")));
  } catch (error) {
    throw new Error(`its description can't be read: ${messageOf(error)}`);
  }
}
