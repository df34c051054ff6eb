import { isAbsolute } from "node:path";
import { byCodeUnit } from "./canonical.ts";
import { NO_DATA, VULNERABILITY_WARNING } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type Tool } from "./doc-plan.ts";
import type { Findings } from "./eco.ts";
import type { Grammar, OsvEcosystem } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { messageOf } from "./errors.ts";
import { readOsvDirectory } from "./osv-directory.ts";
import { judgeVersion } from "./osv-range.ts";
import type { OsvData, OsvRecord } from "./osv-record.ts";
import { entriesFor, type OsvSubject, subjectsOf } from "./osv-subjects.ts";
import { plural } from "./terminal.ts";

/*
 * Vulnerability evidence: OSV records for the exact versions that a plan installs and takes away.
 *
 * Without a source nothing is known, and the plan says so in a warning. A source that is configured but can't be used leaves
 * evidence of unknown severity for every version to be installed: policy then asks for a person, because silence would
 * look like a clean answer.
 */

/** More evidence would make the signed plan larger than the executor takes. The least grave is left out. */
const MAX_EVIDENCE = 2000;
/** Data older than this is told in a warning. */
const STALE_DAYS = 14;
/** Problems told one by one. */
const TOLD = 3;

type Evidence = OperationPlan["vulnerability_evidence"];
/** What is looked at, and added to. */
type Looked = Pick<Findings, "transaction" | "repository_evidence" | "vulnerability_evidence" | "warnings">;

interface Source {
  /** For people and the plan; no credentials. */
  name: string;
  read(subjects: readonly OsvSubject[], ecosystem: OsvEcosystem): Promise<OsvData>;
}

/**
 * The findings with what is known of vulnerabilities in their transaction, by AEGIS_OSV_DIR (an absolute directory) or,
 * where that is not set, AEGIS_OSV_URL. Never throws: what fails is evidence and a warning.
 */
export async function withVulnerabilities<T extends Looked>(
  grammar: Grammar,
  findings: T,
  planning: Planning,
): Promise<T> {
  if (findings.transaction.length === 0) return findings;
  const { evidence, warnings } = await look(grammar, findings, planning);
  return {
    ...findings,
    vulnerability_evidence: [...findings.vulnerability_evidence, ...evidence],
    warnings: [...findings.warnings, ...warnings.map((text) => `${VULNERABILITY_WARNING}${text}`)],
  };
}

async function look(
  { tool, osv }: Grammar,
  findings: Looked,
  planning: Planning,
): Promise<{ evidence: Evidence; warnings: string[] }> {
  const source = sourceOf(planning);
  if (source === null) {
    // What only takes away or finishes fetches nothing, so nobody expects an answer.
    const warnings = findings.transaction.some(isFetched)
      ? ["not looked up: neither AEGIS_OSV_DIR nor AEGIS_OSV_URL is set."]
      : [];
    return { evidence: [], warnings };
  }
  const ecosystem = osv(planning.host);
  if (ecosystem === null) {
    const { os_id, os_version } = planning.host;
    const what = tool === "apt" ? `packages of ${os_id} ${os_version}` : `${tool} packages`;
    return noData(findings.transaction.flatMap(newVersion), source, [`OSV has no records for ${what}`]);
  }
  const subjects = subjectsOf(findings.transaction, ecosystem);
  const data = await source.read(subjects, ecosystem).catch(
    (error: unknown): OsvData => ({
      records: [],
      problems: [{ names: null, what: messageOf(error) }],
      ageDays: null,
    }),
  );
  const known = await evidenceOf(subjects, data, ecosystem, source);
  const unknown = unanswered(subjects, data, source);
  return {
    evidence: [...unknown.evidence.slice(0, MAX_EVIDENCE), ...known.slice(0, MAX_EVIDENCE)],
    warnings: [
      ...unknown.warnings,
      ...(known.length > MAX_EVIDENCE
        ? [`${known.length} vulnerabilities are known; the plan has the ${MAX_EVIDENCE} gravest.`]
        : []),
      ...(data.ageDays !== null && data.ageDays > STALE_DAYS
        ? [`The vulnerability data in ${source.name} is ${data.ageDays} days old.`]
        : []),
      ...outsideWarning(tool, findings),
    ],
  };
}

function sourceOf({ env, now, readText, list }: Planning): Source | null {
  const directory = env.AEGIS_OSV_DIR ?? "";
  if (directory !== "") {
    return {
      name: nameable(directory),
      async read(subjects, { base }) {
        if (!isAbsolute(directory)) throw new Error("AEGIS_OSV_DIR is not an absolute path");
        const names = new Set(subjects.flatMap((subject) => subject.names));
        return readOsvDirectory(directory, base, names, { now, readText, list });
      },
    };
  }
  const address = env.AEGIS_OSV_URL ?? "";
  if (address === "") return null;
  const url = URL.canParse(address) ? new URL(address) : null;
  return {
    name: url === null ? "AEGIS_OSV_URL" : nameable(url.origin + url.pathname),
    async read(subjects) {
      const [{ queryOsvApi }, { isLoopback }] = await Promise.all([
        import("./osv-api.ts"),
        import("./sys-fetch.ts"),
      ]);
      const safe =
        url !== null && (url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url)));
      if (!safe) throw new Error("AEGIS_OSV_URL is not an https: address");
      if (url.username !== "" || url.password !== "" || url.search !== "") {
        throw new Error("AEGIS_OSV_URL must have no credentials and no query");
      }
      return queryOsvApi(url, subjects);
    },
  };
}

