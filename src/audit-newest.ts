import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { errnoOf } from "./errors.ts";

/*
 * The number of the newest event that this host has written, kept apart from its log: it tells a log that was cut from a
 * whole one.
 */

/** Always as long, so that a number is written over whole. */
const DIGITS = 20;

/**
 * Writes the number down, after the event is on disk, and without waiting: what a power failure takes of it only makes it
 * smaller. Of several processes the slower one may leave a smaller number too, and no larger one than was written.
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
    // The event is on disk, which is what counts; a full disk under /var/lib leaves the smaller number.
  }
}

/** 0 where none is kept, or not a whole one. */
export function keptNumber(path: string): number {
  try {
    const text = readFileSync(path, "latin1");
    return /^\d{19}\n$/.test(text) ? Number(text) : 0;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return 0;
    throw error;
  }
}
