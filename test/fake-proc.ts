import type { ProcessSource } from "../src/sys-processes.ts";

/** A process of a made-up /proc. */
export interface FakeProcess {
  pid: number;
  /** `inode path`, executable mappings; none for a kernel thread. */
  maps?: readonly string[];
  /** Other lines of its maps. */
  data?: readonly string[];
  cgroup?: string;
  comm?: string;
  start?: number;
  mounts?: string;
  root?: number;
  /** What reading it fails with. */
  error?: "EACCES" | "ENOENT";
}

const failure = (code: string) => Object.assign(new Error(code), { code });

/** /proc, and the files on disk: path → inode, all on device 8:1 unless `dev` says otherwise. */
export function fakeProc(
  processes: readonly FakeProcess[],
  disk: Readonly<Record<string, number>> = {},
  { dev = 0x801, prefix = "", shownDev = "08:01" } = {},
): ProcessSource & { calls: string[] } {
  const calls: string[] = [];
  const all = new Map(processes.map((one) => [String(one.pid), one]));
  const find = (path: string): [FakeProcess, string] => {
    const [, pid = "", what = ""] = /^\/proc\/(\d+)\/(.*)$/.exec(path) ?? [];
    const found = all.get(pid);
    if (found === undefined) throw failure("ENOENT");
    if (found.error !== undefined && !["cmdline", "cgroup", "comm", "stat"].includes(what))
      throw failure(found.error);
    return [found, what];
  };
  return {
    calls,
    list: () => ["self", "cpuinfo", ...all.keys()],
    text(path) {
      calls.push(path);
      if (path === "/proc/1/cgroup" && !all.has("1")) return `0::${prefix}/init.scope\n`;
      const [{ pid, maps = [], data = [], cgroup, comm = "demo", start = 100 }, what] = find(path);
      const lines = maps.map((one) => {
        const [inode = "", ...words] = one.split(" ");
        return `7f0000000000-7f0000001000 r-xp 00001000 ${shownDev} ${inode}                     ${words.join(" ")}`;
      });
      if (what === "maps") return maps.length === 0 ? "" : `${[...data, ...lines].join("\n")}\n`;
      if (what === "cgroup") return `0::${prefix}${cgroup ?? "/system.slice/demo.service"}\n`;
      if (what === "comm") return `${comm}\n`;
      if (what === "cmdline") return maps.length === 0 ? "" : comm;
      if (what === "stat")
        return `${pid} (a b) c) S 1 1 1 0 -1 4194560 ${Array(12).fill("0").join(" ")} ${start} 0 0\n`;
      throw failure("ENOENT");
    },
    link(path) {
      calls.push(path);
      if (path === "/proc/self") return "999999";
      if (path === "/proc/self/ns/mnt") return "mnt:[1]";
      const [{ mounts = "mnt:[1]" }] = find(path);
      return mounts;
    },
    stat(path) {
      calls.push(path);
      if (path === "/") return { dev, ino: 2 };
      if (path.startsWith("/proc/")) return { dev, ino: find(path)[0].root ?? 2 };
      const ino = disk[path];
      if (ino === undefined) throw failure("ENOENT");
      return { dev, ino };
    },
  };
}
