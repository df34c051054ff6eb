import { aptName } from "./apt-argv.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { DPKG_WARNING } from "./apt-grammar.ts";
import type { Simulation } from "./apt-simulation.ts";
import type { TransactionEntry } from "./doc-plan.ts";

/** What plans the repair of an interrupted dpkg. */
export const REPAIR = "aegis plan apt repair";
/** What plans the way out where a repair can't help: followed by the packages. */
export const REMOVE = "aegis plan apt remove";

/** States of a package that dpkg has nothing left to do for. */
export const SETTLED: readonly string[] = ["installed", "config-files"];

/**
 * Signs of an interrupted dpkg, which a simulation passes over and a real run refuses: packages in a state between, apt
 * counting some as not fully installed, `Conf` lines of packages that are not in the transaction, dpkg's unmerged updates.
 * What the transaction itself is about does not stand in its way: to remove a half-done package is how to be rid of it.
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
    `${DPKG_WARNING} (${signs.join("; ")}): finish it first with \`${REPAIR}\`, which runs dpkg --configure -a; its plan says what that can't mend, and the way out`,
  ];
}

/**
 * What the operation holds back: named so by apt, and for an upgrade whatever dpkg has on hold. A package on hold that the
 * transaction changes all the same counts too, since apt wants a permission for it.
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
    .filter((name) => operation === "upgrade" || changed.has(name));
  return [
    ...new Set([...simulation.keptBack, ...simulation.phased, ...simulation.heldChanged, ...onHold]),
  ].sort();
}
