import type { AuditLog } from "./audit-log.ts";
import { readEvents } from "./audit-read.ts";
import { loggedAudit } from "./audit-service-log.ts";
import { type Result, readResult, recentResults } from "./doc-result.ts";
import { loadDriver } from "./eco-load.ts";
import { RunWatch, runDirectory } from "./eco-run.ts";
import { AegisError, type ErrorCode, isErrorCode, messageOf } from "./errors.ts";
import { execute } from "./exec.ts";
import { Connection, outcomeForClients, pace, REFUSAL_PACE } from "./exec-connection.ts";
import { giveWay } from "./exec-give-way.ts";
import { queued, tryRunLock } from "./exec-lock.ts";
import { recoverInterrupted } from "./exec-recover.ts";
import { answerRequests, storeOf } from "./exec-request-calls.ts";
import { settleRequests } from "./exec-requests.ts";
import { type RunnerWorld, thisHost } from "./exec-world.ts";
import type { BareKeys } from "./key-trusted-keys.ts";
import type { Log } from "./log.ts";
import { selfReplaced } from "./self.ts";
import type { StatePaths } from "./sys-state.ts";
import { parseCall } from "./wire.ts";
import {
  type Caller,
  type EventInput,
  type ExecutorCall,
  errorReply,
  type Refusal,
  readCall,
} from "./wire-executor.ts";
import { serviceError } from "./wire-service.ts";

const POLL_MS = 300;
const ALIVE_MS = 10_000;
/** How long a recovery tries to get the lock of runs. */
const LOCK_MS = 5000;
/**
 * Minimum time between two reports of refusals, and how many are free after a pause. The front waits a second between
 * reports and collects refusals in the meantime.
 */
const REPORT_PACE = { eachMs: 5000, free: 60 };
/** Entries of one report that are logged one by one; the rest is a count. */
const REPORT_ENTRIES = 8;
/** How far back the log is read for the refusal of an execution, for clients that lost their connection. */
const REFUSED_LATELY_MS = 10 * 60_000;
/** Failures that an administrator has to do something about. */
const OUR_FAULTS: readonly ErrorCode[] = ["internal", "io", "invalid_config", "log_tampered"];

export interface RunnerOptions {
  /** Keys given to a daemon that was started by hand, beside those of /etc/aegis. */
  bare: BareKeys;
  log: Log;
}

/**
 * The root half of the executor: serves one call on the connection that is its standard input, then ends. It believes
 * nothing the front says about the plan; what the front says about the caller is recorded as the front's word.
 */
export async function serveRunner(
  { bare, log }: RunnerOptions,
  world: RunnerWorld = thisHost(bare),
  connection = new Connection(),
): Promise<void> {
  const stop = stopReason(log, world);
  try {
    // First: an error below is answered on this connection, which must be open by then.
    const call = readCall(parseCall(await connection.request()));
    world.prepare();
    const audit = loggedAudit(world.openLog(), log);
    if ("answer" in call) connection.reply(call.answer);
    else await answer(call, { world, audit, connection, stop, log });
  } catch (error) {
    logFailure(error, log);
    connection.send(errorReply(error));
  }
  await connection.end();
}

/** Logs failures that are neither refusals, which have their own events, nor a client's mistake. */
function logFailure(error: unknown, log: Log): void {
  const code = error instanceof AegisError ? error.code : "internal";
  const level = OUR_FAULTS.includes(code) ? "error" : "debug";
  log[level]("a request failed", { code, problem: messageOf(error) });
}

/**
 * Closes a run whose runner died, unless another process does. No signal ends it: at shutdown this process alone guards a tool
 * that is still running.
 */
export async function recoverRuns(
  log: Log,
  world = thisHost({ execution: [], approval: [] }),
): Promise<void> {
  const stop = stopReason(log, world);
  world.prepare();
  let isLogged = false;
  const audit = loggedAudit(world.openLog(), log);
  const onWait = () => {
    if (!isLogged) log.warn("the runner of an execution died, and its tool is at work: waiting for it");
    isLogged = true;
  };
  // A watcher takes the lock too, for a moment. A process that keeps it is the next run, which has closed this one.
  const end = performance.now() + LOCK_MS;
  while (!(await tryRecover(world, audit, onWait)) && performance.now() < end) await Bun.sleep(POLL_MS / 3);
  await settleRequests(storeOf({ world, audit, log }), stop);
}

/** The same for a waiting client, by default without waiting for the tool. False if another process has the lock. */
async function tryRecover(
  world: RunnerWorld,
  audit: AuditLog,
  onWait: (() => void) | null = null,
): Promise<boolean> {
  const lock = tryRunLock(world.paths);
  if (lock === null) return false;
  try {
    await recoverInterrupted({ ...world, audit }, onWait);
  } finally {
    lock.release();
  }
  return true;
}

interface RunnerContext {
  world: RunnerWorld;
  audit: AuditLog;
  connection: Connection;
  stop: AbortSignal;
  log: Log;
}

