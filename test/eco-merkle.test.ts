import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import {
  consistencyRanges,
  EMPTY_ROOT,
  inclusionRanges,
  isExtension,
  isIncluded,
  leafHash,
  nodeHash,
  type Range,
  splitOf,
} from "../src/eco-merkle.ts";
import { tileHashes, tilePath } from "../src/eco-tiles.ts";
import vectors from "./fixtures/merkle/vectors.json";

/** Anything but base64 that decodes is what a client may send too: it is no hash. */
const bytes = (base64: string | null) => Buffer.from(base64 ?? "", "base64");
const proofOf = (proof: readonly string[] | null) => (proof ?? []).map(bytes);

/** Its roots are equal words and no hashes, which we refuse. */
const NO_HASHES = "additional/sizes-are-equal-one-and-proof-is-empty.json";

describe("the vectors of transparency-dev/merkle", () => {
  test("are all there", () => {
    expect([vectors.inclusion, vectors.consistency].map((set) => Object.keys(set).length)).toEqual([98, 98]);
  });
  test.each(Object.entries(vectors.inclusion))("inclusion %s", (_, one) => {
    const { leafIdx, treeSize, leafHash: leaf, proof, root, wantErr } = one;
    expect(isIncluded(bytes(leaf), leafIdx, treeSize, proofOf(proof), bytes(root))).toBe(!wantErr);
  });
  test.each(Object.entries(vectors.consistency))("consistency %s", (name, one) => {
    const { size1, size2, proof, root1, root2, wantErr } = one;
    const isGood = isExtension(size1, size2, proofOf(proof), bytes(root1), bytes(root2));
    expect(isGood).toBe(!wantErr && name !== NO_HASHES);
  });
});

const leaves = (n: number) => Array.from({ length: n }, (_, i) => leafHash(Buffer.from(`leaf ${i}`)));

/** MTH of RFC 6962, section 2.1, over hashes of leaves. */
function rootOf(hashes: readonly Uint8Array[]): Uint8Array {
  const [first] = hashes;
  if (first === undefined) return EMPTY_ROOT;
  if (hashes.length === 1) return first;
  const k = splitOf(hashes.length);
  return nodeHash(rootOf(hashes.slice(0, k)), rootOf(hashes.slice(k)));
}

const flip = (hash: Uint8Array) => Uint8Array.from(hash, (byte, i) => (i === 7 ? byte ^ 1 : byte));

describe("any tree", () => {
  const sizes = fc.tuple(fc.integer({ min: 1, max: 300 }), fc.nat()).map(([n, m]) => [n, m % n] as const);

  test("each leaf is in it, by its proof and by no other", () => {
    fc.assert(
      fc.property(sizes, ([size, index]) => {
        const all = leaves(size);
        const root = rootOf(all);
        const proof = inclusionRanges(index, size).map(([from, to]) => rootOf(all.slice(from, to)));
        const leaf = all[index] ?? EMPTY_ROOT;
        expect(isIncluded(leaf, index, size, proof, root)).toBe(true);
        expect(isIncluded(flip(leaf), index, size, proof, root)).toBe(false);
        expect(isIncluded(leaf, index, size, proof, flip(root))).toBe(false);
        for (const i of proof.keys())
          expect(isIncluded(leaf, index, size, proof.with(i, flip(proof[i] ?? root)), root)).toBe(false);
        expect(isIncluded(leaf, index, size, [...proof, root], root)).toBe(false);
      }),
    );
  });

  test("each beginning of it is one, by its proof and by no other", () => {
    fc.assert(
      fc.property(sizes, ([size, old]) => {
        const all = leaves(size);
        const [before, after] = [rootOf(all.slice(0, old)), rootOf(all)];
        const proof = consistencyRanges(old, size).map(([from, to]) => rootOf(all.slice(from, to)));
        expect(isExtension(old, size, proof, before, after)).toBe(true);
        expect(isExtension(old, size, proof, flip(before), after)).toBe(false);
        for (const i of proof.keys())
          expect(isExtension(old, size, proof.with(i, flip(proof[i] ?? after)), before, after)).toBe(false);
        expect(isExtension(old, size, [...proof, after], before, after)).toBe(false);
      }),
    );
  });
});

describe("tiles", () => {
  test.each([
    [{ level: 0, index: 0, width: 256 }, "8/0/000"],
    [{ level: 1, index: 5, width: 3 }, "8/1/005.p/3"],
    [{ level: 0, index: 1234067, width: 256 }, "8/0/x001/x234/067"],
    [{ level: 3, index: 1000, width: 1 }, "8/3/x001/000.p/1"],
  ])("%j is %s", (tile, path) => expect(tilePath(tile)).toBe(path));

  test("give the hash of any range, and each is read once", async () => {
    const size = 66_000;
    const levels = [leaves(size)];
    for (let level = 1; level <= 2; level++) {
      const below = levels[level - 1] ?? [];
      levels.push(
        Array.from({ length: Math.floor(below.length / 256) }, (_, i) =>
          rootOf(below.slice(i * 256, i * 256 + 256)),
        ),
      );
    }
    const read: string[] = [];
    const hashOf = tileHashes(size, (tile) => {
      read.push(tilePath(tile));
      const hashes = levels[tile.level]?.slice(tile.index * 256, tile.index * 256 + tile.width) ?? [];
      return Promise.resolve(Buffer.concat(hashes));
    });
    const all = levels[0] ?? [];
    const ranges: Range[] = [
      [0, 1],
      [65_999, 66_000],
      [0, 256],
      [512, 1024],
      [65_536, 66_000],
      [0, 65_536],
      [0, size],
    ];
    for (const [from, to] of ranges)
      expect(Buffer.compare(await hashOf([from, to]), rootOf(all.slice(from, to)))).toBe(0);
    expect(new Set(read).size).toBe(read.length);
    expect(createHash("sha256").digest().equals(EMPTY_ROOT)).toBe(true);
  });

  test("a tile of the wrong length is refused", async () => {
    const hashOf = tileHashes(10, () => Promise.resolve(new Uint8Array(31)));
    await expect(hashOf([0, 4])).rejects.toThrow(/31 bytes instead of 320/);
  });
});
