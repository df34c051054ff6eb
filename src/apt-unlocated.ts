import type { PlanningOutput } from "./ecosystem.ts";
import { AegisError } from "./errors.ts";

/** What apt says of a name that none of its lists has, and then of the name taken as a pattern. */
const UNLOCATED = /^E: Unable to locate package (\S+)$/;
const NO_PATTERN = /^E: Couldn't find any package by (?:glob|regex|task) '(\S+)'$/;

/**
 * A name that apt has never heard of is a slip, or its lists are old: then nobody wants a plan. Only where that is all
 * apt complains of; any other failure is part of a plan, for policy to deny.
 * @throws AegisError `not_found`
 */
export function refuseUnlocated({ evidence, stderr }: PlanningOutput, targets: readonly string[]): void {
  if (evidence.outcome !== "failed") return;
  const asked = new Set(targets.map((target) => target.replace(/=.*$/s, "")));
  const unlocated = new Set<string>();
  for (const line of stderr.split("\n")) {
    if (!line.startsWith("E: ")) continue;
    const name = UNLOCATED.exec(line)?.[1];
    const known = name ?? NO_PATTERN.exec(line)?.[1];
    if (known === undefined || !asked.has(known)) return;
    if (name !== undefined) unlocated.add(name);
  }
  if (unlocated.size === 0) return;
  const names = [...unlocated];
  throw new AegisError(
    "not_found",
    `apt knows no package ${names.join(", ")}`,
    `Check the spelling: apt-cache search ${names[0]}. Or refresh apt's package lists first: aegis plan apt update`,
    { packages: names },
  );
}
