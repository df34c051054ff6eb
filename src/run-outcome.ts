import { aliasClashes, newClashes } from "./apt-aliased.ts";
import { readReceipt } from "./apt-hook-receipt.ts";
import { downloadLimit, runDirectory, wasStopped } from "./apt-run.ts";
import { REPAIR } from "./apt-state.ts";
import { dpkgNow } from "./current-run.ts";
import type { ExecutionPlan } from "./documents.ts";
import { dpkgAudit } from "./dpkg-audit.ts";
import type { ErrorCode } from "./errors.ts";
import { changedFiles, ownFiles } from "./exec-own-files.ts";
import { isFetched, type TransactionEntry } from "./operation-plan.ts";
import { type DpkgSnapshot, describeDifference, inverseOf, isChecked, postCheck } from "./post-check.ts";
import type { Result } from "./results.ts";
import { clip } from "./terminal.ts";

/** Characters of a message: it may quote what a package says of itself. */
const MESSAGE = 2048;

type Outcome = Pick<
  Result,
  "state" | "exit_status" | "code" | "message" | "not_as_planned" | "changed_besides" | "inverse"
>;

/**
 * How a run ended: what the exit status, the hook's receipt and dpkg's own state say together. Only when all three agree
 * with the plan it is done. `before` is dpkg's state before the run.
 */
export async function outcomeOf(
  execution: ExecutionPlan,
  status: number | null,
  before: DpkgSnapshot,
): Promise<Outcome> {
  const { transaction } = execution.operation_plan;
  const after = dpkgNow();
  const found = { ...postCheck(transaction, before, after), inverse: inverseOf(transaction, before, after) };
  const hook = readReceipt(runDirectory(execution.execution_plan_id));
  const failed = (code: ErrorCode, message: string): Outcome => ({
    state: "failed",
    exit_status: status,
    code,
    message,
    ...found,
  });
  if (hook?.ok === false) {
    return failed("hook_refused", clip(`refused before unpacking: ${hook.reason}`, MESSAGE));
  }
  if (status !== 0) {
    if (wasStopped(runDirectory(execution.execution_plan_id))) {
      const minutes = downloadLimit(execution.argv) / 60_000;
      const why = `after ${minutes} minutes of downloading, or because the executor was told to stop`;
      return failed("execution_failed", `${execution.argv[0]} was stopped before dpkg began: ${why}`);
    }
    const how = status === null ? "a signal" : `status ${status}`;
    return failed("execution_failed", `${execution.argv[0]} ended with ${how}${await unfinished()}`);
  }
  if (isChecked(execution.argv, transaction) && hook === null) {
    const message = "apt ended well but never called the hook that compares the packages";
    return failed("execution_failed", message);
  }
  const [first] = found.not_as_planned;
  if (first !== undefined) return failed("execution_failed", `not as planned: ${describeDifference(first)}`);
  const done = { state: "completed", exit_status: status, ...found } as const;
  if (found.changed_besides.length === 0) return { ...done, code: null, message: null };
  const besides = found.changed_besides.map(describeDifference).slice(0, 5).join("; ");
  const message = `done as planned, but something else changed meanwhile: ${besides}`;
  return { ...done, code: "drift", message };
}

/**
 * Looks now at what no dpkg state tells, and again when the returned function is called, which returns what has changed in
 * between, one sentence part each.
 */
export function watchBesides(transaction: readonly TransactionEntry[]): () => string[] {
  const names = new Set(transaction.filter(isFetched).map(({ name }) => name));
  const [own, clashes] = [ownFiles(), aliasClashes(names)];
  return () => [
    ...listed("files of Aegis itself changed meanwhile", changedFiles(own, ownFiles())),
    ...listed("files of other packages were overwritten", newClashes(clashes, aliasClashes(names))),
  ];
}

function listed(what: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  const more = items.length > 5 ? ` and ${items.length - 5} more` : "";
  return [`${what}: ${items.slice(0, 5).join(", ")}${more}`];
}

/** Adds what {@link watchBesides} found: whatever else became of the run, that must be looked at. */
export function withBesides(outcome: Outcome, found: readonly string[]): Outcome {
  if (found.length === 0) return outcome;
  const what = found.join("; ");
  const message = outcome.message === null ? `done as planned, but ${what}` : `${what}; ${outcome.message}`;
  return { ...outcome, code: outcome.code ?? "drift", message: clip(message, MESSAGE) };
}

/** The packages that dpkg finds half-done, in words, or nothing. */
async function unfinished(): Promise<string> {
  const { packages } = await dpkgAudit();
  if (packages.length === 0) return "";
  return `; dpkg has unfinished packages: ${packages.join(", ")}; to finish them: ${REPAIR}`;
}
