import type { ControlProof, ExecutionPlan } from "./doc.ts";
import { AegisError } from "./errors.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { safe, showArgv } from "./terminal.ts";

/** How long a snapshot is accepted as a way back. */
const PROOF_MINUTES = 24 * 60;

/** Full names of cloud snapshots: only declared, although they contain a `:`. */
const DECLARED = /^(?:arn:|https:\/\/)/;

/** The proofs that the executor looks up on the host. */
export type LookedUpType = Exclude<ControlProof["proof_type"], "snapshot-id">;

/** The ids of each provider. None begins with `-`, contains a space, or has `.` or `..` as a path component. */
export const PROVIDERS = {
  btrfs: {
    type: "btrfs-snapshot",
    id: /^(?:\/(?!\.{0,2}(?:\/|$))[\x21-\x2e\x30-\x7e]+)+$/,
    like: "the absolute path of the snapshot, such as /.snapshots/before",
  },
  snapper: {
    type: "snapper-snapshot",
    id: /^(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\/)?[1-9]\d{0,8}$/,
    like: "its number in the configuration root, or <configuration>/<number>",
  },
  lvm: {
    type: "lvm-snapshot",
    // lvm(8), VALID NAMES.
    id: /^(?!\.{1,2}\/)[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}\/(?!\.{1,2}$)[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}$/,
    like: "<volume group>/<logical volume>",
  },
  zfs: {
    type: "zfs-snapshot",
    // zfsconcepts(7) and zpoolconcepts(7), without the spaces they allow.
    id: /^[A-Za-z][A-Za-z0-9_.:-]*(?:\/[A-Za-z0-9_.:-]+)*@[A-Za-z0-9_.:-]+$/,
    like: "<dataset>@<snapshot>",
  },
} as const satisfies Record<string, { type: LookedUpType; id: RegExp; like: string }>;
type Provider = keyof typeof PROVIDERS;

function isProvider(name: string): name is Provider {
  return Object.hasOwn(PROVIDERS, name);
}

/**
 * The proof for `--snapshot-id [provider:]<id>`. With a provider the executor looks it up; a bare id is only declared. An
 * unknown provider is refused rather than taken as part of the id, which would then not be looked up.
 * @throws AegisError `usage` for an unknown provider, `control_invalid` for an id that can't be one
 */
export function snapshotProof(given: string, now: Date): ControlProof {
  const [prefix = ""] = given.split(":", 1);
  const named = given !== prefix && !DECLARED.test(given);
  const provider = named && isProvider(prefix) ? PROVIDERS[prefix] : undefined;
  if (named && provider === undefined && /^[\x21-\x7e]*$/.test(given)) {
    throw new AegisError(
      "usage",
      `--snapshot-id ${given}: there is no provider ${JSON.stringify(prefix)}`,
      `Providers: ${Object.keys(PROVIDERS).join(", ")}. An id that is only declared has no colon.`,
    );
  }
  const proof: ControlProof = {
    control: "system snapshot",
    proof_type: provider?.type ?? "snapshot-id",
    value: provider === undefined ? given : given.slice(prefix.length + 1),
    created_at: now.toISOString(),
    expires_at: new Date(now.getTime() + PROOF_MINUTES * 60_000).toISOString(),
  };
  const problem = idProblem(proof);
  if (problem !== null) throw new AegisError("control_invalid", problem);
  return proof;
}

/** Why a proof's value is not a valid snapshot id, or null. */
function idProblem({ proof_type, value }: Pick<ControlProof, "proof_type" | "value">): string | null {
  if (!/^[\x21-\x7e]{1,256}$/.test(value)) {
    return "a snapshot id is 1 to 256 printable characters without spaces";
  }
  for (const [name, { type, id, like }] of Object.entries(PROVIDERS)) {
    if (type === proof_type && !id.test(value))
      return `${value} is not a valid ${name} id: it must be ${like}`;
  }
  return null;
}

/** A snapshot's name on the command line, with its provider. */
export function snapshotName({ proof_type, value }: Pick<ControlProof, "proof_type" | "value">): string {
  const provider = Object.entries(PROVIDERS).find(([, { type }]) => type === proof_type)?.[0];
  return provider === undefined ? value : `${provider}:${value}`;
}

