import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { loggedAudit } from "../src/audit-service-log.ts";
import { openLog } from "../src/log.ts";

/** The lines, without times, that the events leave in a service's log. */
function linesOf(...events: readonly NewAuditEvent[]): string[] {
  const dir = mkdtempSync(join(tmpdir(), "aegis-logged-"));
  const lines: string[] = [];
  const log = openLog({}, (line) => lines.push(line.replace(/^\S+ /, "").trimEnd()));
  const audit = loggedAudit(openAuditLog(dir), log);
  for (const event of events) expect(audit.append(event).kind).toBe(event.kind);
  expect(audit.head()?.sequence).toBe(events.length);
  rmSync(dir, { recursive: true });
  return lines;
}

const run = {
  execution_id: "0-1",
  actor: "ops@example (key ops)",
  argv: ["apt-get", "install", "-y", "a=1"],
};
const caller = { uid: 1000, gid: 1000, pid: 7 };

describe("what an administrator sees of an execution", () => {
  test("that goes well: two lines", () => {
    const lines = linesOf(
      { kind: "execution_started", ...run, details: { caller_reported_by_front: caller, approvals: ["x"] } },
      {
        kind: "execution_completed",
        ...run,
        exit_status: 0,
        details: { state: "completed", code: null, message: null },
      },
    );
    const who = 'execution=0-1 actor="ops@example (key ops)"';
    expect(lines).toEqual([
      `info execution started ${who} uid=1000 command="apt-get install -y a=1"`,
      `info execution completed ${who} command="apt-get install -y a=1" state=completed exit_status=0 seconds=0`,
    ]);
  });

  test.each<[string, NewAuditEvent, string]>([
    [
      "that is refused",
      {
        kind: "execution_denied",
        ...run,
        decision: "deny",
        details: { code: "drift", message: "it changed", caller_reported_by_front: caller },
      },
      "code=drift",
    ],
    [
      "that fails",
      {
        kind: "execution_completed",
        ...run,
        exit_status: 100,
        details: { state: "failed", code: "execution_failed" },
      },
      "exit_status=100",
    ],
    [
      "beside which something changed",
      { kind: "execution_completed", ...run, exit_status: 0, details: { state: "completed", code: "drift" } },
      "code=drift",
    ],
    [
      "that was interrupted",
      {
        kind: "execution_interrupted",
        ...run,
        details: { state: "interrupted", code: "interrupted", message: "why" },
      },
      "problem=why",
    ],
    ["that takes long", { kind: "execution_overdue", ...run, details: { minutes: 60 } }, "execution=0-1"],
  ])("%s: a warning", (_, event, expected) => {
    const [line, ...more] = linesOf(event);
    expect([line, more]).toEqual([expect.stringMatching(/^warn execution [a-z]+ execution=0-1 /), []]);
    expect(line).toContain(expected);
  });

  test("whose client could not be verified: its code, and none of its text", () => {
    const details = {
      code: "signature_invalid",
      request_sha256: "a".repeat(64),
      caller_reported_by_front: caller,
    };
    expect(linesOf({ kind: "execution_denied", decision: "deny", details })).toEqual([
      "warn execution denied uid=1000 code=signature_invalid",
    ]);
  });

  test("the front's refusals are already in the front's log", () => {
    expect(linesOf({ kind: "requests_refused", details: { count: 3 } })).toEqual([]);
  });
});
