import { aptName } from "./apt-argv.ts";
import type { PolicyOrigin, PolicyPackage } from "./apt-policy.ts";
import type { ShownPackage, ShownPackages } from "./apt-show.ts";
import { actionOf, type Simulation, splitRelease } from "./apt-simulation.ts";
import { packagesAfter, takenOver } from "./apt-taken-over.ts";
import type { DpkgPackage } from "./dpkg-status.ts";
import {
  isFetched,
  type RepositoryEvidence,
  type SourcePackage,
  type TransactionEntry,
} from "./operation-plan.ts";

/** Everything that was read about the packages of a simulation. */
export interface PackageFacts {
  shown: ShownPackages;
  policy: ReadonlyMap<string, PolicyPackage>;
  installed: ReadonlyMap<string, DpkgPackage>;
  repositories: readonly RepositoryEvidence[];
  /** The host's own dpkg architecture. */
  native: string;
}

/** The transaction of a simulation, one entry per package, sorted by name and architecture. */
export function buildTransaction(simulation: Simulation, facts: PackageFacts): TransactionEntry[] {
  const { native, installed, shown } = facts;
  const entries = new Map<string, TransactionEntry>();
  for (const { name, architecture, from } of simulation.removals) {
    const before = findInstalled(installed, name, architecture, native);
    const real = architecture ?? before?.architecture ?? native;
    const fromSource = sourceBefore(before, shown.find(name, real, from), from);
    entries.set(`${name}:${real}`, {
      name,
      architecture: real,
      action: "remove",
      from_version: from,
      to_version: null,
      origin: null,
      archive: null,
      sha256: null,
      size: null,
      essential: before?.essential ?? false,
      source: fromSource?.name ?? null,
      from_source: fromSource,
      to_source: null,
      sources: [],
    });
  }
  for (const item of simulation.installations) {
    const { name, architecture, to } = item;
    const key = `${name}:${architecture}`;
    const details = shown.find(name, architecture, to);
    // apt may take a package away for a moment to put another version of it in.
    const from = item.from ?? entries.get(key)?.from_version ?? null;
    const before = findInstalled(installed, name, architecture, native);
    const release = item.releases[0] === undefined ? null : splitRelease(item.releases[0]);
    entries.set(key, {
      name,
      architecture,
      action: actionOf({ ...item, from }),
      from_version: from,
      to_version: to,
      origin: release?.origin ?? null,
      archive: release?.archive ?? null,
      sha256: details?.sha256 ?? null,
      size: details?.size ?? null,
      essential: details?.essential === true || before?.essential === true,
      source: details?.source.name ?? null,
      from_source: sourceBefore(before, shown.find(name, architecture, from), from),
      to_source: details?.source ?? null,
      sources: offeredBy(facts, aptName(name, architecture, native), to),
    });
  }
  return withTakenOver([...entries.values()], facts).sort(
    (a, b) => order(a.name, b.name) || order(a.architecture, b.architecture),
  );
}

function withTakenOver(entries: readonly TransactionEntry[], { installed, shown }: PackageFacts) {
  const after = packagesAfter(installed, entries);
  return entries.map((entry) => {
    const { name, architecture, to_version } = entry;
    const { replaces = [] } = shown.find(name, architecture, to_version) ?? {};
    const names = isFetched(entry) ? takenOver(name, replaces, after) : [];
    return names.length === 0 ? entry : { ...entry, takes_over: names };
  });
}

/** The source of the version that goes: dpkg knows what is installed, apt what is offered. */
function sourceBefore(
  before: DpkgPackage | undefined,
  shown: ShownPackage | undefined,
  version: string | null,
): SourcePackage | null {
  return (before !== undefined && before.version === version ? before.source : shown?.source) ?? null;
}

/** An installed package; one of architecture `all` answers to the host's own, and the other way round. */
export function findInstalled(
  installed: ReadonlyMap<string, DpkgPackage>,
  name: string,
  architecture: string | null,
  native: string,
): DpkgPackage | undefined {
  const wanted = architecture === null || architecture === "all" ? native : architecture;
  const found = installed.get(`${name}:${wanted}`);
  return found ?? (wanted === native ? installed.get(`${name}:all`) : undefined);
}

/**
 * Ids of the repositories that offer a version, in apt's order of preference. One that no configured source explains
 * stands there too, by what apt calls it, so that nobody takes the others for all there are.
 */
function offeredBy({ policy, repositories }: PackageFacts, name: string, version: string): string[] {
  const origins = policy.get(name)?.versions.get(version) ?? [];
  const ids = origins.map(
    (origin) =>
      repositories.find((r) => serves(r, origin))?.id ?? `${origin.uri} ${origin.place}`.slice(0, 1024),
  );
  return [...new Set(ids)];
}

function serves({ uri, suite, components }: RepositoryEvidence, origin: PolicyOrigin): boolean {
  if (uri !== origin.uri) return false;
  if (suite.endsWith("/")) return origin.place === suite;
  return components.some((component) => origin.place === `${suite}/${component}`);
}

/** Code unit order: the same on every host and in every locale. */
function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