function nameable(text: string): string {
  return text.slice(0, 1024).toWellFormed();
}

/** What the records say of the subjects, the gravest of what would be installed first. */
async function evidenceOf(
  subjects: readonly OsvSubject[],
  data: OsvData,
  ecosystem: OsvEcosystem,
  source: Source,
): Promise<Evidence> {
  // Only here, since a plan without a record needs no scores, and their library is large.
  const { gravity, severityOf } = await import("./osv-severity.ts");
  const byName = new Map<string, OsvRecord[]>();
  for (const record of uniqueRecords(data.records)) {
    for (const name of new Set(record.affected.map((entry) => entry.package?.name ?? ""))) {
      const about = byName.get(name);
      if (about === undefined) byName.set(name, [record]);
      else about.push(record);
    }
  }
  const evidence = subjects.flatMap((subject) => {
    const records = new Set(subject.names.flatMap((name) => byName.get(name) ?? []));
    return [...records].flatMap((record): Evidence => {
      const entries = entriesFor(record.affected, subject);
      if (entries.length === 0) return [];
      const { affected, fixed } = judgeVersion(entries, subject.osvVersion, ecosystem.versioning);
      if (!affected) return [];
      return [
        {
          package: subject.package,
          version: subject.version,
          matched_version: subject.osvVersion,
          applies_to: subject.appliesTo,
          id: record.id,
          aliases: [...new Set([...record.aliases, ...record.upstream])],
          severity: severityOf(record, entries),
          fixed_version: fixed,
          data_source: source.name,
          data_age_days: data.ageDays,
        },
      ];
    });
  });
  return evidence.sort(
    (a, b) =>
      byCodeUnit(a.applies_to, b.applies_to) ||
      gravity(b.severity) - gravity(a.severity) ||
      byCodeUnit(a.package, b.package) ||
      byCodeUnit(a.version, b.version) ||
      byCodeUnit(a.id, b.id),
  );
}

/** Without withdrawn ones; of two with one id the one modified last is authoritative. */
function uniqueRecords(records: readonly OsvRecord[]): OsvRecord[] {
  const newest = new Map<string, OsvRecord>();
  for (const record of records) {
    const other = newest.get(record.id);
    if (other === undefined || (record.modified ?? "") > (other.modified ?? ""))
      newest.set(record.id, record);
  }
  return [...newest.values()].filter(({ withdrawn }) => withdrawn == null);
}

/** The versions for which a source's problems leave the question open. */
function unanswered(subjects: readonly OsvSubject[], data: OsvData, source: Source) {
  const all = data.problems.some(({ names }) => names === null);
  const open = new Set(data.problems.flatMap(({ names }) => names ?? []));
  const affected = subjects.filter(
    ({ appliesTo, names }) => appliesTo === "new" && (all || names.some((name) => open.has(name))),
  );
  return noData(affected, source, [...new Set(data.problems.map(({ what }) => what))]);
}

function noData(
  versions: readonly { package: string; version: string }[],
  source: Source,
  problems: readonly string[],
): { evidence: Evidence; warnings: string[] } {
  const more = problems.length > TOLD ? `; and ${plural(problems.length - TOLD, "more problem")}` : "";
  const told = problems.slice(0, TOLD).map((what) => nameable(what));
  return {
    evidence: versions.map((one) => ({
      package: one.package,
      version: one.version,
      matched_version: null,
      applies_to: "new",
      id: NO_DATA,
      aliases: [],
      severity: "unknown",
      fixed_version: null,
      data_source: source.name,
      data_age_days: null,
    })),
    warnings:
      problems.length === 0
        ? []
        : [`The vulnerability data in ${source.name} could not be used: ${told.join("; ")}${more}.`],
  };
}

function newVersion({ name, to_version }: Findings["transaction"][number]) {
  return to_version === null ? [] : [{ package: name, version: to_version }];
}

/** OSV covers what a distribution builds itself. */
function outsideWarning(tool: Tool, { transaction, repository_evidence }: Looked): string[] {
  const own = new Set(
    repository_evidence.filter(({ trust }) => trust === "distribution").map(({ id }) => id),
  );
  const outside = transaction.filter(
    ({ to_version, sources }) => tool === "apt" && to_version !== null && !sources.some((id) => own.has(id)),
  );
  if (outside.length === 0) return [];
  const names = outside.slice(0, TOLD).map(({ name }) => name);
  const more = outside.length > TOLD ? ", …" : "";
  return [
    `${plural(outside.length, "package")} from outside the distribution (${names.join(", ")}${more}): OSV's records do not cover them.`,
  ];
}
