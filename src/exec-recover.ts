import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { AuditEvent, AuditKind } from "./audit-event.ts";
import type { AuditLog } from "./audit-log.ts";
import { readEvents } from "./audit-read.ts";
import { anyKeys, parseJson } from "./canonical.ts";
import { TransactionEntry } from "./doc-plan.ts";
import { describeDifference, type Result, ResultSchema, readResult, writeResult } from "./doc-result.ts";
import type { RunDriver } from "./eco-driver.ts";
import { type Ecosystems, loadDriver } from "./eco-load.ts";
import {
  closeRun,
  digestRun,
  discardRun,
  isRunAlive,
  OUTPUT_FILES,
  runDirectory,
  stopRecorded,
} from "./eco-run.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { bounded, leftBy } from "./exec-outcome.ts";
import { syncDirectory, writeFileAtomic } from "./sys-files.ts";
import type { StatePaths } from "./sys-state.ts";

/*
 * The current run. Its marker is written before anything is used up and removed after the outcome is on disk, both under the
 * run lock. So a marker found by the next process with the lock belongs to a run whose runner died.
 */

const markerOf = (paths: StatePaths) => join(paths.lock, "current.json");

const CurrentRunSchema = v.strictObject({
  result: ResultSchema,
  transaction: v.array(TransactionEntry),
  before: anyKeys(v.string()),
  actor: v.string(),
  /** The details of every event of the run. */
  about: v.optional(v.record(v.string(), v.unknown()), {}),
});
/** What any process needs to know to close the run. */
export type CurrentRun = v.InferOutput<typeof CurrentRunSchema>;

/** What closing a run needs besides its marker. */
export interface Recovery {
  audit: AuditLog;
  paths: StatePaths;
  ecosystems: Ecosystems;
  /** Why its runner did not close it; by default, that it was interrupted. */
  why?: string;
}

/** Marks a run as running, durably. */
export function markCurrent(current: CurrentRun, paths: StatePaths): void {
  writeFileAtomic(markerOf(paths), JSON.stringify(current));
}

/** Removes the marker, durably. */
export function clearCurrent(paths: StatePaths): void {
  rmSync(markerOf(paths), { force: true });
  syncDirectory(paths.lock);
}

function readCurrent(paths: StatePaths): CurrentRun | null {
  try {
    return v.parse(CurrentRunSchema, parseJson(readFileSync(markerOf(paths), "utf8")));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw new AegisError(
      "io",
      `${markerOf(paths)}, which marks the current run, can't be read: ${messageOf(error)}`,
      "The log shows which run has no end: aegis audit show --system. Check what it changed, then remove the file.",
    );
  }
}

/** @throws AegisError `unavailable` where this version can't run what another one has begun */
async function driverOf({ result }: CurrentRun, ecosystems: Ecosystems): Promise<RunDriver> {
  try {
    return await loadDriver(result, ecosystems);
  } catch (error) {
    if (!(error instanceof AegisError) || error.code !== "not_built") throw error;
    throw new AegisError(
      "unavailable",
      `another version of Aegis has begun a run of ${result.tool} (${result.execution_plan_id}), which this one can't close`,
      "Install that version again: it closes the run.",
    );
  }
}

/** Whether the tool of the marked run is running. */
export async function isRunAtWork(paths: StatePaths, ecosystems: Ecosystems): Promise<boolean> {
  const current = readCurrent(paths);
  if (current === null) return false;
  const driver = await driverOf(current, ecosystems);
  return isRunAlive(runDirectory(current.result.execution_plan_id, paths), driver);
}

/**
 * Closes a run whose runner died. Waits for its tool to end, compares the host with the plan, audits `execution_interrupted`
 * and writes the outcome. The plan stays used and never runs again. If the runner died before the start was audited, nothing
 * has run: that is a refusal, without an outcome. Call it under the run lock. `onWait` is called once a second while waiting;
 * without it, nothing is done while the tool is alive.
 */
export async function recoverInterrupted(recovery: Recovery, onWait: (() => void) | null): Promise<void> {
  const { audit, paths, ecosystems } = recovery;
  const current = readCurrent(paths);
  if (onWait !== null) sweep(current?.result.execution_plan_id ?? null, paths);
  if (current === null) return;
  const id = current.result.execution_plan_id;
  const driver = await driverOf(current, ecosystems);
  if (!(await hasEnded(current, driver, paths, onWait))) return;
  driver.settle?.(runDirectory(id, paths));
  const audited = (kind: AuditKind) => readEvents(paths.audit, { kind, execution: id, last: 1 })[0];
  const ended = audited("execution_completed") ?? audited("execution_interrupted");
  const hasOutput = existsSync(join(runDirectory(id, paths), OUTPUT_FILES.stdout));
  if (audited("execution_started") === undefined && !hasOutput) {
    neverStarted(current, audit);
    discardRun(id, paths);
  } else {
    if (ended === undefined) await closeInterrupted(current, driver, recovery);
    // A final result stays: it has more facts than the event.
    else if (readResult(id, paths)?.state === "running") writeAuditedEnd(current, ended, driver, paths);
    closeRun(id, paths);
  }
  clearCurrent(paths);
}

