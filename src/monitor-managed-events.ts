import { basename } from "node:path";
import * as v from "valibot";
import type { AuditEvent, NewAuditEvent } from "./audit-event.ts";
import { readEvents } from "./audit-read.ts";
import { canonicalHash } from "./canonical.ts";
import { LeftRoot } from "./eco-record.ts";
import type { ManagedLook } from "./monitor-managed.ts";
import { clip, plural } from "./terminal.ts";

/*
 * Deviations of managed roots as events: each once, again when it changes or survives an execution, and once more when it is gone.
 */

/** Paths that one event lists, and characters of each; the digest covers all. */
const LISTED = 20;
const LISTED_CHARS = 200;

export const ManagedSeenSchema = v.record(
  v.string(),
  v.strictObject({ changes_sha256: v.string(), execution: v.nullable(v.string()) }),
);
/** The deviations that were found last, by the path of their root. */
export type ManagedSeen = v.InferOutput<typeof ManagedSeenSchema>;

/**
 * The events of what differs from the last run, and what to remember. `recorded` are events that are newer than what was saved:
 * what they tell isn't told again.
 */
export function managedEvents(
  looks: readonly ManagedLook[],
  saved: ManagedSeen,
  recorded: readonly AuditEvent[],
): { events: NewAuditEvent[]; seen: ManagedSeen } {
  const events: NewAuditEvent[] = [];
  const seen: ManagedSeen = {};
  for (const look of looks) {
    const { path, execution } = look;
    const before = lastTold(path, recorded) ?? saved[path] ?? null;
    // Judged when the execution has ended.
    if (look.state === "changing") {
      if (before !== null) seen[path] = before;
      continue;
    }
    if (look.state === "deviating") {
      const changes_sha256 = digestOf(look);
      seen[path] = { changes_sha256, execution };
      if (changes_sha256 !== before?.changes_sha256) events.push(deviationEvent(look, changes_sha256));
    } else if (before !== null && before.execution === execution) events.push(goneEvent(look));
  }
  return { events, seen };
}

/** What the newest of these events tells of a root; null if it is gone or none tells of it. */
function lastTold(path: string, recorded: readonly AuditEvent[]): ManagedSeen[string] | null {
  const details = recorded.findLast(({ details }) => details?.managed_root === path)?.details;
  if (details == null || details.count === 0) return null;
  return {
    changes_sha256: String(details.changes_sha256),
    execution: typeof details.execution === "string" ? details.execution : null,
  };
}

/** Changes that doctor and status name of each. */
const NAMED = 3;
/** Newest events that are searched for deviations. */
const SEARCHED = 1000;

/** A managed directory that was found other than as executions left it, and that none has exchanged since. */
export interface ManagedDeviation {
  path: string;
  /** RFC 3339. */
  at: string;
  message: string;
}

/** The deviations that the monitor found and that last, from the production log. @throws AegisError as {@link readEvents} */
export function managedDeviations(dir: string): ManagedDeviation[] {
  const newest = new Map<string, AuditEvent>();
  for (const event of readEvents(dir, { kind: "unmanaged_change", last: SEARCHED })) {
    const path = event.details?.managed_root;
    if (typeof path === "string") newest.set(path, event);
  }
  return [...newest].flatMap(([path, { sequence, timestamp: at, details }]) => {
    if (details?.count === 0 || isExchangedSince(dir, path, sequence)) return [];
    const changes = v.safeParse(v.array(v.string()), details?.changes);
    const named =
      changes.success && changes.output.length > 0 ? `: ${changes.output.slice(0, NAMED).join(", ")}` : "";
    return [{ path, at, message: `${details?.message}${named}` }];
  });
}

function isExchangedSince(dir: string, path: string, after: number): boolean {
  const kind = ["execution_completed", "execution_interrupted"] as const;
  return readEvents(dir, { kind, after }).some(({ details }) => {
    const left = v.safeParse(LeftRoot, details?.managed_root);
    return left.success && basename(path) === left.output.root;
  });
}

function digestOf({ path, execution, deviations, problem }: ManagedLook): string {
  return canonicalHash({
    ...{ path, execution, problem },
    deviations: deviations.map(({ path: at, what, found }) => [at, what, JSON.stringify(found)]),
  });
}

function deviationEvent(look: ManagedLook, changes_sha256: string): NewAuditEvent {
  const { tool, path, execution, deviations } = look;
  const changes = deviations
    .slice(0, LISTED)
    .map(({ path: at, what }) => clip(`${what}: ${at === "" ? path : at}`, LISTED_CHARS));
  return {
    kind: "unmanaged_change",
    details: {
      message: clip(describeDeviation(look), 500),
      program: "unknown",
      ...{ tool, managed_root: path, execution },
      count: Math.max(1, deviations.length),
      changes,
      changes_sha256,
    },
  };
}

function describeDeviation({ tool, path, execution, deviations, problem }: ManagedLook): string {
  const paths = plural(deviations.length, "path");
  if (tool === null) return `${path}: ${paths} not as executions left them`;
  if (execution === null) return `${path}: ${paths} that no execution has left`;
  if (deviations.length > 0) return `${path}: ${paths} not as execution ${execution} left them`;
  return `${path} is not what execution ${execution} left: ${problem ?? "unknown"}`;
}

function goneEvent({ tool, path, execution }: ManagedLook): NewAuditEvent {
  return {
    kind: "unmanaged_change",
    details: {
      message: `${path} is again as executions left it`,
      program: "unknown",
      ...{ tool, managed_root: path, execution },
      count: 0,
      changes: [],
    },
  };
}
