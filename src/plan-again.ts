import { aptDirs } from "./apt-dirs.ts";
import { type SealedIndexes, sealIndexes } from "./apt-indexes.ts";
import { canonicalHash } from "./canonical.ts";
import type { AiReview, ExecutionPlan, PolicyResult } from "./documents.ts";
import type { Planning } from "./ecosystem.ts";
import { AegisError } from "./errors.ts";
import { evaluate } from "./evaluate.ts";
import type { OperationPlan } from "./operation-plan.ts";
import type { Env } from "./paths.ts";
import { hostVulnerabilityData } from "./plan-env.ts";
import { makePlan } from "./planner.ts";
import { openPlanning, readText } from "./planning.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { compareDecisions, compareVulnerabilities, compareWarnings, compareWithOwn } from "./replan.ts";
import { buildPrompt } from "./review-prompt.ts";
import { reviewIsSignedBy } from "./review-signature.ts";

/** What the executor plans with: nothing of whoever submitted, and this host's own vulnerability data. */
function planningEnv(): Env {
  return { HOME: "/root", XDG_CACHE_HOME: "/var/cache", ...hostVulnerabilityData(readText) };
}

/**
 * Plans the signed wish again with the planner's own code, as root, and judges that plan by this host's own policy. The
 * change must be the same, and the decision at most as strict as what was signed, for reasons that were signed. Returns this
 * host's own decision.
 * @throws AegisError as {@link sealIndexes} and what it gives, {@link compareWithOwn}, {@link compareDecisions},
 * {@link compareVulnerabilities} and {@link compareWarnings}; `not_built` for what can't be run yet
 */
export async function planAgain(execution: ExecutionPlan, policy: LoadedPolicyConfig): Promise<PolicyResult> {
  const signed = execution.operation_plan;
  if (signed.tool !== "apt") {
    throw new AegisError(
      "not_built",
      `this version runs apt plans only, not ${signed.tool}`,
      "Wait for a version whose release notes name it.",
    );
  }
  const planning = openPlanning({ env: planningEnv(), ownAptCache: true });
  try {
    const indexes = await seal(signed, planning);
    // Both to their end, since what is still planning needs its directory.
    const [made, checked] = await Promise.allSettled([
      makePlan(signed.tool, signed.operation, signed.targets, planning),
      indexes?.check(),
    ]);
    if (checked.status === "rejected") throw checked.reason;
    indexes?.refuseReplaced();
    const own = made.status === "fulfilled" ? made.value : asDrift(made.reason, signed);
    compareWithOwn(signed, own);
    const decided = decideOwn(own, policy);
    compareDecisions(execution.policy_result, decided, policy.config);
    compareVulnerabilities(signed, own);
    compareWarnings(signed, own);
    const { ai_review: review } = execution;
    const { required, public_keys } = policy.config.review;
    if (required && review !== null && reviewIsSignedBy(review, public_keys)) compareShown(review, own);
    return decided;
  } finally {
    planning.close();
  }
}

/** The indexes that the plan is made from, held to what was signed; null for what is planned without any. */
async function seal(
  { operation, transaction }: OperationPlan,
  planning: Planning,
): Promise<SealedIndexes | null> {
  if (operation === "update" || operation === "repair") return null;
  const { stdout } = await planning.run(["apt-config", "dump"]);
  return sealIndexes(aptDirs(stdout).lists, [...new Set(transaction.flatMap(({ sources }) => sources))]);
}

/**
 * When the plan was made the host knew every target; one that it no longer knows is a change, of which nothing is left.
 * @throws AegisError `drift`, always for `not_found`
 */
function asDrift(error: unknown, signed: OperationPlan): never {
  if (!(error instanceof AegisError) || error.code !== "not_found") throw error;
  compareWithOwn(signed, { ...signed, transaction: [] });
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
export function decideOwn(own: OperationPlan, policy: LoadedPolicyConfig): PolicyResult {
  const config = { ...policy.config, review: { ...policy.config.review, required: false } };
  return evaluate({ plan: own, planHash: canonicalHash(own), config, configHash: policy.hash });
}
