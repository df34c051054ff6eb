import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { readReceipt } from "./apt-hook-receipt.ts";
import {
  closeRun,
  digestRun,
  discardRun,
  downloadLimit,
  OUTPUT_FILES,
  packageManagersOf,
  runDirectory,
  stopBeforeDpkg,
} from "./apt-run.ts";
import { REPAIR } from "./apt-state.ts";
import type { AuditKind } from "./audit-event.ts";
import type { AuditLog } from "./audit-log.ts";
import { readEvents } from "./audit-read.ts";
import { parseJson } from "./canonical.ts";
import { dpkgAudit } from "./dpkg-audit.ts";
import { readDpkgStatus } from "./dpkg-status.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { syncDirectory, writeFileAtomic } from "./files.ts";
import { TransactionEntry } from "./operation-plan.ts";
import { SYSTEM } from "./paths.ts";
import { readText } from "./planning.ts";
import { type DpkgSnapshot, inverseOf, isChecked, postCheck, snapshotOf } from "./post-check.ts";
import { isSameProcess } from "./processes.ts";
import { type Result, ResultSchema, readResult, writeResult } from "./results.ts";
import { STATE } from "./state.ts";

/*
 * The one run that is under way. Its marker is written before anything is used up and removed after the outcome is on
 * disk, both under the run lock: a marker that is found by whoever takes the lock next belongs to a run whose runner died.
 */

const MARKER = join(STATE.lock, "current.json");

const CurrentRunSchema = v.strictObject({
  result: ResultSchema,
  transaction: v.array(TransactionEntry),
  before: v.record(v.string(), v.string()),
  actor: v.string(),
  /** What every event of the run says of it. */
  about: v.optional(v.record(v.string(), v.unknown()), {}),
});
/** What has to be known of a run to close it, whoever closes it. */
export type CurrentRun = v.InferOutput<typeof CurrentRunSchema>;

/** Marks a run as under way, durably. */
export function markCurrent(current: CurrentRun): void {
  writeFileAtomic(MARKER, JSON.stringify(current));
}

/** Takes the mark away, durably. */
export function clearCurrent(): void {
  rmSync(MARKER, { force: true });
  syncDirectory(STATE.lock);
}

