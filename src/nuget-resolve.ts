import { createHash } from "node:crypto";
import { inParallel, requirementChain } from "./eco-closure.ts";
import { AegisError } from "./errors.ts";
import type { NugetDependency } from "./nuget-package.ts";
import { inspectNupkg, type NupkgContents } from "./nuget-package.ts";
import type { NugetEvidence, NugetSignatures } from "./nuget-signature.ts";
import type { NugetSource, Registered } from "./nuget-source.ts";
import { isInRange, isPrerelease } from "./nuget-version.ts";

/*
 * The closure of a package as `nuget install` of NuGet 2.8 takes it (measured with Debian's): the dependencies of every target framework,
 * of each id the lowest version that everybody who needs it accepts, the newest where nobody names a limit, and no prerelease, for which
 * it would want -Prerelease. It refuses circles.
 */

const MAX_PACKAGES = 1000;
const MAX_ROUNDS = 200;
const FETCHED_AT_ONCE = 8;

/** A package of the closure, fetched and looked into. */
export interface NugetPackage {
  id: string;
  /** Normalised. */
  version: string;
  url: URL;
  sha256: string;
  sha512: string;
  size: number;
  contents: NupkgContents;
  registered: Registered;
  evidence: NugetEvidence[];
  /** What counts against it besides: see the plan's `trust_downgrade`. */
  downgrade: string | null;
  /** `id version` of a package that needs it; null for what was asked for. */
  requiredBy: string | null;
}

/** Reads one package; each is asked for once. */
export type ReadPackage = (id: string, version: string) => Promise<Omit<NugetPackage, "requiredBy">>;

/** Fetches packages and looks into them. `verify` gives what vouches for a file besides its hash. */
export function packageReader(
  source: NugetSource,
  verify: (bytes: Uint8Array, contents: NupkgContents) => Promise<NugetSignatures>,
): ReadPackage {
  const known = new Map<string, ReturnType<ReadPackage>>();
  const read: ReadPackage = async (id, version) => {
    const registered = await source.registered(id, version);
    const { url, file } = await source.file(id, version, registered.sha512);
    const contents = inspectNupkg(id, version, file.bytes);
    const sha512 = createHash("sha512").update(file.bytes).digest("hex");
    const hash: NugetEvidence = {
      kind: "nuget-sha512",
      verified: registered.sha512 === sha512,
      key: null,
      detail:
        registered.sha512 === null
          ? `${url.host} tells no SHA-512 of the file`
          : `the file has the SHA-512 that the catalog of ${url.host} tells`,
    };
    const signatures = await verify(file.bytes, contents);
    const evidence = [hash, ...signatures.evidence];
    const { downgrade } = signatures;
    const { id: name, version: exact } = contents.nuspec;
    return {
      id: name,
      version: exact,
      url,
      sha256: file.sha256,
      sha512,
      size: file.bytes.length,
      contents,
      registered,
      evidence,
      downgrade,
    };
  };
  return (id, version) => {
    const key = `${id.toLowerCase()} ${version.toLowerCase()}`;
    const found = known.get(key) ?? read(id, version);
    known.set(key, found);
    return found;
  };
}

interface Wanted {
  dependency: NugetDependency;
  by: string;
}

/**
 * The whole closure of one package, that first.
 * @throws AegisError `refused` naming who needs what, and what {@link NugetSource} throws
 */
export async function resolveNuget(
  id: string,
  version: string,
  source: NugetSource,
  read: ReadPackage,
): Promise<NugetPackage[]> {
  const chosen = new Map([[id.toLowerCase(), version]]);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const { packages, wanted } = await walk(id, chosen, read);
    const changes = await inParallel([...wanted], FETCHED_AT_ONCE, ([, by]) => choose(by, chosen, source));
    const next = new Map(changes.flatMap((change) => (change === null ? [] : [change])));
    if (next.size === 0) {
      refuseCircles(packages);
      return packages;
    }
    for (const [name, other] of next) {
      if (name === id.toLowerCase()) throw conflict(wanted.get(name) ?? []);
      chosen.set(name, other);
    }
  }
  throw unresolved("its dependencies don't come to an end");
}

