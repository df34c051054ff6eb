import { sha256Hex } from "./canonical.ts";
import type { CommandEvidence, SupportFile } from "./doc-plan.ts";
import { badArchive } from "./eco-archive.ts";
import type { Planning } from "./eco-planning.ts";
import { readZip } from "./eco-zip.ts";
import { AegisError } from "./errors.ts";
import type { GoConfig } from "./go-config.ts";
import { type GoPackage, readGoPackage } from "./go-imports.ts";
import { type GoModule, type Listed, moduleGraph, proxyReader, type ReadProxy } from "./go-proxy.ts";
import { dirHash, escapeGo, type GoSumdb, type GoSums, goModHash } from "./go-sumdb.ts";

/*
 * A Go package with every module that building it reads, by the go command's own module graph and the packages' imports.
 */

const ASKED_AT_ONCE = 16;

/** A module whose packages are built, with its zip file. */
export interface BuiltModule extends GoModule {
  url: URL;
  sha256: string;
  size: number;
  sums: GoSums | null;
  /** `h1:…` of the zip as it was fetched. */
  hash: string;
  publishedAt: string | null;
  /** `path version` of a module whose package needs one of its packages. */
  requiredBy: string | null;
  packages: Map<string, GoPackage>;
}

export interface GoClosure {
  modules: BuiltModule[];
  /** The go.mod of every version in the graph. */
  goMods: SupportFile[];
  command: CommandEvidence;
}

/**
 * Resolves a package of `root` to everything that `go install` reads.
 * @throws AegisError `unavailable`, `evidence_mismatch`, `signature_invalid`, `refused` (an archive that can't be used)
 */
export async function resolveGo(
  root: GoModule,
  target: string,
  { config, sumdb, planning }: { config: GoConfig; sumdb: GoSumdb | null; planning: Planning },
): Promise<GoClosure> {
  const read = proxyReader(config, planning);
  const { list, graph, command } = await moduleGraph(root, config, planning);
  const sumsOf = once(
    ({ path, version }: GoModule) => `${path} ${version}`,
    (one): Promise<GoSums | null> =>
      sumdb === null || config.bypass(one.path) !== null
        ? Promise.resolve(null)
        : sumdb.sums(one.path, one.version),
  );
  const goMods = await inGroups(graph, (one) => fetchGoMod(one, read, sumsOf));
  const moduleOf = once(
    ({ path }: Listed) => path,
    (one) => fetchModule(one, read, sumsOf),
  );
  const architecture = GO_ARCHITECTURES[planning.host.architecture] ?? planning.host.architecture;
  const modules = await followImports(root, target, { list, moduleOf, architecture });
  return { modules, goMods, command };
}

/** dpkg's architectures as Go calls them, where the names differ. */
const GO_ARCHITECTURES: Readonly<Record<string, string>> = {
  i386: "386",
  armhf: "arm",
  armel: "arm",
  ppc64el: "ppc64le",
  mips64el: "mips64le",
};

type ReadSums = (one: GoModule) => Promise<GoSums | null>;

async function fetchGoMod(one: GoModule, read: ReadProxy, sumsOf: ReadSums): Promise<SupportFile> {
  const found = await read(`${escapeGo(one.path)}/@v/${escapeGo(one.version)}.mod`);
  if (found === null) throw missing(one, "go.mod");
  const integrity = goModHash(found.bytes);
  const sums = await sumsOf(one);
  if (sums !== null && sums.mod !== integrity) throw differs(one, "go.mod");
  return {
    name: `${one.path} ${one.version}/go.mod`,
    url: found.url.href,
    sha256: sha256Hex(found.bytes),
    size: found.bytes.length,
    integrity,
  };
}

interface Fetched {
  module: Omit<BuiltModule, "requiredBy" | "packages">;
  /** Files by directory, relative to the module. */
  directories: ReadonlyMap<string, { name: string; data: Uint8Array }[]>;
}

