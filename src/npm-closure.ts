import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { type ClosurePackage, inParallel, requirementChain } from "./eco-closure.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { provenanceOf, trustFacts } from "./npm-evidence.ts";
import { inspectPackage, type PackageContents } from "./npm-inspect.ts";
import type { NpmRegistry } from "./npm-registry.ts";
import { type NpmTree, type ResolvedPackage, resolveNpmTree } from "./npm-resolve.ts";
import { registryKeys } from "./npm-signature.ts";
import type { NpmTarget } from "./npm-target.ts";

const FETCHED_AT_ONCE = 8;

/** One package of the closure: its file has been fetched, hashed and looked into. */
export interface Fetched extends ResolvedPackage {
  url: URL;
  /** In lower-case hex. */
  sha256: string;
  /** Bytes. */
  size: number;
  contents: PackageContents;
  evidence: ProvenanceEvidence[];
  facts: NonNullable<ClosurePackage["facts"]>;
}

export interface NpmClosure {
  tree: NpmTree;
  packages: Fetched[];
}

/**
 * Everything that the targets need, or why that can't be had. `nodeVersion` is empty where there is no node.
 * @throws AegisError `internal`, `invalid_config`
 */
export async function npmClosure(
  targets: readonly string[],
  wanted: readonly NpmTarget[],
  registry: NpmRegistry,
  planning: Planning,
  nodeVersion: string,
): Promise<NpmClosure | string> {
  if (new Set(wanted.map(({ name }) => name)).size < wanted.length)
    return "One package is asked for in two versions, and only one can be installed.";
  try {
    const tree = await resolveNpmTree(targets, registry, planning, nodeVersion === "" ? null : nodeVersion);
    const packages = await inParallel(tree.packages, FETCHED_AT_ONCE, (one) =>
      fetchOne(one, tree, registry, planning),
    );
    return { tree, packages };
  } catch (error) {
    if (error instanceof AegisError && error.code !== "internal" && error.code !== "invalid_config")
      return error.message;
    throw error;
  }
}

async function fetchOne(
  one: ResolvedPackage,
  { parents }: NpmTree,
  registry: NpmRegistry,
  planning: Planning,
): Promise<Fetched> {
  const { version } = one;
  try {
    const url = registry.tarballUrl(version);
    const keys = registryKeys(registry.urlOf(version.name).host, planning.readText);
    const { bytes, sha256 } = await registry.packageFile(version);
    const contents = inspectPackage(version, bytes);
    const evidence = await provenanceOf(one, bytes, registry, keys);
    const facts = {
      ...trustFacts(one, evidence, keys),
      ...(version._hasShrinkwrap === true ? { has_shrinkwrap: true as const } : {}),
    };
    return { ...one, url, sha256, size: bytes.length, contents, evidence, facts };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    const chain = requirementChain(`${version.name} ${version.version}`, parents);
    throw new AegisError(error.code, `${chain}: ${error.message}`, error.hint);
  }
}
