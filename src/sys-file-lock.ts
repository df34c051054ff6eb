import { closeSync, constants, openSync } from "node:fs";
import { AegisError, messageOf } from "./errors.ts";
import { flock, tryFlock } from "./sys-ffi.ts";

/*
 * A lock between processes, by flock(2) on a file of its own. The kernel drops it when its holder ends, however it ends, so
 * there is nothing stale to clean up and the file is never deleted. Whoever can open the file can hold the lock: put it in
 * a directory that only its owner can enter.
 */

/** Longest pause between two tries for a lock, in milliseconds. */
const PAUSE_MS = 20;

/**
 * Runs `action` while holding the lock at `path`, waiting for it first, at most `waitMs` milliseconds; without a limit only for
 * locks that nobody but root can open. Blocks the whole process: only for locks that are held for milliseconds.
 * @throws AegisError `io` when the lock file can't be opened, `busy` when it isn't given up in time, and whatever `action`
 * throws
 */
export function withFileLock<T>(path: string, action: () => T, waitMs?: number): T {
  const fd = openLock(path);
  try {
    if (waitMs === undefined) flock(fd);
    else waitFor(fd, path, waitMs);
    return action();
  } finally {
    closeSync(fd);
  }
}

/**
 * The same without blocking the process while it waits, and without a limit: only for locks that nobody but root can open.
 * `stop` ends the wait.
 * @throws AegisError `io` when the lock file can't be opened, the reason of `stop`, and whatever `action` throws
 */
export async function awaitFileLock<T>(path: string, action: () => T, stop: AbortSignal): Promise<T> {
  const fd = openLock(path);
  try {
    while (!tryFlock(fd)) {
      stop.throwIfAborted();
      await Bun.sleep(1 + Math.random() * PAUSE_MS);
    }
    return action();
  } finally {
    closeSync(fd);
  }
}

/** flock(2) has no time limit of its own, so it is tried again and again, with pauses that keep many who wait apart. */
function waitFor(fd: number, path: string, waitMs: number): void {
  const until = performance.now() + waitMs;
  while (!tryFlock(fd)) {
    if (performance.now() >= until) {
      throw new AegisError(
        "busy",
        `another process has held the lock ${path} for ${waitMs / 1000} seconds; nothing was written`,
        "See which process it is: lslocks --notruncate",
      );
    }
    Bun.sleepSync(1 + Math.random() * PAUSE_MS);
  }
}

function openLock(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new AegisError(
      "io",
      `can't open the lock file ${path}: ${messageOf(error)}`,
      "Check who owns the directory; only its owner may write here.",
    );
  }
}
