import { randomUUID } from "node:crypto";
import { canonicalHash } from "./canonical.ts";
import { type Approval, type ExecutionPlan, type PolicyResult, SCHEMA_VERSION, unsigned } from "./doc.ts";
import type { Grammars } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { checkSnapshots } from "./exec-snapshot-id.ts";
import { substanceOf } from "./exec-substance.ts";
import type { SecretKey } from "./key.ts";
import { keyId, signDocument, verifyDocument } from "./key-sign.ts";
import { sshSignatureKey } from "./key-sshsig.ts";
import { checkSigner, findSigner, signatureProblem, type Trust } from "./key-trust.ts";
import type { TrustedKey } from "./key-trusted-keys.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { plural } from "./terminal.ts";

/** Default lifetime of an approval. */
export const APPROVAL_MINUTES = 60;
/** Maximum lifetime of any signed document. */
export const MAX_LIFETIME_MINUTES = 24 * 60;

/** A verified approver. */
export interface Approver {
  signer: string;
  /** The key's fingerprint. */
  key: string;
  /** The Ed25519 key itself, the same in every form. */
  publicKeyHex: string;
  /** {@link approvalHash} */
  hash: string;
  /** Only of a break-glass key: what the approver gave as the reason. */
  breakGlass?: { reason: string };
}

/**
 * Hash of an approval without its signature, so that it is the same whichever of its key's ids the signature names. Use it,
 * never a hash of the whole document, to record that an approval was used.
 */
export function approvalHash(approval: Approval): string {
  return canonicalHash(unsigned(approval));
}

/** What an approval says. */
interface ApprovalTerms {
  planHash: string;
  /** substanceOf (exec-substance.ts) */
  substance?: string;
  /** Declared snapshots, by id, that the approver vouches for. */
  acceptedSnapshots?: readonly string[];
  signer: string;
  reason: string;
  now: Date;
  minutes: number;
}

/** An approval signed with one of our own keys. */
export function makeApproval(given: ApprovalTerms & { key: SecretKey }): Approval {
  return signDocument(unsignedApproval(given), given.key.seed, given.key.keyId);
}

/**
 * An approval of the plan with this hash, good for `minutes` (at most 24 hours) from `now`, without its signature; with a
 * substance also for another plan of the same substance.
 */
export function unsignedApproval(given: ApprovalTerms): Omit<Approval, "signature"> {
  const minutes = Math.min(given.minutes, MAX_LIFETIME_MINUTES);
  const { substance, acceptedSnapshots = [] } = given;
  return {
    schema_version: SCHEMA_VERSION,
    approval_id: randomUUID(),
    signer: given.signer,
    role: "approver",
    reason: given.reason,
    approved_at: given.now.toISOString(),
    expires_at: new Date(given.now.getTime() + minutes * 60_000).toISOString(),
    plan_hash: given.planHash,
    ...(substance === undefined ? {} : { substance_hash: substance }),
    ...(acceptedSnapshots.length === 0 ? {} : { accepted_snapshots: [...acceptedSnapshots] }),
  };
}

/** What approvals have to be of. */
export interface Approvable {
  planHash: string;
  /** The plan's substance, by the caller's own computation from the documents. */
  substance(): string;
}

/** The plan and decision of an execution plan, for its approvals. */
export function approvableIn(execution: ExecutionPlan, grammars?: Grammars): Approvable {
  const { operation_plan: plan, policy_result: policy, operation_plan_hash: planHash } = execution;
  return { planHash, substance: () => substanceOf(plan, policy, grammars) };
}

/**
 * Verifies every approval attached to a plan and returns the approvers. One bad approval refuses the plan, since the person
 * who attached it is mistaken about what was approved. `executionKey` is the public key, in hex, that signs the execution
 * plan: it may not approve.
 * @throws AegisError `approval_invalid`
 */
export function verifyApprovals(
  approvals: readonly Approval[],
  approvable: Approvable,
  trust: Trust,
  executionKey: string,
  now: Date,
): Approver[] {
  const approvers: Approver[] = [];
  for (const approval of approvals) {
    const approver = verifyApproval(approval, approvable, trust, executionKey, now);
    if (approvers.some(({ key }) => key === approver.key)) {
      throw invalid(approval, "its key has already approved; each approval needs its own key");
    }
    if (approvers.some(({ signer }) => signer === approver.signer)) {
      throw invalid(approval, "this person has already approved; each approval needs another person");
    }
    approvers.push(approver);
  }
  return approvers;
}

