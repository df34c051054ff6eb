import { type Remedy, remedyFor } from "./cmd-remedy.ts";
import type { ArgsSpec, Io } from "./command.ts";
import type { PolicyResult } from "./doc.ts";
import { FIRST_TOOL, type OperationPlan } from "./doc-plan.ts";
import { type Found, resolveDocument, withPlanReference } from "./doc-store.ts";
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";
import { decisionOf, evaluate, firedFrom, reasonOf } from "./policy.ts";
import { type LoadedPolicyConfig, loadPolicyConfig, type PolicyConfig } from "./policy-config.ts";

/** For the commands whose document may be a plan. */
export const SUMMARY_FLAG = {
  summary: {
    type: "boolean",
    description: "with --json: a summary of at most 10 kB in place of the whole document",
  },
} as const satisfies ArgsSpec;

/** For the commands that make or show a plan. */
export const CHANGELOG_FLAG = {
  changelog: {
    type: "boolean",
    description:
      "apt: also what the new versions change, in the words of their changelogs (asked of the archive)",
  },
} as const satisfies ArgsSpec;

/** @throws AegisError `usage` for an ecosystem without changelogs */
export function assertChangelogs(changelog: boolean, ecosystem: string): void {
  if (!changelog || ecosystem === FIRST_TOOL) return;
  throw new AegisError("usage", "--changelog is for plans of apt", "Leave --changelog out.");
}

/** @throws AegisError `usage` for --summary without --json */
export function assertJson(summary: boolean, io: Pick<Io, "json">): void {
  if (!summary || io.json) return;
  throw new AegisError(
    "usage",
    "--summary goes with --json; what people see is a summary already",
    "Add --json, or leave --summary out.",
  );
}

/** A plan, the review named if any, and the decision of the policy in force. */
interface Decided {
  plan: Found<"plan">;
  review: Found<"review"> | undefined;
  config: PolicyConfig;
  /** Source of the configuration. */
  source: string;
  result: PolicyResult;
}

/**
 * Reads the documents named and decides. Hints in errors refer to the plan as the user named it.
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

/** Why policy denies a plan, and what would help. */
export interface Denial extends Remedy {
  rules: string[];
  reasons: string[];
  /** What a person would have to know besides, if it weren't denied. */
  besides: string[];
  /** Source of the configuration that denies it. */
  policy: string;
}

/**
 * Why the policy in force denies a plan, or null if it may still be allowed. A denial is final for the plan: a review only
 * makes the decision stricter, and no approval or snapshot lifts a deny.
 * @throws AegisError as {@link loadPolicyConfig}
 */
export function denialOf(plan: OperationPlan, planHash: string, env: Env): Denial | null {
  return decideNow(plan, planHash, env).denial;
}

/**
 * What the policy in force says of a plan without a review; nothing is written.
 * @throws AegisError as {@link loadPolicyConfig}
 */
export function decideNow(
  plan: OperationPlan,
  planHash: string,
  env: Env,
): { result: PolicyResult; denial: Denial | null; config: PolicyConfig } {
  const loaded = loadPolicyConfig(env);
  return { ...decideWith(plan, planHash, loaded), config: loaded.config };
}

/** The same by a policy that was loaded. */
export function decideWith(
  plan: OperationPlan,
  planHash: string,
  { config, hash, source }: LoadedPolicyConfig,
): { result: PolicyResult; denial: Denial | null } {
  const result = evaluate({ plan, planHash, config, configHash: hash });
  return { result, denial: denialIn(plan, result, config, source) };
}

/** The same for a result that there is. */
export function denialIn(
  plan: OperationPlan,
  result: PolicyResult,
  config: PolicyConfig,
  source: string,
): Denial | null {
  if (result.decision !== "deny") return null;
  const saying = (says: "deny" | "require_human") => {
    const rules = firedFrom(says, result, config).filter((rule) => decisionOf(rule, config) === says);
    const isTheirs = (text: string) => rules.some((rule) => text.startsWith(reasonOf(rule, says)));
    return { rules: rules.map(({ id }) => id), reasons: result.reasons.filter(isTheirs) };
  };
  const { rules, reasons } = saying("deny");
  const besides = saying("require_human").reasons;
  return { rules, reasons, besides, policy: source, ...remedyFor(plan, rules, config) };
}