/** Goes through what is chosen so far, from the package that was asked for. */
async function walk(
  id: string,
  chosen: ReadonlyMap<string, string>,
  read: ReadPackage,
): Promise<{ packages: NugetPackage[]; wanted: Map<string, Wanted[]> }> {
  const packages: NugetPackage[] = [];
  const wanted = new Map<string, Wanted[]>();
  const seen = new Set([id.toLowerCase()]);
  let wave: { id: string; requiredBy: string | null }[] = [{ id, requiredBy: null }];
  while (wave.length > 0) {
    const parents = new Map(packages.map((one) => [nameOf(one), one.requiredBy]));
    const found = await inParallel(wave, FETCHED_AT_ONCE, async (one) => ({
      ...(await withChain(read, one.id, chosen.get(one.id.toLowerCase()) ?? "", one.requiredBy, parents)),
      requiredBy: one.requiredBy,
    }));
    packages.push(...found);
    if (packages.length > MAX_PACKAGES) throw unresolved(`it needs more than ${MAX_PACKAGES} packages`);
    wave = [];
    for (const one of found) {
      for (const dependency of one.contents.nuspec.dependencies) {
        const name = dependency.id.toLowerCase();
        wanted.set(name, [...(wanted.get(name) ?? []), { dependency, by: nameOf(one) }]);
        if (seen.has(name) || !chosen.has(name)) continue;
        seen.add(name);
        wave.push({ id: dependency.id, requiredBy: nameOf(one) });
      }
    }
  }
  return { packages, wanted };
}

async function withChain(
  read: ReadPackage,
  id: string,
  version: string,
  requiredBy: string | null,
  parents: ReadonlyMap<string, string | null>,
) {
  try {
    return await read(id, version);
  } catch (error) {
    if (!(error instanceof AegisError) || requiredBy === null) throw error;
    throw new AegisError(
      error.code,
      `${error.message} (needed by ${requirementChain(requiredBy, parents)})`,
      error.hint,
    );
  }
}

/** The version to take where the one that is chosen doesn't do; null where it does. */
async function choose(
  wanted: readonly Wanted[],
  chosen: ReadonlyMap<string, string>,
  source: NugetSource,
): Promise<[string, string] | null> {
  const id = wanted[0]?.dependency.id ?? "";
  const name = id.toLowerCase();
  const fits = (version: string) =>
    wanted.every(({ dependency: { range } }) => range === null || isInRange(version, range));
  const now = chosen.get(name);
  if (now !== undefined && fits(now)) return null;
  const known = await source.versions(id).catch((error: unknown) => {
    if (!(error instanceof AegisError)) throw error;
    throw new AegisError(error.code, `${error.message} (needed by ${wanted[0]?.by})`, error.hint);
  });
  const all = known.filter((version) => fits(version) && !isPrerelease(version));
  const isOpen = wanted.every(({ dependency: { range } }) => range === null);
  const version = await firstListed(id, isOpen ? all.toReversed() : all, source);
  if (version === null) throw conflict(wanted, known.some(fits));
  return [name, version];
}

/** The first that the source lists; where it lists none of them, the first: an exact need is met by what is no longer listed, too. */
export async function firstListed(
  id: string,
  versions: readonly string[],
  source: NugetSource,
): Promise<string | null> {
  for (const version of versions) if ((await source.registered(id, version)).isListed) return version;
  return versions[0] ?? null;
}

function refuseCircles(packages: readonly NugetPackage[]): void {
  const byId = new Map(packages.map((one) => [one.id.toLowerCase(), one]));
  const done = new Set<NugetPackage>();
  const path: NugetPackage[] = [];
  const visit = (one: NugetPackage) => {
    if (done.has(one)) return;
    if (path.includes(one))
      throw unresolved(
        `its dependencies go in a circle, which nuget refuses: ${[...path, one].map(nameOf).join(" → ")}`,
      );
    path.push(one);
    for (const { id } of one.contents.nuspec.dependencies) {
      const next = byId.get(id.toLowerCase());
      if (next !== undefined) visit(next);
    }
    path.pop();
    done.add(one);
  };
  for (const one of packages) visit(one);
}

function conflict(wanted: readonly Wanted[], hasPrerelease = false): AegisError {
  const who = wanted.map(({ dependency: { written }, by }) => `${by} needs ${written}`);
  const id = wanted[0]?.dependency.id ?? "";
  const why = hasPrerelease
    ? "only a prerelease is, which nuget takes as a dependency only with -Prerelease"
    : "none is";
  return unresolved(
    `of ${id} a version is needed that suits all, and ${why}: ${[...new Set(who)].slice(0, 10).join("; ")}`,
  );
}

function nameOf({ id, version }: Pick<NugetPackage, "id" | "version">): string {
  return `${id} ${version}`;
}

function unresolved(why: string): AegisError {
  return new AegisError(
    "refused",
    `what it needs can't be resolved: ${why}`,
    "Name another version of the package.",
  );
}
