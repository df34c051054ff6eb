import { closeSync, constants, openSync } from "node:fs";
import { AegisError, messageOf } from "./errors.ts";
import { flock } from "./ffi.ts";

/*
 * A lock between processes, by flock(2) on a file of its own. The kernel drops it when its holder ends, however it ends, so
 * there is nothing stale to clean up and the file is never deleted. Whoever can open the file can hold the lock: put it in
 * a directory that only its owner can enter.
 */

/**
 * Runs `action` while holding the lock at `path`, waiting for it first. Blocks the whole process: only for locks that
 * are held for milliseconds.
 * @throws AegisError `io` when the lock file can't be opened, and whatever `action` throws
 */
export function withFileLock<T>(path: string, action: () => T): T {
  const fd = openLock(path);
  try {
    flock(fd);
    return action();
  } finally {
    closeSync(fd);
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
