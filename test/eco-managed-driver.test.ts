import { afterEach, beforeEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { readBuildReceipt } from "../src/eco-build-receipt.ts";
import { outdated } from "../src/eco-exchange.ts";
import { managedDriver } from "../src/eco-managed-driver.ts";
import { startRun } from "../src/eco-run.ts";
import { rollbackArgv } from "../src/eco-undo.ts";
import { readText } from "../src/sys-files.ts";
import { fakeManaged } from "./managed-fake.ts";
import { compiledAegis, ManagedTest, managed, script } from "./managed-kit.ts";
import { install } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";
import { until } from "./varlink-kit.ts";

const TOOL = { name: "tool", bytes: "#!/bin/sh\necho tool 1\n" };
const INSTALL = "get tool > $R/tool && chmod 755 $R/tool";

const SILENT = { progress() {}, output() {}, overdue() {}, tick() {} };

test("the content just replaced is kept, whatever the clock says of the others", () => {
  const kept = [
    { name: "now", since: 1 },
    { name: "a", since: 30 },
    { name: "b", since: 20 },
    { name: "c", since: 10 },
  ];
  expect(outdated(kept, "now")).toEqual(["c"]);
  expect(outdated(kept.slice(0, 3), "now")).toEqual([]);
});

test("a package called constructor wasn't there before, and is what a rollback removes", () => {
  const entry = { name: "constructor", to_version: "1.0.0" };
  const plan = { ...install(), transaction: install().transaction.map((one) => ({ ...one, ...entry })) };
  const { compare } = managedDriver(fakeManaged);
  const run = { argv: [], transaction: plan.transaction };
  const made = { package: "constructor", architecture: "all", before: null, left: "1.0.0" };
  expect(compare(run, {}, { constructor: "1.0.0" })).toEqual({
    ...{ not_as_planned: [], changed_besides: [], inverse: [made] },
  });
  expect(compare(run, { constructor: "0.9.0" }, {})).toMatchObject({
    ...{ not_as_planned: [{ package: "constructor", expected: "1.0.0", found: null }] },
    ...{ inverse: [{ before: "0.9.0", left: null }] },
  });
});

managed.describe("a managed run", () => {
  const aegis = compiledAegis();
  let at: ManagedTest;
  beforeEach(() => {
    at = new ManagedTest(aegis(), fakeManaged, {
      limits: { memory: 1 << 30, tasks: 300, disk: 64 << 20, entries: 5000 },
    });
  });
  afterEach(() => at.close());

  managed.test("installs what was signed, keeps what was there, and links its commands", async () => {
    at.place("older", "as before\n");
    const { result, status } = await at.run([TOOL], script(INSTALL));
    expect(result).toMatchObject({ state: "completed", code: null, exit_status: 0 });
    expect(status).toBe(0);
    expect(at.installed()).toEqual({ older: "as before\n", tool: TOOL.bytes });
    const { uid, mode } = statSync(join(at.root, "tool"));
    expect({ uid, mode: mode & 0o7777 }).toEqual({ uid: 0, mode: 0o755 });
    expect(readlinkSync(join(at.state, "bin/tool"))).toBe(join(at.root, "tool"));
    expect(readFileSync(join(at.state, "previous/fake", at.execution, "older"), "utf8")).toBe("as before\n");
    expect(result.executables).toMatchObject([{ name: "tool", path: join(at.root, "tool"), shadows: [] }]);
    expect(result.inverse).toEqual([{ package: "tool", architecture: "all", before: null, left: "1.0.0" }]);
    expect(readBuildReceipt(at.runDirectory())?.files).toHaveLength(1);
    expect(at.leftOver()).toEqual([]);
    expect(at.progress[0]).toEqual([100, `fetched ${TOOL.bytes.length} of ${TOOL.bytes.length} bytes`]);
    expect(at.progress.at(-1)).toEqual([100, "done"]);
  });

  managed.test("keeps the three newest of the previous contents", async () => {
    for (const n of [1, 2, 3, 4, 5]) {
      const one = { name: "tool", version: `${n}.0.0`, bytes: `${n}` };
      await at.run([one], script(INSTALL));
    }
    expect(at.installed()).toEqual({ tool: "5" });
    expect(readdirSync(join(at.state, "previous/fake"))).toHaveLength(3);
  });

  managed.test("a tool that fails changes nothing, and says with what status", async () => {
    at.place("tool", "old");
    const { result, stderr } = await at.run([TOOL], script(`${INSTALL}; echo no luck >&2; exit 3`));
    expect(result).toMatchObject({ state: "failed", message: "bash ended with status 3" });
    expect(stderr).toContain("no luck");
    expect(at.installed()).toEqual({ tool: "old" });
    expect(at.leftOver()).toEqual([]);
  });

  managed.test(
    "a fetched file that changes on disk while the tool works: refused, whatever the tool left",
    async () => {
      const archive = () => join(at.directory, "archives", at.execution, "0");
      const flip = () => {
        if (at.progress.some(([, message]) => message.startsWith("installing")))
          writeFileSync(archive(), TOOL.bytes.replace("1", "2"));
      };
      const install = `sleep 1; printf '#!/bin/sh\\necho tool 1\\n' > $R/tool`;
      const { result } = await at.run([TOOL], script(install), {}, flip);
      expect(result).toMatchObject({ state: "failed", code: "hash_mismatch" });
      expect(result.message).toBe(`the fetched file of tool 1.0.0 was changed on this host: ${archive()}`);
      expect(at.installed()).toEqual({});
      expect(at.leftOver()).toEqual([]);
    },
  );

  managed.test("what the closed registry lacks is named in the run's output", async () => {
    const { stderr, result } = await at.run([TOOL], script(`${INSTALL}; get other/thing?x=1`));
    expect(result.state).toBe("completed");
    expect(stderr).toContain("asked for /other/thing?x=1, which the plan lacks");
  });

  managed.test("a route without a query answers any, one with a query that alone", async () => {
    const asked = "get tool?x=1 > $R/tool && chmod 755 $R/tool";
    const { stderr, result } = await at.run(
      [TOOL],
      script(`${asked}; get "asks?of=(Id)%20eq%20%27tool%27"; get asks`),
    );
    expect([result.state, stderr]).toEqual(["completed", expect.stringContaining("asked for /asks, which")]);
    expect(stderr).not.toContain("asked for /asks?");
  });

  /** Runs until `when` holds, kills the supervisor as the kernel would, and does what the next runner does. */
  async function killed(
    when: (directory: string) => boolean,
    plan = at.plan([TOOL]),
    argv = script(`${INSTALL}; sleep 0.3`),
  ) {
    const prepared = await at.prepare(plan, argv);
    const { directory } = prepared;
    const ended = startRun(prepared, argv, at.driver, at.account, new AbortController().signal, SILENT);
    await until(() => when(directory));
    const { pid } = JSON.parse(readFileSync(join(directory, "process.json"), "utf8"));
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It was faster.
    }
    await ended;
    at.driver.settle?.(directory);
    return at.driver.witness(directory, { argv, transaction: plan.transaction });
  }

  const contains = (directory: string, name: string, text: string) =>
    readText(join(directory, name))?.includes(text) === true;
  const MOMENTS: [when: string, moment: (directory: string) => boolean, exchanged: boolean | null][] = [
    ["as it begins", (directory) => readText(join(directory, "process.json")) !== null, false],
    ["while it copies", (directory) => contains(directory, "status", "copying"), false],
    ["while the tool works", (directory) => contains(directory, "status", "installing"), false],
    ["while it compares", (directory) => contains(directory, "status", "comparing"), null],
    ["when it has decided", (directory) => contains(directory, "decision", "exchange"), null],
    ["when the receipt is there", (directory) => contains(directory, "receipt.json", "}"), null],
    ["just after the exchange", () => at.installed().tool !== undefined, true],
    ["when it is done", (directory) => contains(directory, "status", "done"), true],
  ];
  for (const [when, moment, exchanged] of MOMENTS) {
    managed.test(`SIGKILL ${when}: one whole tree or the other, and it is known which`, async () => {
      at.place("kept", "as before");
      const { verdict } = await killed(moment);
      const [old, now] = [{ kept: "as before" }, { kept: "as before", tool: TOOL.bytes }];
      if (exchanged !== null) expect(verdict).toBe(exchanged ? "vouched" : "absent");
      expect(at.installed()).toEqual(verdict === "vouched" ? now : old);
      expect(readdirSync(join(at.state, "bin"))).toEqual(verdict === "vouched" ? ["tool"] : []);
      expect(readdirSync(join(at.state, "previous/fake"))).toHaveLength(verdict === "vouched" ? 1 : 0);
      expect(at.leftOver()).toEqual([]);
      // The record is that of the tree, and the log gets its digest.
      const record = readText(join(at.state, "inventory/fake.ndjson"));
      expect(record?.includes('"tool"') ?? false).toBe(verdict === "vouched");
      const left = record === null ? null : { record_sha256: sha256Hex(record), root: "fake" };
      expect(at.driver.left?.(at.runDirectory())?.["managed_root"] ?? null).toEqual(
        left === null ? null : expect.objectContaining(left),
      );
      const again = await at.run([{ ...TOOL, bytes: "two" }], script(INSTALL));
      expect(again.result.state).toBe("completed");
      expect(at.installed()).toEqual({ kept: "as before", tool: "two" });
    });
  }

  managed.test(
    "one that died between keeping the previous content and linking its commands: they are linked",
    async () => {
      const { result } = await at.run([TOOL], script(INSTALL));
      expect(result.state).toBe("completed");
      rmSync(join(at.state, "bin/tool"));
      mkdirSync(join(at.state, "stage", basename(at.runDirectory())), { recursive: true });
      at.driver.settle?.(at.runDirectory());
      expect(readdirSync(join(at.state, "bin"))).toEqual(["tool"]);
      expect(at.leftOver()).toEqual([]);
    },
  );

  managed.test("a supervisor that starts when its run is closed already exchanges nothing", async () => {
    at.place("kept", "as before");
    const plan = at.plan([TOOL]);
    const argv = script(INSTALL);
    const prepared = await at.prepare(plan, argv);
    at.driver.settle?.(prepared.directory);
    const { signal } = new AbortController();
    expect(await startRun(prepared, argv, at.driver, at.account, signal, SILENT)).toBe(1);
    expect(at.installed()).toEqual({ kept: "as before" });
    expect(at.leftOver()).toEqual([]);
  });

  managed.test(
    "a failure just after the exchange: the new content is vouched for, the old is not lost",
    async () => {
      at.place("kept", "as before");
      const plan = at.plan([TOOL]);
      const argv = script(INSTALL);
      const prepared = await at.prepare(plan, argv);
      const previous = join(at.state, "previous/fake");
      rmSync(previous, { recursive: true });
      writeFileSync(previous, "in the way");
      const { signal } = new AbortController();
      expect(await startRun(prepared, argv, at.driver, at.account, signal, SILENT)).toBe(1);
      const run = { argv, transaction: plan.transaction };
      expect(at.driver.witness(prepared.directory, run).verdict).toBe("vouched");
      expect(at.installed()).toEqual({ kept: "as before", tool: TOOL.bytes });
      rmSync(previous);
      mkdirSync(previous, { mode: 0o700 });
      at.driver.settle?.(prepared.directory);
      expect(readdirSync(previous)).toHaveLength(1);
      expect(readdirSync(join(at.state, "bin"))).toEqual(["tool"]);
      expect(at.leftOver()).toEqual([]);
    },
  );

  managed.test("a run that was told to stop changes nothing", async () => {
    const stop = new AbortController();
    const tick = () => at.progress.some(([, message]) => message.startsWith("installing")) && stop.abort();
    const { result } = await at.run([TOOL], script(`${INSTALL}; sleep 20`), {}, tick, stop.signal);
    expect(result).toMatchObject({ state: "failed", code: "execution_failed" });
    expect(result.message).toContain("bash was stopped before anything was changed");
    expect(at.installed()).toEqual({});
    expect(at.leftOver()).toEqual([]);
  });

  managed.test("a run that has decided to exchange can't be stopped any more", async () => {
    const { result } = await at.run([TOOL], script(INSTALL));
    expect(result.state).toBe("completed");
    expect(at.driver.mayStop(at.runDirectory())).toBe(false);
    expect(at.driver.wasStopped(at.runDirectory())).toBeNull();
  });

  managed.test(
    "the receipt of another version of Aegis: an older one counts, a newer one is named",
    async () => {
      await at.run([TOOL], script(INSTALL));
      const path = join(at.runDirectory(), "receipt.json");
      const { left, ...older } = JSON.parse(readFileSync(path, "utf8"));
      expect(at.driver.left?.(at.runDirectory())).toEqual({ managed_root: left });
      writeFileSync(path, JSON.stringify(older));
      expect(at.driver.witness(at.runDirectory(), { argv: [], transaction: [] }).verdict).toBe("vouched");
      expect(at.driver.left?.(at.runDirectory())).toBeNull();
      writeFileSync(path, JSON.stringify({ ...older, news: 1 }));
      const why = /receipt\.json can't be read: .*; another version of Aegis may have written it$/;
      await refuses(() => at.driver.left?.(at.runDirectory()), "io", why);
    },
  );

  managed.test("commands that shadow others are named, and another root's link stays", async () => {
    mkdirSync(join(at.state, "bin"), { recursive: true });
    symlinkSync("/elsewhere/tool", join(at.state, "bin/tool"));
    const both = [TOOL, { name: "env", bytes: "#!/bin/sh\n" }];
    const { result } = await at.run(both, script(`${INSTALL}; get env > $R/env; chmod 755 $R/env`));
    const shadows = Object.fromEntries((result.executables ?? []).map((one) => [one.name, one.shadows]));
    expect(shadows.tool).toEqual([join(at.state, "bin/tool")]);
    // One name of each program: /bin may be a link to /usr/bin.
    expect(shadows.env).toEqual([
      "/usr/bin/env",
      ...(lstatSync("/bin").isSymbolicLink() ? [] : ["/bin/env"]),
    ]);
    expect(readlinkSync(join(at.state, "bin/tool"))).toBe("/elsewhere/tool");
  });

  managed.describe("a rollback", () => {
    /** Of the whole chain this has the run alone, so that the digests are the receipt's. */
    const undoing = (execution: string): Partial<OperationPlan> => {
      const receipt = readBuildReceipt(at.runDirectory(execution));
      const about = { verified: true, key: null, detail: "" };
      return {
        ...{ operation: "rollback", targets: [execution], transaction: [] },
        provenance_evidence: [
          { kind: "managed-content-left", subject: receipt?.tree_after ?? "", ...about },
          { kind: "managed-content-replaced", subject: receipt?.tree_before ?? "", ...about },
        ],
      };
    };
    const undo = (execution: string, change: Partial<OperationPlan> = {}) =>
      at.run([], rollbackArgv("vscode", "fake", execution), { ...undoing(execution), ...change });
    const install = async (bytes: string) => {
      await at.run([{ ...TOOL, bytes }], script(INSTALL));
      return at.execution;
    };

    managed.test(
      "brings back what the run replaced, its commands too, and can be undone itself",
      async () => {
        at.place("kept", "as before");
        const execution = await install("one");
        const { status, result } = await undo(execution);
        expect(status).toBe(0);
        const { tree_before = "", tree_after = "" } = readBuildReceipt(at.runDirectory(execution)) ?? {};
        expect(result.content).toEqual({ before: tree_after, after: tree_before });
        expect(at.installed()).toEqual({ kept: "as before" });
        expect(readdirSync(join(at.state, "bin"))).toEqual([]);
        await undo(at.execution);
        expect(at.installed()).toEqual({ kept: "as before", tool: "one" });
        expect(readdirSync(join(at.state, "bin"))).toEqual(["tool"]);
        expect(at.leftOver()).toEqual([]);
      },
    );

    managed.test("works when the run's own directory has gone, and twice in a row", async () => {
      const [first, second] = [await install("one"), await install("two")];
      const changes = [undoing(first), undoing(second)];
      for (const id of [first, second]) rmSync(at.runDirectory(id), { recursive: true });
      await undo(second, changes[1]);
      expect(at.installed()).toEqual({ tool: "one" });
      await undo(first, changes[0]);
      expect(at.installed()).toEqual({});
    });

    managed.test(
      "three executions are undone one after the other, as many as contents are kept",
      async () => {
        at.place("kept", "as before");
        const ids: string[] = [];
        for (const bytes of ["one", "two", "three"]) ids.push(await install(bytes));
        const changes = new Map(ids.map((id) => [id, undoing(id)]));
        for (const [id, left] of [...ids.toReversed().entries()].map(
          ([n, id]) => [id, ["two", "one"][n]] as const,
        )) {
          const { result } = await undo(id, changes.get(id));
          expect(result.state).toBe("completed");
          expect(at.installed().tool).toBe(left);
          expect(readdirSync(join(at.state, "previous/fake"))).toHaveLength(3);
        }
        expect(at.installed()).toEqual({ kept: "as before" });
      },
    );

    const DEATHS: [when: string, moment: (directory: string) => boolean][] = [
      ["as it begins", (directory) => readText(join(directory, "process.json")) !== null],
      ["while it copies", (directory) => contains(directory, "status", "copying")],
      ["when it has decided", (directory) => contains(directory, "decision", "exchange")],
      ["when the receipt is there", (directory) => contains(directory, "receipt.json", "}")],
      ["just after the exchange", () => at.installed().tool !== "two"],
      ["when it is done", (directory) => contains(directory, "status", "done")],
    ];
    for (const [when, moment] of DEATHS) {
      managed.test(`SIGKILL ${when}: one whole tree or the other, and its commands`, async () => {
        at.place("kept", "as before");
        await install("one");
        const both = [
          { ...TOOL, bytes: "two" },
          { name: "more", bytes: "more" },
        ];
        await at.run(both, script(`${INSTALL}; get more > $R/more && chmod 755 $R/more`));
        const plan = at.plan([], undoing(at.execution));
        const { verdict } = await killed(moment, plan, rollbackArgv("vscode", "fake", at.execution));
        const [old, now] = [
          { kept: "as before", tool: "one" },
          { kept: "as before", tool: "two", more: "more" },
        ];
        expect(at.installed()).toEqual(verdict === "vouched" ? old : now);
        expect(readdirSync(join(at.state, "bin"))).toEqual(
          verdict === "vouched" ? ["tool"] : ["more", "tool"],
        );
        expect(at.leftOver()).toEqual([]);
      });
    }

    const REFUSED: [what: string, before: (execution: string) => unknown, why: string][] = [
      ["the root has changed since by a run", () => install("two"), "is not what execution"],
      ["a file of the root was changed by hand", () => at.place("tool", "evil"), "is not what execution"],
      [
        "what was kept was changed",
        (id) => writeFileSync(join(at.state, "previous/fake", id, "x"), ""),
        "is not what was there",
      ],
      [
        "nothing is kept",
        (id) => rmSync(join(at.state, "previous/fake", id), { recursive: true }),
        "isn't kept any more",
      ],
    ];
    for (const [what, change, why] of REFUSED) {
      managed.test(`is refused if ${what}`, async () => {
        const execution = await install("one");
        await change(execution);
        const before = at.installed();
        const { result } = await undo(execution);
        expect(result.state).toBe("failed");
        expect(result.message).toContain(why);
        expect(at.installed()).toEqual(before);
      });
    }
  });

  const HANDMADE: [what: string, change: (path: string) => unknown, why: string, typed: string][] = [
    ["a setuid file", (path) => chmodSync(path, 0o4755), "has special mode bits", "chmod ug-s,o-t"],
    [
      "another user's file",
      (path) => chownSync(path, 12345, 0),
      "belongs to uid 12345",
      "chown -h root:root",
    ],
    [
      "a file that only root may read",
      (path) => chmodSync(path, 0o600),
      "is not for everybody to read",
      "chmod a+rX",
    ],
    ["a second name", (path) => linkSync(path, `${path}2`), "has a second name", "rm -r"],
    ["a pipe", (path) => spawnSync("mkfifo", [`${path}.p`]), "is a device, pipe or socket", "rm -r"],
    ["a link that leads out", (path) => symlinkSync("/etc", `${path}.l`), 'is a link to "/etc"', "rm -r"],
  ];
  for (const [what, change, why, typed] of HANDMADE) {
    managed.test(`${what} put into the root by hand: no run, but what to type`, () => {
      at.place("tool", "x");
      const path = join(at.root, "tool");
      change(path);
      const refused = expect(() => at.driver.observe());
      refused.toThrow(why);
      try {
        at.driver.observe();
      } catch (error) {
        expect(error).toMatchObject({ code: "refused", message: expect.stringContaining(`"${path}`) });
        expect(error).toMatchObject({ hint: expect.stringContaining(`${typed} ${path}`) });
      }
    });
  }

  managed.test("records in the root that can't be read: no run, but what to type", () => {
    const at2 = managedDriver(
      {
        ...fakeManaged,
        inventory() {
          throw new SyntaxError("no JSON");
        },
      },
      { state: at.state },
    );
    at.place("tool", "x");
    expect(() => at2.observe()).toThrow(`the records of ${at.root} can't be read: no JSON`);
  });

  managed.test("the rollback of one execution is not run for the plan of another", () => {
    const argv = rollbackArgv("vscode", "fake", at.execution);
    const plan = at.plan([], { operation: "rollback", targets: [at.execution.replace("0b", "0c")] });
    expect(at.prepare(plan, argv)).rejects.toMatchObject({ code: "argv_mismatch" });
  });

  managed.test("without the right to make namespaces the tool isn't ready, and nothing is run", async () => {
    const without = ["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
    const path = join(import.meta.dir, "managed-ready.ts");
    const { stdout, stderr } = spawnSync("setpriv", [...without, process.execPath, path], {
      encoding: "utf8",
    });
    expect(`${stdout}${stderr}`).toContain(
      "unavailable: tools can't be confined here, and don't run otherwise",
    );
    const back = spawnSync("setpriv", [...without, process.execPath, path, "rollback"], { encoding: "utf8" });
    expect(`${back.stdout}${back.stderr}`).toBe("ready\n");
  });
});
