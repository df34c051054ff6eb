import * as v from "valibot";
import type { Severity } from "./doc-plan.ts";
import { cvssBaseScore } from "./osv-cvss.ts";
import { type OsvAffected, type OsvRecord, Ratings } from "./osv-record.ts";

/** From the least to the most grave. Not knowing is graver than a rating of nothing. */
const GRAVITY: readonly Severity[] = ["none", "unknown", "low", "medium", "high", "critical"];

/** How grave, as a number for sorting: higher is graver. */
export function gravity(severity: Severity): number {
  return GRAVITY.indexOf(severity);
}

/** Words of the databases: GitHub's severities, Ubuntu's priorities, Debian's urgencies. */
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
/** Where databases put their own rating; Ubuntu's notices have one for each CVE that they cover. */
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

/**
 * The gravest rating that a record has for a package, `entries` being what it says of it. A rating that can't be read counts
 * as unknown, so that it never makes one of nothing out of the others. A package that is itself malicious is critical.
 */
export function severityOf(record: OsvRecord, entries: readonly OsvAffected[]): Severity {
  if ([record.id, ...record.aliases].some((id) => id.startsWith("MAL-"))) return "critical";
  const found = [
    ...record.severity.map(({ score }) => ratingOf(score)),
    ...specificOf(record.database_specific),
    ...entries.flatMap((entry) => [
      ...entry.severity.map(({ score }) => ratingOf(score)),
      ...specificOf(entry.ecosystem_specific),
      ...specificOf(entry.database_specific),
    ]),
  ];
  if (found.length === 0) return "unknown";
  return found.reduce((a, b) => (gravity(b) > gravity(a) ? b : a));
}

function specificOf(value: unknown): Severity[] {
  const parsed = v.safeParse(Specific, value, { abortEarly: true });
  if (!parsed.success) return [];
  const { cves_map, ...words } = parsed.output;
  const cves = cves_map?.cves ?? [];
  const scores = cves.flatMap(({ severity }) => severity.map(({ score }) => score));
  return [...Object.values(words), ...scores].flatMap((text) => (text === undefined ? [] : [ratingOf(text)]));
}

/**
 * A CVSS vector or a database's word; Debian marks an urgency that is only guessed with asterisks. The bands are those of
 * CVSS 3 and 4 (3.1 specification, 5) for CVSS 2 too, which has none by itself: a 10.0 is critical by whichever version.
 */
function ratingOf(text: string): Severity {
  const score = cvssBaseScore(text);
  if (score === null) return WORDS.get(text.toLowerCase().replace(/\*+$/, "")) ?? "unknown";
  if (score === 0) return "none";
  return score < 4 ? "low" : score < 7 ? "medium" : score < 9 ? "high" : "critical";
}
