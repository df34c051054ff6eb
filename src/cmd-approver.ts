import { recordUserEvent } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { noteOtherId, requireKey, signerName } from "./cmd-sign-args.ts";
import type { Io } from "./command.ts";
import type { Approval, Hashed, PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { makeApproval } from "./exec-approval.ts";
import { substanceOf } from "./exec-substance.ts";
import type { SecretKey } from "./key.ts";
import { checkSigner, findKey, userTrust, withOwnKey } from "./key-trust.ts";
import { unlockSecret } from "./key-unlock.ts";

/* Who approves or rejects, and the approval they sign: the same for a plan and for a request. */

/** A person with their approval key. */
interface ApprovingPerson {
  signer: string;
  key: SecretKey;
}

/** The flags of a command that needs an approval key. */
interface ApproverFlags {
  key?: string | undefined;
  "approval-secret-key-hex"?: string | undefined;
  "key-id"?: string | undefined;
  signer?: string | undefined;
}

/**
 * Finds the approval key and its owner's name. Checked before anything is shown, so that nobody reads a plan and types its hash
 * for an approval that would not count.
 * @throws AegisError as unlockSecret, requireKey, signerName, findKey and checkSigner
 */
export async function unlockApprover(flags: ApproverFlags, io: Io, now: Date): Promise<ApprovingPerson> {
  const given = { file: flags.key, hex: flags["approval-secret-key-hex"] };
  const secret = await unlockSecret("approval", given, io.env, io.note);
  const key = requireKey(secret, "approval", flags["key-id"]);
  if (flags["key-id"] !== undefined) noteOtherId(key, "--key-id", io.note);
  const trust = withOwnKey(userTrust({ execution: [], approval: [] }, io.env), "approval", key);
  const signer = signerName(flags.signer, trust, key, "--signer");
  const trusted = findKey(trust, "approval", key.keyId, now);
  checkSigner(trusted, signer);
  if (trusted.breakGlass)
    io.note(
      "warning: this is a break-glass key. Its use is logged, and shown until root acknowledges it: aegis help break-glass",
    );
  return { signer, key };
}

/** What is approved, and how. */
interface ApprovalGiven {
  plan: Hashed<OperationPlan>;
  policy: PolicyResult;
  argv: string[];
  /** Ids of snapshots that the approver knows of and nothing looks up. */
  accepted: string[];
  reason: string;
  now: Date;
  minutes: number;
}

/** Signs an approval of a plan and its substance. Logged first: without a log entry there is no approval. */
export function signApproval(
  { signer, key }: ApprovingPerson,
  { plan, policy, argv, accepted, reason, now, minutes }: ApprovalGiven,
  { env }: Io,
): Approval {
  const approval = makeApproval({
    planHash: plan.hash,
    substance: substanceOf(plan.document, policy),
    acceptedSnapshots: accepted,
    ...{ signer, reason, key, now, minutes },
  });
  recordUserEvent(env, {
    kind: "approval_signed",
    actor: signer,
    plan_id: plan.document.plan_id,
    argv,
    decision: policy.decision,
    details: {
      approval_id: approval.approval_id,
      plan_hash: plan.hash,
      key_id: key.keyId,
      reason: approval.reason,
      accepted_snapshots: accepted,
      expires_at: approval.expires_at,
      ...subjectDetails(plan.document),
    },
  });
  return approval;
}
