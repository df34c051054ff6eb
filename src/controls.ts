import { type Approver, verifyApprovals } from "./approval.ts";
import type { Control, ControlProof, ExecutionPlan } from "./documents.ts";
import { keyId } from "./ed25519.ts";
import { AegisError } from "./errors.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { idProblem, isLookedUp, PROOF_MINUTES, snapshotName } from "./snapshot-id.ts";
import { plural } from "./terminal.ts";
import type { Trust } from "./trust.ts";
import type { TrustedKey } from "./trusted-keys.ts";

/**
 * Proves that every control which policy requires is there, as far as the documents tell: that the snapshots are there, too,
 * only the host tells (snapshots.ts). `executionKey` is the signer's, as
 * verified: it may not approve. Returns the verified approvers.
 * @throws AegisError `approval_invalid`, `key_untrusted`, `approval_required`, `control_invalid`, `snapshot_required`
 */
export function checkControls(
  { execution, executionKey }: { execution: ExecutionPlan; executionKey: TrustedKey },
  { trust, now, config }: { trust: Trust; now: Date; config: PolicyConfig },
): Approver[] {
  const { policy_result: policy, operation_plan_hash: planHash } = execution;
  const required = (control: Control) => policy.required_controls.includes(control);
  const approvers = verifyApprovals(execution.approvals, planHash, trust, executionKey.publicKeyHex, now);
  assertNoReviewer([keyId(executionKey.publicKeyHex), ...approvers.map(({ key }) => key)], config);
  const own = approvers.find(({ signer }) => signer === execution.signer_identity);
  if (own !== undefined) {
    throw new AegisError(
      "approval_invalid",
      `${own.signer} signed this execution plan and can't approve it as well`,
      "Another person types: aegis sign approve --help",
    );
  }
  const people = required("human approval")
    ? Math.max(1, policy.approvals_required, config.approvals.required)
    : 0;
  if (approvers.length < people) {
    throw new AegisError(
      "approval_required",
      `policy requires ${plural(people, "human approval")}, and ${approvers.length} of them ${approvers.length === 1 ? "is" : "are"} here`,
      "Hand the plan over. A second person types, there: aegis sign approve --plan <plan file> --reason <why> --key <key file>; then sign with --approval <file>.",
    );
  }
  for (const proof of execution.control_proofs) checkProof(proof, execution.operation_plan.created_at, now);
  if (!required("system snapshot")) return approvers;
  if (execution.control_proofs.length === 0) {
    throw new AegisError(
      "snapshot_required",
      "policy requires a system snapshot",
      "Make one, then sign with --snapshot-id <provider>:<id>; the providers are btrfs, snapper, lvm and zfs.",
    );
  }
  // A bare id is only a claim: a human must stand behind it, or policy must accept it. The others the executor looks up.
  const isDeclared = !execution.control_proofs.some(isLookedUp);
  if (isDeclared && !config.snapshot.accept_declared && approvers.length === 0) {
    throw new AegisError(
      "snapshot_required",
      "the snapshot is only declared, which counts with a human approval or with [snapshot] accept_declared=true",
      "Name it with its provider, and the executor looks it up: --snapshot-id btrfs:<path>; or hand the plan over, and a second person types, there: aegis sign approve --plan <plan file> --reason <why> --key <key file>",
    );
  }
  return approvers;
}

/**
 * One key, one role: a reviewer's key that also signs or approves would be the model's side of the chain agreeing with
 * itself. `keys` are fingerprints.
 * @throws AegisError `key_untrusted`
 */
function assertNoReviewer(keys: readonly string[], config: PolicyConfig): void {
  const reviewers = config.review.public_keys.map(keyId);
  const both = keys.find((key) => reviewers.includes(key));
  if (both === undefined) return;
  throw new AegisError(
    "key_untrusted",
    `key ${both} signs reviews, by [review] public_keys, and so it can neither sign an execution plan nor approve it`,
    "Give the reviewer a key of its own.",
    { key_id: both },
  );
}

/**
 * A proof must be of its control, younger than the plan, in force now, and not for longer than a day.
 * @throws AegisError `control_invalid`
 */
function checkProof(proof: ControlProof, planned: string, now: Date): void {
  const lifetime = Date.parse(proof.expires_at) - Date.parse(proof.created_at);
  const problem =
    proof.control !== "system snapshot"
      ? `${proof.proof_type} is no proof of ${proof.control}`
      : Date.parse(proof.created_at) > now.getTime()
        ? `it is of the future (${proof.created_at})`
        : Date.parse(proof.expires_at) <= now.getTime()
          ? `it expired at ${proof.expires_at}`
          : Date.parse(proof.created_at) < Date.parse(planned)
            ? "it is older than the plan"
            : lifetime > PROOF_MINUTES * 60_000
              ? "it says that it lasts for more than a day"
              : idProblem(proof);
  if (problem === null) return;
  throw new AegisError(
    "control_invalid",
    `the snapshot ${snapshotName(proof)} is refused: ${problem}`,
    "Sign again with --snapshot-id.",
  );
}
