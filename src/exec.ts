import { join } from "node:path";
import type { AuditLog } from "./audit-log.ts";
import { type Subject, subjectDetails } from "./audit-subject.ts";
import { sha256Hex } from "./canonical.ts";
import type { ExecutionPlan, PolicyResult } from "./doc.ts";
import type { Result } from "./doc-result.ts";
import type { RunDriver } from "./eco-driver.ts";
import { type Ecosystems, loadDriver, loadEcosystem } from "./eco-load.ts";
import type { Planning } from "./eco-planning.ts";
import { archivesOf, discardRun, runDirectory } from "./eco-run.ts";
import { AegisError, messageOf } from "./errors.ts";
import { checkControls } from "./exec-approval.ts";
import { CheckSequence, SUBMISSION_CHECKS } from "./exec-checks.ts";
import { waitForRunLock } from "./exec-lock.ts";
import { refuseReplaced } from "./exec-own-files.ts";
import { checkArgv, type Submission, verifySubmission } from "./exec-preflight.ts";
import { recoverInterrupted } from "./exec-recover.ts";
import { planAgain } from "./exec-replan.ts";
import { type Ready, RunEvents, runPlan, subjectOf, useOf } from "./exec-run.ts";
import { lookUpSnapshots } from "./exec-snapshot.ts";
import { snapshotHost } from "./exec-snapshot-host.ts";
import { UsedRecord, whyUnusable } from "./exec-used.ts";
import type { Trust } from "./key-trust.ts";
import type { TrustedKey } from "./key-trusted-keys.ts";
import { hostIdentity } from "./plan-world.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { accountOf } from "./sys-account.ts";
import { BOOT_VARIABLE } from "./sys-boot.ts";
import { awaitFileLock } from "./sys-file-lock.ts";
import { readText } from "./sys-files.ts";
import { expendable } from "./sys-oom.ts";
import { installedAt, noSpace, type StatePaths } from "./sys-state.ts";
import { GARBAGE_PER_BYTE, sweepAfter } from "./wire-budget.ts";
import type { Caller, EventInput } from "./wire-executor.ts";

/** Limits on waiting executions, in total and per user. */
const QUEUE_LIMITS = { all: 32, perUid: 24 };

/** Held while parsing a plan, so that only one runner parses at a time. */
export const PARSE_LOCK = "parse";

/** How long a finished run waits for the bookkeeping of requests. The next process that opens them does what is left. */
const RECORDED_MS = 5000;

/** Where an executor keeps its records, what it can run, and how it plans. */
export interface ExecutorWorld {
  paths: StatePaths;
  ecosystems: Ecosystems;
  /** With the executor's own settings; nothing from the submitter's environment. */
  openPlanning(): Planning & { close(): void };
}

export interface ExecutionContext extends ExecutorWorld {
  /** The host's current trust and policy. Read again after waiting, since a key may have been revoked. */
  rules(): { trust: Trust; policy: LoadedPolicyConfig };
  audit: AuditLog;
  /** Who submitted it, as the front reports; null for a caller that the front did not name. */
  caller: Caller | null;
  /** The aegis executable for a tool that calls back, absolute. */
  aegis: string;
  /** Whether the installed file is no longer the running program. */
  isReplaced(): boolean;
  /** Sends an event to the watchers. Never throws, never waits. */
  emit(event: EventInput): void;
  /** Called once a run is in the log and has its outcome's file: requests are ended by it. Never throws; checks nothing. */
  recorded(): Promise<void>;
  /** Aborted, with the reason, when this process is asked to end. Nothing starts after that; what must not be interrupted continues. */
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
  } catch (thrown) {
    throw attempt.refuse(thrown);
  }
}