function verifyApproval(
  approval: Approval,
  approvable: Approvable,
  trust: Trust,
  executionKey: string,
  now: Date,
): Approver {
  const id = approval.signature.key_id;
  const claimsToBe = trust.some((key) => key.publicKeyHex === executionKey && key.ids.includes(id));
  if (claimsToBe || isMadeWith(approval, executionKey)) {
    throw invalid(approval, "it is signed with the key of the execution plan");
  }
  const key = trustedApprover(approval, trust, now);
  const problem = signatureProblem(approval, key);
  if (problem !== null) throw invalid(approval, problem);
  if (!isOf(approval, approvable)) throw invalid(approval, "it approves another plan");
  const from = Date.parse(approval.approved_at);
  const until = Date.parse(approval.expires_at);
  if (from > now.getTime()) throw invalid(approval, `it is not valid before ${approval.approved_at}`);
  if (until <= now.getTime()) throw invalid(approval, `it expired at ${approval.expires_at}`);
  if (until - from > MAX_LIFETIME_MINUTES * 60_000) {
    throw invalid(approval, "its lifetime is longer than 24 hours");
  }
  const [fingerprint = id] = key.ids;
  const { publicKeyHex } = key;
  return {
    ...{ signer: approval.signer, key: fingerprint, publicKeyHex, hash: approvalHash(approval) },
    ...(key.breakGlass ? { breakGlass: { reason: approval.reason } } : {}),
  };
}

/** Whether the approval claims this Ed25519 key, in whatever form: a signer's key made into an SSH key is the same key. */
function isMadeWith(approval: Approval, publicKeyHex: string): boolean {
  const { algorithm, signature } = approval.signature;
  return algorithm === "sshsig"
    ? sshSignatureKey(Buffer.from(signature, "base64")) === publicKeyHex
    : verifyDocument(approval, publicKeyHex);
}

/**
 * Whether an approval is of this plan, or of an earlier one with the same substance: then the same person has read the same
 * change, decided for the same reasons.
 */
function isOf({ plan_hash, substance_hash }: Approval, { planHash, substance }: Approvable): boolean {
  return plan_hash === planHash || (substance_hash !== undefined && substance_hash === substance());
}

function trustedApprover(approval: Approval, trust: Trust, now: Date) {
  try {
    const key = findSigner(trust, "approval", approval, now);
    checkSigner(key, approval.signer);
    return key;
  } catch (error) {
    throw error instanceof AegisError ? invalid(approval, error.message, error.hint) : error;
  }
}

function invalid(approval: Approval, why: string, hint = "Ask for a new one: aegis sign approve --help") {
  return new AegisError("approval_invalid", `the approval by ${approval.signer} is refused: ${why}`, hint, {
    approval_id: approval.approval_id,
  });
}

/**
 * Proves that every control that policy requires is present, by the documents alone; whether the snapshots exist is checked
 * on the host (exec-snapshot.ts). `executionKey` is the signer's verified key, which may not approve. Returns the verified
 * approvers.
 * @throws AegisError `approval_invalid`, `key_untrusted`, `approval_required`, `control_invalid`, `snapshot_required`
 */
export function checkControls(
  { execution, executionKey }: { execution: ExecutionPlan; executionKey: TrustedKey },
  {
    trust,
    now,
    config,
    grammars,
  }: { trust: Trust; now: Date; config: PolicyConfig; grammars?: Grammars | undefined },
): Approver[] {
  const { policy_result: policy } = execution;
  const approvers = verifyApprovals(
    execution.approvals,
    approvableIn(execution, grammars),
    trust,
    executionKey.publicKeyHex,
    now,
  );
  assertNoReviewer([executionKey, ...approvers], config);
  const own = approvers.find(({ signer }) => signer === execution.signer_identity);
  if (own !== undefined) {
    throw new AegisError(
      "approval_invalid",
      `${own.signer} signed this execution plan and can't approve it as well`,
      "Another person types: aegis sign approve --help",
    );
  }
  const people = approvalsNeeded(policy, config);
  if (approvers.length < people) {
    throw new AegisError(
      "approval_required",
      `policy requires ${plural(people, "human approval")}, and ${approvers.length} ${approvers.length === 1 ? "is" : "are"} attached`,
      "Ask on the host: aegis apply --request <plan> --reason <why>. Elsewhere hand the plan over; a second person types, there: aegis sign approve --plan <plan file> --reason <why>; then sign with --approval <file>.",
    );
  }
  checkSnapshots(execution, config, now);
  return approvers;
}

/** How many people have to approve what was decided so. */
export function approvalsNeeded(policy: PolicyResult, config: PolicyConfig): number {
  if (!policy.required_controls.includes("human approval")) return 0;
  return Math.max(1, policy.approvals_required, config.approvals.required);
}

/**
 * One key, one role: with a reviewer's key that also signs or approves, the model's side of the chain would agree with
 * itself.
 * @throws AegisError `key_untrusted`
 */
export function assertNoReviewer(keys: readonly { publicKeyHex: string }[], config: PolicyConfig): void {
  const found = keys.find(({ publicKeyHex }) => config.review.public_keys.includes(publicKeyHex));
  if (found === undefined) return;
  const both = keyId(found.publicKeyHex);
  throw new AegisError(
    "key_untrusted",
    `key ${both} is listed in [review] public_keys, so it can neither sign nor approve an execution plan`,
    "Give the reviewer its own key.",
    { key_id: both },
  );
}
