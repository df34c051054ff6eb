import type { PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { type Found, namingPlan } from "./doc-store.ts";
import type { Env } from "./paths.ts";
import { decisionOf, type EvaluateInput, evaluate, reasonOf } from "./policy.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { RULES } from "./policy-rules.ts";

/**
 * The decision about a plan that a command was given, with hints that name the plan as it was found.
 * @throws AegisError as {@link evaluate}
 */
export function decide(
  plan: Found<"plan">,
  given: Omit<EvaluateInput, "plan" | "planHash">,
  env: Env,
): PolicyResult {
  try {
    return evaluate({ ...given, plan: plan.document, planHash: plan.hash });
  } catch (error) {
    throw namingPlan(error, plan, env);
  }
}

/** Why a plan can only be denied. */
export interface Denial {
  rules: string[];
  reasons: string[];
  /** Where the configuration that denies it came from. */
  policy: string;
}

/**
 * What the policy in force denies of a plan before anyone has reviewed it; null where it may yet be allowed. A denial is
 * final for this plan: a review only makes a decision stricter, and no approval or snapshot lifts a deny.
 * @throws AegisError as {@link loadPolicyConfig}
 */
export function denialOf(plan: OperationPlan, planHash: string, env: Env): Denial | null {
  const { config, hash, source } = loadPolicyConfig(env);
  const result = evaluate({ plan, planHash, config, configHash: hash });
  if (result.decision !== "deny") return null;
  const denying = RULES.filter(({ id }) => result.rules.includes(id)).filter(
    (rule) => decisionOf(rule, config) === "deny",
  );
  return {
    rules: denying.map(({ id }) => id),
    reasons: result.reasons.filter((text) => denying.some((rule) => text.startsWith(reasonOf(rule, "deny")))),
    policy: source,
  };
}
