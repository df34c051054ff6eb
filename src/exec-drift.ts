import { canonicalJson } from "./canonical.ts";
import type { PolicyResult } from "./doc.ts";
import { vulnerabilitiesOfNewVersions } from "./doc-evidence.ts";
import { type OperationPlan, planCommand, type TransactionEntry } from "./doc-plan.ts";
import type { Claims } from "./eco-grammar.ts";
import { AegisError } from "./errors.ts";
import {
  claimsOf,
  graveVulnerabilities,
  isOfVulnerability,
  lastingWarnings,
  playedDown,
  shownVulnerability,
  vulnerableVersion,
} from "./exec-substance.ts";
import { SYSTEM } from "./paths.ts";
import { riskScore } from "./plan-risk.ts";
import { riskSignals } from "./plan-signals.ts";
import { firedFrom, strictness } from "./policy.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { vulnerabilityName } from "./policy-vulnerabilities.ts";

/*
 * Compares the signed plan with the executor's own. A plan file is only a claim: the executor's own plan for the same request
 * must be the same change, for the same reasons.
 */

/** Whether a plan's signals and points for vulnerabilities follow from its evidence. */
function tellsItsVulnerabilities(plan: OperationPlan): boolean {
  const follow = riskSignals(plan).filter(isOfVulnerability);
  const { risk_contributions } = riskScore({ risk_signals: follow, transaction: [], deprecated: null });
  return (
    canonicalJson(plan.risk_signals.filter(isOfVulnerability)) === canonicalJson(follow) &&
    canonicalJson(plan.risk_contributions.filter(({ name }) => isOfVulnerability(name))) ===
      canonicalJson(risk_contributions)
  );
}

/**
 * Proves that the signed plan is what the executor plans now.
 * @throws AegisError `drift` with both sides if the change differs, or what the host adds to it; `evidence_mismatch` if the
 * plan describes the same change differently
 */
export function compareWithOwn(signed: OperationPlan, own: OperationPlan, claims: Claims): void {
  compareRegistries(signed, own);
  assertFound(signed, own);
  if (canonicalJson(signed.transaction) !== canonicalJson(own.transaction)) {
    const { only_signed, only_now } = difference(signed.transaction, own.transaction);
    throw new AegisError(
      "drift",
      `the host has changed since the plan: signed ${list(only_signed)}; now it would be ${list(only_now)}`,
      planAgainHint(signed),
      { only_signed, only_now, signed: signed.transaction.map(describe), now: own.transaction.map(describe) },
    );
  }
  compareHostFacts(signed, own, claims);
  const [claimed, found] = [claimsOf(signed, claims), claimsOf(own, claims)];
  const textOf = (fields: Record<string, unknown>, name: string) =>
    Object.hasOwn(fields, name) ? canonicalJson(fields[name]) : "left out";
  for (const field of new Set([...Object.keys(found), ...Object.keys(claimed)])) {
    if (textOf(claimed, field) !== textOf(found, field)) {
      throw mismatch(field, "the executor finds on this host");
    }
  }
  compareFirstSeen(signed, own);
  compareOffers(signed, own);
  if (!tellsItsVulnerabilities(signed)) throw mismatch("risk_signals", "follows from its evidence");
}

/**
 * Packages with an address of their own come from the registries that the host's administrator has named, never from one that a plan's
 * author knows. Where the host's sources decide, a package that comes from another is a change.
 */
function compareRegistries(signed: OperationPlan, own: OperationPlan): void {
  if (!signed.transaction.some(({ url }) => url !== undefined)) return;
  const addresses = (plan: OperationPlan): string[] => plan.source_registry?.match(/[a-z]+:\/\/\S+/g) ?? [];
  const known = addresses(own);
  const strange = addresses(signed).filter((one) => !known.includes(one));
  if (known.length === 0 || strange.length === 0) return;
  throw new AegisError(
    "evidence_mismatch",
    `the plan's packages come from ${strange.join(" ")}, which this host's executor doesn't know: it takes them from ${known.join(" ")}`,
    `Plan again without registry settings of your own, or have the registry named in ${SYSTEM.daemonEnv} (aegis help environment).`,
    { field: "source_registry" },
  );
}

/**
 * A file can be older than the signed plan knew, since the monitor may have recorded it meanwhile, but not younger: then the plan was
 * edited, or the record was lost. Whether it is old enough, the executor's own policy decides by its own record.
 */
