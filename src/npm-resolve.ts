import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ArboristNode } from "@npmcli/arborist";
import { requirementChain } from "./eco-closure.ts";
import type { Planning } from "./eco-planning.ts";
import { readTarGz } from "./eco-tar.ts";
import { AegisError, messageOf } from "./errors.ts";
import { readAsNpm } from "./npm-grammar.ts";
import type { NpmVersion, Packument } from "./npm-metadata.ts";
import { digestOf, type NpmRegistry } from "./npm-registry.ts";

/*
 * The whole tree that `npm install --global` would make, by npm's own resolver. It gets metadata from us and can't ask anybody
 * else: it runs offline, has a cache of its own, and may not follow git, file or directory dependencies, for which it would run or
 * read something.
 */

/** One version in the tree, however often it is in it. */
export interface ResolvedPackage {
  version: NpmVersion;
  packument: Packument;
}

export interface NpmTree {
  /** Sorted by name and version. */
  packages: ResolvedPackage[];
  /** For each `name version` the one that needs it; null for what was asked for. */
  parents: ReadonlyMap<string, string | null>;
  /** The version that each name asked for has become. */
  roots: ReadonlyMap<string, string>;
  warnings: string[];
}

/** How often the tree is built again because a package in it brings others along in its file. */
const MAX_ROUNDS = 64;

const NODE_ARCHITECTURES: Readonly<Record<string, string>> = {
  amd64: "x64",
  i386: "ia32",
  armhf: "arm",
  ppc64el: "ppc64",
};

/**
 * Resolves targets to everything that npm would install for them on this host. `nodeVersion` is the version of node that runs npm:
 * it prefers versions made for it.
 * @throws AegisError `refused` for a dependency from outside the registries, `unavailable` for anything that can't be had or
 * doesn't fit together; the message names what needs it
 */
export async function resolveNpmTree(
  targets: readonly string[],
  registry: NpmRegistry,
  planning: Planning,
  nodeVersion: string | null,
): Promise<NpmTree> {
  const { Arborist } = await import("@npmcli/arborist");
  // Beside a temporary file: in the private directory of this planning, and gone with it.
  const path = `${planning.temporary("npm-tree", "")}.d`;
  mkdirSync(path, { mode: 0o700 });
  const source = new PackumentSource(registry);
  const { architecture } = planning.host;
  const cache = join(path, "cache");
  const unpacked = new Set<string>();
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const arborist = new Arborist({
      ...{ path, cache, packumentCache: source, offline: true, nodeVersion },
      ...{ global: true, save: false, ignoreScripts: true, audit: false, fund: false },
      // Package files that it has to look into are addresses to it; offline, it finds those in the cache and no others.
      ...{ allowGit: "none", allowRemote: "all", allowFile: "none", allowDirectory: "none" },
      ...{ os: "linux", cpu: NODE_ARCHITECTURES[architecture] ?? architecture, libc: "glibc" },
    });
    try {
      const tree = await arborist.buildIdealTree({ add: [...targets], complete: true });
      source.assertComplete();
      return await readTree(tree, registry);
    } catch (error) {
      source.assertComplete();
      if (codeOf(error) !== "ENOTCACHED") throw explained(error, arborist.idealTree);
      // It stopped at a package whose file it has to look into: for what it bundles, or for its shrinkwrap.
      const needed = nodesOf(arborist.idealTree).filter(
        (node) => bringsOthers(node) && !unpacked.has(idOf(node)),
      );
      if (needed.length === 0) throw explained(error, arborist.idealTree);
      for (const node of needed) {
        unpacked.add(idOf(node));
        await addToCache(await registry.version(node.packageName, node.version), registry, cache);
      }
    }
  }
  throw new AegisError("unavailable", "too many packages bring others along in their files");
}

/** Puts a package file where npm's resolver looks for it, after checking that it can be unpacked safely. */
async function addToCache(version: NpmVersion, registry: NpmRegistry, cache: string): Promise<void> {
  const { bytes } = await registry.packageFile(version);
  readTarGz(bytes);
  const digest = digestOf(version);
  if (digest === null) throw new AegisError("refused", `${version.name}@${version.version} has no hash`);
  // https://github.com/npm/cacache#content: by hash, in two levels of directories.
  const { algorithm, hex } = digest;
  const directory = join(cache, "content-v2", algorithm, hex.slice(0, 2), hex.slice(2, 4));
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, hex.slice(4)), bytes, { mode: 0o600 });
}

