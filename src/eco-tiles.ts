import { nodeHash, type Range, type RangeHash, splitOf } from "./eco-merkle.ts";
import { AegisError } from "./errors.ts";

/*
 * The hashes of a log as its server keeps them: tiles of 2^8 hashes of one level, as of Go's checksum database and of
 * C2SP's tlog-tiles. What is read here is not believed: whoever uses the hashes checks the proof that they make.
 */

const HEIGHT = 8;
const WIDTH = 2 ** HEIGHT;
const HASH = 32;

/** A tile: `width` hashes of tree level `8 * level`, the first of them number `256 * index`. */
export interface Tile {
  level: number;
  index: number;
  width: number;
}

/** The path of a tile below `tile/`, as Go's checksum database has it: `8/<level>/<index>[.p/<width>]`, thousands in directories. */
export function tilePath({ level, index, width }: Tile): string {
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/\d{3}/g) ?? [];
  const path = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join("/");
  return `${HEIGHT}/${level}/${path}${width === WIDTH ? "" : `.p/${width}`}`;
}

/**
 * The hash of any range of a log of `size` leaves, from its tiles, each of which is read once.
 * @throws AegisError `evidence_mismatch` for a tile of another length than it must have
 */
export function tileHashes(size: number, read: (tile: Tile) => Promise<Uint8Array>): RangeHash {
  const tiles = new Map<string, Promise<Uint8Array>>();

  function tileAt(level: number, index: number): Promise<Uint8Array> {
    const total = Math.floor(size / 2 ** (HEIGHT * level));
    const tile = { level, index, width: Math.min(WIDTH, total - index * WIDTH) };
    const path = tilePath(tile);
    const known = tiles.get(path) ?? read(tile);
    tiles.set(path, known);
    return known.then((data) => {
      if (data.length === tile.width * HASH) return data;
      throw new AegisError(
        "evidence_mismatch",
        `the log's tile ${path} has ${data.length} bytes instead of ${tile.width * HASH}`,
      );
    });
  }

  /** The hash of a perfect subtree: 2^level leaves, the first a multiple of that. */
  async function perfect(level: number, from: number): Promise<Uint8Array> {
    const tileLevel = Math.floor(level / HEIGHT);
    const within = level - tileLevel * HEIGHT;
    const first = from / 2 ** (HEIGHT * tileLevel);
    const data = await tileAt(tileLevel, Math.floor(first / WIDTH));
    const start = first % WIDTH;
    let hashes = Array.from({ length: 2 ** within }, (_, i) =>
      data.subarray((start + i) * HASH, (start + i + 1) * HASH),
    );
    while (hashes.length > 1) {
      hashes = hashes.flatMap((left, i) => {
        const right = hashes[i + 1];
        return i % 2 === 0 && right !== undefined ? [nodeHash(left, right)] : [];
      });
    }
    const [hash] = hashes;
    if (hash === undefined) throw new AegisError("internal", "a subtree without leaves");
    return hash;
  }

  return async function hashOf([from, to]: Range): Promise<Uint8Array> {
    const length = to - from;
    const level = Math.log2(length);
    if (Number.isInteger(level)) return perfect(level, from);
    const middle = from + splitOf(length);
    return nodeHash(await hashOf([from, middle]), await hashOf([middle, to]));
  };
}
