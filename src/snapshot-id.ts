import type { ControlProof } from "./documents.ts";
import { AegisError } from "./errors.ts";

/** How long a snapshot counts as a way back for the change that follows it. */
export const PROOF_MINUTES = 24 * 60;

type ProofType = ControlProof["proof_type"];
/** The proofs that the executor looks up on the host. */
export type LookedUpType = Exclude<ProofType, "snapshot-id">;

/** What an id of each provider looks like. None begins with `-`, has a space, or leads anywhere but where it says. */
const PROVIDERS: Readonly<Record<string, { type: LookedUpType; id: RegExp; like: string }>> = {
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
};

/**
 * The proof that `--snapshot-id [provider:]<id>` stands for. With a provider the executor looks it up; a bare id is only
 * declared.
 * @throws AegisError `control_invalid` for an id that can't be one
 */
export function snapshotProof(given: string, now: Date): ControlProof {
  const [prefix = ""] = given.split(":", 1);
  const provider = Object.hasOwn(PROVIDERS, prefix) && given !== prefix ? PROVIDERS[prefix] : undefined;
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

/** Why a proof's value can't be the id of a snapshot, or null. */
export function idProblem({ proof_type, value }: Pick<ControlProof, "proof_type" | "value">): string | null {
  if (!/^[\x21-\x7e]{1,256}$/.test(value)) {
    return "a snapshot id is 1 to 256 printable characters without spaces";
  }
  for (const [name, { type, id, like }] of Object.entries(PROVIDERS)) {
    if (type === proof_type && !id.test(value)) return `${value} is no id of ${name}: it is ${like}`;
  }
  return null;
}

/** Whether the executor looks for this snapshot itself. */
export function isLookedUp(proof: ControlProof): proof is ControlProof & { proof_type: LookedUpType } {
  return proof.proof_type !== "snapshot-id";
}
