import { aptName, exactTarget } from "./apt-argv.ts";
import type { ShownPackages } from "./apt-cache.ts";
import type { FoundKept } from "./apt-kept.ts";
import type { Simulation } from "./apt-simulation.ts";
import { type AptTarget, formatAptTarget, parseAptTarget } from "./apt-target.ts";
import { findInstalled, type PackageFacts } from "./apt-transaction.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { CommandEvidence, ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { PlanningOutput } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";

/** How apt's transaction satisfies the requested targets. */
export interface Requested {
  /** `name[:arch]=version` of each target the transaction installs. */
  exact: string[];
  /** The transaction entries of `exact`. */
  chosen: TransactionEntry[];
  /** Why a target can't be pinned, one sentence each. If there are any, there is no plan. */
  problems: string[];
  warnings: string[];
}

/**
 * Maps each target to the package apt chose. apt treats an unknown name as a pattern (`libc.` matches thousands of
 * packages), so only exactly that name counts, installed by the transaction or already present.
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
 * Maps each target of a removal to the package apt would remove. Again apt treats an unknown name as a pattern, so only
 * exactly that name counts.
 */
function resolveRemovals(
  targets: readonly string[],
  transaction: readonly TransactionEntry[],
  { installed, native }: PackageFacts,
  isPurge: boolean,
): Requested {
  const result: Requested = { exact: [], chosen: [], problems: [], warnings: [] };
  for (const target of targets.map(parseAptTarget)) {
    const { name, architecture } = target;
    const text = formatAptTarget(target);
    const matches = (found: { name: string; architecture: string }) =>
      found.name === name &&
      (architecture === null || architecture === native
        ? [native, "all"].includes(found.architecture)
        : found.architecture === architecture);
    const entry = transaction.find((e) => e.action === "remove" && matches(e));
    if (entry !== undefined) {
      if (result.chosen.includes(entry)) continue;
      result.chosen.push(entry);
      result.exact.push(architecture === null ? aptName(name, entry.architecture, native) : text);
    } else if ([...installed.values()].some((p) => matches(p) && (isPurge || p.state !== "config-files"))) {
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

/** The entry that installs a target: of the requested architecture, else the host's, else the only one. */
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

/** The installed package of a target's name; without an architecture, a foreign one if there is no other. */
function presentFor({ name, architecture }: AptTarget, { installed, native }: PackageFacts) {
  const own = findInstalled(installed, name, architecture, native);
  const any = architecture === null ? [...installed.values()].filter((p) => p.name === name) : [];
  return [own, ...any].find((found) => found?.state === "installed");
}

/**
 * Resolves a virtual package to the only package in the transaction that provides it, or to the one apt says is already
 * installed.
 */
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

/** What an operation requests from apt, once its targets are known to be packages. */
export interface PackageRequest {
  /** apt-get's operation and options; null if nothing is left to request. */
  verb: readonly string[] | null;
  /** `name[:arch][=version]`, or `name[:arch]` for a removal. */
  packages: readonly string[];
  /** Package files that it needs and that no source offers. */
  kept?: readonly FoundKept[];
  /** Evidence for the request. */
  evidence: ProvenanceEvidence[];
  commands: CommandEvidence[];
  /** Why it can't be requested, one sentence each. If there are any, there is no plan. */
  problems: string[];
  warnings: string[];
}

/** A request for packages named by the user. */
export function requestFor(verb: readonly string[], packages: readonly string[]): PackageRequest {
  return { verb, packages, evidence: [], commands: [], problems: [], warnings: [] };
}

/** Maps each requested package to apt's transaction. */
export function resolveRequest(
  { verb, packages }: PackageRequest,
  transaction: readonly TransactionEntry[],
  simulation: Simulation,
  facts: PackageFacts,
): Requested {
  switch (verb?.[0]) {
    case "install":
      return resolveRequested(packages, transaction, simulation, facts);
    case "remove":
    case "purge":
      return resolveRemovals(packages, transaction, facts, verb[0] === "purge");
    default:
      return { exact: [], chosen: [], problems: [], warnings: [] };
  }
}

/** apt's errors for a name not in any list, and then for the name as a pattern. */
const UNLOCATED = /^E: Unable to locate package (\S+)$/;
const NO_PATTERN = /^E: Couldn't find any package by (?:glob|regex|task) '(\S+)'$/;

/**
 * Refuses names unknown to apt: a typo, or its lists are old, and a plan would be useless. Only if apt reports no other
 * error; any other failure goes into the plan, for policy to deny.
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
    `apt doesn't know the package ${names.join(", ")}`,
    `Check the spelling: apt-cache search ${names[0]}. Or refresh apt's package lists first: aegis plan apt update`,
    { packages: names },
  );
}
