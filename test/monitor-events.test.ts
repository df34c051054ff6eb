import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { monitorFindings } from "../src/monitor-events.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "aegis-monitor-view-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** One event a minute, from 08:00 on. */
function write(...events: readonly NewAuditEvent[]): void {
  let minute = 0;
  const log = openAuditLog(dir, { now: () => new Date(Date.UTC(2026, 10, 22, 8, minute++)) });
  for (const event of events) log.append(event);
}
const baseline = (...findings: string[]): NewAuditEvent => ({
  kind: "monitor_baseline",
  details: { findings },
});
const change = (fresh: string[], gone: string[] = []): NewAuditEvent => ({
  kind: "monitor_findings",
  details: { new: fresh, gone },
});
const LOG = "fail audit: /var/log/aegis/audit.ndjson, line 1: the line was changed";
const FINE = [{ check: "monitor", level: "ok" }];
const TAMPERED = {
  level: "fail",
  message: "/var/log/aegis/audit.ndjson, line 1: the line was changed (the monitor, 2026-11-22 08:01Z)",
};

test("no log, and a monitor that never ran: nothing to report", () => {
  expect(monitorFindings(join(dir, "none"))).toEqual([]);
  write({ kind: "checkpoint" });
  expect(monitorFindings(dir)).toEqual([]);
});

const CASES: [what: string, events: NewAuditEvent[], found: object[]][] = [
  ["a log that was changed", [baseline(), change([LOG])], [TAMPERED]],
  ["and is so still", [baseline(), change([LOG]), change(["warn gpgv: none"])], [TAMPERED]],
  ["and was put right", [baseline(), change([LOG]), change([], [LOG])], FINE],
  [
    "and counts as known since the state was lost",
    [baseline(), change([LOG]), baseline(LOG)],
    [{ level: "fail" }],
  ],
  ["of which a new beginning knows nothing", [baseline(LOG), baseline()], FINE],
  [
    "other failures are a warning, since they may be over",
    [baseline("fail sudoers: x", "fail secrets: y"), change(["fail tools: z"])],
    [{ level: "warn", message: "the monitor found at 2026-11-22 08:00Z: sudoers: x; and 2 more failures" }],
  ],
  ["both", [baseline("fail sudoers: x", LOG)], [{ level: "fail" }, { level: "warn" }]],
  ["warnings alone", [baseline("warn gpgv: none", "and 3 more")], FINE],
];
for (const [what, events, found] of CASES)
  test(what, () => {
    write(...events);
    expect(monitorFindings(dir)).toMatchObject(found);
  });

test("malformed events", () => {
  write({ kind: "monitor_findings", details: { new: "fail", gone: { a: 1 } } });
  expect(monitorFindings(dir)).toMatchObject(FINE);
});
