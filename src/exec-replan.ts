import { canonicalHash } from "./canonical.ts";
import type { AiReview, ExecutionPlan, PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { RunDriver } from "./eco-driver.ts";
import type { Claims } from "./eco-grammar.ts";
import { type Ecosystems, loadEcosystem } from "./eco-load.ts";
import type { Planning } from "./eco-planning.ts";
import type { Grammars } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { compareDecisions, compareVulnerabilities, compareWarnings, compareWithOwn } from "./exec-drift.ts";
import { reviewIsSignedBy } from "./key-review-signature.ts";
import { contentOfPlan, makePlan } from "./plan.ts";
import { evaluate } from "./policy.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { buildPrompt } from "./review-prompt.ts";

export interface Replanning {
  ecosystems: Ecosystems;
  driver: RunDriver;
  /** With the executor's own settings; nothing from the submitter's environment. */
  planning: Planning;
}

/**
 * Plans the signed request again with the planner's own code and the executor's settings, and decides about that plan by this
 * host's policy. The change must be the same, and the decision no stricter than the signed one, by rules that were signed.
 * Returns this host's own decision.
 * @throws AegisError as the driver's `hold` and its result, {@link compareWithOwn}, {@link compareDecisions},
 * {@link compareVulnerabilities} and {@link compareWarnings}; `not_built` for what this version lacks
 */
export async function planAgain(
  execution: ExecutionPlan,
  policy: LoadedPolicyConfig,
  { ecosystems, driver, planning }: Replanning,
): Promise<PolicyResult> {
  const { operation_plan: signed, ai_review: review } = execution;
  const ecosystem = await loadEcosystem(signed.ecosystem, ecosystems);
  if (ecosystem.tool !== signed.tool)
    throw new AegisError("evidence_mismatch", `${signed.ecosystem} is not planned as ${signed.tool}`);
  const held = await driver.hold(signed, planning);
  // Waits for both, since planning that is still running needs its directory.
  const [made, checked] = await Promise.allSettled([
    makePlan(ecosystem, signed.operation, signed.targets, planning, contentOfPlan(signed, ecosystems)),
    held?.check(),
  ]);
  if (checked.status === "rejected") throw checked.reason;
  held?.refuseReplaced();
  const own = made.status === "fulfilled" ? made.value : asDrift(made.reason, signed, ecosystem.claims);
  compareWithOwn(signed, own, ecosystem.claims);
  const decided = decideOwn(own, policy, ecosystems);
  compareDecisions(execution.policy_result, decided, policy.config);
  compareVulnerabilities(signed, own);
  compareWarnings(signed, own, ecosystem.claims);
  const { required, public_keys } = policy.config.review;
  if (required && review !== null && reviewIsSignedBy(review, public_keys)) compareShown(review, own);
  return decided;
}

/**
 * The host knew every target when the plan was made. An unknown target now is drift: the change would be empty.
 * @throws AegisError `drift`, always for `not_found`
 */
function asDrift(error: unknown, signed: OperationPlan, claims: Claims): never {
  if (!(error instanceof AegisError) || error.code !== "not_found") throw error;
  compareWithOwn(signed, { ...signed, transaction: [] }, claims);
  // The signed plan changes nothing either, so the comparison passed; but the copy repeats the signer's claims.
  throw new AegisError("drift", `the host has changed since the plan: ${error.message}`, error.hint);
}

/**
 * A required review counts only if the model saw what this host finds, warnings included. Otherwise the requester could add
 * reassuring text to the plan before the review.
 * @throws AegisError `evidence_mismatch`
 */
function compareShown(review: AiReview, own: OperationPlan): void {
  if (review.prompt_hash === buildPrompt(own).hash) return;
  throw new AegisError(
    "evidence_mismatch",
    "the model saw other evidence than the executor finds on this host",
    "Plan and review again on this host, with the same vulnerability data as the executor (the host's own, or AEGIS_OSV_DIR or AEGIS_OSV_URL).",
    { field: "ai_review.prompt_hash" },
  );
}

/**
 * This host's decision about its own plan. That plan was just made and can't have a review, so none is required: the signed
 * plan, which is the same change, was already decided with its review.
 */
export function decideOwn(own: OperationPlan, policy: LoadedPolicyConfig, grammars?: Grammars): PolicyResult {
  const config = { ...policy.config, review: { ...policy.config.review, required: false } };
  return evaluate({ plan: own, planHash: canonicalHash(own), config, configHash: policy.hash, grammars });
}
