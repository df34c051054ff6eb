import { describe, expect, test } from "bun:test";
import { type AuditEvent, GENESIS_HASH } from "../src/audit-event.ts";
import { subjectDetails } from "../src/audit-subject.ts";
import { renderEvents } from "../src/cmd-audit-view.ts";
import { roomFor } from "../src/terminal.ts";
import { entry, upgrade } from "./policy-plans.ts";

const EXECUTION = "0f0e0d0c-0000-4000-8000-000000000000";
const event = (change: Partial<AuditEvent>): AuditEvent => ({
  schema_version: "1.0",
  sequence: 12,
  event_id: "11111111-2222-4333-8444-555555555555",
  timestamp: "2026-11-30T06:43:57.123Z",
  host: "web1",
  kind: "execution_started",
  actor: "ops@example (key ops)",
  plan_id: "22222222-2222-4333-8444-555555555555",
  execution_id: EXECUTION,
  argv: ["apt-get", "install", "-y", "nginx=1.22.1-9"],
  decision: "require_human",
  exit_status: null,
  stdout_sha256: null,
  stderr_sha256: null,
  details: null,
  previous_hash: GENESIS_HASH,
  event_hash: GENESIS_HASH,
  ...change,
});
const APPROVED = { approved_by: [{ name: "alice@example", key_id: "a1b2c3d4e5f60718" }] };
const NGINX = {
  ...APPROVED,
  operation: "apt install nginx",
  packages: { remove: ["apache2 2.4"], install: ["nginx 1.22.1-9", "nginx-common 1.22.1-9"] },
  packages_count: 3,
};
const pipe = { interactive: false, colour: false, width: 80 };
const terminal = (width: number) => ({ interactive: true, colour: false, width });
const row = (change: Partial<AuditEvent>) =>
  renderEvents([event(change)], pipe)
    .split("\n")
    .at(-1) ?? "";

const HUNDRED = subjectDetails(
  upgrade({
    transaction: Array.from({ length: 100 }, (_, n) => entry(`package-${n}`, { to_version: "1.0-1" })),
  }),
);

describe("without a terminal", () => {
  test("an event is one line, however long, with every package", () => {
    const lines = renderEvents([event({ details: { ...APPROVED, ...HUNDRED } })], pipe).split("\n");
    expect(lines).toHaveLength(2);
    for (let n = 0; n < 100; n++) expect(lines[1]).toContain(`package-${n} 1.0-1`);
    expect(lines.join("\n")).not.toContain("…");
  });

  test.each<[what: string, change: Partial<AuditEvent>, cells: string[]]>([
    [
      "a start",
      { details: NGINX },
      [
        "12",
        "2026-11-30T06:43:57Z",
        "execution_started",
        "ops@example (key ops)",
        "alice@example (key a1b2c3d4e5f60718)",
        "require_human",
        "apt install nginx: remove apache2 2.4; install nginx 1.22.1-9, nginx-common 1.22.1-9",
        `execution ${EXECUTION}`,
      ],
    ],
    [
      "an end",
      {
        kind: "execution_completed",
        decision: null,
        exit_status: 100,
        details: {
          ...NGINX,
          state: "failed",
          code: "execution_failed",
          message: "apt ended with status 100",
        },
      },
      ["failed, execution_failed, exit 100", "apt install nginx: remove", "apt ended with status 100"],
    ],
    [
      "more packages than are listed",
      { details: { ...NGINX, packages_count: 800 } },
      ["nginx-common 1.22.1-9, and 797 more"],
    ],
    [
      "a refusal of what nobody has verified: the front's word on who it was, marked as that",
      {
        kind: "execution_denied",
        actor: null,
        plan_id: null,
        execution_id: null,
        argv: null,
        decision: "deny",
        details: { code: "signature_invalid", caller_reported_by_front: { uid: 1001, gid: 1, pid: 2 } },
      },
      ["execution_denied", "uid 1001, reported by the front", "-", "signature_invalid"],
    ],
    [
      "an approval: the approver asks for nothing",
      { kind: "approval_signed", actor: "alice@example", execution_id: null },
      ["approval_signed", "-", "alice@example", "require_human", "apt-get install"],
    ],
    [
      "an approval of a request",
      {
        ...{ kind: "request_approved", actor: "alice@example (key a1b2)", execution_id: null, argv: null },
        details: {
          request: 7,
          revision: 2,
          state: "approved",
          reason: "looks right",
          operation: "apt install x",
        },
      },
      [
        "-",
        "alice@example (key a1b2)",
        "require_human, approved",
        "request 7 (looks right)",
        "apt install x",
      ],
    ],
    ["a signature", { kind: "plan_signed", details: { approvers: ["alice", "bob"] } }, ["alice, bob"]],
    [
      "a change besides: its packages",
      {
        kind: "unmanaged_change",
        actor: null,
        plan_id: null,
        execution_id: null,
        argv: null,
        decision: null,
        details: {
          message: "apt-get install nginx: 1 package change",
          changes: ["install nginx:amd64 none 1.22"],
        },
      },
      ["apt-get install nginx: 1 package change: install nginx:amd64 none 1.22"],
    ],
    [
      "an older log: its argv, and who approved",
      { details: APPROVED },
      ["alice@example (key a1b2c3d4e5f60718)", "apt-get install -y nginx=1.22.1-9"],
    ],
    ["details that are not what they should be", { details: { packages: 1, approved_by: "x" } }, ["  -  "]],
  ])("%s", (_, change, cells) => {
    let at = 0;
    for (const cell of cells) {
      const found = row(change).indexOf(cell, at);
      expect([cell, found >= 0]).toEqual([cell, true]);
      at = found + cell.length;
    }
  });
});

