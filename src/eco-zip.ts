import { isAscii } from "node:buffer";
import { crc32, inflateRawSync } from "node:zlib";
import {
  ARCHIVE_LIMITS,
  ArchiveContents,
  type ArchiveFile,
  type ArchiveLimits,
  archivePath,
  badArchive,
  unpackedLimit,
} from "./eco-archive.ts";

/*
 * zip archives (wheels, Go modules, .nupkg, .vsix), read strictly: PKWARE APPNOTE 6.3.10. The central directory and the local
 * headers must tell the same, since readers differ in which of the two they believe; between and behind them nothing may hide.
 */

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const END_SIZE = 22;
const [STORED, DEFLATED] = [0, 8];
/** Bytes of an output buffer of zlib, at least and at most. */
const [MIN_CHUNK, MAX_CHUNK] = [64, 1024 * 1024];
const [ENCRYPTED, HAS_DESCRIPTOR, UTF8] = [1, 8, 0x800];
/** `version made by`: the host whose file modes the external attributes hold. */
const UNIX = 3;
const [MODE_TYPE, MODE_REGULAR, MODE_DIRECTORY] = [0xf000, 0x8000, 0x4000];

/**
 * The regular files of a zip archive, in the order of its central directory.
 * @throws AegisError `refused` for a damaged, ambiguous, encrypted or oversized archive
 */
export function readZip(zip: Uint8Array, limits: ArchiveLimits = ARCHIVE_LIMITS): ArchiveFile[] {
  const view = Buffer.from(zip.buffer, zip.byteOffset, zip.byteLength);
  const { count, start, size } = readEnd(view);
  if (count > limits.maxEntries) throw badArchive(`it has more than ${limits.maxEntries} entries`);
  const contents = new ArchiveContents(limits);
  let room = unpackedLimit(zip.length, limits);
  const spans: { from: number; to: number }[] = [];
  let at = start;
  for (let i = 0; i < count; i++) {
    const entry = readCentral(view, at);
    at = entry.end;
    if (at > start + size) throw badArchive("its directory is longer than it says");
    const name = archivePath(entry.name);
    if (entry.size > room) throw badArchive("it unpacks to far too much");
    room -= entry.size;
    const span = localSpan(view, entry);
    spans.push({ from: entry.offset, to: span.to });
    if (entry.name.endsWith("/")) {
      if (entry.size !== 0 || entry.packed > 2)
        throw badArchive(`${JSON.stringify(name)} is a directory with contents`);
      contents.addDirectory(name);
    } else {
      const data = unpack(view.subarray(span.from, span.from + entry.packed), entry);
      contents.addFile({ path: name, executable: entry.executable, data });
    }
  }
  if (at !== start + size) throw badArchive("its directory is shorter than it says");
  assertCovered(spans, start);
  return contents.files;
}

function readEnd(view: Buffer): { count: number; start: number; size: number } {
  const at = view.length - END_SIZE;
  if (at < 0 || view.readUInt32LE(at) !== END)
    throw badArchive("it is no zip file, or has a comment at its end");
  const [disk, directoryDisk, here, count] = [4, 6, 8, 10].map((offset) => view.readUInt16LE(at + offset));
  const [size, start] = [view.readUInt32LE(at + 12), view.readUInt32LE(at + 16)];
  if (disk !== 0 || directoryDisk !== 0 || here !== count || view.readUInt16LE(at + 20) !== 0)
    throw badArchive("it is a part of a larger one");
  if (count === 0xffff || size === 0xffffffff || start === 0xffffffff)
    throw badArchive("it is a zip64 file, which is over every limit");
  if (start + size !== at) throw badArchive("something stands behind its directory");
  return { count: count ?? 0, start, size };
}

interface Entry {
  /** The raw name, a last `/` for a directory. */
  name: string;
  method: number;
  flags: number;
  crc: number;
  packed: number;
  size: number;
  /** Of the local header. */
  offset: number;
  executable: boolean;
  /** Where the next record of the directory begins. */
  end: number;
}

