import type { Io } from "./command.ts";
import type { PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { type Found, resolveDocument, withPlanReference } from "./doc-store.ts";
import type { Env } from "./paths.ts";
import { decisionOf, evaluate, reasonOf } from "./policy.ts";
import { loadPolicyConfig, type PolicyConfig } from "./policy-config.ts";
import { RULES } from "./policy-rules.ts";

/** A plan, a review of it where one was named, and what the policy in force decides. */
interface Decided {
  plan: Found<"plan">;
  review: Found<"review"> | undefined;
  config: PolicyConfig;
  /** Where the configuration came from. */
  source: string;
  result: PolicyResult;
}

/**
 * Reads the documents that a command was given, and decides. Hints name the plan as it was found.
 * @throws AegisError as {@link loadPolicyConfig}, {@link resolveDocument} and {@link evaluate}
 */
export async function readAndDecide(
  named: { plan: string; review?: string | undefined },
  io: Io,
  options: { exact?: boolean } = {},
): Promise<Decided> {
  const { config, source, hash: configHash } = loadPolicyConfig(io.env);
  const plan = await resolveDocument("plan", named.plan, io, options);
  const review =
    named.review === undefined ? undefined : await resolveDocument("review", named.review, io, options);
  try {
    const result = evaluate({ plan: plan.document, planHash: plan.hash, config, configHash, review });
    return { plan, review, config, source, result };
  } catch (error) {
    throw withPlanReference(error, plan, io.env);
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
