import { sha256Hex } from "./canonical.ts";
import type { SupportFile } from "./doc-plan.ts";
import { type ArchiveFile, badArchive } from "./eco-archive.ts";
import { inParallel } from "./eco-closure.ts";
import type { Planning } from "./eco-planning.ts";
import { readZip } from "./eco-zip.ts";
import { AegisError } from "./errors.ts";
import type { GoConfig } from "./go-config.ts";
import { type Listed, moduleGraph } from "./go-graph.ts";
import { planningGoMod, readGoMod, retraction } from "./go-mod.ts";
import { ASKED_AT_ONCE, type BuiltModule, followImports, type UnpackedModule } from "./go-packages.ts";
import {
  begun,
  type Candidates,
  firstFound,
  type GoModule,
  moduleWith,
  newestGoMod,
  type ReadProxy,
} from "./go-proxy.ts";
import { dirHash, escapeGo, type GoSumdb, type GoSums, goModHash, unescapeGo } from "./go-sumdb.ts";

/*
 * A Go package with every module that building it reads, by the go command's own module graph and the packages' imports.
 */

/** What the checksum database says of it, which its zip file was held against; null where nothing vouches for it. */
export type VerifiedModule = BuiltModule & { sums: GoSums | null };

export interface GoClosure {
  /** The module that has the package asked for. */
  root: GoModule;
  /** What its authors say against using it: retracted, deprecated. */
  advice: string | null;
  modules: VerifiedModule[];
  /** The go.mod of every version in the graph. */
  goMods: SupportFile[];
  /** Imports that no module of the graph has: `path (needed by package)`. */
  unresolved: string[];
}

interface Sources {
  config: GoConfig;
  sumdb: GoSumdb | null;
  planning: Planning;
  read: ReadProxy;
  /** Of the go command, see GoBuild. */
  release: Promise<number | null>;
}

/**
 * Resolves a package to everything that `go install` reads. Nothing is left running when it ends.
 * @throws AegisError `not_found`, `unavailable`, `evidence_mismatch`, `signature_invalid`, `refused` (an archive that can't be used)
 */
export async function resolveGo(
  candidates: Candidates,
  target: string,
  { config, sumdb, planning, read, release }: Sources,
): Promise<GoClosure> {
  const sumsOf = once(
    keyOf,
    (one): Promise<GoSums | null> =>
      sumdb === null || config.bypass(one.path) !== null
        ? Promise.resolve(null)
        : sumdb.sums(one.path, one.version),
  );
  const moduleOf = once(keyOf, (one) => {
    void begun(sumsOf(one));
    return fetchModule(one, read);
  });
  // A file is looked into while the database is still being asked; nothing is concluded before its answer is known.
  const verified = once(keyOf, async (one) => {
    const [{ module }, sums] = await Promise.all([moduleOf(one), sumsOf(one)]);
    if (sums !== null && sums.zip !== module.hash) throw differs(one, "zip file");
    return sums;
  });
  const architecture = GO_ARCHITECTURES[planning.host.architecture] ?? planning.host.architecture;
  const follow = async (list: ReadonlyMap<string, Listed>) =>
    followImports(target, { list, moduleOf, architecture, release: await release });
  const started: Promise<unknown>[] = [];
  const start = <T>(promise: Promise<T>): Promise<T> => {
    started.push(promise);
    return begun(promise);
  };
  /** What is worth knowing of a module as soon as it may be the one. */
  const begin = once(keyOf, async (one) => {
    void start(moduleOf(one));
    const advice = start(adviceOn(one, read));
    const mod = readGoMod(Buffer.from((await goModFile(one, read)).bytes).toString());
    const graph = start(
      moduleGraph(planningGoMod(one.path, one.version, mod), forGraph(config, read, sumsOf), planning),
    );
    // Most of what the graph will name is what this go.mod requires: it is fetched while the go command goes on.
    const required = [one, ...mod.require].map((each) => [each.path, { ...each, time: null }] as const);
    void start(follow(new Map(required)));
    return { advice, graph };
  });
  // Proxies take longest to say that a path is no module, so the first that is one is taken to be it until all is known.
  const guess = firstFound(candidates).then((one) => (one === null ? null : start(begin(one))));
  try {
    const root = await moduleWith(target, candidates, async (one) => {
      if (isGoDirectory(await moduleOf(one), target)) return true;
      await verified(one);
      return false;
    });
    const { advice, graph: graphing } = await begin(root);
    const { list, graph } = await graphing;
    const selected = list.get(root.path)?.version;
    if (selected !== root.version)
      throw new AegisError(
        "unavailable",
        `what it needs asks for ${root.path} ${selected}, so go install refuses ${root.version}`,
      );
    const goMods = await inParallel(graph, ASKED_AT_ONCE, (one) => fetchGoMod(one, read, sumsOf));
    const { modules: found, unresolved } = await follow(list);
    const modules = await Promise.all(found.map(async (one) => ({ ...one, sums: await verified(one) })));
    const asked = modules.find(({ path }) => path === root.path)?.packages.get(target);
    if (asked?.isCommand !== true)
      throw new AegisError("unavailable", `${target} is a library: go install makes nothing of it`);
    return { root, advice: await advice, modules, goMods, unresolved };
  } finally {
    await guess.catch(() => {});
    await Promise.allSettled(started);
  }
}

