import type { AuditEvent } from "./audit-event.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Log } from "./log.ts";

/**
 * An audit log that also writes events about executions to the service's log. For a successful run, administrators see
 * its start and its end.
 */
export function loggedAudit(audit: AuditLog, log: Log): AuditLog {
  const started = new Map<string, number>();
  return {
    ...audit,
    append(event) {
      const recorded = audit.append(event);
      const { kind, execution_id: id } = recorded;
      // Refusals by the front are in the front's log.
      if (!kind.startsWith("execution_")) return recorded;
      if (kind === "execution_started" && id !== null) started.set(id, performance.now());
      const since = id === null ? undefined : started.get(id);
      const isEnd = kind === "execution_completed" && since !== undefined;
      log[levelOf(recorded)](kind.replace("_", " "), {
        ...fieldsOf(recorded),
        ...(isEnd ? { seconds: Math.round((performance.now() - since) / 1000) } : {}),
      });
      return recorded;
    },
  };
}

/** Everything deserves a warning except a start and a successful end. */
function levelOf({ kind, details }: AuditEvent): "info" | "warn" {
  if (kind === "execution_started") return "info";
  return kind === "execution_completed" && details?.state === "completed" && details.code === null
    ? "info"
    : "warn";
}

/** Who, what and why; members that don't apply are omitted. */
function fieldsOf({ execution_id, actor, argv, exit_status, details }: AuditEvent) {
  const { state, code, message, caller_reported_by_front: caller } = details ?? {};
  const uid = typeof caller === "object" && caller !== null && "uid" in caller ? caller.uid : null;
  const fields = {
    execution: execution_id,
    actor,
    uid,
    command: argv === null ? null : argv.join(" "),
    state,
    exit_status,
    code,
    problem: message,
  };
  return Object.fromEntries(
    Object.entries(fields).flatMap(([key, value]) =>
      typeof value === "string" || typeof value === "number" ? [[key, value]] : [],
    ),
  );
}
