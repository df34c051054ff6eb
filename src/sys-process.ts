import { readdirSync, readFileSync } from "node:fs";
import { BOOT_VARIABLE, bootId } from "./sys-boot.ts";

/*
 * Who is alive, by proc(5). A pid alone proves nothing, since pids are used again. Pid and start time together do, within one
 * boot: both count from there, and a service that starts at the same point of each boot gets the same ones again.
 */

/** A process, so that no other is ever taken for it. */
export interface ProcessId {
  pid: number;
  /** In clock ticks since boot. */
  start: number;
  /** The id of the boot; empty where the kernel gives none. */
  boot: string;
}

let boot: string | undefined;

/** The id of this boot; empty where there is none. It is the same as long as a process lives. */
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

/** Start time of a process in clock ticks since boot (field 22 of /proc/<pid>/stat), or null when there is none. */
export function startTimeOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the name in parentheses, which may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return null;
    const start = Number(fields[19]);
    return Number.isSafeInteger(start) ? start : null;
  } catch {
    return null;
  }
}

/** What to write down of a process that lives; of one that has ended, the start time is 0. */
export function identify(pid: number): ProcessId {
  return { pid, start: startTimeOf(pid) ?? 0, boot: thisBoot() };
}

/** Whether a process that was written down still lives. */
export function isSameProcess({ pid, start, boot }: ProcessId): boolean {
  return boot === thisBoot() && startTimeOf(pid) === start;
}

/**
 * Living processes of root of these names (comm of proc(5), at most 15 characters) whose environment holds `variable=value`.
 * The names matter: whatever they started inherits the environment too, and may live for ever. So does the user: anybody can
 * give a program of their own that name and that environment, and would then be waited for.
 */
export function processesWith(variable: string, value: string, names: readonly string[]): number[] {
  const wanted = `${variable}=${value}`;
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || startTimeOf(pid) === null) return [];
    try {
      if (!names.includes(readFileSync(`/proc/${pid}/comm`, "utf8").trim()) || !isRoots(pid)) return [];
      return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(wanted) ? [pid] : [];
    } catch {
      return [];
    }
  });
}

/** Whether a process is root's by each of its user ids. The owner of /proc/<pid> would not do: a process can hide its own. */
function isRoots(pid: number): boolean {
  return /^Uid:\t0\t0\t0\t0$/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

/** Every user and group id that a living process has, of whatever kind (proc_pid_status(5): real, effective, saved, fs). */
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
      // It has ended.
    }
  }
  return ids;
}
