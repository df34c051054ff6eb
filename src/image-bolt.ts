import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { AegisError, errnoOf } from "./errors.ts";

/*
 * Reads a database of bbolt, as containerd keeps one, while its owner writes it: buckets of keys with values, in B+ trees of pages.
 * A transaction writes new pages, and then one of two meta pages that names the new root. Pages of the newest transaction are written
 * over by the next but one at the earliest, so what was read is one state if afterwards its meta page is still the newest.
 * https://github.com/etcd-io/bbolt/tree/v1.4.3/internal/common (page.go, meta.go, bucket.go), tx_check.go for the order of keys
 */

const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_BYTES = 64;
const HEADER_BYTES = 16;
const BUCKET_BYTES = 16;
const SMALLEST_PAGE = 1024;
const LARGEST_PAGE = 65_536;
const BRANCH = 1;
const LEAF = 2;
const META = 4;
const MAX_KEY = 32_768;
const MAX_DEPTH = 32;
/** What one reading may take, in bytes. */
const MAX_READ = 256 * 1024 * 1024;
const MAX_TRIES = 100;
const PAUSE_MS = 5;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export interface BoltBucket {
  /** The value of a key; null if there is none, or a bucket. */
  value(key: string): Buffer | null;
  /** The bucket in this one; null if there is none. */
  bucket(key: string): BoltBucket | null;
  /** Names of the buckets in this one, in their order. */
  buckets(): string[];
}

interface Meta {
  pageSize: number;
  root: bigint;
  /** The first page that no transaction has used. */
  end: bigint;
  transaction: bigint;
}

interface Entry {
  key: Buffer;
  value: Buffer;
  isBucket: boolean;
}

/**
 * Calls `use` with the root of the database, again if it was changed in between, and returns its result; null if there is no file.
 * @throws AegisError `invalid_document` for what is no database or a damaged one, `busy` if it never stays the same, `io`
 */
export function readBolt<T>(path: string, use: (root: BoltBucket) => T): T | null {
  const fd = opened(path);
  if (fd === null) return null;
  try {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const meta = newestMeta(fd);
      const result = attempted(() => {
        const pages = new Pages(fd, meta);
        return use(new Bucket(pages, walk(pages, meta.root, MAX_DEPTH)));
      });
      if (newestMeta(fd).transaction !== meta.transaction) {
        Bun.sleepSync(PAUSE_MS);
        continue;
      }
      if ("error" in result) throw result.error;
      return result.value;
    }
    throw new AegisError("busy", `${path} was changed each time that it was read`, "Try again.");
  } finally {
    closeSync(fd);
  }
}

function opened(path: string): number | null {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw damaged("it is no regular file");
}

/** What a call returned or threw: whether its error counts is known later. */
function attempted<T>(call: () => T): { value: T } | { error: unknown } {
  try {
    return { value: call() };
  } catch (error) {
    return { error };
  }
}

/** The meta page of the newest transaction that was written whole. */
function newestMeta(fd: number): Meta {
  const first = metaAt(fd, 0);
  let second: Meta | null = null;
  for (let size = SMALLEST_PAGE; second === null && size <= LARGEST_PAGE; size *= 2) {
    if (first !== null && first.pageSize !== size) continue;
    const found = metaAt(fd, size);
    if (found?.pageSize === size) second = found;
  }
  const newest = first === null || (second?.transaction ?? -1n) > first.transaction ? second : first;
  if (newest === null) throw damaged("it has no valid meta page");
  return newest;
}

/** The meta page at an offset; null where there is none, or one that is just being written. */
function metaAt(fd: number, offset: number): Meta | null {
  const page = Buffer.alloc(HEADER_BYTES + META_BYTES);
  if (readSync(fd, page, 0, page.length, offset) !== page.length) return null;
  const meta = page.subarray(HEADER_BYTES);
  if (page.readUInt16LE(8) !== META || meta.readUInt32LE(0) !== MAGIC) return null;
  if (meta.readBigUInt64LE(56) !== fnv64a(meta.subarray(0, 56))) return null;
  if (meta.readUInt32LE(4) !== VERSION) throw damaged(`it is of version ${meta.readUInt32LE(4)}`);
  const pageSize = meta.readUInt32LE(8);
  const isPower = (pageSize & (pageSize - 1)) === 0;
  if (pageSize < SMALLEST_PAGE || pageSize > LARGEST_PAGE || !isPower)
    throw damaged(`its pages have ${pageSize} bytes`);
  return {
    ...{ pageSize, root: meta.readBigUInt64LE(16), end: meta.readBigUInt64LE(40) },
    transaction: meta.readBigUInt64LE(48),
  };
}

/** FNV-1a of 64 bits. */
function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

/** The pages of one transaction. */
class Pages {
  #left = MAX_READ;

  constructor(
    readonly fd: number,
    readonly meta: Meta,
  ) {}

  /** A page, with those that continue it. */
  page(id: bigint): Buffer {
    const { pageSize, end } = this.meta;
    const header = this.#read(id, HEADER_BYTES);
    if (header.readBigUInt64LE(0) !== id) throw damaged(`page ${id} says that it is another`);
    const overflow = header.readUInt32LE(12);
    if (id + BigInt(overflow) >= end) throw damaged(`page ${id} ends behind the last page`);
    return this.#read(id, (overflow + 1) * pageSize);
  }

