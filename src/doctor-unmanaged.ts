import type { AuditEvent } from "./audit-event.ts";
import { readEvents } from "./audit-read.ts";
import { AegisError } from "./errors.ts";
import { type Finding, ok, warn } from "./finding.ts";
import { FIRST_LOOK } from "./host-units-occasional.ts";
import { minuteOf } from "./monitor-events.ts";
import { type ManagedDeviation, managedDeviations } from "./monitor-managed-events.ts";
import { UNMANAGED_CHECK } from "./monitor-unmanaged-events.ts";
import { SYSTEM } from "./paths.ts";
import { isInstalled, secondsOf, showUnits } from "./sys-systemd.ts";
import { clip, plural } from "./terminal.ts";

/*
 * The check of changes made outside Aegis, from the events that the monitor wrote.
 */

/** How far back changes are reported. */
const DAYS = 30;
/** Most events that are counted, the newest. */
const COUNTED = 1000;

/** The changes made on this host outside Aegis. */
export interface UnmanagedSummary {
  /** Start of the period, RFC 3339. */
  since: string;
  /** Whether the period starts at the monitor's first look: earlier changes are not known. */
  first_look: boolean;
  /** Whether the monitor has ever run on this host. */
  monitored: boolean;
  /** Runs of apt and dpkg. */
  runs: number;
  packages: number;
  /** Runs by program, `unattended-upgrades` among them. */
  programs: Record<string, number>;
  /** A few of the newest events, newest last. */
  newest: { at: string; message: string }[];
  /** Managed directories that are not as executions left them. */
  managed: ManagedDeviation[];
}

/**
 * The package changes of the last 30 days that no execution explains, and the managed directories that deviate, from the
 * production log. Null if there is no log.
 * @throws AegisError `io` if this user may not read the log, `log_tampered`
 */
export function unmanagedChanges(dir: string = SYSTEM.auditDir, now = new Date()): UnmanagedSummary | null {
  const window = new Date(now.getTime() - DAYS * 24 * 60 * 60_000).toISOString();
  let events: AuditEvent[];
  let begin: AuditEvent | undefined;
  let monitored: boolean;
  let managed: ManagedDeviation[];
  try {
    events = readEvents(dir, { kind: "unmanaged_change", since: window, last: COUNTED }).filter(
      ({ details }) => details?.managed_root === undefined,
    );
    managed = managedDeviations(dir);
    const baselines = readEvents(dir, { kind: "monitor_baseline", since: window });
    // The other baselines were set after the state was lost, and the log had the monitor's progress.
    begin = baselines.find(({ details }) => (details?.repositories_as_last_seen ?? null) === null);
    monitored =
      events.length + managed.length + baselines.length > 0 ||
      readEvents(dir, { kind: "monitor_baseline", last: 1 }).length > 0;
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw error;
  }
  const programs: Record<string, number> = {};
  let packages = 0;
  for (const { details } of events) {
    const program = typeof details?.program === "string" ? details.program : "unknown";
    programs[program] = (programs[program] ?? 0) + 1;
    packages += typeof details?.count === "number" ? details.count : 1;
  }
  const newest = events
    .slice(-3)
    .map(({ timestamp, details }) => ({ at: timestamp, message: String(details?.message) }));
  const since = begin?.timestamp ?? window;
  return {
    since,
    first_look: begin !== undefined,
    monitored,
    runs: events.length,
    packages,
    programs,
    newest,
    managed,
  };
}

/** The same as findings, for doctor and status. A log that can't be read is reported by the check of the log. */
export async function unmanagedFindings(): Promise<Finding[]> {
  let summary: UnmanagedSummary | null;
  try {
    summary = unmanagedChanges();
  } catch {
    return [];
  }
  if (summary === null) return [];
  if (!summary.monitored) {
    const { when, how } = await firstLook(new Date());
    const message = `the monitor has not looked at this host yet, so changes outside Aegis are not detected: ${when}`;
    return [warn(UNMANAGED_CHECK, message, how)];
  }
  const deviating = summary.managed.map(({ at, message }) =>
    warn(
      UNMANAGED_CHECK,
      `${clip(message, 300)} (the monitor, ${minuteOf(at)})`,
      "See: aegis audit installed",
    ),
  );
  return [...deviating, packagesFinding(summary)];
}

function packagesFinding(summary: UnmanagedSummary): Finding {
  const since = summary.first_look
    ? `the monitor's first look, ${minuteOf(summary.since)}`
    : summary.since.slice(0, 10);
  if (summary.runs === 0) return ok(UNMANAGED_CHECK, `no package changed outside Aegis since ${since}`);
  const by = Object.entries(summary.programs)
    .map(([program, runs]) => `${program} ${runs}`)
    .join(", ");
  const newest = summary.newest.at(-1);
  const last =
    newest === undefined ? "" : `; latest ${newest.at.slice(0, 19)}Z: ${clip(newest.message, 200)}`;
  return warn(
    UNMANAGED_CHECK,
    `${plural(summary.packages, "package change")} outside Aegis since ${since} (runs by program: ${by})${last}`,
    "See: aegis audit show --system --kind unmanaged_change",
  );
}

/** When the monitor will first look at this host, and what to type to start it now. */
async function firstLook(now: Date): Promise<{ when: string; how: string }> {
  if (!isInstalled())
    return { when: "aegis-monitor.timer is not installed", how: "Type as root: aegis daemon --monitor" };
  const timer = "aegis-monitor.timer";
  const service = "aegis-monitor.service";
  const states = await showUnits([timer, service]);
  if (states[service].ActiveState === "activating")
    return { when: "its first look is running", how: "Check again in a minute." };
  const start = `systemctl start ${service}`;
  if (states[timer].ActiveState !== "active")
    return {
      when: `${timer} is not running`,
      how: `Type as root: systemctl enable --now ${timer} && ${start}`,
    };
  const { after, spread } = FIRST_LOOK;
  const latest = new Date((secondsOf(states[timer].ActiveEnterTimestamp) + (after + spread) * 60) * 1000);
  if (latest <= now)
    return {
      when: "its first look is overdue",
      how: `Type: journalctl -b -u ${service}; then, as root: ${start}`,
    };
  const minute = Number.isNaN(latest.getTime())
    ? `in ${after + spread} minutes`
    : minuteOf(latest.toISOString());
  return { when: `it will by ${minute}`, how: `Or type as root: ${start}` };
}
