import type { AuditLog } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { canonicalHash } from "./canonical.ts";
import { type ExecutionPlan, type PolicyResult, unsigned } from "./doc.ts";
import { type Result, writeResult } from "./doc-result.ts";
import type { PreparedRun, RunDriver } from "./eco-driver.ts";
import { archivesOf, closeRun, digestRun, startRun } from "./eco-run.ts";
import type { Approver } from "./exec-approval.ts";
import type { CheckSequence } from "./exec-checks.ts";
import {
  bounded,
  boundedDecision,
  judgeRun,
  leftToDo,
  watchBesides,
  watchRunning,
  withBesides,
} from "./exec-outcome.ts";
import { clearCurrent, markCurrent } from "./exec-recover.ts";
import type { FoundSnapshot } from "./exec-snapshot.ts";
import { type Use, type UsedRecord, usesLost } from "./exec-used.ts";
import { keyName } from "./key-trust.ts";
import type { TrustedKey } from "./key-trusted-keys.ts";
import type { Account } from "./sys-account.ts";
import type { StatePaths } from "./sys-state.ts";
import type { Caller, EventInput } from "./wire-executor.ts";

const ALIVE_MS = 10_000;

/** Reports the progress of one execution to its watchers. */
export class RunEvents {
  readonly #emit: (event: EventInput) => void;
  #id: string | null = null;
  #last = performance.now();

  /** `emit` never throws and never waits. */
  constructor(emit: (event: EventInput) => void) {
    this.#emit = emit;
  }

  /** Sets the execution that the events are about; before that none are sent. */
  about(id: string): void {
    this.#id = id;
  }

