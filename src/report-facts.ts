import { canonicalHash } from "./canonical.ts";
import type { Decision, ExecutionPlan } from "./documents.ts";
import type { ReadPlan } from "./report-input.ts";
import { clip, safe } from "./terminal.ts";

const MAX_TARGETS = 20;
const MAX_PACKAGES = 100;
const MAX_RULES = 64;
const MAX_REASONS = 32;

export interface ApprovalFacts {
  approver: string;
  /** Fingerprint; null where the approval is not verified. */
  key: string | null;
  reason: string;
  approved_at: string;
  /** From planning to approval. */
  seconds_after_plan: number;
  /** The same approval counts once, however many plans it is in. */
  approval_hash: string;
}

export interface PlanFacts {
  verified: boolean;
  /** Why it is not verified. */
  problem: string | null;
  execution_plan_id: string;
  execution_plan_hash: string;
  tool: ExecutionPlan["operation_plan"]["tool"];
  operation: string;
  targets: string[];
  targets_total: number;
  packages: { name: string; action: string }[];
  packages_total: number;
  host: string;
  decision: Decision;
  rules: string[];
  reasons: string[];
  required_controls: string[];
  review: { risk: string; recommendation: string } | null;
  planned_at: string;
  signed_at: string;
  signer: string;
  signer_key: string | null;
  approvals: ApprovalFacts[];
}

/** Text from outside, fit for a report: control characters escaped, at most 160 characters. */
function outside(text: string): string {
  return clip(safe(text), 160);
}

/** What a report says of one plan. What strangers may have written is escaped and cut, and lists have an end. */
export function factsOf({ execution, hash, signerKey, approvers, problem }: ReadPlan): PlanFacts {
  const { operation_plan: plan, policy_result: policy, ai_review: review } = execution;
  return {
    verified: problem === null,
    problem: problem === null ? null : outside(problem),
    execution_plan_id: execution.execution_plan_id,
    execution_plan_hash: hash,
    tool: plan.tool,
    operation: outside(plan.operation),
    targets: plan.exact_targets.slice(0, MAX_TARGETS).map(outside),
    targets_total: plan.exact_targets.length,
    packages: plan.transaction
      .slice(0, MAX_PACKAGES)
      .map(({ name, action }) => ({ name: outside(name), action })),
    packages_total: plan.transaction.length,
    host: outside(plan.host.hostname),
    decision: execution.policy_decision,
    rules: policy.rules.slice(0, MAX_RULES).map(outside).sort(),
    reasons: policy.reasons.slice(0, MAX_REASONS).map(outside),
    required_controls: [...policy.required_controls],
    review: review === null ? null : { risk: review.risk, recommendation: review.recommendation },
    planned_at: plan.created_at,
    signed_at: execution.created_at,
    signer: outside(execution.signer_identity),
    signer_key: signerKey,
    approvals: execution.approvals.map((approval, i) => ({
      approver: outside(approval.signer),
      key: approvers[i]?.key ?? null,
      reason: outside(approval.reason),
      approved_at: approval.approved_at,
      seconds_after_plan: Math.round((Date.parse(approval.approved_at) - Date.parse(plan.created_at)) / 1000),
      approval_hash: approvers[i]?.hash ?? canonicalHash(approval),
    })),
  };
}
