import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { sha256Hex } from "../src/canonical.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { type Result, readResult, writeResult } from "../src/doc-result.ts";
import type { RunDriver } from "../src/eco-driver.ts";
import { runDirectory } from "../src/eco-run.ts";
import { isRunAtWork, markCurrent, type Recovery, recoverInterrupted } from "../src/exec-recover.ts";
import { identify } from "../src/sys-process.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { contextOf, logged, makeStatePaths, signed, statePathsIn, submit } from "./execution-kit.ts";
import { type FakeHost, makeFakeHost, withFake } from "./fake-ecosystem.ts";
import { installStateWorker } from "./kit.ts";
import { refuses } from "./signing-kit.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const ID = "aaaaaaaa-0000-4000-8000-000000000000";
const PLAN = "11111111-2222-4333-8444-555555555555";

describeOnThrowaway("whether the apt of a marked run is at work, by the record of its process", () => {
  let host: ThrowawayHost;
  let worker: string[];
  let living: { pid: number; start: number; boot: string };

  beforeAll(async () => {
    host = await startHost();
    worker = await installStateWorker(host);
    await host.exec([...worker, "prepare"]);
    const { pid, insidePid } = await host.spawn(["sleep", "1000"]);
    living = { ...identify(pid), pid: insidePid };
    const result = {
      schema_version: "1.0",
      execution_plan_id: ID,
      plan_id: ID,
      argv: ["apt-get", "update"],
      state: "running",
      exit_status: null,
      code: null,
      message: null,
      actor: null,
      turn_at: null,
      started_at: "2026-01-02T03:04:05Z",
      ended_at: null,
      submitted_by_uid: 0,
      not_as_planned: [],
      changed_besides: [],
      inverse: null,
    };
    const marker = { result, transaction: [], before: {}, actor: "x" };
    host.write("/var/lib/aegis/lock/current.json", JSON.stringify(marker));
  });
  afterAll(() => host.stop());

  const CASES: [what: string, record: () => unknown, atWork: boolean][] = [
    ["of an earlier boot", () => ({ ...living, boot: "00000000-0000-4000-8000-000000000000" }), false],
    ["without a boot, as older versions wrote it", () => ({ pid: living.pid, start: living.start }), false],
    ["of an earlier process", () => ({ ...living, start: living.start - 1 }), false],
    ["no record", () => null, false],
    ["of a living process", () => living, true],
  ];
  for (const [what, record, atWork] of CASES) {
    test(what, async () => {
      host.write(`/var/lib/aegis/runs/${ID}/process.json`, JSON.stringify(record()));
      const { stdout } = await host.exec([...worker, "atWork"]);
      expect(JSON.parse(stdout)).toBe(atWork);
    });
  }
});

/*
 * What whoever comes next finds, and does about it, with an ecosystem that exists only here, and without root.
 */
