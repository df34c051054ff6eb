import { afterAll, describe, expect, test } from "bun:test";
import { appendFileSync, copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { RUN_FILES } from "../src/apt-hook-receipt.ts";
import {
  downloadLimit,
  OUTPUT_FILES,
  packageManagersOf,
  parseStatusLine,
  RunWatch,
  runApt,
  wasStopped,
} from "../src/apt-run.ts";
import { needs } from "./needs.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const recorded = (name: string) =>
  readFileSync(join(import.meta.dir, `fixtures/apt-hook/${name}.txt`), "utf8");

describe("parseStatusLine", () => {
  const CASES: [line: string, expected: ReturnType<typeof parseStatusLine>][] = [
    ["", null],
    ["pmstatus", null],
    ["pmstatus:hello", null],
    ["pmstatus:hello:ten:Installing", null],
    ["pmstatus:hello:10.0", null],
    ["pmstatus::10:x", null],
    ["other:hello:10.0:x", null],
    ["pmconffile:/etc/x:10.0:'/etc/x' '/etc/x.dpkg-new' 1 1", null],
    ["media-change:disc:/media/cdrom:10:Insert", null],
    [" pmstatus:hello:10:x", null],
    ["pmstatus:hello:10.0:Installing", { percent: 10, message: "Installing" }],
    ["pmstatus:hello:0:", { percent: 0, message: "" }],
    [
      "pmstatus:libc6:i386:64.5161:Installed libc6 (i386)",
      { percent: 64.5161, message: "Installed libc6 (i386)" },
    ],
    ["pmstatus:dpkg-exec:3.2258:Running: dpkg: 5:6", { percent: 3.2258, message: "Running: dpkg: 5:6" }],
    ["dlstatus:1:80.0000:Retrieving file 1 of 1", { percent: 80, message: "Retrieving file 1 of 1" }],
    ["pmstatus:x:250:x", { percent: 100, message: "x" }],
  ];
  for (const [line, expected] of CASES) test(line, () => expect(parseStatusLine(line)).toEqual(expected));

  test("every recorded line is progress, and it never goes back within a phase", () => {
    const lines = recorded("status-mixed").trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(40);
    const percents = lines.map((line) => parseStatusLine(line)?.percent ?? Number.NaN);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
  });
  test("a recorded failure", () => {
    const last = recorded("status-failing").trimEnd().split("\n").at(-1) ?? "";
    expect(last).toStartWith("pmerror:postinst-fails:");
    expect(parseStatusLine(last)?.message).toBe(
      "installed postinst-fails package post-installation script subprocess returned error exit status 1",
    );
  });
  test("property: null, or a percentage from 0 to 100", () => {
    const part = fc.oneof(fc.string(), fc.constantFrom("pmstatus", "dlstatus", ":", "99.9", "1e9", "-1"));
    fc.assert(
      fc.property(fc.array(part), (parts) => {
        const progress = parseStatusLine(parts.join(":"));
        if (progress !== null) expect(progress.percent >= 0 && progress.percent <= 100).toBe(true);
      }),
    );
  });
});

describe("RunWatch", () => {
  const { path, remove } = temporaryDirectory();
  afterAll(remove);
  const heard: string[] = [];
  const watch = new RunWatch(path, {
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
  test("what has come since the last look, each thing once", () => {
    add("stdout", "one\ntw");
    add("stderr", "W: careful\n");
    expect(look()).toEqual(["stdout: one\ntw", "stderr: W: careful\n"]);
    add("stdout", "o\n");
    expect(look()).toEqual(["stdout: o\n"]);
    expect(look()).toEqual([]);
  });
  test("a status line only when it is whole", () => {
    add("status", "pmstatus:a:10:fir");
    expect(look()).toEqual([]);
    add("status", "st\npmstatus:b:20:second\nnonsense\npmsta");
    expect(look()).toEqual(["10 first", "20 second"]);
  });
  test("a character that comes in two pieces", () => {
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
  test("a watcher that comes later hears everything from the start", () => {
    writeFileSync(join(path, OUTPUT_FILES.stdout), "all of it");
    const late: string[] = [];
    new RunWatch(path, { progress: () => {}, output: (_, data) => late.push(data) }).look();
    expect(late[0]).toBe("all of it");
  });
});

needs(process.getuid?.() === 0, "root").test(
  "a run is over when its dpkg is, also where apt was killed before",
  async () => {
    const { path, remove } = temporaryDirectory();
    const dpkg = join(path, "dpkg");
    copyFileSync("/bin/sleep", dpkg);
    const prepared = {
      directory: path,
      archives: path,
      configSha256: "",
      program: "/bin/sh",
      environment: { PATH: "/usr/bin:/bin", APT_CONFIG: join(path, "apt.conf") },
      limitMs: 3_600_000,
    };
    const heard: string[] = [];
    let over = false;
    let ticks = 0;
    const stop = new AbortController();
    const script = `${dpkg} 1000 & echo apt; kill -KILL $$`;
    const run = runApt(prepared, ["apt-get", "-c", script], stop.signal, {
      progress: () => {},
      output: (_, data) => heard.push(data),
      overdue: () => {},
      tick: () => ticks++,
    }).finally(() => {
      over = true;
    });
    const seen = async (count: number) => {
      for (const from = ticks; ticks < from + count && !over; ) await Bun.sleep(10);
    };
    try {
      await seen(3);
      const [pid] = packageManagersOf(path);
      expect([over, heard]).toEqual([false, ["apt\n"]]);
      // Whoever wants it stopped now comes too late: there is nobody left to stop.
      stop.abort();
      appendFileSync(join(path, OUTPUT_FILES.stdout), "dpkg\n");
      await seen(3);
      expect([over, heard, packageManagersOf(path)]).toEqual([false, ["apt\n", "dpkg\n"], [pid ?? -1]]);
    } finally {
      for (const pid of packageManagersOf(path)) process.kill(pid, "SIGKILL");
    }
    expect(await run).toBeNull();
    remove();
  },
);

describe("how long a download may take", () => {
  const CASES: [argv: string[], minutes: number][] = [
    [["apt-get", "update"], 10],
    [["apt-get", "install", "-y", "update"], 30],
    [["apt-get", "upgrade", "-y"], 30],
    [["dpkg", "--configure", "-a"], 30],
  ];
  for (const [argv, minutes] of CASES)
    test(argv.join(" "), () => expect(downloadLimit(argv)).toBe(minutes * 60_000));

  const RUNS: [what: string, dpkgBegan: boolean, stopped: boolean][] = [
    ["beyond it, it is stopped", false, true],
    ["once dpkg may have begun, nothing stops it", true, false],
  ];
  test.each(RUNS)("%s", async (_what, dpkgBegan, stopped) => {
    const { path, remove } = temporaryDirectory();
    if (dpkgBegan) writeFileSync(join(path, RUN_FILES.decision), "hook");
    let ticks = 0;
    const prepared = {
      directory: path,
      archives: path,
      configSha256: "",
      program: "/bin/sh",
      environment: { PATH: "/usr/bin:/bin" },
      limitMs: 0,
    };
    const done = join(path, "done");
    const script = `while [ ! -e ${done} ]; do sleep 0.05; done`;
    const status = await runApt(prepared, ["apt-get", "-c", script], new AbortController().signal, {
      progress: () => {},
      output: () => {},
      overdue: () => {},
      tick: () => {
        if (dpkgBegan && ++ticks === 3) writeFileSync(done, "");
      },
    });
    expect([status, wasStopped(path)]).toEqual([stopped ? null : 0, stopped]);
    remove();
  });
});
