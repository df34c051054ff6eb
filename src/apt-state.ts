import { aptName } from "./apt-argv.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { DPKG_WARNING } from "./apt-grammar.ts";
import type { Simulation } from "./apt-simulation.ts";
import type { TransactionEntry } from "./doc-plan.ts";

/** Command that plans the repair of an interrupted dpkg. */
export const REPAIR = "aegis plan apt repair";
/** Command, followed by packages, for when a repair doesn't help. */
export const REMOVE = "aegis plan apt remove";

/** Package states in which dpkg has nothing left to do. */
export const SETTLED: readonly string[] = ["installed", "config-files"];

/**
 * Signs of an interrupted dpkg, which a simulation ignores but a real run refuses: packages in intermediate states,
 * apt's count of packages not fully installed, `Conf` lines for packages outside the transaction, dpkg's unmerged
 * updates. Packages in the transaction don't count: removing an unfinished package is a way to resolve it.
 */
export function interruptions(
  simulation: Simulation,
  transaction: readonly TransactionEntry[],
  installed: ReadonlyMap<string, DpkgPackage>,
  journal: readonly string[],
): string[] {
  const planned = new Set(transaction.map((entry) => `${entry.name}:${entry.architecture}`));
  const unsettled = [...installed].filter(([, { state }]) => !SETTLED.includes(state));
  const between = unsettled
    .filter(([name]) => !planned.has(name))
    .map(([name, { state }]) => `${name} is ${state}`);
  const foreign = simulation.foreignConfigurations
    .filter((name) => !planned.has(name))
    .map((name) => `${name} would be configured as well`);
  const own = unsettled.length - between.length;
  const count =
    simulation.unfinished <= own ? [] : [`${simulation.unfinished} not fully installed or removed`];
  const updates = journal.length > 0 ? ["dpkg has unmerged updates"] : [];
  const signs = [...between, ...foreign, ...count, ...updates];
  if (signs.length === 0) return [];
  return [
    `${DPKG_WARNING} (${signs.join("; ")}): finish it first with \`${REPAIR}\`, which runs dpkg --configure -a; its plan lists what that can't fix, and how to proceed`,
  ];
}

const UPGRADES: readonly string[] = ["upgrade", "full-upgrade"];

/**
 * Packages the operation holds back: those apt names, and for an upgrade all on hold. A held package that the
 * transaction changes anyway counts too, since apt needs permission for it.
 */
export function heldBack(
  operation: string,
  simulation: Simulation,
  installed: ReadonlyMap<string, DpkgPackage>,
  transaction: readonly TransactionEntry[],
  native: string,
): string[] {
  const changed = new Set(transaction.map((entry) => aptName(entry.name, entry.architecture, native)));
  const onHold = [...installed.values()]
    .filter(({ selection, state }) => selection === "hold" && state !== "config-files")
    .map(({ name, architecture }) => aptName(name, architecture, native))
    .filter((name) => UPGRADES.includes(operation) || changed.has(name));
  return [
    ...new Set([...simulation.keptBack, ...simulation.phased, ...simulation.heldChanged, ...onHold]),
  ].sort();
}

/** Warnings about held back packages. */
export function holdNotes(simulation: Simulation): string[] {
  const phrase = (names: readonly string[], text: string) =>
    names.length === 0 ? [] : [`${text}: ${names.join(" ")}`];
  return [
    ...phrase(simulation.heldChanged, "on hold, but would be changed"),
    ...phrase(simulation.keptBack, "kept back"),
    ...phrase(simulation.phased, "deferred by a phased update"),
  ];
}
