import { spawn } from "node:child_process";
import { closeSync, createReadStream, fstatSync, openSync } from "node:fs";
import type { Readable } from "node:stream";
import { crc32, createGunzip, inflateRawSync } from "node:zlib";
import { archivePath, unpackedLimit } from "./eco-archive.ts";
import { isZero, readTarHeader, tarOctal, tarPath } from "./eco-tar.ts";
import { readAt } from "./osv-index.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * Archives of feeds, read from a file in pieces: unpacked they may have 20 GiB. Nothing is written under a name from an archive, so
 * its names only have to be honest. What can't be read as a whole is refused as a whole.
 */

export interface FeedLimits {
  /** Bytes that are downloaded at most. */
  packed: number;
  /** Bytes of all files together. */
  unpacked: number;
  /** Unpacked bytes for each packed one; the first 16 MiB are exempt. */
  ratio: number;
  entries: number;
  /** Bytes of one file. */
  entry: number;
}

interface ArchivedFile {
  name: string;
  data: Buffer;
}

const [ZIP_END, ZIP64_LOCATOR, ZIP64_END, CENTRAL, LOCAL] = [
  0x06054b50, 0x07064b50, 0x06064b50, 0x02014b50, 0x04034b50,
];
const [STORED, DEFLATED] = [0, 8];
const ENCRYPTED = 1;
/** The directory of OSV's largest archive has about 30 MiB. */
const MAX_DIRECTORY = 512 * 1024 * 1024;

/**
 * The files of a zip archive by its central directory (PKWARE APPNOTE 6.3.10). OSV's have more than the 65,535 files that a directory
 * without zip64 can count.
 * @throws Error in words for a damaged, encrypted or oversized archive
 */
export function* readFeedZip(path: string, limits: FeedLimits): Generator<ArchivedFile> {
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    const { entries, at: start, length } = zipEnd(fd, size);
    if (entries > limits.entries) throw new Error(`it has more than ${limits.entries} files`);
    if (length > MAX_DIRECTORY) throw new Error("its directory is too large");
    const directory = readAt(fd, start, length);
    let room = unpackedRoom(size, limits);
    let unread = size;
    let at = 0;
    for (let i = 0; i < entries; i++) {
      if (at + 46 > length || directory.readUInt32LE(at) !== CENTRAL)
        throw new Error("its directory is damaged");
      const [flags = 0, method, nameBytes = 0, extra = 0, comment = 0] = [8, 10, 28, 30, 32].map((offset) =>
        directory.readUInt16LE(at + offset),
      );
      const [sum, packed = 0, unpacked = 0, local = 0] = [16, 20, 24, 42].map((offset) =>
        directory.readUInt32LE(at + offset),
      );
      const name = archivePath(directory.toString("utf8", at + 46, at + 46 + nameBytes));
      const isDirectory = directory[at + 46 + nameBytes - 1] === 0x2f;
      at += 46 + nameBytes + extra + comment;
      if ((flags & ENCRYPTED) !== 0) throw new Error(`${name} in it is encrypted`);
      if (unpacked > limits.entry) throw new Error(`${name} in it is larger than ${limits.entry} bytes`);
      room -= unpacked;
      if (room < 0) throw new Error("it unpacks to far too much");
      if (isDirectory) continue;
      // Files that share their bytes would cost as much again for each of them.
      unread -= packed;
      if (unread < 0) throw new Error("its files overlap");
      if (packed > limits.entry) throw new Error(`${name} in it is larger than ${limits.entry} bytes`);
      const bytes = localData(fd, local, packed, size);
      const data = method === STORED ? bytes : method === DEFLATED ? inflated(bytes, name, unpacked) : null;
      if (data === null) throw new Error(`${name} in it is packed in a way that isn't deflate`);
      if (data.length !== unpacked || crc32(data) !== sum) throw new Error(`${name} in it is damaged`);
      yield { name, data };
    }
    if (at !== length) throw new Error("its directory has another length than it says");
  } finally {
    closeSync(fd);
  }
}

function zipEnd(fd: number, size: number): { entries: number; at: number; length: number } {
  const cut = new Error("it is no zip archive, or cut off");
  if (size < 22) throw cut;
  const end = readAt(fd, size - 22, 22);
  if (end.readUInt32LE(0) !== ZIP_END || end.readUInt16LE(20) !== 0) throw cut;
  const plain = { entries: end.readUInt16LE(10), at: end.readUInt32LE(16), length: end.readUInt32LE(12) };
  const is64 = plain.entries === 0xffff || plain.at === 0xffffffff || plain.length === 0xffffffff;
  let before = size - 22;
  let found = plain;
  if (is64) {
    if (size < 22 + 20 + 56) throw cut;
    const locator = readAt(fd, size - 22 - 20, 20);
    before = Number(locator.readBigUInt64LE(8));
    if (locator.readUInt32LE(0) !== ZIP64_LOCATOR || before > size - 22 - 20 - 56) throw cut;
    const record = readAt(fd, before, 56);
    if (record.readUInt32LE(0) !== ZIP64_END) throw cut;
    const [entries = 0, length = 0, at = 0] = [32, 40, 48].map((offset) =>
      Number(record.readBigUInt64LE(offset)),
    );
    found = { entries, at, length };
  }
  if (found.at + found.length !== before) throw new Error("something stands behind its directory");
  return found;
}

