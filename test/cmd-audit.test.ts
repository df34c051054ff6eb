import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { tampered } from "../src/audit-read.ts";
import { SYSTEM_TRACES, verifyAuditLog } from "../src/audit-verify.ts";
import { parseArgs } from "../src/cmd-args.ts";
import { auditCheckpoint, auditPath, auditProve, auditShow, auditVerify } from "../src/cmd-audit.ts";
import type { ArgsSpec, Io, Subcommand } from "../src/command.ts";
import { AegisError, EXIT } from "../src/errors.ts";
import { MONITOR_STATE } from "../src/monitor-state.ts";
import { STATE } from "../src/sys-state.ts";

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "aegis-audit-"));
  file = join(dir, "audit.ndjson");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Runs a subcommand as the command line would, with the log of this test as the user's own. */
async function run<A extends ArgsSpec>(command: Subcommand<A>, ...words: string[]) {
  const out = { json: {} as Record<string, unknown>, text: "" };
  const io: Io = {
    env: { AEGIS_AUDIT_LOG_DIR: dir },
    json: false,
    terminal: { interactive: false, colour: false, width: 200 },
    readStdin: async () => "",
    result: (json, text) => Object.assign(out, { json, text }),
    note: () => {},
  };
  try {
    const status = await command.run(parseArgs("audit", command.args, words).values, io);
    return { status, code: "", message: "", hint: "", details: {}, ...out };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    const { exit, code, message, hint, details } = error;
    return { status: exit, code, message, hint, details, ...out };
  }
}

const lines = (name = "audit.ndjson") => readFileSync(join(dir, name), "utf8").trim().split("\n");

function record(n: number): void {
  const log = openAuditLog(dir);
  for (let i = 1; i <= n; i++)
    log.append({ kind: "plan_created", actor: "anna", plan_id: `plan-${i}`, details: { i } });
}

