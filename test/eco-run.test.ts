import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { sha256Hex } from "../src/canonical.ts";
import type { PreparedRun, RunDriver } from "../src/eco-driver.ts";
import {
  archivesOf,
  closeRun,
  digestRun,
  discardRun,
  isRunAlive,
  Lines,
  OUTPUT_FILES,
  type RunListener,
  RunWatch,
  runDirectory,
  startRun,
  stopRecorded,
  Tail,
} from "../src/eco-run.ts";
import { identify } from "../src/sys-process.ts";
import { makeStatePaths, statePathsIn } from "./execution-kit.ts";
import { driverOf, makeFakeHost } from "./fake-ecosystem.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

describe("Tail", () => {
  const { path, remove } = temporaryDirectory();
  afterAll(remove);

  test("returns what was added since the last read, up to the limit", () => {
    const file = join(path, "growing");
    const tail = new Tail(file);
    expect(tail.read()).toHaveLength(0);
    appendFileSync(file, "abcdef");
    expect(tail.read(4).toString()).toBe("abcd");
    expect(tail.read(4).toString()).toBe("ef");
    expect(tail.read()).toHaveLength(0);
    appendFileSync(file, "g");
    expect(tail.read().toString()).toBe("g");
  });
  test("an unreadable file is an error", () => {
    mkdirSync(join(path, "directory"));
    chmodSync(join(path, "directory"), 0o700);
    expect(() => new Tail(join(path, "directory")).read()).toThrow("EISDIR");
    appendFileSync(join(path, "file"), "");
    expect(() => new Tail(join(path, "file/below")).read()).toThrow("ENOTDIR");
  });
});

describe("Lines", () => {
  const CASES: [pieces: string[], expected: string[]][] = [
    [[""], []],
    [["a"], []],
    [["a\n"], ["a"]],
    [["a", "b\nc"], ["ab"]],
    [
      ["a\nb\n", "\n"],
      ["a", "b", ""],
    ],
    [["a\r\n"], ["a\r"]],
  ];
  for (const [pieces, expected] of CASES) {
    test(JSON.stringify(pieces), () => {
      const lines = new Lines();
      expect(pieces.flatMap((piece) => lines.push(piece))).toEqual(expected);
    });
  }
  test("an endless line does not grow without limit", () => {
    const lines = new Lines();
    for (let i = 0; i < 10; i++) expect(lines.push("x".repeat(50_000))).toEqual([]);
    expect(lines.push("\n")).toEqual(["x".repeat(64 * 1024)]);
  });
  test("property: the boundaries of the pieces don't matter", () => {
    const piece = fc.string({ unit: fc.constantFrom("a", "b", "\n") });
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const lines = new Lines();
        expect(pieces.flatMap((one) => lines.push(one))).toEqual(pieces.join("").split("\n").slice(0, -1));
      }),
    );
  });
});

describe("RunWatch", () => {
  const { path, remove } = temporaryDirectory();
  afterAll(remove);
  /** `<percent> <text>` is progress. */
  const PERCENT = {
    progress(line: string) {
      const [, percent, message] = /^(\d+) (.*)$/.exec(line) ?? [];
      return message === undefined ? null : { percent: Number(percent), message };
    },
  };
  const heard: string[] = [];
  const watch = new RunWatch(path, PERCENT, {
    progress: (percent, message) => heard.push(`${percent} ${message}`),
    output: (stream, data) => heard.push(`${stream}: ${data}`),
  });
  const look = () => {
    watch.look();
    return heard.splice(0);
  };
  const add = (name: keyof typeof OUTPUT_FILES, data: string | Uint8Array) =>
    appendFileSync(join(path, OUTPUT_FILES[name]), data);

  test("before there is anything", () => expect(look()).toEqual([]));
  test("what was added since the last look, once each", () => {
    add("stdout", "one\ntw");
    add("stderr", "W: careful\n");
    expect(look()).toEqual(["stdout: one\ntw", "stderr: W: careful\n"]);
    add("stdout", "o\n");
    expect(look()).toEqual(["stdout: o\n"]);
    expect(look()).toEqual([]);
  });
  test("a status line only once it is complete", () => {
    add("status", "10 fir");
    expect(look()).toEqual([]);
    add("status", "st\n20 second\nnonsense\n30 th");
    expect(look()).toEqual(["10 first", "20 second"]);
  });
  test("a character split between two pieces", () => {
    const bytes = Buffer.from("ü");
    add("stdout", bytes.subarray(0, 1));
    expect(look().join("")).not.toContain("\ufffd");
    add("stdout", bytes.subarray(1));
    expect(look().join("")).toContain("ü");
  });
  test("more than one piece at a time", () => {
    add("stdout", "x".repeat(200_000));
    expect(look().join("").replaceAll("stdout: ", "")).toBe("x".repeat(200_000));
  });
  test("a later watcher gets everything from the start", () => {
    writeFileSync(join(path, OUTPUT_FILES.stdout), "all of it");
    const late: string[] = [];
    new RunWatch(path, PERCENT, { progress: () => {}, output: (_, data) => late.push(data) }).look();
    expect(late[0]).toBe("all of it");
  });
});