function compareFirstSeen(signed: OperationPlan, own: OperationPlan): void {
  for (const [file, day] of Object.entries(signed.first_seen ?? {})) {
    const known = own.first_seen?.[file] ?? null;
    if (known !== null && known <= day) continue;
    throw new AegisError(
      "drift",
      `the plan says that ${file} was first seen on ${day}; by this host's record it was ${known === null ? "never seen" : `on ${known}`}`,
      planAgainHint(signed),
      { field: "first_seen" },
    );
  }
}

/**
 * What an upgrade would take from a repository that is added is what its approver judges, so the signed plan may not keep quiet about
 * what this host finds. It may tell more: the repository may have withdrawn something since.
 */
function compareOffers(signed: OperationPlan, own: OperationPlan): void {
  for (const { source, automatic, newer, newer_left_out: left } of own.outlook?.repository ?? []) {
    const told = signed.outlook?.repository?.find((one) => one.source === source);
    const known = new Set((told?.newer ?? []).map((one) => canonicalJson(one)));
    const untold = newer.filter((one) => !known.has(canonicalJson(one)));
    const isTold = told !== undefined && (told.automatic || !automatic) && told.newer_left_out >= left;
    if (newer.length === 0 || (isTold && untold.length === 0)) continue;
    const names = (isTold ? untold : newer).map((one) => `${one.package} ${one.from} -> ${one.to}`);
    throw new AegisError(
      "drift",
      `${source} offers newer versions of installed packages than the signed plan says: ${list(names)}`,
      planAgainHint(signed),
      { field: "outlook.repository" },
    );
  }
}

/** Where the executor can't plan what was signed, its reason is the news, not that nothing would be done. */
function assertFound(signed: OperationPlan, own: OperationPlan): void {
  if (own.metadata_available || !signed.metadata_available) return;
  const why = own.warnings.filter((text) => !signed.warnings.includes(text));
  throw new AegisError(
    "drift",
    `the executor doesn't find what was signed: ${why.join("; ") || "it can't say why"}`,
    planAgainHint(signed),
    { why: why.slice(0, 20) },
  );
}

function compareHostFacts(signed: OperationPlan, own: OperationPlan, { hostFacts }: Claims): void {
  const [before, after] = [hostFacts(signed), hostFacts(own)];
  for (const [i, { what, items: now }] of after.entries()) {
    const then = before[i]?.items ?? [];
    if (canonicalJson(then) === canonicalJson(now)) continue;
    throw new AegisError(
      "drift",
      `${what} has changed since the plan: signed ${list(then)}; now it would be ${list(now)}`,
      planAgainHint(signed),
      { signed: then, now },
    );
  }
}

function mismatch(field: string, what: string): AegisError {
  const why = `the plan's ${field} is not what ${what}`;
  return new AegisError("evidence_mismatch", why, "Plan again; a plan must not be edited.", { field });
}

/**
 * Every serious vulnerability that the executor knows of in a version to be installed must be in the signed plan, as its
 * screen shows it: a rule that fired for another package says nothing about this one. The signed plan may have more, but only
 * of versions in its transaction: others would only fill the approver's screen.
 * @throws AegisError `evidence_mismatch`, `drift`
 */
export function compareVulnerabilities(signed: OperationPlan, own: OperationPlan): void {
  const changing = new Set(
    signed.transaction.flatMap(({ name, from_version: from, to_version: to }) => [
      ...(from === null ? [] : [`old ${name} ${from}`]),
      ...(to === null ? [] : [`new ${name} ${to}`]),
    ]),
  );
  if (!signed.vulnerability_evidence.every((x) => changing.has(vulnerableVersion(x)))) {
    throw mismatch("vulnerability_evidence", "can be known of its transaction");
  }
  const shown = vulnerabilitiesOfNewVersions(signed);
  // What was told as exploited was told as grave as it can be, where this host's list lacks it.
  const unlisted = shown.map(({ known_exploited: _, ...x }) => x);
  // What was told as brought by the change was told as worse than what stays.
  const told = [...shown, ...unlisted].flatMap((x) => [x, { ...x, also_old: true as const }]);
  const reported = new Set(told.map(shownVulnerability));
  const unreported = graveVulnerabilities(own)
    .filter((x) => !reported.has(shownVulnerability(x)))
    .map(vulnerabilityName);
  unreported.push(...playedDown(signed, own));
  if (unreported.length === 0) return;
  throw new AegisError(
    "drift",
    `this host knows of vulnerabilities that the signed plan does not mention: ${list(unreported)}`,
    `${planAgainHint(signed)}; with this host's vulnerability data, then decide, approve and sign again.`,
    { untold: unreported.slice(0, 50) },
  );
}

