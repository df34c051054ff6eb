import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { findCommand } from "../src/cmd.ts";
import { parseDocument } from "../src/doc.ts";
import { saveDocument } from "../src/doc-store.ts";
import { PROGRAMS, start } from "./kit.ts";
import { entry, upgrade } from "./policy-plans.ts";
import { onTerminal } from "./pty.ts";

const home = mkdtempSync(join(tmpdir(), "aegis-plan-show-"));
afterAll(() => rmSync(home, { recursive: true }));
const ENV = { HOME: home, XDG_DATA_HOME: join(home, "data"), PATH: "/usr/bin:/bin", TERM: "xterm" };
const PLAN = upgrade({
  transaction: Array.from({ length: 100 }, (_, i) => entry(`package-${i}`)),
  warnings: ["kept back: x"],
});
const SHOW = [...PROGRAMS.sources, "plan", "show"];
beforeAll(() => saveDocument("plan", PLAN, ENV));

test("show is not an ecosystem: plan's messages are unchanged", () => {
  expect(findCommand(["plan", "show", "latest"])).toMatchObject({ name: "plan show", rest: ["latest"] });
  expect(findCommand(["plan", "apt", "install", "show"])).toMatchObject({ name: "plan" });
});

describe("aegis plan show", () => {
  const run = (...words: string[]) =>
    start([...SHOW, ...words], { env: ENV, cwd: home, stdin: canonicalJson(PLAN) });

  test("refused: no plan, two plans, an unknown plan", async () => {
    for (const words of [[], ["latest", "x"], ["nonexistent"], ["0123456789"]])
      expect(await run(...words)).toMatchObject({ status: 2, stdout: "" });
  });
  for (const [how, reference] of [
    ["its id", PLAN.plan_id],
    ["the beginning of it", PLAN.plan_id.slice(0, 8)],
    ["latest", "latest"],
    ["standard input", "-"],
    ["a path", join("data/aegis/plans", `${PLAN.plan_id}.json`)],
  ] as const)
    test(`by ${how}`, async () => {
      const { status, stdout } = await run(reference);
      expect(status).toBe(0);
      expect(stdout).toContain("100 packages: 100 to upgrade");
      expect(stdout).toEndWith(`Hash ${canonicalHash(PLAN)}\n`);
    });
  test("--json --page prints one page, and its number must be one of them", async () => {
    const { stdout } = await run("latest", "--json", "--page", "2");
    const { page, pages, entries, first, transaction } = JSON.parse(stdout);
    expect({ page, entries }).toEqual({ page: 2, entries: 100 });
    expect(transaction[0]).toEqual(PLAN.transaction[first]);
    for (const words of [
      ["--page", "1"],
      ["--json", "--page", "1", "--summary"],
      ...["0", "01", "-1", "x", "9999"].map((n) => ["--json", `--page=${n}`]),
    ])
      expect([words, (await run("latest", ...words)).status]).toEqual([words, 2]);
    const beyond = await run("latest", "--json", "--page", String(pages + 1));
    expect(beyond.stdout).toContain(`the plan has ${pages} pages`);
  });
  test("--json prints the document", async () => {
    const { stdout } = await run("latest", "--json");
    expect(canonicalHash(parseDocument("plan", JSON.parse(stdout)))).toBe(canonicalHash(PLAN));
  });
});

describe("on a terminal", () => {
  const shown = (settings: string, reference = "latest", rows = 24) =>
    `stty rows ${rows} cols 80; env -i ${Object.entries(ENV)
      .map(([k, v]) => `${k}=${v}`)
      .join(" ")} ${settings} ${SHOW.join(" ")} ${reference}`;
  const last = `Hash ${canonicalHash(PLAN)}`;

  test("a longer plan goes through less, which q leaves", async () => {
    const { output, status, before, after } = await onTerminal(shown(""), [["package-1", "q"]]);
    expect(status).toBe(0);
    expect(output).toContain("Warnings, in the words of the plan");
    expect(output).not.toContain(last);
    expect(after).toBe(before.replace(/rows \d+; columns \d+/, "rows 24; columns 80"));
  });
  test("Ctrl-C goes to the pager and does not end Aegis", async () => {
    // The shell becomes Aegis, so its process id is known to what runs as the pager.
    const command = shown(`'PAGER=kill -INT '$$`).replace("; env -i", "; exec env -i");
    const { output, status } = await onTerminal(`sh -c "${command.replaceAll("$$", "\\$\\$")}"`, []);
    expect({ output, status }).toEqual({ output: "", status: 0 });
  });
  test("the pager's environment: less may start no shell and no editor and write no file, and nothing else is passed on", async () => {
    const { output } = await onTerminal(shown("SECRET=x LESS=-O/log PAGER=env"), []);
    expect(output.trim().split("\r\n").sort()).toEqual([
      "LC_ALL=C.UTF-8",
      "LESS=-O/log",
      "LESSCHARSET=utf-8",
      "LESSHISTFILE=-",
      "LESSSECURE=1",
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "TERM=xterm",
    ]);
  });
  const PLAIN: [what: string, settings: string, rows: number][] = [
    ["PAGER=cat", "PAGER=cat", 24],
    ["PAGER empty", "PAGER=", 24],
    ["a terminal that can't move its cursor", "TERM=dumb", 24],
    ["a pager that fails", "PAGER=false", 24],
    ["a terminal that is long enough", "", 140],
    ["one that doesn't know its size", "", 0],
  ];
  for (const [what, settings, rows] of PLAIN)
    test(`without a pager: ${what}`, async () => {
      const { output, status } = await onTerminal(shown(settings, "latest", rows), []);
      expect(status).toBe(0);
      expect(output).toContain(last);
      expect(output.match(/package-99 /g)).toHaveLength(1);
    });
  test("through a pipe no pager is started", async () => {
    const { output } = await onTerminal(`${shown("PAGER=false")} | cat`, []);
    expect(output).toContain(last);
  });
});
