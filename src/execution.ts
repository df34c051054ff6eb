import type { Approver } from "./approval.ts";
import {
  closeRun,
  digestRun,
  discardRun,
  isRepair,
  type PreparedRun,
  prepareAptRun,
  runApt,
} from "./apt-run.ts";
import type { AuditLog } from "./audit-log.ts";
import { canonicalHash, sha256Hex } from "./canonical.ts";
import { checkControls } from "./controls.ts";
import { clearCurrent, dpkgNow, markCurrent, recoverInterrupted } from "./current-run.ts";
import { type ExecutionPlan, unsigned } from "./documents.ts";
import { refuseUnfinishedDpkg, waitForDpkg } from "./dpkg-ready.ts";
import { loadEcosystem } from "./ecosystems.ts";
import { AegisError, messageOf } from "./errors.ts";
import { hostIdentity } from "./host.ts";
import { installedAt } from "./installed.ts";
import { SYSTEM } from "./paths.ts";
import { planAgain } from "./plan-again.ts";
import { readText } from "./planning.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { checkArgv, type Submission, verifySubmission } from "./preflight.ts";
import { bootTime } from "./processes.ts";
import { type Result, writeResult } from "./results.ts";
import { waitForRunLock } from "./run-lock.ts";
import { outcomeOf } from "./run-outcome.ts";
import { selfReplaced } from "./self.ts";
import { type FoundSnapshot, lookUpSnapshots } from "./snapshots.ts";
import { alreadyUsed, SpentRecord, type Use, usesLost } from "./spent.ts";
import { STATE } from "./state.ts";
import type { Trust } from "./trust.ts";
import type { Caller, EventInput } from "./varlink-interface.ts";

/** Most executions that may wait, and most of one user's. */
const QUEUE_LIMITS = { all: 32, perUid: 24 };
/** Kept free while a run is under way, so that its end can always be written down. */
const RESERVE_BYTES = 8 * 1024 * 1024;
/** And for its start, until that is written. */
const START_BYTES = 64 * 1024;
const ALIVE_MS = 10_000;

export interface ExecutionContext {
  /** What this host trusts and decides now. Asked again after waiting: a key may have been revoked meanwhile. */
  rules(): { trust: Trust; policy: LoadedPolicyConfig };
  audit: AuditLog;
  /** Who submitted it, as the front reports; null for a caller that the front did not name. */
  caller: Caller | null;
  /** The aegis executable for apt's hook, absolute. */
  aegis: string;
  /** Tells whoever watches. Never throws, never waits. */
  emit(event: EventInput): void;
  /** Aborted, with the reason, when this process is asked to end: nothing begins then, but what dpkg has begun goes on. */
  stop: AbortSignal;
}

/**
 * Takes a submitted plan through every check, in the order of the trust model, and runs it. Each refusal is audited
 * before it is thrown. Returns the outcome, which is on disk by then.
 * @throws AegisError with the code of the check that refused
 */
export async function execute(planText: string, context: ExecutionContext): Promise<Result> {
  const attempt = new Attempt(planText, context);
  try {
    return await attempt.run();
  } catch (error) {
    attempt.auditRefusal(error);
    throw error;
  }
}

class Attempt {
  readonly #text: string;
  readonly #context: ExecutionContext;
  readonly #spent = new SpentRecord(STATE.spent);
  #loaded: ReturnType<ExecutionContext["rules"]> | null = null;
  /** The plan, once its signature has been verified. */
  #signed: ExecutionPlan | null = null;
  #approvers: Approver[] = [];
  #snapshots: FoundSnapshot[] = [];
  /** True once the start event is on disk: from then on failures are outcomes, not refusals. */
  #started = false;
  /** True once there are files for the run. */
  #laidOut = false;
  #lastEvent = Date.now();

  constructor(text: string, context: ExecutionContext) {
    this.#text = text;
    this.#context = context;
  }

