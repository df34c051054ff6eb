import type { ControlProof } from "./doc.ts";
import { AegisError } from "./errors.ts";

/** How long a snapshot is accepted as a way back. */
export const PROOF_MINUTES = 24 * 60;

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
export function idProblem({ proof_type, value }: Pick<ControlProof, "proof_type" | "value">): string | null {
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
