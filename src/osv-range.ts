import type { Versioning } from "./eco-grammar.ts";
import type { OsvAffected, OsvEvent, OsvRange } from "./osv-record.ts";

export interface RangeVerdict {
  affected: boolean;
  /** The lowest version with every known fix; null if not affected or no fix is known. */
  fixed: string | null;
}

const UNAFFECTED: RangeVerdict = { affected: false, fixed: null };
const UNDECIDABLE: RangeVerdict = { affected: true, fixed: null };

/**
 * Whether a version is affected, according to a record's entries for its package: listed, or in one of the ranges. What
 * can't be evaluated (no list and no range, only commit ranges, bounds that aren't versions) counts as affected: a
 * record naming the package must not be ignored.
 * @see https://ossf.github.io/osv-schema/#evaluation
 */
export function judgeVersion(
  entries: readonly OsvAffected[],
  version: string,
  versioning: Versioning,
): RangeVerdict {
  if (version === "" && entries.length > 0) return UNDECIDABLE;
  const hits = entries
    .map((entry) => judgeEntry(entry, version, versioning))
    .filter(({ affected }) => affected);
  if (hits.length === 0) return UNAFFECTED;
  return { affected: true, fixed: highest(hits, versioning) };
}

function judgeEntry(entry: OsvAffected, version: string, versioning: Versioning): RangeVerdict {
  // Commits can't be ordered without the repository.
  const ranges = entry.ranges.filter(({ type }) => type !== "GIT");
  if (ranges.length === 0 && entry.versions.length === 0) return UNDECIDABLE;
  const hits = ranges
    .map((range) => judgeRange(range, version, versioning))
    .filter(({ affected }) => affected);
  if (hits.length === 0 && !entry.versions.includes(version)) return UNAFFECTED;
  return { affected: true, fixed: highest(hits, versioning) };
}

/** All fixes are needed, so the highest version; null if one entry has no fix. */
function highest(hits: readonly RangeVerdict[], versioning: Versioning): string | null {
  let found: string | null = null;
  for (const { fixed } of hits) {
    if (fixed === null) return null;
    if (found === null || versioning.compare(fixed, found) > 0) found = fixed;
  }
  return found;
}

interface Change {
  kind: keyof OsvEvent;
  at: string;
}

function judgeRange(range: OsvRange, version: string, versioning: Versioning): RangeVerdict {
  const changes = range.events.flatMap(changesOf);
  const known = changes.every((change) => isSpecial(change) || versioning.isVersion(change.at));
  if (!known || !versioning.isVersion(version)) return UNDECIDABLE;
  const limits = changes.filter(({ kind }) => kind === "limit");
  const isBefore = (limit: Change) => isSpecial(limit) || versioning.compare(version, limit.at) < 0;
  if (limits.length > 0 && !limits.some(isBefore)) return UNAFFECTED;

  let affected = false;
  let fixed: string | null = null;
  for (const change of inOrder(changes, versioning)) {
    const distance = isSpecial(change) ? 1 : versioning.compare(version, change.at);
    if (change.kind === "introduced" && distance >= 0) affected = true;
    else if (change.kind === "fixed" && distance >= 0) affected = false;
    else if (change.kind === "fixed") fixed ??= change.at;
    else if (change.kind === "last_affected" && distance > 0) affected = false;
  }
  return affected ? { affected, fixed } : UNAFFECTED;
}

const KINDS = ["introduced", "fixed", "last_affected", "limit"] as const;

function changesOf(event: OsvEvent): Change[] {
  return KINDS.flatMap((kind) => {
    const at = event[kind];
    return typeof at === "string" ? [{ kind, at }] : [];
  });
}

/** `introduced: "0"` is before every version, a limit containing `*` after every one. */
function isSpecial({ kind, at }: Change): boolean {
  return (kind === "introduced" && at === "0") || (kind === "limit" && at.includes("*"));
}

/** By version; equal ones in the record's order. */
function inOrder(changes: readonly Change[], versioning: Versioning): Change[] {
  return changes
    .filter(({ kind }) => kind !== "limit")
    .toSorted((a, b) => {
      const [first, second] = [isSpecial(a), isSpecial(b)];
      if (first || second) return Number(second) - Number(first);
      return versioning.compare(a.at, b.at);
    });
}
