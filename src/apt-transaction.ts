import { aptName, batches } from "./apt-argv.ts";
import { type PolicyOrigin, type PolicyPackage, type ShownPackage, ShownPackages } from "./apt-cache.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import type { FoundKept } from "./apt-kept.ts";
import { aptSettings } from "./apt-planning.ts";
import { actionOf, type Simulation, splitRelease } from "./apt-simulation.ts";
import type { AptSource } from "./apt-source.ts";
import { packagesAfter, takenOver } from "./apt-taken-over.ts";
import { byCodeUnit } from "./canonical.ts";
import { isFetched, type SourcePackage, type TransactionEntry } from "./doc-plan.ts";
import type { CommandEvidence, ProvenanceEvidence, RepositoryEvidence } from "./doc-plan-evidence.ts";
import type { Planning } from "./eco-planning.ts";
import { SYSTEM } from "./paths.ts";

/** Data about the packages of a simulation. */
export interface PackageFacts {
  shown: ShownPackages;
  policy: ReadonlyMap<string, PolicyPackage>;
  installed: ReadonlyMap<string, DpkgPackage>;
  repositories: readonly RepositoryEvidence[];
  /** The host's dpkg architecture. */
  native: string;
  /** Files that Aegis kept, which apt is given beside its sources. */
  kept: readonly FoundKept[];
}

