import * as v from "valibot";
import type { AuditEvent } from "./audit-event.ts";
import { readEvents } from "./audit-read.ts";
import { AegisError } from "./errors.ts";

/*
 * Uses of break-glass keys, from the production log. A use stays open until root has looked at it and said so: the log is where both
 * stand, so neither can be forgotten or taken back.
 */

/** Newest uses and acknowledgements that are read back. */
const REMEMBERED = 1000;

export interface BreakGlassUse {
  execution_id: string;
  /** RFC 3339. */
  at: string;
  name: string;
  key_id: string;
  /** `apt install nginx` */
  operation: string;
  /** The approver's. */
  reason: string;
}

const Details = v.object({ name: v.string(), key_id: v.string(), operation: v.string(), reason: v.string() });

/**
 * Uses that nobody has acknowledged, oldest first. None where there is no log.
 * @throws AegisError `io` if this user may not read the log, `log_tampered`
 */
export function openBreakGlass(dir: string): BreakGlassUse[] {
  let events: AuditEvent[];
  try {
    events = readEvents(dir, { kind: ["break_glass_used", "break_glass_acknowledged"], last: REMEMBERED });
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return [];
    throw error;
  }
  const open = new Map<string, BreakGlassUse>();
  for (const { kind, execution_id, timestamp, details } of events) {
    if (execution_id === null) continue;
    const known = v.safeParse(Details, details);
    if (kind === "break_glass_acknowledged") open.delete(execution_id);
    // A use whose details can't be read is still one.
    else
      open.set(execution_id, {
        execution_id,
        at: timestamp,
        ...(known.success ? known.output : { name: "?", key_id: "?", operation: "?", reason: "?" }),
      });
  }
  return [...open.values()];
}
