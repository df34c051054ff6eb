import type { AuditKind, NewAuditEvent } from "./audit-event.ts";
import { readEvents } from "./audit-read.ts";
import { canonicalHash } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { type RepositoryState, repositoryDrift } from "./monitor-repositories.ts";
import type { MonitorState } from "./monitor-state.ts";
import { SYSTEM } from "./paths.ts";
import { clip, plural } from "./terminal.ts";

/** The kinds of event that the monitor writes. */
export const MONITOR_KINDS = [
  "unmanaged_change",
  "repository_drift",
  "monitor_findings",
  "monitor_baseline",
] as const satisfies readonly AuditKind[];

/** Limits of a list in an event: entries, and characters of each. */
const LISTED = 10;
const LISTED_CHARS = 200;

/** The state of the host that one run found. */
export type Present = Pick<MonitorState, "packages" | "repositories" | "findings">;

/** The event that sets the baseline. `why` is the message; `repositories_as_last_seen` is null if that is not known. */
export function baselineEvent(
  why: string,
  { packages, repositories, findings }: Present,
  repositories_as_last_seen: boolean | null,
  problems: readonly string[],
): NewAuditEvent {
  return {
    kind: "monitor_baseline",
    details: {
      message: why,
      packages: Object.keys(packages).length,
      packages_sha256: canonicalHash(packages),
      repositories: bounded(Object.keys(repositories)),
      repositories_as_last_seen,
      findings: bounded(findings),
      not_looked_at: bounded(problems),
    },
  };
}

/**
 * The event of how the repositories differ from those of the last run; none if they don't. `executed` are the files that are as an
 * execution left them.
 */
export function driftEvents(
  before: RepositoryState,
  now: RepositoryState,
  executed: ReadonlySet<string> = new Set(),
): NewAuditEvent[] {
  const changes = repositoryDrift(before, now, executed);
  if (changes.length === 0) return [];
  const names = [...new Set(changes.map(({ repository }) => repository))];
  const what = plural(names.length, "repository changed", "repositories changed");
  const how = changes.map(
    ({ repository, change, property }) => `${repository || "the configuration"} (${property ?? change})`,
  );
  return [
    {
      kind: "repository_drift",
      details: {
        message: `${what}: ${clip(how.join(", "), 300)}`,
        count: changes.length,
        changes: changes.slice(0, LISTED),
        changes_sha256: canonicalHash(changes),
      },
    },
  ];
}

/** The event of new and resolved findings, and of what could not be inspected; none if there is nothing to report. */
export function findingsEvents(
  before: readonly string[],
  now: readonly string[],
  problems: readonly string[],
): NewAuditEvent[] {
  const fresh = now.filter((finding) => !before.includes(finding));
  const gone = before.filter((finding) => !now.includes(finding));
  const [first, ...more] = [...problems, ...fresh, ...gone.map((text) => `no longer: ${text}`)];
  if (first === undefined) return [];
  return [
    {
      kind: "monitor_findings",
      details: {
        message: more.length === 0 ? first : `${first}; and ${more.length} more`,
        new: bounded(fresh),
        gone: bounded(gone),
        not_looked_at: bounded(problems),
      },
    },
  ];
}

function bounded(texts: readonly string[]): string[] {
  const kept = texts.slice(0, LISTED).map((text) => clip(text, LISTED_CHARS));
  return kept.length === texts.length ? kept : [...kept, `and ${texts.length - kept.length} more`];
}

/** Name of the status check that reports the monitor's findings. */
export const MONITOR_CHECK = "monitor";
/** Events that are read back; each lists new and resolved findings. */
const REMEMBERED = 1000;

/** A failure that the monitor found and that was still there at its last run. */
interface Found {
  check: string;
  message: string;
  /** When it was first seen, RFC 3339. */
  at: string;
}

/**
 * The failures that the monitor found at its last run, from the production log. The monitor verifies the whole log each hour,
 * which the executor does not, so a tampered log is a failure here; anything else may be resolved by now, and is a warning.
 * @throws AegisError `io` if this user may not read the log, `log_tampered`
 */
export function monitorFindings(dir: string = SYSTEM.auditDir): Finding[] {
  const found = stillFound(dir);
  if (found === null) return [];
  const logs = found.filter(({ check }) => check === "audit");
  const [first, ...more] = found.filter(({ check }) => check !== "audit");
  const findings = logs.map(({ message, at }) =>
    fail(
      MONITOR_CHECK,
      `${message} (the monitor, ${minuteOf(at)})`,
      "See: aegis audit verify --system; once it passes, type as root: systemctl start aegis-monitor.service",
    ),
  );
  if (first !== undefined) {
    const others = more.length === 0 ? "" : `; and ${plural(more.length, "more failure")}`;
    const what = `${first.check}: ${clip(first.message, 200)}`;
    findings.push(
      warn(
        MONITOR_CHECK,
        `the monitor found at ${minuteOf(first.at)}: ${what}${others}`,
        "Check whether it still holds: aegis doctor",
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(MONITOR_CHECK, "no failure at its last run")];
}

/** Null if the monitor has never run. */
function stillFound(dir: string): Found[] | null {
  const kind = ["monitor_baseline", "monitor_findings"] as const;
  let events: ReturnType<typeof readEvents>;
  try {
    events = readEvents(dir, { kind, last: REMEMBERED });
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw error;
  }
  if (events.length === 0) return null;
  const found = new Map<string, Found>();
  for (const event of events) {
    const { findings, new: fresh, gone } = event.details ?? {};
    if (event.kind === "monitor_baseline") found.clear();
    for (const text of texts(gone)) found.delete(text);
    for (const text of [...texts(findings), ...texts(fresh)]) {
      const [, check, message] = /^fail (\S+): (.*)$/s.exec(text) ?? [];
      if (check !== undefined && message !== undefined)
        found.set(text, { check, message, at: event.timestamp });
    }
  }
  return [...found.values()];
}

function texts(list: unknown): string[] {
  return Array.isArray(list) ? list.filter((text) => typeof text === "string") : [];
}

/** `2026-11-22 08:12Z` */
export function minuteOf(timestamp: string): string {
  return `${timestamp.slice(0, 16).replace("T", " ")}Z`;
}
