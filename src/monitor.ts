import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { freshProcesses } from "./apt-processes.ts";
import type { AuditEvent, NewAuditEvent } from "./audit-event.ts";
import type { AuditLog } from "./audit-log.ts";
import { openProductionLog } from "./audit-production.ts";
import { readEvents } from "./audit-read.ts";
import { canonicalHash } from "./canonical.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type Finding, fail, warn } from "./finding.ts";
import type { Log } from "./log.ts";
import { baselineEvent, driftEvents, findingsEvents, MONITOR_KINDS, type Present } from "./monitor-events.ts";
import { recordFirstSeen } from "./monitor-first-seen.ts";
import { endOf, PositionSchema } from "./monitor-logs.ts";
import { lookAtManaged } from "./monitor-managed.ts";
import { type ManagedSeen, managedEvents } from "./monitor-managed-events.ts";
import { feedMetrics, processMetrics, writeMetrics } from "./monitor-metrics.ts";
import {
  DPKG_LOG,
  dpkgIsBusy,
  type LastLook,
  lookAtPackages,
  type PackageLook,
  versionsNow,
} from "./monitor-packages.ts";
import { executedFiles, type RepositoryState, repositoryState } from "./monitor-repositories.ts";
import {
  MONITOR_DIRECTORY,
  type MonitorState,
  prepareMonitorState,
  readMonitorState,
  writeMonitorState,
} from "./monitor-state.ts";
import { type Clock, localClock, type UnmanagedBatch } from "./monitor-unmanaged.ts";
import { moreUnmanaged, UNMANAGED_CHECK, unmanagedEvent } from "./monitor-unmanaged-events.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { openPlanning } from "./plan-world.ts";
import { tryFlock } from "./sys-ffi.ts";
import { prepareState } from "./sys-state.ts";
import { clip } from "./terminal.ts";

/*
 * Changes made outside Aegis: each run compares the host with the previous run. The audit log is the record of what has been
 * reported; the state file only makes the comparison possible, and gives way where the log is newer.
 */

/** How long a run waits for apt and dpkg to finish. */
const WAIT_MS = 60_000;
const POLL_MS = 500;
const TRIES = 3;
/** Events of package changes that one run writes; the remaining changes are summed up in one more. */
const MOST_EVENTS = 50;
/** Earlier events to compare with if the state was lost. */
const REMEMBERED = 1000;

/** The monitor's progress, recorded in each event for a run that finds its state lost. */
const SeenSchema = v.object({
  dpkg_log: v.nullable(PositionSchema),
  repositories_sha256: v.string(),
});
type Seen = v.InferOutput<typeof SeenSchema>;

/** The checks of `aegis doctor`, all but those named. */
type Checks = (env: Env, without: readonly string[]) => Promise<Finding[]>;

/**
 * One run: inspects the host, compares it with the last run, and audits what is new. If apt or dpkg is running, the packages
 * wait for the next run. It takes no lock but its own.
 * @throws AegisError `usage` when not root, `busy` while another monitor runs, `io`, `log_tampered`
 */
export async function runMonitor(env: Env, log: Log, checks: Checks): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new AegisError(
      "usage",
      "the monitor runs as root, since it inspects the whole host",
      "Type: sudo aegis daemon --monitor",
    );
  }
  prepareState();
  prepareMonitorState();
  const lock = openSync(join(MONITOR_DIRECTORY, "lock"), "a", 0o600);
  try {
    if (!tryFlock(lock))
      throw new AegisError("busy", "another monitor is running", "Wait until it has finished.");
    await look(openProductionLog(), env, log, checks);
  } finally {
    closeSync(lock);
  }
}

