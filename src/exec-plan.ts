import { randomUUID } from "node:crypto";
import { canonicalJson } from "./canonical.ts";
import {
  type AiReview,
  type Approval,
  type ControlProof,
  type ExecutionPlan,
  type Hashed,
  type PolicyResult,
  SCHEMA_VERSION,
} from "./doc.ts";
import { type OperationPlan, planCommand } from "./doc-plan.ts";
import { type Ecosystems, loadEcosystem } from "./eco-load.ts";
import { AegisError } from "./errors.ts";
import { MAX_LIFETIME_MINUTES } from "./exec-approval.ts";
import { assertPermitted, assertSameEvaluator, PREFLIGHT_CHECKS } from "./exec-embedded.ts";
import { preflight } from "./exec-preflight.ts";
import type { SecretKey } from "./key.ts";
import { signDocument } from "./key-sign.ts";
import type { Trust } from "./key-trust.ts";
import { evaluate } from "./policy.ts";
import type { LoadedPolicyConfig, PolicyConfig } from "./policy-config.ts";

/** The parts of an execution plan. */
export interface Ingredients {
  plan: Hashed<OperationPlan>;
  policy: Hashed<PolicyResult>;
  review: Hashed<AiReview> | null;
  approvals: readonly Approval[];
  proofs: readonly ControlProof[];
  signer: string;
  key: SecretKey;
  /** The requested lifetime; capped by the configuration, 24 hours, and the expiry of approvals and proofs. */
  minutes?: number | undefined;
  config: Pick<LoadedPolicyConfig, "config" | "hash">;
  /** Must know the signing key and the approvers' keys. */
  trust: Trust;
  now: Date;
  /** Other ecosystems than this program's own, for tests. */
  ecosystems?: Ecosystems | undefined;
}

/**
 * Builds and signs an execution plan, and makes the executor's own preflight checks. Evaluates policy again over plan and
 * review, and refuses a policy result that differs in any byte. The argv comes from the plan alone.
 * @throws AegisError `evaluator_mismatch`, `policy_mismatch`, `policy_denied`, `nothing_to_do`, `expired`, `hash_mismatch`,
 * and as preflight: `approval_required`, `snapshot_required`, `approval_invalid`, `control_invalid`, `key_untrusted`, …
 */
export async function buildExecutionPlan(given: Ingredients): Promise<ExecutionPlan> {
  const { plan, policy, review, approvals, proofs, key, config, now } = given;
  decideAgain(given);
  assertFresh(plan.document, policy.document, now);
  assertPermitted(policy.document);
  const ecosystem = await loadEcosystem(plan.document.tool, given.ecosystems);
  const unsigned = {
    schema_version: SCHEMA_VERSION,
    execution_plan_id: randomUUID(),
    operation_plan_id: plan.document.plan_id,
    policy_decision: policy.document.decision,
    policy_version: policy.document.policy_version,
    evaluator_hash: policy.document.evaluator_hash,
    policy_config_hash: policy.document.policy_config_hash,
    argv: ecosystem.signedArgv(plan.document),
    exact_targets: plan.document.exact_targets,
    required_preflight_checks: [...PREFLIGHT_CHECKS],
    required_controls: policy.document.required_controls,
    rollback_plan: plan.document.rollback_plan,
    signer_identity: given.signer,
    created_at: now.toISOString(),
    expires_at: new Date(lastMoment(given)).toISOString(),
    approvals: [...approvals],
    operation_plan_hash: plan.hash,
    policy_result_hash: policy.hash,
    operation_plan: plan.document,
    policy_result: policy.document,
    control_proofs: [...proofs],
    ai_review_hash: review?.hash ?? null,
    ai_review: review?.document ?? null,
  };
  const execution = signDocument(unsigned, key.seed, key.keyId);
  preflight(canonicalJson(execution), ecosystem, {
    trust: given.trust,
    now,
    // Signing may happen on another machine: only the executor knows the host and its log.
    host: plan.document.host,
    config,
    installedAt: null,
    newestAudited: null,
    usedBefore: null,
    grammars: given.ecosystems,
  });
  return execution;
}

/**
 * Proves that a plan may still be approved and signed: its evidence is not out of date, and there is something to do.
 * @throws AegisError `expired`, `nothing_to_do`
 */
export function assertFresh(plan: OperationPlan, policy: PolicyResult, now: Date): void {
  assertUnexpired(plan, policy, now);
  if (plan.nothing_to_do) {
    throw new AegisError(
      "nothing_to_do",
      "the host is already in the requested state, so there is nothing to sign",
    );
  }
}

/**
 * Proves that the evidence behind the decision is not out of date. Checked before the decision is reported, since no decision
 * about an expired plan can be used.
 * @throws AegisError `expired`
 */
export function assertUnexpired(plan: OperationPlan, policy: PolicyResult, now: Date): void {
  if (Date.parse(policy.evidence_fresh_until) > now.getTime()) return;
  throw new AegisError(
    "expired",
    `the plan's evidence was fresh until ${policy.evidence_fresh_until}`,
    `Plan again: ${planCommand(plan)}`,
  );
}

/** Refuses a policy result that differs from this version's decision about this plan and review. */
function decideAgain({ plan, policy, review, config, ecosystems }: Ingredients): void {
  const again = `Decide again: aegis policy ${plan.document.plan_id}${review === null ? "" : " --review <review>"}`;
  if (policy.document.plan_hash !== plan.hash) {
    throw new AegisError(
      "policy_mismatch",
      "the policy result is about another plan, or about this plan before it was changed",
      again,
    );
  }
  const own = evaluate({
    plan: plan.document,
    planHash: plan.hash,
    config: config.config,
    configHash: config.hash,
    review: review ?? undefined,
    grammars: ecosystems,
  });
  assertSameEvaluator(policy.document, own);
  if (policy.document.ai_review_hash !== own.ai_review_hash) {
    throw new AegisError(
      "policy_mismatch",
      review === null
        ? "the policy result takes a review into account, but none is given"
        : "the policy result was made without this review",
      review === null ? "Give it: --review <review>" : again,
    );
  }
  if (canonicalJson(own) !== canonicalJson(policy.document)) {
    throw new AegisError(
      "policy_mismatch",
      policy.document.policy_config_hash === config.hash
        ? `policy decides ${own.decision} on this plan${review === null ? "" : " and review"}, which differs from the policy result`
        : "the policy result was made under another policy configuration",
      again,
    );
  }
}

/** The maximum lifetime of an execution plan. */
export function mostMinutes(config: PolicyConfig): number {
  return Math.min(config.freshness.execution_minutes, MAX_LIFETIME_MINUTES);
}

/**
 * When the plan expires, in milliseconds: the earliest of the request, the limits, and what it depends on. Preflight reports
 * what has expired already.
 */
function lastMoment({ minutes, config, approvals, proofs, now }: Ingredients): number {
  const most = mostMinutes(config.config);
  const lifetime = Math.min(minutes ?? most, most);
  const ends = [...approvals, ...proofs].map(({ expires_at }) => Date.parse(expires_at));
  return Math.min(now.getTime() + lifetime * 60_000, ...ends.filter((end) => end > now.getTime()));
}
