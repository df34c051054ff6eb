import { canonicalJson } from "./canonical.ts";
import type { OperationPlan, PolicyResult, TransactionEntry } from "./documents.ts";
import { AegisError } from "./errors.ts";

/*
 * What was signed against what the executor finds out itself. A plan file is a claim by whoever wrote it: what matters
 * is that the executor's own plan for the same wish is the same change, for the same reasons.
 */

/** The parts of a plan that say what would be done and on what evidence, without times, ids and raw output. */
function evidenceOf(plan: OperationPlan): Record<string, unknown> {
  return {
    operation: plan.operation,
    exact_targets: plan.exact_targets,
    command_preview: plan.command_preview,
    nothing_to_do: plan.nothing_to_do,
    mutates_system: plan.mutates_system,
    requires_root: plan.requires_root,
    packages_installed: plan.packages_installed,
    packages_upgraded: plan.packages_upgraded,
    packages_removed: plan.packages_removed,
    packages_downgraded: plan.packages_downgraded,
    packages_held_back: plan.packages_held_back,
    denied_targets: plan.denied_targets,
    risk_signals: [...plan.risk_signals].sort(),
    scripts: plan.scripts,
    sources: plan.repository_evidence.map((r) => [
      r.id,
      r.trust,
      r.signed_by,
      r.key_fingerprints,
      r.problems,
    ]),
    provenance: plan.provenance_evidence.map((p) => [p.kind, p.subject, p.verified]),
    vulnerabilities: plan.vulnerability_evidence.map((e) => [e.package, e.version, e.id, e.severity]),
    sbom: plan.sbom_evidence,
  };
}

/**
 * The signed plan must be what the executor plans now.
 * @throws AegisError `drift` with both transactions when the change differs; `evidence_mismatch` when the change is the
 * same but the plan tells another story about it
 */
export function compareWithOwn(signed: OperationPlan, own: OperationPlan): void {
  if (canonicalJson(signed.transaction) !== canonicalJson(own.transaction)) {
    const { only_signed, only_now } = difference(signed.transaction, own.transaction);
    throw new AegisError(
      "drift",
      `the host has changed since the plan: signed ${list(only_signed)}; now it would be ${list(only_now)}`,
      `Plan again: aegis plan ${signed.tool} ${signed.operation} ${signed.targets.join(" ")}`.trimEnd(),
      { only_signed, only_now, signed: signed.transaction.map(describe), now: own.transaction.map(describe) },
    );
  }
  const [claimed, found] = [evidenceOf(signed), evidenceOf(own)];
  for (const field of Object.keys(found)) {
    if (canonicalJson(claimed[field]) !== canonicalJson(found[field])) {
      throw new AegisError(
        "evidence_mismatch",
        `the plan's ${field.replaceAll("_", " ")} are not what the executor finds on this host`,
        "Plan again; a plan must not be edited.",
        { field },
      );
    }
  }
}

/**
 * The executor's own policy over its own plan may not be stricter than what was signed.
 * @throws AegisError `evaluator_mismatch`, `policy_denied`, `policy_mismatch`, `approval_required`, `snapshot_required`
 */
export function compareDecisions(
  signed: PolicyResult,
  own: PolicyResult,
  strictness: (decision: PolicyResult["decision"]) => number,
): void {
  const reasons = { decision: own.decision, reasons: own.reasons };
  if (signed.evaluator_hash !== own.evaluator_hash) {
    throw new AegisError(
      "evaluator_mismatch",
      "the plan was judged by another version of the rules",
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
      `this host's policy also demands: ${control}`,
      "Decide and sign again on this host.",
      reasons,
    );
  }
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

/** `upgrade hello:amd64 1.0 -> 1.1`, with the digest when only that tells two entries apart. */
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
