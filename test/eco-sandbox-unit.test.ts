import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startRun } from "../src/eco-run.ts";
import { callUnit } from "../src/eco-sandbox-unit.ts";
import { AegisError } from "../src/errors.ts";
import { fakeManaged } from "./managed-fake.ts";
import {
  compileAegis,
  ManagedTest,
  managed,
  processesOf,
  script,
  standInUnit,
  standInUnits,
} from "./managed-kit.ts";
import { install } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory, until } from "./varlink-kit.ts";

/*
 * Managed runs by the units' sockets, with a stand-in for systemd that starts the units' own command lines.
 */

const TOOL = { name: "tool", bytes: "signed\n" };
const INSTALL = "get tool > $R/tool";
const LIMITS = { memory: 256 << 20, tasks: 200, disk: 64 << 20, entries: 3000 };
const SILENT = { progress() {}, output() {}, overdue() {}, tick() {} };
const WAIT = { stop() {}, alive() {} };

managed.describe("managed runs by units", () => {
  let aegis: string;
  let place: { path: string; remove(): void };
  let standIn: Awaited<ReturnType<typeof standInUnits>>;
  let at: ManagedTest;
  beforeAll(async () => {
    place = temporaryDirectory();
    // The fetch process finds its program there as another user.
    chmodSync(place.path, 0o755);
    aegis = compileAegis(place.path);
    standIn = await standInUnits(place.path, aegis);
  });
  afterAll(() => {
    standIn.stop();
    place.remove();
  });
  beforeEach(() => {
    at = new ManagedTest(aegis, fakeManaged, {
      limits: LIMITS,
      units: () => ({ unpack: null, ...standIn.units }),
    });
    at.place("kept", "as before");
  });
  afterEach(() => at.close());

  const OLD: Record<string, string> = { kept: "as before" };
  const NEW: Record<string, string> = { ...OLD, tool: TOOL.bytes };
  const ready = (build: string | null, fetch: string | null) =>
    new ManagedTest(aegis, fakeManaged, { units: () => ({ build, unpack: null, fetch }) }).driver.ready(
      install(),
      WAIT,
    );

  managed.test("what was signed is installed, and the output is the run's", async () => {
    const text = `${INSTALL}; echo out; echo err >&2; get other; id -u; grep -c : /proc/net/dev`;
    const { result, stdout, stderr, status } = await at.run([TOOL], script(text));
    expect([status, result.state]).toEqual([0, "completed"]);
    expect(stdout).toBe(`out\nnot in the plan\n${at.account.uid}\n1\n`);
    expect(stderr).toBe(
      "err\naegis: the tool asked for /other, which the plan lacks: it was answered with 404\n",
    );
    expect(at.installed()).toEqual(NEW);
    expect(at.leftOver()).toEqual([]);
  });

  const REFUSED: [what: string, script: string, why: RegExp][] = [
    ["a tool that fails", `${INSTALL}; exit 3`, /bash ended with status 3/],
    ["other bytes", `${INSTALL}; echo more >> $R/tool`, /isn't what was signed: tool/],
    [
      "a full disk",
      `${INSTALL}; for i in 1 2 3; do head -c 30000000 /dev/zero > $R/$i; done; sleep 5`,
      /64 MiB/,
    ],
    ["a fork bomb", "perl -e 'fork while 1'", /it had 200 processes and threads at once/],
  ];
  for (const [what, attack, why] of REFUSED) {
    managed.test(`${what}: refused, and the directory stays as it was`, async () => {
      const { result } = await at.run([TOOL], script(attack));
      expect(result.state).toBe("failed");
      expect(result.message ?? "").toMatch(why);
      expect(at.installed()).toEqual(OLD);
      expect(at.leftOver()).toEqual([]);
    });
  }

  managed.test("told to stop: everything inside has ended, and nothing is changed", async () => {
    const stop = new AbortController();
    const tick = () => processesOf(at.account.uid).some((one) => one.includes("sleep")) && stop.abort();
    const { result } = await at.run([TOOL], script(`${INSTALL}; sleep 30`), {}, tick, stop.signal);
    expect(result.message).toContain("bash was stopped before anything was changed");
    expect(at.installed()).toEqual(OLD);
    expect(at.leftOver()).toEqual([]);
  });

  managed.test("its supervisor killed: it counts as alive until everything inside has ended", async () => {
    const argv = script(`${INSTALL}; sleep 30`);
    const prepared = await at.prepare(at.plan([TOOL]), argv);
    const run = startRun(prepared, argv, at.driver, at.account, new AbortController().signal, SILENT);
    await until(() => processesOf(at.account.uid).some((one) => one.includes("sleep")));
    expect(at.driver.isAlive(prepared.directory)).toBe(true);
    process.kill(JSON.parse(readFileSync(join(prepared.directory, "process.json"), "utf8")).pid, "SIGKILL");
    await run;
    await until(() => processesOf(at.account.uid).length === 0);
    at.driver.settle?.(prepared.directory);
    expect(at.installed()).toEqual(OLD);
    expect(at.leftOver()).toEqual([]);
  });

  managed.test("a changed byte is refused while it is fetched", async () => {
    at.trick = (bytes) => new Response(Buffer.from(bytes).fill(0));
    await refuses(() => at.prepare(at.plan([TOOL]), script("true")), "evidence_mismatch");
    await until(() => at.leftOver().length === 0);
  });

  managed.test("fetching ends when the runner is asked to end", async () => {
    const stop = new AbortController();
    at.trick = () => {
      stop.abort(new AegisError("unavailable", "the executor is being stopped"));
      return new Response(new ReadableStream({}));
    };
    await refuses(() => at.prepare(at.plan([TOOL]), script("true"), stop.signal), "unavailable");
    await until(() => processesOf(at.account.uid).length === 0);
  });

  managed.test("it is ready when the unit for sandboxes answers, and only then", async () => {
    const { build, fetch } = standIn.units;
    await ready(build, fetch);
    await refuses(() => ready(build, null), "unavailable");
    await refuses(() => ready(null, fetch), "unavailable");
    await refuses(() => ready(join(place.path, "none.sock"), fetch), "unavailable");
    const broken = await standInUnit(join(place.path, "broken.sock"), ["/bin/false"]);
    await refuses(() => ready(broken.path, fetch), "unavailable");
    broken.stop();
  });

  const answerOf = async (path: string, line: string) => {
    const pieces: string[] = [];
    await callUnit(path, line, (data) => void pieces.push(`${data}`), new AbortController().signal);
    return pieces.join("");
  };
  managed.test("another version's request is refused, and so is a sandbox with a network", async () => {
    const request = JSON.stringify({ version: "0.0.1", spec: null });
    expect(await answerOf(standIn.units.build, `${request}\n`)).toContain("Aegis 0.0.1 asks");
    const argv = [
      "unshare",
      "--mount",
      "--pid",
      "--fork",
      "--kill-child",
      "--",
      aegis,
      "daemon",
      "--confined",
      "init",
    ];
    const open = await standInUnit(join(place.path, "open.sock"), argv);
    const { version } = await import("../package.json");
    const answer = await answerOf(open.path, `${JSON.stringify({ version, spec: null })}\n`);
    expect(answer).toContain("the sandbox has a network, and must have none");
    open.stop();
  });

  test("typed by hand it says what it is", () => {
    for (const role of ["init", "fetch"]) {
      const { stderr, status } = spawnSync(aegis, ["daemon", "--confined", role], {
        input: "",
        encoding: "utf8",
      });
      expect(status).not.toBe(0);
      expect(stderr).toMatch(/first process inside a sandbox|nothing says what to do/);
    }
  });
});
