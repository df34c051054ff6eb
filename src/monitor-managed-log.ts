import * as v from "valibot";
import type { AuditEvent } from "./audit-event.ts";
import { readEvents } from "./audit-read.ts";
import { LeftRoot } from "./eco-record.ts";
import { AegisError } from "./errors.ts";

/*
 * What the production log says of managed roots: the last word on each, and who is behind the executions.
 */

const KINDS = ["execution_started", "execution_completed", "execution_interrupted"] as const;
/** Who is behind an execution, by its end event. */
export interface ManagedExecution {
  id: string;
  at: string;
  operation: string | null;
  signed_by: string | null;
  approved_by: string[];
}

/** What the newest execution that exchanged a root has left. */
export interface LastWord {
  left: LeftRoot;
  execution: string;
}

/** What the log says of managed roots. */
export interface History {
  /** Number of the newest event read. */
  newest: number;
  /** End events by execution. */
  ended: Map<string, AuditEvent>;
  /** The last word on each root. */
  last: Map<string, LastWord>;
  /** Tools with an execution that has no end. */
  running: Set<string>;
}

/** @throws AegisError `io` if this user may not read the log, `log_tampered` */
export function readHistory(audit: string): History {
  const started = new Map<string, string>();
  const history: History = { newest: 0, ended: new Map(), last: new Map(), running: new Set() };
  for (const event of eventsIn(audit)) {
    const { kind, execution_id: id, details } = event;
    history.newest = event.sequence;
    if (id === null) continue;
    if (kind === "execution_started") {
      started.set(id, String(details?.tool));
      continue;
    }
    started.delete(id);
    history.ended.set(id, event);
    const left = v.safeParse(LeftRoot, details?.managed_root);
    if (left.success) history.last.set(left.output.root, { left: left.output, execution: id });
  }
  for (const tool of started.values()) history.running.add(tool);
  return history;
}

function eventsIn(audit: string): AuditEvent[] {
  try {
    return readEvents(audit, { kind: KINDS });
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return [];
    throw error;
  }
}

const Approver = v.object({ name: v.string(), key_id: v.string() });

/** Those executions, as far as the log has them, oldest first. */
export function executionsOf(named: ReadonlySet<string>, { ended }: History): ManagedExecution[] {
  return [...ended].flatMap(([id, { timestamp, actor, details }]) => {
    if (!named.has(id)) return [];
    const approvers = v.safeParse(v.array(Approver), details?.approved_by);
    const operation = typeof details?.operation === "string" ? details.operation : null;
    const approved_by = approvers.success
      ? approvers.output.map(({ name, key_id }) => `${name} (key ${key_id})`)
      : [];
    return [{ id, at: timestamp, operation, signed_by: actor, approved_by }];
  });
}
