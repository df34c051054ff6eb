import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { alreadyUsed, type Use, UsedRecord, usesLost } from "../src/exec-used.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

let dir: string;
let remove: () => void;
beforeEach(() => {
  ({ path: dir, remove } = temporaryDirectory());
});
afterEach(() => remove());
const file = () => join(dir, "spent.ndjson");
const record = () => new UsedRecord(dir);

const use = (n: number, change: Partial<Use> = {}): Use => ({
  at: `2026-01-02T03:0${n}:00Z`,
  tool: "apt",
  execution_plan_id: `execution-${n}`,
  operation_plan_hash: `plan-${n}`,
  approvals: [`approval-${n}`],
  audit_sequence: n,
  ...change,
});
const WANTED = { execution_plan_id: "execution-9", operation_plan_hash: "plan-9", approvals: ["approval-9"] };

describe("used before", () => {
  const CASES: [name: string, wanted: Partial<typeof WANTED>, says: string | null][] = [
    [
      "the execution plan",
      { execution_plan_id: "execution-1" },
      "this execution plan was used at 2026-01-02T03:01:00Z",
    ],
    [
      "the operation plan, signed again",
      { operation_plan_hash: "plan-2" },
      "its operation plan was used at 2026-01-02T03:02:00Z by execution execution-2",
    ],
    [
      "an approval",
      { approvals: ["approval-2"] },
      "one of its approvals was used at 2026-01-02T03:02:00Z by execution execution-2",
    ],
    [
      "one of several approvals",
      { approvals: ["approval-9", "approval-1"] },
      "one of its approvals was used",
    ],
    ["nothing", {}, null],
    ["no approvals", { approvals: [] }, null],
    ["the beginning of an id is another id", { execution_plan_id: "execution-" }, null],
  ];
  for (const [name, wanted, says] of CASES) {
    test(name, () => {
      const found = alreadyUsed([use(1), use(2)], { ...WANTED, ...wanted });
      if (says === null) expect(found).toBeNull();
      else expect(found).toStartWith(says);
    });
  }
  test("an empty record", () => expect(alreadyUsed([], WANTED)).toBeNull());
});

test("a line that a version without other tools wrote is one of apt's", () => {
  const { tool: _, ...older } = use(1);
  writeFileSync(file(), `${JSON.stringify(older)}\n`);
  expect(record().read()).toEqual([use(1)]);
});

describe("a record that can't be trusted stops everything", () => {
  const line = (n: number) => `${JSON.stringify(use(n))}\n`;
  const CASES: [name: string, text: string, says: string][] = [
    ["a damaged middle line", `${line(1)}{"at":"20\n${line(3)}`, "line 2 is damaged"],
    ["a damaged last line that has its end", `${line(1)}garbage\n`, "line 2 is damaged"],
    ["a first line that is damaged", `\0\0\0\n${line(2)}`, "line 1 is damaged"],
    ["an empty line", `${line(1)}\n${line(2)}`, "line 2 is damaged"],
    ["a field is missing", '{"at":"x"}\n', "line 1 is damaged"],
    ["a field too many", line(1).replace("{", '{"extra":1,'), "line 1 is damaged"],
    ["another type", line(1).replace('"audit_sequence":1', '"audit_sequence":"1"'), "line 1 is damaged"],
  ];
  for (const [name, text, says] of CASES) {
    test(name, () => {
      writeFileSync(file(), text);
      return refuses(() => record().read(), "refused", says);
    });
  }
  test("a directory in its place", () => {
    mkdirSync(file());
    return refuses(() => record().read(), "io", "EISDIR");
  });
  test("a symbolic link is not written through", () => {
    const elsewhere = join(dir, "elsewhere");
    writeFileSync(elsewhere, "");
    symlinkSync(elsewhere, file());
    expect(() => record().append([use(1)])).toThrow("ELOOP");
    expect(readFileSync(elsewhere, "utf8")).toBe("");
  });
});

