import { type AptRun, describeChange, type PackageChange, programOf } from "./apt-logs.ts";
import type { TransactionEntry } from "./doc-plan.ts";

/*
 * Which package changes no execution explains, and which of them belong together. Logs give local time to the second, so time
 * alone proves nothing: an execution explains exactly the changes of its transaction, each once, while it was running.
 */

/** One execution, from the audit log and the runner's files. Times in milliseconds since the epoch. */
export interface ManagedRun {
  id: string;
  from: number;
  to: number;
  argv: readonly string[];
  /** The changes it planned; null if no longer on record. */
  transaction: readonly TransactionEntry[] | null;
}

/** Changes made together outside Aegis. `run` is apt's record of them, null if dpkg was used without apt. */
export interface UnmanagedBatch {
  run: AptRun | null;
  changes: PackageChange[];
  /** Executions that were running at the same time. */
  during: string[];
}

/** The instants that a log's local time may stand for, in milliseconds since the epoch; none for an invalid time. */
export type Clock = (at: string) => number[];

/**
 * A clock for local times. `offsetAt` is the host's time zone: minutes east of UTC at an instant. A local time made ambiguous by
 * a change of daylight saving stands for two instants; `earlier` is the host's offset before its time zone was changed.
 */
export function localClock(offsetAt: (instant: number) => number, earlier: number | null): Clock {
  const day = 24 * 60 * 60_000;
  return (at) => {
    const guess = Date.parse(`${at.replace(" ", "T")}Z`);
    if (Number.isNaN(guess)) return [];
    const offsets = new Set([offsetAt(guess - day), offsetAt(guess + day)]);
    if (earlier !== null) offsets.add(earlier);
    return [...offsets].map((minutes) => guess - minutes * 60_000);
  };
}

/** The changes that no run explains, in their order. `history` stands in for a run's transaction that is no longer known. */
export function unexplained(
  changes: readonly PackageChange[],
  runs: readonly ManagedRun[],
  history: readonly AptRun[],
  clock: Clock,
): PackageChange[] {
  const open = runs.map((run) => ({ run, expected: expectedOf(run, history, clock) }));
  return changes.filter((change) => {
    const keys = keysOf(change);
    for (const { run, expected } of open) {
      const key = keys.find((one) => expected.has(one));
      if (key === undefined || !within(change.at, run, clock)) continue;
      expected.delete(key);
      return false;
    }
    return true;
  });
}

/** With a tolerance of a second: logs have no fractions, so a line may carry the second in which the run started. */
function within(at: string | null, { from, to }: ManagedRun, clock: Clock): boolean {
  return at === null || clock(at).some((instant) => instant >= from - 1000 && instant <= to);
}