/** Whether the executor looks this snapshot up. */
export function isLookedUp(proof: ControlProof): proof is ControlProof & { proof_type: LookedUpType } {
  return proof.proof_type !== "snapshot-id";
}

/** Who vouches for a declared snapshot, by the plan's approvals. Whether these are valid is checked elsewhere. */
function acceptors({ value }: ControlProof, { approvals }: Pick<ExecutionPlan, "approvals">): string[] {
  return approvals.flatMap(({ accepted_snapshots: accepted = [], signer }) =>
    accepted.includes(value) ? [signer] : [],
  );
}

/** What is known of a snapshot before the run, in words. */
export function knownOf(proof: ControlProof, execution: Pick<ExecutionPlan, "approvals">): string {
  if (isLookedUp(proof)) return "the executor looks it up before running";
  const people = acceptors(proof, execution);
  return people.length === 0 ? "declared" : `declared, accepted by ${people.map(safe).join(", ")}`;
}

/**
 * A snapshot that an approver accepts. One with a provider is looked up and needs no acceptance.
 * @throws AegisError `usage`, `control_invalid`
 */
export function acceptedSnapshot(given: string, now: Date): string {
  const proof = snapshotProof(given, now);
  if (!isLookedUp(proof)) return proof.value;
  throw new AegisError(
    "usage",
    `--accept-snapshot ${given}: the executor looks this snapshot up, whoever accepts it`,
    "Accept only the id of a snapshot that was made outside the host, for example by a cloud.",
  );
}

/**
 * Proves that the snapshots named in a plan are valid as far as the documents tell, and that there is one if policy requires
 * it. One that the executor looks up is enough. A bare id is only the signer's claim: it counts if policy accepts that, or if
 * an approver, who is another person, has accepted exactly this id. The approvals have been verified.
 * @throws AegisError `control_invalid`, `snapshot_required`
 */
export function checkSnapshots(execution: ExecutionPlan, config: PolicyConfig, now: Date): void {
  const { control_proofs: proofs, operation_plan: plan } = execution;
  for (const proof of proofs) checkProof(proof, plan.created_at, now);
  if (!execution.policy_result.required_controls.includes("system snapshot")) return;
  if (proofs.length === 0) {
    throw new AegisError(
      "snapshot_required",
      "policy requires a system snapshot",
      "Make one, then sign with --snapshot-id <provider>:<id>; the providers are btrfs, snapper, lvm and zfs.",
    );
  }
  if (config.snapshot.accept_declared || proofs.some(isLookedUp)) return;
  const unseen = proofs.find((proof) => acceptors(proof, execution).length === 0);
  if (unseen === undefined) return;
  throw new AegisError(
    "snapshot_required",
    `the snapshot ${snapshotName(unseen)} is only declared: no approver accepted it, and [snapshot] accept_declared is not set`,
    `Name it with its provider, so that the executor looks it up: --snapshot-id btrfs:<path>; or hand the plan over, and a second person types, there: aegis sign approve --plan <plan file> --reason <why> --accept-snapshot ${showArgv([snapshotName(unseen)])}`,
  );
}

/**
 * A proof must be for its control, younger than the plan, valid now, and last no longer than a day.
 * @throws AegisError `control_invalid`
 */
function checkProof(proof: ControlProof, planned: string, now: Date): void {
  const lifetime = Date.parse(proof.expires_at) - Date.parse(proof.created_at);
  const problem =
    proof.control !== "system snapshot"
      ? `${proof.proof_type} does not prove ${proof.control}`
      : Date.parse(proof.created_at) > now.getTime()
        ? `it was made in the future (${proof.created_at})`
        : Date.parse(proof.expires_at) <= now.getTime()
          ? `it expired at ${proof.expires_at}`
          : Date.parse(proof.created_at) < Date.parse(planned)
            ? "it is older than the plan"
            : lifetime > PROOF_MINUTES * 60_000
              ? "its lifetime is longer than a day"
              : idProblem(proof);
  if (problem === null) return;
  throw new AegisError(
    "control_invalid",
    `the snapshot ${snapshotName(proof)} is refused: ${problem}`,
    "Sign again with --snapshot-id.",
  );
}
