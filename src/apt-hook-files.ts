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
 * The hook's checks of the package files: they are the signed ones, have the expected control fields, and conflict with
 * or overwrite nothing that stays.
 */

/** Limit on text quoted from a package file, in characters. */
const QUOTED = 128;

/**
 * Replaces every .deb with a copy and compares the copy with the plan. Returns the number of files checked.
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
 * Compares each .deb's control fields with the plan. The plan's values come from the repository's index, which can lie:
 * a file listed as one package may be another, and dpkg would install it under its real name.
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
 * No .deb may conflict with or break a package present after the plan: dpkg would remove or break that package,
 * whatever the index said. With a truthful index apt's solution never contains such a pair.
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
 * No .deb may take over another package's files (Replaces) unless the plan says so: dpkg would do so silently, and
 * would remove the other package once it owns no file any more.
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
    const unplanned = takenOver(name, replaces, after).find((other) => !entry?.takes_over?.includes(other));
    if (unplanned === undefined) continue;
    throw refuse(`${name} takes over files of ${unplanned} (Replaces), which the plan does not say`);
  }
}

/** Whether a relation matches this package, by name or by a name it provides. */
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
