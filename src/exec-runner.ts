import type { AuditLog } from "./audit-log.ts";
import { openProductionLog } from "./audit-production.ts";
import { readEvents } from "./audit-read.ts";
import { loggedAudit } from "./audit-service-log.ts";
import { type Result, readResult, recentResults } from "./doc-result.ts";
import { ECOSYSTEMS, loadDriver } from "./eco-load.ts";
import { RunWatch, runDirectory } from "./eco-run.ts";
import { AegisError, type ErrorCode, isErrorCode, messageOf } from "./errors.ts";
import { type ExecutorWorld, execute } from "./exec.ts";
import { Connection, outcomeForClients, pace, REFUSAL_PACE } from "./exec-connection.ts";
import { giveWay } from "./exec-give-way.ts";
import { queued, tryRunLock } from "./exec-lock.ts";
import { recoverInterrupted } from "./exec-recover.ts";
import { loadTrust } from "./key-trust.ts";
import type { BareKeys } from "./key-trusted-keys.ts";
import type { Log } from "./log.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { hostVulnerabilityData } from "./plan-env.ts";
import { openPlanning } from "./plan-world.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { selfReplaced } from "./self.ts";
import { readText } from "./sys-files.ts";
import { prepareState, STATE } from "./sys-state.ts";
import { parseCall } from "./wire.ts";
import {
  type Caller,
  type EventInput,
  type ExecutorCall,
  errorReply,
  type Refusal,
  readCall,
} from "./wire-executor.ts";

const POLL_MS = 300;
const ALIVE_MS = 10_000;
/** How long a recovery tries to get the lock of runs. */
const LOCK_MS = 5000;
/**
 * Least time between two reports of refusals, and how many are free when there were none for a while: the front leaves a
 * second between its own, and gathers meanwhile what it has to tell.
 */
const REPORT_PACE = { eachMs: 5000, free: 60 };
/** Entries that one report leaves in the log; the rest is a number. */
const REPORT_ENTRIES = 8;
/** Who lost the connection hears so long why a plan was refused meanwhile; further back the log is not read for any id. */
const REFUSED_LATELY_MS = 10 * 60_000;
/** Failures that an administrator has to do something about. */
const OUR_FAULTS: readonly ErrorCode[] = ["internal", "io", "invalid_config", "log_tampered"];

/** What the executor plans with: nothing of whoever submitted, and this host's own vulnerability data. */
function planningEnv(): Env {
  return { HOME: "/root", XDG_CACHE_HOME: "/var/cache", ...hostVulnerabilityData(readText) };
}

/** This host's executor. */
const THIS_EXECUTOR: ExecutorWorld = {
  places: STATE,
  ecosystems: ECOSYSTEMS,
  openPlanning: () => openPlanning({ env: planningEnv(), ownCaches: true }),
};

export interface RunnerOptions {
  /** Keys given to a daemon that was started by hand, beside those of /etc/aegis. */
  bare: BareKeys;
  log: Log;
}

/**
 * The root half of the executor: serves one call on the connection that is its standard input, then ends. It believes
 * nothing the front says about the plan; what the front says about the caller is recorded as the front's word.
 */
export async function serveRunner(options: RunnerOptions): Promise<void> {
  const connection = new Connection();
  const stop = stopReason(options.log);
  try {
    // First, or the answer that nothing can be done here would go out on a connection that nobody has opened yet.
    const call = readCall(parseCall(await connection.request()));
    prepareState();
    const audit = openRunnerAudit(options.log);
    if ("answer" in call) connection.reply(call.answer);
    else await answer(call, { ...options, audit, connection, stop });
  } catch (error) {
    logFailure(error, options.log);
    connection.send(errorReply(error));
  }
  await connection.end();
}

/** A refusal stands in the log as an event of its execution, or is a client's own mistake; what is left is ours. */
function logFailure(error: unknown, log: Log): void {
  const code = error instanceof AegisError ? error.code : "internal";
  const level = OUR_FAULTS.includes(code) ? "error" : "debug";
  log[level]("a request failed", { code, problem: messageOf(error) });
}

/**
 * Closes a run whose runner died, when nobody else is at it; nothing to do otherwise. No signal ends it: at shutdown, a tool
 * that is still at work is guarded by this process alone.
 */
export async function recoverRuns(log: Log): Promise<void> {
  stopReason(log);
  prepareState();
  let told = false;
  const audit = openRunnerAudit(log);
  const onWait = () => {
    if (!told) log.warn("the runner of an execution died, and its tool is at work: waiting for it");
    told = true;
  };
  // A watcher of the same run looks after it too, for a moment each time, and guards nothing. Whoever keeps the lock for long
  // is the next run, which has closed this one.
  const end = performance.now() + LOCK_MS;
  while (!(await tryRecover(audit, onWait)) && performance.now() < end) await Bun.sleep(POLL_MS / 3);
}

function openRunnerAudit(log: Log): AuditLog {
  return loggedAudit(openProductionLog(), log);
}

/** The same, by default without waiting for its tool, while a client waits for the answer. False where somebody has the lock. */
async function tryRecover(audit: AuditLog, onWait: (() => void) | null = null): Promise<boolean> {
  const lock = tryRunLock();
  if (lock === null) return false;
  try {
    await recoverInterrupted({ ...THIS_EXECUTOR, audit }, onWait);
  } finally {
    lock.release();
  }
  return true;
}

interface Desk extends RunnerOptions {
  audit: AuditLog;
  connection: Connection;
  stop: AbortSignal;
}

