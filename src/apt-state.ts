import { aptName } from "./apt-argv.ts";
import type { Simulation } from "./apt-simulation.ts";
import type { DpkgPackage } from "./dpkg-status.ts";
import type { TransactionEntry } from "./operation-plan.ts";

/** What plans the repair of an interrupted dpkg. */
export const REPAIR = "aegis plan apt repair";

/** States of a package that dpkg has nothing left to do for. */
const SETTLED: readonly string[] = ["installed", "config-files"];

/**
 * Signs of an interrupted dpkg, which a simulation passes over and a real run refuses: packages in a state between, apt
 * counting some as not fully installed, `Conf` lines of packages that are not in the transaction, dpkg's unmerged updates.
 */
export function interruptions(
  simulation: Simulation,
  installed: ReadonlyMap<string, DpkgPackage>,
  journal: readonly string[],
): string[] {
  const between = [...installed]
    .filter(([, { state }]) => !SETTLED.includes(state))
    .map(([name, { state }]) => `${name} is ${state}`);
  const foreign = simulation.foreignConfigurations.map((name) => `${name} would be configured as well`);
  const count =
    simulation.unfinished === 0 ? [] : [`${simulation.unfinished} not fully installed or removed`];
  const updates = journal.length > 0 ? ["dpkg has unmerged updates"] : [];
  const signs = [...between, ...foreign, ...count, ...updates];
  if (signs.length === 0) return [];
  return [
    `dpkg was interrupted earlier (${signs.join("; ")}): finish it first with \`${REPAIR}\`, which runs dpkg --configure -a`,
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
