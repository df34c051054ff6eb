import { applyView } from "./cmd-apply-view.ts";
import type { Io } from "./command.ts";
import { type Result, readResult } from "./doc-result.ts";
import { AegisError, EXIT, type ExitStatus, isErrorCode } from "./errors.ts";
import { callExecutor } from "./front-client.ts";
import { safe } from "./terminal.ts";
import type { Event } from "./wire-executor.ts";

const REATTACH_TRIES = 20;
const BUSY_TRIES = 20;
const PAUSE_MS = 500;
/** Pause before asking for a watch slot again; each attempt costs a line in the log. */
const WATCH_PAUSE_MS = 15_000;

/**
 * Submits an execution plan, whose canonical JSON `text` is, shows its progress and reports its outcome.
 * @throws AegisError as the executor refuses; `stopped`
 */
export function submitPlan(text: string, id: string, socket: string, io: Io): Promise<ExitStatus> {
  return attached(id, socket, io, (run) => submit(text, run));
}

/**
 * Shows the progress of an execution to its end, and reports its outcome.
 * @throws AegisError `not_found`, `unavailable`, `stopped`
 */
export function watchExecution(id: string, socket: string, io: Io): Promise<ExitStatus> {
  return attached(id, socket, io, (run) => follow(run, null));
}

/** An execution being followed. */
interface Followed {
  id: string;
  socket: string;
  onEvent: (event: Event) => void;
  /** Reports on the connection itself. */
  note(line: string): void;
  /** Aborted by Ctrl-C, which stops watching, never the run. */
  signal: AbortSignal;
}

/** Shows the events that `call` receives until the execution ends, then reports its outcome. */
async function attached(
  id: string,
  socket: string,
  io: Io,
  call: (run: Followed) => Promise<void>,
): Promise<ExitStatus> {
  const view = applyView(io);
  let accepted = false;
  const onEvent = (event: Event) => {
    accepted = true;
    view.show(event);
  };
  try {
    await interruptible(id, async (signal) => {
      const run = { id, socket, onEvent, note: view.note, signal };
      try {
        await call(run);
      } catch (error) {
        if (!accepted || !isConnectionLoss(error)) throw error;
        view.note("connection lost; the execution goes on, reattaching");
        await follow(run, error);
      }
    });
  } finally {
    view.end();
  }
  return report(id, io);
}

/**
 * Submits the plan. When many clients come at once, some exceed the limit on connections, and some of those are
 * disconnected without a reply; both pass, so it tries again.
 */
async function submit(plan: string, run: Followed): Promise<void> {
  let heard = false;
  let hungUp = false;
  const onEvent = (event: Event) => {
    heard = true;
    run.onEvent(event);
  };
  for (let n = 1; ; n++) {
    try {
      await callExecutor(run.socket, "Apply", { plan }, { signal: run.signal, onEvent });
      return;
    } catch (error) {
      if (!(error instanceof AegisError)) throw error;
      // An earlier attempt was accepted, but its reply was lost.
      if (hungUp && error.code === "replay") return follow(run, null);
      hungUp ||= isHangUp(error);
      if (n >= BUSY_TRIES || heard || !(isHangUp(error) || error.code === "busy")) throw error;
      await Bun.sleep(PAUSE_MS);
      if (run.signal.aborted && !hungUp) {
        const why = "you stopped while the executor was busy; nothing was submitted";
        throw new AegisError("stopped", why, "Apply the same plan again.");
      }
      run.signal.throwIfAborted();
    }
  }
}

function isHangUp({ details }: AegisError): boolean {
  return details["errno"] === "ECONNRESET" || details["errno"] === "EPIPE";
}

/** @throws AegisError `stopped` */
async function interruptible<T>(id: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = () =>
    controller.abort(
      new AegisError(
        "stopped",
        "you stopped watching; the execution goes on",
        `Reattach: aegis apply --watch ${id}`,
      ),
    );
  process.once("SIGINT", stop);
  try {
    return await work(controller.signal);
  } finally {
    process.removeListener("SIGINT", stop);
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  await Bun.sleep(PAUSE_MS);
  signal.throwIfAborted();
}

/**
 * Watches an execution to its end. The front may be restarting or out of watch slots; the run depends on neither, and its
 * outcome is in a file. `lost` is the error that broke an earlier connection, thrown if the execution turns out not to
 * exist. Once a front has answered, losing it is retried for a while.
 */
async function follow(run: Followed, lost: AegisError | null): Promise<void> {
  const { id, socket, onEvent, signal } = run;
  let failures = 0;
  let noted = false;
  for (;;) {
    try {
      await callExecutor(socket, "Watch", { execution_id: id }, { signal, onEvent });
      return;
    } catch (error) {
      if (!(error instanceof AegisError)) throw error;
      if (error.code === "busy") {
        if (!noted) run.note("too many clients are watching: waiting for the outcome without progress");
        noted = true;
        if (await endsWithin(WATCH_PAUSE_MS, run)) return;
        continue;
      }
      if (lost !== null && error.code === "not_found")
        throw new AegisError(lost.code, lost.message, "Nothing was started: apply the same plan again.");
      const starting = error.code === "unavailable" || isConnectionLoss(error);
      const first = lost === null && !noted;
      if (first || !starting) throw error;
      if (++failures >= REATTACH_TRIES) {
        const hint = `An execution that has started goes on. Follow it: aegis apply --watch ${id}`;
        throw lost === null ? error : new AegisError(error.code, error.message, hint, error.details);
      }
      if (await endsWithin(PAUSE_MS, run)) return;
    }
  }
}

/** Whether the outcome file appears within `ms` milliseconds. */
async function endsWithin(ms: number, { id, signal }: Followed): Promise<boolean> {
  for (const until = performance.now() + ms; performance.now() < until; await pause(signal)) {
    if (hasEnded(id)) return true;
  }
  return false;
}

function hasEnded(id: string): boolean {
  try {
    const result = readResult(id);
    return result !== null && result.state !== "running";
  } catch (error) {
    // The file exists a moment before its group can read it.
    if (error instanceof AegisError && error.code === "io") return false;
    throw error;
  }
}

/** Whether the connection to the runner failed. The runner's own `unavailable` has no errno. */
function isConnectionLoss(error: unknown): error is AegisError {
  if (!(error instanceof AegisError)) return false;
  return error.code === "protocol" || error.code === "timeout" || "errno" in error.details;
}

/** Prints the outcome from the file that root wrote. */
function report(id: string, io: Io): ExitStatus {
  const result = readResult(id);
  if (result === null || result.state === "running") {
    throw new AegisError(
      "unavailable",
      `the executor has no outcome for ${id} yet`,
      `Try again: aegis apply --watch ${id}`,
    );
  }
  const status = exitOf(result);
  io.result({ ...result, ok: status === EXIT.ok }, applyView(io).outcome(result));
  return status;
}

function exitOf(result: Result): ExitStatus {
  if (result.code === null) return result.state === "completed" ? EXIT.ok : EXIT.packageManager;
  return isErrorCode(result.code)
    ? new AegisError(result.code, safe(result.message ?? "")).exit
    : EXIT.packageManager;
}