async function look(audit: AuditLog, env: Env, log: Log, checks: Checks): Promise<void> {
  const saved = readMonitorState();
  const recorded = recordedSince(saved);
  const state = recorded.length === 0 ? saved : null;
  const seen = state === null ? seenIn(recorded) : seenOf(state);
  const offset = (instant: number) => -new Date(instant).getTimezoneOffset();
  const last = seen === null ? null : lastLook(seen, state, recorded);
  const packages = await lookWhileIdle(last, localClock(offset, state?.utc_offset ?? null));
  if (packages === null) log.info("apt or dpkg is running: package changes are left to the next run");
  if (packages === null && state === null) return;

  const repositories = await repositoriesNow(saved !== null);
  // What the monitor itself reported is not news, nor are packages that are being changed right now.
  const without = packages === null ? [UNMANAGED_CHECK, "packages"] : [UNMANAGED_CHECK];
  const managed = await managedNow(state?.managed ?? {}, recorded);
  // Doctor's check of old code tells what this sees.
  const running = await freshProcesses().catch((error) => {
    log.warn("can't look at the processes", { why: messageOf(error) });
    return null;
  });
  const findings = [
    ...reported(await checks(env, without)),
    ...repositories.findings,
    ...managed.findings,
  ].sort();
  const present: Present = {
    packages: packages?.versions ?? state?.packages ?? {},
    repositories: repositories.state ?? state?.repositories ?? {},
    findings,
  };
  const { batches, end, problems } = packages ?? { batches: [], end: seen?.dpkg_log ?? null, problems: [] };
  const after = seenOf({ dpkg_log: end, repositories: present.repositories });
  const events = [
    ...unmanagedEvents(batches, recorded),
    ...managed.events,
    ...(state === null
      ? [baseline(saved, seen, after, present, problems)]
      : [
          ...driftEvents(state.repositories, present.repositories, executedNow(state)),
          ...findingsEvents(state.findings, findings, problems),
        ]),
  ];
  let audit_sequence = state?.audit_sequence ?? 0;
  for (const [n, event] of events.entries()) {
    // Only the last event records the new progress: a run that dies before it is repeated.
    const progress = n === events.length - 1 ? after : seen;
    audit_sequence = audit.append({ ...event, details: { ...event.details, seen: progress } }).sequence;
    const level = event.kind === "monitor_baseline" ? "info" : "warn";
    log[level](event.kind.replace("_", " "), { what: String(event.details?.message), audit_sequence });
  }
  writeMonitorState({
    schema_version: "1.0",
    at: packages?.at ?? state?.at ?? new Date().toISOString(),
    audit_sequence,
    dpkg_log: end,
    utc_offset: offset(Date.now()),
    managed: managed.seen,
    ...present,
  });
  writeMetrics({ findings, now: new Date(), more: [...feedMetrics(new Date()), ...processMetrics(running)] });
  log.info("inspected this host", { events: events.length, findings: findings.length });
}

function lastLook(seen: Seen, state: MonitorState | null, recorded: readonly AuditEvent[]): LastLook {
  const at = Date.parse(state?.at ?? recorded.at(-1)?.timestamp ?? "");
  return { at, dpkg_log: seen.dpkg_log, packages: state?.packages ?? null };
}

/**
 * dpkg's packages, and what changed since the last run, if there was one. Both are of the same moment: otherwise the next run
 * would report what lies between as changes without a log. Null while apt or dpkg is running.
 */
async function lookWhileIdle(
  last: LastLook | null,
  clock: Clock,
): Promise<(PackageLook & { at: string; versions: MonitorState["packages"] }) | null> {
  for (let n = 0; n < TRIES; n++) {
    if (await isBusyForLong()) return null;
    const at = new Date().toISOString();
    const versions = versionsNow();
    const look: PackageLook =
      last === null
        ? { batches: [], end: await endOf(DPKG_LOG), problems: [] }
        : await lookAtPackages(last, versions, clock);
    if (!dpkgIsBusy() && canonicalHash(versionsNow()) === canonicalHash(versions))
      return { ...look, at, versions };
  }
  return null;
}

/** The events of the batches, without those that were recorded before. */
function unmanagedEvents(
  batches: readonly UnmanagedBatch[],
  recorded: readonly AuditEvent[],
): NewAuditEvent[] {
  const known = new Set(recorded.map(({ details }) => details?.changes_sha256));
  const rest = batches.slice(MOST_EVENTS);
  return [
    ...batches.slice(0, MOST_EVENTS).map(unmanagedEvent),
    ...(rest.length > 0 ? [moreUnmanaged(rest)] : []),
  ].filter(({ details }) => !known.has(details?.changes_sha256));
}