/** Waits for the run's processes to end; false if they live and `onWait` is null. */
async function hasEnded(
  { result }: CurrentRun,
  driver: RunDriver,
  paths: StatePaths,
  onWait: (() => void) | null,
): Promise<boolean> {
  const directory = runDirectory(result.execution_plan_id, paths);
  const limitMs = driver.limitMs(result.argv);
  // Measured from here and not by the clock, which may have been set since.
  const since = performance.now();
  while (isRunAlive(directory, driver)) {
    if (onWait === null) return false;
    onWait();
    if (performance.now() - since > limitMs) stopRecorded(directory, driver);
    await Bun.sleep(1000);
  }
  return true;
}

function subjectOf({ result, actor }: CurrentRun) {
  return { actor, plan_id: result.plan_id, execution_id: result.execution_plan_id, argv: result.argv };
}

/** The runner died between marking the run and auditing its start. */
function neverStarted(current: CurrentRun, audit: AuditLog): void {
  audit.releaseReserve();
  audit.append({
    kind: "execution_denied",
    ...subjectOf(current),
    decision: "deny",
    details: {
      // Not "interrupted", which is of runs: for whoever asks later the executor was not there.
      code: "unavailable",
      message: "the runner was interrupted before it started anything",
      ...current.about,
    },
  });
}

/** The end was not logged, so the host's state decides how it ended. */
async function closeInterrupted(
  current: CurrentRun,
  driver: RunDriver,
  { audit, paths, why = "the runner was interrupted" }: Recovery,
): Promise<void> {
  const { result, transaction, before } = current;
  const id = result.execution_plan_id;
  const run = { argv: result.argv, transaction };
  const lost = (await driver.restore?.(runDirectory(id, paths))) ?? [];
  const { inverse, ...found } = driver.compare(run, before, driver.observe());
  const witness = driver.witness(runDirectory(id, paths), run);
  const left = driver.left?.(runDirectory(id, paths));
  const advice = await driver.advice();
  const [first, ...more] = found.not_as_planned;
  const differing = more.length + (first === undefined ? 0 : 1);
  const parts = [
    why,
    witness.verdict === "refused" ? witness.reason : "",
    first !== undefined && transaction.length === 0
      ? `not as planned: ${describeDifference(first)}`
      : differing === 0
        ? `every package is as planned${witness.verdict === "absent" ? ", but there is no evidence of what was installed" : ""}`
        : `${differing} of ${transaction.length} packages are not as planned`,
    ...lost,
    advice.text,
  ];
  const message = bounded(parts.filter((part) => part !== "").join("; "));
  const ended = { state: "interrupted", code: "interrupted", message } as const;
  const ended_at = new Date().toISOString();
  audit.releaseReserve();
  audit.append({
    kind: "execution_interrupted",
    ...subjectOf(current),
    ...digests(id, paths),
    details: { ...advice.facts, ...ended, witness: witness.verdict, ...found, ...left, ...current.about },
  });
  writeResult({ ...result, ...found, inverse, ...leftBy(witness), ...ended, ended_at }, paths);
}

/** The end was audited, but the outcome had not been written yet. */
function writeAuditedEnd(current: CurrentRun, ended: AuditEvent, driver: RunDriver, paths: StatePaths): void {
  const { result, transaction, before } = current;
  const run = { argv: result.argv, transaction };
  const { inverse } = driver.compare(run, before, driver.observe());
  const left = leftBy(driver.witness(runDirectory(result.execution_plan_id, paths), run));
  const closed = { ...result, ...auditedEnd(ended.details), inverse, ...left };
  writeResult({ ...closed, ended_at: ended.timestamp, exit_status: ended.exit_status }, paths);
}

/**
 * Removes what dead runners left: files of runs that were never marked, and temporary files of writeFileAtomic in directories
 * that are written under the run lock only.
 */
function sweep(marked: string | null, paths: StatePaths): void {
  for (const id of readdirSync(paths.archives)) if (id !== marked) discardRun(id, paths);
  for (const directory of [paths.lock, paths.results, paths.audit]) {
    for (const name of readdirSync(directory)) {
      if (/^\..*\.[0-9a-f-]{36}\.tmp$/.test(name)) rmSync(join(directory, name), { force: true });
    }
  }
}

/** The outcome as the end event has it. */
function auditedEnd(details: Record<string, unknown> | null): Pick<Result, "state" | "code" | "message"> {
  const text = (value: unknown) => (typeof value === "string" ? value : null);
  return {
    state: details?.state === "completed" || details?.state === "interrupted" ? details.state : "failed",
    code: text(details?.code),
    message: text(details?.message),
  };
}

function digests(id: string, paths: StatePaths): Partial<ReturnType<typeof digestRun>> {
  try {
    return digestRun(id, paths);
  } catch (error) {
    // Interrupted before the output files existed.
    if (errnoOf(error) === "ENOENT") return {};
    throw error;
  }
}
