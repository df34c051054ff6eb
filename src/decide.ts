import type { PolicyResult } from "./documents.ts";
import { type EvaluateInput, evaluate } from "./evaluate.ts";
import type { Env } from "./paths.ts";
import { type Found, namingPlan } from "./store.ts";

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
