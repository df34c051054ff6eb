import { byCodeUnit } from "./canonical.ts";
import { isRuledOut, NO_DATA, vulnerabilitiesOfNewVersions } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { Severity, VulnerabilityEvidence } from "./doc-plan-evidence.ts";

/*
 * What a transaction does about known vulnerabilities. Records are many and overlap: Debian's advisory, its record of the CVE and
 * GitHub's advisory may all be about one flaw, which people want to read once, under the name they know.
 */

/** One vulnerability of one package. */
export interface Vulnerability {
  /** Its CVE where it has one, else GitHub's id, else the record's. */
  name: string;
  /** The ids of its records, and its other names. */
  also: string[];
  /** What it is found in: the source package for apt. */
  package: string;
  /** The record's version of that package: the new one if both versions have it. */
  version: string;
  severity: Severity;
  /** In the numbering of `version`. */
  fixed_version: string | null;
  /** The day CISA listed it. */
  known_exploited?: string;
  /** From 0 to 1, see VulnerabilityEvidence. */
  epss?: number;
  vex?: NonNullable<VulnerabilityEvidence["vex"]>;
}

/** The vulnerabilities of a transaction's versions, each list with the worst first. */
export interface VulnerabilityChange {
  /** In an old version and not in the new one, or removed with it. */
  fixes: Vulnerability[];
  /** In the old version and in the new one. */
  leaves: Vulnerability[];
  /** In a new version alone. */
  introduces: Vulnerability[];
  /** Of the new versions, but not affecting them as the distribution itself states. */
  not_affected: Vulnerability[];
  /** Packages to be installed that a configured source could not answer for. */
  unanswered: string[];
}

/** What the transaction of a plan fixes, leaves and introduces, as far as its evidence goes. */
export function vulnerabilityChange(
  plan: Pick<OperationPlan, "transaction" | "vulnerability_evidence">,
): VulnerabilityChange {
  const fresh = new Set(vulnerabilitiesOfNewVersions(plan));
  const unanswered = [...fresh].filter(({ id }) => id === NO_DATA).map((row) => row.package);
  const change: VulnerabilityChange = {
    ...{ fixes: [], leaves: [], introduces: [], not_affected: [] },
    unanswered: [...new Set(unanswered)],
  };
  const known = plan.vulnerability_evidence.filter(
    (row) => row.id !== NO_DATA && (fresh.has(row) || row.applies_to === "old"),
  );
  for (const rows of Map.groupBy(known, sourceOf).values()) {
    for (const [name, about] of byName(rows)) {
      const coming = about.filter(({ row }) => fresh.has(row));
      const isOld = about.some(({ row }) => !fresh.has(row) || row.also_old === true);
      const one = merged(name, coming.length > 0 ? coming : about);
      if (isRuledOut(one)) change.not_affected.push(...(coming.length > 0 ? [one] : []));
      else if (coming.length === 0) change.fixes.push(one);
      else change[isOld ? "leaves" : "introduces"].push(one);
    }
  }
  for (const list of [change.fixes, change.leaves, change.introduces, change.not_affected]) {
    list.sort(worstFirst);
  }
  return change;
}

/** `CVE-2024-6387 (critical, exploited since 2024-07-01, EPSS 94%, fixed in 1:9.2p1-2)` */
export function vulnerabilityText(one: Omit<Vulnerability, "also" | "package" | "version">): string {
  const { name, severity, known_exploited: since, epss, vex, fixed_version: fixed } = one;
  const facts = [
    ...(since === undefined ? [] : [`exploited, listed by CISA on ${since}`]),
    severity === "unknown" ? "not rated" : severity,
    ...(epss === undefined || epss < 0.01 ? [] : [`EPSS ${Math.round(epss * 100)}%`]),
    ...(vex === undefined ? [] : [`${vex.status.replaceAll("_", " ")}, says ${vex.author}`]),
    ...(fixed === null ? [] : [`fixed in ${fixed}`]),
  ];
  return `${name} (${facts.join(", ")})`;
}

/** Severities in the order that people are told of them. */
const TOLD = ["critical", "high", "medium", "low", "none", "unknown"] as const;

/** `1 exploited, 3 high, 10 not rated`; an exploited one counts with its severity too. */
export function severityCounts(list: readonly { severity: Severity; known_exploited?: unknown }[]): string {
  const exploited = list.filter(({ known_exploited }) => known_exploited !== undefined).length;
  return [
    ...(exploited === 0 ? [] : [`${exploited} exploited`]),
    ...TOLD.flatMap((severity) => {
      const n = list.filter((one) => one.severity === severity).length;
      return n === 0 ? [] : [`${n} ${severity === "unknown" ? "not rated" : severity}`];
    }),
  ].join(", ");
}

/** Exploited ones first, then by severity, then by EPSS. One without a rating ranks as its EPSS lets expect, and else last. */
export function worstFirst(a: Vulnerability, b: Vulnerability): number {
  const score = ({ epss }: Vulnerability) => epss ?? 0;
  const rank = (one: Vulnerability) =>
    one.severity === "unknown" && score(one) >= LIKELY ? TOLD.indexOf("high") : TOLD.indexOf(one.severity);
  return (
    Number(b.known_exploited !== undefined) - Number(a.known_exploited !== undefined) ||
    rank(a) - rank(b) ||
    score(b) - score(a) ||
    byCodeUnit(a.package, b.package) ||
    byCodeUnit(a.name, b.name)
  );
}

