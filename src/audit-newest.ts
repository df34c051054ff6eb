import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { errnoOf } from "./errors.ts";

/* The number of the newest event this host has written, kept apart from the log: it reveals a log that was cut. */

/** Fixed length, so that a number overwrites the previous one completely. */
const DIGITS = 20;

/**
 * Records the number after the event is on disk, without syncing: a power failure can only leave a smaller number. So
 * can the slower of several processes, but never a larger number than was written.
 */
export function keepNumber(path: string, sequence: number): void {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      writeSync(fd, `${sequence}\n`.padStart(DIGITS, "0"), 0);
    } finally {
      closeSync(fd);
    }
  } catch {
    // The event is on disk, which is what matters; a full disk under /var/lib leaves the smaller number.
  }
}

/** The recorded number; 0 if missing or incomplete. */
export function keptNumber(path: string): number {
  try {
    const text = readFileSync(path, "latin1");
    return /^\d{19}\n$/.test(text) ? Number(text) : 0;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return 0;
    throw error;
  }
}
