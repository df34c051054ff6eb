import { FIRST_SEEN, FirstSeen, keyOf, renderFirstSeen } from "./apt-first-seen.ts";
import { indexesDigest, packageFilesOf, sealIndexes } from "./apt-indexes.ts";
import { canonicalHash } from "./canonical.ts";
import { checkedTrust, isOfDistribution, releaseTime } from "./doc-evidence.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { type Finding, warn } from "./finding.ts";
import { readText, writeFileAtomic } from "./sys-files.ts";

/*
 * Keeps the record of first sightings (apt-first-seen.ts). Whatever isn't known makes a file younger, never older, so that it is denied
 * rather than let through: a lost record starts again with today, and a clock that was set back counts as the time of the last look.
 */

/** Most files recorded: about 22 MB. A host with all of Debian's sections has some 70,000. */
const MAX_FILES = 500_000;
const MS_PER_DAY = 86_400_000;

/** What a look depends on besides the host's indexes. `path` and `max` are for tests. */
interface Look {
  now: Date;
  /** Whether the monitor has run before, so that there should be a record. */
  hasRun: boolean;
  path?: string;
  max?: number;
}

/**
 * Records the day for each package file that trusted sources offer and that wasn't recorded yet. Where neither indexes nor trust
 * have changed since the last look, nothing is read. Returns what people should know, or null.
 * @throws AegisError `refused`, `drift` for indexes that can't be relied on, as {@link sealIndexes}; nothing is recorded then
 */
export async function recordFirstSeen(
  lists: string,
  evidence: readonly RepositoryEvidence[],
  { now, hasRun, path = FIRST_SEEN, max = MAX_FILES }: Look,
): Promise<Finding | null> {
  const trusted = evidence.filter((one) => checkedTrust(one) !== "untrusted");
  const of = canonicalHash([indexesDigest(lists), trusted.map(({ id, trust }) => `${trust} ${id}`)]);
  const before = new FirstSeen(readText(path));
  const isBehind = before.lookedAt !== null && Date.parse(before.lookedAt) > now.getTime() + MS_PER_DAY;
  if (isBehind) {
    return warn(
      "first-seen",
      `package versions were last recorded at ${before.lookedAt}, which is still to come: a clock is or was wrong, so that new ones count as not known`,
      `If the clock is right now: rm ${path}; the monitor starts it again.`,
    );
  }
  if (before.of === of) return null;

  const held = sealIndexes(
    lists,
    trusted.map(({ id }) => id),
  );
  await held.check();
  const at =
    before.lookedAt !== null && before.lookedAt > now.toISOString() ? before.lookedAt : now.toISOString();
  const offered = new Map<string, string>();
  for (const source of trusted) {
    const day = sightedOn(source, at);
    for (const file of await packageFilesOf(lists, source.id)) {
      const key = keyOf(file);
      const known = offered.get(key) ?? before.dayOf(file) ?? day;
      offered.set(key, earlierOf(known, day));
    }
  }
  held.refuseReplaced();
  // Sources that can't be reached for a while don't make their packages new again.
  const all = new Map([...before.entries(), ...offered]);
  const kept = all.size <= max ? all : new Map([...offered].sort(byDay).slice(0, max));
  writeFileAtomic(path, renderFirstSeen(at, of, kept), 0o644);
  if (offered.size > max)
    return warn(
      "first-seen",
      `the sources offer ${offered.size} packages, more than the ${max} whose age is recorded`,
      "",
    );
  return hasRun && before.lookedAt === null
    ? warn(
        "first-seen",
        `${path} was missing or damaged: versions that no index of the distribution dates count as new from now on`,
        "",
      )
    : null;
}

/**
 * The day of a file that a source offers at `at`. An index of the distribution proves that its files are as old as itself, by the
 * signed date; other sources could date theirs back.
 */
function sightedOn(source: RepositoryEvidence, at: string): string {
  const dated = isOfDistribution(source) ? releaseTime(source.release_date ?? "") : null;
  const today = at.slice(0, 10);
  const day = dated === null ? today : new Date(dated).toISOString().slice(0, 10);
  return earlierOf(day, today);
}

/** Of two days, or of two moments, as RFC 3339 writes them. */
function earlierOf(a: string, b: string): string {
  return a.localeCompare(b) < 0 ? a : b;
}

function byDay([a, x]: readonly [string, string], [b, y]: readonly [string, string]): number {
  return x === y ? (a < b ? -1 : 1) : x < y ? -1 : 1;
}
