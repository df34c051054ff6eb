import * as v from "valibot";
import type { VulnerabilityEvidence } from "./operation-plan.ts";
import { type OsvAffected, type OsvRecord, Ratings } from "./osv-record.ts";

export type Severity = v.InferOutput<typeof VulnerabilityEvidence>["severity"];

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
 * The gravest rating that a record has for a package, `entries` being what it says of it. CVSS 4 vectors are not computed:
 * such a record is rated by its database's own word, if there is one. A package that is itself malicious is critical.
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
  ].filter((one) => one !== "unknown");
  if (found.length === 0) return "unknown";
  return found.reduce((a, b) => (gravity(b) > gravity(a) ? b : a));
}

function specificOf(value: unknown): Severity[] {
  const parsed = v.safeParse(Specific, value, { abortEarly: true });
  if (!parsed.success) return [];
  const { cves_map, ...words } = parsed.output;
  const cves = cves_map?.cves ?? [];
  const scores = cves.flatMap(({ severity }) => severity.map(({ score }) => score));
  return [...Object.values(words), ...scores].map((text) => ratingOf(text ?? ""));
}

/** A CVSS 3 vector or a database's word; Debian marks an urgency that is only guessed with asterisks. */
function ratingOf(text: string): Severity {
  const score = cvss3BaseScore(text);
  if (score === null) return WORDS.get(text.toLowerCase().replace(/\*+$/, "")) ?? "unknown";
  if (score === 0) return "none";
  return score < 4 ? "low" : score < 7 ? "medium" : score < 9 ? "high" : "critical";
}

/** Numerical values of the base metrics (CVSS 3.1 specification, 7.4); PR has others where the scope changes. */
const METRICS: ReadonlyMap<string, Readonly<Record<string, number>>> = new Map([
  ["AV", { N: 0.85, A: 0.62, L: 0.55, P: 0.2 }],
  ["AC", { L: 0.77, H: 0.44 }],
  ["PR", { N: 0.85, L: 0.62, H: 0.27 }],
  ["UI", { N: 0.85, R: 0.62 }],
  ["S", { U: 0, C: 1 }],
  ["C", { H: 0.56, L: 0.22, N: 0 }],
  ["I", { H: 0.56, L: 0.22, N: 0 }],
  ["A", { H: 0.56, L: 0.22, N: 0 }],
]);
const PRIVILEGES_SCOPE_CHANGED: Readonly<Record<string, number>> = { N: 0.85, L: 0.68, H: 0.5 };

/**
 * The base score, 0–10, of a CVSS 3.0 or 3.1 vector; null for anything else. Temporal and environmental metrics are left
 * out of account.
 * @see https://www.first.org/cvss/v3.1/specification-document section 7.1
 */
export function cvss3BaseScore(vector: string): number | null {
  if (!/^CVSS:3\.[01]\//.test(vector)) return null;
  const given = new Map<string, string>();
  for (const part of vector.split("/").slice(1)) {
    const [name = "", value = "", ...rest] = part.split(":");
    if (given.has(name) || value === "" || rest.length > 0) return null;
    given.set(name, value);
  }
  const changed = given.get("S") === "C";
  const numbers: number[] = [];
  for (const [name, usual] of METRICS) {
    const values = name === "PR" && changed ? PRIVILEGES_SCOPE_CHANGED : usual;
    const value = given.get(name) ?? "";
    const number = Object.hasOwn(values, value) ? values[value] : undefined;
    if (number === undefined) return null;
    numbers.push(number);
  }
  const [av = 0, ac = 0, pr = 0, ui = 0, , c = 0, i = 0, a = 0] = numbers;
  const iss = 1 - (1 - c) * (1 - i) * (1 - a);
  const impact = changed ? 7.52 * (iss - 0.029) - 3.25 * (iss - 0.02) ** 15 : 6.42 * iss;
  if (impact <= 0) return 0;
  const sum = impact + 8.22 * av * ac * pr * ui;
  return roundUp(Math.min(changed ? 1.08 * sum : sum, 10));
}

/** To one decimal, upwards; the detour through integers keeps 4.02 from becoming 4.1 by a rounding error (Appendix A). */
function roundUp(value: number): number {
  const scaled = Math.round(value * 100_000);
  return scaled % 10_000 === 0 ? scaled / 100_000 : (Math.floor(scaled / 10_000) + 1) / 10;
}
