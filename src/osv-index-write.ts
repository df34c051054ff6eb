import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import {
  HEADER_BYTES,
  type IndexDescription,
  keyBits,
  MAGIC,
  MAX_INDEX_BYTES,
  MAX_KEYS,
  MAX_RECORDS,
} from "./osv-index.ts";
import { syncDirectory, writeFully } from "./sys-files.ts";

/** Bytes of records collected before they are written. */
const BUFFERED = 4 * 1024 * 1024;

/**
 * Writes an index beside the one it will replace. Records go to the file as they come, so memory grows only by 12 bytes for each
 * record and key.
 */
export class IndexWriter {
  readonly #path: string;
  readonly #temporary: string;
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafe(BUFFERED);
  #buffered = 0;
  #end = HEADER_BYTES;
  #ends = new Uint32Array(1024);
  #records = 0;
  #keys = new BigUint64Array(1024);
  #keyCount = 0;
  #closed = false;

  /** `temporary` is in the same directory, and overwritten. @throws the file system's errors */
  constructor(path: string, temporary: string) {
    this.#path = path;
    this.#temporary = temporary;
    rmSync(temporary, { force: true });
    this.#fd = openSync(temporary, "wx", 0o600);
    // For everybody to read, whatever the umask: it is published data.
    fchmodSync(this.#fd, 0o644);
    this.#buffer.fill(0, 0, HEADER_BYTES);
    this.#buffered = HEADER_BYTES;
  }

  /** Adds a record under some keys. @throws Error if the index would be too large; the file system's errors */
  add(keys: Iterable<string>, record: string): void {
    const bytes = Buffer.from(record);
    if (this.#records >= MAX_RECORDS || this.#end + bytes.length > MAX_INDEX_BYTES)
      throw new Error("it has more records than an index can hold");
    this.#write(bytes);
    this.#end += bytes.length;
    if (this.#records === this.#ends.length) {
      const more = new Uint32Array(2 * this.#records);
      more.set(this.#ends);
      this.#ends = more;
    }
    this.#ends[this.#records] = this.#end;
    for (const key of keys) {
      if (this.#keyCount >= MAX_KEYS) throw new Error("it has more names than an index can hold");
      if (this.#keyCount === this.#keys.length) {
        const more = new BigUint64Array(2 * this.#keyCount);
        more.set(this.#keys);
        this.#keys = more;
      }
      const { upper, lower } = keyBits(key);
      const lowerWord = lower * 2 ** 24 + this.#records;
      this.#keys[this.#keyCount++] = (BigInt(upper) << 32n) | BigInt(lowerWord);
    }
    this.#records++;
  }

  /** Completes the index and puts it in the place of the old one, durably. @throws the file system's errors */
  finish(description: IndexDescription): void {
    const about = Buffer.from(JSON.stringify(description));
    const keys = this.#keys.subarray(0, this.#keyCount).sort();
    const tables = Buffer.concat([asBytes(this.#ends.subarray(0, this.#records)), asBytes(keys), about]);
    this.#write(tables);
    this.#flush();
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, "latin1");
    const numbers = [this.#end, this.#records, this.#keyCount, about.length, crc32(tables)];
    for (const [i, number] of numbers.entries()) header.writeUInt32LE(number, 8 + 4 * i);
    writeSync(this.#fd, header, 0, HEADER_BYTES, 0);
    fsyncSync(this.#fd);
    this.#close();
    renameSync(this.#temporary, this.#path);
    syncDirectory(dirname(this.#path));
  }

  /** Removes what was written so far; the old index stays. Nothing to do after {@link finish}. */
  abandon(): void {
    this.#close();
    rmSync(this.#temporary, { force: true });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }

  #write(bytes: Buffer): void {
    if (this.#buffered + bytes.length > BUFFERED) this.#flush();
    if (bytes.length > BUFFERED) writeFully(this.#fd, bytes);
    else this.#buffered += bytes.copy(this.#buffer, this.#buffered);
  }

  #flush(): void {
    writeFully(this.#fd, this.#buffer.subarray(0, this.#buffered));
    this.#buffered = 0;
  }
}

/** Typed arrays have the machine's byte order: little-endian on everything that Bun runs on. */
function asBytes({ buffer, byteOffset, byteLength }: Uint32Array | BigUint64Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
