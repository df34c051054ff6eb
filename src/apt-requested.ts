import { aptName, exactTarget } from "./apt-argv.ts";
import type { ShownPackages } from "./apt-show.ts";
import type { Simulation } from "./apt-simulation.ts";
import { type AptTarget, formatAptTarget, parseAptTarget } from "./apt-target.ts";
import { findInstalled, type PackageFacts } from "./apt-transaction.ts";
import type { TransactionEntry } from "./operation-plan.ts";

/** What became of the requested targets. */
export interface Requested {
  /** `name[:arch]=version` of each target that the transaction installs. */
  exact: string[];
  /** The entries behind `exact`. */
  chosen: TransactionEntry[];
  /** Why a target can't be pinned, one sentence each. With one, there is no plan. */
  problems: string[];
  warnings: string[];
}

/**
 * Ties each target to the package that apt chose. apt takes a name it doesn't know as a pattern (`libc.` matches
 * thousands of packages), so a target counts only where the very name is installed by the transaction or already there.
 */
export function resolveRequested(
  targets: readonly string[],
  transaction: readonly TransactionEntry[],
  simulation: Simulation,
  facts: PackageFacts,
): Requested {
  const result: Requested = { exact: [], chosen: [], problems: [], warnings: [] };
  const wanted = targets.map(parseAptTarget);
  for (const target of wanted) {
    const entry = chosenFor(target, transaction, facts.native);
    if (entry !== undefined) {
      if (target.version !== null && target.version !== entry.to_version) {
        result.problems.push(`${formatAptTarget(target)}: apt would install version ${entry.to_version}`);
      } else choose(result, entry, target.architecture, facts.native);
      continue;
    }
    const present = presentFor(target, facts);
    if (present !== undefined) {
      const leaves = transaction.some(
        (e) => e.name === target.name && e.architecture === present.architecture,
      );
      if (leaves) result.problems.push(`${formatAptTarget(target)}: apt would remove it`);
      else if (target.version !== null && target.version !== present.version) {
        result.problems.push(`${formatAptTarget(target)}: apt would leave version ${present.version}`);
      }
      continue;
    }
    resolveVirtual(target, wanted, transaction, simulation, facts, result);
  }
  return result;
}

/**
 * Ties each target of a removal to the package that apt would remove. Here too apt takes an unknown name as a pattern, so
 * only the very name counts.
 */
export function resolveRemovals(
  targets: readonly string[],
  transaction: readonly TransactionEntry[],
  { installed, native }: PackageFacts,
): Requested {
  const result: Requested = { exact: [], chosen: [], problems: [], warnings: [] };
  for (const target of targets.map(parseAptTarget)) {
    const { name, architecture } = target;
    const text = formatAptTarget(target);
    const isMeant = (found: { name: string; architecture: string }) =>
      found.name === name &&
      (architecture === null || architecture === native
        ? [native, "all"].includes(found.architecture)
        : found.architecture === architecture);
    const entry = transaction.find((e) => e.action === "remove" && isMeant(e));
    if (entry !== undefined) {
      if (result.chosen.includes(entry)) continue;
      result.chosen.push(entry);
      result.exact.push(architecture === null ? aptName(name, entry.architecture, native) : text);
    } else if ([...installed.values()].some((p) => isMeant(p) && p.state !== "config-files")) {
      result.problems.push(`${text}: apt would leave it installed`);
    } else if (transaction.length > 0) {
      result.problems.push(`${text}: no package of exactly this name is installed; leave it out`);
    } else result.warnings.push(`${text} is not installed`);
  }
  return result;
}

function choose(result: Requested, entry: TransactionEntry, asked: string | null, native: string): void {
  if (result.chosen.includes(entry)) return;
  result.chosen.push(entry);
  result.exact.push(exactTarget(entry, asked, native));
}

/** The entry that installs a target: its architecture where one was named, else the host's own, else the only one. */
function chosenFor(target: AptTarget, transaction: readonly TransactionEntry[], native: string) {
  const named = transaction.filter((e) => e.name === target.name && e.action !== "remove");
  const own = (e: TransactionEntry) => e.architecture === native || e.architecture === "all";
  if (target.architecture === null || target.architecture === native) {
    const entry = named.find(own);
    if (entry !== undefined || target.architecture !== null) return entry;
    return named.length === 1 ? named[0] : undefined;
  }
  return named.find((e) => e.architecture === target.architecture);
}

/** What is installed under a target's name; without an architecture a foreign one will do, where there is no other. */
function presentFor({ name, architecture }: AptTarget, { installed, native }: PackageFacts) {
  const own = findInstalled(installed, name, architecture, native);
  const any = architecture === null ? [...installed.values()].filter((p) => p.name === name) : [];
  return [own, ...any].find((found) => found?.state === "installed");
}

/** A virtual package: the one package of the transaction that provides it, or the one that apt says is there already. */
function resolveVirtual(
  target: AptTarget,
  wanted: readonly AptTarget[],
  transaction: readonly TransactionEntry[],
  simulation: Simulation,
  facts: PackageFacts,
  result: Requested,
): void {
  const text = formatAptTarget(target);
  const providers =
    target.version === null
      ? transaction.filter((entry) => entry.action !== "remove" && provides(facts.shown, entry, target.name))
      : [];
  const [provider] = providers;
  if (provider !== undefined && providers.length === 1) {
    choose(result, provider, null, facts.native);
    result.warnings.push(`${text} is a virtual package; apt chose ${provider.name} for it`);
    return;
  }
  const newest = [...simulation.alreadyNewest.keys()].filter((name) => !wanted.some((w) => name === w.name));
  if (target.version === null && transaction.length === 0 && newest.length === 1) {
    result.warnings.push(`${text} is a virtual package that ${newest[0]} provides already`);
    return;
  }
  result.problems.push(`${text}: no package of exactly this name is known to apt; name a real package`);
}

function provides(shown: ShownPackages, entry: TransactionEntry, name: string): boolean {
  return shown.find(entry.name, entry.architecture, entry.to_version)?.provides.includes(name) === true;
}
