import { byCodeUnit } from "./canonical.ts";
import type { Versioning } from "./eco-grammar.ts";

/** A semantic version; a missing minor or patch number counts as 0, as advisories write `2.0`. */
const VERSION =
  /^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]*)?$/;

/** Whether {@link compareSemver} can order this text. */
function isSemver(text: string): boolean {
  return text.length <= 256 && VERSION.test(text);
}

/**
 * Orders two versions for which {@link isSemver} holds: negative if `a` comes first. Ignores build metadata.
 * @see https://semver.org/#spec-item-11
 */
function compareSemver(a: string, b: string): number {
  const [x, y] = [split(a), split(b)];
  for (let i = 0; i < 3; i++) {
    const difference = compareNumbers(x.numbers[i], y.numbers[i]);
    if (difference !== 0) return difference;
  }
  return comparePrerelease(x.prerelease, y.prerelease);
}

function split(version: string): { numbers: (string | undefined)[]; prerelease: string[] } {
  const [, major, minor, patch, prerelease] = VERSION.exec(version) ?? [];
  return { numbers: [major, minor, patch], prerelease: prerelease?.split(".") ?? [] };
}

function comparePrerelease(a: readonly string[], b: readonly string[]): number {
  // A version without a pre-release is newer than one with it.
  if (a.length === 0 || b.length === 0) return b.length - a.length;
  for (const [i, x] of a.entries()) {
    const y = b[i];
    if (y === undefined) return 1;
    const difference = compareIdentifiers(x, y);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Numeric identifiers sort by value and before others, which sort by code unit. */
function compareIdentifiers(a: string, b: string): number {
  const [x, y] = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (x && y) return compareNumbers(a, b);
  if (x !== y) return x ? -1 : 1;
  return byCodeUnit(a, b);
}

function compareNumbers(a = "0", b = "0"): number {
  const [x, y] = [BigInt(a), BigInt(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Semantic versions, ordered by https://semver.org. */
export const SEMVER: Versioning = { isVersion: isSemver, compare: compareSemver };
