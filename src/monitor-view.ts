import { readEvents } from "./audit-read.ts";
import { AegisError } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { SYSTEM } from "./paths.ts";
import { clip, plural } from "./terminal.ts";

/** Name of the check in the status that tells what the monitor found. */
export const MONITOR_CHECK = "monitor";
/** Events that are looked at; each says what is new and what is gone. */
const REMEMBERED = 1000;

/** A failure that the monitor found and has not seen go since. */
interface Found {
  check: string;
  message: string;
  /** When it was first seen, RFC 3339. */
  at: string;
}

/**
 * What the monitor found wrong at its last look, from the production log. It reads the whole log each hour, which the
 * executor does not: so a log that was changed is a failure here. What else it found may be over by now.
 * @throws AegisError `io` for whoever may not read the log, `log_tampered`
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
      "See: aegis audit verify --system; when that is well, type as root: systemctl start aegis-monitor.service",
    ),
  );
  if (first !== undefined) {
    const others = more.length === 0 ? "" : `; and ${plural(more.length, "more failure")}`;
    const what = `${first.check}: ${clip(first.message, 200)}`;
    findings.push(
      warn(
        MONITOR_CHECK,
        `the monitor found at ${minuteOf(first.at)}: ${what}${others}`,
        "How it is now: aegis doctor",
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(MONITOR_CHECK, "it found no failure at its last look")];
}

/** Null where the monitor has not looked. */
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
