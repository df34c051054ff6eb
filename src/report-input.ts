import { type Approver, verifyApprovals } from "./approval.ts";
import type { Io } from "./command.ts";
import type { ExecutionPlan } from "./documents.ts";
import { keyId } from "./ed25519.ts";
import { checkHashes } from "./embedded.ts";
import { AegisError, EXIT } from "./errors.ts";
import { checkSignature } from "./preflight.ts";
import { resolveDocument } from "./store.ts";
import { type BareKeys, bareKeys } from "./trusted-keys.ts";

const KEYS_HINT =
  "Give the keys of all who signed and approved: --execution-public-key-hex <hex>, --approval-public-key-hex <hex>.";

/** A signed plan as the report takes it: verified, or with what is wrong with it. */
export interface ReadPlan {
  execution: ExecutionPlan;
  hash: string;
  path: string | null;
  /** Fingerprint of the key that signed; null where nothing is known for sure of this plan. */
  signerKey: string | null;
  /** Of its approvals, in their order; none where the plan is not verified. */
  approvers: readonly Approver[];
  /** Why it is not verified; null where it is. */
  problem: string | null;
}

/**
 * Reads a signed plan and verifies it by the keys given, and by nothing else on this host: its signature, that the
 * documents in it belong together, and each approval. It is history, so everything must have been in force when it was
 * signed, not now. With `allowUnverified` the plan comes back with its problem where it would be refused.
 * @throws AegisError as reading and verifying do, naming the file
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
  const { approvals, operation_plan_hash: planHash, signer_identity: signer } = execution;
  const approvers = verifyApprovals(approvals, planHash, trust, key.publicKeyHex, at);
  if (approvers.some((approver) => approver.signer === signer)) {
    throw new AegisError("approval_invalid", `${signer} signed this execution plan and approved it as well`);
  }
  return { signerKey: keyId(key.publicKeyHex), approvers };
}
