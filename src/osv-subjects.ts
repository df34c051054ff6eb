import { sourceOf } from "./deb-source.ts";
import type { Host, SourcePackage, Tool, TransactionEntry } from "./operation-plan.ts";
import { DEB, SEMVER, type Versioning } from "./osv-range.ts";
import type { OsvAffected } from "./osv-record.ts";

/** One version of one package, in the plan's terms and in OSV's. */
export interface Subject {
  package: string;
  version: string;
  appliesTo: "old" | "new";
  /** What OSV may call the package: the source package for Debian and Ubuntu. */
  names: readonly string[];
  /** OSV's ecosystems that speak of this version, the one to be believed first. */
  ecosystems: readonly string[];
  /** The version as the ecosystem's advisories write it. */
  osvVersion: string;
}

/** An ecosystem in OSV's terms, e.g. `Debian` with the release `Debian:12`. */
export interface OsvEcosystem {
  base: string;
  release: string;
  versioning: Versioning;
}

/** OSV's name for where a plan's packages come from, or null where OSV has none. */
export function osvEcosystem(tool: Tool, host: Host): OsvEcosystem | null {
  if (tool === "npm") return { base: "npm", release: "npm", versioning: SEMVER };
  if (tool !== "apt") return null;
  if (host.os_id === "debian") {
    const major = /^\d+/.exec(host.os_version)?.[0];
    return major === undefined ? null : { base: "Debian", release: `Debian:${major}`, versioning: DEB };
  }
  const [, year, month] = (host.os_id === "ubuntu" && /^(\d\d)\.(\d\d)/.exec(host.os_version)) || [];
  if (year === undefined) return null;
  // Every second April's release has long-term support, and OSV puts that into its name.
  const lts = month === "04" && Number(year) % 2 === 0 ? ":LTS" : "";
  return { base: "Ubuntu", release: `Ubuntu:${year}.${month}${lts}`, versioning: DEB };
}

/** Every version that a transaction installs or takes away, each once. */
export function subjectsOf(transaction: readonly TransactionEntry[], ecosystem: OsvEcosystem): Subject[] {
  const subjects = new Map<string, Subject>();
  for (const entry of transaction) {
    // It is there already, and finishing it is not what brings it in.
    if (entry.action === "configure") continue;
    const sides = {
      new: { version: entry.to_version, source: entry.to_source },
      old: { version: entry.from_version, source: entry.from_source },
    };
    for (const appliesTo of ["new", "old"] as const) {
      const { version, source } = sides[appliesTo];
      const key = `${entry.name} ${version} ${appliesTo}`;
      if (version !== null && !subjects.has(key)) {
        subjects.set(key, {
          package: entry.name,
          version,
          appliesTo,
          ...inOsv(entry, version, source, ecosystem),
        });
      }
    }
  }
  return [...subjects.values()];
}

function inOsv(
  { name, source: sourceName }: TransactionEntry,
  version: string,
  known: SourcePackage | null,
  { base, release }: OsvEcosystem,
): Pick<Subject, "names" | "ecosystems" | "osvVersion"> {
  if (base === "npm") return { names: [name], ecosystems: [release], osvVersion: version };
  // Where no stanza names the source, it is taken to have the binary's version.
  const likeBinary = sourceOf(sourceName ?? name, version, undefined);
  const source = known ?? likeBinary;
  // The signed kernel is built from a source of its own, with a version of its own (6.1.192+3); advisories name the source
  // that it was signed from, whose version the binary has kept (6.1.192-3).
  const unsigned = source.name.replace(/^linux-signed(?:-(?:amd64|arm64|i386))?(?=-|$)/, "linux");
  const osvVersion = unsigned === source.name ? source.version : likeBinary.version;
  // Fixes of Ubuntu's extended maintenance stand in an ecosystem of their own; the plain one never sees them as fixed.
  const extended = base === "Ubuntu" && /[+~]esm\d/.test(osvVersion);
  return {
    names: [...new Set([source.name, unsigned])],
    ecosystems: extended ? [release.replace(":", ":Pro:"), release] : [release],
    osvVersion,
  };
}

/** The entries of a record that are about a subject: those of the first of its ecosystems for which there are any. */
export function entriesFor(affected: readonly OsvAffected[], subject: Subject): OsvAffected[] {
  const named = affected.filter(({ package: it }) => it != null && subject.names.includes(it.name));
  for (const ecosystem of subject.ecosystems) {
    const entries = named.filter(({ package: it }) => it != null && isWithin(it.ecosystem, ecosystem));
    if (entries.length > 0) return entries;
  }
  return [];
}

/** The same release, whether it is marked as LTS or not; an ecosystem without a release is about all of them. */
function isWithin(given: string, release: string): boolean {
  const plain = (text: string) => text.replace(/:LTS$/, "");
  return plain(given) === plain(release) || given === release.replace(/:.*$/, "");
}
