import { sourcePackageOf } from "./apt-source-version.ts";
import { compareDebVersions, isDebVersion } from "./apt-target.ts";
import type { Host, SourcePackage } from "./doc-plan.ts";
import type { OsvEcosystem, OsvName } from "./eco-grammar.ts";

/* Debian and Ubuntu packages in OSV's terms. Both use source packages and source versions. */

const versioning = { isVersion: isDebVersion, compare: compareDebVersions };

/** OSV's ecosystem for a distribution; null if OSV has no records for it. */
export function aptOsv(host: Pick<Host, "os_id" | "os_version">): OsvEcosystem | null {
  if (host.os_id === "debian") {
    const major = /^\d+/.exec(host.os_version)?.[0];
    return major === undefined ? null : ecosystem("Debian", `Debian:${major}`);
  }
  const [, year, month] = (host.os_id === "ubuntu" && /^(\d\d)\.(\d\d)/.exec(host.os_version)) || [];
  if (year === undefined) return null;
  // April releases of even years are LTS, which is part of OSV's name.
  const lts = month === "04" && Number(year) % 2 === 0 ? ":LTS" : "";
  return ecosystem("Ubuntu", `Ubuntu:${year}.${month}${lts}`);
}

function ecosystem(base: string, release: string): OsvEcosystem {
  return {
    base,
    // Binary packages have package URLs of their own.
    purl: `deb/${base.toLowerCase()}`,
    purlQualifier: "arch=source",
    versioning,
    nameOf(entry, version, side) {
      const stated = side === "new" ? entry.to_source : entry.from_source;
      // Without a stanza, assume the source has the binary's version.
      const likeBinary = sourcePackageOf(entry.source ?? entry.name, version, undefined);
      return nameOf(stated ?? likeBinary, likeBinary, base, release);
    },
  };
}

function nameOf(source: SourcePackage, likeBinary: SourcePackage, base: string, release: string): OsvName {
  // The signed kernel has its own source package and version (6.1.192+3); advisories name the source it was signed
  // from, whose version the binary has kept (6.1.192-3).
  const unsigned = source.name.replace(/^linux-signed(?:-(?:amd64|arm64|i386))?(?=-|$)/, "linux");
  const osvVersion = unsigned === source.name ? source.version : likeBinary.version;
  // Fixes from Ubuntu's extended maintenance are in a separate ecosystem; in the plain one they stay unfixed.
  const extended = base === "Ubuntu" && /[+~]esm\d/.test(osvVersion);
  return {
    names: [...new Set([source.name, unsigned])],
    ecosystems: extended ? [release.replace(":", ":Pro:"), release] : [release],
    osvVersion,
  };
}
