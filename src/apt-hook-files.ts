import type { DebControl } from "./apt-control.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import type { PackageFiles } from "./apt-hook-copy.ts";
import type { HookPackage } from "./apt-hook-input.ts";
import { includesVersion, namesPackage, parseRelations, type Relation } from "./apt-relation.ts";
import { packagesAfter, stayingPackages, takenOver } from "./apt-taken-over.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";
import { clip } from "./terminal.ts";

/*
 * What the hook asks of the package files themselves: that they are the signed ones, are what they are called, and exclude
 * or take over nothing that stays.
 */

/** Characters that are quoted of what a package file says of itself. */
const QUOTED = 128;

/**
 * Puts a copy in the place of every .deb and compares the copy with the plan. Returns how many were checked.
 * @throws AegisError `hook_refused`
 */
export function checkFiles(
  steps: readonly HookPackage[],
  expected: readonly TransactionEntry[],
  files: PackageFiles,
): number {
  const wanted = new Map(expected.map((entry) => [`${entry.name}:${entry.architecture}`, entry]));
  let checked = 0;
  for (const { name, architecture, file } of steps) {
    if (file === null) continue;
    const entry = wanted.get(`${name}:${architecture}`);
    if (entry === undefined || entry.size === null) throw refuse(`the plan says nothing of ${file}`);
    const { sha256, size } = files.replace(file, entry.size);
    if (sha256 !== entry.sha256) {
      throw refuse(`${file} has SHA-256 ${sha256}, the plan says ${entry.sha256 ?? "nothing"}`);
    }
    if (size !== entry.size) throw refuse(`${file} has ${size} bytes, the plan says ${entry.size}`);
    checked++;
  }
  return checked;
}

/**
 * Compares what each .deb says of itself with the plan. The plan's words come from the repository's index, and an index
 * can lie: a file listed as one package may be another, which dpkg would install under its own name.
 * @throws AegisError `hook_refused`
 */
export function checkControl(
  steps: readonly HookPackage[],
  expected: readonly TransactionEntry[],
  read: (file: string) => DebControl,
): DebControl[] {
  const controls: DebControl[] = [];
  const essential = new Set(expected.filter((e) => e.essential).map((e) => `${e.name}:${e.architecture}`));
  for (const { name, architecture, to_version, file } of steps) {
    if (file === null) continue;
    const control = read(file);
    const pairs = [
      ["Package", control.name, name],
      ["Version", control.version, to_version],
      ["Architecture", control.architecture, architecture],
    ] as const;
    for (const [field, said, planned] of pairs) {
      if (said !== planned)
        throw refuse(`${file} calls its ${field} ${clip(said, QUOTED)}, the plan says ${planned ?? "none"}`);
    }
    if (control.essential && !essential.has(`${name}:${architecture}`)) {
      throw refuse(`${file} is an essential package, which the plan does not say`);
    }
    controls.push(control);
  }
  return controls;
}

/**
 * No .deb may exclude (Conflicts, Breaks) a package that is there when the plan is done: dpkg would remove or break it,
 * whatever the repository's index said. apt's own solution never has such a pair where the index tells the truth.
 * @throws AegisError `hook_refused`
 */
export function checkExclusions(
  controls: readonly DebControl[],
  expected: readonly TransactionEntry[],
  installed: ReadonlyMap<string, DpkgPackage>,
): void {
  const staying = stayingPackages(installed, expected).map((p) => ({
    ...p,
    provides: parseRelations(p.provides) ?? [],
  }));
  const there = [...staying, ...controls];
  for (const control of controls) {
    for (const relation of control.excludes) {
      const hit = there.find((p) => p.name !== control.name && isMeant(relation, p));
      if (hit === undefined) continue;
      throw refuse(
        `${control.name} excludes ${clip(relation.name, QUOTED)}, and ${hit.name} ${hit.version} would be there: no plan says so`,
      );
    }
  }
}

/**
 * No .deb may take over files of another package (Replaces) unless the plan says so: dpkg would give them to it without a
 * word, and would take the other package away when nothing of it is left.
 * @throws AegisError `hook_refused`
 */
export function checkTakenOver(
  controls: readonly DebControl[],
  expected: readonly TransactionEntry[],
  installed: ReadonlyMap<string, DpkgPackage>,
): void {
  const after = packagesAfter(installed, expected);
  for (const { name, architecture, replaces } of controls) {
    const entry = expected.find((e) => e.name === name && e.architecture === architecture);
    const untold = takenOver(name, replaces, after).find((other) => !entry?.takes_over?.includes(other));
    if (untold === undefined) continue;
    throw refuse(`${name} takes over files of ${untold} (Replaces), which the plan does not say`);
  }
}

/** Whether a relation speaks of this package, by its own name or by one that it provides. */
function isMeant(
  relation: Relation,
  p: { name: string; version: string; architecture: string; provides: readonly Relation[] },
): boolean {
  if (relation.name === p.name) return namesPackage(relation, p);
  return p.provides.some((q) => q.name === relation.name && includesVersion(relation, q.version));
}

function refuse(why: string): AegisError {
  return new AegisError("hook_refused", why);
}
