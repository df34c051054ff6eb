import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { file, type Step } from "./host-steps.ts";
import { SHARED, type SharedTexts } from "./paths.ts";
import { rootOnlyProblem } from "./sys-files.ts";

/*
 * The manual page and the completion scripts, where man(1) and the shells look for them. Aegis does not need them, so an
 * obstacle is reported and does not stop the installation.
 */

const NAMES = Object.keys(SHARED) as (keyof typeof SHARED)[];

export function sharedSteps(texts: SharedTexts): Step[] {
  return NAMES.map((name): Step => {
    const step = file(SHARED[name], texts[name]);
    return { ...step, needed: () => (obstacle(SHARED[name]) === null ? step.needed() : null) };
  });
}

/** Sentences on files that are not written. Root's shells read completion scripts, so only root may be able to replace them. */
export function sharedLeftOut(): string[] {
  return NAMES.flatMap((name) => {
    const problem = obstacle(SHARED[name]);
    return problem === null ? [] : [`${SHARED[name]} is not written: ${problem}`];
  });
}

/** The files that an uninstall removes. */
export function sharedFiles(): string[] {
  return Object.values(SHARED);
}

/** Why others than root can change the nearest existing directory, or null. */
function obstacle(path: string): string | null {
  let directory = dirname(path);
  while (!existsSync(directory)) directory = dirname(directory);
  return rootOnlyProblem(directory);
}