function localData(fd: number, offset: number, packed: number, size: number): Buffer {
  if (offset + 30 > size) throw new Error("a file in it begins behind its end");
  const header = readAt(fd, offset, 30);
  const start = offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (header.readUInt32LE(0) !== LOCAL || start + packed > size)
    throw new Error("a file in it is not where its directory says");
  return readAt(fd, start, packed);
}

function inflated(bytes: Buffer, name: string, size: number): Buffer {
  try {
    return inflateRawSync(bytes, { maxOutputLength: Math.max(size, 1) });
  } catch {
    throw new Error(`${name} in it is damaged, or longer than it says`);
  }
}

/**
 * The files of a tar archive, packed with gzip or xz. xz is unpacked by the system's program, in a process of its own.
 * @throws Error in words for a damaged or oversized archive; AegisError `refused` for a damaged tar header
 */
export async function* readFeedTar(path: string, limits: FeedLimits): AsyncGenerator<ArchivedFile> {
  const source = unpacked(path, limits);
  const reader = new Reader(source);
  try {
    for (let entries = 0; ; entries++) {
      const header = await reader.take(512);
      if (header === null) throw new Error("it is cut off");
      if (isZero(header)) break;
      const fields = readTarHeader(header);
      const size = tarOctal(header.subarray(124, 136));
      if (size > limits.entry) throw new Error(`a file in it is larger than ${limits.entry} bytes`);
      if (entries >= limits.entries) throw new Error(`it has more than ${limits.entries} files`);
      const data = await reader.take(Math.ceil(size / 512) * 512);
      if (data === null) throw new Error("it is cut off within a file");
      // Of what isn't a plain file (directories, pax headers) nothing is needed.
      if (fields.type === "0" || fields.type === "\0")
        yield { name: archivePath(tarPath(header, fields)), data: data.subarray(0, size) };
    }
    // To the end, where gzip and xz have their checksums.
    await reader.drain();
  } finally {
    // Whoever stops early ends the process that unpacks.
    await source.return(undefined);
  }
}

/** All of a file that may be packed with gzip or xz. @throws Error in words */
export async function readFeedFile(path: string, limits: FeedLimits): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of unpacked(path, limits)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The bytes of a file, unpacked if its first bytes say gzip (RFC 1952, 2.3.1) or xz (the .xz file format, 2.1.1.1). */
async function* unpacked(path: string, limits: FeedLimits): AsyncGenerator<Buffer> {
  const { magic, size } = firstBytes(path);
  const isGzip = magic.subarray(0, 2).equals(Buffer.from([0x1f, 0x8b]));
  const isXz = magic.equals(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]));
  let room = unpackedRoom(size, limits);
  for await (const chunk of isXz ? unxz(path) : isGzip ? gunzip(path) : createReadStream(path)) {
    room -= chunk.length;
    if (room < 0) throw new Error("it unpacks to far too much");
    yield chunk;
  }
}

function firstBytes(path: string): { magic: Buffer; size: number } {
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    return { magic: readAt(fd, 0, Math.min(6, size)), size };
  } finally {
    closeSync(fd);
  }
}

async function* gunzip(path: string): AsyncGenerator<Buffer> {
  const input = createReadStream(path);
  const output = createGunzip();
  input.on("error", (error) => output.destroy(error));
  yield* input.pipe(output) as Readable;
}

/** Memory for xz: the format's presets need at most 65 MiB. */
const XZ_MEMORY = "--memlimit-decompress=128MiB";

async function* unxz(path: string): AsyncGenerator<Buffer> {
  const program = resolveProgram("xz");
  if (program === null)
    throw new Error("it is packed with xz, and there is no program xz: apt install xz-utils");
  const fd = openSync(path, "r");
  const child = spawn(program, ["--decompress", "--stdout", "--threads=1", XZ_MEMORY], {
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    cwd: "/",
    stdio: [fd, "pipe", "pipe"],
  });
  closeSync(fd);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  ended.catch(() => {});
  let said = "";
  child.stderr?.on("data", (chunk) => {
    said = (said + String(chunk)).slice(0, 300);
  });
  try {
    yield* child.stdout ?? [];
    const status = await ended;
    if (status !== 0) throw new Error(`xz failed (status ${status}): ${said.trim()}`);
  } finally {
    child.kill("SIGKILL");
  }
}

function unpackedRoom(packed: number, { unpacked, ratio, entries }: FeedLimits): number {
  return unpackedLimit(packed, { maxBytes: unpacked, maxRatio: ratio, maxEntries: entries });
}

/** Takes a stream in pieces of a given size. */
class Reader {
  readonly #source: AsyncGenerator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncGenerator<Buffer>) {
    this.#source = source;
  }

  /** Null at the end. */
  async take(size: number): Promise<Buffer | null> {
    const parts: Buffer[] = [];
    for (let missing = size; missing > 0; ) {
      if (this.#rest.length === 0) {
        const { value, done } = await this.#source.next();
        if (done === true) return null;
        this.#rest = value;
        continue;
      }
      const part = this.#rest.subarray(0, missing);
      parts.push(part);
      this.#rest = this.#rest.subarray(part.length);
      missing -= part.length;
    }
    return parts.length === 1 ? (parts[0] ?? null) : Buffer.concat(parts);
  }

  async drain(): Promise<void> {
    while ((await this.#source.next()).done !== true);
  }
}
