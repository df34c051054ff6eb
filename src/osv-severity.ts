import * as v from "valibot";
import type { Severity } from "./doc-plan-evidence.ts";
import { cvssBaseScore } from "./osv-cvss.ts";
import { type OsvAffected, type OsvRecord, Ratings } from "./osv-record.ts";

/** From least to most severe. Unknown ranks above none. */
const ASCENDING: readonly Severity[] = ["none", "unknown", "low", "medium", "high", "critical"];

/** Sort key of a severity: higher is more severe. */
export function severityRank(severity: Severity): number {
  return ASCENDING.indexOf(severity);
}

/** The databases' terms: GitHub's severities, Ubuntu's priorities, Debian's urgencies. */
const WORDS: ReadonlyMap<string, Severity> = new Map([
  ["none", "none"],
  ["unimportant", "low"],
  ["negligible", "low"],
  ["low", "low"],
  ["medium", "medium"],
  ["moderate", "medium"],
  ["high", "high"],
  ["important", "high"],
  ["critical", "critical"],
]);

const word = v.fallback(v.optional(v.string()), undefined);
/** Fields for the databases' own ratings; Ubuntu's notices have one per CVE. */
const Specific = v.object({
  severity: word,
  urgency: word,
  priority: word,
  ubuntu_priority: word,
  cves_map: v.fallback(
    v.optional(v.object({ cves: v.pipe(v.array(v.object({ severity: Ratings })), v.maxLength(5000)) })),
    undefined,
  ),
});

/** Debian's word for what is no security problem in its packages: its tracker does not list it as open. */
const UNIMPORTANT = "unimportant";

/**
 * The most severe rating a record has for a package; `entries` are its entries for that package. An unreadable rating
 * counts as unknown, so that it can't leave "none" from the others. What Debian calls unimportant is low, whatever it scores upstream. A
 * malicious package is critical.
 */
export function severityOf(record: OsvRecord, entries: readonly OsvAffected[]): Severity {
  if ([record.id, ...record.aliases].some((id) => id.startsWith("MAL-"))) return "critical";
  if (entries.length > 0 && entries.every(isUnimportant)) return "low";
  const found = [
    ...ratingsIn(record.severity),
    ...specificOf(record.database_specific),
    ...entries.flatMap((entry) => [
      ...ratingsIn(entry.severity),
      ...specificOf(entry.ecosystem_specific),
      ...specificOf(entry.database_specific),
    ]),
  ];
  if (found.length === 0) return "unknown";
  return found.reduce((a, b) => (severityRank(b) > severityRank(a) ? b : a));
}

function isUnimportant({ ecosystem_specific }: OsvAffected): boolean {
  if (ecosystem_specific === undefined) return false;
  const parsed = v.safeParse(Specific, ecosystem_specific, { abortEarly: true });
  return parsed.success && parsed.output.urgency === UNIMPORTANT;
}

function ratingsIn(ratings: OsvAffected["severity"]): Severity[] {
  return ratings.map(({ score }) => ratingOf(score));
}

function specificOf(value: unknown): Severity[] {
  if (value === undefined) return [];
  const parsed = v.safeParse(Specific, value, { abortEarly: true });
  if (!parsed.success) return [];
  const { cves_map, ...words } = parsed.output;
  const cves = cves_map?.cves ?? [];
  const stated = Object.values(words).flatMap((text) => (text === undefined ? [] : [ratingOf(text)]));
  return [...stated, ...cves.flatMap(({ severity }) => ratingsIn(severity))];
}

/**
 * The rating of a CVSS vector or a database's term; Debian marks guessed urgencies with asterisks. CVSS 2, which
 * defines no bands, uses those of CVSS 3 and 4 (3.1 specification, 5): 10.0 is critical in any version.
 */
function ratingOf(text: string): Severity {
  const known = rated.get(text);
  if (known !== undefined) return known;
  const rating = rate(text);
  if (rated.size < MAX_RATED) rated.set(text, rating);
  return rating;
}

/** Ratings by text: 50,000 records have a few hundred vectors, of which each takes 50 microseconds. */
const rated = new Map<string, Severity>();
const MAX_RATED = 10_000;

function rate(text: string): Severity {
  const score = cvssBaseScore(text);
  if (score === null) return WORDS.get(text.toLowerCase().replace(/\*+$/, "")) ?? "unknown";
  if (score === 0) return "none";
  return score < 4 ? "low" : score < 7 ? "medium" : score < 9 ? "high" : "critical";
}
