import { hash as hashOf } from "node:crypto";

/*
 * Merkle trees over a log, RFC 6962 section 2.1: hashes of leaves and nodes, and the two proofs. Hashes are SHA-256, 32 bytes.
 */

/** A subtree by the leaves under it, `[from, to)`. */
export type Range = readonly [from: number, to: number];

/** The hash of the leaves of a range, from wherever hashes are kept. */
export type RangeHash = (range: Range) => Promise<Uint8Array>;

const [LEAF, NODE] = [Buffer.of(0), Buffer.of(1)];

/** `SHA-256(0x00 ‖ data)`. */
export function leafHash(data: Uint8Array): Uint8Array {
  return hashOf("sha256", Buffer.concat([LEAF, data]), "buffer");
}

/** `SHA-256(0x01 ‖ left ‖ right)`. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return hashOf("sha256", Buffer.concat([NODE, left, right]), "buffer");
}

/** Where a subtree of `size` leaves splits: the largest power of two below it. */
export function splitOf(size: number): number {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}

/** The subtrees whose hashes prove that leaf `index` is in the tree of `size` leaves, from the leaf up (2.1.1). */
export function inclusionRanges(index: number, size: number): Range[] {
  const path = (at: number, from: number, to: number): Range[] => {
    if (to - from === 1) return [];
    const middle = from + splitOf(to - from);
    return at < middle
      ? [...path(at, from, middle), [middle, to]]
      : [...path(at, middle, to), [from, middle]];
  };
  return path(index, 0, size);
}

/** The subtrees whose hashes prove that the tree of `old` leaves is the beginning of that of `size` leaves (2.1.2). */
export function consistencyRanges(old: number, size: number): Range[] {
  const path = (from: number, to: number, isOld: boolean): Range[] => {
    if (old === to) return isOld ? [] : [[from, to]];
    const middle = from + splitOf(to - from);
    return old <= middle
      ? [...path(from, middle, isOld), [middle, to]]
      : [...path(middle, to, false), [from, middle]];
  };
  return old === 0 || old === size ? [] : path(0, size, true);
}

/** Whether `proof` shows that the leaf with this hash is leaf `index` of the tree of `size` leaves with this root. */
export function isIncluded(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!isTreeSize(size) || !Number.isSafeInteger(index) || index < 0 || index >= size) return false;
  const ranges = inclusionRanges(index, size);
  if (ranges.length !== proof.length || !areHashes([leaf, root, ...proof])) return false;
  const top = proof.reduce((hash, other, i) => {
    const isLeft = (ranges[i]?.[0] ?? 0) < index;
    return isLeft ? nodeHash(other, hash) : nodeHash(hash, other);
  }, leaf);
  return areEqual(top, root);
}

/** Whether `proof` shows that the tree of `size` leaves extends that of `old` leaves. An empty tree is the beginning of every tree. */
export function isExtension(
  old: number,
  size: number,
  proof: readonly Uint8Array[],
  oldRoot: Uint8Array,
  root: Uint8Array,
): boolean {
  if (!isTreeSize(old) || !isTreeSize(size) || old > size || !areHashes([oldRoot, root, ...proof]))
    return false;
  if (old === size) return proof.length === 0 && areEqual(oldRoot, root);
  if (old === 0) return proof.length === 0 && areEqual(oldRoot, EMPTY_ROOT);
  const hashes = [...proof];
  const ranges = consistencyRanges(old, size);
  if (hashes.length !== ranges.length) return false;
  const known = new Map(ranges.map((range, i) => [range.join(), hashes[i] ?? EMPTY_ROOT]));
  /** Both roots of a subtree: over its leaves below `old`, and over all of them. */
  const roots = (from: number, to: number, isOld: boolean): [Uint8Array, Uint8Array] => {
    if (old === to) {
      const hash = isOld ? oldRoot : (known.get(`${from},${to}`) ?? EMPTY_ROOT);
      return [hash, hash];
    }
    const middle = from + splitOf(to - from);
    if (old <= middle) {
      const [before, after] = roots(from, middle, isOld);
      return [before, nodeHash(after, known.get(`${middle},${to}`) ?? EMPTY_ROOT)];
    }
    const left = known.get(`${from},${middle}`) ?? EMPTY_ROOT;
    const [before, after] = roots(middle, to, false);
    return [nodeHash(left, before), nodeHash(left, after)];
  };
  const [before, after] = roots(0, size, true);
  return areEqual(before, oldRoot) && areEqual(after, root);
}

/** The root of the tree without leaves: SHA-256 of nothing. */
export const EMPTY_ROOT: Uint8Array = hashOf("sha256", "", "buffer");

function isTreeSize(size: number): boolean {
  return Number.isSafeInteger(size) && size >= 0;
}

function areHashes(hashes: readonly Uint8Array[]): boolean {
  return hashes.every((hash) => hash.length === EMPTY_ROOT.length);
}

function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
