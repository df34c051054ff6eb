import {
  type AiReview,
  CONTROLS,
  type Control,
  DECISIONS,
  type Decision,
  type Hashed,
  type PolicyResult,
  SCHEMA_VERSION,
} from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { Grammars } from "./eco-table.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { evaluatorHash } from "./policy-hash.ts" with { type: "macro" };
import type { Facts, Rule } from "./policy-rule.ts";
import { RULES } from "./policy-rules.ts";
import { judgeTargets } from "./policy-targets.ts";

/** Incremented when the same plan and configuration may get a different decision. */
const POLICY_VERSION = "2";
const EVALUATOR_HASH = evaluatorHash();
/** Limit on the names in a reason; the others are counted. */
const LISTED = 8;

export interface EvaluateInput {
  plan: OperationPlan;
  /** Hash of the plan, taken over the tree as read. */
  planHash: string;
  config: PolicyConfig;
  configHash: string;
  review?: Hashed<AiReview> | undefined;
  /** Other grammars than this program's own, for tests. */
  grammars?: Grammars | undefined;
}

/**
 * The decision about a plan. Pure: no clock, no files, the same input gives the same bytes. The strictest rule wins; every
 * rule that fires contributes its reason and controls.
 * @throws AegisError `hash_mismatch` for a review of another plan
 */
export function evaluate(input: EvaluateInput): PolicyResult {
  const { plan, planHash, config, review } = input;
  if (
    review !== undefined &&
    (review.document.plan_hash !== planHash || review.document.plan_id !== plan.plan_id)
  ) {
    throw new AegisError(
      "hash_mismatch",
      "the review is of another plan, or of this plan before it was changed",
      `Type: aegis review ${plan.plan_id}`,
    );
  }
  const facts: Facts = {
    plan,
    config,
    targets: judgeTargets(plan, input.grammars),
    review: review?.document ?? null,
  };

  let decision: Decision = "allow";
  const reasons: string[] = [];
  const fired: string[] = [];
  const controls = new Set<Control>();
  for (const rule of RULES) {
    const fires = rule.fires(facts);
    const subjects = Array.isArray(fires) ? fires : [];
    if (fires === false || (Array.isArray(fires) && fires.length === 0)) continue;
    const says = decisionOf(rule, config);
    if (strictness(says) > strictness(decision)) decision = says;
    if (says === "require_human") controls.add("human approval");
    if (says === "allow_with_snapshot") controls.add("system snapshot");
    if (rule.control !== undefined) controls.add(rule.control);
    fired.push(rule.id);
    reasons.push(withSubjects(reasonOf(rule, says), subjects));
  }

  return {
    schema_version: SCHEMA_VERSION,
    plan_id: plan.plan_id,
    plan_hash: planHash,
    decision,
    reasons,
    required_controls: CONTROLS.filter((control) => controls.has(control)),
    approvals_required: controls.has("human approval") ? config.approvals.required : 0,
    rules: fired.sort(),
    policy_version: POLICY_VERSION,
    evaluator_hash: EVALUATOR_HASH,
    policy_config_hash: input.configHash,
    ai_review_hash: review?.hash ?? null,
    evidence_fresh_until: minutesAfter(plan.created_at, config.freshness.plan_minutes),
  };
}

/** The rules that fired in a result and whose decision under this configuration is `least` or stricter. */
export function firedFrom(least: Decision, { rules }: PolicyResult, config: PolicyConfig): readonly Rule[] {
  const fired = RULES.filter(({ id }) => rules.includes(id));
  return fired.filter((rule) => strictness(decisionOf(rule, config)) >= strictness(least));
}

/** A rule's decision under a configuration. */
export function decisionOf(rule: Rule, config: PolicyConfig): Decision {
  return typeof rule.decision === "function" ? rule.decision(config) : rule.decision;
}

/** A rule's reason for a decision. */
export function reasonOf(rule: Rule, says: Decision): string {
  return says === "deny" ? (rule.denial ?? rule.reason) : rule.reason;
}

/** How strict a decision is, from 0 (allow) to 3 (deny). */
export function strictness(decision: Decision): number {
  return DECISIONS.indexOf(decision);
}

/** The exit status of `aegis policy` for a decision: 0, 5, 4 or 3. */
export function policyExit(decision: Decision): ExitStatus {
  return {
    allow: EXIT.ok,
    allow_with_snapshot: EXIT.snapshot,
    require_human: EXIT.approval,
    deny: EXIT.denied,
  }[decision];
}

function withSubjects(reason: string, subjects: readonly string[]): string {
  if (subjects.length === 0) return reason;
  const distinct = [...new Set(subjects)];
  const listed = distinct.slice(0, LISTED).map(bounded).join(", ");
  const more = distinct.length - LISTED;
  return `${reason}: ${listed}${more > 0 ? ` and ${more} more` : ""}`;
}

/** A plan's text, safe for a signed document and a terminal: printable ASCII, at most 160 characters. */
function bounded(text: string): string {
  const printable = text.replace(/[^\x20-\x7e]/gu, "?");
  return printable.length <= 160 ? printable : `${printable.slice(0, 157)}...`;
}

function minutesAfter(timestamp: string, minutes: number): string {
  return new Date(Date.parse(timestamp) + minutes * 60_000).toISOString();
}