function readCurrent(): CurrentRun | null {
  try {
    return v.parse(CurrentRunSchema, parseJson(readFileSync(MARKER, "utf8")));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

/** Whether apt or dpkg of the run that is marked are at work. */
export function isAptAtWork(): boolean {
  const current = readCurrent();
  return current !== null && isAlive(current.result.execution_plan_id);
}

/**
 * dpkg's packages at this moment.
 * @throws AegisError `io`
 */
export function dpkgNow(): DpkgSnapshot {
  const status = readDpkgStatus("/var/lib/dpkg/status", { readText, list: (path) => readdirSync(path) });
  if (status === null) throw new AegisError("io", "can't read /var/lib/dpkg/status");
  return snapshotOf(status.packages);
}

/**
 * Closes a run whose runner died. Waits for its apt and dpkg as long as they live, compares dpkg's state with the plan,
 * audits `execution_interrupted` and writes the outcome. What was started stays used: it is never run again. Where
 * the runner died before the start was audited nothing has run: that is a refusal, without an outcome. Call it under the
 * run lock. `onWait` is called once a second while waiting; without it nothing is done as long as they live.
 */
export async function recoverInterrupted(audit: AuditLog, onWait: (() => void) | null): Promise<void> {
  const current = readCurrent();
  if (onWait !== null) sweep(current?.result.execution_plan_id ?? null);
  if (current === null) return;
  const { result } = current;
  const id = result.execution_plan_id;
  // Counted from here, and not by the clock: that may have been set since.
  const since = performance.now();
  while (isAlive(id)) {
    if (onWait === null) return;
    onWait();
    if (performance.now() - since > downloadLimit(result.argv)) stopRecorded(runDirectory(id));
    await Bun.sleep(1000);
  }
  const audited = (kind: AuditKind) => readEvents(SYSTEM.auditDir, { kind, execution: id, last: 1 })[0];
  const ended = audited("execution_completed") ?? audited("execution_interrupted");
  const after = dpkgNow();
  const inverse = inverseOf(current.transaction, current.before, after);
  const began = audited("execution_started") ?? existsSync(join(runDirectory(id), OUTPUT_FILES.stdout));
  if (began === false) {
    audit.releaseReserve();
    audit.append({
      kind: "execution_denied",
      actor: current.actor,
      plan_id: result.plan_id,
      execution_id: id,
      argv: result.argv,
      decision: "deny",
      details: {
        code: "interrupted",
        message: "the runner was interrupted before it started anything",
        ...current.about,
      },
    });
    discardRun(id);
  } else if (ended === undefined) {
    const found = postCheck(current.transaction, current.before, after);
    const { text: unfinished } = await dpkgAudit();
    const hook = readReceipt(runDirectory(id));
    const planned =
      found.not_as_planned.length === 0 &&
      (hook?.ok === true || !isChecked(result.argv, current.transaction));
    const packages = planned
      ? "every package is as planned"
      : `${found.not_as_planned.length} of ${current.transaction.length} packages are not as planned`;
    const repair = unfinished === "" ? "" : `; to finish what dpkg has half-done: ${REPAIR}`;
    const message = `the runner was interrupted; ${packages}${repair}`;
    const closed: Result = {
      ...result,
      ...found,
      inverse,
      state: "interrupted",
      code: "interrupted",
      message,
      ended_at: new Date().toISOString(),
    };
    audit.releaseReserve();
    audit.append({
      kind: "execution_interrupted",
      actor: current.actor,
      plan_id: result.plan_id,
      execution_id: id,
      argv: result.argv,
      ...digests(id),
      details: {
        state: closed.state,
        code: closed.code,
        message,
        hook_ok: hook?.ok ?? null,
        dpkg_audit: unfinished,
        ...found,
        ...current.about,
      },
    });
    writeResult(closed);
  } else if (readResult(id)?.state === "running") {
    // A final result stays as it is: it knows more than the event does.
    writeResult({
      ...result,
      ...outcomeOf(ended.details),
      inverse,
      ended_at: ended.timestamp,
      exit_status: ended.exit_status,
    });
  }
  if (began !== false) closeRun(id);
  clearCurrent();
}

/**
 * Removes what runners left that died in the middle of something: files laid out for a run that was never marked, and
 * halves of files (writeFileAtomic) that are written under the run lock only.
 */
function sweep(marked: string | null): void {
  for (const id of readdirSync(STATE.archives)) if (id !== marked) discardRun(id);
  for (const directory of [STATE.lock, STATE.results, SYSTEM.auditDir]) {
    for (const name of readdirSync(directory)) {
      if (/^\..*\.[0-9a-f-]{36}\.tmp$/.test(name)) rmSync(join(directory, name), { force: true });
    }
  }
}

/** The end was audited, but the outcome had not been written yet. */
function outcomeOf(details: Record<string, unknown> | null): Pick<Result, "state" | "code" | "message"> {
  const text = (value: unknown) => (typeof value === "string" ? value : null);
  return {
    state: details?.state === "completed" || details?.state === "interrupted" ? details.state : "failed",
    code: text(details?.code),
    message: text(details?.message),
  };
}

function digests(id: string): { stdout_sha256: string; stderr_sha256: string } | Record<string, never> {
  try {
    const { stdoutSha256, stderrSha256 } = digestRun(id);
    return { stdout_sha256: stdoutSha256, stderr_sha256: stderrSha256 };
  } catch (error) {
    // Interrupted before apt had any output file.
    if (errnoOf(error) === "ENOENT") return {};
    throw error;
  }
}

/** A download that its runner can't stop any more. Where dpkg may have started, this does nothing. */
function stopRecorded(directory: string): void {
  const recorded = recordedProcess(directory);
  if (recorded !== null && isSameProcess(recorded)) stopBeforeDpkg(directory, recorded.pid);
}

/** Whether apt or dpkg of this run still live, by the process on record and by the configuration they were given. */
function isAlive(id: string): boolean {
  const directory = runDirectory(id);
  const recorded = recordedProcess(directory);
  if (recorded !== null && isSameProcess(recorded)) return true;
  return packageManagersOf(directory).length > 0;
}

const ProcessRecord = v.strictObject({ pid: v.number(), start: v.number(), boot: v.string() });

function recordedProcess(directory: string): v.InferOutput<typeof ProcessRecord> | null {
  try {
    return v.parse(ProcessRecord, parseJson(readFileSync(join(directory, OUTPUT_FILES.process), "utf8")));
  } catch {
    // Interrupted before apt was started, or in the moment of it: then only the configuration tells.
    return null;
  }
}
