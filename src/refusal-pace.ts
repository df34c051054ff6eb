import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "./errors.ts";
import { withFileLock } from "./file-lock.ts";
import { STATE } from "./state.ts";

/** Time that each refusal costs, and how many are free when there were none for a while. */
const EACH_MS = 800;
const FREE = 60;
/** Nobody waits longer than everybody who may be connected could make them. */
const LONGEST_MS = 48 * EACH_MS;

/**
 * How long whoever was refused at `now` has to wait, and when the next one is due. All in milliseconds; `due` is what this
 * gave last time. A clock that was set back costs no more than {@link LONGEST_MS}.
 */
export function nextRefusal(due: number, now: number): { due: number; waitMs: number } {
  const from = Math.min(Math.max(due, now - FREE * EACH_MS), now + LONGEST_MS);
  return { due: from + EACH_MS, waitMs: Math.max(0, from - now) };
}

/**
 * Waits after a refusal that was written down, so that a front in foreign hands, which may send what it likes, can't fill the
 * disk with refusals: connections are limited, and each keeps its own until its time has come. `stop` ends the wait.
 */
export async function paceRefusal(stop: AbortSignal): Promise<void> {
  // What is due stands in the file that is locked.
  const path = join(STATE.lock, "refused");
  const wait = withFileLock(path, () => {
    const { due, waitMs } = nextRefusal(lastDue(path), Date.now());
    try {
      writeFileSync(path, String(due), { mode: 0o600 });
      return waitMs;
    } catch {
      // A full disk is no reason to go faster.
      return EACH_MS;
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