/**
 * An approver reads the warnings first, so those that every plan of this change has must equal the executor's own. The
 * approver's screen attributes the others to the plan and its sources.
 * @throws AegisError `evidence_mismatch`
 */
export function compareWarnings(signed: OperationPlan, own: OperationPlan, claims: Claims): void {
  if (canonicalJson(lastingWarnings(signed, claims)) === canonicalJson(lastingWarnings(own, claims))) return;
  throw mismatch("warnings", "the executor finds on this host");
}

/** The hint to make the same plan again. */
function planAgainHint(plan: OperationPlan): string {
  return `Plan again: ${planCommand(plan)}`;
}

/**
 * The executor's decision about its own plan may not be stricter than the signed one, nor rest on rules that the signed
 * result lacks: the approvers did not see those. `config` is the configuration behind `own`.
 * @throws AegisError `evaluator_mismatch`, `policy_denied`, `policy_mismatch`, `approval_required`, `snapshot_required`,
 * `drift`
 */
export function compareDecisions(signed: PolicyResult, own: PolicyResult, config: PolicyConfig): void {
  const reasons = { decision: own.decision, reasons: own.reasons };
  if (signed.evaluator_hash !== own.evaluator_hash) {
    throw new AegisError(
      "evaluator_mismatch",
      "the plan was decided by another version of the rules",
      "Sign again with the version that is installed on this host.",
    );
  }
  if (own.decision === "deny") {
    throw new AegisError(
      "policy_denied",
      `this host's policy denies the plan: ${own.reasons.join("; ")}`,
      "See: aegis policy rules",
      reasons,
    );
  }
  if (strictness(own.decision) > strictness(signed.decision)) {
    throw new AegisError(
      "policy_mismatch",
      `this host's policy is stricter than what was signed (${own.decision}, signed ${signed.decision}): ${own.reasons.join("; ")}`,
      "Decide and sign again on this host.",
      reasons,
    );
  }
  for (const control of own.required_controls) {
    if (signed.required_controls.includes(control)) continue;
    const code = control === "human approval" ? "approval_required" : "snapshot_required";
    throw new AegisError(
      code,
      `this host's policy also requires: ${control}`,
      "Decide and sign again on this host.",
      reasons,
    );
  }
  const unsigned = firedFrom(signed.decision, own, config).filter(({ id }) => !signed.rules.includes(id));
  if (unsigned.length === 0) return;
  throw new AegisError(
    "drift",
    `on this host, rules fire that are not in the signed decision: ${list(unsigned.map(({ id, reason }) => `${id} (${reason})`))}`,
    "Nothing was used up. Plan again, then decide, approve and sign again: aegis plan --help",
    { ...reasons, unsigned_rules: unsigned.map(({ id }) => id) },
  );
}

function difference(signed: readonly TransactionEntry[], now: readonly TransactionEntry[]) {
  const text = (entries: readonly TransactionEntry[]) =>
    new Map(entries.map((entry) => [canonicalJson(entry), describe(entry)]));
  const [a, b] = [text(signed), text(now)];
  return {
    only_signed: [...a].filter(([key]) => !b.has(key)).map(([, words]) => words),
    only_now: [...b].filter(([key]) => !a.has(key)).map(([, words]) => words),
  };
}

/** `upgrade hello:amd64 1.0 -> 1.1`, and the beginning of the digest, which may be the only difference. */
function describe(entry: TransactionEntry): string {
  const versions = [entry.from_version, entry.to_version].filter((version) => version !== null).join(" -> ");
  const digest = entry.sha256 === null ? "" : ` sha256:${entry.sha256.slice(0, 12)}`;
  return `${entry.action} ${entry.name}:${entry.architecture} ${versions}${digest}`;
}

function list(words: readonly string[]): string {
  if (words.length === 0) return "nothing";
  return words.length <= 5
    ? words.join(", ")
    : `${words.slice(0, 5).join(", ")} and ${words.length - 5} more`;
}
