import { canonicalHash } from "./canonical.ts";
import type { PolicyResult } from "./doc.ts";
import { isStableWarning, vulnerabilitiesOfNewVersions, weightOf } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { type Vulnerability as ShownVulnerability, vulnerabilityChange } from "./doc-vulnerabilities.ts";
import type { Claims } from "./eco-grammar.ts";
import { type Grammars, TABLE } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { atLeast, isGrave, vulnerabilityName } from "./policy-vulnerabilities.ts";

/*
 * What two plans have in common if they are the same change for the same reasons. exec-drift.ts compares the parts one by one,
 * to say what differs; here they are hashed together, so that an approval may name them.
 */

/**
 * SHA-256 of the substance of a plan and its decision: the host (boot included), the change, everything about it that the
 * executor compares with its own plan, and the decision with its rules and configuration. Plans made at different times have
 * the same substance if a person who has read one has read the other: only id, time, raw output and facts that are each side's
 * own may differ. A review is of one plan alone, so plans with different reviews differ.
 * @throws AegisError `not_built` for a tool that this version doesn't have
 */
export function substanceOf(plan: OperationPlan, policy: PolicyResult, grammars: Grammars = TABLE): string {
  const claims = grammars[plan.tool]?.grammar.claims;
  if (claims === undefined) throw new AegisError("not_built", `this version of aegis has no ${plan.tool}`);
  const { plan_id: _id, plan_hash: _hash, evidence_fresh_until: _until, ...decided } = policy;
  return canonicalHash({
    host: plan.host,
    transaction: plan.transaction,
    host_facts: claims.hostFacts(plan).map(({ what, items }) => ({ what, items: [...items] })),
    claims: claimsOf(plan, claims),
    warnings: lastingWarnings(plan, claims),
    vulnerabilities: graveVulnerabilities(plan).map(shownVulnerability).sort(),
    policy: decided,
  });
}

/**
 * A plan's claims besides the change itself. All fields but those removed here, so that new fields are compared by default.
 * Removed: what differs between any two plans (id, time, raw output, the outlook), what the ecosystem lets differ, and the host, warnings,
 * vulnerabilities and days of first sight, which are compared separately.
 */
export function claimsOf(plan: OperationPlan, { mayDiffer }: Claims): Record<string, unknown> {
  const { plan_id: _id, created_at: _at, host: _host, transaction: _change, ...rest } = plan;
  const {
    raw_evidence: _raw,
    outlook: _outlook,
    first_seen: _days,
    warnings: _warnings,
    vulnerability_evidence: _vulnerabilities,
    ...claims
  } = rest;
  return {
    ...without(claims, mayDiffer.fields),
    ...withoutVulnerabilities(plan),
    repository_evidence: plan.repository_evidence.map((source) => without(source, mayDiffer.ofRepositories)),
  };
}

function without(record: object, fields: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([field]) => !fields.includes(field)));
}

/** Whether a signal or risk contribution is about vulnerabilities. */
export const isOfVulnerability = (name: string) => name.startsWith("vulnerability-");

/** Each side has its own vulnerability data; {@link graveVulnerabilities} are compared. */
function withoutVulnerabilities({ risk_signals, risk_contributions, risk_score }: OperationPlan) {
  const others = risk_contributions.filter(({ name }) => !isOfVulnerability(name));
  const sum = (parts: typeof others) => parts.reduce((total, { points }) => total + points, 0);
  return {
    risk_signals: risk_signals.filter((name) => !isOfVulnerability(name)),
    risk_contributions: others,
    // A score that is not the sum of its parts is invalid.
    risk_score: risk_score === Math.min(100, sum(risk_contributions)) ? sum(others) : null,
  };
}

/** The warnings that every plan of this change has. */
export function lastingWarnings({ warnings }: OperationPlan, { mayDiffer }: Claims): string[] {
  return warnings.filter((text) => isStableWarning(text, mayDiffer.warnings));
}

type Vulnerability = OperationPlan["vulnerability_evidence"][number];

/** The serious vulnerabilities of the versions to be installed. */
export function graveVulnerabilities(plan: OperationPlan): Vulnerability[] {
  return vulnerabilitiesOfNewVersions(plan).filter((x) => isGrave(weightOf(x)));
}

/** `new openssl 3.0.1`: which version the record is about. */
export function vulnerableVersion({ applies_to, package: name, version }: Vulnerability): string {
  return `${applies_to} ${name} ${version}`;
}

/** A vulnerability of a version, as the approver's screen shows it: exploited, ruled out, or one that the old version has, too. */
export function shownVulnerability(x: Vulnerability): string {
  return `${vulnerableVersion(x)} ${vulnerabilityName(x)}${x.also_old === true ? ", not new" : ""}`;
}

/**
 * Serious vulnerabilities that the signed plan's screen shows as less. It shows records about one vulnerability as one, rated by those
 * that are about it alone, so records that the plan has besides this host's could soften these.
 */
export function playedDown(signed: OperationPlan, own: OperationPlan): string[] {
  const ofNew = (plan: OperationPlan) => {
    const { introduces, leaves } = vulnerabilityChange(plan);
    return [...introduces, ...leaves];
  };
  const namesOf = ({ name, also }: ShownVulnerability) => [name, ...also];
  const bySource = Map.groupBy(ofNew(signed), (one) => one.package);
  return ofNew(own)
    .filter(({ severity }) => atLeast(severity, "high"))
    .filter((one) => {
      const names = new Set(namesOf(one));
      const about = (bySource.get(one.package) ?? []).filter((x) =>
        namesOf(x).some((name) => names.has(name)),
      );
      return !about.some(({ severity }) => atLeast(severity, one.severity));
    })
    .map(({ package: source, name, severity }) => `${source} ${name} (${severity})`);
}