describe("append", () => {
  test("there is none yet", () => expect(record().read()).toEqual([]));
  test("in order, by several writers one after the other, one line each, for root alone", () => {
    record().append([use(1)]);
    record().append([use(2), use(3)]);
    record().append([]);
    record().append([use(4)]);
    expect(record().read()).toEqual([use(1), use(2), use(3), use(4)]);
    expect(readFileSync(file(), "utf8").split("\n")).toHaveLength(5);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
  });
  test("a torn last line never started: it is skipped, then overwritten", () => {
    record().append([use(1), use(2)]);
    truncateSync(file(), statSync(file()).size - 20);
    expect(record().read()).toEqual([use(1)]);
    record().append([use(3)]);
    expect(record().read()).toEqual([use(1), use(3)]);
    const whole = readFileSync(file(), "utf8");
    appendFileSync(file(), "\0".repeat(10_000));
    expect(record().read()).toEqual([use(1), use(3)]);
    record().append([use(4)]);
    expect(readFileSync(file(), "utf8")).toBe(`${whole}${JSON.stringify(use(4))}\n`);
  });
  needs(process.getuid?.() === 0, "root").test(
    "a full disk: the record stays as it was, and the use isn't there",
    () => {
      // A tmpfs of three pages, in a mount namespace of its own.
      const program = `const { UsedRecord } = await import("${join(import.meta.dir, "../src/exec-used.ts")}");
      const record = new UsedRecord("${dir}");
      const use = (id, approvals) => ({ at: "t", execution_plan_id: id, operation_plan_hash: "h", approvals, audit_sequence: 1 });
      record.append([use("first", [])]);
      try { record.append([use("with-it", []), use("second", ["x".repeat(20000)])]); console.log("written"); } catch (e) { console.log(e.code, e.message); }
      console.log(record.read().map((u) => u.execution_plan_id).join());
      record.append([use("third", [])]);
      console.log(record.read().map((u) => u.execution_plan_id).join());`;
      const script = `mount -t tmpfs -o size=12k tmpfs ${dir} && exec "$0" -e '${program}'`;
      const { stdout, stderr } = spawnSync("unshare", ["-m", "sh", "-c", script, process.execPath], {
        encoding: "utf8",
      });
      const [said, after, later] = stdout.split("\n");
      expect({ said, after, later, stderr }).toEqual({
        said: expect.stringMatching(/^io can't write the record of used plans: .*ENOSPC/),
        after: "first",
        later: "first,third",
        stderr: "",
      });
    },
  );
});

describe("uses in the log that the record lost", () => {
  const started = (n: number) => {
    const { at: _, audit_sequence: __, ...details } = use(n);
    return openAuditLog(join(dir, "log")).append({ kind: "execution_started", details });
  };
  const lost = (known: readonly Use[]) => usesLost(known, join(dir, "log")).map((u) => u.execution_plan_id);

  test("no log, an empty record", () => expect(lost([])).toEqual([]));
  test("a lost record: everything, including the first event", () => {
    const first = started(1);
    openAuditLog(join(dir, "log")).append({ kind: "plan_created" });
    started(2);
    expect(lost([])).toEqual(["execution-1", "execution-2"]);
    expect(usesLost([], join(dir, "log"))[0]).toEqual(
      use(1, { at: first.timestamp, audit_sequence: first.sequence }),
    );
  });
  test("an older copy of the record: the later uses, once", () => {
    started(1);
    const copy = [use(1, { audit_sequence: 0 })];
    started(2);
    started(3);
    expect(lost(copy)).toEqual(["execution-2", "execution-3"]);
    expect(
      alreadyUsed([...copy, ...usesLost(copy, join(dir, "log"))], { ...WANTED, approvals: ["approval-3"] }),
    ).toContain("execution-3");
  });
  test("a record that was written when the log was empty", () => {
    started(1);
    expect(lost([use(0, { audit_sequence: -1 })])).toEqual(["execution-1"]);
  });
  test("nothing was lost", () => {
    const { sequence } = started(1);
    expect(lost([use(1, { audit_sequence: sequence - 1 })])).toEqual([]);
  });
  test("a tampered log is an error", async () => {
    started(1);
    started(2);
    const log = join(dir, "log/audit.ndjson");
    writeFileSync(log, readFileSync(log, "utf8").replace("execution-2", "execution-8"));
    await refuses(() => lost([]), "log_tampered");
  });
});