/**
 * Aborted when a signal asks this process to end, as systemd does at shutdown. The process then waits for its tool, and systemd
 * waits for the process before it unmounts file systems; if the signal ended it, the tool would be killed too. When the host
 * stays up, the process gives way (exec-give-way.ts).
 */
function stopReason(log: Log, { paths, ecosystems }: RunnerWorld): AbortSignal {
  const controller = new AbortController();
  const reason = new AegisError(
    "unavailable",
    "the executor is being stopped; nothing was started",
    "Apply it again when the host is up.",
  );
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.on(signal, () => {
      if (!controller.signal.aborted) giveWay(log, paths, ecosystems);
      controller.abort(reason);
    });
  return controller.signal;
}

async function answer(call: ExecutorCall, context: RunnerContext): Promise<void> {
  const { world, connection, audit, stop } = context;
  const { paths } = world;
  switch (call.method) {
    case "Apply": {
      const result = await execute(call.parameters.plan, {
        ...world,
        audit,
        caller: call.parameters.caller,
        aegis: process.execPath,
        isReplaced: selfReplaced,
        emit: (event) => connection.event(event),
        recorded: () => settleRequests(storeOf(context), stop),
        stop,
      }).catch(async (error: unknown) => {
        await pace("refused", REFUSAL_PACE, stop, paths);
        throw error;
      });
      connection.finished(result);
      return;
    }
    case "Watch":
      connection.finished(await watch(call.parameters.execution_id, call.parameters.caller, context));
      return;
    case "Status": {
      await tryRecover(world, audit);
      const recent = recentResults(20, paths);
      const running = recent.find((result) => result.state === "running")?.execution_plan_id ?? null;
      const waiting = queued(paths).filter((id) => id !== running);
      connection.reply({ running, queued: waiting, recent: recent.map(outcomeForClients) });
      return;
    }
    case "Report":
      await recordRefusals(call.parameters.refusals, context);
      connection.reply({});
      return;
    case "WatchRequests":
      throw serviceError("MethodNotImplemented", { method: call.method });
    default:
      await answerRequests(call, context);
  }
}

/**
 * Logs what the front reports as refused, in an event of bounded size. Reports without a pause are delayed, so even a
 * compromised front can't fill the disk. Codes that are not ours are logged as `refused`.
 */
async function recordRefusals(
  refusals: readonly Refusal[],
  { world, audit, stop }: RunnerContext,
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
  await pace("report", REPORT_PACE, stop, world.paths);
}

/**
 * Follows an execution to its end. Root and the submitter get its output, others only its progress.
 * @throws AegisError `not_found`
 */
async function watch(
  id: string,
  caller: Caller | null,
  { world, audit, connection, stop }: RunnerContext,
): Promise<Result> {
  const { paths, ecosystems } = world;
  let quiet = performance.now();
  const emit = (event: Omit<EventInput, "execution_id">) => {
    quiet = performance.now();
    connection.event({ execution_id: id, ...event });
  };
  let follow: RunWatch | null = null;
  let place: number | null = null;
  for (;;) {
    // A client that has left must not keep its connection slot: one user could take them all.
    if (connection.gone) throw new AegisError("protocol", "whoever watched has gone");
    if (stop.aborted) {
      const hint = "What runs goes on. Look again when the host is up: aegis daemon status";
      throw new AegisError("unavailable", "the executor is being stopped", hint);
    }
    const waiting = queued(paths).indexOf(id);
    const result = readResult(id, paths);
    if (result !== null && result.state !== "running") {
      follow?.look();
      return result;
    }
    if (result === null && waiting < 0) throw whyGone(id, place !== null, paths);
    if (result !== null && follow === null) {
      const mayRead = caller !== null && (caller.uid === 0 || caller.uid === result.submitted_by_uid);
      emit({ kind: "started" });
      const driver = await loadDriver(result, ecosystems);
      follow = new RunWatch(runDirectory(id, paths), driver, {
        progress: (percent, message) => emit({ kind: "progress", percent: Math.floor(percent), message }),
        output: (stream, data) => mayRead && emit({ kind: "output", stream, data }),
      });
    }
    follow?.look();
    if (result !== null) await tryRecover(world, audit);
    else if (waiting !== place) emit({ kind: "queued", place: waiting });
    place = waiting;
    if (performance.now() - quiet > ALIVE_MS) emit({ kind: "alive" });
    await Bun.sleep(POLL_MS);
  }
}

/** Why an execution has no outcome and is not in the queue. `waited`: it was in the queue before. */
function whyGone(id: string, waited: boolean, paths: StatePaths): AegisError {
  const since = new Date(Date.now() - REFUSED_LATELY_MS).toISOString();
  const filter = { kind: "execution_denied", execution: id, last: 1, since } as const;
  const [denied] = readEvents(paths.audit, filter);
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