/** How a run's changes appear in dpkg's log. */
function expectedOf(run: ManagedRun, history: readonly AptRun[], clock: Clock): Set<string> {
  const isPurge = run.argv[1] === "purge";
  if (run.transaction !== null) {
    return new Set(
      run.transaction.flatMap(({ name, architecture, action, from_version, to_version }) => {
        const gone = `${name}:${architecture} gone ${from_version}`;
        const there = `${name}:${architecture} there ${to_version}`;
        if (action === "remove") return isPurge ? [gone, `${name}:${architecture} purged`] : [gone];
        // These install and remove nothing.
        if (action === "configure" || action === "hold" || action === "unhold") return [];
        // apt may remove a package briefly before it replaces it.
        return from_version === null || action === "reinstall" ? [there] : [there, gone];
      }),
    );
  }
  const own = history.filter(
    // The runner starts apt by its path.
    ({ started, command }) =>
      command?.replace(/^\/\S*\//, "") === run.argv.join(" ") && within(started, run, clock),
  );
  return new Set(
    own.flatMap(({ packages }) =>
      packages.flatMap(({ name, architecture, from, to }) =>
        [architecture, "all"].map((arch) =>
          to === null ? `${name}:${arch} gone ${from}` : `${name}:${arch} there ${to}`,
        ),
      ),
    ),
  );
}

function keysOf({ name, architecture, action, from, to }: PackageChange): string[] {
  // dpkg has forgotten the version of what is left of a package.
  if (action === "purge") return [`${name}:${architecture} purged`];
  // No plan makes a package disappear.
  if (action === "disappear") return [];
  return [to === null ? `${name}:${architecture} gone ${from}` : `${name}:${architecture} there ${to}`];
}

/** Seconds without a change after which the next one belongs to another batch. */
const PAUSE_SECONDS = 60;

/**
 * Groups changes by the run of apt that made them, and the others by the time at which dpkg made them. A change without a time
 * happened at `since` (milliseconds since the epoch) or later.
 */
export function groupByRun(
  changes: readonly PackageChange[],
  history: readonly AptRun[],
  runs: readonly ManagedRun[],
  clock: Clock,
  since: number,
): UnmanagedBatch[] {
  const byPackage = new Map<string, AptRun[]>();
  for (const run of joinSteps(history)) {
    for (const name of new Set(run.packages.map((p) => p.name))) {
      const runsOfName = byPackage.get(name);
      if (runsOfName === undefined) byPackage.set(name, [run]);
      else runsOfName.push(run);
    }
  }
  const isRecent = ({ started }: AptRun) => clock(started).some((instant) => instant >= since - 1000);
  const ofApt = new Map<AptRun, UnmanagedBatch>();
  const found: UnmanagedBatch[] = [];
  let last: UnmanagedBatch | null = null;
  for (const change of changes) {
    const listed = (byPackage.get(change.name) ?? []).filter((run) => records(run, change, isRecent));
    // Two runs of apt may fall into the same second, and each makes a given change only once.
    const run = listed.find((one) => !ofApt.get(one)?.changes.some((it) => isSame(it, change))) ?? listed[0];
    if (run !== undefined) {
      const batch = ofApt.get(run) ?? { run, changes: [], during: [] };
      if (batch.changes.length === 0) found.push(batch);
      ofApt.set(run, batch);
      batch.changes.push(change);
      continue;
    }
    if (last === null || !follows(change, last.changes.at(-1))) {
      last = { run: null, changes: [], during: [] };
      found.push(last);
    }
    last.changes.push(change);
  }
  for (const batch of found) {
    batch.during = runs
      .filter((run) => batch.changes.some(({ at }) => at !== null && within(at, run, clock)))
      .map(({ id }) => id);
  }
  return found;
}

/**
 * The history with the steps of one unattended-upgrade joined: by default (MinimalSteps) it commits a few packages at a time,
 * and apt writes a stanza for each commit.
 */
function joinSteps(history: readonly AptRun[]): AptRun[] {
  const joined: AptRun[] = [];
  for (const run of history) {
    const before = joined.at(-1);
    if (before === undefined || !isNextStep(before, run)) joined.push(run);
    else {
      const packages = [...before.packages, ...run.packages];
      joined[joined.length - 1] = { ...before, ended: run.ended, error: before.error ?? run.error, packages };
    }
  }
  return joined;
}

function isNextStep(before: AptRun, run: AptRun): boolean {
  if (before.ended === null || programOf(run) !== "unattended-upgrades") return false;
  const isSameCall = before.command === run.command && before.requestedBy === run.requestedBy;
  const pause = secondsAt(run.started) - secondsAt(before.ended);
  return isSameCall && pause >= 0 && pause <= PAUSE_SECONDS;
}

/** Whether apt's record of this run has the change. */
function records(run: AptRun, change: PackageChange, isRecent: (run: AptRun) => boolean): boolean {
  const { started, ended, packages } = run;
  const { at, name, architecture, from, to } = change;
  if (at === null ? !isRecent(run) : at < started || (ended !== null && at > ended)) return false;
  return packages.some(
    (p) =>
      p.name === name &&
      p.to === to &&
      (p.from === null || p.from === from) &&
      (p.architecture === architecture || architecture === "all"),
  );
}

function isSame(a: PackageChange, b: PackageChange): boolean {
  return describeChange(a) === describeChange(b);
}

function follows(change: PackageChange, before: PackageChange | undefined): boolean {
  if (before === undefined || before.at === null || change.at === null) return before?.at === change.at;
  return Math.abs(secondsAt(change.at) - secondsAt(before.at)) <= PAUSE_SECONDS;
}

/** Seconds of a log's local time, for differences only. */
function secondsAt(at: string): number {
  return Date.parse(`${at.replace(" ", "T")}Z`) / 1000;
}