describe("a tool that is started", () => {
  const { path, remove } = temporaryDirectory();
  afterAll(remove);
  let made = 0;
  const argvOf = (script: string) => ["sh", "-c", script];
  const quiet: RunListener = { progress: () => {}, output: () => {}, overdue: () => {}, tick: () => {} };
  /** Runs a shell command as a driver's tool. */
  const run = (script: string, change: Partial<RunDriver> = {}, given: Partial<StartGiven> = {}) => {
    const directory = join(path, `run${made++}`);
    mkdirSync(directory);
    const driver: RunDriver = { ...driverOf(makeFakeHost(directory), statePathsIn(directory)), ...change };
    const prepared = {
      directory,
      program: "/bin/sh",
      environment: { A: "b" },
      cwd: "/",
      facts: {},
      ...given.prepared,
    };
    const ended = startRun(
      prepared,
      argvOf(script),
      driver,
      null,
      given.stop ?? new AbortController().signal,
      {
        ...quiet,
        ...given.listener,
      },
    );
    return { directory, ended, driver, read: (name: string) => readFileSync(join(directory, name), "utf8") };
  };
  interface StartGiven {
    prepared: Partial<PreparedRun>;
    stop: AbortSignal;
    listener: Partial<RunListener>;
  }

  test("has the environment and directory it was given and nothing else, and no standard input", async () => {
    const { ended, read } = run("env; pwd; cat; echo x >&2; echo '10 half' >&3; exit 7");
    expect(await ended).toBe(7);
    expect(read("stdout").replace(/^(?:_|PWD|SHLVL|OLDPWD)=.*\n/gm, "")).toBe("A=b\n/\n");
    expect([read("stderr"), read("status")]).toEqual(["x\n", "10 half\n"]);
  });
  test("its output files are private to their owner and never replace existing files", async () => {
    const { ended, directory } = run("true");
    expect(await ended).toBe(0);
    for (const name of ["stdout", "stderr", "status"])
      expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    expect(() => run("true", {}, { prepared: { directory } })).toThrow("EEXIST");
  });
  test("all its output is passed on by its end", async () => {
    const heard: string[] = [];
    const listener = {
      output: (stream: string, data: string) => heard.push(`${stream} ${data}`),
      progress: (percent: number, message: string) => heard.push(`${percent} ${message}`),
    };
    await run("echo out; echo '50 half\nnonsense\n100 done' >&3", {}, { listener }).ended;
    expect(heard).toEqual(["stdout out\n", "50 half", "100 done"]);
  });
  test("ended by a signal", async () => expect(await run("kill -9 $$").ended).toBeNull());
  for (const [what, program] of [
    ["there isn't", "/nonexistent/tool"],
    ["is no program", "/etc/hostname"],
    ["is a directory", "/etc"],
  ] as const) {
    test(`a program that ${what}: refused, naming it`, async () => {
      const { ended, directory, driver } = run("true", {}, { prepared: { program } });
      await refuses(() => ended, "unavailable", `can't start ${program}`);
      expect(isRunAlive(directory, driver)).toBe(false);
    });
  }
  test("a command line that is too long for the kernel", async () => {
    await refuses(() => run(":".repeat(200_000)).ended, "unavailable", "can't start /bin/sh");
  });
  test("a missing working directory", async () => {
    await refuses(
      () => run("true", {}, { prepared: { cwd: join(path, "missing") } }).ended,
      "unavailable",
      "can't start",
    );
  });
  test("is alive by its record while it or its children live", async () => {
    const { ended, directory, driver } = run(`while [ ! -e ${path}/go ]; do sleep 0.05; done`);
    while (!existsSync(join(directory, "process.json"))) await Bun.sleep(5);
    expect(isRunAlive(directory, driver)).toBe(true);
    writeFileSync(join(path, "go"), "");
    expect(await ended).toBe(0);
    expect(isRunAlive(directory, driver)).toBe(false);
  });
  test("that can't be recorded is watched anyway", async () => {
    const directory = join(path, "unrecorded");
    mkdirSync(join(directory, "process.json"), { recursive: true });
    expect(await run("exit 3", {}, { prepared: { directory } }).ended).toBe(3);
  });
  const BROKEN: [what: string, change: Partial<RunDriver>, listener: Partial<RunListener>][] = [
    ["its driver can't read its progress", { progress: fault }, {}],
    ["its driver can't tell whether more of it lives", { isAlive: fault }, {}],
    ["its driver can't tell whether it may be stopped", { mayStop: fault, limitMs: () => -1 }, {}],
    ["whoever listens can't", {}, { output: fault }],
  ];
  function fault(): never {
    throw new Error("a fault");
  }
  for (const [what, change, listener] of BROKEN) {
    test(`${what}: the watching ends with that, and this process goes on`, async () => {
      const { ended } = run("echo '10 half' >&3; echo; sleep 0.5", change, { listener });
      await expect(ended).rejects.toThrow("a fault");
    });
  }
  test("asked to end before it started: stopped with its children", async () => {
    const stop = AbortSignal.abort(new Error("being stopped"));
    const { ended, directory } = run("sleep 1000 & wait", {}, { stop });
    expect(await ended).toBeNull();
    expect(existsSync(join(directory, "stopped"))).toBe(true);
  });
  test("one that ignores the stop is waited for", async () => {
    const stop = new AbortController();
    const script = `trap 'touch ${path}/told' TERM; while [ ! -e ${path}/told ]; do sleep 0.05; done; exit 4`;
    const { ended } = run(
      `echo; ${script}`,
      {},
      { stop: stop.signal, listener: { output: () => stop.abort() } },
    );
    expect(await ended).toBe(4);
  });
  test("one that has ended is not stopped: its pid may have been reused", () => {
    const directory = join(path, "gone");
    mkdirSync(directory);
    const mayStop = () => {
      throw new Error("asked");
    };
    const driver = { ...driverOf(makeFakeHost(directory), statePathsIn(directory)), mayStop };
    stopRecorded(directory, driver);
    writeFileSync(join(directory, "process.json"), JSON.stringify({ ...identify(process.pid), start: 1 }));
    stopRecorded(directory, driver);
  });
});