function readCentral(view: Buffer, at: number): Entry {
  if (at + 46 > view.length || view.readUInt32LE(at) !== CENTRAL)
    throw badArchive("its directory is damaged");
  const flags = view.readUInt16LE(at + 8);
  const method = view.readUInt16LE(at + 10);
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) =>
    view.readUInt16LE(at + offset),
  );
  const nameEnd = at + 46 + (nameLength ?? 0);
  const name = nameOf(view.subarray(at + 46, nameEnd), flags);
  const [packed, size] = [view.readUInt32LE(at + 20), view.readUInt32LE(at + 24)];
  if ((flags & ENCRYPTED) !== 0 || (flags & 0x2040) !== 0)
    throw badArchive(`${JSON.stringify(name)} is encrypted`);
  if (method !== STORED && method !== DEFLATED)
    throw badArchive(`${JSON.stringify(name)} is packed in a way that isn't deflate`);
  if (method === STORED && packed !== size) throw badArchive(`${JSON.stringify(name)} has two lengths`);
  if (packed === 0xffffffff || size === 0xffffffff)
    throw badArchive("it is a zip64 file, which is over every limit");
  const attributes = view.readUInt32LE(at + 38);
  const mode = view.readUInt8(at + 5) === UNIX ? attributes >>> 16 : 0;
  const type = mode & MODE_TYPE;
  if (type !== 0 && type !== MODE_REGULAR && type !== MODE_DIRECTORY)
    throw badArchive(`${JSON.stringify(name)} is a link or a device`);
  if (type !== 0 && (type === MODE_DIRECTORY) !== name.endsWith("/"))
    throw badArchive(`${JSON.stringify(name)} is a file and a directory in it`);
  return {
    ...{ name, method, flags, packed, size },
    crc: view.readUInt32LE(at + 16),
    offset: view.readUInt32LE(at + 42),
    executable: (mode & 0o111) !== 0,
    end: nameEnd + (extraLength ?? 0) + (commentLength ?? 0),
  };
}

/** Where the packed bytes of an entry begin, and where what belongs to it ends, by its local header. */
function localSpan(view: Buffer, entry: Entry): { from: number; to: number } {
  const { offset, name } = entry;
  const shown = JSON.stringify(name);
  if (offset + 30 > view.length || view.readUInt32LE(offset) !== LOCAL)
    throw badArchive(`${shown} has no header`);
  const flags = view.readUInt16LE(offset + 6);
  const nameEnd = offset + 30 + view.readUInt16LE(offset + 26);
  const localName = nameOf(view.subarray(offset + 30, nameEnd), flags);
  const described = (flags & HAS_DESCRIPTOR) !== 0;
  const numbers = [14, 18, 22].map((at) => view.readUInt32LE(offset + at));
  const expected = [entry.crc, entry.packed, entry.size];
  const same = numbers.every((n, i) => n === expected[i] || (described && n === 0));
  if (localName !== name || view.readUInt16LE(offset + 8) !== entry.method || flags !== entry.flags || !same)
    throw badArchive(`${shown} is one thing in the directory and another in its header`);
  const from = nameEnd + view.readUInt16LE(offset + 28);
  const to = from + entry.packed;
  if (to > view.length) throw badArchive(`${shown} reaches beyond the end`);
  return { from, to: described ? to + descriptorSize(view, to, expected) : to };
}

/** The length of the data descriptor at `at`, with its optional signature, once it tells what the directory does. */
function descriptorSize(view: Buffer, at: number, expected: readonly number[]): number {
  for (const [size, skip] of [
    [16, 4],
    [12, 0],
  ] as const) {
    if (at + size > view.length || (skip === 4 && view.readUInt32LE(at) !== 0x08074b50)) continue;
    if (expected.every((n, i) => view.readUInt32LE(at + skip + 4 * i) === n)) return size;
  }
  throw badArchive("a data descriptor tells other than the directory");
}

function unpack(packed: Buffer, { name, method, size, crc }: Entry): Uint8Array {
  const data = method === STORED ? packed : inflate(packed, name, size);
  if (data.length !== size || crc32(data) !== crc) throw badArchive(`${JSON.stringify(name)} is damaged`);
  return data;
}

function inflate(packed: Buffer, name: string, size: number): Uint8Array {
  try {
    // One output buffer of the right size: zlib's usual one, allocated and copied for each file, costs more than the unpacking.
    const chunkSize = Math.max(MIN_CHUNK, Math.min(size + 1, MAX_CHUNK));
    return inflateRawSync(packed, { chunkSize, maxOutputLength: Math.max(size, 1) });
  } catch {
    throw badArchive(`${JSON.stringify(name)} is damaged, or longer than it says`);
  }
}

/** Names are UTF-8 where the flag says so, else they must be ASCII: code page 437 is read as this and that. */
function nameOf(bytes: Buffer, flags: number): string {
  if (!isAscii(bytes) && (flags & UTF8) === 0) throw badArchive("a name in it is in an unknown encoding");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw badArchive("a name in it is not UTF-8");
  }
}

/** Every byte before the directory belongs to exactly one entry. */
function assertCovered(spans: readonly { from: number; to: number }[], start: number): void {
  let at = 0;
  for (const { from, to } of spans.toSorted((a, b) => a.from - b.from)) {
    if (from < at) throw badArchive("two entries share bytes");
    if (from > at) throw badArchive("something hides between two entries");
    at = to;
  }
  if (at !== start) throw badArchive("something hides before its directory");
}
