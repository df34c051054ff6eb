import { sourcePackageOf } from "./apt-source-version.ts";
import { compareDebVersions, isDebVersion } from "./apt-target.ts";
import type { Host, SourcePackage } from "./doc-plan.ts";
import type { OsvEcosystem, OsvName } from "./eco-grammar.ts";

/*
 * Debian's and Ubuntu's packages in OSV's terms. Both count in source packages and source versions.
 */

const versioning = { isVersion: isDebVersion, compare: compareDebVersions };

/** OSV's ecosystem of a distribution's own packages; null for a distribution that OSV has no records of. */
export function aptOsv(host: Host): OsvEcosystem | null {
  if (host.os_id === "debian") {
    const major = /^\d+/.exec(host.os_version)?.[0];
    return major === undefined ? null : ecosystem("Debian", `Debian:${major}`);
  }
  const [, year, month] = (host.os_id === "ubuntu" && /^(\d\d)\.(\d\d)/.exec(host.os_version)) || [];
  if (year === undefined) return null;
  // Every second April's release has long-term support, and OSV puts that into its name.
  const lts = month === "04" && Number(year) % 2 === 0 ? ":LTS" : "";
  return ecosystem("Ubuntu", `Ubuntu:${year}.${month}${lts}`);
}

function ecosystem(base: string, release: string): OsvEcosystem {
  return {
    base,
    versioning,
    nameOf(entry, version, side) {
      const stated = side === "new" ? entry.to_source : entry.from_source;
      // Where no stanza names the source, it is taken to have the binary's version.
      const likeBinary = sourcePackageOf(entry.source ?? entry.name, version, undefined);
      return nameOf(stated ?? likeBinary, likeBinary, base, release);
    },
  };
}

function nameOf(source: SourcePackage, likeBinary: SourcePackage, base: string, release: string): OsvName {
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