/** npm's cache of packuments: has everything, by asking the registry. Keys are `full:` or `corgi:` and the address. */
class PackumentSource {
  readonly #registry: NpmRegistry;
  #failure: unknown = null;

  constructor(registry: NpmRegistry) {
    this.#registry = registry;
  }

  has(): boolean {
    return true;
  }

  async get(key: string): Promise<Packument> {
    const name = decodeURIComponent(key.slice(key.lastIndexOf("/") + 1));
    const found = await this.#registry.packument(name).catch((error: unknown) => {
      this.#failure ??= error;
      throw error;
    });
    // npm's resolver writes into what it is given.
    if (found !== null) return structuredClone(found);
    throw Object.assign(new Error(`${this.#registry.urlOf(name).host} has no ${name}`), { code: "E404" });
  }

  set(): void {}

  delete(): void {}

  /** @throws whatever made a request fail: npm's resolver would take an optional dependency for one that isn't there */
  assertComplete(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

const idOf = ({ packageName, version }: ArboristNode) => `${packageName} ${version}`;

/** What npm would put into place: not the root itself, and not what this platform can't have. */
function nodesOf(tree: ArboristNode | null): ArboristNode[] {
  return [...(tree?.inventory.values() ?? [])].filter((node) => !node.isRoot && !node.inert);
}

function bringsOthers({ hasShrinkwrap, package: { bundleDependencies } }: ArboristNode): boolean {
  return hasShrinkwrap || (Array.isArray(bundleDependencies) && bundleDependencies.length > 0);
}

function isFound(node: ArboristNode | null | undefined): node is ArboristNode {
  return node !== null && node !== undefined && node.errors.length === 0;
}

/** Everything that a dependency leads to, by the shortest way down from the root, with the node that it was reached from. */
function reachedFrom(tree: ArboristNode): Map<ArboristNode, ArboristNode | null> {
  const reached = new Map<ArboristNode, ArboristNode | null>([[tree, null]]);
  for (const [node] of reached) {
    const edges = [...node.edgesOut.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
    for (const { to } of edges) if (isFound(to) && !reached.has(to)) reached.set(to, node);
  }
  return reached;
}

/** For each package the one that needs it; null for what was asked for. */
function parentsOf(tree: ArboristNode): Map<string, string | null> {
  const parents = new Map<string, string | null>();
  for (const [node, from] of reachedFrom(tree)) {
    if (from === null || parents.has(idOf(node))) continue;
    parents.set(idOf(node), from.isRoot ? null : idOf(from));
  }
  return parents;
}

async function readTree(tree: ArboristNode, registry: NpmRegistry): Promise<NpmTree> {
  const parents = parentsOf(tree);
  // npm installs what some dependency leads to, an optional peer for one, and leaves out what was replaced while it built the tree.
  const reached = reachedFrom(tree);
  const nodes = nodesOf(tree).filter((node) => reached.has(node));
  for (const node of nodes) assertRegistryEdges(node, parents);
  const warnings = [...new Set(nodes.flatMap(unmetOf))].sort();
  const packages = new Map<string, ResolvedPackage>();
  for (const node of nodes) {
    // What a package bundles is in its own file.
    if (node.inBundle || packages.has(idOf(node))) continue;
    const version = await registry.version(node.packageName, node.version);
    const packument = await registry.packument(node.packageName);
    if (packument === null || (node.integrity !== null && !agrees(version, node.integrity)))
      throw new AegisError(
        "evidence_mismatch",
        `${chain(idOf(node), parents)}: a shrinkwrap has another hash for it than the registry`,
        "Don't install it: report it to its registry.",
      );
    packages.set(idOf(node), { version, packument });
  }
  const sorted = [...packages].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
  const roots = new Map(
    [...tree.edgesOut.values()].flatMap(({ name, to }) => (isFound(to) ? [[name, to.version] as const] : [])),
  );
  return { packages: sorted, parents, roots, warnings };
}

/** Whether one of the hashes in `integrity` is what the registry states. */
function agrees({ dist }: NpmVersion, integrity: string): boolean {
  const sha1 = dist.shasum === undefined ? "" : `sha1-${Buffer.from(dist.shasum, "hex").toString("base64")}`;
  const stated = [...(dist.integrity ?? "").split(/\s+/), sha1];
  return integrity.split(/\s+/).some((one) => one !== "" && stated.includes(one));
}

const chain = (subject: string, parents: ReadonlyMap<string, string | null>) =>
  requirementChain(subject, parents);

/**
 * A dependency may be a name with a range or tag, under another name too; everything else is content that no registry vouches for.
 * Optional ones count: npm would try them.
 * @throws AegisError `refused`
 */
function assertRegistryEdges(node: ArboristNode, parents: ReadonlyMap<string, string | null>): void {
  if (node.isLink) throw elsewhere(chain(idOf(node), parents), "a link");
  for (const { name, spec } of node.edgesOut.values()) {
    const reading = readAsNpm(`${name}@${spec}`);
    if (reading?.registry === true) continue;
    const kind = reading === null ? "no version range" : `from ${KINDS[reading.type] ?? "elsewhere"}`;
    throw elsewhere(`${chain(idOf(node), parents)} → ${name}@${spec}`, kind);
  }
}

const KINDS: Readonly<Record<string, string>> = {
  git: "a git repository",
  remote: "an address outside the registry",
  file: "a local file",
  directory: "a local directory",
};

function elsewhere(subject: string, kind: string): AegisError {
  return new AegisError(
    "refused",
    `${subject} is ${kind}, which no registry vouches for`,
    "Choose a version without this dependency.",
  );
}

/** What npm would install without, in words. */
function unmetOf(node: ArboristNode): string[] {
  return [...node.edgesOut.values()].flatMap(({ name, spec, type, to, error }) => {
    const edge = `${name}@${spec}`;
    if (type === "optional" && !isFound(to))
      return [`${idOf(node)} goes without its optional dependency ${edge}: it can't be had.`];
    if (error === null || type === "peerOptional" || (isFound(to) && to.inert)) return [];
    return [`${idOf(node)} wants ${edge}, and gets ${isFound(to) ? idOf(to) : "none"}.`];
  });
}

/** Errors of npm's resolver that say too little, or too much. */
const REASONS: Readonly<Record<string, string>> = {
  EBADPLATFORM: "it is not made for this platform",
  ERESOLVE: "its peer dependencies contradict each other",
};

/** An error of npm's resolver as ours, with what needs the package. */
function explained(error: unknown, tree: ArboristNode | null): AegisError {
  if (error instanceof AegisError) return error;
  const why = REASONS[codeOf(error)] ?? messageOf(error);
  const subject = tree === null ? "" : subjectOf(error, tree);
  return new AegisError(
    "unavailable",
    `${subject === "" ? "" : `${subject}: `}${why}`,
    "Choose another version.",
  );
}

/**
 * The dependency that an error is about, with what needs it. npm's resolver names at most the place in the tree.
 * @throws AegisError `refused` where the tree has a dependency from outside the registries, which is then what the error is about
 */
function subjectOf(error: unknown, tree: ArboristNode): string {
  const parents = parentsOf(tree);
  for (const node of nodesOf(tree).filter(isFound)) assertRegistryEdges(node, parents);
  const [requiredBy, pkgid] = ["requiredBy", "pkgid"].map((key) =>
    error instanceof Error ? Object.getOwnPropertyDescriptor(error, key)?.value : undefined,
  );
  if (typeof pkgid === "string") {
    const at = pkgid.lastIndexOf("@");
    return chain(`${pkgid.slice(0, at)} ${pkgid.slice(at + 1)}`, parents);
  }
  const from = typeof requiredBy === "string" ? tree.inventory.get(requiredBy) : undefined;
  if (from === undefined || from.isRoot) return "";
  const edge = [...from.edgesOut.values()].find(({ to }) => !isFound(to));
  return `${chain(idOf(from), parents)}${edge === undefined ? "" : ` → ${edge.name}@${edge.spec}`}`;
}
