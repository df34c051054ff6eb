import { compare, explain } from "@renovatebot/pep440";

/*
 * Python versions and what may be said of them: https://packaging.python.org/en/latest/specifications/version-specifiers/ (PEP 440).
 * The library parses and orders; what a specifier contains is written here, since the library simplifies `<` and `>`.
 */

type Explained = NonNullable<ReturnType<typeof explain>>;
type Operator = "==" | "!=" | "<=" | ">=" | "<" | ">" | "~=" | "===";

/** One clause: `>=1.2`. */
export interface Specifier {
  operator: Operator;
  version: string;
  /** `==1.2.*`; `version` is then without the `.*`. */
  wildcard: boolean;
}

const MAX_VERSION = 128;
const CLAUSE = /^(===|~=|==|!=|<=|>=|<|>)\s*([^\s,;()]+?)(\.\*)?$/;
const known = new Map<string, Explained | null>();

function read(version: string): Explained | null {
  const found = known.get(version);
  if (found !== undefined) return found;
  const made = version.length > MAX_VERSION ? null : explain(version);
  if (known.size > 100_000) known.clear();
  known.set(version, made);
  return made;
}

/** Whether a text is a version by PEP 440, in any of its spellings. */
export function isPythonVersion(text: string): boolean {
  return read(text) !== null;
}

/** Negative where `a` comes first. Only for texts that are versions. */
export function comparePython(a: string, b: string): number {
  return a === b ? 0 : compare(a, b);
}

/** Whether a version is a pre-release or a development release. */
function isPreRelease(version: string): boolean {
  return read(version)?.is_prerelease === true;
}

/** The clauses of a specifier set (`>=1,<2`), none for an empty text; null where one of them isn't valid. */
export function parseSpecifiers(text: string): Specifier[] | null {
  const specifiers: Specifier[] = [];
  for (const clause of text.split(",")) {
    if (clause.trim() === "") continue;
    const specifier = parseClause(clause.trim());
    if (specifier === null) return null;
    specifiers.push(specifier);
  }
  return specifiers;
}

function parseClause(clause: string): Specifier | null {
  const [, found, version = "", star] = CLAUSE.exec(clause) ?? [];
  const operator = OPERATORS.find((one) => one === found);
  if (operator === undefined) return null;
  const wildcard = star !== undefined;
  if (operator === "===") return { operator, version: version + (star ?? ""), wildcard: false };
  const parts = read(version);
  if (parts === null) return null;
  const isEquality = operator === "==" || operator === "!=";
  if (!isEquality && (wildcard || parts.local !== null)) return null;
  if (wildcard && !/^v?(?:\d+!)?\d+(?:\.\d+)*$/i.test(version)) return null;
  if (operator === "~=" && parts.release.length < 2) return null;
  return { operator, version, wildcard };
}

const OPERATORS: readonly Operator[] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];

/** Whether a version is one that a clause speaks of; pre-releases are like any other here. */
export function contains({ operator, version: bound, wildcard }: Specifier, version: string): boolean {
  if (operator === "===") return version.toLowerCase() === bound.toLowerCase();
  const [own, limit] = [read(version), read(bound)];
  if (own === null || limit === null) return false;
  switch (operator) {
    case "==":
    case "!=": {
      const isEqual = wildcard
        ? startsWith(own, limit.epoch, limit.release)
        : comparePython(limit.local === null ? own.public : version, bound) === 0;
      return isEqual === (operator === "==");
    }
    case "<=":
      return comparePython(own.public, bound) <= 0;
    case ">=":
      return comparePython(own.public, bound) >= 0;
    case "~=":
      return (
        comparePython(own.public, bound) >= 0 && startsWith(own, limit.epoch, limit.release.slice(0, -1))
      );
    case "<":
      // Not the pre-releases of the version itself, unless it is one.
      return (
        comparePython(version, bound) < 0 &&
        !(own.is_prerelease && !limit.is_prerelease && hasSameBase(own, limit))
      );
    case ">":
      return (
        comparePython(version, bound) > 0 &&
        !(hasSameBase(own, limit) && (own.local !== null || (own.is_postrelease && !limit.is_postrelease)))
      );
  }
}

function startsWith({ epoch, release }: Explained, limitEpoch: number, prefix: readonly number[]): boolean {
  return epoch === limitEpoch && prefix.every((n, i) => (release[i] ?? 0) === n);
}

function hasSameBase(a: Explained, b: Explained): boolean {
  return comparePython(a.base_version, b.base_version) === 0;
}

/**
 * Those of `items` whose version all clauses contain. Pre-releases are among them only where a clause names one, or where nothing
 * else is left. https://packaging.python.org/en/latest/specifications/version-specifiers/#handling-of-pre-releases
 */
export function allowedBy<T extends { version: string }>(
  items: readonly T[],
  specifiers: readonly Specifier[],
): T[] {
  const matching = items.filter(({ version }) => specifiers.every((one) => contains(one, version)));
  if (specifiers.some(namesPreRelease)) return matching;
  const final = matching.filter(({ version }) => !isPreRelease(version));
  return final.length > 0 ? final : matching;
}

function namesPreRelease({ operator, version }: Specifier): boolean {
  return operator !== "!=" && operator !== "<" && operator !== ">" && isPreRelease(version);
}

/** Whether clauses leave no choice: then even a version that was withdrawn (PEP 592) may be taken. */
export function pins(specifiers: readonly Specifier[]): boolean {
  return specifiers.some(({ operator, wildcard }) => operator === "===" || (operator === "==" && !wildcard));
}

/** As people write it. */
export function showSpecifiers(specifiers: readonly Specifier[]): string {
  return specifiers
    .map(({ operator, version, wildcard }) => `${operator}${version}${wildcard ? ".*" : ""}`)
    .join(",");
}