function baseline(
  saved: MonitorState | null,
  seen: Seen | null,
  after: Seen,
  present: Present,
  problems: readonly string[],
): NewAuditEvent {
  const known = "the present state of this host is the baseline";
  if (seen === null) return baselineEvent(`the monitor starts: ${known}`, present, null, problems);
  const what = saved === null ? "was lost" : "is older than this log";
  const same = seen.repositories_sha256 === after.repositories_sha256;
  return baselineEvent(`the monitor's state ${what}: ${known}`, present, same, problems);
}

/** The monitor's own events that are newer than its state: none, unless the state was lost or is an older copy. */
function recordedSince(saved: MonitorState | null): AuditEvent[] {
  try {
    return readEvents(SYSTEM.auditDir, {
      kind: MONITOR_KINDS,
      after: saved?.audit_sequence,
      last: REMEMBERED,
    });
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return [];
    throw error;
  }
}

/** The files of repositories that executions have changed since the last event of the monitor. */
function executedNow({ audit_sequence }: MonitorState): Set<string> {
  return executedFiles(SYSTEM.auditDir, audit_sequence);
}

/** The progress that the newest event records; null if there is none. */
function seenIn(events: readonly AuditEvent[]): Seen | null {
  const found = v.safeParse(SeenSchema, events.at(-1)?.details?.seen);
  return found.success ? found.output : null;
}

function seenOf({ dpkg_log, repositories }: Pick<MonitorState, "dpkg_log" | "repositories">): Seen {
  return { dpkg_log, repositories_sha256: canonicalHash(repositories) };
}

/** Findings worth an event, one text each. */
function reported(findings: readonly Finding[]): string[] {
  return [...new Set(findings.filter(({ level }) => level !== "ok").map(textOf))];
}

function textOf({ level, check, message }: Finding): string {
  return clip(`${level} ${check}: ${message}`, 400);
}

/** Brings the record of first sightings up to date, or says why it can't be. */
async function firstSeenNow(lists: string, evidence: readonly RepositoryEvidence[], hasRun: boolean) {
  try {
    const problem = await recordFirstSeen(lists, evidence, { now: new Date(), hasRun });
    return problem === null ? [] : [textOf(problem)];
  } catch (error) {
    return [textOf(warn("first-seen", `package versions' ages aren't recorded: ${messageOf(error)}`, ""))];
  }
}

/** The repositories, or a finding that says why they can't be read. */
async function repositoriesNow(
  hasRun: boolean,
): Promise<{ state: RepositoryState | null; findings: string[] }> {
  try {
    // The unit's home is not writable.
    const planning = openPlanning({ env: { XDG_CACHE_HOME: MONITOR_DIRECTORY } });
    try {
      const { state, evidence, lists } = await repositoryState(planning);
      return { state, findings: await firstSeenNow(lists, evidence, hasRun) };
    } finally {
      planning.close();
    }
  } catch (error) {
    return { state: null, findings: [textOf(fail("repositories", messageOf(error), ""))] };
  }
}

/** What is new of managed roots, or a finding that says why they can't be looked at. */
async function managedNow(
  saved: ManagedSeen,
  recorded: readonly AuditEvent[],
): Promise<ReturnType<typeof managedEvents> & { findings: string[] }> {
  try {
    const { roots } = await lookAtManaged(null);
    return { ...managedEvents(roots, saved, recorded), findings: [] };
  } catch (error) {
    // The check of the log tells that, with what to do.
    const isTold = error instanceof AegisError && error.code === "log_tampered";
    const findings = isTold ? [] : [textOf(fail("managed", messageOf(error), ""))];
    return { events: [], seen: saved, findings };
  }
}

/** Waits for apt and dpkg. Returns whether they are still running after that. */
async function isBusyForLong(): Promise<boolean> {
  const end = performance.now() + WAIT_MS;
  while (dpkgIsBusy()) {
    if (performance.now() >= end) return true;
    await Bun.sleep(POLL_MS);
  }
  return false;
}
