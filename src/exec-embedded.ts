import { canonicalHash, canonicalJson } from "./canonical.ts";
import type { ExecutionPlan, PolicyResult } from "./doc.ts";
import type { Grammars } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { compareDecisions } from "./exec-drift.ts";
import { evaluate } from "./policy.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";

/** The executor's checks before a run, in order. Signed into every execution plan. */
export const PREFLIGHT_CHECKS = [
  "canonical",
  "schema",
  "signature",
  "not-used-before",
  "lifetime",
  "host",
  "hashes",
  "policy",
  "plan-again",
  "argv",
  "controls",
] as const;

/**
 * Proves that the embedded documents belong together: every hash, id and repeated field matches its source.
 * @throws AegisError `hash_mismatch`
 */
export function checkHashes(execution: ExecutionPlan): void {
  const { operation_plan: plan, policy_result: policy, ai_review: review } = execution;
  const reviewHash = review === null ? null : canonicalHash(review);
  const pairs: readonly (readonly [string, unknown, unknown])[] = [
    ["operation_plan_hash", execution.operation_plan_hash, canonicalHash(plan)],
    ["policy_result_hash", execution.policy_result_hash, canonicalHash(policy)],
    ["ai_review_hash", execution.ai_review_hash, reviewHash],
    ["policy_result.plan_hash", policy.plan_hash, execution.operation_plan_hash],
    ["policy_result.plan_id", policy.plan_id, plan.plan_id],
    ["policy_result.ai_review_hash", policy.ai_review_hash, reviewHash],
    [
      "ai_review.plan_hash",
      review?.plan_hash ?? execution.operation_plan_hash,
      execution.operation_plan_hash,
    ],
    ["ai_review.plan_id", review?.plan_id ?? plan.plan_id, plan.plan_id],
    ["operation_plan_id", execution.operation_plan_id, plan.plan_id],
    ["policy_decision", execution.policy_decision, policy.decision],
    ["policy_version", execution.policy_version, policy.policy_version],
    ["evaluator_hash", execution.evaluator_hash, policy.evaluator_hash],
    ["policy_config_hash", execution.policy_config_hash, policy.policy_config_hash],
    ["required_controls", execution.required_controls, policy.required_controls],
    ["exact_targets", execution.exact_targets, plan.exact_targets],
    ["rollback_plan", execution.rollback_plan, plan.rollback_plan],
  ];
  const wrong = pairs.find(([, said, found]) => canonicalJson(said) !== canonicalJson(found));
  if (wrong === undefined) return;
  throw new AegisError(
    "hash_mismatch",
    `${wrong[0]} does not match the documents inside the execution plan`,
    "Sign again from the plan, policy result and review that belong together.",
    { field: wrong[0] },
  );
}

/**
 * Proves that policy allows the plan: these rules, over the embedded plan and review, give the embedded result byte for byte,
 * and it is not a denial. A result of another configuration can't be reproduced; then this configuration's own decision must
 * not be a denial either, nor stricter.
 * @throws AegisError `evaluator_mismatch`, `policy_mismatch`, `policy_denied`, `nothing_to_do`
 */
export function checkPolicy(
  execution: ExecutionPlan,
  policy: Pick<LoadedPolicyConfig, "config" | "hash">,
  grammars?: Grammars,
): void {
  const { operation_plan: plan, policy_result: signed } = execution;
  const own = evaluate({
    plan,
    planHash: execution.operation_plan_hash,
    config: policy.config,
    configHash: policy.hash,
    grammars,
    review:
      execution.ai_review === null
        ? undefined
        : { document: execution.ai_review, hash: canonicalHash(execution.ai_review) },
  });
  assertSameEvaluator(signed, own);
  const unknown = execution.required_preflight_checks.find(
    (name) => !PREFLIGHT_CHECKS.some((known) => known === name),
  );
  if (unknown !== undefined) {
    throw new AegisError(
      "evaluator_mismatch",
      `the plan requires the check ${unknown}, which this version of aegis does not have`,
      "Sign again with this version.",
    );
  }
  if (signed.policy_config_hash === policy.hash && canonicalJson(signed) !== canonicalJson(own)) {
    throw new AegisError(
      "policy_mismatch",
      `policy decides ${own.decision} on this plan, which differs from the policy result in it`,
      "Decide again: aegis policy <plan>",
    );
  }
  assertPermitted(signed);
  assertPermitted(own);
  // Another configuration's result must not be milder than this host's decision with the embedded review.
  if (signed.policy_config_hash !== policy.hash) compareDecisions(signed, own, policy.config);
  if (plan.nothing_to_do) throw new AegisError("nothing_to_do", "the host is already in the requested state");
}

/** @throws AegisError `evaluator_mismatch` if the rules differ from `own`'s */
export function assertSameEvaluator(signed: PolicyResult, own: PolicyResult): void {
  if (signed.evaluator_hash === own.evaluator_hash && signed.policy_version === own.policy_version) return;
  throw new AegisError(
    "evaluator_mismatch",
    "the policy result was made by another version of aegis, with other rules",
    "Decide and sign again with this version: aegis policy <plan>",
  );
}

/** @throws AegisError `policy_denied` with the reasons */
export function assertPermitted(result: PolicyResult): void {
  if (result.decision !== "deny") return;
  throw new AegisError(
    "policy_denied",
    `policy denies this plan: ${result.reasons.join("; ")}`,
    "See: aegis policy rules",
    { rules: result.rules },
  );
}