describe("a run's files after its end", () => {
  const ID = "aaaaaaaa-0000-4000-8000-000000000000";
  const { path, remove } = temporaryDirectory();
  const paths = statePathsIn(path);
  afterAll(remove);
  beforeEach(() => {
    makeStatePaths(paths);
    for (const directory of [runDirectory(ID, paths), archivesOf(ID, paths)]) {
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory);
    }
  });
  const output = (name: string) => join(runDirectory(ID, paths), name);

  test("output is truncated; package files are removed", () => {
    writeFileSync(output("stdout"), "");
    truncateSync(output("stdout"), 20 * 1024 * 1024);
    writeFileSync(output("stderr"), "short");
    closeRun(ID, paths);
    expect([statSync(output("stdout")).size, statSync(output("stderr")).size]).toEqual([16 * 1024 * 1024, 5]);
    expect(existsSync(archivesOf(ID, paths))).toBe(false);
  });
  test("without output there is nothing to truncate", () => expect(() => closeRun(ID, paths)).not.toThrow());
  test("digests cover all output", () => {
    writeFileSync(output("stdout"), "a");
    expect(() => digestRun(ID, paths)).toThrow("ENOENT");
    writeFileSync(output("stderr"), "");
    expect(digestRun(ID, paths)).toEqual({ stdout_sha256: sha256Hex("a"), stderr_sha256: sha256Hex("") });
  });
  test("a refused run leaves nothing", () => {
    discardRun(ID, paths);
    expect([existsSync(runDirectory(ID, paths)), existsSync(archivesOf(ID, paths))]).toEqual([false, false]);
    expect(() => discardRun(ID, paths)).not.toThrow();
  });
});
