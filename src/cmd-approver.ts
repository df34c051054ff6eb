import { recordUserEvent } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { canonicalJson } from "./canonical.ts";
import { noteOtherId, requireKey, signerName } from "./cmd-sign-args.ts";
import type { Io } from "./command.ts";
import type { Approval, ApprovalSignature, Hashed, PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";
import { unsignedApproval } from "./exec-approval.ts";
import { substanceOf } from "./exec-substance.ts";
import { signDocument } from "./key-sign.ts";
import { checkSigner, findKey, userTrust, withOwnKey } from "./key-trust.ts";
import type { TrustedKey } from "./key-trusted-keys.ts";
import { unlockSecret } from "./key-unlock.ts";

/* Who approves or rejects, and the approval they sign: the same for a plan and for a request. */

/** A person with their approval key. */
interface ApprovingPerson {
  signer: string;
  key: { publicKeyHex: string; keyId: string };
  /** Signs a document with it. By an OpenSSH key this asks the person, and throws as signWithSshKeygen. */
  sign<T extends object>(document: T): Promise<T & { signature: ApprovalSignature }>;
}

/** The flags of a command that needs an approval key. */
interface ApproverFlags {
  key?: string | undefined;
  "ssh-key"?: string | undefined;
  "approval-secret-key-hex"?: string | undefined;
  "key-id"?: string | undefined;
  signer?: string | undefined;
}

/**
 * Finds the approval key and its owner's name. Checked before anything is shown, so that nobody reads a plan and types its hash
 * for an approval that would not count.
 * @throws AegisError as unlockSecret, requireKey, readSshKey, signerName, findKey and checkSigner
 */
export async function unlockApprover(flags: ApproverFlags, io: Io, now: Date): Promise<ApprovingPerson> {
  if (flags["ssh-key"] !== undefined) return sshApprover(flags["ssh-key"], flags, io, now);
  const given = { file: flags.key, hex: flags["approval-secret-key-hex"] };
  const secret = await unlockSecret("approval", given, io.env, io.note);
  const key = requireKey(secret, "approval", flags["key-id"]);
  const { signer } = approverOf(key, flags, io, now);
  return { signer, key, sign: async (document) => signDocument(document, key.seed, key.keyId) };
}

async function sshApprover(file: string, flags: ApproverFlags, io: Io, now: Date): Promise<ApprovingPerson> {
  if (flags.key !== undefined || flags["approval-secret-key-hex"] !== undefined) {
    throw new AegisError("usage", "--ssh-key was given beside another key; give one");
  }
  const { readSshKey, signWithSshKeygen } = await import("./key-ssh-keygen.ts");
  const ssh = readSshKey(file);
  const keyId = flags["key-id"] ?? ssh.fingerprint;
  const key = { publicKeyHex: ssh.publicKeyHex, keyId, sshLine: ssh.line };
  const { signer, trusted } = approverOf(key, flags, io, now);
  const verifyRequired = trusted.ssh?.verifyRequired === true;
  return {
    signer,
    key,
    async sign(document) {
      const message = Buffer.from(canonicalJson(document));
      const blob = await signWithSshKeygen(ssh, message, { verifyRequired, env: io.env, note: io.note });
      const signature = { algorithm: "sshsig" as const, key_id: keyId, signature: blob.toString("base64") };
      return { ...document, signature };
    },
  };
}

/** Who the key belongs to, if it may approve. */
function approverOf(
  key: { publicKeyHex: string; keyId: string; name?: string; sshLine?: string },
  flags: ApproverFlags,
  io: Io,
  now: Date,
): { signer: string; trusted: TrustedKey } {
  if (flags["key-id"] !== undefined) noteOtherId(key, "--key-id", io.note);
  const trust = withOwnKey(userTrust({ execution: [], approval: [] }, io.env), "approval", key);
  const signer = signerName(flags.signer, trust, key, "--signer");
  const trusted = findKey(trust, "approval", key.keyId, now);
  checkSigner(trusted, signer);
  if (trusted.breakGlass)
    io.note(
      "warning: this is a break-glass key. Its use is logged, and shown until root acknowledges it: aegis help break-glass",
    );
  return { signer, trusted };
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

/** Signs an approval of a plan and its substance. Logged before it is handed on: without a log entry there is no approval. */
export async function signApproval(
  { signer, key, sign }: ApprovingPerson,
  { plan, policy, argv, accepted, reason, now, minutes }: ApprovalGiven,
  { env }: Io,
): Promise<Approval> {
  const approval = await sign(
    unsignedApproval({
      planHash: plan.hash,
      substance: substanceOf(plan.document, policy),
      acceptedSnapshots: accepted,
      ...{ signer, reason, now, minutes },
    }),
  );
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
