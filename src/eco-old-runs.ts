import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { UUID } from "./canonical.ts";

/** Run directories that are kept, the newest. Each has what was laid out for the run, and its output; what became of a run stays elsewhere. */
export const KEPT_RUNS = 200;

/**
 * Removes the oldest directories of runs below `runs`, so that no more than `kept` are left, and never the one of `current`,
 * whatever the clock said when it was made. The outcomes (results/) and the log are not touched. Whatever can't be removed
 * stays for the next time: an old directory must not take a run's end away.
 */
export function removeOldRuns(runs: string, current: string, kept = KEPT_RUNS): void {
  try {
    const others = readdirSync(runs)
      .filter((name) => UUID.test(name) && name !== current)
      .map((name) => ({ name, made: statSync(join(runs, name), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
      .sort((a, b) => b.made - a.made || (a.name < b.name ? -1 : 1));
    for (const { name } of others.slice(Math.max(0, kept - 1))) {
      rmSync(join(runs, name), { recursive: true, force: true });
    }
  } catch {
    // As above.
  }
}
