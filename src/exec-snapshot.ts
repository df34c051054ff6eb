import type { ControlProof, ExecutionPlan } from "./doc.ts";
import { AegisError } from "./errors.ts";
import type { Snapshot, SnapshotHost } from "./exec-snapshot-host.ts";
import { isLookedUp, type LookedUpType, snapshotName } from "./exec-snapshot-id.ts";
import { LOOK_UPS } from "./exec-snapshot-providers.ts";

/** A snapshot found on the host. */
export interface FoundSnapshot {
  proof_type: ControlProof["proof_type"];
  value: string;
  of: string;
  holds: readonly string[];
  created_at: string;
}

/**
 * Looks up every snapshot that a signed plan names with its provider. Each must exist, contain a directory that the run
 * changes, and be younger than the plan; if policy requires a snapshot, together they must contain all of these directories.
 * A snapshot that can't be looked up is refused. Needs root.
 * @throws AegisError `control_invalid`
 */
export async function lookUpSnapshots(
  execution: Pick<ExecutionPlan, "control_proofs" | "operation_plan" | "policy_result">,
  now: Date,
  host: SnapshotHost,
): Promise<FoundSnapshot[]> {
  const planned = new Date(execution.operation_plan.created_at);
  const proofs = execution.control_proofs.filter(isLookedUp);
  const found: FoundSnapshot[] = [];
  for (const { proof_type, value } of proofs) {
    const { created, of, holds } = await lookUp(proof_type, value, host);
    const name = snapshotName({ proof_type, value });
    const made = `it was made at ${created.toISOString()}`;
    if (holds.length === 0)
      throw refused(name, `it is of ${of}, which contains none of ${host.places.join(", ")}`);
    // Most providers truncate the time to the second, so one made in the same second as the plan is refused.
    if (created < planned) throw refused(name, `${made}, before the plan (${planned.toISOString()})`);
    if (created > now) throw refused(name, `${made}, which is in the future`);
    found.push({ proof_type, value, of, holds, created_at: created.toISOString() });
  }
  if (proofs.length > 0 && execution.policy_result.required_controls.includes("system snapshot")) {
    const missing = host.places.filter((place) => !found.some(({ holds }) => holds.includes(place)));
    if (missing.length > 0) {
      throw refused(found.map(snapshotName).join(", "), `none contains ${missing.join(", ")}`);
    }
  }
  return found;
}

async function lookUp(type: LookedUpType, value: string, host: SnapshotHost): Promise<Snapshot> {
  try {
    return await LOOK_UPS[type](value, host);
  } catch (error) {
    throw error instanceof AegisError
      ? refused(snapshotName({ proof_type: type, value }), error.message)
      : error;
  }
}

function refused(name: string, why: string): AegisError {
  return new AegisError(
    "control_invalid",
    `the snapshot ${name} is refused: ${why}`,
    "Make a snapshot now, after the plan, and sign again with --snapshot-id <provider>:<id>.",
  );
}
