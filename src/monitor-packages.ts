import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { readDpkgStatus } from "./apt-dpkg.ts";
import { RUN_FILES, readReceipt } from "./apt-hook-receipt.ts";
import { type PackageChange, parseAptHistory, parseDpkgLine } from "./apt-logs.ts";
import { isPathLocked } from "./apt-ready.ts";
import { readEvents } from "./audit-read.ts";
import { parseJson } from "./canonical.ts";
import { TransactionEntry } from "./doc-plan.ts";
import { runDirectory } from "./eco-run.ts";
import { AegisError } from "./errors.ts";
import { entriesSince, newestText, type Position } from "./monitor-logs.ts";
import {
  type Clock,
  groupByRun,
  type ManagedRun,
  type UnmanagedBatch,
  unexplained,
} from "./monitor-unmanaged.ts";
import { SYSTEM } from "./paths.ts";
import { readText } from "./sys-files.ts";
import { STATE } from "./sys-state.ts";

export const DPKG_LOG = "/var/log/dpkg.log";
const APT_HISTORY = "/var/log/apt/history.log";
/** Changes that one run inspects: dozens of full distribution upgrades. */
const MOST_CHANGES = 100_000;
const HISTORY_BYTES = 32 * 1024 * 1024;
/** The longest that an execution may have been running before its changes are inspected. */
const LONGEST_RUN_MS = 7 * 24 * 60 * 60_000;
const LOCKS = ["/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend"];

/** dpkg's packages as `name:architecture` → version. */
type Versions = Record<string, string>;

/** The packages that dpkg has now. @throws AegisError `io` */
export function versionsNow(): Versions {
  const status = readDpkgStatus("/var/lib/dpkg/status", { readText, list: (path) => readdirSync(path) });
  if (status === null) throw new AegisError("io", "can't read /var/lib/dpkg/status");
  return Object.fromEntries(
    [...status.packages]
      .filter(([, p]) => p.state !== "config-files")
      .map(([key, { version }]) => [key, version]),
  );
}

/** Whether apt or dpkg is running. Asks the kernel about their locks without taking one. */
export function dpkgIsBusy(): boolean {
  return LOCKS.some(isPathLocked);
}

export interface PackageLook {
  batches: UnmanagedBatch[];
  /** How far dpkg's log has been read. */
  end: Position;
  /** What could not be inspected, as messages. */
  problems: string[];
}

/** What the last run found. */
export interface LastLook {
  /** When, in milliseconds since the epoch. */
  at: number;
  dpkg_log: Position;
  /** Null if no longer known. */
  packages: Versions | null;
}

/**
 * The changes in dpkg's log since the last run that no execution explains, and the differences since then that no log
 * mentions.
 */
export async function lookAtPackages(last: LastLook, now: Versions, clock: Clock): Promise<PackageLook> {
  const log = await entriesSince(DPKG_LOG, last.dpkg_log, parseDpkgLine, MOST_CHANGES);
  // In a rewritten log, older lines were inspected before. Changes in the very second of the last run are missed here, and
  // are found by comparing the packages.
  const isNew = ({ at }: PackageChange) =>
    log.found || at === null || clock(at).some((instant) => instant > last.at);
  const logged = log.entries.filter(isNew);
  const differs = last.packages !== null && unlogged(last.packages, now, [], []).length > 0;
  if (logged.length === 0 && !differs) return { batches: [], end: log.end, problems: log.problems };
  // A change that no log mentions may have happened at any time since the last run.
  const runs = managedRuns(Math.min(earliestOf(logged, clock), differs ? last.at : Number.POSITIVE_INFINITY));
  const history = parseAptHistory(await newestText(APT_HISTORY, HISTORY_BYTES));
  const left = [
    ...unexplained(logged, runs, history, clock),
    ...(last.packages === null ? [] : unlogged(last.packages, now, logged, runs)),
  ];
  return { batches: groupByRun(left, history, runs, clock, last.at), end: log.end, problems: log.problems };
}

function earliestOf(changes: readonly PackageChange[], clock: Clock): number {
  const [first] = changes.flatMap(({ at }) => (at === null ? [] : clock(at))).sort((a, b) => a - b);
  return Math.min(first ?? Date.now(), Date.now());
}

/** Differences that neither dpkg's log nor an execution mentions, e.g. after `dpkg --log=/dev/null -i`. */
export function unlogged(
  before: Versions,
  now: Versions,
  logged: readonly PackageChange[],
  runs: readonly ManagedRun[],
): PackageChange[] {
  const known = new Set<string>();
  // A package that changes its architecture is logged under the new one only.
  for (const { name, architecture, from, to } of logged) {
    known.add(`${name}:${architecture} ${to}`).add(`${name} ${from} gone`);
  }
  for (const { name, architecture, from_version, to_version } of runs.flatMap(
    (run) => run.transaction ?? [],
  )) {
    known.add(`${name}:${architecture} ${to_version}`).add(`${name} ${from_version} gone`);
  }
  return [...new Set([...Object.keys(before), ...Object.keys(now)])].sort().flatMap((key) => {
    const [from, to] = [before[key] ?? null, now[key] ?? null];
    const colon = key.lastIndexOf(":");
    const name = key.slice(0, colon);
    const isKnown = known.has(`${key} ${to}`) || (to === null && known.has(`${name} ${from} gone`));
    if (from === to || isKnown) return [];
    return [{ at: null, action: "changed" as const, name, architecture: key.slice(colon + 1), from, to }];
  });
}

const KINDS = ["execution_started", "execution_completed", "execution_interrupted"] as const;

/** The executions that were running at `instant` or later, by the production log; one without an end is still running. */
function managedRuns(instant: number): ManagedRun[] {
  const since = new Date(instant - LONGEST_RUN_MS).toISOString();
  const runs = new Map<string, ManagedRun>();
  for (const { kind, execution_id: id, argv, timestamp, details } of eventsSince(since)) {
    if (id === null) continue;
    // The log's timestamps never go back; `clock` is the real clock's time where the clock did.
    const at = Date.parse(typeof details?.clock === "string" ? details.clock : timestamp);
    if (kind === "execution_started") {
      runs.set(id, {
        id,
        from: at,
        to: Number.POSITIVE_INFINITY,
        argv: argv ?? [],
        transaction: transactionOf(id),
      });
    } else {
      const run = runs.get(id);
      if (run !== undefined) run.to = at;
    }
  }
  return [...runs.values()].filter(({ to }) => to >= instant - 1000);
}

function eventsSince(since: string) {
  try {
    return readEvents(SYSTEM.auditDir, { kind: KINDS, since });
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return [];
    throw error;
  }
}

/**
 * The transaction of a run that may have changed packages: empty if apt's hook refused it or was never reached, since nothing
 * was unpacked then. Null if the runner's files are gone.
 */
function transactionOf(id: string): TransactionEntry[] | null {
  try {
    const directory = runDirectory(id, STATE);
    const text = readFileSync(join(directory, RUN_FILES.expected), "utf8");
    const transaction = v.parse(v.array(TransactionEntry), parseJson(text));
    return readReceipt(directory)?.ok === true ? transaction : [];
  } catch {
    return null;
  }
}
