import { randomUUID } from "node:crypto";
import { canonicalHash } from "./canonical.ts";
import { type Approval, SCHEMA_VERSION, unsigned } from "./documents.ts";
import { signDocument, verifyDocument } from "./ed25519.ts";
import { AegisError } from "./errors.ts";
import type { SecretKey } from "./keys.ts";
import { checkSigner, findSigner, type Trust } from "./trust.ts";

/** How long an approval is good for where nobody says. */
export const APPROVAL_MINUTES = 60;
/** No signed document lives longer. */
export const MAX_LIFETIME_MINUTES = 24 * 60;

/** Who approved, as verified. */
export interface Approver {
  signer: string;
  /** The key's fingerprint. */
  key: string;
  /** {@link approvalHash} */
  hash: string;
}

/**
 * Hash of what an approver signed, the signature left out: an approval stays the same one whatever id of its key is
 * written into it. Use it, never a hash of the whole document, to remember that an approval was used.
 */
export function approvalHash(approval: Approval): string {
  return canonicalHash(unsigned(approval));
}

/** A signed approval of the plan with this hash, good for `minutes` (at most 24 hours) from `now`. */
export function makeApproval(given: {
  planHash: string;
  signer: string;
  reason: string;
  key: SecretKey;
  now: Date;
  minutes: number;
}): Approval {
  const minutes = Math.min(given.minutes, MAX_LIFETIME_MINUTES);
  const approval = {
    schema_version: SCHEMA_VERSION,
    approval_id: randomUUID(),
    signer: given.signer,
    role: "approver" as const,
    reason: given.reason,
    approved_at: given.now.toISOString(),
    expires_at: new Date(given.now.getTime() + minutes * 60_000).toISOString(),
    plan_hash: given.planHash,
  };
  return signDocument(approval, given.key.seed, given.key.keyId);
}

/**
 * Verifies every approval attached to a plan and returns who gave them. One bad approval refuses them all: whoever
 * attached it is wrong about what was approved.
 * `executionKey` is the public key, in hex, that signs the execution plan: it may not approve.
 * @throws AegisError `approval_invalid`
 */
export function verifyApprovals(
  approvals: readonly Approval[],
  planHash: string,
  trust: Trust,
  executionKey: string,
  now: Date,
): Approver[] {
  const approvers: Approver[] = [];
  for (const approval of approvals) {
    const approver = verifyApproval(approval, planHash, trust, executionKey, now);
    if (approvers.some(({ key }) => key === approver.key)) {
      throw invalid(approval, "its key has approved already; each approval needs a key of its own");
    }
    if (approvers.some(({ signer }) => signer === approver.signer)) {
      throw invalid(approval, "this person has approved already; each approval needs another person");
    }
    approvers.push(approver);
  }
  return approvers;
}

function verifyApproval(
  approval: Approval,
  planHash: string,
  trust: Trust,
  executionKey: string,
  now: Date,
): Approver {
  const id = approval.signature.key_id;
  const claimsToBe = trust.some((key) => key.publicKeyHex === executionKey && key.ids.includes(id));
  if (claimsToBe || verifyDocument(approval, executionKey)) {
    throw invalid(approval, "it is by the key that signs the execution plan");
  }
  const key = trustedApprover(approval, trust, now);
  if (!verifyDocument(approval, key.publicKeyHex)) throw invalid(approval, "its signature does not fit");
  if (approval.plan_hash !== planHash) throw invalid(approval, "it approves another plan");
  const from = Date.parse(approval.approved_at);
  const until = Date.parse(approval.expires_at);
  if (from > now.getTime()) throw invalid(approval, `it is not valid before ${approval.approved_at}`);
  if (until <= now.getTime()) throw invalid(approval, `it expired at ${approval.expires_at}`);
  if (until - from > MAX_LIFETIME_MINUTES * 60_000) {
    throw invalid(approval, "it was made to last longer than 24 hours");
  }
  const [fingerprint = id] = key.ids;
  return { signer: approval.signer, key: fingerprint, hash: approvalHash(approval) };
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
