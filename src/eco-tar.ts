import { gunzipSync } from "node:zlib";
import {
  ARCHIVE_LIMITS,
  ArchiveContents,
  type ArchiveFile,
  type ArchiveLimits,
  archivePath,
  badArchive,
  unpackedLimit,
} from "./eco-archive.ts";
import { messageOf } from "./errors.ts";

/*
 * tar archives (.tgz, .crate), read strictly: POSIX.1-2017 pax(1) "ustar Interchange Format" and "pax Interchange Format", and
 * GNU's long names, as npm, cargo and Python write them. Links, devices and sparse files are refused here; layers of images may have them
 * (`image-layer.ts`), and share the reading of headers.
 */

const BLOCK = 512;
const MAX_EXTENSION = 64 * 1024;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Records of a pax header that say nothing about where a file goes or how long it is. */
const HARMLESS = /^(?:atime|mtime|ctime|comment|uid|gid|uname|gname|(?:SCHILY|LIBARCHIVE|NODETAR)\..*)$/;

/**
 * The regular files of a gzip-compressed tar archive, in its order.
 * @throws AegisError `refused` for a damaged, ambiguous or oversized archive
 */
export function readTarGz(packed: Uint8Array, limits: ArchiveLimits = ARCHIVE_LIMITS): ArchiveFile[] {
  // Headers and padding come on top of the most that files may have; in an archive of many small files they are most of it, and still
  // are packed far below the ratio: @mui/icons-material, of 22,000 files, has 26 bytes for one.
  const maxBytes = limits.maxBytes + 2 * BLOCK * limits.maxEntries;
  const maxOutputLength = unpackedLimit(packed.length, { ...limits, maxBytes });
  let tar: Uint8Array;
  try {
    tar = gunzipSync(packed, { maxOutputLength });
  } catch (error) {
    const tooLarge = error instanceof RangeError;
    throw badArchive(tooLarge ? "it unpacks to far too much" : `it is no gzip file (${messageOf(error)})`);
  }
  return readTar(tar, limits);
}

/**
 * The regular files of a tar archive, in its order.
 * @throws AegisError `refused`
 */
export function readTar(tar: Uint8Array, limits: ArchiveLimits = ARCHIVE_LIMITS): ArchiveFile[] {
  const contents = new ArchiveContents(limits);
  let at = 0;
  /** The path and the size of the next entry, where an extension gives them. */
  let longPath: string | null = null;
  let longSize: number | null = null;
  while (at + BLOCK <= tar.length) {
    const header = tar.subarray(at, at + BLOCK);
    if (isZero(header)) return ended(tar.subarray(at), contents, longPath);
    const fields = readTarHeader(header);
    const { type } = fields;
    // GNU's binary form is for sizes above 8 GiB, which are over every limit.
    const size = tarOctal(header.subarray(124, 136));
    const executable = (tarOctal(header.subarray(100, 108)) & 0o111) !== 0;
    const data = tar.subarray(at + BLOCK, at + BLOCK + size);
    if (data.length !== size) throw badArchive("it ends within a file");
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    if (type === "g" || type === "x" || type === "L") {
      if (size > MAX_EXTENSION) throw badArchive("it has an oversized extension header");
      if (type !== "g" && (longPath !== null || longSize !== null))
        throw badArchive("it gives two paths or sizes for one file");
      if (type === "L") longPath = tarText(data);
      else if (type === "x") ({ path: longPath, size: longSize } = readPax(data, ["path", "size"]));
      else readPax(data, []);
      continue;
    }
    // Both say it, and readers differ in which one they believe.
    if (longSize !== null && longSize !== size) throw badArchive("it gives two sizes for one file");
    longSize = null;
    const given = longPath ?? tarPath(header, fields);
    const name = archivePath(given);
    longPath = null;
    const isFile = type === "0" || type === "\0";
    if (isFile && given.endsWith("/"))
      throw badArchive(`${JSON.stringify(given)} is a file that is called like a directory`);
    if (type === "5") contents.addDirectory(name);
    else if (isFile) contents.addFile({ path: name, executable, data });
    else throw badArchive(`${JSON.stringify(name)} is ${KINDS[type] ?? "no regular file"}`);
  }
  throw badArchive("it has no end");
}