class Attempt {
  readonly #text: string;
  readonly #context: ExecutionContext;
  readonly #used: UsedRecord;
  readonly #events: RunEvents;
  #loaded: ReturnType<ExecutionContext["rules"]> | null = null;
  /** The current checks: first those of the submission, then, when it is this plan's turn, all of them. */
  #checks = new CheckSequence(SUBMISSION_CHECKS);
  /** What the log may say of the plan, once its signature has been verified. */
  #signed: { subject: ReturnType<typeof subjectOf>; details: Subject } | null = null;
  /** True once the start event is on disk: from then on failures are outcomes, not refusals. */
  #started = false;
  /** True once there are files for the run. */
  #laidOut = false;
  #isRefusalLogged = false;

  constructor(text: string, context: ExecutionContext) {
    this.#text = text;
    this.#context = context;
    this.#used = new UsedRecord(context.paths.used);
    this.#events = new RunEvents(context.emit);
  }

  /** Loaded on first use, so that an unreadable file is a refusal like any other. */
  get #rules() {
    this.#loaded ??= this.#context.rules();
    return this.#loaded;
  }

  async run(): Promise<Result> {
    let recorded = Promise.resolve();
    const needed = expendable();
    const id = await this.#admit();
    const { audit, caller, stop, paths } = this.#context;
    const events = this.#events;
    const onPlace = (place: number) => events.say({ kind: "queued", place });
    const waiter = { execution: id, uid: caller?.uid ?? -1 };
    const lock = await waitForRunLock(waiter, QUEUE_LIMITS, onPlace, stop, paths);
    try {
      // From here on this process guards a tool: its own, or one whose runner died.
      needed();
      const ready = await this.#checkInTurn();
      const started = () => {
        this.#started = true;
      };
      const checks = this.#checks;
      return await runPlan(ready, {
        paths,
        audit,
        used: this.#used,
        caller,
        events,
        stop,
        checks,
        started,
        recorded: () => {
          recorded = this.#context.recorded();
        },
      });
    } catch (error) {
      if (this.#started) await this.#close(error);
      else if (this.#laidOut) discardRun(id, paths);
      // Logged while its ticket is still there: a client that reconnects finds the plan in the queue or in the log.
      throw this.refuse(error);
    } finally {
      lock.release();
      await Promise.race([recorded, Bun.sleep(RECORDED_MS)]);
    }
  }

  /**
   * The checks that are made before waiting in the queue. A parsed plan takes many times its size in memory, so only one runner
   * parses at a time, and nothing of the tree is kept while waiting: everything is checked again. Returns the execution's id.
   */
  #admit(): Promise<string> {
    const action = () => {
      try {
        return this.#verify().execution.execution_plan_id;
      } finally {
        sweepAfter(this.#text.length * GARBAGE_PER_BYTE);
      }
    };
    return awaitFileLock(join(this.#context.paths.lock, PARSE_LOCK), action, this.#context.stop);
  }

  /** The checks when it is this plan's turn, in the order of exec-checks.ts; the last ones are made in exec-run.ts. */
  async #checkInTurn(): Promise<Ready> {
    const { aegis, stop, paths, ecosystems } = this.#context;
    const checks = new CheckSequence();
    this.#checks = checks;
    checks.make("same-program", () => refuseReplaced(this.#context.isReplaced));
    // `stop` does not end this wait: the process that waits guards a tool whose runner died.
    await checks.wait("nothing-open", () => recoverInterrupted(this.#context, () => this.#events.alive()));
    stop.throwIfAborted();
    const turnAt = new Date().toISOString();
    // While waiting, the plan may have expired, its key may have been revoked, or an earlier run may have used it.
    this.#loaded = null;
    const submission = this.#verify();
    const { execution, executionKey } = submission;
    const { operation_plan: plan, execution_plan_id: id, argv } = execution;
    const driver = await loadDriver({ tool: plan.tool, argv }, ecosystems);
    this.#events.say({ kind: "checking", message: "planning again" });
    const decided = await checks.wait("plan-again", () =>
      this.#events.aliveDuring(this.#planAgain(execution, driver)),
    );
    const ecosystem = await loadEcosystem(plan.tool, ecosystems);
    checks.make("argv", () => checkArgv(execution, ecosystem));
    const { trust, policy } = this.#rules;
    const approvers = checks.make("controls", () =>
      checkControls(submission, { trust, now: new Date(), config: policy.config, grammars: ecosystems }),
    );
    const snapshots = await checks.wait("snapshots", () =>
      lookUpSnapshots(execution, new Date(), snapshotHost(driver.roots)),
    );
    const waiting = { stop: () => stop.throwIfAborted(), alive: () => this.#events.alive() };
    await checks.wait("tool-ready", () => driver.ready(plan, waiting));
    const account = checks.make("account", () => accountOf(driver.user));
    const prepared = await checks.wait("laid-out", () => {
      // Left by an earlier attempt that was killed before it used anything up.
      discardRun(id, paths);
      this.#laidOut = true;
      const place = { directory: runDirectory(id, paths), archives: archivesOf(id, paths), aegis, account };
      return driver.prepare(plan, argv, place, this.#events.preparing(stop));
    });
    return { execution, executionKey, driver, turnAt, decided, account, prepared, approvers, snapshots };
  }

  async #planAgain(execution: ExecutionPlan, driver: RunDriver): Promise<PolicyResult> {
    const { ecosystems, openPlanning } = this.#context;
    const planning = openPlanning();
    try {
      return await planAgain(execution, this.#rules.policy, { ecosystems, driver, planning });
    } finally {
      planning.close();
    }
  }

  /** Closes a run that failed unexpectedly, as if its runner had died. If that fails too, the next runner closes it. */
  async #close(brokenBy: unknown): Promise<void> {
    const why = `the run broke off: ${messageOf(brokenBy)}`;
    try {
      await recoverInterrupted({ ...this.#context, why }, () => this.#events.alive());
    } catch (error) {
      throw new AegisError(
        "io",
        `it was run, but how it ended can't be written down: ${messageOf(error)}`,
        "Mend that; then aegis daemon status closes the run. It does not run again.",
      );
    }
  }

  /** The checks of the submission alone. */
  #verify(): Submission {
    const newest = this.#context.audit.head();
    const context = {
      trust: this.#rules.trust,
      now: new Date(),
      host: hostIdentity(readText, process.env[BOOT_VARIABLE]),
      config: this.#rules.policy,
      installedAt: installedAt(),
      newestAudited: newest === null ? null : new Date(newest.timestamp),
      usedBefore: (execution: ExecutionPlan) =>
        whyUnusable(this.#context.paths, useOf(execution), new Date()),
      grammars: this.#context.ecosystems,
    };
    const signed = (execution: ExecutionPlan, key: TrustedKey) => {
      this.#signed = {
        subject: subjectOf(execution, key),
        details: subjectDetails(execution.operation_plan),
      };
      this.#events.about(execution.execution_plan_id);
    };
    return verifySubmission(this.#text, context, signed, this.#checks);
  }

  /** Logs a refusal, once, and returns the error to throw. Once the run has started, recovery logs how it ended. */
  refuse(thrown: unknown): unknown {
    const error = noSpace(thrown, this.#context.paths.runs) ?? thrown;
    if (this.#started || this.#isRefusalLogged) return error;
    this.#isRefusalLogged = true;
    this.#auditRefusal(error);
    return error;
  }

  /** What an unverified client sent is logged as a digest only. */
  #auditRefusal(error: unknown): void {
    const known = error instanceof AegisError ? error : new AegisError("internal", messageOf(error));
    const signed = this.#signed;
    const details = {
      code: known.code,
      // The check that refused; null for other reasons, for example a full queue or a stop signal.
      check: this.#checks.current,
      request_sha256: sha256Hex(this.#text),
      caller_reported_by_front: this.#context.caller,
    };
    this.#context.audit.append({
      kind: "execution_denied",
      ...signed?.subject,
      decision: "deny",
      // Message and plan may contain any text, and without a verified signature nobody is accountable for it.
      details:
        signed === null
          ? details
          : { ...details, message: known.message, ...known.details, ...signed.details },
    });
  }
}
