import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "./errors.ts";
import { withFileLock } from "./file-lock.ts";
import { STATE } from "./state.ts";

/** How fast something may be written down that anybody can bring about. */
export interface Pace {
  /** Time that each costs, in milliseconds. */
  eachMs: number;
  /** How many are free when there were none for a while. */
  free: number;
}

/** Refused plans. */
export const REFUSAL_PACE: Pace = { eachMs: 800, free: 60 };

/** As many may wait at once as there are connections to the runner. */
const WAITING = 48;

/**
 * How long the one at `now` has to wait, and when the next one is due. All in milliseconds; `due` is what this gave last time.
 * A clock that was set back costs no more than everybody who may be connected could.
 */
export function nextDue({ eachMs, free }: Pace, due: number, now: number): { due: number; waitMs: number } {
  const from = Math.min(Math.max(due, now - free * eachMs), now + WAITING * eachMs);
  return { due: from + eachMs, waitMs: Math.max(0, from - now) };
}

/**
 * Waits after something was written down, so that a front in foreign hands, which may send what it likes, can't fill the
 * disk: connections are limited, and each keeps its own until its time has come. `name` is the file that remembers what is
 * due. `stop` ends the wait.
 */
export async function pace(name: string, speed: Pace, stop: AbortSignal): Promise<void> {
  // What is due stands in the file that is locked.
  const path = join(STATE.lock, name);
  const wait = withFileLock(path, () => {
    const { due, waitMs } = nextDue(speed, lastDue(path), Date.now());
    try {
      writeFileSync(path, String(due), { mode: 0o600 });
      return waitMs;
    } catch {
      // A full disk is no reason to go faster.
      return speed.eachMs;
    }
  });
  if (wait === 0 || stop.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, wait);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function lastDue(path: string): number {
  try {
    const due = Number(readFileSync(path, "utf8"));
    return Number.isFinite(due) ? due : 0;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return 0;
    throw error;
  }
}
