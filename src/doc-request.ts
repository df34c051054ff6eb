import * as v from "valibot";
import { canonicalHash } from "./canonical.ts";
import { type Approval, ApprovalSignature, CONTROLS, DECISIONS, type PolicyResult } from "./doc.ts";
import { count, name, schemaVersion, sha256, short, timestamp, uuid } from "./doc-fields.ts";
import { type OperationPlan, TOOLS } from "./doc-plan.ts";
import { clip } from "./terminal.ts";

/* The documents of a hand-over: an agent asks for a change, and a person decides. */

/**
 * `open` lacks approvals, `approved` has enough of them. The others are ends: nothing about the request changes after them.
 */
export const REQUEST_STATES = ["open", "approved", "applied", "rejected", "expired", "withdrawn"] as const;
export type RequestState = (typeof REQUEST_STATES)[number];

/** Whether a request in this state can still be decided. */
export function isPending(state: RequestState): boolean {
  return state === "open" || state === "approved";
}

/** Number of a request. Counts from 1 on each host, and is never used again. */
const RequestNumber = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

/** Why somebody asks, or ends a request: shown to people. */
export const RequestReason = v.pipe(
  v.string(),
  v.maxLength(500, "longer than 500 characters"),
  v.check((text) => text.trim() !== "", "empty"),
);

/** A person's refusal of a request, signed by an approval key, so that nobody on the way can refuse in their name. */
export const Rejection = v.strictObject({
  schema_version: schemaVersion,
  rejection_id: uuid,
  signer: name,
  role: v.literal("approver"),
  request: RequestNumber,
  /** {@link requestHash} */
  request_hash: sha256,
  reason: RequestReason,
  rejected_at: timestamp,
  signature: ApprovalSignature,
});
export type Rejection = v.InferOutput<typeof Rejection>;

/** How a request ended. */
const RequestEnd = v.strictObject({
  at: timestamp,
  /** The verified signer of a rejection or an execution plan, or who withdrew; null for an expired one. */
  by: v.nullable(short),
  uid: v.nullable(v.pipe(v.number(), v.safeInteger())),
  reason: v.nullable(v.pipe(v.string(), v.maxLength(4096))),
  execution_id: v.nullable(uuid),
});
export type RequestEnd = v.InferOutput<typeof RequestEnd>;

/** Targets that a summary shows, and the length of each, in characters. */
const SHOWN_TARGETS = 16;
const SHOWN_TARGET = 120;
/** Length of an approver's reason in a summary. The approval has all of it. */
const SHOWN_REASON = 500;

/** An approval as a summary shows it. */
const ApprovalSummary = v.strictObject({
  approval_id: uuid,
  signer: short,
  key_id: short,
  reason: short,
  approved_at: timestamp,
  expires_at: timestamp,
  /** Whose account handed it over. */
  uid: v.pipe(v.number(), v.safeInteger()),
});

/** What a request asks for, who asks, and how far it is: a line of the inbox, and what a decision is about. */
export const RequestSummary = v.strictObject({
  number: RequestNumber,
  /** Counts the changes of this request, from 1. */
  revision: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  state: v.picklist(REQUEST_STATES),
  submitted_at: timestamp,
  expires_at: timestamp,
  /** Who asked: the kernel's uid, and that uid's name on the host, if it has one. */
  uid: v.pipe(v.number(), v.safeInteger()),
  user: v.nullable(short),
  reason: RequestReason,
  tool: v.picklist(TOOLS),
  ecosystem: short,
  operation: short,
  /** The first ones, each cut to a bounded length. */
  targets: v.pipe(v.array(short), v.maxLength(SHOWN_TARGETS)),
  targets_left_out: count,
  /** Hash of the plan that was asked for; `plan_hash` is the same until an approver plans again. */
  asked_plan_hash: sha256,
  plan_id: uuid,
  plan_hash: sha256,
  planned_at: timestamp,
  decision: v.picklist(DECISIONS),
  required_controls: v.pipe(v.array(v.picklist(CONTROLS)), v.maxLength(CONTROLS.length)),
  risk_score: count,
  installed: count,
  upgraded: count,
  removed: count,
  downgraded: count,
  approvals: v.pipe(v.array(ApprovalSummary), v.maxLength(16)),
  approvals_required: count,
  end: v.nullable(RequestEnd),
});
export type RequestSummary = v.InferOutput<typeof RequestSummary>;

/**
 * Identifies what was asked, and by whom, in a decision: everything that stays the same from the submission to the end. Who
 * decides computes it from what they were shown, and the runner from what it has, so a decision about a request that was shown
 * with another reason, user or target is refused.
 */
export function requestHash(request: Readonly<RequestSummary>): string {
  const { number, submitted_at, expires_at, uid, user, reason } = request;
  const { tool, ecosystem, operation, targets, targets_left_out, asked_plan_hash } = request;
  return canonicalHash({
    ...{ number, submitted_at, expires_at, uid, user, reason },
    ...{ tool, ecosystem, operation, targets, targets_left_out, asked_plan_hash },
  });
}

/** What a plan was asked for: planned again, it is the same. */
const ASKED = ["tool", "ecosystem", "operation", "targets", "repository"] as const;

/** The first field in which two plans are asked for something else; undefined where they are of the same request. */
export function askedOtherwise(one: OperationPlan, other: OperationPlan): (typeof ASKED)[number] | undefined {
  // Of a repository the file that is asked for: what it replaces is the host's.
  const asked = (plan: OperationPlan) => ({ ...plan, repository: plan.repository?.after ?? null });
  const [first, second] = [asked(one), asked(other)];
  return ASKED.find((field) => canonicalHash(first[field]) !== canonicalHash(second[field]));
}

/** The part of a summary that follows from a request's current plan. */
export function planFacts(plan: OperationPlan, planHash: string, policy: PolicyResult) {
  return {
    tool: plan.tool,
    ecosystem: clip(plan.ecosystem, SHOWN_TARGET),
    operation: clip(plan.operation, SHOWN_TARGET),
    targets: plan.targets.slice(0, SHOWN_TARGETS).map((target) => clip(target, SHOWN_TARGET)),
    targets_left_out: Math.max(0, plan.targets.length - SHOWN_TARGETS),
    plan_id: plan.plan_id,
    plan_hash: planHash,
    planned_at: plan.created_at,
    decision: policy.decision,
    required_controls: policy.required_controls,
    risk_score: plan.risk_score,
    installed: plan.packages_installed.length,
    upgraded: plan.packages_upgraded.length,
    removed: plan.packages_removed.length,
    downgraded: plan.packages_downgraded.length,
  };
}

/** An approval in a summary. `uid` is the account that handed it over. */
export function approvalSummary(approval: Approval, uid: number): v.InferOutput<typeof ApprovalSummary> {
  const { approval_id, signer, signature, reason, approved_at, expires_at } = approval;
  return {
    approval_id,
    signer: clip(signer, SHOWN_TARGET),
    key_id: clip(signature.key_id, SHOWN_TARGET),
    reason: clip(reason, SHOWN_REASON),
    approved_at,
    expires_at,
    uid,
  };
}