/** An EPSS score that about one vulnerability in thirty reaches. */
const LIKELY = 0.1;

/** The CVE in a record's id or alias: `CVE-2024-6387` of itself, of `DEBIAN-CVE-2024-6387`, of `UBUNTU-CVE-2024-6387`. */
export function cveIn(id: string): string | null {
  return /^(?:[A-Z]+-)?(CVE-\d{4}-\d{4,})$/.exec(id)?.[1] ?? null;
}

function matchedVersion({ version, matched_version }: VulnerabilityEvidence): string {
  return matched_version ?? version;
}

function sourceOf({ source_package, package: name }: VulnerabilityEvidence): string {
  return source_package ?? name;
}

/**
 * A package's records by vulnerability. A record of several CVEs, an advisory, is about each of them; one of a single CVE, or of none,
 * is about one vulnerability, and so are all records that share a name with it.
 */
function byName(rows: readonly VulnerabilityEvidence[]): Map<string, Named[]> {
  const groups = new Groups();
  const named = rows.map((row) => {
    const ids = [row.id, ...row.aliases];
    const cves = [...new Set(ids.flatMap((id) => cveIn(id) ?? []))];
    if (cves.length > 1) return { row, names: cves };
    const [first = row.id] = cves;
    for (const id of ids) groups.join(first, cveIn(id) ?? id);
    return { row, names: [first] };
  });
  const found = new Map<string, Named[]>();
  for (const { row, names: all } of named) {
    const names = new Set(all.map((one) => groups.nameOf(one)));
    for (const name of names) {
      const tells = ({ cve }: { cve: string }) => {
        const of = groups.nameOf(cve);
        return of === name || !names.has(of);
      };
      const one = { row, tells };
      const about = found.get(name);
      if (about === undefined) found.set(name, [one]);
      else about.push(one);
    }
  }
  return found;
}

/** A record under one of its vulnerabilities' names. */
interface Named {
  row: VulnerabilityEvidence;
  /** Whether what is said of a CVE is about this one: unless it is about another of the record's, so that nothing said is lost. */
  tells(said: { cve: string }): boolean;
}

/** Names that stand for one vulnerability. */
class Groups {
  readonly #above = new Map<string, string>();

  /** The best known name of the group: a CVE, else GitHub's. */
  nameOf(name: string): string {
    let top = name;
    for (let next = this.#above.get(top); next !== undefined; next = this.#above.get(top)) top = next;
    return top;
  }

  join(a: string, b: string): void {
    const [first, second] = [this.nameOf(a), this.nameOf(b)];
    if (first === second) return;
    const [best, other] = renown(first, second) <= 0 ? [first, second] : [second, first];
    this.#above.set(other, best);
  }
}

function renown(a: string, b: string): number {
  const rank = (id: string) => (id.startsWith("CVE-") ? 0 : id.startsWith("GHSA-") ? 1 : 2);
  return rank(a) - rank(b) || byCodeUnit(a, b);
}

/** One vulnerability from its records. A rating of this one alone says more than the worst of an advisory about several. */
function merged(name: string, about: readonly Named[]): Vulnerability {
  const rows = about.map(({ row }) => row);
  const alone = rows.filter(
    (row) => new Set([row.id, ...row.aliases].flatMap((id) => cveIn(id) ?? [])).size < 2,
  );
  const rated = alone.filter(({ severity }) => severity !== "unknown");
  const [first] = rows;
  const worst = (rated.length > 0 ? rated : rows)
    .map(({ severity }) => severity)
    .reduce((a, b) => (TOLD.indexOf(b) < TOLD.indexOf(a) ? b : a), "unknown");
  const [exploited] = about
    .flatMap(({ row: { known_exploited: it }, tells }) => (it !== undefined && tells(it) ? [it.since] : []))
    .sort();
  const [epss] = about
    .flatMap(({ row: { epss: it }, tells }) => (it !== undefined && tells(it) ? [it.score] : []))
    .sort((a, b) => b - a);
  const facts = alone.length > 0 ? alone : rows;
  const vex = facts.every(isRuledOut)
    ? first?.vex
    : facts.map((row) => row.vex).find((one) => one !== undefined && !isRuledOut({ vex: one }));
  return {
    name,
    also: [...new Set(rows.flatMap(({ id, aliases }) => [id, ...(rows.length === 1 ? aliases : [])]))].filter(
      (id) => id !== name,
    ),
    package: first === undefined ? "" : sourceOf(first),
    version: first === undefined ? "" : matchedVersion(first),
    severity: worst,
    fixed_version: facts.find(({ fixed_version }) => fixed_version !== null)?.fixed_version ?? null,
    ...(exploited === undefined ? {} : { known_exploited: exploited }),
    ...(epss === undefined ? {} : { epss }),
    ...(vex === undefined ? {} : { vex }),
  };
}
