import { aptName, exactTarget } from "./apt-argv.ts";
import type { ShownPackages } from "./apt-cache.ts";
import type { Simulation } from "./apt-simulation.ts";
import { type AptTarget, formatAptTarget, parseAptTarget } from "./apt-target.ts";
import { findInstalled, type PackageFacts } from "./apt-transaction.ts";
import type { CommandEvidence, ProvenanceEvidence, TransactionEntry } from "./doc-plan.ts";
import type { PlanningOutput } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";

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
function resolveRequested(
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
function resolveRemovals(
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

/** What an operation asks apt for, once its targets are known to be packages. */
export interface Wish {
  /** How apt-get is asked, without the packages; null where nothing is left to ask for. */
  verb: readonly string[] | null;
  /** `name[:arch][=version]`, or `name[:arch]` to be removed. */
  packages: readonly string[];
  /** Evidence of why it is asked for. */
  evidence: ProvenanceEvidence[];
  commands: CommandEvidence[];
  /** Why it can't be asked for, one sentence each. With one, there is no plan. */
  problems: string[];
  warnings: string[];
}

/** A wish for packages that somebody has named. */
export function wishFor(verb: readonly string[], packages: readonly string[]): Wish {
  return { verb, packages, evidence: [], commands: [], problems: [], warnings: [] };
}

/** Ties each package that was asked for to what apt makes of it. */
export function resolveWish(
  { verb, packages }: Wish,
  transaction: readonly TransactionEntry[],
  simulation: Simulation,
  facts: PackageFacts,
): Requested {
  switch (verb?.[0]) {
    case "install":
      return resolveRequested(packages, transaction, simulation, facts);
    case "remove":
      return resolveRemovals(packages, transaction, facts);
    default:
      return { exact: [], chosen: [], problems: [], warnings: [] };
  }
}

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
