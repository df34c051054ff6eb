import { describe, expect, test } from "bun:test";
import { appendFileSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aptDriver } from "../src/apt-driver.ts";
import { RUN_FILES } from "../src/apt-hook-receipt.ts";
import { OUTPUT_FILES, startRun } from "../src/eco-run.ts";
import { processesWith } from "../src/sys-process.ts";
import { needs } from "./needs.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

needs(process.getuid?.() === 0, "root").test(
  "a run ends with its dpkg, even if apt was killed before",
  async () => {
    const { path, remove } = temporaryDirectory();
    const dpkg = join(path, "dpkg");
    copyFileSync("/bin/sleep", dpkg);
    const prepared = {
      directory: path,
      program: "/bin/sh",
      environment: { PATH: "/usr/bin:/bin", APT_CONFIG: join(path, "apt.conf") },
      cwd: "/",
      facts: {},
    };
    const dpkgs = () => processesWith("APT_CONFIG", join(path, "apt.conf"), ["dpkg"]);
    const heard: string[] = [];
    let over = false;
    let ticks = 0;
    const stop = new AbortController();
    // Before its exec the child is another sh.
    const begun = `until [ "$(cat /proc/$!/comm)" = dpkg ]; do :; done`;
    const script = `${dpkg} 1000 & ${begun}; echo apt; kill -KILL $$`;
    const run = startRun(prepared, ["apt-get", "-c", script], aptDriver, null, stop.signal, {
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
      const [pid] = dpkgs();
      expect([over, heard]).toEqual([false, ["apt\n"]]);
      // Too late to stop it: the process is gone.
      stop.abort();
      appendFileSync(join(path, OUTPUT_FILES.stdout), "dpkg\n");
      await seen(3);
      expect([over, heard, dpkgs()]).toEqual([false, ["apt\n", "dpkg\n"], [pid ?? -1]]);
    } finally {
      for (const pid of dpkgs()) process.kill(pid, "SIGKILL");
    }
    expect(await run).toBeNull();
    remove();
  },
);

describe("a run that takes too long", () => {
  const RUNS: [what: string, dpkgBegan: boolean, stopped: boolean][] = [
    ["beyond it, it is stopped", false, true],
    ["once dpkg may have started, nothing stops it", true, false],
  ];
  test.each(RUNS)("%s", async (_what, dpkgBegan, stopped) => {
    const { path, remove } = temporaryDirectory();
    if (dpkgBegan) writeFileSync(join(path, RUN_FILES.decision), "hook");
    let ticks = 0;
    const prepared = {
      directory: path,
      program: "/bin/sh",
      environment: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      facts: {},
    };
    const driver = { ...aptDriver, limitMs: () => 0 };
    const done = join(path, "done");
    const script = `while [ ! -e ${done} ]; do sleep 0.05; done`;
    const status = await startRun(
      prepared,
      ["apt-get", "-c", script],
      driver,
      null,
      new AbortController().signal,
      {
        progress: () => {},
        output: () => {},
        overdue: () => {},
        tick: () => {
          if (dpkgBegan && ++ticks === 3) writeFileSync(done, "");
        },
      },
    );
    expect([status, driver.wasStopped(path)]).toEqual([
      stopped ? null : 0,
      stopped ? "before dpkg began" : null,
    ]);
    remove();
  });
});