describe("audit verify", () => {
  test("a changed log: exit 6 with file and line", async () => {
    record(4);
    writeFileSync(file, readFileSync(file, "utf8").replace('"i":3', '"i":8'));
    const result = await run(auditVerify);
    expect(result).toMatchObject({ status: EXIT.verification, code: "log_tampered" });
    expect(result.details).toEqual({ file, status: "changed", line: 3, sequence: 3 });
    expect(result.message).toContain(`${file} was changed: line 3: `);
    expect(result.hint).toContain(`type: aegis audit verify --path ${dir}.`);
  });

  test("for the production log, the hint names it", () =>
    expect(tampered("/var/log/aegis/audit-0000000000000001.ndjson", "").hint).toContain(
      "type: aegis audit verify --system.",
    ));

  /** More events, and with them a full file beside the current one. */
  const rotated = (then = () => {}) => {
    const log = openAuditLog(dir, { rotateAt: 1000 });
    for (let i = 0; i < 4; i++) log.append({ kind: "plan_created" });
    then();
  };
  const LOST: [what: string, lose: () => void, code: string, says: string][] = [
    ["emptied", () => writeFileSync(file, ""), "log_empty", "is empty: it holds no event"],
    [
      "cut within its only event",
      () => truncateSync(file, 20),
      "log_torn",
      "it holds 20 bytes and no complete event",
    ],
    ["removed", () => rmSync(file), "log_missing", "events were written here before"],
    [
      "with a full file, emptied",
      () => rotated(() => writeFileSync(file, "")),
      "log_empty",
      "holds no event",
    ],
    [
      "with a full file, cut within the first event after it",
      () => rotated(() => truncateSync(file, 9)),
      "log_torn",
      "9 bytes",
    ],
    [
      "with a full file, the current one removed",
      () => rotated(() => rmSync(file)),
      "log_missing",
      ".ndjson shows",
    ],
  ];
  test.each(LOST)("a log that was %s: exit 6, and the word for it", async (_, lose, code, says) => {
    record(1);
    lose();
    const result = await run(auditVerify);
    expect(result).toMatchObject({ status: EXIT.verification, code, details: { status: code.slice(4) } });
    expect(result.message).toContain(says);
    // One event later the log is whole, and of the older events only a kept head tells.
    record(1);
    expect(await run(auditVerify)).toMatchObject({ status: 0, json: { status: "intact" } });
  });

  test("a single emptied file", async () => {
    writeFileSync(file, "");
    expect(await run(auditVerify, "--path", file)).toMatchObject({ status: 6, code: "log_empty" });
  });

  test("leftovers of a log show that there was one", () => {
    const trace = join(dir, "spent.ndjson");
    const traces = { files: [trace], newest: null };
    expect(() => verifyAuditLog(dir, null, traces)).toThrow("there is no audit log");
    writeFileSync(trace, "");
    expect(verifyAuditLog(dir, null, traces)).toMatchObject({ ok: false, status: "missing" });
    const { used } = STATE;
    expect([...SYSTEM_TRACES.files].sort()).toEqual([MONITOR_STATE, join(used, "spent.ndjson")].sort());
  });

  test("the newest event's number, kept elsewhere on the host, shows that the end was cut off", () => {
    record(3);
    const newest = join(dir, "newest");
    const look = () => verifyAuditLog(dir, null, { files: [], newest });
    for (const written of ["", "no number", "3".padStart(19, "0"), `${"3".padStart(19, "0")}\n`]) {
      writeFileSync(newest, written);
      expect(look()).toMatchObject({ ok: true, events: 3 });
    }
    writeFileSync(newest, `${"5".padStart(19, "0")}\n`);
    expect(look()).toMatchObject({ ok: false, status: "cut", sequence: 4 });
  });

  describe("--expect-head", () => {
    const head = async () => String((await run(auditVerify)).json["expect_head"]);

    test.each([
      ["12"],
      ["12:"],
      [`0:${"0".repeat(64)}`],
      [`012:${"0".repeat(64)}`],
      [`1:${"0".repeat(63)}`],
      [`1:${"A".repeat(64)}`],
      [`1: ${"0".repeat(64)}`],
      [`9999999999999999:${"0".repeat(64)}`],
    ])("%s is refused", async (given) => {
      record(1);
      expect(await run(auditVerify, "--expect-head", given)).toMatchObject({ status: 2, code: "usage" });
    });

    const FORGED: [what: string, forge: () => void, code: string, says: string][] = [
      [
        "cut off",
        () => writeFileSync(file, `${lines().slice(0, 2).join("\n")}\n`),
        "log_tampered",
        "ends with event 2, but event 3 is expected",
      ],
      [
        "written anew",
        () => {
          rmSync(file);
          record(4);
        },
        "log_tampered",
        "event 3 is not the expected one",
      ],
      [
        "emptied and gone on with",
        () => {
          writeFileSync(file, "");
          record(1);
        },
        "log_tampered",
        "ends with event 1",
      ],
      ["emptied", () => writeFileSync(file, ""), "log_empty", "holds no event"],
      [
        "removed with all that was around it",
        () => rmSync(dir, { recursive: true }),
        "log_missing",
        "as the kept event 3 shows",
      ],
    ];
    test.each(FORGED)("a log that was %s", async (_, forge, code, says) => {
      record(3);
      const kept = await head();
      forge();
      const result = await run(auditVerify, "--expect-head", kept);
      expect(result).toMatchObject({ status: EXIT.verification, code });
      expect(result.message).toContain(says);
    });

    test("a log that grew; the head is printed in the form that the flag takes", async () => {
      record(3);
      const kept = await head();
      expect((await run(auditVerify)).text.split("\n")).toContain(`head    ${kept}`);
      for (const n of [0, 2]) {
        if (n > 0) record(n);
        const result = await run(auditVerify, "--expect-head", kept);
        expect(result).toMatchObject({ status: 0, json: { status: "intact", events: 3 + n } });
        expect(result.text).toContain("since   event 3: it is unchanged");
      }
    });

    test("an event of an older file is not searched in a newer file alone", async () => {
      rotated();
      const [first] = lines(readdirSync(dir).find((name) => /^audit-\d/.test(name)));
      const { sequence, event_hash } = JSON.parse(first ?? "");
      const kept = `${sequence}:${event_hash}`;
      expect(await run(auditVerify, "--expect-head", kept)).toMatchObject({ status: 0 });
      expect(await run(auditVerify, "--expect-head", kept, "--path", file)).toMatchObject({ code: "usage" });
    });
  });

  test("no log: not found", async () => expect(await run(auditVerify)).toMatchObject({ code: "not_found" }));
  test("no such path", async () =>
    expect(await run(auditVerify, "--path", join(dir, "none"))).toMatchObject({ code: "not_found" }));
  test("a device is not a log", async () =>
    expect(await run(auditVerify, "--path", "/dev/zero")).toMatchObject({ code: "io" }));
  test("--system with --path", async () =>
    expect(await run(auditVerify, "--system", "--path", dir)).toMatchObject({ code: "usage" }));

  test("an honest log, by default, by directory, by file", async () => {
    record(4);
    for (const words of [[], ["--path", dir], ["--path", file]]) {
      const result = await run(auditVerify, ...words);
      expect(result).toMatchObject({ status: 0, json: { ok: true, events: 4, head: { sequence: 4 } } });
      expect(result.text).toContain("intact  4 events in 1 file");
    }
  });

  test("a torn end is reported, not as tampering", async () => {
    record(2);
    appendFileSync(file, '{"schema_ver');
    const result = await run(auditVerify);
    expect(result).toMatchObject({ status: 0, json: { ok: true, events: 2, torn_bytes: 12 } });
    expect(result.text).toContain("The last line is torn (12 B)");
  });

  test("a later file alone says what was not checked", async () => {
    const log = openAuditLog(dir, { rotateAt: 2000 });
    for (let i = 0; i < 6; i++) log.append({ kind: "plan_created" });
    expect((await run(auditVerify, "--path", file)).text).toMatch(/This file begins with event \d+/);
    expect((await run(auditVerify)).text).not.toContain("This file begins");
  });
});

