import { byCodeUnit } from "./canonical.ts";
import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan, SupportFile } from "./doc-plan.ts";
import type { CommandEvidence, ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { closureFindings } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { type GoConfig, goConfig } from "./go-config.ts";
import { assertFound, begun, modulesByQuery, modulesOf, proxyReader, type ReadProxy } from "./go-proxy.ts";
import { type GoClosure, resolveGo, type VerifiedModule } from "./go-resolve.ts";
import { GoSumdb } from "./go-sumdb.ts";
import { goGrammar, isPseudoVersion, splitGoTarget } from "./go-target.ts";

/**
 * Go: `go install` of one command and the modules that it is built from, into managed directories. Module files come from a module
 * proxy and are held against the checksum database; version control is never used.
 */
export const go: Ecosystem = withRollback(
  {
    ...goGrammar,
    gather,
    check: () => Promise.resolve([]),
    driver: async () => {
      const [{ managedDriver }, { goManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./go-managed.ts"),
      ]);
      return managedDriver(goManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const [target] = plan.exact_targets;
      if (target === undefined || plan.exact_targets.length > 1 || !splitGoTarget(target).exact) {
        throw new AegisError(
          "invalid_document",
          "the plan has no exact Go version to sign",
          "Plan again with a version: aegis plan go get <module>@<version>",
        );
      }
      return ["go", "install", target];
    },
  },
  {
    root: "go",
    purl: (name, version) => purlOf({ type: "golang", ...nameParts(name), version, qualifiers: null }),
  },
);

const GO_ENV = ["go", "env", "GOSUMDB", "GOPROXY", "GOPRIVATE", "GONOSUMDB", "GOVERSION"];

async function gather(_operation: string, { targets }: Targets, world: Planning): Promise<Findings> {
  const [target = ""] = targets;
  const { path, version, exact } = splitGoTarget(target);
  const config = goConfig(world.env, world.readText);
  const { commands, planning } = recorded(world);
  const environment = begun(planning.run(GO_ENV, { settings: () => ({ variables: config.shown }) }));
  const read = proxyReader(config, planning);
  const query = version ?? "latest";
  const base: Findings = {
    ...emptyFindings(["go", "install", target]),
    source_registry: config.proxies.map(({ url }) => url.href).join(" ") || null,
    mutable_reference: !exact,
    raw_evidence: { commands },
  };
  if (config.proxies.length === 0) {
    await environment;
    return { ...base, warnings: ["GOPROXY names no module proxy, and version control is never used."] };
  }
  const sumdb =
    config.sumdb === null ? null : new GoSumdb(config.sumdb.key, sumdbReader(config, read, planning));
  const release = environment.then(({ stdout }) => releaseOf(stdout));
  const candidates =
    exact && version !== null
      ? modulesOf(path, version, config, read)
      : modulesByQuery(path, query, config, read);
  try {
    const closure = await resolveGo(candidates, path, { config, sumdb, planning, read, release });
    return { ...base, ...describe({ path, query, exact, closure, config, sumdb }) };
  } catch (error) {
    if (!(error instanceof AegisError) || error.code === "internal" || error.code === "not_found")
      throw error;
    // Without a module there is nothing to plan; with one, the plan says why it can't be used.
    await assertFound(candidates);
    await environment;
    return { ...base, warnings: [`${target}: ${error.message}`] };
  }
}

/** Planning that keeps the evidence of every command, in the order in which they were started. */
function recorded(planning: Planning): { planning: Planning; commands: CommandEvidence[] } {
  const commands: CommandEvidence[] = [];
  let started = 0;
  const run: Planning["run"] = async (argv, call) => {
    const place = started++;
    const output = await planning.run(argv, call);
    commands[place] = output.evidence;
    return output;
  };
  return { planning: { ...planning, run }, commands };
}

/** The minor release of the go command, by what `go env` says last. */
function releaseOf(environment: string): number | null {
  const [, minor] = /^go1\.(\d+)/.exec(environment.trim().split("\n").at(-1) ?? "") ?? [];
  return minor === undefined ? null : Number(minor);
}

interface Resolution {
  /** Of the package. */
  path: string;
  /** The version as it was asked for, or `latest`. */
  query: string;
  exact: boolean;
  closure: GoClosure;
  config: GoConfig;
  sumdb: GoSumdb | null;
}

function describe({ path, query, exact, closure, config, sumdb }: Resolution): Partial<Findings> {
  const { root, advice, modules, goMods, unresolved } = closure;
  const pinned = `${path}@${root.version}`;
  const bypassed = modules.flatMap((one) => config.bypass(one.path) ?? []);
  const unverified = modules.filter(({ sums }) => sums === null);
  const usesCgo = modules.filter((one) => packagesOf(one).some(({ imports }) => imports.includes("C")));
  const onlyC = modules.flatMap((one) =>
    [...one.packages].flatMap(([name, { buildable, imports }]) =>
      !buildable && imports.includes("C") ? [name] : [],
    ),
  );
  const binaries = modules.flatMap((one) =>
    packagesOf(one).flatMap(({ native }) =>
      native.filter((name) => name.endsWith(".syso")).map((name) => `${one.path} ${name}`),
    ),
  );
  const pseudo = modules.filter((one) => isPseudoVersion(one.version));
  const signals: RiskSignal[] = [];
  if (sumdb === null) signals.push("gosumdb-disabled");
  else if (unverified.length === 0) signals.push("checksum-db-enabled");
  if (bypassed.length > 0) signals.push("private-module-bypass");
  if (pseudo.length > 0) signals.push("pseudo-version-risk");
  const looked = modules.filter(({ isBuilt }) => !isBuilt);
  // What nothing vouches for can change which versions are built, so nothing vouches for those either.
  const isGraphVerified =
    sumdb !== null &&
    looked.every(({ sums }) => sums !== null) &&
    goMods.every(({ name }) => config.bypass(name.split(" ")[0] ?? "") === null);
  const main = modules.find((one) => one.path === root.path);
  return {
    exact_targets: [pinned],
    target_version: root.version,
    metadata_available: true,
    command_preview: ["go", "install", pinned],
    ...closureFindings(
      modules
        .filter(({ isBuilt }) => isBuilt)
        .map((one) => ({
          ...{
            name: one.path,
            version: one.version,
            architecture: "all",
            url: one.url,
            sha256: one.sha256,
            size: one.size,
          },
          integrity: one.hash,
          purl: purlOf({ type: "golang", ...nameParts(one.path), version: one.version, qualifiers: null }),
          ...{
            license: null,
            publishedAt: one.publishedAt,
            requiredBy: one.path === root.path ? null : one.requiredBy,
          },
        })),
    ),
    support_files: [...goMods, ...looked.map(zipFile)].sort((a, b) => byCodeUnit(a.name, b.name)),
    // C is left out of the build, so there is nothing native to build.
    native_code_risk: false,
    deprecated: advice,
    binary_artifact_risk: binaries.length > 0,
    signature_or_checksum_status:
      unverified.length === 0 && isGraphVerified ? "checksum-verified" : "unverified",
    published_at: main?.publishedAt ?? null,
    warnings: [
      ...(exact ? [] : [`${pinned} is what ${query} stands for today; name it to keep it.`]),
      ...[...new Set(bypassed)].map((why) => `The checksum database isn't asked about a module: ${why}.`),
      ...(sumdb === null ? ["GOSUMDB is off: nothing vouches for any module."] : []),
      ...usesCgo.map((one) => `${one.path} has packages that use C; they are built without it.`),
      ...onlyC.map((name) => `${name} has nothing but files that use C: go install may fail without them.`),
      ...unresolved.map((one) => `No module has ${one}: go install may fail.`),
      ...binaries.map((name) => `${name} is machine code that is linked in as it is.`),
      ...pseudo.map((one) => `${one.path} ${one.version} is a commit that nobody has released.`),
    ].slice(0, 1000),
    provenance_evidence: modules.map((one) => provenanceOf(one, sumdb, isGraphVerified)),
    rollback_plan: CONTENT_KEPT,
    signals,
  };
}

/** A module that the go command looks into, and takes nothing from. */
function zipFile({ path, version, url, sha256, size, hash }: VerifiedModule): SupportFile {
  return { name: `${path} ${version}/zip`, url: url.href, sha256, size, integrity: hash };
}

function packagesOf(one: VerifiedModule) {
  return [...one.packages.values()];
}

function nameParts(path: string): { namespace: string | null; name: string } {
  const slash = path.lastIndexOf("/");
  return slash < 0
    ? { namespace: null, name: path }
    : { namespace: path.slice(0, slash), name: path.slice(slash + 1) };
}

function provenanceOf(
  { path, version, sums, hash }: VerifiedModule,
  sumdb: GoSumdb | null,
  isGraphVerified: boolean,
): ProvenanceEvidence {
  const verified = sums !== null && isGraphVerified;
  // Not the tree's size: the log grows, and the executor must find what the planner found.
  const detail = verified
    ? "in the signed log of the checksum database"
    : sums === null
      ? "which nothing vouches for"
      : "chosen with modules that nothing vouches for";
  return {
    kind: "go-sumdb",
    subject: `${path}@${version}`,
    verified,
    key: verified ? (sumdb?.keyId ?? null) : null,
    detail: `${hash}, ${detail}`,
  };
}

/**
 * Reads the checksum database through each proxy that offers it, as the go command does, else at its own address.
 * https://go.dev/design/25530-sumdb#proxying-a-checksum-database
 */
function sumdbReader(
  config: GoConfig,
  read: ReadProxy,
  planning: Planning,
): (path: string) => Promise<Uint8Array | null> {
  const { sumdb } = config;
  const name = sumdb?.key.split("+")[0] ?? "";
  const own = sumdb?.url ?? new URL(`https://${name}`);
  let throughProxy: Promise<boolean> | null = null;
  return async (path) => {
    throughProxy ??= read(`sumdb/${name}/supported`).then((found) => found !== null);
    if (await throughProxy) return (await read(`sumdb/${name}/${path}`))?.bytes ?? null;
    const { status, bytes } = await planning.get(new URL(`${own.href.replace(/\/$/, "")}/${path}`));
    return status === 200 ? bytes : null;
  };
}
