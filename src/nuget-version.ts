import { byCodeUnit } from "./canonical.ts";
import type { Versioning } from "./eco-grammar.ts";

/*
 * Versions and ranges as NuGet reads them: one to four numbers, prerelease labels without regard to case, build metadata that counts for
 * nothing. https://learn.microsoft.com/nuget/concepts/package-versioning
 */

const LABELS = "[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*";
const VERSION = new RegExp(
  `^(\\d+)(?:\\.(\\d+))?(?:\\.(\\d+))?(?:\\.(\\d+))?(?:-(${LABELS}))?(?:\\+${LABELS})?$`,
);
const MAX_VERSION = 128;
/** NuGet's numbers are .NET's: 32 bits with a sign. Longer labels are text. */
const MAX_NUMBER = 2_147_483_647;

interface Parts {
  numbers: readonly number[];
  labels: readonly string[];
}

/** A range of versions; null for a side without a limit. */
export interface VersionRange {
  least: { version: string; inclusive: boolean } | null;
  most: { version: string; inclusive: boolean } | null;
}

function partsOf(version: string): Parts | null {
  const found = version.length > MAX_VERSION ? null : VERSION.exec(version);
  if (found === null) return null;
  const numbers = found.slice(1, 5).map((text) => Number(text ?? "0"));
  if (numbers.some((number) => number > MAX_NUMBER)) return null;
  return { numbers, labels: found[5]?.split(".") ?? [] };
}

/** Whether a text is a version that NuGet accepts. */
export function isNugetVersion(version: string): boolean {
  return partsOf(version) !== null;
}

/** Whether a valid version is a prerelease. */
export function isPrerelease(version: string): boolean {
  return (partsOf(version)?.labels.length ?? 0) > 0;
}

/** Whether only NuGet 4.3 and later read it: several prerelease labels, or build metadata (semantic versioning 2). */
export function needsSemver2(version: string): boolean {
  return (partsOf(version)?.labels.length ?? 0) > 1 || version.includes("+");
}

/** `1.0.0` for `1`, `01.0` and `1.0.0.0+build`: three numbers, or four where the last isn't 0. Null for what is no version. */
export function normalizedVersion(version: string): string | null {
  const parts = partsOf(version);
  if (parts === null) return null;
  const numbers = parts.numbers[3] === 0 ? parts.numbers.slice(0, 3) : parts.numbers;
  return [numbers.join("."), ...(parts.labels.length > 0 ? [parts.labels.join(".")] : [])].join("-");
}

function compareVersions(a: string, b: string): number {
  const [x, y] = [partsOf(a), partsOf(b)];
  if (x === null || y === null) return byCodeUnit(a, b);
  for (const [i, number] of x.numbers.entries()) {
    const difference = number - (y.numbers[i] ?? 0);
    if (difference !== 0) return difference;
  }
  // A version without labels is newer than one with them.
  if (x.labels.length === 0 || y.labels.length === 0) return y.labels.length - x.labels.length;
  for (const [i, label] of x.labels.entries()) {
    const other = y.labels[i];
    if (other === undefined) return 1;
    const difference = compareLabels(label, other);
    if (difference !== 0) return difference;
  }
  return x.labels.length - y.labels.length;
}

function compareLabels(a: string, b: string): number {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x - y;
  if (x !== null || y !== null) return x !== null ? -1 : 1;
  return byCodeUnit(a.toUpperCase(), b.toUpperCase());
}

function numberOf(label: string): number | null {
  const number = /^\d+$/.test(label) ? Number(label) : Number.POSITIVE_INFINITY;
  return number <= MAX_NUMBER ? number : null;
}

/** NuGet's versions, in its order. */
export const NUGET_VERSIONS: Versioning = { isVersion: isNugetVersion, compare: compareVersions };

/**
 * A range as a nuspec writes it: `[1.0,2.0)`, `[1.0]`, `(,2.0]`, or a bare version, which is a minimum. Null for what is none; a floating
 * version (`1.*`) is none in a nuspec.
 */
export function parseRange(text: string): VersionRange | null {
  const range = text.trim().replace(/\s*([.,()[\]])\s*/g, "$1");
  const bracketed = /^([([])([^()[\]]*)([)\]])$/.exec(range);
  if (bracketed === null) {
    return isNugetVersion(range) ? { least: { version: range, inclusive: true }, most: null } : null;
  }
  const [, open, inside = "", close] = bracketed;
  const [first = "", second = first, ...more] = inside.split(",");
  const isNone = [first, second].some((version) => version !== "" && !isNugetVersion(version));
  if (more.length > 0 || isNone || (first === "" && second === "")) return null;
  return {
    least: first === "" ? null : { version: first, inclusive: open === "[" },
    most: second === "" ? null : { version: second, inclusive: close === "]" },
  };
}

/** Whether a valid version is in a range. */
export function isInRange(version: string, { least, most }: VersionRange): boolean {
  const above = least === null ? 1 : compareVersions(version, least.version);
  const below = most === null ? -1 : compareVersions(version, most.version);
  return (
    (above > 0 || (above === 0 && least?.inclusive === true)) &&
    (below < 0 || (below === 0 && most?.inclusive === true))
  );
}