describe("on a terminal", () => {
  const LONG = { actor: `${"x".repeat(60)} (key ops)` };
  test.each([40, 60, 80, 120, 200])(
    "%d columns: no line is longer, of many packages the first are named, none is cut",
    (width) => {
      const events = [event({ details: NGINX }), event({ ...LONG, details: { ...APPROVED, ...HUNDRED } })];
      const text = renderEvents(events, terminal(width));
      const words = text.split(/\s+/);
      for (let n = 0; n < 12; n++) expect(words).toContain(`package-${n}`);
      expect(words.join(" ")).toContain("and 88 more");
      expect(words).not.toContain("package-12");
      expect(words).toContain("nginx-common");
      expect(words).toContain(EXECUTION.slice(0, 8));
      const most = width < 80 ? Math.max(width, 69) : width;
      for (const line of text.split("\n")) expect([line, line.length <= most]).toEqual([line, true]);
    },
  );

  test("80 columns", () => {
    expect(renderEvents([event({ details: NGINX })], terminal(80)).split("\n")).toEqual([
      "#   TIME (UTC)      EVENT              OUTCOME",
      "    ASKED           APPROVED           WHAT",
      "12  11-30 06:43:57  execution_started  require_human",
      "    ops@example     alice@example      apt install nginx: remove apache2 2.4;",
      "    (key ops)       (key               install nginx 1.22.1-9, nginx-common",
      "                    a1b2c3d4e5f60718)  1.22.1-9  execution 0f0e0d0c",
    ]);
  });

  test("a name that is too long keeps both ends", () => {
    expect(renderEvents([event(LONG)], terminal(80))).toContain("xxxxxxxxxx…xxxxxxxxxx");
  });

  test("wide characters: no line is wider than the terminal", () => {
    const wide = { actor: `${"漢".repeat(40)} 漢字`, details: { ...NGINX, operation: "漢字".repeat(60) } };
    for (const line of renderEvents([event(wide)], terminal(80)).split("\n"))
      expect([line, roomFor(line) <= 80]).toEqual([line, true]);
  });

  test("outside text can't control it or begin a line", () => {
    const evil = "\u001b]0;pwned\u0007\u202e\n99  forged";
    const details = { ...NGINX, operation: evil, packages: { [evil]: [evil] }, message: evil, state: evil };
    const text = renderEvents([event({ actor: evil, details })], terminal(80));
    expect(text.replaceAll("\n", "")).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(text).not.toMatch(/^99/m);
  });
});

test("nothing to show", () => expect(renderEvents([], pipe)).toBe("no such events"));