const KINDS: Readonly<Record<string, string>> = {
  1: "a hard link",
  2: "a symbolic link",
  3: "a device",
  4: "a device",
  6: "a pipe",
};

/** What decides how a header block is read on. */
export interface TarHeader {
  type: string;
  /** GNU's format, which has times where ustar has the first part of a long path. */
  isGnu: boolean;
}

/**
 * Reads a header of ustar, pax or GNU's format, and compares it with its checksum.
 * @throws AegisError `refused`
 */
export function readTarHeader(block: Uint8Array): TarHeader {
  let sum = 8 * 32;
  for (const byte of block) sum += byte;
  for (const byte of block.subarray(148, 156)) sum -= byte;
  if (tarOctal(block.subarray(148, 156)) !== sum) throw badArchive("a header has a wrong checksum");
  const magic = Buffer.from(block.subarray(257, 263)).toString("latin1");
  if (magic !== "ustar\0" && magic !== "ustar ") throw badArchive("it is in an older format than ustar");
  return { type: String.fromCharCode(block[156] ?? 0), isGnu: magic === "ustar " };
}

/**
 * The path in a header. Where an extension gives the path, the header has as much of it as fits, which may end anywhere, within a
 * character too: so it is read only where it counts.
 * @throws AegisError `refused`
 */
export function tarPath(block: Uint8Array, { isGnu }: TarHeader): string {
  const name = tarText(block.subarray(0, 100));
  const prefix = isGnu ? "" : tarText(block.subarray(345, 500));
  return prefix === "" ? name : `${prefix}/${name}`;
}

/**
 * A number in octal digits, padded with spaces or NULs.
 * @throws AegisError `refused`, also for GNU's binary form
 */
export function tarOctal(field: Uint8Array): number {
  const text = Buffer.from(field).toString("latin1");
  const digits = /^ *([0-7]*)[ \0]*$/.exec(text)?.[1];
  if (digits === undefined) throw badArchive("a header has an invalid number");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

/** What a pax header says of path and size, where it may. Every other record must be well-formed, and known to be harmless. */
function readPax(data: Uint8Array, allowed: readonly string[]): { path: string | null; size: number | null } {
  const found = new Map<string, string>();
  for (const [name, value] of paxRecords(data)) {
    if (allowed.includes(name) && !found.has(name)) found.set(name, decoded(value));
    else if (!HARMLESS.test(name)) throw badArchive(`a pax header sets ${JSON.stringify(name.slice(0, 64))}`);
  }
  const size = found.get("size");
  return { path: found.get("path") ?? null, size: size === undefined ? null : paxSize(size) };
}

/**
 * The records of a pax header, in order.
 * @throws AegisError `refused`
 */
export function paxRecords(data: Uint8Array): [name: string, value: Uint8Array][] {
  const records: [string, Uint8Array][] = [];
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    const digits = space < 0 ? "" : Buffer.from(data.subarray(at, space)).toString("latin1");
    const length = /^[1-9]\d{0,6}$/.test(digits) ? Number(digits) : 0;
    const record = data.subarray(space + 1, at + length);
    if (length === 0 || at + length > data.length || record.at(-1) !== 0x0a)
      throw badArchive("a pax header is malformed");
    const equals = record.indexOf(0x3d);
    if (equals < 1) throw badArchive("a pax header is malformed");
    records.push([decoded(record.subarray(0, equals)), record.subarray(equals + 1, -1)]);
    at += length;
  }
  return records;
}

/**
 * A size as a pax header gives it.
 * @throws AegisError `refused`
 */
export function paxSize(value: string): number {
  if (!/^\d{1,15}$/.test(value)) throw badArchive("a pax header is malformed");
  return Number(value);
}

/** After the first zero block only zeros may follow: some readers stop there, others go on. */
function ended(rest: Uint8Array, contents: ArchiveContents, longPath: string | null): ArchiveFile[] {
  if (!isZero(rest)) throw badArchive("something follows its end");
  if (longPath !== null) throw badArchive("it ends behind an extension header");
  return contents.files;
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/**
 * The text of a field, which a NUL may end.
 * @throws AegisError `refused`
 */
export function tarText(field: Uint8Array): string {
  const end = field.indexOf(0);
  return decoded(end < 0 ? field : field.subarray(0, end));
}

/** @throws AegisError `refused` */
export function decoded(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw badArchive("a name in it is not UTF-8");
  }
}
