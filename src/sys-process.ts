import { readdirSync, readFileSync } from "node:fs";
import { BOOT_VARIABLE, bootId } from "./sys-boot.ts";

/*
 * Identifying processes, by proc(5). Pids are reused, so a pid alone proves nothing. Pid and start time do within one
 * boot; across boots, a service started at the same point gets the same pair again.
 */

/** Identifies a process uniquely. */
export interface ProcessId {
  pid: number;
  /** In clock ticks since boot. */
  start: number;
  /** Boot id; empty if the kernel provides none. */
  boot: string;
}

let boot: string | undefined;

/** The id of this boot, or empty. Constant during a process's life, so cached. */
function thisBoot(): string {
  boot ??= bootId(textOf, process.env[BOOT_VARIABLE]) ?? "";
  return boot;
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/**
 * Start time of a process in clock ticks since boot (field 22 of /proc/<pid>/stat); null if it doesn't exist or is a
 * zombie.
 */
export function startTimeOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field, the name in parentheses, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return null;
    const start = Number(fields[19]);
    return Number.isSafeInteger(start) ? start : null;
  } catch {
    return null;
  }
}

/**
 * Pids of all that a process has started, and what those have started, as long as nobody in between has ended. Stop the process
 * first: it may be starting another one now.
 */
export function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = textOf(`/proc/${entry}/stat`) ?? "";
    parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const found = new Set([pid]);
  for (let before = 0; before < found.size; ) {
    before = found.size;
    for (const [one, parent] of parents) if (found.has(parent)) found.add(one);
  }
  found.delete(pid);
  return [...found];
}

/** The identity of a process; of one that has ended, the start time is 0. */
export function identify(pid: number): ProcessId {
  return { pid, start: startTimeOf(pid) ?? 0, boot: thisBoot() };
}

/** Whether an identified process is still alive. */
export function isSameProcess({ pid, start, boot }: ProcessId): boolean {
  return boot === thisBoot() && startTimeOf(pid) === start;
}

/**
 * Pids of one user's processes with one of these names (comm of proc(5), at most 15 characters) whose environment holds
 * `variable=value`. The name matters: children inherit the environment and may live forever. So does the user: anyone
 * can run a program with that name and environment, and would be waited for.
 */
export function processesWith(variable: string, value: string, names: readonly string[], uid = 0): number[] {
  const wanted = `${variable}=${value}`;
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || startTimeOf(pid) === null) return [];
    try {
      if (!names.includes(readFileSync(`/proc/${pid}/comm`, "utf8").trim()) || !isOf(pid, uid)) return [];
      return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(wanted) ? [pid] : [];
    } catch {
      return [];
    }
  });
}

/** Whether all of a process's uids are this one. The owner of /proc/<pid> is no substitute: a process can change it. */
function isOf(pid: number, uid: number): boolean {
  const [, ...uids] =
    /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return uids.length === 4 && uids.every((one) => one === String(uid));
}

/** All user and group ids of all processes, of every kind (proc_pid_status(5): real, effective, saved, fs). */
export function idsInUse(): Set<number> {
  const ids = new Set<number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const status = readFileSync(`/proc/${entry}/status`, "utf8");
      for (const [line] of status.matchAll(/^(?:Uid|Gid|Groups):.*$/gm)) {
        for (const id of line.split(/\s+/).slice(1)) ids.add(Number(id));
      }
    } catch {
      // The process has ended.
    }
  }
  return ids;
}