  #read(id: bigint, length: number): Buffer {
    const { pageSize, end } = this.meta;
    // The first two are meta pages.
    if (id < 2n || id >= end) throw damaged(`there is no page ${id}`);
    const offset = Number(id) * pageSize;
    this.#left -= length;
    if (this.#left < 0) throw damaged(`more than ${MAX_READ} bytes of it would have to be read`);
    const bytes = Buffer.alloc(length);
    if (!Number.isSafeInteger(offset) || readSync(this.fd, bytes, 0, length, offset) !== length)
      throw damaged(`it ends within page ${id}`);
    return bytes;
  }
}

class Bucket implements BoltBucket {
  readonly #pages: Pages;
  readonly #entries: ReadonlyMap<string, Entry>;

  constructor(pages: Pages, entries: Iterable<Entry>) {
    this.#pages = pages;
    const found = new Map<string, Entry>();
    let last: Buffer | null = null;
    for (const entry of entries) {
      if (last !== null && Buffer.compare(last, entry.key) >= 0) throw damaged("its keys are out of order");
      last = entry.key;
      found.set(textOfKey(entry.key), entry);
    }
    this.#entries = found;
  }

  value(key: string): Buffer | null {
    const entry = this.#entries.get(key);
    return entry === undefined || entry.isBucket ? null : entry.value;
  }

  bucket(key: string): BoltBucket | null {
    const entry = this.#entries.get(key);
    if (entry?.isBucket !== true) return null;
    const { value } = entry;
    if (value.length < BUCKET_BYTES) throw damaged("a bucket has no header");
    const root = value.readBigUInt64LE(0);
    const inline = value.subarray(BUCKET_BYTES);
    if ((root === 0n) === (inline.length === 0))
      throw damaged("a bucket is both in a page and inline, or neither");
    return new Bucket(this.#pages, root === 0n ? inlineEntries(inline) : walk(this.#pages, root, MAX_DEPTH));
  }

  buckets(): string[] {
    return [...this.#entries].filter(([, { isBucket }]) => isBucket).map(([key]) => key);
  }
}

function inlineEntries(page: Buffer): Entry[] {
  if (page.length < HEADER_BYTES || page.readUInt16LE(8) !== LEAF)
    throw damaged("an inline bucket is no leaf");
  const entries = leafEntries(page);
  if (entries.some(({ isBucket }) => isBucket)) throw damaged("an inline bucket has a bucket in it");
  return entries;
}

/** The entries of a tree. Its owner finds a key by the first keys that branches name, so they must be true. */
function* walk(
  pages: Pages,
  id: bigint,
  depth: number,
  from: Buffer | null = null,
  to: Buffer | null = null,
): Generator<Entry> {
  if (depth === 0) throw damaged(`its tree is deeper than ${MAX_DEPTH} pages`);
  const page = pages.page(id);
  const isWithin = (key: Buffer) =>
    (from === null || Buffer.compare(from, key) <= 0) && (to === null || Buffer.compare(key, to) < 0);
  const flags = page.readUInt16LE(8);
  if (flags === LEAF) {
    for (const entry of leafEntries(page)) {
      if (!isWithin(entry.key)) throw damaged(`page ${id} has a key that its branch doesn't lead to`);
      yield entry;
    }
  } else if (flags === BRANCH) {
    const children = branchEntries(page);
    if (children.length === 0) throw damaged(`the branch ${id} leads nowhere`);
    for (const [at, child] of children.entries()) {
      const next = children[at + 1]?.key ?? to;
      if (!isWithin(child.key) || (next !== null && Buffer.compare(child.key, next) >= 0))
        throw damaged(`the branch ${id} has its keys out of order`);
      yield* walk(pages, child.page, depth - 1, child.key, next);
    }
  } else throw damaged(`page ${id} is neither branch nor leaf`);
}

/** Elements of 16 bytes: flags, position, and sizes of key and value. */
function leafEntries(page: Buffer): Entry[] {
  return elementsOf(page, (at) => {
    const [flags, size] = [page.readUInt32LE(at), page.readUInt32LE(at + 8)];
    if (flags > 1) throw damaged(`an entry has the flags ${flags}`);
    const start = at + page.readUInt32LE(at + 4);
    const value = cut(page, start + size, page.readUInt32LE(at + 12));
    return { key: keyAt(page, start, size), value, isBucket: flags === 1 };
  });
}

/** Elements of 16 bytes: position, the key's size, and a page. */
function branchEntries(page: Buffer): { key: Buffer; page: bigint }[] {
  return elementsOf(page, (at) => ({
    key: keyAt(page, at + page.readUInt32LE(at), page.readUInt32LE(at + 4)),
    page: page.readBigUInt64LE(at + 8),
  }));
}

function elementsOf<T>(page: Buffer, read: (at: number) => T): T[] {
  const count = page.readUInt16LE(10);
  if (HEADER_BYTES + 16 * count > page.length) throw damaged("a page has more entries than room");
  return Array.from({ length: count }, (_, n) => read(HEADER_BYTES + 16 * n));
}

function keyAt(page: Buffer, start: number, size: number): Buffer {
  if (size === 0 || size > MAX_KEY) throw damaged(`a key has ${size} bytes`);
  return cut(page, start, size);
}

function cut(page: Buffer, start: number, size: number): Buffer {
  const first = HEADER_BYTES + 16 * page.readUInt16LE(10);
  if (start < first || start + size > page.length) throw damaged("an entry is outside of its page");
  return page.subarray(start, start + size);
}

function textOfKey(key: Buffer): string {
  try {
    return UTF8.decode(key);
  } catch {
    throw damaged("a key is not UTF-8");
  }
}

function damaged(why: string): AegisError {
  return new AegisError("invalid_document", why);
}
