import { describeChange, programOf } from "./apt-logs.ts";
import type { NewAuditEvent } from "./audit-event.ts";
import { canonicalHash } from "./canonical.ts";
import type { UnmanagedBatch } from "./monitor-unmanaged.ts";
import { clip, plural } from "./terminal.ts";

/** Name of doctor's check that shows these changes. */
export const UNMANAGED_CHECK = "unmanaged";
/** Changes that one event lists, and their total length in characters; the digest covers all changes. */
const LISTED = 60;
const LISTED_CHARS = 4000;

/** The event of changes that no execution explains. */
export function unmanagedEvent(batch: UnmanagedBatch): NewAuditEvent {
  const { run, changes, during } = batch;
  const lines = changes.map(describeChange);
  const listed: string[] = [];
  let room = LISTED_CHARS;
  for (const line of lines.slice(0, LISTED)) {
    room -= line.length;
    if (room >= 0) listed.push(line);
  }
  const times = changes.flatMap(({ at }) => (at === null ? [] : [at]));
  return {
    kind: "unmanaged_change",
    details: {
      message: clip(describeBatch(batch), 500),
      program: programOfBatch(batch),
      command: run?.command == null ? null : clip(run.command, 1000),
      requested_by: run?.requestedBy == null ? null : clip(run.requestedBy, 100),
      error: run?.error == null ? null : clip(run.error, 300),
      // Local times, as the logs have them.
      started: run?.started ?? times[0] ?? null,
      ended: run === null ? (times.at(-1) ?? null) : run.ended,
      during_executions: during.slice(0, 5),
      count: changes.length,
      changes: listed,
      changes_sha256: digestOf(batch),
    },
  };
}

/** One event for all batches beyond the limit. */
export function moreUnmanaged(batches: readonly UnmanagedBatch[]): NewAuditEvent {
  const count = batches.reduce((sum, { changes }) => sum + changes.length, 0);
  const message = `${plural(count, "more package change")} by ${plural(batches.length, "run")} of apt and dpkg`;
  return {
    kind: "unmanaged_change",
    details: {
      message,
      program: "several",
      runs: batches.length,
      count,
      changes_sha256: canonicalHash(batches.map(digestOf)),
    },
  };
}

/** Identifies these changes: the time and the content of each. */
function digestOf({ changes }: UnmanagedBatch): string {
  return canonicalHash(changes.map((change) => `${change.at ?? "-"} ${describeChange(change)}`));
}

function programOfBatch({ run, changes }: UnmanagedBatch): string {
  if (run !== null) return programOf(run);
  return changes.every(({ at }) => at === null) ? "unknown" : "dpkg";
}

/** Starts with the most useful part, since screens show only the first words. */
function describeBatch(batch: UnmanagedBatch): string {
  const { run, changes } = batch;
  if (run === null) {
    const [first, ...more] = changes.map(describeChange);
    const what = more.length === 0 ? first : `${first}; and ${more.length} more`;
    return programOfBatch(batch) === "dpkg" ? `dpkg without apt: ${what}` : `not in any log: ${what}`;
  }
  const program = programOf(run);
  const command = run.command?.replace(/^\/\S*\//, "") ?? program;
  const called = command.startsWith(program) ? command : `${program}: ${command}`;
  const who = run.requestedBy === null ? "" : `, for ${run.requestedBy}`;
  return `${called}${who}: ${plural(changes.length, "package change")}`;
}
