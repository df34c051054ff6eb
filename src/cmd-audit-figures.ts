import * as v from "valibot";
import type { AuditEvent } from "./audit-event.ts";
import type { Verification } from "./audit-verify.ts";
import { approvedBy, askedBy, detailOf } from "./cmd-audit-view.ts";

/* A period of the log in figures: what ran and how it ended, what was refused, who approved, which packages changed. */

export const DAY_MS = 86_400_000;

const ENDS = {
  execution_completed: "completed",
  execution_interrupted: "interrupted",
  execution_denied: "denied",
} as const;
export const OUTCOME_WORDS = ["completed", "failed", "interrupted", "denied"] as const;
type OutcomeWord = (typeof OUTCOME_WORDS)[number];

/** An execution or a refusal, as its last event has it. Null where the log doesn't say. */
interface ReportedExecution {
  at: string;
  execution_id: string | null;
  outcome: OutcomeWord;
  operation: string | null;
  packages: number | null;
  asked: string | null;
  approved: string | null;
  code: string | null;
  exit_status: number | null;
  /** How many: of refusals that were put together. */
  count: number;
}

export interface LogReport {
  path: string;
  host: string | null;
  /** RFC 3339. */
  from: string;
  until: string;
  /** Whether the period has more events than were read. */
  cut: boolean;
  events: number;
  verification: Verification;
  outcomes: Record<OutcomeWord, number>;
  /** By day (UTC), from the first to the last of the period. */
  days: { day: string; outcomes: Record<OutcomeWord, number> }[];
  /** The newest first. */
  executions: ReportedExecution[];
  decisions: Record<string, number>;
  refusals: Record<string, number>;
  approvers: { name: string; approvals: number }[];
  /** The ones that changed most often first; `last` is the newest change. */
  packages: { name: string; changes: number; last: string; at: string }[];
  /** Package changes that no execution explains, uses of break-glass keys, changed keys, repaired and rotated files. */
  notable: { at: string; kind: string; message: string }[];
}

const NOTABLE = new Set<string>([
  "unmanaged_change",
  "repository_drift",
  "break_glass_used",
  "trust_changed",
  "log_repaired",
  "log_rotated",
  "execution_overdue",
  "requests_refused",
]);

/** The report of a period from its events, oldest first. Pure. */
export function reportOf(
  events: readonly AuditEvent[],
  about: Pick<LogReport, "path" | "from" | "until" | "cut" | "verification">,
): LogReport {
  const executions = events.flatMap(executionIn);
  const outcomes = countedOutcomes(executions);
  const byDay = Map.groupBy(executions, ({ at }) => at.slice(0, 10));
  return {
    ...about,
    host: events.at(-1)?.host ?? null,
    events: events.length,
    outcomes,
    days: daysBetween(about.from, about.until).map((day) => ({
      day,
      outcomes: countedOutcomes(byDay.get(day) ?? []),
    })),
    executions: executions.toReversed(),
    decisions: tally(
      events.flatMap(({ kind, decision }) =>
        kind === "policy_evaluated" && decision !== null ? [decision] : [],
      ),
    ),
    refusals: refusalsOf(executions),
    approvers: Object.entries(
      tally(
        events.flatMap((event) =>
          event.kind === "execution_completed" || event.kind === "execution_interrupted"
            ? (approvedBy(event)?.split(", ") ?? [])
            : [],
        ),
      ),
    ).map(([name, approvals]) => ({ name, approvals })),
    packages: packagesOf(events),
    notable: events
      .filter(({ kind }) => NOTABLE.has(kind))
      .map(({ timestamp, kind, details }) => ({
        at: timestamp,
        kind,
        message: detailOf(v.string(), details?.["message"]) ?? detailOf(v.string(), details?.["file"]) ?? "",
      }))
      .reverse(),
  };
}

function executionIn(event: AuditEvent): ReportedExecution[] {
  const { kind, details, timestamp, execution_id, exit_status } = event;
  if (kind !== "execution_completed" && kind !== "execution_interrupted" && kind !== "execution_denied")
    return [];
  const failed = kind === "execution_completed" && details?.["state"] !== "completed";
  return [
    {
      at: timestamp,
      execution_id,
      outcome: failed ? "failed" : ENDS[kind],
      operation: detailOf(v.string(), details?.["operation"]),
      packages: detailOf(v.number(), details?.["packages_count"]),
      asked: askedBy(event),
      approved: approvedBy(event),
      code: detailOf(v.string(), details?.["code"]),
      exit_status,
      count: detailOf(v.pipe(v.number(), v.safeInteger(), v.minValue(1)), details?.["count"]) ?? 1,
    },
  ];
}

function countedOutcomes(executions: readonly ReportedExecution[]): Record<OutcomeWord, number> {
  const counts = { completed: 0, failed: 0, interrupted: 0, denied: 0 };
  for (const { outcome, count } of executions) counts[outcome] += count;
  return counts;
}

/** By code. One event may stand for many refusals, as often as it says. */
function refusalsOf(executions: readonly ReportedExecution[]): Record<string, number> {
  const denied = executions.filter(({ outcome }) => outcome === "denied");
  const byCode = Map.groupBy(denied, ({ code }) => code ?? "unknown");
  return ranked([...byCode].map(([code, of]) => [code, of.reduce((sum, { count }) => sum + count, 0)]));
}

/** How often each word occurs, the most frequent first. */
export function tally(words: readonly string[]): Record<string, number> {
  return ranked([...Map.groupBy(words, (word) => word)].map(([word, of]) => [word, of.length]));
}

function ranked(counts: readonly (readonly [string, number])[]): Record<string, number> {
  return Object.fromEntries(counts.toSorted((a, b) => b[1] - a[1]));
}

/** Packages that executions changed: only of those that ended as planned, since of others the log doesn't know it. */
function packagesOf(events: readonly AuditEvent[]): LogReport["packages"] {
  const found = new Map<string, LogReport["packages"][number]>();
  for (const { kind, details, timestamp } of events) {
    if (kind !== "execution_completed" || details?.["state"] !== "completed") continue;
    const changed = detailOf(v.record(v.string(), v.array(v.string())), details["packages"]) ?? {};
    for (const [action, names] of Object.entries(changed)) {
      for (const text of names) {
        const [name = "", ...version] = text.split(" ");
        const last = [action, ...version].join(" ");
        found.set(name, { name, changes: (found.get(name)?.changes ?? 0) + 1, last, at: timestamp });
      }
    }
  }
  return [...found.values()].sort((a, b) => b.changes - a.changes || (a.name < b.name ? -1 : 1));
}

/** Days from one time to another, `2026-11-30`, both included. */
function daysBetween(from: string, until: string): string[] {
  const first = Date.parse(`${from.slice(0, 10)}T00:00:00Z`);
  const days = Math.floor((Date.parse(until) - first) / DAY_MS) + 1;
  return Array.from({ length: Math.max(1, days) }, (_, n) =>
    new Date(first + n * DAY_MS).toISOString().slice(0, 10),
  );
}
