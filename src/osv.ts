import { NO_DATA, VULNERABILITY_WARNING } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type Tool } from "./doc-plan.ts";
import { severityCounts } from "./doc-vulnerabilities.ts";
import type { Findings } from "./eco.ts";
import type { Grammar } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { messageOf } from "./errors.ts";
import { vulnerabilityRows } from "./osv-evidence.ts";
import { STALE_DAYS } from "./osv-index.ts";
import type { OsvData } from "./osv-record.ts";
import { type Lookup, NO_SOURCE, nameable, type OsvSource, sourceOf } from "./osv-source.ts";
import { type OsvSubject, subjectsOf } from "./osv-subjects.ts";
import { plural } from "./terminal.ts";

/*
 * Vulnerability evidence: OSV records for the exact versions a plan installs and removes.
 *
 * Without a source nothing is known, and the plan has a warning. A source that can't be used leaves evidence
 * of unknown severity for every version to be installed: policy then requires a person, since silence would look like a
 * clean result.
 */

/** Versions without data that a plan names; the policy needs one. */
const MAX_UNANSWERED = 2000;
/** Problems listed individually. */
const LISTED = 3;

type Evidence = OperationPlan["vulnerability_evidence"];
/** The findings read and extended here. */
type VulnerabilityFindings = Pick<
  Findings,
  "transaction" | "repository_evidence" | "vulnerability_evidence" | "warnings"
>;

/**
 * Adds known vulnerabilities in the transaction to the findings, from AEGIS_OSV_DIR (an absolute directory), else from
 * AEGIS_OSV_URL, else from the host's own data. Never throws: a failure becomes evidence and a warning.
 */
export async function withVulnerabilities<T extends VulnerabilityFindings>(
  grammar: Grammar,
  findings: T,
  planning: Planning,
): Promise<T> {
  if (findings.transaction.length === 0) return findings;
  const { evidence, warnings } = await lookUp(grammar, findings, planning);
  return {
    ...findings,
    vulnerability_evidence: [...findings.vulnerability_evidence, ...evidence],
    warnings: [...findings.warnings, ...warnings.map((text) => `${VULNERABILITY_WARNING}${text}`)],
  };
}

/** The same for exact versions that are installed. What could not be looked up is evidence with the id {@link NO_DATA}. */
export function vulnerabilitiesOf(
  grammar: Grammar,
  installed: readonly { name: string; version: string }[],
  lookup: Lookup,
): Promise<{ evidence: Evidence; warnings: string[] }> {
  const transaction = installed.map(({ name, version }) => ({
    ...{ name, architecture: "all", action: "install" as const, from_version: null, to_version: version },
    ...{ origin: null, archive: null, sha256: null, size: null, essential: false, source: null },
    ...{ from_source: null, to_source: null, sources: [] },
  }));
  const none = { repository_evidence: [], vulnerability_evidence: [], warnings: [] };
  return lookUp(grammar, { transaction, ...none }, lookup);
}

async function lookUp(
  { tool, osv }: Grammar,
  findings: VulnerabilityFindings,
  planning: Lookup,
): Promise<{ evidence: Evidence; warnings: string[] }> {
  const ecosystem = osv(planning.host);
  const source = sourceOf(planning, ecosystem);
  if (source === null) {
    // Removals and repairs fetch nothing, so no lookup is expected.
    const warnings = findings.transaction.some(isFetched) ? [`not looked up: ${NO_SOURCE}`] : [];
    return { evidence: [], warnings };
  }
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
  const known = await vulnerabilityRows(subjects, data, ecosystem, source.name);
  const unknown = unanswered(subjects, data, source);
  return {
    evidence: [...unknown.evidence.slice(0, MAX_UNANSWERED), ...known.evidence],
    warnings: [
      ...unknown.warnings,
      ...leftOutWarning(known),
      ...(data.ageDays !== null && data.ageDays > STALE_DAYS
        ? [`The vulnerability data in ${source.name} is ${data.ageDays} days old.`]
        : []),
      ...(data.notes ?? []).map((what) => `${nameable(what)}.`),
      ...outsideWarning(tool, findings),
    ],
  };
}

/** `5102 records apply; the plan has no room for 3102 of them: 3000 not rated, 102 low. …` */
function leftOutWarning({
  evidence,
  left_out: out,
}: Awaited<ReturnType<typeof vulnerabilityRows>>): string[] {
  if (out.length === 0) return [];
  const both = out.filter(({ also_old }) => also_old === true).length;
  const old = out.filter(({ applies_to }) => applies_to === "old").length;
  const sides = [
    ...(both === 0 ? [] : [`${both} of what the old versions have too`]),
    ...(old === 0 ? [] : [`${old} of what the change fixes`]),
    ...(out.length > both + old ? [`${out.length - both - old} of what it introduces`] : []),
  ];
  return [
    `${evidence.length + out.length} records apply; the plan leaves out ${plural(out.length, "record")}, the least severe: ${sides.join(", ")} (${severityCounts(out)}).`,
  ];
}

/** The versions that a source's problems leave undecided. */
function unanswered(subjects: readonly OsvSubject[], data: OsvData, source: OsvSource) {
  const all = data.problems.some(({ names }) => names === null);
  const open = new Set(data.problems.flatMap(({ names }) => names ?? []));
  const affected = subjects.filter(
    ({ appliesTo, names }) => appliesTo === "new" && (all || names.some((name) => open.has(name))),
  );
  return noData(affected, source, [...new Set(data.problems.map(({ what }) => what))]);
}

function noData(
  versions: readonly { package: string; version: string }[],
  source: OsvSource,
  problems: readonly string[],
): { evidence: Evidence; warnings: string[] } {
  const more = problems.length > LISTED ? `; and ${plural(problems.length - LISTED, "more problem")}` : "";
  const listed = problems.slice(0, LISTED).map((what) => nameable(what));
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
        : [`The vulnerability data in ${source.name} could not be used: ${listed.join("; ")}${more}.`],
  };
}

function newVersion({ name, to_version }: Findings["transaction"][number]) {
  return to_version === null ? [] : [{ package: name, version: to_version }];
}

/** OSV covers only packages built by the distribution. */
function outsideWarning(tool: Tool, { transaction, repository_evidence }: VulnerabilityFindings): string[] {
  const own = new Set(
    repository_evidence
      .filter(({ trust }) => trust === "distribution" || trust === "snapshot")
      .map(({ id }) => id),
  );
  const outside = transaction.filter(
    ({ to_version, sources }) => tool === "apt" && to_version !== null && !sources.some((id) => own.has(id)),
  );
  if (outside.length === 0) return [];
  const names = outside.slice(0, LISTED).map(({ name }) => name);
  const more = outside.length > LISTED ? ", …" : "";
  return [
    `${plural(outside.length, "package")} from outside the distribution (${names.join(", ")}${more}): OSV's records do not cover them.`,
  ];
}
