import { gunzipSync } from "node:zlib";
import { readStanzas } from "./apt-deb822.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { splitClearSigned } from "./apt-release.ts";
import { indexUrl, type RepositoryAccess } from "./apt-repository-fetch.ts";
import type { AptSource } from "./apt-source.ts";
import { compareDebVersions, isDebVersion } from "./apt-target.ts";
import { byCodeUnit, sha256Hex } from "./canonical.ts";
import type { RepositoryOffer } from "./doc-repository.ts";
import { AegisError } from "./errors.ts";

/*
 * What a new repository offers in place of installed packages: the next upgrade would take it. For people only, since an index changes
 * from day to day.
 */

/** Of a compressed index, and of what comes out of it. */
const MAX_INDEX = 8 << 20;
const MAX_TEXT = 64 << 20;
const MAX_OFFERED = 200;

/**
 * The offers of a source whose signature was verified, from its indexes of packages. Null where one can't be read, or where apt could
 * read another: its author must not show the plan less than what apt will find.
 */
export async function offerOf(
  source: AptSource,
  index: string,
  installed: ReadonlyMap<string, DpkgPackage>,
  native: string,
  access: RepositoryAccess,
): Promise<RepositoryOffer | null> {
  const release = readStanzas(splitClearSigned(index)?.text ?? index).stanzas[0];
  if (release === undefined) return null;
  const isYes = (field: string) => release.get(field)?.toLowerCase() === "yes";
  const listed = filesIn(release.get("sha256") ?? "");
  // apt reads both (debReleaseIndex::GetIndexTargets, apt-pkg/deb/debmetaindex.cc).
  const isListed = (directory: string) => [...listed.keys()].some((path) => path.startsWith(directory));
  const directories = source.suite.endsWith("/")
    ? [""]
    : source.components.flatMap((part) => [
        `${part}/binary-${native}/`,
        ...[`${part}/binary-all/`].filter(isListed),
      ]);
  const newer = new Map<string, { package: string; from: string; to: string }>();
  let packages = 0;
  for (const directory of directories) {
    const text = await textOf(source, directory, listed, isYes("acquire-by-hash"), access);
    if (text === null) return null;
    const found = packagesIn(text);
    if (found === null) return null;
    for (const { name, version } of found) {
      packages++;
      const own = installed.get(`${name}:${native}`) ?? installed.get(`${name}:all`);
      if (own === undefined || own.state === "config-files" || !isDebVersion(version)) continue;
      const before = newer.get(name)?.to ?? own.version;
      if (compareDebVersions(version, before) > 0)
        newer.set(name, { package: name, from: own.version, to: version });
    }
  }
  const sorted = [...newer.values()].sort((a, b) => byCodeUnit(a.package, b.package));
  return {
    source: source.id.slice(0, 1024),
    packages,
    // apt_preferences(5): 1 for these, 100 where upgrades are wanted all the same.
    automatic: !isYes("notautomatic") || isYes("butautomaticupgrades"),
    newer: sorted.slice(0, MAX_OFFERED),
    newer_left_out: Math.max(0, sorted.length - MAX_OFFERED),
  };
}

interface Listed {
  hex: string;
  size: number;
}

/** The files that a Release lists: path → digest and size. */
function filesIn(field: string): Map<string, Listed> {
  return new Map(
    field.split("\n").flatMap((line): [string, Listed][] => {
      const [, hex, size, path] = /^([0-9a-f]{64}) +(\d{1,12}) +(\S+)$/.exec(line) ?? [];
      return hex === undefined || path === undefined ? [] : [[path, { hex, size: Number(size) }]];
    }),
  );
}

/**
 * An index of packages, if it is the signed one and not too large. apt may fetch another of its compressed files, and checks what
 * comes out of it against the uncompressed file's digest: so that one has to be listed, and is compared here too.
 */
async function textOf(
  source: AptSource,
  directory: string,
  listed: ReadonlyMap<string, Listed>,
  isByHash: boolean,
  access: RepositoryAccess,
): Promise<string | null> {
  const plain = listed.get(`${directory}Packages`);
  if (plain === undefined) return null;
  for (const name of ["Packages.gz", "Packages"]) {
    const known = listed.get(`${directory}${name}`);
    if (known === undefined || known.size > MAX_INDEX) continue;
    const path = isByHash ? `${directory}by-hash/SHA256/${known.hex}` : `${directory}${name}`;
    try {
      const bytes = await access.get(indexUrl(source, path), MAX_INDEX);
      if (bytes === null || sha256Hex(bytes) !== known.hex) continue;
      const text = name === "Packages" ? bytes : gunzipSync(bytes, { maxOutputLength: MAX_TEXT });
      if (sha256Hex(text) === plain.hex) return new TextDecoder().decode(text);
    } catch (error) {
      // A server that gives out, or a file that is no gzip: then nothing is known.
      if (!(error instanceof AegisError) && !(error instanceof RangeError) && !isZlibError(error))
        throw error;
    }
  }
  return null;
}

function isZlibError(error: unknown): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith("Z_");
}

/** Name and version of each stanza; null for a text that apt could read differently. */
function packagesIn(text: string): { name: string; version: string }[] | null {
  const found: { name: string; version: string }[] = [];
  // One at a time: the fields of all together would take many times the memory of the text.
  for (const one of text.split("\n\n")) {
    const { stanzas, problem } = readStanzas(one);
    if (problem !== null) return null;
    for (const stanza of stanzas) {
      const [name, version] = [stanza.get("package"), stanza.get("version")];
      if (name === undefined || version === undefined) return null;
      found.push({ name, version });
    }
  }
  return found;
}
