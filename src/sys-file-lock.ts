import { closeSync, constants, openSync } from "node:fs";
import { AegisError, messageOf } from "./errors.ts";
import { flock, tryFlock } from "./sys-ffi.ts";

/*
 * Locks between processes: flock(2) on a dedicated file. The kernel releases the lock when its holder ends, so no lock
 * is ever stale and the file is never deleted. Anyone who can open the file can hold the lock: keep it in a directory
 * that only its owner can enter.
 */

/** Longest pause between attempts, in milliseconds. */
const PAUSE_MS = 20;

/**
 * Runs `action` holding the lock at `path`. Waits for it at most `waitMs` milliseconds; omit that only for locks that
 * root alone can open. Blocks the whole process: only for locks held for milliseconds.
 * @throws AegisError `io` if the lock file can't be opened, `busy` if the lock isn't released in time, and whatever
 * `action` throws
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
 * Like {@link withFileLock}, but waits without blocking the process and without a limit: only for locks that root alone
 * can open. `stop` ends the wait.
 * @throws AegisError `io` if the lock file can't be opened, the reason of `stop`, and whatever `action` throws
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

/** flock(2) has no timeout, so poll, with random pauses to keep waiters from colliding. */
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