/** The transaction of a simulation, one entry per package, sorted by name and architecture. */
export function buildTransaction(simulation: Simulation, facts: PackageFacts): TransactionEntry[] {
  const { native, installed, shown } = facts;
  const entries = new Map<string, TransactionEntry>();
  for (const { name, architecture, from } of simulation.removals) {
    const before = findInstalled(installed, name, architecture, native);
    const real = architecture ?? before?.architecture ?? native;
    const version = from ?? before?.version ?? null;
    const fromSource = sourceBefore(before, shown.find(name, real, version), version);
    entries.set(`${name}:${real}`, {
      name,
      architecture: real,
      action: "remove",
      from_version: version,
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
    // apt may remove a package temporarily before installing another version.
    const from = item.from ?? entries.get(key)?.from_version ?? null;
    const before = findInstalled(installed, name, architecture, native);
    const release = item.releases[0] === undefined ? null : splitRelease(item.releases[0]);
    const kept = facts.kept.find(
      (f) => f.name === name && f.architecture === architecture && f.version === to,
    );
    entries.set(key, {
      name,
      architecture,
      action: actionOf({ ...item, from }),
      from_version: from,
      to_version: to,
      origin: kept === undefined ? (release?.origin ?? null) : SYSTEM.kept,
      archive: release?.archive ?? null,
      // apt knows no digest of a file that it is given.
      sha256: kept?.sha256 ?? details?.sha256 ?? null,
      size: kept?.size ?? details?.size ?? null,
      essential: details?.essential === true || before?.essential === true,
      source: details?.source.name ?? null,
      from_source: sourceBefore(before, shown.find(name, architecture, from), from),
      to_source: details?.source ?? null,
      sources: kept === undefined ? offeredBy(facts, aptName(name, architecture, native), to) : [SYSTEM.kept],
    });
  }
  return withTakenOver([...entries.values()], facts).sort(
    (a, b) => byCodeUnit(a.name, b.name) || byCodeUnit(a.architecture, b.architecture),
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

/** The old version's source package: from dpkg if installed, else from apt. */
function sourceBefore(
  before: DpkgPackage | undefined,
  shown: ShownPackage | undefined,
  version: string | null,
): SourcePackage | null {
  return (before !== undefined && before.version === version ? before.source : shown?.source) ?? null;
}

/** Looks up an installed package; `all` and the host's architecture are interchangeable. */
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
 * Ids of the repositories offering a version, in apt's order of preference. A repository not among the configured
 * sources is included under apt's name for it, so that the list is complete.
 */
function offeredBy({ policy, repositories }: PackageFacts, name: string, version: string): string[] {
  const origins = policy.get(name)?.versions.get(version) ?? [];
  const ids = origins.map(
    (origin) =>
      repositories.find((r) => serves(r, origin))?.id ?? `${origin.uri} ${origin.place}`.slice(0, 1024),
  );
  return [...new Set(ids)];
}

/** Whether a line of a version table is of this source. */
export function serves({ uri, suite, components }: RepositoryEvidence, origin: PolicyOrigin): boolean {
  if (uri !== origin.uri) return false;
  if (suite.endsWith("/")) return origin.place === suite;
  return components.some((component) => origin.place === `${suite}/${component}`);
}

/** Kind of the provenance evidence that policy denies. */
const KIND = "apt-source-conflict";

/**
 * Finds versions that several sources offer with different contents. apt silently uses the first source (some versions
 * warn), so each is queried alone, with a source list of its own. Sources signed by the distribution itself can't
 * differ and are skipped.
 */
export async function findSourceConflicts(
  entries: readonly TransactionEntry[],
  sources: readonly AptSource[],
  repositories: readonly RepositoryEvidence[],
  planning: Planning,
  config: string,
): Promise<{ conflicts: ProvenanceEvidence[]; commands: CommandEvidence[] }> {
  const own = new Set(
    repositories.filter((r) => r.trust === "distribution" || r.trust === "snapshot").map((r) => r.id),
  );
  const suspects = entries.filter((e) => e.sources.length > 1 && !e.sources.every((id) => own.has(id)));
  const asked = sources.filter((source) => suspects.some((e) => e.sources.includes(source.id)));
  const answers = await Promise.all(
    asked.map(async (source) => {
      const list = planning.temporary("one-source.sources", oneSource(source));
      const names = suspects
        .filter((e) => e.sources.includes(source.id))
        .map((e) => `${aptName(e.name, e.architecture, planning.host.architecture)}=${e.to_version}`);
      const outputs = await Promise.all(
        batches(names).map((some) =>
          planning.run(["apt-cache", "show", ...some], { settings: aptSettings(config + only(list)) }),
        ),
      );
      return { id: source.id, shown: new ShownPackages(outputs.map((o) => o.stdout).join("\n")), outputs };
    }),
  );
  const conflicts = suspects.flatMap((entry) => {
    const hashes = entry.sources.map((id) => {
      const shown = answers.find((answer) => answer.id === id)?.shown;
      return { id, hash: shown?.find(entry.name, entry.architecture, entry.to_version)?.sha256 ?? null };
    });
    // The plan's hash is the one to be signed.
    if (entry.sha256 !== null && hashes.every(({ hash }) => hash === entry.sha256)) return [];
    return conflictOf(entry, hashes.map(({ id, hash }) => `${id}: ${hash ?? "unknown"}`).join("; "));
  });
  return { conflicts, commands: answers.flatMap(({ outputs }) => outputs.map(({ evidence }) => evidence)) };
}

/** Conflicts that apt itself reports while building its cache. */
export function warnedConflicts(stderr: string, entries: readonly TransactionEntry[]): ProvenanceEvidence[] {
  const pattern = /Sources disagree on hashes for supposedly identical version '([^'\n]+)' of '([^'\n]+)'/g;
  const warned = [...stderr.matchAll(pattern)].map(
    ([, version, name]) => `${name?.split(":")[0]}=${version}`,
  );
  return entries
    .filter((entry) => warned.includes(`${entry.name}=${entry.to_version}`))
    .map((entry) => conflictOf(entry, "apt: sources disagree on the hashes of this version"));
}

function conflictOf(entry: TransactionEntry, detail: string): ProvenanceEvidence {
  const subject = `${entry.name}:${entry.architecture}=${entry.to_version}`;
  return { kind: KIND, subject, verified: false, key: null, detail };
}

/** One-line options → stanza fields. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  arch: "Architectures",
  "arch+": "Architectures-Add",
  "arch-": "Architectures-Remove",
};

/** A source alone as a `.sources` file: unlike in a line, apt decodes nothing in a stanza. */
export function oneSource({ uri, suite, components, architectures }: AptSource): string {
  const options = architectures.map((option) => {
    const equals = option.indexOf("=");
    return [ARCHITECTURES[option.slice(0, equals)] ?? "", option.slice(equals + 1).replaceAll(",", " ")];
  });
  return [
    ["Types", "deb"],
    ["URIs", `${uri}/`],
    ["Suites", suite],
    ...(components.length === 0 ? [] : [["Components", components.join(" ")]]),
    ...options,
  ]
    .map(([name, value]) => `${name}: ${value}\n`)
    .join("");
}

/** Configuration for a call that sees only `list`. The binary caches belong to the full list, so they are disabled. */
function only(list: string): string {
  return [
    `Dir::Etc::sourcelist "${list}";`,
    'Dir::Etc::sourceparts "-";',
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
    "",
  ].join("\n");
}