async function fetchModule(one: Listed, read: ReadProxy, sumsOf: ReadSums): Promise<Fetched> {
  const found = await read(`${escapeGo(one.path)}/@v/${escapeGo(one.version)}.zip`);
  if (found === null) throw missing(one, "zip file");
  const { url, bytes } = found;
  const files = readZip(bytes);
  const prefix = `${one.path}@${one.version}/`;
  const stray = files.find(({ path }) => !path.startsWith(prefix));
  if (stray !== undefined) throw badArchive(`${JSON.stringify(stray.path)} is not below ${prefix}`);
  const hash = dirHash(files);
  const sums = await sumsOf(one);
  if (sums !== null && sums.zip !== hash) throw differs(one, "zip file");
  const directories = new Map<string, { name: string; data: Uint8Array }[]>();
  for (const { path, data } of files) {
    const relative = path.slice(prefix.length);
    const slash = relative.lastIndexOf("/");
    const directory = relative.slice(0, Math.max(slash, 0));
    directories.set(directory, [
      ...(directories.get(directory) ?? []),
      { name: relative.slice(slash + 1), data },
    ]);
  }
  const { path, version, time } = one;
  const module = {
    path,
    version,
    url,
    sha256: sha256Hex(bytes),
    size: bytes.length,
    sums,
    hash,
    publishedAt: time,
  };
  return { module, directories };
}

/**
 * Follows imports from the target's package, and returns the modules that a build looks into: those that have a package of it, and
 * those whose path would let them have one, which the go command has to look at too.
 * @throws AegisError `not_found` where the target is no package
 */
async function followImports(
  root: GoModule,
  target: string,
  build: {
    list: ReadonlyMap<string, Listed>;
    moduleOf: (one: Listed) => Promise<Fetched>;
    architecture: string;
  },
): Promise<BuiltModule[]> {
  const modules = new Map<string, BuiltModule>();
  const seen = new Set<string>();
  const visit = async (path: string, from: string | null): Promise<void> => {
    if (seen.has(path)) return;
    seen.add(path);
    const candidates = prefixes(path).flatMap((prefix) => build.list.get(prefix) ?? []);
    for (const candidate of candidates) {
      const { module, directories } = await build.moduleOf(candidate);
      const known = modules.get(candidate.path) ?? { ...module, requiredBy: from, packages: new Map() };
      modules.set(candidate.path, known);
      const files = directories.get(path.slice(candidate.path.length + 1));
      const found = files === undefined ? null : readGoPackage(files, build.architecture);
      if (found === null || known.packages.has(path)) continue;
      known.packages.set(path, found);
      const self = `${module.path} ${module.version}`;
      for (const next of found.imports.filter(isModulePath)) {
        const isOwn = next === module.path || next.startsWith(`${module.path}/`);
        await visit(next, isOwn ? known.requiredBy : self);
      }
    }
  };
  await visit(target, null);
  if (modules.get(root.path)?.packages.has(target) !== true)
    throw new AegisError(
      "not_found",
      `${root.path} ${root.version} has no package ${target}`,
      "Name the command's own path, such as <module>/cmd/<name>.",
    );
  return [...modules.values()];
}

/** Whether an import path is no package of the standard library: those have no dot in their first element. */
function isModulePath(path: string): boolean {
  return /^[^/]*\./.test(path);
}

/** The path and all paths above it, the longest first. */
function prefixes(path: string): string[] {
  const elements = path.split("/");
  return elements.map((_, i) => elements.slice(0, elements.length - i).join("/"));
}

/** Remembers what `make` returns, by key. */
function once<A, R>(keyOf: (arg: A) => string, make: (arg: A) => Promise<R>): (arg: A) => Promise<R> {
  const made = new Map<string, Promise<R>>();
  return (arg) => {
    const known = made.get(keyOf(arg)) ?? make(arg);
    made.set(keyOf(arg), known);
    return known;
  };
}

async function inGroups<A, R>(items: readonly A[], make: (item: A) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += ASKED_AT_ONCE)
    results.push(...(await Promise.all(items.slice(at, at + ASKED_AT_ONCE).map(make))));
  return results;
}

function missing({ path, version }: GoModule, what: string): AegisError {
  return new AegisError("unavailable", `no module proxy has the ${what} of ${path} ${version}`);
}

function differs({ path, version }: GoModule, what: string): AegisError {
  return new AegisError(
    "evidence_mismatch",
    `the ${what} of ${path} ${version} is not the one that the checksum database knows`,
    "Don't install it: somebody has changed it. Tell the proxy's administrator.",
  );
}
