import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { UUID } from "./canonical.ts";

/** How many run directories are kept, newest first. Outcomes and the log are kept elsewhere. */
export const KEPT_RUNS = 200;

/**
 * Removes the oldest run directories below `runs` until `kept` are left, but never that of `current`, whatever the clock said
 * when it was made. Outcomes (results/) and the log are not touched. Never throws: an old directory that can't be removed must
 * not affect the run that is ending.
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
