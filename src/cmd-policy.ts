import { existsSync } from "node:fs";
import { recordUserEvent } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { canonicalHash } from "./canonical.ts";
import { assertJson, denialIn, readAndDecide, SUMMARY_FLAG } from "./cmd-decide.ts";
import { renderPolicyResult, renderRules } from "./cmd-policy-view.ts";
import { type ArgsSpec, defineSubcommand, type Io, type Values } from "./command.ts";
import { assertNotInput, documentPath, saveDocument } from "./doc-store.ts";
import { EXIT, type ExitStatus } from "./errors.ts";
import { assertUnexpired } from "./exec-plan.ts";
import { SYSTEM } from "./paths.ts";
import { planSummary } from "./plan-summary.ts";
import { decisionOf, policyExit, reasonOf } from "./policy.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { RULES } from "./policy-rules.ts";

const POLICY_ARGS = {
  plan: {
    type: "positional",
    required: true,
    complete: "document",
    description: "path, id, beginning of an id, latest, or -",
  },
  review: {
    type: "string",
    valueHint: "review",
    description: "a review of this plan; it can only add to the result",
  },
  out: { type: "string", valueHint: "file", description: "write the policy result here instead" },
  ...SUMMARY_FLAG,
} as const satisfies ArgsSpec;

/** `aegis policy <plan>`. Exits 0, 5, 4 or 3 for allow, allow_with_snapshot, require_human and deny, 6 for an expired plan. */
export const policy = defineSubcommand({
  name: "policy",
  description: "Decide about a plan by the policy's rules, and write the result.",
  args: POLICY_ARGS,
  run: (values, io) => runPolicy(values, io, new Date()),
});

/**
 * Decides, saves the result and shows it. Where this host has an executor, an approval is asked for there.
 * @throws AegisError `expired`, with nothing written; errors of loading documents and configuration
 */
export async function runPolicy(
  values: Values<typeof POLICY_ARGS>,
  io: Io,
  now: Date,
  hasExecutor = existsSync(SYSTEM.socket),
): Promise<ExitStatus> {
  assertJson(values.summary, io);
  const { plan, review, config, source, result } = await readAndDecide(values, io);
  if (values.out !== undefined) assertNotInput(values.out, review === undefined ? [plan] : [plan, review]);
  assertUnexpired(plan.document, result, now);
  const path = saveDocument("policy", result, io.env, values.out);
  recordUserEvent(io.env, {
    kind: "policy_evaluated",
    plan_id: result.plan_id,
    decision: result.decision,
    details: {
      plan_hash: result.plan_hash,
      policy_result_hash: canonicalHash(result),
      policy_config_hash: result.policy_config_hash,
      ai_review_hash: result.ai_review_hash,
      rules: result.rules,
      ...subjectDetails(plan.document),
    },
  });
  const files = {
    plan: plan.path,
    review: review?.path,
    isOwnReview: review?.path === documentPath("review", plan.document.plan_id, io.env),
    result: path,
    config: source,
    isOut: values.out !== undefined,
    hasExecutor,
    denial: denialIn(plan.document, result, config, source),
  };
  const json = values.summary
    ? { summary: planSummary(plan.document, plan.hash, result), path }
    : { policy_result: result, path };
  io.result(json, renderPolicyResult(plan.document, result, files, io.terminal));
  return policyExit(result.decision);
}

/** `aegis policy rules`: every rule with its decision under the configuration in force. */
export const policyRules = defineSubcommand({
  name: "policy rules",
  description: "List the policy's rules and what each decides under the configuration in force.",
  args: {},
  async run(_values, io) {
    const { config, source, hash } = loadPolicyConfig(io.env);
    const rules = RULES.map((rule) => {
      const decision = decisionOf(rule, config);
      const { id, looks_at, control = null } = rule;
      return { id, decision, looks_at, reason: reasonOf(rule, decision), control };
    });
    io.result(
      { rules, policy_config: config, policy_config_hash: hash, source },
      renderRules(rules, source, io.terminal),
    );
    return EXIT.ok;
  },
});
