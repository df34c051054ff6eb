import { recordUserEvent } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { canonicalHash } from "./canonical.ts";
import type { Io } from "./command.ts";
import type { ExecutionPlan } from "./doc.ts";
import { saveDocument } from "./doc-store.ts";
import { buildExecutionPlan, type Ingredients } from "./exec-plan.ts";
import type { FoundSnapshot } from "./exec-snapshot.ts";
import { isLookedUp } from "./exec-snapshot-id.ts";

interface SignedExecution {
  execution: ExecutionPlan;
  path: string;
  /** The snapshots, where root signs; otherwise only the executor looks them up. */
  snapshots: FoundSnapshot[] | null;
}

/**
 * Builds and signs an execution plan, logs that, and writes it to `out` or the store.
 * @throws AegisError as {@link buildExecutionPlan}, lookUpSnapshots and {@link saveDocument}
 */
export async function signExecution(given: Ingredients, io: Io, out?: string): Promise<SignedExecution> {
  const execution = await buildExecutionPlan(given);
  const snapshots = await lookUpAsRoot(execution);
  // Logged before it is written: without a log entry there is no execution plan.
  recordUserEvent(io.env, {
    kind: "plan_signed",
    actor: given.signer,
    plan_id: execution.operation_plan_id,
    execution_id: execution.execution_plan_id,
    argv: execution.argv,
    decision: execution.policy_decision,
    details: {
      execution_plan_hash: canonicalHash(execution),
      operation_plan_hash: execution.operation_plan_hash,
      key_id: given.key.keyId,
      approvers: execution.approvals.map(({ signer }) => signer),
      snapshots: execution.control_proofs.map(({ proof_type, value }) => `${proof_type} ${value}`),
      expires_at: execution.expires_at,
      ...subjectDetails(execution.operation_plan),
    },
  });
  return { execution, snapshots, path: saveDocument("execution", execution, io.env, out) };
}

/** Looks the snapshots up now if root signs; the executor does so anyway, but only root sees every provider's. */
async function lookUpAsRoot(execution: ExecutionPlan): Promise<FoundSnapshot[] | null> {
  if (process.geteuid?.() !== 0 || !execution.control_proofs.some(isLookedUp)) return null;
  const [{ lookUpSnapshots }, { snapshotHost }, { loadEcosystem }] = await Promise.all([
    import("./exec-snapshot.ts"),
    import("./exec-snapshot-host.ts"),
    import("./eco-load.ts"),
  ]);
  const { driver } = await loadEcosystem(execution.operation_plan.tool);
  if (driver === null) return null;
  const { roots } = await driver(execution.argv);
  return lookUpSnapshots(execution, new Date(), snapshotHost(roots));
}
