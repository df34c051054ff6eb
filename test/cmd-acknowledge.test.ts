import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBreakGlass } from "../src/audit-break-glass.ts";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { readEvents } from "../src/audit-read.ts";
import { acknowledge } from "../src/cmd-acknowledge.ts";
import type { Io } from "../src/command.ts";
import { breakGlassFindings } from "../src/doctor-trust.ts";
import type { ErrorCode } from "../src/errors.ts";
import { refuses } from "./signing-kit.ts";

const root = mkdtempSync(join(tmpdir(), "aegis-break-glass-"));
afterAll(() => rmSync(root, { recursive: true }));
let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(root, "log-"));
});

const IDS = ["11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"] as const;
const used = (execution_id: string, name = "glass"): NewAuditEvent => ({
  kind: "break_glass_used",
  execution_id,
  details: { name, key_id: "k1", operation: "apt install nginx", reason: "INC-42" },
});
function write(...events: NewAuditEvent[]) {
  const log = openAuditLog(dir);
  for (const event of events) log.append(event);
  log.close();
}
const open = () => openBreakGlass(dir).map(({ execution_id }) => execution_id);

function run(execution: string, { reason = "looked at it", isRoot = true } = {}) {
  const ran = { text: "" };
  const io: Io = {
    env: {},
    json: false,
    terminal: { interactive: false, colour: false, width: 80 },
    readStdin: async () => "",
    result: (_, text) => Object.assign(ran, { text }),
    note: () => {},
  };
  acknowledge({ execution, reason }, io, { dir, isRoot, open: () => openAuditLog(dir) });
  return ran.text;
}

describe("refused, and nothing is logged", () => {
  test.each<[string, string, object, ErrorCode]>([
    ["no id", "latest", {}, "usage"],
    ["too short", "1111111", {}, "usage"],
    ["an execution that used none", "22222222-0000-4000-8000-000000000001", {}, "not_found"],
    ["two that begin alike", "11111111", {}, "not_found"],
    ["not root", IDS[0], { isRoot: false }, "refused"],
    ["a long reason", IDS[0], { reason: "x".repeat(501) }, "usage"],
  ])("%s", async (_, execution, given, code) => {
    write(used(IDS[0]), used(IDS[1]));
    await refuses(() => run(execution, given), code);
    expect(readEvents(dir).map(({ kind }) => kind)).toEqual(["break_glass_used", "break_glass_used"]);
  });
  test("twice", async () => {
    write(used(IDS[0]));
    run(IDS[0]);
    await refuses(() => run(IDS[0]), "not_found", "no open use");
  });
});

test("no log, and a log without uses: nothing is open", () => {
  expect(openBreakGlass(join(root, "none"))).toEqual([]);
  write({ kind: "execution_started", execution_id: IDS[0] });
  expect([open(), breakGlassFindings(dir)]).toEqual([[], []]);
});

test("a use is shown until it is acknowledged, and the log keeps both", () => {
  write(used(IDS[0]), { kind: "execution_started", execution_id: IDS[0] }, used(IDS[1], "a\u202eb"));
  expect(open()).toEqual([...IDS]);
  expect(breakGlassFindings(dir)).toMatchObject([
    {
      level: "warn",
      message: expect.stringMatching(
        /^glass approved apt install nginx with the break-glass key k1 at .*: INC-42$/,
      ),
    },
    { level: "warn" },
  ]);
  expect(run(IDS[0])).toContain("Acknowledged: apt install nginx");
  expect(open()).toEqual([IDS[1]]);
  expect(readEvents(dir, { kind: "break_glass_acknowledged" })).toMatchObject([
    { actor: "root", execution_id: IDS[0], details: { reason: "looked at it", name: "glass", key_id: "k1" } },
  ]);
  expect(readEvents(dir, { kind: "break_glass_used" })).toHaveLength(2);
});

test("a use whose details can't be read is still one", () => {
  write({ kind: "break_glass_used", execution_id: IDS[0], details: null });
  expect(breakGlassFindings(dir)).toMatchObject([{ message: expect.stringContaining("? approved ?") }]);
});

test("another use in the same execution, after the first was acknowledged, is open again", () => {
  write(used(IDS[0]));
  run(IDS[0]);
  write(used(IDS[0]));
  expect(open()).toEqual([IDS[0]]);
});