  say(event: Omit<EventInput, "execution_id">): void {
    this.#last = performance.now();
    if (this.#id !== null) this.#emit({ execution_id: this.#id, ...event });
  }

  /** What a driver needs while it downloads. */
  preparing(stop: AbortSignal) {
    return {
      stop,
      alive: () => this.alive(),
      progress: (percent: number, message: string) => this.say({ kind: "progress", percent, message }),
    };
  }

  /** Sends a sign of life if nothing has been sent for a while. */
  alive(): void {
    if (performance.now() - this.#last >= ALIVE_MS) this.say({ kind: "alive" });
  }

  /** Sends signs of life until `work` is done. */
  async aliveDuring<T>(work: Promise<T>): Promise<T> {
    const timer = setInterval(() => this.alive(), ALIVE_MS);
    try {
      return await work;
    } finally {
      clearInterval(timer);
    }
  }
}

/** Reserved on disk during a run, so that its end can always be logged. */
const RESERVE_BYTES = 8 * 1024 * 1024;
/** Reserved in addition for the start event. */
const START_BYTES = 64 * 1024;

/** A plan that has passed every check, with the checks' results. */
export interface Ready {
  execution: ExecutionPlan;
  driver: RunDriver;
  /** The verified key of its signature. */
  executionKey: TrustedKey;
  /** When its turn came, RFC 3339: the checks and planning again came after that. */
  turnAt: string;
  /** This host's own decision about its own plan. */
  decided: PolicyResult;
  /** The account that runs the tool; null for root. */
  account: Account | null;
  prepared: PreparedRun;
  approvers: readonly Approver[];
  snapshots: readonly FoundSnapshot[];
}

/** Where a run is recorded, and who is notified. */
export interface RunContext {
  paths: StatePaths;
  audit: AuditLog;
  used: UsedRecord;
  /** Who submitted it, as the front reports; null for a caller that the front did not name. */
  caller: Caller | null;
  events: RunEvents;
  /** Aborted, with the reason, when this process is asked to end. */
  stop: AbortSignal;
  /** The checks; those up to `laid-out` have been made. */
  checks: CheckSequence;
  /** Called once the start event is on disk: from then on a failure is an outcome, not a refusal. */
  started(): void;
  /** Called after that, once the outcome's file is there. */
  recorded(): void;
}

/**
 * Makes the last checks (exec-checks.ts), runs, compares, logs the end. The order is the guarantee. The caller holds the run lock.
 * @throws AegisError; if `started` was not called, nothing has run
 */
export async function runPlan(ready: Ready, context: RunContext): Promise<Result> {
  const { execution, executionKey, driver, prepared, account } = ready;
  const { audit, paths, caller, events, stop, checks } = context;
  stop.throwIfAborted();
  const actor = actorOf(execution, executionKey);
  const result: Result = {
    schema_version: "1.0",
    execution_plan_id: execution.execution_plan_id,
    plan_id: execution.operation_plan_id,
    tool: execution.operation_plan.tool,
    argv: execution.argv,
    state: "running",
    exit_status: null,
    code: null,
    message: null,
    actor,
    turn_at: ready.turnAt,
    started_at: new Date().toISOString(),
    ended_at: null,
    submitted_by_uid: caller?.uid ?? -1,
    not_as_planned: [],
    changed_besides: [],
    inverse: null,
  };
  const { transaction } = execution.operation_plan;
  const [before, besides, running] = checks.make("host-observed", () => [
    driver.observe(),
    watchBesides(driver, transaction),
    watchRunning(driver, transaction),
  ]);
  checks.make("room-reserved", () => audit.reserve(RESERVE_BYTES + START_BYTES));
  try {
    checks.make("marked", () =>
      markCurrent({ result, transaction, before, actor, about: aboutOf(ready) }, paths),
    );
    checks.make("used-up", () => useUp(execution, result.started_at, context));
    checks.make("start-logged", () => {
      // Frees the room for this event, so a full disk was noticed before the plan was used up.
      audit.reserve(RESERVE_BYTES);
      auditStart(ready, context);
    });
  } catch (error) {
    // Nothing has run, so there is nothing to recover. The refusal is audited in the reserved space.
    clearCurrent(paths);
    audit.releaseReserve();
    throw error;
  }
  context.started();
  writeResult(result, paths);
  context.recorded();
  events.say({ kind: "started" });
  const status = await startRun(prepared, execution.argv, driver, account, stop, {
    progress: (percent, message) => events.say({ kind: "progress", percent: Math.floor(percent), message }),
    output: (stream, data) => events.say({ kind: "output", stream, data }),
    overdue: () => auditOverdue(ready, audit),
    tick: () => events.alive(),
  });
  const subject = { argv: execution.argv, transaction };
  const outcome = withBesides(await judgeRun(driver, prepared.directory, subject, status, before), besides());
  const ended_at = new Date().toISOString();
  const ended = { ...result, ...outcome, ...(await running()), ended_at };
  const notKept =
    ended.state === "completed"
      ? (driver.keep?.(ended, transaction, archivesOf(ended.execution_plan_id, paths)) ?? null)
      : null;
  auditEnd(ready, ended, notKept, context);
  closeRun(execution.execution_plan_id, paths);
  writeResult(ended, paths);
  clearCurrent(paths);
  return ended;
}

/** What a run of this plan uses up. An approval is identified by what was signed, not by its signature. */
export function useOf(
  execution: ExecutionPlan,
): Pick<Use, "tool" | "execution_plan_id" | "operation_plan_hash" | "approvals"> {
  return {
    tool: execution.operation_plan.tool,
    execution_plan_id: execution.execution_plan_id,
    operation_plan_hash: execution.operation_plan_hash,
    approvals: execution.approvals.map((approval) => canonicalHash(unsigned(approval))),
  };
}

/** The fields of every event about a verified plan. */
export function subjectOf(execution: ExecutionPlan, key: TrustedKey) {
  return {
    actor: actorOf(execution, key),
    plan_id: execution.operation_plan_id,
    execution_id: execution.execution_plan_id,
    argv: execution.argv,
  };
}

/** The details of every event of a run: what it changes, and who approved that, as verified. */
function aboutOf({ execution, approvers }: Ready) {
  return {
    ...subjectDetails(execution.operation_plan),
    approved_by: approvers.map(({ signer, key }) => ({ name: signer, key_id: key })),
  };
}

/** The verified signer, with the key: one that is trusted without a name may sign under any. */
function actorOf({ signer_identity, signature }: ExecutionPlan, key: TrustedKey): string {
  return `${signer_identity} (key ${keyName(key, signature.key_id)})`;
}

/** Adds the plan to the record of used plans, and any uses that the log has and the record lost. */
function useUp(execution: ExecutionPlan, at: string, { audit, used, paths }: RunContext): void {
  used.append([
    ...usesLost(used.read(), paths.audit),
    { ...useOf(execution), at, audit_sequence: audit.head()?.sequence ?? 0 },
  ]);
}

function auditStart(ready: Ready, { audit, caller }: RunContext): void {
  const { execution, executionKey, decided, prepared, snapshots, account, approvers } = ready;
  // Before the start, so that no run with such an approval is without it.
  for (const { signer, key, breakGlass } of approvers) {
    if (breakGlass === undefined) continue;
    const { operation } = subjectDetails(execution.operation_plan);
    audit.append({
      kind: "break_glass_used",
      ...subjectOf(execution, executionKey),
      details: {
        message: `approved with the break-glass key ${key} of ${signer}: ${operation}`,
        ...{ name: signer, key_id: key, operation, reason: breakGlass.reason },
      },
    });
  }
  audit.append({
    kind: "execution_started",
    ...subjectOf(execution, executionKey),
    decision: execution.policy_decision,
    details: {
      ...prepared.facts,
      ...(account === null ? {} : { runs_as: account }),
      ...useOf(execution),
      executor_decision: boundedDecision(decided),
      signed_by: {
        name: execution.signer_identity,
        key_id: keyName(executionKey, execution.signature.key_id),
      },
      ...aboutOf(ready),
      snapshots_found: [...snapshots],
      caller_reported_by_front: caller,
    },
  });
}

/** Logs that a run takes long. A failing log must not end the watching of the run. */
function auditOverdue(ready: Ready, audit: AuditLog): void {
  try {
    const subject = subjectOf(ready.execution, ready.executionKey);
    audit.append({ kind: "execution_overdue", ...subject, details: { minutes: 60, ...aboutOf(ready) } });
  } catch {
    // The end event, for which space is reserved, shows how long it took.
  }
}

/** Logs the end, into the room that was reserved for it. */
function auditEnd(ready: Ready, ended: Result, notKept: string | null, { audit, paths }: RunContext): void {
  const { execution, executionKey, driver, prepared } = ready;
  const left = driver.left?.(prepared.directory);
  const kept = notKept === null ? {} : { not_kept: bounded(notKept) };
  const { state, exit_status, code, message, not_as_planned, changed_besides } = ended;
  audit.releaseReserve();
  audit.append({
    kind: "execution_completed",
    ...subjectOf(execution, executionKey),
    exit_status,
    ...digestRun(execution.execution_plan_id, paths),
    details: {
      ...{ state, code, message, not_as_planned, changed_besides },
      ...{ ...left, ...kept, ...leftToDo(ended), ...aboutOf(ready) },
    },
  });
}