describe("audit show", () => {
  test.each([["0"], ["-1"], ["x"], ["1e3"], ["99999999"]])("--last %s is refused", async (last) => {
    expect(await run(auditShow, `--last=${last}`)).toMatchObject({ code: "usage" });
  });

  test("an unknown kind is refused", () =>
    expect(() => parseArgs("audit show", auditShow.args, ["--kind", "constructor"])).toThrow(
      "must be one of",
    ));

  test("a directory without a log", async () =>
    expect(await run(auditShow, "--path", tmpdir())).toMatchObject({ status: 2, code: "not_found" }));

  test.each([
    ["nonsense"],
    ["latest"],
    ["0F0E0D0C"],
    ["0f0e0d0c0000"],
    ["0f0e0d0c-0000-4000-8000-0000000000000"],
  ])("--execution %s is refused", async (id) => {
    record(1);
    expect(await run(auditShow, "--execution", id)).toMatchObject({ status: 2, code: "usage" });
  });

  test("the front's refusals by code, with counts", async () => {
    const refusal = (code: string, count: number, uid: number) => ({
      code,
      count,
      uid,
      request_sha256: null,
    });
    const refusals = [
      refusal("expired", 1, 1000),
      refusal("protocol", 2, 1000),
      refusal("protocol", 5, 1001),
    ];
    const log = openAuditLog(dir);
    log.append({ kind: "requests_refused", details: { count: 8, reported_by: "front", refusals } });
    expect((await run(auditShow)).text).toMatch(/requests_refused +- +- +protocol 7, expired 1$/);
    const many = ["a", "b", "c", "d", "e", "f", "g"].map((code) => refusal(code, 1, 0));
    log.append({ kind: "requests_refused", details: { count: 7, reported_by: "front", refusals: many } });
    expect((await run(auditShow)).text).toEndWith("  a 1, b 1, c 1, d 1, e 1, and 2 more codes");
  });

  test("the newest, newest last", async () => {
    record(30);
    const result = await run(auditShow);
    expect(result.json.events).toHaveLength(20);
    expect(result.text.split("\n").at(-1)).toMatch(/^30 .*plan_created +anna +- +- +plan plan-30$/);
    expect((await run(auditShow, "--last", "1")).json.events).toMatchObject([{ sequence: 30 }]);
    expect((await run(auditShow, "--path", file, "--last", "1")).json.events).toHaveLength(1);
  });

  test("filters, and the content of a row", async () => {
    record(2);
    const log = openAuditLog(dir);
    const execution_id = "0f0e0d0c-0000-4000-8000-000000000000";
    log.append({
      kind: "execution_denied",
      decision: "deny",
      details: { code: "expired", message: "too old" },
    });
    log.append({
      kind: "execution_completed",
      execution_id,
      exit_status: 100,
      argv: ["apt-get", "install", "a b"],
    });
    expect((await run(auditShow, "--kind", "execution_denied")).text).toEndWith("  expired  too old");
    expect((await run(auditShow, "--execution", "0f0e0d0c")).text).toEndWith(
      `exit 100  apt-get install 'a b'  execution ${execution_id}`,
    );
    expect((await run(auditShow, "--execution", "ffffffff")).text).toBe("no such events");
  });

  test("outside text can't control the terminal", async () => {
    const evil = "\u001b]0;pwned\u0007\u202e\u200b\n";
    openAuditLog(dir).append({
      kind: "execution_denied",
      actor: evil,
      argv: [evil],
      decision: evil,
      details: { code: evil },
    });
    expect((await run(auditShow)).text.replaceAll("\n", "")).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
  });

  test("a changed event is not shown", async () => {
    record(2);
    writeFileSync(file, readFileSync(file, "utf8").replace("plan-2", "plan-9"));
    expect(await run(auditShow)).toMatchObject({ status: EXIT.verification, code: "log_tampered" });
  });

  test("a pipe that is closed early ends quietly", async () => {
    record(300);
    const cli = join(import.meta.dir, "../src/cli.ts");
    const child = Bun.spawn(
      [
        "bash",
        "-c",
        '"$0" "$1" audit show --last 300 | head -n 1; echo "$PIPESTATUS" >&2',
        process.execPath,
        cli,
      ],
      { env: { ...process.env, AEGIS_AUDIT_LOG_DIR: dir }, stdout: "pipe", stderr: "pipe" },
    );
    expect((await new Response(child.stderr).text()).trim()).toBe("0");
  });
});

test("audit path: the user's own log, the production log", async () => {
  expect(await run(auditPath)).toMatchObject({ status: 0, text: file, json: { path: file, exists: false } });
  record(1);
  expect((await run(auditPath)).json).toEqual({ path: file, exists: true });
  expect((await run(auditPath, "--system")).text).toBe("/var/log/aegis/audit.ndjson");
});

test("checkpoint and prove say that they are not built", async () => {
  expect(await run(auditCheckpoint)).toMatchObject({ status: 1, code: "not_built" });
  expect(await run(auditProve)).toMatchObject({ status: 1, code: "not_built" });
});
