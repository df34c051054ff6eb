import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { chmodSync, copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  identify,
  idsInUse,
  isSameProcess,
  type ProcessId,
  processesWith,
  startTimeOf,
} from "../src/sys-process.ts";
import { needs } from "./needs.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

test("a pid is identified only with its start time and boot", () => {
  const own = identify(process.pid);
  expect(own.start).toBeGreaterThan(0);
  expect(own.boot).toBe(readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
  const CASES: [what: string, other: Partial<ProcessId>, same: boolean][] = [
    ["started later", { start: own.start + 1 }, false],
    ["started with the kernel", { start: 0 }, false],
    ["another boot", { boot: "00000000-0000-4000-8000-000000000000" }, false],
    ["a record without a boot id", { boot: "" }, false],
    ["an unused pid", { pid: 2 ** 30, start: 0 }, false],
    ["not a number", { pid: Number.NaN, start: 0 }, false],
    ["pid 0", { pid: 0, start: 0 }, false],
    ["a group", { pid: -1 }, false],
    ["itself", {}, true],
  ];
  for (const [what, other, same] of CASES)
    expect([what, isSameProcess({ ...own, ...other })]).toEqual([what, same]);
});

test("a zombie is dead; parentheses and spaces in the name don't matter", async () => {
  const { path, remove } = temporaryDirectory();
  const program = join(path, "a) R 1 (b c");
  copyFileSync("/bin/sleep", program);
  const child = spawn(program, ["1000"], { stdio: "ignore" });
  const parent = spawn("/bin/sh", ["-c", "sleep 0 & echo $!; exec sleep 1000"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    await new Promise((resolve) => child.once("spawn", resolve));
    const start = startTimeOf(child.pid ?? 0);
    expect(start).toBeGreaterThanOrEqual(startTimeOf(process.pid) ?? Number.POSITIVE_INFINITY);
    const zombie = Number(await new Promise((resolve) => parent.stdout.once("data", resolve)));
    const stateOf = () => readFileSync(`/proc/${zombie}/stat`, "utf8").split(") ")[1]?.[0];
    while (stateOf() !== "Z") await Bun.sleep(5);
    expect(startTimeOf(zombie)).toBeNull();
  } finally {
    child.kill("SIGKILL");
    parent.kill("SIGKILL");
    remove();
  }
});

needs(process.getuid?.() === 0, "root").test(
  "idsInUse has the user and group ids of all processes",
  async () => {
    const [uid, gid, group] = [64001, 64002, 64003];
    const ids = () => [uid, gid, group].map((id) => idsInUse().has(id));
    expect([idsInUse().has(process.getuid?.() ?? -1), ...ids()]).toEqual([true, false, false, false]);
    const argv = [`--reuid=${uid}`, `--regid=${gid}`, `--groups=${group}`, "/bin/sleep", "1000"];
    const child = spawn("setpriv", argv, { stdio: "ignore" });
    try {
      while (readFileSync(`/proc/${child.pid}/comm`, "utf8") !== "sleep\n") await Bun.sleep(5);
      expect(ids()).toEqual([true, true, true]);
    } finally {
      child.kill("SIGKILL");
    }
  },
);

describe("processesWith", () => {
  /** A sleep process with another comm. */
  async function disguised<T>(
    name: string,
    env: Record<string, string>,
    look: (pid: number) => T,
    uid = 0,
  ): Promise<T> {
    const { path, remove } = temporaryDirectory();
    chmodSync(path, 0o755);
    const program = join(path, name);
    copyFileSync("/bin/sleep", program);
    const ids =
      uid === 0 ? [] : ["/usr/bin/setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
    const [first = program, ...rest] = [...ids, program, "1000"];
    const child = spawn(first, rest, { env, stdio: "ignore" });
    try {
      await new Promise((resolve) => child.once("spawn", resolve));
      while (readFileSync(`/proc/${child.pid}/comm`, "utf8").trim() !== name) await Bun.sleep(5);
      return look(child.pid ?? 0);
    } finally {
      child.kill("SIGKILL");
      remove();
    }
  }
  const CASES: [name: string, env: Record<string, string>, found: boolean][] = [
    ["sleep", { APT_CONFIG: "/run/x" }, false],
    ["apt-get", {}, false],
    ["apt-get", { APT_CONFIG: "/run/xy" }, false],
    ["apt-get", { OTHER: "APT_CONFIG=/run/x" }, false],
    ["dpkg-deb", { APT_CONFIG: "/run/x" }, false],
    ["apt-get", { APT_CONFIG: "/run/x" }, true],
    ["dpkg", { A: "1", APT_CONFIG: "/run/x" }, true],
  ];
  const OURS = { APT_CONFIG: "/run/x" };
  needs(process.getuid?.() === 0, "root").test(
    "dpkg of another user, who may have any environment",
    async () => {
      const pids = (pid: number) => processesWith("APT_CONFIG", "/run/x", ["apt-get", "dpkg"]).includes(pid);
      expect(await disguised("dpkg", OURS, pids, 61_234)).toBe(false);
    },
  );
  needs(process.getuid?.() === 0, "root").test("a tool of the user who is asked for", async () => {
    const pids = (uid: number) => (pid: number) =>
      processesWith("APT_CONFIG", "/run/x", ["tool"], uid).includes(pid);
    expect(await disguised("tool", OURS, pids(61_234), 61_234)).toBe(true);
    expect(await disguised("tool", OURS, pids(61_235), 61_234)).toBe(false);
    expect(await disguised("tool", OURS, pids(6123), 61_234)).toBe(false);
    expect(await disguised("tool", OURS, pids(61_234))).toBe(false);
  });
  for (const [name, env, found] of CASES) {
    test(`${name} with ${JSON.stringify(env)}`, async () => {
      const pids = (pid: number) => processesWith("APT_CONFIG", "/run/x", ["apt-get", "dpkg"]).includes(pid);
      expect(await disguised(name, env, pids)).toBe(found);
    });
  }
});
