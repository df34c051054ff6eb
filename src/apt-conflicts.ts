import { aptName, batches } from "./apt-argv.ts";
import { aptSettings } from "./apt-planning.ts";
import { ShownPackages } from "./apt-show.ts";
import type { AptSource } from "./apt-source.ts";
import type { Planning } from "./ecosystem.ts";
import type {
  CommandEvidence,
  ProvenanceEvidence,
  RepositoryEvidence,
  TransactionEntry,
} from "./operation-plan.ts";

/** Kind of the provenance entry that policy denies on. */
const KIND = "apt-source-conflict";

/**
 * Finds versions that several sources offer with different bytes. apt takes the first source's without a word (some
 * versions warn), so each source is asked alone: apt-cache with a source list that holds nothing else. Sources that the
 * distribution signed itself can't differ and are not asked.
 */
export async function findSourceConflicts(
  entries: readonly TransactionEntry[],
  sources: readonly AptSource[],
  repositories: readonly RepositoryEvidence[],
  planning: Planning,
  config: string,
): Promise<{ conflicts: ProvenanceEvidence[]; commands: CommandEvidence[] }> {
  const own = new Set(repositories.filter((r) => r.trust === "distribution").map((r) => r.id));
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
    // The plan's own hash is what would be signed.
    if (entry.sha256 !== null && hashes.every(({ hash }) => hash === entry.sha256)) return [];
    return conflictOf(entry, hashes.map(({ id, hash }) => `${id}: ${hash ?? "unknown"}`).join("; "));
  });
  return { conflicts, commands: answers.flatMap(({ outputs }) => outputs.map(({ evidence }) => evidence)) };
}

/** Conflicts that apt itself warns of while it builds its cache. */
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

/** Names that a stanza has for options of a line. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  arch: "Architectures",
  "arch+": "Architectures-Add",
  "arch-": "Architectures-Remove",
};

/** A source alone, as a file `.sources`: unlike a line, a stanza has nothing decoded by apt. */
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

/** Configuration for one call that sees `list` alone. The binary caches belong to the full list, so they are off. */
function only(list: string): string {
  return [
    `Dir::Etc::sourcelist "${list}";`,
    'Dir::Etc::sourceparts "-";',
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
    "",
  ].join("\n");
}
