import type { AuditEvent } from "./audit-event.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Log } from "./log.ts";

/**
 * The audit log, each of whose events about an execution is a line of the service's log as well: what an administrator sees
 * of a run that goes well is that it started and that it ended.
 */
export function loggedAudit(audit: AuditLog, log: Log): AuditLog {
  const started = new Map<string, number>();
  return {
    ...audit,
    append(event) {
      const recorded = audit.append(event);
      const { kind, execution_id: id } = recorded;
      // What the front refused stands in the front's own log.
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

/** A warning is what somebody should look at: everything but a start and an end as planned. */
function levelOf({ kind, details }: AuditEvent): "info" | "warn" {
  if (kind === "execution_started") return "info";
  return kind === "execution_completed" && details?.state === "completed" && details.code === null
    ? "info"
    : "warn";
}

/** Who, what and why, without what does not apply. */
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
