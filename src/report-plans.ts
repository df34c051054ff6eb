import { canonicalHash } from "./canonical.ts";
import type { Io } from "./command.ts";
import type { Decision, ExecutionPlan } from "./doc.ts";
import { resolveDocument } from "./doc-store.ts";
import { AegisError, EXIT } from "./errors.ts";
import { type Approver, approvableIn, verifyApprovals } from "./exec-approval.ts";
import { checkHashes } from "./exec-embedded.ts";
import { checkSignature } from "./exec-preflight.ts";
import { keyId } from "./key-sign.ts";
import { type BareKeys, bareKeys } from "./key-trusted-keys.ts";
import { clip, safe } from "./terminal.ts";

const KEYS_HINT =
  "Give the key of every signer and approver: --execution-public-key-hex <hex>, --approval-public-key-hex <hex>.";

/** A signed plan, verified or with the reason why not. */
export interface ReadPlan {
  execution: ExecutionPlan;
  hash: string;
  path: string | null;
  /** Fingerprint of the key that signed; null if not verified. */
  signerKey: string | null;
  /** The approvers, in the approvals' order; empty if not verified. */
  approvers: readonly Approver[];
  /** Why it is not verified; null if it is. */
  problem: string | null;
}

/**
 * Reads a signed plan and verifies it with the given keys only: its signature, that its documents belong together, and each
 * approval. Since it is history, everything must have been valid when it was signed, not now. With `allowUnverified`, a plan
 * that fails is returned with its problem.
 * @throws AegisError errors of reading and verifying, with the file's name
 */
export async function readPlan(
  reference: string,
  keys: BareKeys,
  allowUnverified: boolean,
  io: Pick<Io, "env" | "readStdin">,
): Promise<ReadPlan> {
  try {
    const { document: execution, hash, path } = await resolveDocument("execution", reference, io);
    return { execution, hash, path, ...verifyOrExplain(execution, keys, allowUnverified) };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    const hint = error.exit === EXIT.verification ? KEYS_HINT : error.hint;
    const named = error.message.includes(reference) ? error.message : `${reference}: ${error.message}`;
    throw new AegisError(error.code, named, hint, error.details);
  }
}

type Verified = Pick<ReadPlan, "signerKey" | "approvers" | "problem">;

function verifyOrExplain(execution: ExecutionPlan, keys: BareKeys, allowUnverified: boolean): Verified {
  try {
    return { ...verify(execution, keys), problem: null };
  } catch (error) {
    const isUnverified = error instanceof AegisError && error.exit === EXIT.verification;
    if (!allowUnverified || !isUnverified) throw error;
    return { signerKey: null, approvers: [], problem: error.message };
  }
}

/** @throws AegisError `key_untrusted`, `signature_invalid`, `hash_mismatch`, `approval_invalid` */
function verify(execution: ExecutionPlan, keys: BareKeys): Omit<Verified, "problem"> {
  const trust = bareKeys(keys);
  const at = new Date(execution.created_at);
  const key = checkSignature(execution, trust, at);
  checkHashes(execution);
  const { approvals, signer_identity: signer } = execution;
  const approvers = verifyApprovals(approvals, approvableIn(execution), trust, key.publicKeyHex, at);
  if (approvers.some((approver) => approver.signer === signer)) {
    throw new AegisError("approval_invalid", `${signer} signed this execution plan and approved it as well`);
  }
  return { signerKey: keyId(key.publicKeyHex), approvers };
}

const MAX_TARGETS = 20;
const MAX_PACKAGES = 100;
const MAX_RULES = 64;
const MAX_REASONS = 32;

export interface ApprovalFacts {
  approver: string;
  /** Fingerprint; null if the approval is not verified. */
  key: string | null;
  reason: string;
  approved_at: string;
  seconds_after_plan: number;
  /** An approval counts once, however many plans contain it. */
  approval_hash: string;
}

export interface PlanFacts {
  verified: boolean;
  /** Why it is not verified, or null. */
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

/** Outside text for a report: control characters escaped, at most 160 characters. */
function outside(text: string): string {
  return clip(safe(text), 160);
}

/** A plan's entry in the report. Untrusted text is escaped and truncated, and lists are limited. */
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