/** What the go command reads while it makes the graph. The database is asked meanwhile; its answers are awaited afterwards. */
function forGraph(config: GoConfig, read: ReadProxy, sumsOf: ReadSums): ReadProxy {
  return async (path) => {
    const [, module, version] = /^(.+)\/@v\/([^/]+)\.mod$/.exec(path) ?? [];
    const kept = config.unasked(unescapeGo(path.split("/@")[0] ?? ""));
    if (kept !== null)
      throw new AegisError(
        "unavailable",
        `its module graph has a private module, which proxies aren't asked for: ${kept}; version control is never used`,
      );
    const found = await read(path);
    if (found !== null && module !== undefined && version !== undefined)
      void begun(sumsOf({ path: unescapeGo(module), version: unescapeGo(version) }));
    return found;
  };
}

async function adviceOn(root: GoModule, read: ReadProxy): Promise<string | null> {
  const newest = await newestGoMod(root.path, read);
  if (newest === null) return null;
  const retracted = retraction(newest, root.version);
  if (retracted !== null) return `${root.path} ${root.version} was retracted by its authors: ${retracted}`;
  return newest.deprecated === null ? null : `${root.path} is deprecated: ${newest.deprecated}`;
}

/** Whether the module has Go files where the target is. */
function isGoDirectory({ module, directories }: UnpackedModule, target: string): boolean {
  const files = directories.get(target.slice(module.path.length + 1)) ?? [];
  return files.some(({ name }) => name.endsWith(".go"));
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

async function goModFile(one: GoModule, read: ReadProxy) {
  const found = await read(`${escapeGo(one.path)}/@v/${escapeGo(one.version)}.mod`);
  if (found === null) throw missing(one, "go.mod");
  return found;
}

async function fetchGoMod(one: GoModule, read: ReadProxy, sumsOf: ReadSums): Promise<SupportFile> {
  const { url, bytes } = await goModFile(one, read);
  const integrity = goModHash(bytes);
  const sums = await sumsOf(one);
  if (sums !== null && sums.mod !== integrity) throw differs(one, "go.mod");
  return {
    name: `${one.path} ${one.version}/go.mod`,
    url: url.href,
    sha256: sha256Hex(bytes),
    size: bytes.length,
    integrity,
  };
}

const NO_DATA = new Uint8Array();

async function fetchModule(one: GoModule, read: ReadProxy): Promise<UnpackedModule> {
  const found = await read(`${escapeGo(one.path)}/@v/${escapeGo(one.version)}.zip`);
  if (found === null) throw missing(one, "zip file");
  const { url, bytes } = found;
  const files = unpacked(one, bytes);
  const prefix = `${one.path}@${one.version}/`;
  const stray = files.find(({ path }) => !path.startsWith(prefix));
  if (stray !== undefined) throw badArchive(`${JSON.stringify(stray.path)} is not below ${prefix}`);
  const hash = dirHash(files);
  const directories = new Map<string, { name: string; data: Uint8Array }[]>();
  for (const { path, data } of files) {
    const relative = path.slice(prefix.length);
    const slash = relative.lastIndexOf("/");
    const directory = relative.slice(0, Math.max(slash, 0));
    const siblings = directories.get(directory) ?? [];
    siblings.push({ name: relative.slice(slash + 1), data: path.endsWith(".go") ? data : NO_DATA });
    directories.set(directory, siblings);
  }
  const { path, version } = one;
  const module = {
    path,
    version,
    url,
    sha256: sha256Hex(bytes),
    size: bytes.length,
    hash,
  };
  return { module, directories };
}

const keyOf = ({ path, version }: GoModule) => `${path} ${version}`;

/** Remembers what `make` returns, by key. */
function once<A, R>(keyOf: (arg: A) => string, make: (arg: A) => Promise<R>): (arg: A) => Promise<R> {
  const made = new Map<string, Promise<R>>();
  return (arg) => {
    const known = made.get(keyOf(arg)) ?? make(arg);
    made.set(keyOf(arg), known);
    return known;
  };
}

/** @throws AegisError `refused` naming the module */
function unpacked({ path, version }: GoModule, zip: Uint8Array): ArchiveFile[] {
  try {
    return readZip(zip);
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    throw new AegisError(error.code, `${path} ${version}: ${error.message}`, error.hint);
  }
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