  /** Read when first asked for, so that a file that can't be read is a refusal like any other. */
  get #rules() {
    this.#loaded ??= this.#context.rules();
    return this.#loaded;
  }

  async run(): Promise<Result> {
    const submission = this.#verify();
    const { execution } = submission;
    this.#refuseUsed(submission);
    const waiter = { execution: execution.execution_plan_id, uid: this.#context.caller?.uid ?? -1 };
    const { stop } = this.#context;
    const onPlace = (place: number) => this.#emit({ kind: "queued", place });
    const lock = await waitForRunLock(waiter, QUEUE_LIMITS, onPlace, stop);
    try {
      refuseReplaced();
      // Not ended by `stop`: an apt that lost its runner is guarded by whoever waits for it.
      await recoverInterrupted(this.#context.audit, () => this.#alive());
      stop.throwIfAborted();
      // Waiting takes time: the plan may have expired, its key been revoked, and whoever was before us may have used it.
      this.#loaded = null;
      this.#verify();
      this.#refuseUsed(submission);
      this.#emit({ kind: "checking", message: "planning again" });
      await this.#planAgain(execution);
      checkArgv(execution, await loadEcosystem(execution.operation_plan.tool));
      this.#approvers = checkControls(submission, {
        trust: this.#rules.trust,
        now: new Date(),
        config: this.#rules.policy.config,
      });
      this.#snapshots = await lookUpSnapshots(execution, new Date());
      await this.#waitForDpkg(execution);
      const prepared = await this.#prepare(execution);
      return await this.#start(submission, prepared);
    } catch (error) {
      if (this.#started) await recoverInterrupted(this.#context.audit, () => this.#alive());
      else if (this.#laidOut) discardRun(execution.execution_plan_id);
      throw error;
    } finally {
      lock.release();
    }
  }

  /** Everything that the bytes alone, this host and the clock decide. */
  #verify(): Submission {
    const newest = this.#context.audit.head();
    const context = {
      trust: this.#rules.trust,
      now: new Date(),
      host: hostIdentity(readText),
      config: this.#rules.policy,
      bootTime: bootTime(),
      installedAt: installedAt(),
      newestAudited: newest === null ? null : new Date(newest.timestamp),
    };
    return verifySubmission(this.#text, context, (execution) => {
      this.#signed = execution;
    });
  }

  /** One plan and one approval allow one run, whatever became of the record since: the log is asked too. */
  #refuseUsed({ execution }: Submission): void {
    const record = this.#spent.read();
    const used = alreadyUsed([...record, ...usesLost(record, SYSTEM.auditDir)], this.#use(execution));
    if (used !== null)
      throw new AegisError("replay", used, "A signed plan runs once. Plan, decide and sign again.", {
        used: true,
      });
  }

  async #planAgain(execution: ExecutionPlan): Promise<void> {
    const alive = setInterval(() => this.#alive(), ALIVE_MS);
    try {
      await planAgain(execution, this.#rules.policy);
    } finally {
      clearInterval(alive);
    }
  }

  /** dpkg takes what is asked of it now. apt waits for its lock by itself. */
  async #waitForDpkg(execution: ExecutionPlan): Promise<void> {
    if (!isRepair(execution)) return refuseUnfinishedDpkg(execution.operation_plan, dpkgNow());
    await waitForDpkg(() => {
      this.#context.stop.throwIfAborted();
      this.#alive();
    });
  }

  async #prepare(execution: ExecutionPlan): Promise<PreparedRun> {
    // Left by an earlier attempt that was killed before it used anything up.
    discardRun(execution.execution_plan_id);
    this.#laidOut = true;
    return prepareAptRun(execution, this.#context.aegis);
  }

  /** Marks, uses up, audits the start, runs, compares, audits the end. The order is the guarantee. */
  async #start(submission: Submission, prepared: PreparedRun): Promise<Result> {
    const { audit, caller, stop } = this.#context;
    stop.throwIfAborted();
    const { execution } = submission;
    const result: Result = {
      schema_version: "1.0",
      execution_plan_id: execution.execution_plan_id,
      plan_id: execution.operation_plan_id,
      argv: execution.argv,
      state: "running",
      exit_status: null,
      code: null,
      message: null,
      started_at: new Date().toISOString(),
      ended_at: null,
      submitted_by_uid: caller?.uid ?? -1,
      not_as_planned: [],
      changed_besides: [],
      inverse: null,
    };
    const before = dpkgNow();
    const { transaction } = execution.operation_plan;
    const actor = this.#actor(execution);
    audit.reserve(RESERVE_BYTES + START_BYTES);
    markCurrent({ result, transaction, before, actor });
    try {
      this.#spent.append([
        ...usesLost(this.#spent.read(), SYSTEM.auditDir),
        { ...this.#use(execution), at: result.started_at, audit_sequence: audit.head()?.sequence ?? 0 },
      ]);
      // Gives back the room for this event: a full disk is met before the plan is used up.
      audit.reserve(RESERVE_BYTES);
      audit.append({
        kind: "execution_started",
        ...this.#subject(),
        decision: execution.policy_decision,
        details: {
          ...this.#use(execution),
          apt_config_sha256: prepared.configSha256,
          signed_by: { name: execution.signer_identity, key_id: execution.signature.key_id },
          approved_by: this.#approvers.map(({ signer, key }) => ({ name: signer, key_id: key })),
          snapshots_found: this.#snapshots,
          caller_reported_by_front: caller,
        },
      });
    } catch (error) {
      // Nothing has run, so there is nothing to recover; the refusal is audited with the space that was reserved.
      clearCurrent();
      audit.releaseReserve();
      throw error;
    }
    this.#started = true;
    writeResult(result);
    this.#emit({ kind: "started" });
    const status = await this.#runApt(prepared, execution);
    const ended = {
      ...result,
      ...(await outcomeOf(execution, status, before)),
      ended_at: new Date().toISOString(),
    };
    const { stdoutSha256, stderrSha256 } = digestRun(execution.execution_plan_id);
    audit.releaseReserve();
    audit.append({
      kind: "execution_completed",
      ...this.#subject(),
      exit_status: status,
      stdout_sha256: stdoutSha256,
      stderr_sha256: stderrSha256,
      details: {
        state: ended.state,
        code: ended.code,
        message: ended.message,
        not_as_planned: ended.not_as_planned,
        changed_besides: ended.changed_besides,
      },
    });
    closeRun(execution.execution_plan_id);
    writeResult(ended);
    clearCurrent();
    return ended;
  }

  async #runApt(prepared: PreparedRun, execution: ExecutionPlan): Promise<number | null> {
    return runApt(prepared, execution.argv, this.#context.stop, {
      progress: (percent, message) => this.#emit({ kind: "progress", percent: Math.floor(percent), message }),
      output: (stream, data) => this.#emit({ kind: "output", stream, data }),
      overdue: () => this.#auditOverdue(),
      tick: () => this.#alive(),
    });
  }

  /** Says in the log that a run takes long. A log that can't take it must not end the watching of the run. */
  #auditOverdue(): void {
    try {
      this.#context.audit.append({ kind: "execution_overdue", ...this.#subject(), details: { minutes: 60 } });
    } catch {
      // The end event, for which space is reserved, tells how long it took.
    }
  }

  /**
   * Writes a refusal down. What an unverified client sent stands there as a digest only. Once a run has begun there is no
   * refusal any more: its marker is still there, and whoever recovers it writes down how it ended.
   */
  auditRefusal(error: unknown): void {
    if (this.#started) return;
    const known = error instanceof AegisError ? error : new AegisError("internal", messageOf(error));
    const details = {
      code: known.code,
      request_sha256: sha256Hex(this.#text),
      caller_reported_by_front: this.#context.caller,
    };
    this.#context.audit.append({
      kind: "execution_denied",
      ...this.#subject(),
      decision: "deny",
      // A message may quote the plan: without a verified signature that would be anybody's words.
      details: this.#signed === null ? details : { ...details, message: known.message, ...known.details },
    });
  }

  #subject() {
    const execution = this.#signed;
    if (execution === null) return {};
    return {
      actor: this.#actor(execution),
      plan_id: execution.operation_plan_id,
      execution_id: execution.execution_plan_id,
      argv: execution.argv,
    };
  }

  #emit(event: Omit<EventInput, "execution_id">): void {
    this.#lastEvent = Date.now();
    const id = this.#signed?.execution_plan_id;
    if (id !== undefined) this.#context.emit({ execution_id: id, ...event });
  }

  /** A sign of life, when nothing else has been said for a while. */
  #alive(): void {
    if (Date.now() - this.#lastEvent >= ALIVE_MS) this.#emit({ kind: "alive" });
  }

  /** What a run of this plan uses up. An approval counts by what was signed, whatever its signature is spelled like. */
  #use(execution: ExecutionPlan): Pick<Use, "execution_plan_id" | "operation_plan_hash" | "approvals"> {
    return {
      execution_plan_id: execution.execution_plan_id,
      operation_plan_hash: execution.operation_plan_hash,
      approvals: execution.approvals.map((approval) => canonicalHash(unsigned(approval))),
    };
  }

  /** The verified signer. The key stands beside the name, since a key that is trusted without a name signs any. */
  #actor(execution: ExecutionPlan): string {
    return `${execution.signer_identity} (key ${execution.signature.key_id})`;
  }
}

/**
 * apt calls the file that is installed now as its hook, and that must be of the version that wrote what the hook reads.
 * @throws AegisError `unavailable`
 */
function refuseReplaced(): void {
  if (!selfReplaced()) return;
  throw new AegisError(
    "unavailable",
    "aegis was installed anew while this request waited",
    "Apply it again: nothing has been run, and nothing used up.",
  );
}