describe("a run that was never closed", () => {
  let directory: string;
  let remove: () => void;
  let host: FakeHost;
  let paths: StatePaths;
  const children: ChildProcess[] = [];
  beforeEach(() => {
    ({ path: directory, remove } = temporaryDirectory());
    host = makeFakeHost(directory);
    paths = statePathsIn(directory);
    makeStatePaths(paths);
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
    remove();
  });

  const SUBJECT = { actor: "ops", plan_id: PLAN, execution_id: ID, argv: ["code"] };
  const entry: TransactionEntry = {
    ...{ name: "acme.tool", architecture: "all", from_version: null, to_version: "1.0.0" },
    action: "install",
    ...{ origin: null, archive: null, sha256: "0".repeat(64), size: 1, essential: false },
    ...{ source: null, from_source: null, to_source: null, sources: [] },
  };
  const run = (change: Partial<Result> = {}): Result => ({
    schema_version: "1.0",
    execution_plan_id: ID,
    plan_id: PLAN,
    tool: "vscode",
    argv: ["code"],
    state: "running",
    ...{ exit_status: null, code: null, message: null, actor: "ops", turn_at: null },
    started_at: "2026-01-02T03:04:05Z",
    ended_at: null,
    submitted_by_uid: 0,
    ...{ not_as_planned: [], changed_besides: [], inverse: null },
    ...change,
  });
  /** Leaves a run: its marker, its files and these events. */
  const leave = ({ events = [], output = true, result }: Left) => {
    const about = { targets: ["acme.tool"] };
    markCurrent({ result: run(), transaction: [entry], before: {}, actor: "ops", about }, paths);
    mkdirSync(join(paths.archives, ID));
    mkdirSync(runDirectory(ID, paths));
    if (output)
      for (const name of ["stdout", "stderr"]) writeFileSync(join(runDirectory(ID, paths), name), name);
    const audit = openAuditLog(paths.audit);
    for (const event of events) audit.append({ ...SUBJECT, ...event });
    if (result !== undefined) writeResult(result, paths);
  };
  interface Left {
    events?: NewAuditEvent[];
    output?: boolean;
    result?: Result;
  }
  const recovery = (change?: Partial<RunDriver>): Recovery => ({
    audit: openAuditLog(paths.audit),
    paths,
    ecosystems: withFake(host, paths, change),
  });
  const recover = (change?: Partial<RunDriver>) => recoverInterrupted(recovery(change), () => {});
  const done = () => writeFileSync(join(host.store, "acme.tool"), "1.0.0");
  const vouch = (word: string) => writeFileSync(join(paths.archives, ID, "receipt"), word);
  const marked = () => existsSync(join(paths.lock, "current.json"));
  const started = { kind: "execution_started" } as const;

  test("there is none: nothing is done, nothing is written", async () => {
    await recover();
    expect(existsSync(join(paths.audit, "audit.ndjson"))).toBe(false);
  });

  test("what was there before is known by every name that a package can have", async () => {
    leave({ events: [started] });
    const state = { constructor: "1.0.0", prototype: "1.0.0", a: "1" };
    markCurrent({ result: run(), transaction: [entry], before: state, actor: "ops", about: {} }, paths);
    let known = {};
    const compare: RunDriver["compare"] = (_run, before) => {
      known = before;
      return { not_as_planned: [], changed_besides: [], inverse: [] };
    };
    await recover({ compare });
    expect(known).toEqual(state);
  });

  test("nothing was started: a refusal, without an outcome or files", async () => {
    leave({ output: false });
    await recover();
    expect(logged(paths)).toMatchObject([
      {
        kind: "execution_denied",
        execution_id: ID,
        decision: "deny",
        details: { code: "unavailable", targets: ["acme.tool"] },
      },
    ]);
    expect(readResult(ID, paths)).toBeNull();
    expect([readdirSync(paths.runs), readdirSync(paths.archives), marked()]).toEqual([[], [], false]);
  });

  const ENDS: [what: string, before: () => void, change: Partial<RunDriver>, says: string][] = [
    [
      "as planned, and vouched for",
      () => {
        done();
        vouch("vouched");
      },
      {},
      "the runner was interrupted; every package is as planned",
    ],
    [
      "as planned, and nothing vouches for it",
      done,
      {},
      "the runner was interrupted; every package is as planned, but there is no evidence of what was installed",
    ],
    [
      "refused",
      () => vouch("refused"),
      {},
      "the runner was interrupted; other bytes; 1 of 1 packages are not as planned",
    ],
    [
      "half done, with advice",
      () => {},
      { advice: () => Promise.resolve({ text: "type: repair", facts: { state: "half" } }) },
      "the runner was interrupted; 1 of 1 packages are not as planned; type: repair",
    ],
  ];
  for (const [what, before, change, message] of ENDS) {
    test(`started, and its end is unknown: ${what}`, async () => {
      leave({ events: [started], result: run() });
      before();
      await recover(change);
      expect(readResult(ID, paths)).toMatchObject({ state: "interrupted", code: "interrupted", message });
      const event = logged(paths).at(-1);
      expect(event).toMatchObject({
        kind: "execution_interrupted",
        stdout_sha256: sha256Hex("stdout"),
        details: { message, targets: ["acme.tool"] },
      });
      expect([readdirSync(paths.archives), marked()]).toEqual([[], false]);
    });
  }
  test("started, but there is no output file: closed without its digests", async () => {
    leave({ events: [started], output: false });
    await recover();
    expect(logged(paths).at(-1)).toMatchObject({ kind: "execution_interrupted", stdout_sha256: null });
    expect(readResult(ID, paths)?.state).toBe("interrupted");
  });
  test("output that can't be read: not closed", async () => {
    leave({ events: [started] });
    rmSync(join(runDirectory(ID, paths), "stderr"));
    mkdirSync(join(runDirectory(ID, paths), "stderr"));
    await expect(recover()).rejects.toThrow();
    expect(logged(paths).map(({ kind }) => kind)).toEqual(["execution_started"]);
    expect(marked()).toBe(true);
  });
  test("output, but no start in the log: the log was cut, and what ran is closed", async () => {
    leave({});
    await recover();
    expect(logged(paths).at(-1)?.kind).toBe("execution_interrupted");
    expect(readResult(ID, paths)?.state).toBe("interrupted");
  });

  describe("its end is logged", () => {
    const end = (
      details: Record<string, unknown>,
      kind: "execution_completed" | "execution_interrupted" = "execution_completed",
    ) => ({ kind, exit_status: 3, details }) as const;
    const CASES: [what: string, left: NewAuditEvent, expected: Partial<Result>][] = [
      [
        "completed",
        end({ state: "completed", code: null, message: null }),
        { state: "completed", code: null, message: null },
      ],
      [
        "completed, with drift",
        end({ state: "completed", code: "drift", message: "x" }),
        { state: "completed", code: "drift", message: "x" },
      ],
      [
        "failed",
        end({ state: "failed", code: "execution_failed", message: "y" }),
        { state: "failed", code: "execution_failed", message: "y" },
      ],
      [
        "interrupted",
        end({ state: "interrupted", code: "interrupted", message: "z" }, "execution_interrupted"),
        { state: "interrupted" },
      ],
      [
        "in words that are none",
        end({ state: 1, code: 2, message: 3 }),
        { state: "failed", code: null, message: null },
      ],
    ];
    for (const [what, event, expected] of CASES) {
      test(`${what}, and the outcome is not written: it is now`, async () => {
        leave({ events: [started, event], result: run() });
        done();
        await recover();
        const inverse = [{ package: "acme.tool", architecture: "all", before: null, left: "1.0.0" }];
        expect(readResult(ID, paths)).toMatchObject({ ...expected, exit_status: 3, inverse });
        expect(logged(paths)).toHaveLength(2);
        expect(marked()).toBe(false);
      });
    }
    test("a final outcome stays as it is", async () => {
      const result = run({ state: "completed", exit_status: 0, message: "its own" });
      leave({ events: [started, end({ state: "failed", code: null, message: null })], result });
      await recover();
      expect(readResult(ID, paths)).toEqual(result);
      expect(marked()).toBe(false);
    });
  });

  describe("its marker can't be read: nothing is closed, and the hint says what to do", () => {
    for (const [what, text] of [
      ["empty", ""],
      ["torn", '{"result":{"schema_ver'],
      ["of another kind", "[]"],
      [
        "with a state that is none",
        JSON.stringify({ result: run(), transaction: [], before: { a: 1 }, actor: "x" }),
      ],
      [
        "with a field that this version doesn't know",
        JSON.stringify({ result: run(), transaction: [], before: {}, actor: "x", y: 1 }),
      ],
    ] as const) {
      test(what, async () => {
        writeFileSync(join(paths.lock, "current.json"), text);
        const hint = await refuses(
          () => recover(),
          "io",
          `${join(paths.lock, "current.json")}, which marks the current run`,
        );
        expect(hint).toContain("aegis audit show --system");
        await refuses(() => isRunAtWork(paths, withFake(host, paths)), "io", "can't be read");
        expect(existsSync(join(paths.audit, "audit.ndjson"))).toBe(false);
      });
    }
    test("and nothing else runs until then", async () => {
      const plan = await signed(host, paths, directory, "install", "acme.tool@1.0.0");
      writeFileSync(join(paths.lock, "current.json"), "");
      await refuses(() => submit(plan, contextOf(host, paths, directory)), "io", "marks the current run");
      expect(logged(paths).map(({ kind }) => kind)).toEqual(["execution_denied"]);
      expect(readdirSync(host.store)).toEqual([]);
    });
  });

  describe("while its tool is running", () => {
    const start = () => {
      const child = spawn("/bin/sleep", ["1000"], { detached: true, stdio: "ignore" });
      children.push(child);
      writeFileSync(join(runDirectory(ID, paths), "process.json"), JSON.stringify(identify(child.pid ?? 0)));
      return child;
    };
    test("the tool is running, and nothing is done without waiting", async () => {
      leave({ events: [started] });
      start();
      expect(await isRunAtWork(paths, withFake(host, paths))).toBe(true);
      await recoverInterrupted(recovery(), null);
      expect(logged(paths)).toHaveLength(1);
      expect(marked()).toBe(true);
    });
    test("also by what only its driver knows", async () => {
      leave({ events: [started] });
      expect(await isRunAtWork(paths, withFake(host, paths))).toBe(false);
      expect(await isRunAtWork(paths, withFake(host, paths, { isAlive: () => true }))).toBe(true);
      await recoverInterrupted(recovery({ isAlive: () => true }), null);
      expect(marked()).toBe(true);
    });
    test("a record of its process that can't be read doesn't count", async () => {
      leave({ events: [started] });
      writeFileSync(join(runDirectory(ID, paths), "process.json"), '{"pid":');
      expect(await isRunAtWork(paths, withFake(host, paths))).toBe(false);
    });
    test("beyond its limit it is stopped where its driver allows that", async () => {
      leave({ events: [started] });
      const child = start();
      await recover({ limitMs: () => 0 });
      expect(child.signalCode).toBe("SIGTERM");
      expect(existsSync(join(runDirectory(ID, paths), "stopped"))).toBe(true);
      expect(logged(paths).at(-1)?.kind).toBe("execution_interrupted");
    });
    test("and waited for where it forbids it", async () => {
      leave({ events: [started] });
      const child = start();
      let asked = 0;
      const mayStop = () => {
        if (++asked === 2) child.kill("SIGKILL");
        return false;
      };
      await recover({ limitMs: () => 0, mayStop });
      expect(child.signalCode).toBe("SIGKILL");
      expect(asked).toBeGreaterThan(1);
    });
  });

  test("leftovers of dead runners are removed, and nothing else", async () => {
    const other = ID.replaceAll("a", "b");
    for (const at of [paths.runs, paths.archives]) mkdirSync(join(at, other));
    mkdirSync(join(paths.runs, "kept"));
    const half = `.x.${other}.tmp`;
    for (const at of [paths.lock, paths.results, paths.audit]) {
      for (const name of [half, ".x.tmp", "x.tmp"]) writeFileSync(join(at, name), "");
    }
    await recoverInterrupted(recovery(), null);
    expect(existsSync(join(paths.archives, other))).toBe(true);
    await recover();
    expect([readdirSync(paths.archives), readdirSync(paths.runs)]).toEqual([[], ["kept"]]);
    for (const at of [paths.lock, paths.results, paths.audit])
      expect(
        readdirSync(at)
          .filter((name) => name.endsWith(".tmp"))
          .sort(),
      ).toEqual([".x.tmp", "x.tmp"]);
  });
});
