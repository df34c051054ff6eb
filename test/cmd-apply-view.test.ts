import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { applyView } from "../src/cmd-apply-view.ts";
import type { Io } from "../src/command.ts";
import type { Result } from "../src/doc-result.ts";
import type { Event } from "../src/wire-executor.ts";
import { ROOT, start } from "./kit.ts";

const ID = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
const event = (change: Partial<Event> & Pick<Event, "kind">): Event => ({
  execution_id: ID,
  place: null,
  percent: null,
  message: null,
  stream: null,
  data: null,
  outcome: null,
  ...change,
});
const output = (data: string) => event({ kind: "output", stream: "stdout", data });
const progress = (percent: number, message = "m") => event({ kind: "progress", percent, message });

function viewer(json = false) {
  const notes: string[] = [];
  const io: Io = {
    env: {},
    json,
    terminal: { interactive: false, colour: false, width: 80 },
    readStdin: async () => "",
    result: () => {},
    note: (line) => notes.push(line),
  };
  return { notes, view: applyView(io) };
}
/** What is written for these events where there is no terminal. */
function shown(events: readonly Event[], json = false): string[] {
  const { notes, view } = viewer(json);
  for (const one of events) view.show(one);
  view.end();
  return notes;
}

describe("events, without a terminal", () => {
  const CASES: [name: string, events: Event[], expected: string[]][] = [
    ["the first in the queue", [event({ kind: "queued", place: 0 })], ["waiting for the executor"]],
    ["others before", [event({ kind: "queued", place: 3 })], ["waiting: 3 before this one"]],
    ["checking", [event({ kind: "checking", message: "planning again" })], ["planning again"]],
    ["checking, hostile", [event({ kind: "checking", message: "\u001b[2J\u202ex" })], ["\\x1b[2J\\u{202e}x"]],
    ["started", [event({ kind: "started" })], [`started as execution ${ID}`]],
    ["alive and finished say nothing", [event({ kind: "alive" }), event({ kind: "finished" })], []],
    [
      "progress in steps of ten, and the end",
      [0, 3, 9, 10, 15, 95, 100, 100].map((n) => progress(n)),
      ["  0% m", " 10% m", " 95% m", "100% m"],
    ],
    [
      "progress of a second phase",
      [0, 60, 100, 0, 5, 40, 100].map((n) => progress(n)),
      ["  0% m", " 60% m", "100% m", "  0% m", " 40% m", "100% m"],
    ],
    ["progress that trembles", [50, 49, 51, 45, 59].map((n) => progress(n)), [" 50% m"]],
    ["progress, hostile", [progress(50, "a\u001b[31m\nb")], [" 50% a\\x1b[31m\\nb"]],
    ["lines of output", [output("one\ntwo\n")], ["  one", "  two"]],
    ["a line in pieces", [output("on"), output("e\ntw"), output("o")], ["  one", "  two"]],
    ["output, hostile", [output("\u001b]0;x\u0007\u202e\r\tok\n")], ["  \\x1b]0;x\\x07\\u{202e}\\r\tok"]],
    ["no output", [output("")], []],
  ];
  for (const [name, events, expected] of CASES) test(name, () => expect(shown(events)).toEqual(expected));

  test("an endless line is truncated, and the rest is not kept", () => {
    const { notes, view } = viewer();
    const piece = output("A".repeat(250_000));
    for (let n = 0; n < 400; n++) view.show(piece);
    view.show(output("\nnext\n"));
    view.end();
    expect(notes).toEqual([`  ${"A".repeat(65_536)} … [cut]`, "  next"]);
  });

  test("with --json the package manager's output is not shown", () => {
    expect(shown([output("one\n"), output("two")], true)).toEqual([]);
  });
});

