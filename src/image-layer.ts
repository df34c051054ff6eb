import { createHash, type Hash } from "node:crypto";
import { closeSync, createReadStream, fstatSync, openSync, readSync } from "node:fs";
import type { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { badArchive } from "./eco-archive.ts";
import { isZero, readTarHeader } from "./eco-tar.ts";
import { AegisError, messageOf } from "./errors.ts";
import { entryOf, type LayerEntry, LayerExtensions, numberField } from "./image-layer-entry.ts";

/*
 * A layer of an image as a stream of entries: tar, plain or compressed with gzip or zstd, as its first bytes say (podman doesn't believe
 * the media type either). Read strictly, in memory that doesn't grow with the layer, and hashed while it is read.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md
 */

export interface LayerLimits {
  /** Entries, whiteouts included. */
  maxEntries: number;
  /** Bytes of the tar archive. */
  maxBytes: number;
  /** Bytes of the tar archive per byte of the file, above {@link RATIO_FLOOR}. */
  maxRatio: number;
}

/** The largest images that people run have layers of some gigabytes, and some hundred thousand files. */
export const LAYER_LIMITS: LayerLimits = { maxEntries: 400_000, maxBytes: 16 * 2 ** 30, maxRatio: 200 };

/** Below this many bytes no ratio is too high: sparse databases and files of zeros are legal. */
const RATIO_FLOOR = 2 ** 30;

const BLOCK = 512;
const CHUNK = 256 * 1024;
/** As Go's archive/tar, which podman reads with. */
const MAX_EXTENSION = 2 ** 20;

export interface LayerSums {
  /** Of the tar archive, as the image's configuration names it: `sha256:…`. */
  diffId: string;
  /** Bytes of the tar archive. */
  bytes: number;
}

/**
 * Reads a layer's file, which the caller has compared with its digest, and gives each entry to `take`, in order. What it throws ends the
 * reading.
 * @throws AegisError `refused` for a layer that is damaged, ambiguous, oversized, or has entries that podman doesn't unpack; `io`
 */
export async function readLayer(
  file: string,
  take: (entry: LayerEntry) => void,
  limits: LayerLimits = LAYER_LIMITS,
): Promise<LayerSums> {
  const { magic, size } = beginningOf(file);
  const maxBytes = Math.min(limits.maxBytes, Math.max(RATIO_FLOOR, size * limits.maxRatio));
  const parser = new LayerParser(take, { ...limits, maxBytes });
  const consume = async (chunks: AsyncIterable<Uint8Array>) => {
    for await (const chunk of chunks) parser.push(chunk);
  };
  const source = createReadStream(file, { highWaterMark: CHUNK });
  const unpacked = decompressor(magic);
  try {
    await (unpacked === null ? pipeline(source, consume) : pipeline(source, unpacked, consume));
  } catch (error) {
    if (error instanceof AegisError) throw error;
    throw badArchive(`it can't be unpacked (${messageOf(error)})`);
  }
  return parser.end();
}

function beginningOf(file: string): { magic: Buffer; size: number } {
  const magic = Buffer.alloc(4);
  try {
    const fd = openSync(file, "r");
    try {
      readSync(fd, magic);
      return { magic, size: fstatSync(fd).size };
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new AegisError("io", `the layer's file can't be read: ${messageOf(error)}`);
  }
}

/** RFC 1952, 2.3.1; RFC 8878, 3.1.1. Others (bzip2, xz) are no tar archives to this reader. */
function decompressor(magic: Buffer): Transform | null {
  if (magic.readUInt16BE(0) === 0x1f8b) return createGunzip({ chunkSize: CHUNK });
  return magic.readUInt32LE(0) === 0xfd2fb528 ? createZstdDecompress({ chunkSize: CHUNK }) : null;
}

/** What the bytes after a header are. */
type Body = { kind: "skip" } | { kind: "extension"; type: string; parts: Buffer[] } | FileBody;
interface FileBody {
  kind: "file";
  entry: LayerEntry;
  hash: Hash;
}

/** The state between two chunks of a tar archive. */
export class LayerParser {
  readonly #take: (entry: LayerEntry) => void;
  readonly #limits: LayerLimits;
  readonly #sum = createHash("sha256");
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  readonly #extensions = new LayerExtensions();
  #body: Body = { kind: "skip" };
  /** Bytes of the body that are still to come, and of its padding. */
  #left = 0;
  #padding = 0;
  #ended = false;
  #bytes = 0;
  #entries = 0;

  constructor(take: (entry: LayerEntry) => void, limits: LayerLimits = LAYER_LIMITS) {
    this.#take = take;
    this.#limits = limits;
  }

  /** @throws AegisError `refused` */
  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limits.maxBytes)
      throw badArchive(`it unpacks to more than ${this.#limits.maxBytes} bytes`);
    this.#sum.update(chunk);
    for (let at = 0; at < chunk.length; ) at += this.#step(chunk.subarray(at));
  }

  /**
   * After the last chunk.
   * @throws AegisError `refused` for an archive that ends too early
   */
  end(): LayerSums {
    if (this.#left > 0) throw badArchive("it ends within a file");
    if (!this.#ended || this.#filled > 0) throw badArchive("it has no end");
    return { diffId: `sha256:${this.#sum.digest("hex")}`, bytes: this.#bytes };
  }

  /** Consumes some of the bytes; returns how many. */
  #step(bytes: Uint8Array): number {
    if (this.#ended) return this.#tail(bytes);
    if (this.#left > 0) {
      const part = bytes.subarray(0, this.#left);
      if (this.#body.kind === "file") this.#body.hash.update(part);
      else if (this.#body.kind === "extension") this.#body.parts.push(Buffer.from(part));
      this.#left -= part.length;
      if (this.#left === 0) this.#finish();
      return part.length;
    }
    if (this.#padding > 0) {
      const skipped = Math.min(this.#padding, bytes.length);
      this.#padding -= skipped;
      return skipped;
    }
    if (this.#filled === 0 && bytes.length >= BLOCK) {
      this.#header(bytes.subarray(0, BLOCK));
      return BLOCK;
    }
    const part = bytes.subarray(0, BLOCK - this.#filled);
    this.#block.set(part, this.#filled);
    this.#filled += part.length;
    if (this.#filled === BLOCK) {
      this.#filled = 0;
      this.#header(this.#block);
    }
    return part.length;
  }

  /** After the first zero block only zeros may follow: some readers stop there, others go on. */
  #tail(bytes: Uint8Array): number {
    if (!isZero(bytes)) throw badArchive("something follows its end");
    this.#filled = (this.#filled + bytes.length) % BLOCK;
    return bytes.length;
  }

  #header(block: Uint8Array): void {
    if (isZero(block)) {
      if (!this.#extensions.isEmpty) throw badArchive("it ends behind an extension header");
      this.#ended = true;
      return;
    }
    const header = readTarHeader(block);
    const size = numberField(block, 124, 12);
    if (size < 0) throw badArchive("a header has a negative size");
    if (header.type === "x" || header.type === "L" || header.type === "K") {
      if (size > MAX_EXTENSION) throw badArchive("it has an oversized extension header");
      this.#expect({ kind: "extension", type: header.type, parts: [] }, size);
      return;
    }
    this.#entries++;
    if (this.#entries > this.#limits.maxEntries)
      throw badArchive(`it has more than ${this.#limits.maxEntries} entries`);
    const entry = entryOf(block, header, size, this.#extensions.take());
    if (entry?.kind === "file") this.#expect({ kind: "file", entry, hash: createHash("sha256") }, entry.size);
    else if (entry !== null) this.#take(entry);
  }

  #expect(body: Body, size: number): void {
    this.#body = body;
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
    if (size === 0) this.#finish();
  }

  #finish(): void {
    const body = this.#body;
    this.#body = { kind: "skip" };
    if (body.kind === "extension") this.#extensions.add(body.type, Buffer.concat(body.parts));
    else if (body.kind === "file") this.#take({ ...body.entry, sha256: body.hash.digest("hex") });
  }
}
