import { lstatSync, readdirSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import type { SandboxLimits } from "./eco-sandbox.ts";
import { errnoOf } from "./errors.ts";

/*
 * What a sandbox uses, looked at from inside by its first process. rlimits bound each process; this bounds all of them together,
 * also where no control group does. A program can overshoot by what it uses between two looks.
 */

/** The most that a managed run may use, on any host. */
export const MANAGED_LIMITS: SandboxLimits = {
  memory: 8 * 1024 ** 3,
  tasks: 4096,
  disk: 16 * 1024 ** 3,
  entries: 500_000,
};

/**
 * What a managed run may use on a host with so many processors. Tools start a process for each, with few threads: `go install` of
 * goimports had at most 17 threads at once for 2 processors, 107 for 16, 389 for 64; `cargo install` of ripgrep 17 for 2.
 */
export function managedLimits(processors: number): SandboxLimits {
  return { ...MANAGED_LIMITS, tasks: Math.min(MANAGED_LIMITS.tasks, 512 + 64 * processors) };
}

/**
 * How many processes and threads the kernel lets a program have that may have `tasks`. At the kernel's limit the processes of a fork
 * bomb end as fast as new ones start, and fewer than that are seen; so ours comes first.
 */
export function kernelTasks(tasks: number): number {
  return 2 * tasks;
}

/** A change of free space on the disk that makes a walk worthwhile. */
const NOTICEABLE_BYTES = 16 * 1024 * 1024;
const NOTICEABLE_ENTRIES = 2000;
/** Deeper trees are refused in any case. */
const MAX_DEPTH = 64;

/** Returns a function that says which limit is exceeded now, in words, or null. `writable` are the directories that count. */
export function exceededLimit(limits: SandboxLimits, writable: readonly string[]): () => string | null {
  const disk = new DiskUse(limits, writable);
  return () => processesExceed(limits) ?? disk.exceeded();
}

function processesExceed({ memory, tasks }: SandboxLimits): string | null {
  const tooMany = `it had ${tasks} processes and threads at once`;
  const others = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== "1");
  // Before anything is read of each: that takes time, in which thousands go on.
  if (others.length >= tasks) return tooMany;
  let used = 0;
  let count = 0;
  for (const name of others) {
    const status = textOf(`/proc/${name}/status`);
    const field = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
    count += field("Threads");
    used += (field("RssAnon") + field("RssShmem")) * 1024;
  }
  if (used > memory) return `it used more than ${inMiB(memory)} MiB of memory`;
  if (count >= tasks) return tooMany;
  return null;
}

class DiskUse {
  readonly #limits: SandboxLimits;
  readonly #writable: readonly string[];
  #seen = { bytes: Number.POSITIVE_INFINITY, entries: Number.POSITIVE_INFINITY };

  constructor(limits: SandboxLimits, writable: readonly string[]) {
    this.#limits = limits;
    this.#writable = writable;
  }

  exceeded(): string | null {
    const [first] = this.#writable;
    if (first === undefined) return null;
    const { bavail, bsize, ffree } = statfsSync(first);
    const free = { bytes: bavail * bsize, entries: ffree };
    const { disk, entries } = this.#limits;
    const changed =
      this.#seen.bytes - free.bytes > Math.min(NOTICEABLE_BYTES, disk / 16) ||
      this.#seen.entries - free.entries > Math.min(NOTICEABLE_ENTRIES, entries / 16);
    if (!changed) return null;
    this.#seen = free;
    const left = { bytes: disk, entries };
    const fits = this.#writable.every((path) => takeAway(path, left, MAX_DEPTH));
    if (fits) return null;
    return left.bytes < 0
      ? `it wrote more than ${inMiB(disk)} MiB`
      : `it made more than ${entries} files, or directories too deep`;
  }
}

/** Subtracts what a directory holds; false as soon as it is too much. Links are not followed. */
function takeAway(path: string, left: { bytes: number; entries: number }, depth: number): boolean {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    return isGone(error);
  }
  for (const name of names) {
    const child = join(path, name);
    left.entries--;
    let isDirectory = false;
    try {
      const stat = lstatSync(child);
      left.bytes -= stat.blocks * 512;
      isDirectory = stat.isDirectory();
    } catch (error) {
      if (!isGone(error)) return false;
    }
    if (left.bytes < 0 || left.entries < 0) return false;
    if (isDirectory && (depth === 0 || !takeAway(child, left, depth - 1))) return false;
  }
  return true;
}

/** False for a path that has become too long to be looked at. @throws other errors: what can't be seen would not be counted */
function isGone(error: unknown): boolean {
  const code = errnoOf(error);
  if (code === "ENOENT" || code === "ENOTDIR") return true; // Removed or replaced meanwhile.
  if (code === "ENAMETOOLONG") return false;
  throw error;
}

function inMiB(bytes: number): number {
  return Math.floor(bytes / (1024 * 1024));
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // The process has ended.
  }
}