describe("the outcome", () => {
  const RESULT: Result = {
    schema_version: "1.0",
    execution_plan_id: ID,
    plan_id: "11111111-2222-4333-8444-555555555555",
    tool: "apt",
    argv: ["apt-get", "update"],
    inverse: [],
    state: "completed",
    exit_status: 0,
    code: null,
    message: null,
    actor: "ops (key ops)",
    turn_at: null,
    started_at: "2026-01-02T03:10:00.000Z",
    ended_at: "2026-01-02T03:10:05.250Z",
    submitted_by_uid: 0,
    not_as_planned: [],
    changed_besides: [],
  };
  const x = { package: "x\u001b[0m", architecture: "all", expected: null, found: "1 installed" };
  const CASES: [name: string, change: Partial<Result>, says: string[], not: string[]][] = [
    [
      "failed",
      { state: "failed", code: "execution_failed", message: "apt exited with 100" },
      ["✗ failed  execution", "  apt exited with 100", `/var/lib/aegis/runs/${ID}/`],
      ["✓"],
    ],
    [
      "interrupted",
      { state: "interrupted", code: "interrupted", ended_at: null },
      ["✗ interrupted  execution"],
      ["✓", " s\n"],
    ],
    [
      "done, with differences",
      { code: "execution_failed", not_as_planned: [x] },
      ["! done, but", "not as planned: x\\x1b[0m:all is 1 installed, expected not installed"],
      ["✓"],
    ],
    ["changed besides", { changed_besides: [x] }, ["changed besides: x\\x1b[0m:all"], []],
    ["a hostile message", { state: "failed", message: "a\u202e\nb" }, ["a\\u{202e}\\nb"], []],
    [
      "a managed directory was exchanged: how to undo it, also where the run failed after that",
      { state: "failed", code: "io", content: { before: "1".repeat(64), after: "2".repeat(64) } },
      [`  to undo it: aegis plan rollback ${ID}`],
      ["✓"],
    ],
    [
      "a managed directory is as it was: nothing to undo",
      { content: { before: "1".repeat(64), after: "1".repeat(64) } },
      ["✓ done"],
      ["undo"],
    ],
    ["good", {}, [`✓ done  execution ${ID} in 5.3 s`, "aegis audit show --system"], ["✗", "dpkg --audit"]],
    [
      "planning again is part of the time, and told",
      { turn_at: "2026-01-02T03:09:53.000Z" },
      [`✓ done  execution ${ID} in 12.3 s`, "  7.0 s to check it and plan again, 5.3 s to run it"],
      [" in 5.3 s"],
    ],
  ];
  const SEEN = "2026-01-02T03:10:06.000Z";
  const after = (names: readonly string[], reasons: string[] = [], unseen = 0): Partial<Result> => ({
    afterwards: {
      services: {
        units: names.map((one) => {
          const [unit = "", of = "libssl3", risky] = one.split("/");
          return { unit, packages: of.split(","), risky: risky ?? null };
        }),
        seen_at: SEEN,
        unseen,
      },
      reboot: { reasons },
    },
  });
  CASES.push(
    ["nothing runs old code", after([]), ["✓ done"], ["still run", "reboot"]],
    [
      "units on old code, and how to restart them",
      after(["nginx.service", "php.service/libc6,libssl3"]),
      [
        "! still run the old libssl3, libc6: nginx.service, php.service",
        "! restart them: aegis plan services restart nginx.service php.service",
      ],
      ["with care", "reboot"],
    ],
    [
      "those that cost more are not in the command",
      after(["a.service", "ssh.service/libc6/open sessions stay", "user-1000.slice/libc6/a login", "(x)"]),
      [
        "restart them: aegis plan services restart a.service\n",
        "still run the old libc6, libssl3, to be restarted with care: ssh.service (open sessions stay); user-1000.slice (a login); (x)",
      ],
      [],
    ],
    [
      "many",
      after(Array.from({ length: 30 }, (_, n) => `unit${n}.service`)),
      ["unit11.service, and 18 more (--json has all)", "aegis plan services restart <unit>…"],
      ["unit12.service"],
    ],
    ["a reboot", after([], ["linux-image-2 is newer"]), ["! reboot needed: linux-image-2 is newer"], []],
    ["nobody could look", after([], [], 7), ["7 processes could not be looked into"], ["still run"]],
    ["hostile", after(["a\u001b[0m.service"]), ["a\\x1b[0m.service"], ["\u001b"]],
  );
  for (const [name, change, says, not] of CASES) {
    test(name, () => {
      const text = viewer().view.outcome({ ...RESULT, ...change });
      for (const words of says) expect(text).toContain(words);
      for (const words of not) expect(text).not.toContain(words);
    });
  }
});

test("on a terminal one line is redrawn, cut to the width, and erased before other text", async () => {
  const program = `
    const { applyView } = await import(${JSON.stringify(join(ROOT, "src/cmd-apply-view.ts"))});
    const { processIo } = await import(${JSON.stringify(join(ROOT, "src/cmd-io.ts"))});
    const view = applyView(processIo(false));
    view.show({ kind: "progress", percent: 50, message: "half \\u001b[31m" + "x".repeat(200) });
    view.show({ kind: "output", data: "a line\\n" });
    view.show({ kind: "progress", percent: 100, message: "all" });
    view.end();`;
  const command = `stty cols 60; exec ${process.execPath} -e '${program}'`;
  const { stdout } = await start(["/usr/bin/script", "-qec", command, "/dev/null"], {
    env: { PATH: "/usr/bin:/bin", TERM: "xterm", NO_COLOR: "1" },
    cwd: "/",
  });
  // A terminal that can't take a line back gets plain lines.
  const dumb = await start(["/usr/bin/script", "-qec", command, "/dev/null"], {
    env: { PATH: "/usr/bin:/bin", TERM: "dumb" },
    cwd: "/",
  });
  expect(dumb.stdout).toContain("100% all\r\n");
  expect(dumb.stdout).not.toContain("\u001b");
  const [first = "", second = "", third = ""] = stdout.split("\r\u001b[K").slice(1);
  expect(first).toMatch(/^\[############\.{12}\] {2}50% half \\x1b\[31mx+…$/);
  expect(first).toHaveLength(59);
  expect(second).toBe("  a line\r\n");
  expect(third).toBe(`[${"#".repeat(24)}] 100% all`);
  expect(stdout).toEndWith("\r\u001b[K");
});
