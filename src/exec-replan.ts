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
import { makePlan } from "./plan.ts";
import { evaluate } from "./policy.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { buildPrompt } from "./review-prompt.ts";

/** What planning again is done with. */
export interface Replanning {
  ecosystems: Ecosystems;
  driver: RunDriver;
  /** With the executor's own settings, and nothing of whoever submitted. */
  planning: Planning;
}

/**
 * Plans the signed request again with the planner's own code and the executor's own settings, and judges that plan by this
 * host's own policy. The change must be the same, and the decision at most as strict as what was signed, for reasons that
 * were signed. Returns this host's own decision.
 * @throws AegisError as the driver's `hold` and what it gives, {@link compareWithOwn}, {@link compareDecisions},
 * {@link compareVulnerabilities} and {@link compareWarnings}; `not_built` for what this version lacks
 */
export async function planAgain(
  execution: ExecutionPlan,
  policy: LoadedPolicyConfig,
  { ecosystems, driver, planning }: Replanning,
): Promise<PolicyResult> {
  const { operation_plan: signed, ai_review: review } = execution;
  const ecosystem = await loadEcosystem(signed.tool, ecosystems);
  const held = await driver.hold(signed, planning);
  // Both to their end, since what is still planning needs its directory.
  const [made, checked] = await Promise.allSettled([
    makePlan(ecosystem, signed.operation, signed.targets, planning),
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
 * When the plan was made the host knew every target; one that it no longer knows is a change, of which nothing is left.
 * @throws AegisError `drift`, always for `not_found`
 */
function asDrift(error: unknown, signed: OperationPlan, claims: Claims): never {
  if (!(error instanceof AegisError) || error.code !== "not_found") throw error;
  compareWithOwn(signed, { ...signed, transaction: [] }, claims);
  // A plan that changes nothing and yet was signed: the copy is the signer's claims, and none of them may count.
  throw new AegisError("drift", `the host has changed since the plan: ${error.message}`, error.hint);
}

/**
 * A required review counts for what the model was shown: all of it, remarks too, must be what this host finds. Otherwise
 * whoever asks for the change could add soothing words to the plan before it is reviewed.
 * @throws AegisError `evidence_mismatch`
 */
function compareShown(review: AiReview, own: OperationPlan): void {
  if (review.prompt_hash === buildPrompt(own).hash) return;
  throw new AegisError(
    "evidence_mismatch",
    "the model was shown other evidence than the executor finds on this host",
    "Plan and review again on this host, with the same vulnerability data (AEGIS_OSV_DIR, AEGIS_OSV_URL) as the executor.",
    { field: "ai_review.prompt_hash" },
  );
}

/**
 * What this host's policy says about its own plan. No review can be of a plan that was made just now, so its absence says
 * nothing here: the signed plan, which is the same change, has been judged with its own review before.
 */
export function decideOwn(own: OperationPlan, policy: LoadedPolicyConfig, grammars?: Grammars): PolicyResult {
  const config = { ...policy.config, review: { ...policy.config.review, required: false } };
  return evaluate({ plan: own, planHash: canonicalHash(own), config, configHash: policy.hash, grammars });
}
