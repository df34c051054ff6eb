import { lstatSync } from "node:fs";
import { dirname } from "node:path";
import { file, type Step } from "./host-steps.ts";
import { SHARED, type SharedTexts } from "./paths.ts";
import { isDirectory, readText, rootOnlyProblem } from "./sys-files.ts";

/*
 * The manual page and the completion scripts, where man(1) and the shells look for them. Aegis does not need them, so an
 * obstacle is reported and does not stop the installation.
 */

/** In the first lines of all of them. */
const OURS = /^(?:[^\n]*\n)?[^\n]*Made by: aegis (?:help|completion)/;

const NAMES = Object.keys(SHARED) as (keyof typeof SHARED)[];

export function sharedSteps(texts: SharedTexts): Step[] {
  return NAMES.map((name): Step => {
    const step = file(SHARED[name], texts[name]);
    return { ...step, needed: () => (sharedObstacle(SHARED[name]) === null ? step.needed() : null) };
  });
}

/** Sentences on files that are not written. Root's shells read completion scripts, so only root may be able to replace them. */
export function sharedLeftOut(): string[] {
  return NAMES.flatMap((name) => {
    const problem = sharedObstacle(SHARED[name]);
    return problem === null ? [] : [`${SHARED[name]} is not written: ${problem}`];
  });
}

/** The files that an uninstall removes. Through a link of somebody else's it would remove another file of that name. */
export function sharedFiles(): string[] {
  return Object.values(SHARED).filter((path) => sharedObstacle(path) === null);
}

/**
 * Why a file is neither written nor removed, or null: others can change its nearest existing directory, something is in the way, or it
 * is an administrator's own.
 */
export function sharedObstacle(path: string): string | null {
  if (isDirectory(path)) return `${path} is a directory`;
  if (isThere(path) && !OURS.test(readText(path) ?? "")) return `${path} is not one that Aegis wrote`;
  let directory = dirname(path);
  while (!isThere(directory)) directory = dirname(directory);
  const problem = rootOnlyProblem(directory);
  return problem === null && !isDirectory(directory) ? `${directory} is not a directory` : problem;
}

/** Whether there is anything by this name, also a link that leads nowhere. */
function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
