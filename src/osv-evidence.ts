import { byCodeUnit } from "./canonical.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { VulnerabilityEvidence } from "./doc-plan-evidence.ts";
import { cveIn } from "./doc-vulnerabilities.ts";
import type { OsvEcosystem } from "./eco-grammar.ts";
import { judgeVersion } from "./osv-range.ts";
import type { OsvData, OsvRecord } from "./osv-record.ts";
import { entriesFor, type OsvSubject } from "./osv-subjects.ts";
import { statedAbout } from "./osv-vex.ts";

/*
 * The rows of a plan's vulnerability evidence: which records apply to which versions, with what CISA, FIRST and VEX documents say of them.
 */

type Evidence = OperationPlan["vulnerability_evidence"];

/** More would make the signed plan too large for the executor. */
const MAX_EVIDENCE = 2000;
/** Names of a record that the plan repeats. */
const MAX_ALIASES = 200;

/**
 * Evidence from the records about the subjects, what is read first: exploited and grave ones, then what the change introduces, fixes
 * and leaves. `left_out` is what a plan has no room for. `source` names the data.
 */
export async function vulnerabilityRows(
  subjects: readonly OsvSubject[],
  data: OsvData,
  ecosystem: OsvEcosystem,
  source: string,
): Promise<{ evidence: Evidence; left_out: Evidence }> {
  // Loaded here, since plans without records need no scores and the library is large.
  const { severityRank, severityOf } = await import("./osv-severity.ts");
  // Each record's entries by name once: a hostile record has as many as an index holds.
  const known = uniqueRecords(data.records).map((record) => ({
    record,
    entriesOf: Map.groupBy(record.affected, (entry) => entry.package?.name ?? ""),
  }));
  const byName = Map.groupBy(
    known.flatMap((one) => [...one.entriesOf.keys()].map((name) => ({ name, one }))),
    ({ name }) => name,
  );
  const stated = statedAbout(data.vex ?? [], subjects, ecosystem);
  const rows = subjects.flatMap((subject) => {
    const records = new Set(subject.names.flatMap((name) => (byName.get(name) ?? []).map(({ one }) => one)));
    return [...records].flatMap(({ record, entriesOf }): Evidence => {
      const about = [...new Set(subject.names)].flatMap((name) => entriesOf.get(name) ?? []);
      const entries = entriesFor(about, subject);
      if (entries.length === 0) return [];
      const { affected, fixed } = judgeVersion(entries, subject.osvVersion, ecosystem.versioning);
      if (!affected) return [];
      const aliases = [...new Set([...record.aliases, ...record.upstream])];
      const cves = [...new Set([record.id, ...aliases].flatMap((id) => cveIn(id) ?? []))];
      const named = subject.names.at(-1) ?? subject.package;
      const vex = stated(subject, cves.length > 0 ? cves : [record.id, ...aliases]);
      return [
        {
          package: subject.package,
          version: subject.version,
          matched_version: subject.osvVersion,
          applies_to: subject.appliesTo,
          id: record.id,
          aliases: aliases.slice(0, MAX_ALIASES),
          severity: severityOf(record, entries),
          fixed_version: fixed,
          data_source: source,
          data_age_days: data.ageDays,
          ...(named === subject.package ? {} : { source_package: named }),
          ...exploitedAs(cves, data),
          ...epssOf(cves, data),
          ...(vex === undefined ? {} : { vex }),
        },
      ];
    });
  });
  return cut(joined(rows), severityRank);
}

/** Without withdrawn records; of two with the same id the one modified last counts. */
function uniqueRecords(records: readonly OsvRecord[]): OsvRecord[] {
  const newest = new Map<string, OsvRecord>();
  for (const record of records) {
    const other = newest.get(record.id);
    if (other === undefined || (record.modified ?? "") > (other.modified ?? ""))
      newest.set(record.id, record);
  }
  return [...newest.values()].filter(({ withdrawn }) => withdrawn == null);
}

/** CISA's day of the CVE that it listed first. */
function exploitedAs(
  cves: readonly string[],
  { exploited }: OsvData,
): Pick<VulnerabilityEvidence, "known_exploited"> {
  const [first] = cves
    .flatMap((cve) => {
      const since = exploited?.get(cve);
      return since === undefined ? [] : [{ cve, since }];
    })
    .sort((a, b) => byCodeUnit(a.since, b.since));
  return first === undefined ? {} : { known_exploited: first };
}

function epssOf(cves: readonly string[], { epss }: OsvData): Pick<VulnerabilityEvidence, "epss"> {
  const [first] = cves
    .flatMap((cve) => {
      const scored = epss?.get(cve);
      return scored === undefined ? [] : [{ cve, ...scored }];
    })
    .sort((a, b) => b.score - a.score);
  return first === undefined ? {} : { epss: first };
}

/** A record of both versions of a package becomes one row, that of the new version. */
function joined(rows: Evidence): Evidence {
  const key = (row: VulnerabilityEvidence) => `${row.source_package ?? row.package} ${row.id}`;
  const [fresh, old] = [
    rows.filter(({ applies_to: of }) => of === "new"),
    rows.filter(({ applies_to: of }) => of === "old"),
  ];
  const [isNew, isOld] = [new Set(fresh.map(key)), new Set(old.map(key))];
  return [
    ...fresh.map((row): VulnerabilityEvidence => (isOld.has(key(row)) ? { ...row, also_old: true } : row)),
    ...old.filter((row) => !isNew.has(key(row))),
  ];
}

/**
 * In the order of {@link vulnerabilityRows}. What the plan has no room for are the least severe of those that both versions have, before all
 * others. One record of each severity stays for the new versions, since the policy asks whether there is one.
 */
function cut(
  rows: Evidence,
  severityRank: (severity: VulnerabilityEvidence["severity"]) => number,
): { evidence: Evidence; left_out: Evidence } {
  const isGrave = ({ severity, known_exploited }: VulnerabilityEvidence) =>
    known_exploited !== undefined || severityRank(severity) >= severityRank("high");
  const order = (row: VulnerabilityEvidence) => {
    const side = row.applies_to === "old" ? 1 : row.also_old === true ? 2 : 0;
    return isGrave(row) ? Number(row.applies_to === "old") : 2 + side;
  };
  const exploited = (row: VulnerabilityEvidence) => Number(row.known_exploited !== undefined);
  const sorted = rows
    .map((row) => ({ row, rank: order(row), severity: severityRank(row.severity) }))
    .sort(
      (a, b) =>
        a.rank - b.rank ||
        exploited(b.row) - exploited(a.row) ||
        b.severity - a.severity ||
        (b.row.epss?.score ?? 0) - (a.row.epss?.score ?? 0) ||
        byCodeUnit(a.row.package, b.row.package) ||
        byCodeUnit(a.row.version, b.row.version) ||
        byCodeUnit(a.row.id, b.row.id),
    )
    .map(({ row }) => row);
  const evidence = sorted.slice(0, MAX_EVIDENCE);
  const left_out = sorted.slice(MAX_EVIDENCE);
  const isOfNew = (row: VulnerabilityEvidence) =>
    row.applies_to === "new" && row.fixed_version !== row.matched_version;
  const kept = new Set(evidence.filter(isOfNew).map(({ severity }) => severity));
  for (const row of left_out.filter(isOfNew)) {
    if (kept.has(row.severity)) continue;
    kept.add(row.severity);
    evidence.push(row);
  }
  const added = new Set(evidence.slice(MAX_EVIDENCE));
  return { evidence, left_out: left_out.filter((row) => !added.has(row)) };
}
