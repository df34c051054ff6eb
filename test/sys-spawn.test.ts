import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startTimeOf } from "../src/sys-process.ts";
import { resolveProgram, run } from "../src/sys-spawn.ts";
import { buildWhereNeeded, PROGRAMS, start } from "./kit.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";

const IS_ROOT = process.getuid?.() === 0;
const OPTIONS = { env: { PATH: "/usr/bin:/bin" }, cwd: "/", timeoutMs: 30_000, maxBytes: 1 << 20 };
const shell = (script: string, change: Partial<typeof OPTIONS> = {}) =>
  run("/bin/sh", ["-c", script], { ...OPTIONS, ...change });

needs(IS_ROOT, "root").describe("resolveProgram, in test directories", () => {
  let root: string;
  const tool = (directory: string, name: string, mode = 0o755) => {
    mkdirSync(join(root, directory), { recursive: true });
    const path = join(root, directory, name);
    writeFileSync(path, "#!/bin/sh\n");
    chmodSync(path, mode);
    return path;
  };
  const find = (name: string, ...directories: string[]) => {
    const found = resolveProgram(
      name,
      directories.map((directory) => join(root, directory)),
    );
    return found === null ? null : found.slice(root.length + 1);
  };
  beforeAll(() => {
    // Not below /tmp: others must not be able to write any directory above.
    root = mkdtempSync("/root/aegis-subprocess-");
    tool("good", "tool");
    chownSync(tool("foreign", "tool"), 65534, 65534);
    tool("writable", "tool", 0o757);
    tool("group", "tool", 0o775);
    chownSync(join(root, "group/tool"), 0, 65534);
    tool("rootgroup", "tool", 0o775);
    tool("plain", "tool", 0o644);
    tool("foreigndir", "tool");
    chownSync(join(root, "foreigndir"), 65534, 65534);
    tool("opendir", "tool");
    chmodSync(join(root, "opendir"), 0o777);
    tool("linked", "other");
    symlinkSync("../good/tool", join(root, "linked/tool"));
    symlinkSync("../foreign/tool", join(root, "linked/foreign"));
    symlinkSync("../foreigndir/tool", join(root, "linked/foreigndir"));
    symlinkSync("nowhere", join(root, "linked/dangling"));
    symlinkSync(process.execPath, join(root, "linked/self"));
    tool("installed", "aegis");
    symlinkSync("../installed/aegis", join(root, "linked/apt-get"));
    tool("good", "apt-get");
    mkdirSync(join(root, "good/directory"));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const CASES: [name: string, directories: string[], expected: string | null][] = [
    ["tool", ["foreign"], null],
    ["tool", ["writable"], null],
    ["tool", ["group"], null],
    ["tool", ["plain"], null],
    ["tool", ["foreigndir"], null],
    ["tool", ["opendir"], null],
    ["foreign", ["linked"], null],
    ["foreigndir", ["linked"], null],
    ["dangling", ["linked"], null],
    ["self", ["linked"], null],
    ["apt-get", ["linked"], null],
    ["apt-get", ["linked", "good"], "good/apt-get"],
    ["aegis", ["installed"], "installed/aegis"],
    ["directory", ["good"], null],
    ["missing", ["good"], null],
    ["", ["good"], null],
    [".", ["good"], null],
    ["..", ["good"], null],
    ["./tool", ["good"], null],
    ["../good/tool", ["good"], null],
    ["good/tool", ["."], null],
    ["-tool", ["good"], null],
    ["tool\0", ["good"], null],
    ["tool tool", ["good"], null],
    ["tool", ["good"], "good/tool"],
    ["tool", ["rootgroup"], "rootgroup/tool"],
    ["tool", ["linked"], "linked/tool"],
    ["tool", ["nowhere", "foreign", "plain", "good"], "good/tool"],
  ];
  for (const [name, directories, expected] of CASES)
    test(`${JSON.stringify(name)} in ${directories}`, () =>
      expect(find(name, ...directories)).toBe(expected));

  test("refuses an absolute path", () => {
    expect(resolveProgram(join(root, "good/tool"), [root])).toBeNull();
    expect(resolveProgram("/usr/bin/env")).toBeNull();
    expect(resolveProgram("env")).toBe("/usr/bin/env");
  });

  const NAMED_APT_GET: [how: string, expected: string][] = [
    ["ln -s $0 $tool", "/usr/bin/apt-get"],
    ["touch $tool; mount --bind $0 $tool", "/usr/bin/apt-get"],
    ["cp /bin/true $tool", "/usr/local/sbin/apt-get"],
  ];
  for (const [how, expected] of NAMED_APT_GET) {
    test(`aegis resolves apt-get after: ${how}`, async () => {
      buildWhereNeeded();
      // /usr/local/sbin comes first, here in its own mount namespace. doctor shows the program found.
      const script = `tool=/usr/local/sbin/apt-get; mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin; ${how}; exec $0 doctor --json`;
      const argv = ["unshare", "-m", "sh", "-c", script, PROGRAMS.binary[0]];
      const { stdout } = await start(argv, { env: { PATH: "/usr/bin:/bin", HOME: root }, cwd: "/" });
      const findings: { check: string; message: string }[] = JSON.parse(stdout).findings;
      const [found] = findings.filter(({ check }) => check === "apt-get");
      expect(found?.message).toStartWith(`${expected}: `);
    });
  }
});

describe("run", () => {
  const alive = (pid: number) => startTimeOf(pid) !== null;
  const gone = async (pid: number) => {
    for (let i = 0; i < 200 && alive(pid); i++) await Bun.sleep(10);
    return !alive(pid);
  };

  test("a missing or non-executable program", async () => {
    await refuses(() => run("/nonexistent/tool", [], OPTIONS), "unavailable", "can't run /nonexistent/tool");
    await refuses(() => run("/etc/passwd", [], OPTIONS), "unavailable", "can't run /etc/passwd");
  });

  test("the environment is exactly the one given", async () => {
    process.env.AEGIS_TEST_LEAK = "1";
    try {
      const { stdout } = await run("/usr/bin/env", [], { ...OPTIONS, env: { A: "1", B: "two words" } });
      expect(stdout.toString()).toBe("A=1\nB=two words\n");
      expect((await run("/usr/bin/env", [], { ...OPTIONS, env: {} })).stdout.toString()).toBe("");
    } finally {
      delete process.env.AEGIS_TEST_LEAK;
    }
  });

  test("arguments arrive unchanged, standard input is closed, the directory is the one given", async () => {
    const words = ["a b", "$(id)", "*", "", "--", "\u202e", "a\nb"];
    const { stdout } = await run("/usr/bin/printf", ["%s|", ...words], OPTIONS);
    expect(stdout.toString()).toBe(`${words.join("|")}|`);
    expect((await run("/bin/cat", [], OPTIONS)).stdout.toString()).toBe("");
    expect((await run("/bin/pwd", [], { ...OPTIONS, cwd: "/usr" })).stdout.toString()).toBe("/usr\n");
  });

  test("exit status, and separate outputs", async () => {
    const result = await shell("echo out; echo err >&2; exit 7");
    expect({ ...result, stdout: `${result.stdout}`, stderr: `${result.stderr}` }).toEqual({
      status: 7,
      outcome: "exited",
      stdout: "out\n",
      stderr: "err\n",
    });
    expect(await shell("kill -9 $$")).toMatchObject({ status: null, outcome: "exited" });
  });

  test("the time limit kills the whole group", async () => {
    const result = await shell("sleep 1000 & echo $!; wait", { timeoutMs: 300 });
    expect(result).toMatchObject({ status: null, outcome: "timeout" });
    expect(await gone(Number(result.stdout))).toBe(true);
  });

  test("where it is told to, also groups of their own, and what those have started", async () => {
    const script = "setsid sh -c 'setsid sleep 1000 & echo $!; wait' & echo $!; wait";
    const result = await run("/bin/sh", ["-c", script], { ...OPTIONS, timeoutMs: 300, killsAll: true });
    const pids = result.stdout.toString().trim().split("\n").map(Number);
    expect(pids).toHaveLength(2);
    expect(await Promise.all(pids.map(gone))).toEqual([true, true]);
  });

  test("a descendant outside the group that holds our pipes doesn't block us", async () => {
    const started = await shell("setsid sleep 1000 & echo $!; wait", { timeoutMs: 300 });
    const pid = Number(started.stdout);
    try {
      expect(started.outcome).toBe("timeout");
    } finally {
      process.kill(pid, "SIGKILL");
    }
    const left = await shell("setsid sleep 1000 & echo $!", { timeoutMs: 300 });
    try {
      expect(left).toMatchObject({ status: 0, outcome: "timeout" });
    } finally {
      process.kill(Number(left.stdout), "SIGKILL");
    }
  });

  const CAPS: [script: string, maxBytes: number, outcome: string, out: number, err: number][] = [
    ["while :; do echo endless; done", 1000, "truncated", 1000, 0],
    ["while :; do echo endless >&2; done", 1000, "truncated", 0, 1000],
    ["printf 12345", 4, "truncated", 4, 0],
    ["printf 12345", 5, "exited", 5, 0],
    ["printf 12345; printf 12345 >&2", 5, "exited", 5, 5],
    ["yes", 3_000_000, "truncated", 3_000_000, 0],
  ];
  for (const [script, maxBytes, outcome, out, err] of CAPS) {
    test(`at most ${maxBytes} of: ${script}`, async () => {
      const result = await shell(script, { maxBytes });
      expect(`${result.outcome} ${result.stdout.length} ${result.stderr.length}`).toBe(
        `${outcome} ${out} ${err}`,
      );
    });
  }
});
