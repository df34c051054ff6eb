import type { PolicyResult } from "./doc.ts";
import type { Afterwards } from "./doc-outlook.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import { describeDifference, type Result } from "./doc-result.ts";
import type { Comparison, HostState, RunDriver, RunSubject } from "./eco-driver.ts";
import type { ErrorCode } from "./errors.ts";
import { changedFiles, ownFiles } from "./exec-own-files.ts";
import { clip } from "./terminal.ts";

/** Limit on the reasons in the start event. */
const MAX_REASONS = 8;
/** Longest message, in characters; it may quote a package's own output. */
const MESSAGE = 2048;

/** A message cut to fit into an event of the log. */
export function bounded(text: string): string {
  return clip(text, MESSAGE);
}

type RunOutcome = Pick<
  Result,
  "state" | "exit_status" | "code" | "message" | "executables" | "content" | "repository" | keyof Comparison
>;

/**
 * How a run ended, by the exit status, the witness of the bytes and the host's state together. It succeeded only if none of the
 * three contradicts the plan. `before` is the state before the run.
 */
export async function judgeRun(
  driver: RunDriver,
  directory: string,
  run: RunSubject,
  status: number | null,
  before: HostState,
): Promise<RunOutcome> {
  if (status === 0) await driver.settled?.();
  const lost = (await driver.restore?.(directory)) ?? [];
  return withBesides(await judgeEnd(driver, directory, run, status, before), lost);
}

async function judgeEnd(
  driver: RunDriver,
  directory: string,
  run: RunSubject,
  status: number | null,
  before: HostState,
): Promise<RunOutcome> {
  const found = driver.compare(run, before, driver.observe());
  const witness = driver.witness(directory, run);
  const failed = (code: ErrorCode, text: string): RunOutcome => ({
    state: "failed",
    exit_status: status,
    code,
    message: bounded(text),
    ...found,
    ...leftBy(witness),
  });
  if (witness.verdict === "refused") return failed(witness.code, witness.reason);
  if (status !== 0) {
    const stopped = driver.wasStopped(directory);
    if (stopped !== null) {
      const minutes = driver.limitMs(run.argv) / 60_000;
      const why = `after ${minutes} minutes, or because the executor was asked to stop`;
      return failed("execution_failed", `${run.argv[0]} was stopped ${stopped}: ${why}`);
    }
    const how = status === null ? "a signal" : `status ${status}`;
    if (driver.isSupervised === true) {
      const left = witness.verdict === "absent" ? `; ${witness.reason}` : "";
      const what = `Aegis's own process, which supervises ${run.argv[0]}, ended with ${how}${left}`;
      return failed("execution_failed", what);
    }
    const { text } = await driver.advice();
    return failed("execution_failed", `${run.argv[0]} ended with ${how}${text === "" ? "" : `; ${text}`}`);
  }
  if (witness.verdict === "absent") return failed("execution_failed", witness.reason);
  const [first] = found.not_as_planned;
  if (first !== undefined) {
    const { text } = await driver.advice();
    const what = `not as planned: ${describeDifference(first)}`;
    return failed("execution_failed", text === "" ? what : `${what}; ${text}`);
  }
  const done = { state: "completed" as const, exit_status: status, ...found, ...leftBy(witness) };
  if (found.changed_besides.length === 0) return { ...done, code: null, message: null };
  const besides = found.changed_besides.map(describeDifference).slice(0, 5).join("; ");
  const message = bounded(`done as planned, but something else changed during the run: ${besides}`);
  return { ...done, code: "drift", message };
}

/** What a run left that exchanged a managed root or a repository's file, though it may have failed after that. */
export function leftBy(
  witness: ReturnType<RunDriver["witness"]>,
): Pick<Result, "executables" | "content" | "repository"> {
  if (witness.verdict !== "vouched") return {};
  const { executables, content, repository } = witness;
  return {
    ...(executables === undefined ? {} : { executables: [...executables] }),
    ...(content === undefined ? {} : { content }),
    ...(repository === undefined ? {} : { repository }),
  };
}

/**
 * Looks now at what the state does not show, and again when the returned function is called. That returns what changed in
 * between, one part of a sentence each.
 */
export function watchBesides(driver: RunDriver, transaction: readonly TransactionEntry[]): () => string[] {
  const [own, besides] = [ownFiles(), driver.watchBesides(transaction)];
  return () => [
    ...listed("files of Aegis itself changed during the run", changedFiles(own, ownFiles())),
    ...besides().flatMap(({ what, items }) => listed(what, items)),
  ];
}

function listed(what: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  const more = items.length > 5 ? ` and ${items.length - 5} more` : "";
  return [`${what}: ${items.slice(0, 5).join(", ")}${more}`];
}

/**
 * What is left to do after a run, as {@link RunDriver.watchRunning} has it. It is for people: if it can't be found out, the run ends as
 * it would have.
 */
export function watchRunning(
  driver: RunDriver,
  transaction: readonly TransactionEntry[],
): () => Promise<Pick<Result, "afterwards">> {
  if (driver.watchRunning === undefined || transaction.length === 0) return async () => ({});
  let look: () => Promise<Afterwards>;
  try {
    look = driver.watchRunning(transaction);
  } catch {
    return async () => ({});
  }
  return async () => {
    try {
      return { afterwards: await look() };
    } catch {
      return {};
    }
  };
}

/** The same for the log, bounded; nothing if nothing is left to do. */
export function leftToDo({ afterwards }: Pick<Result, "afterwards">) {
  if (afterwards === undefined) return {};
  const { services, reboot } = afterwards;
  const units = services.units.map(({ unit }) => clip(unit, 120));
  return {
    ...(units.length === 0 ? {} : { runs_old_code: units.slice(0, 20), units_with_old_code: units.length }),
    ...(reboot.reasons.length === 0
      ? {}
      : { reboot_needed: reboot.reasons.slice(0, 4).map((reason) => clip(reason, 200)) }),
  };
}

/** Adds what {@link watchBesides} found, which needs attention however the run ended. */
export function withBesides(outcome: RunOutcome, found: readonly string[]): RunOutcome {
  if (found.length === 0) return outcome;
  const what = found.join("; ");
  const message = outcome.message === null ? `done as planned, but ${what}` : `${what}; ${outcome.message}`;
  return { ...outcome, code: outcome.code ?? "drift", message: bounded(message) };
}

/** The decision of the executor's own policy, shortened to fit into the start event: a reason may list many packages. */
export function boundedDecision({ decision, rules, reasons }: PolicyResult) {
  const short = (text: string) => (text.length <= 200 ? text : `${text.slice(0, 197)}...`);
  return {
    decision,
    rules,
    reasons: reasons.slice(0, MAX_REASONS).map(short),
    ...(reasons.length > MAX_REASONS ? { reasons_left_out: reasons.length - MAX_REASONS } : {}),
  };
}