/**
 * Aborted when a signal asks this process to end, as systemd does when the host goes down. It waits then until the tool is done,
 * before it takes the file systems away; so a signal must not end this process, or the tool would be killed with the rest. When
 * the host stays up, the process gives way.
 */
function stopReason(log: Log): AbortSignal {
  const controller = new AbortController();
  const reason = new AegisError(
    "unavailable",
    "the executor is being stopped; nothing was started",
    "Apply it again when the host is up.",
  );
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.on(signal, () => {
      if (!controller.signal.aborted) giveWay(log, STATE, ECOSYSTEMS);
      controller.abort(reason);
    });
  return controller.signal;
}

async function answer(call: ExecutorCall, desk: Desk): Promise<void> {
  const { connection, audit } = desk;
  switch (call.method) {
    case "Apply": {
      const result = await execute(call.parameters.plan, {
        ...THIS_EXECUTOR,
        rules: () => ({
          trust: loadTrust({ rootOnly: true, bare: desk.bare }),
          policy: loadPolicyConfig({}, { system: true }),
        }),
        audit,
        caller: call.parameters.caller,
        aegis: process.execPath,
        isReplaced: selfReplaced,
        emit: (event) => connection.event(event),
        stop: desk.stop,
      }).catch(async (error: unknown) => {
        await pace("refused", REFUSAL_PACE, desk.stop);
        throw error;
      });
      connection.finished(result);
      return;
    }
    case "Watch":
      connection.finished(await watch(call.parameters.execution_id, call.parameters.caller, desk));
      return;
    case "Status": {
      await tryRecover(audit);
      const recent = recentResults(20);
      const running = recent.find((result) => result.state === "running")?.execution_plan_id ?? null;
      const waiting = queued().filter((id) => id !== running);
      connection.reply({ running, queued: waiting, recent: recent.map(outcomeForClients) });
      return;
    }
    case "Report":
      await recordRefusals(call.parameters.refusals, audit, desk.stop);
      connection.reply({});
      return;
  }
}

/**
 * Writes down what the front says it refused, in an event of bounded size. Whoever reports without pause waits, and with
 * that the whole of it is bounded too: not even a front in foreign hands can fill the disk. Codes are ours; anything else
 * stands as `refused`.
 */
async function recordRefusals(
  refusals: readonly Refusal[],
  audit: AuditLog,
  stop: AbortSignal,
): Promise<void> {
  const most = [...refusals].sort((a, b) => b.count - a.count).slice(0, REPORT_ENTRIES);
  audit.append({
    kind: "requests_refused",
    details: {
      count: refusals.reduce((sum, refusal) => sum + refusal.count, 0),
      reported_by: "front",
      refusals: most.map((refusal) => ({
        ...refusal,
        code: isErrorCode(refusal.code) ? refusal.code : "refused",
      })),
      others: refusals.length - most.length,
    },
  });
  await pace("report", REPORT_PACE, stop);
}

/**
 * Follows an execution to its end. Its output is for root and for whoever submitted it; others hear its progress.
 * @throws AegisError `not_found`
 */
async function watch(id: string, caller: Caller | null, { audit, connection, stop }: Desk): Promise<Result> {
  let quiet = performance.now();
  const emit = (event: Omit<EventInput, "execution_id">) => {
    quiet = performance.now();
    connection.event({ execution_id: id, ...event });
  };
  let follow: RunWatch | null = null;
  let place: number | null = null;
  for (;;) {
    // A place at the runner's socket is not kept for somebody who has left: one user could take them all.
    if (connection.gone) throw new AegisError("protocol", "whoever watched has gone");
    if (stop.aborted) {
      const hint = "What runs goes on. Look again when the host is up: aegis daemon status";
      throw new AegisError("unavailable", "the executor is being stopped", hint);
    }
    const waiting = queued().indexOf(id);
    const result = readResult(id);
    if (result !== null && result.state !== "running") {
      follow?.look();
      return result;
    }
    if (result === null && waiting < 0) throw whyGone(id, place !== null);
    if (result !== null && follow === null) {
      const mayRead = caller !== null && (caller.uid === 0 || caller.uid === result.submitted_by_uid);
      emit({ kind: "started" });
      const driver = await loadDriver(result.tool);
      follow = new RunWatch(runDirectory(id, STATE), driver, {
        progress: (percent, message) => emit({ kind: "progress", percent: Math.floor(percent), message }),
        output: (stream, data) => mayRead && emit({ kind: "output", stream, data }),
      });
    }
    follow?.look();
    if (result !== null) await tryRecover(audit);
    else if (waiting !== place) emit({ kind: "queued", place: waiting });
    place = waiting;
    if (performance.now() - quiet > ALIVE_MS) emit({ kind: "alive" });
    await Bun.sleep(POLL_MS);
  }
}

/** Why there is neither an outcome of an execution nor a place where it waits. `waited` is whether it was seen waiting. */
function whyGone(id: string, waited: boolean): AegisError {
  const since = new Date(Date.now() - REFUSED_LATELY_MS).toISOString();
  const filter = { kind: "execution_denied", execution: id, last: 1, since } as const;
  const [denied] = readEvents(SYSTEM.auditDir, filter);
  const { code, message } = denied?.details ?? {};
  if (typeof code === "string" && isErrorCode(code) && typeof message === "string")
    return new AegisError(code, message, "Nothing was run.");
  if (waited)
    return new AegisError("not_found", `execution ${id} ended before it started anything`, "Apply it again.");
  return new AegisError(
    "not_found",
    `there is no execution ${id} here`,
    "Its id is in the execution plan and in: aegis audit show --system",
  );
}
