import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { type ClosurePackage, closureFindings } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import type { Planning, ToolSettings } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { timeTrust } from "./eco-timestamp.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { nugetConfig } from "./nuget-config.ts";
import { firstListed, type NugetPackage, packageReader, resolveNuget } from "./nuget-resolve.ts";
import { verifyNugetSignature } from "./nuget-signature.ts";
import { NugetSource } from "./nuget-source.ts";
import { nugetGrammar, splitNugetTarget } from "./nuget-target.ts";
import { isPrerelease, NUGET_VERSIONS, needsSemver2 } from "./nuget-version.ts";

/** Where signed installations go. */
const PACKAGES = "/var/lib/aegis/nuget/packages";
const MAX_SCRIPTS = 256;
/** The version of nuget that Debian and Ubuntu have. */
const DEBIANS = "2.8.7";

/**
 * NuGet: `nuget install` of one package with everything it needs into a managed directory. That runs no code; but projects that use the
 * packages run their build targets, so a plan names them.
 */
export const nuget: Ecosystem = withRollback(
  {
    ...nugetGrammar,
    gather,
    check: () => Promise.resolve([]),
    driver: async () => {
      const [{ managedDriver }, { nugetManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./nuget-managed.ts"),
      ]);
      return managedDriver(nugetManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const [target] = plan.exact_targets;
      const version = target === undefined ? null : splitNugetTarget(target).version;
      if (target === undefined || plan.exact_targets.length > 1 || version === null) {
        throw new AegisError(
          "invalid_document",
          "the plan has no exact version of a NuGet package to sign",
          "Plan again with a version: aegis plan nuget install <id>@<version>",
        );
      }
      return installArgv(splitNugetTarget(target).id, version);
    },
  },
  { root: "nuget", purl: purlOfPackage },
);

function purlOfPackage(name: string, version: string): string {
  return purlOf({ type: "nuget", namespace: null, name, version, qualifiers: null });
}

function installArgv(id: string, version: string | null): string[] {
  const pinned = version === null ? [] : ["-Version", version];
  return ["nuget", "install", id, ...pinned, "-OutputDirectory", PACKAGES, "-NonInteractive"];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const [target = ""] = targets;
  const asked = splitNugetTarget(target);
  const config = nugetConfig(planning.env, planning.readText, planning.list);
  const commands = await askTools(asked.id, config.source, planning);
  const base: Findings = {
    ...emptyFindings(installArgv(asked.id, asked.version)),
    source_registry: config.source.href,
    mutable_reference: asked.version === null,
    warnings: config.notes,
    raw_evidence: { commands },
  };
  const failed = (why: string): Findings => ({ ...base, warnings: [...base.warnings, why.slice(0, 4096)] });
  if (config.refused !== null) return failed(config.refused);
  const source = new NugetSource(config, planning);
  const version = await versionOf(asked, source);
  try {
    const read = packageReader(source, verifierFor(source, planning));
    const closure = await resolveNuget(asked.id, version, source, read);
    const owners = await source.owners(asked.id);
    return { ...base, ...describe(closure, { base, owners, isNewest: asked.version === null }) };
  } catch (error) {
    if (!(error instanceof AegisError) || error.code === "internal") throw error;
    return failed(`${asked.id} ${version}: ${error.message}`);
  }
}

/** Verifies signatures by the certificates that the source names, and timestamps by the system's. */
function verifierFor(source: NugetSource, planning: Planning): Parameters<typeof packageReader>[1] {
  const time = timeTrust(planning);
  return async (bytes, { signature }) => {
    const { fingerprints, signsAll } = await source.signers();
    const { evidence, downgrade } =
      signature === null
        ? { evidence: [], downgrade: null }
        : verifyNugetSignature(bytes, signature, { repository: fingerprints, ...time });
    const isSigned = evidence.some(({ kind, verified }) => verified && kind === "nuget-repository-signature");
    return {
      evidence,
      downgrade:
        downgrade ??
        (signsAll && !isSigned ? "its source signs all packages, and this one isn't signed by it" : null),
    };
  };
}

/** @throws AegisError `not_found` for an id or a version that the source doesn't have */
async function versionOf(
  { id, version }: ReturnType<typeof splitNugetTarget>,
  source: NugetSource,
): Promise<string> {
  const known = await source.versions(id);
  if (version === null) {
    const stable = known.filter((one) => !isPrerelease(one)).toReversed();
    const newest = await firstListed(id, stable, source);
    if (newest !== null) return newest;
    throw new AegisError("not_found", `the source has no release of ${id}`, "Name an exact version.");
  }
  if (known.some((one) => NUGET_VERSIONS.compare(one, version) === 0)) return version;
  const hint = `aegis plan nuget install ${id} names the newest.`;
  throw new AegisError("not_found", `the source has no ${id} ${version}`, hint);
}

/**
 * dotnet's search, where there is a dotnet; everything else is asked of the source by GET. nuget, which is to run the plan, is looked
 * for and not started: it has nothing to tell that planning needs.
 */
async function askTools(id: string, source: URL, planning: Planning): Promise<CommandEvidence[]> {
  const missing: CommandEvidence = {
    ...{ argv: ["nuget"], status: null, outcome: "missing" },
    ...{ stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null },
  };
  const search = planning.hasProgram("dotnet")
    ? [await planning.run(["dotnet", "nuget", "search", id], { settings: () => dotnetSettings(source) })]
    : [];
  return [...(planning.hasProgram("nuget") ? [] : [missing]), ...search.map(({ evidence }) => evidence)];
}

/** The one source, without its password. */
function dotnetSettings(source: URL): ToolSettings {
  const address = source.href.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
  const text = `<?xml version="1.0" encoding="utf-8"?>\n<configuration><packageSources><clear /><add key="source" value="${address}" protocolVersion="3" /></packageSources></configuration>\n`;
  return {
    files: { ".nuget/NuGet/NuGet.Config": text },
    variables: {
      DOTNET_CLI_TELEMETRY_OPTOUT: "1",
      DOTNET_NOLOGO: "1",
      DOTNET_GENERATE_ASPNET_CERTIFICATE: "false",
    },
  };
}

interface Circumstances {
  base: Findings;
  owners: string | null;
  isNewest: boolean;
}

function describe(closure: readonly NugetPackage[], of: Circumstances): Partial<Findings> {
  const [root] = closure;
  if (root === undefined) return {};
  const pinned = `${root.id}@${root.version}`;
  const targets = closure.filter(({ contents }) => contents.buildTargets.length > 0);
  const native = closure.filter(({ contents }) => contents.native.length > 0);
  const scripts = closure.flatMap(({ id, contents }) =>
    contents.scripts.map(({ name, body }) => ({ package: id, name: name.slice(0, 1024), body })),
  );
  const hasPowershell = scripts.length > 0 || closure.some(({ contents }) => contents.powershell.length > 0);
  const signals: RiskSignal[] = [];
  if (targets.length > 0) signals.push("build-targets-risk");
  if (hasPowershell) signals.push("powershell-risk");
  if (native.length > 0) signals.push("native-dll-risk");
  if (closure.some(({ contents }) => contents.aspnet.length > 0)) signals.push("aspnet-sensitive");
  const isSigned = closure.every(({ evidence }) =>
    evidence.some(({ kind, verified }) => verified && kind.endsWith("-signature")),
  );
  const isChecked = closure.every(({ evidence }) => evidence.some(({ verified }) => verified));
  return {
    exact_targets: [pinned],
    target_version: root.version,
    metadata_available: true,
    command_preview: installArgv(root.id, root.version),
    ...closureFindings(closure.map(closurePackage)),
    scripts: scripts.slice(0, MAX_SCRIPTS),
    build_hooks_detected: targets.length > 0,
    native_code_risk: native.length > 0,
    binary_artifact_risk: native.length > 0,
    signature_or_checksum_status: isSigned
      ? "signature-verified"
      : isChecked
        ? "checksum-verified"
        : "unverified",
    publisher_or_maintainer: (of.owners ?? root.contents.nuspec.authors)?.slice(0, 4096) ?? null,
    published_at: root.registered.publishedAt,
    deprecated: root.registered.deprecated,
    warnings: [
      ...of.base.warnings,
      ...(of.base.raw_evidence.commands[0]?.outcome === "missing"
        ? ["nuget is not installed: the plan can't be run here."]
        : []),
      ...(of.isNewest ? [`${pinned} is the newest version today; name it to keep it.`] : []),
      ...(scripts.length > MAX_SCRIPTS
        ? ["There are too many scripts for the plan: not all are in it."]
        : []),
      ...frameworkWarning(closure),
      ...closure.flatMap((one) => warningsOf(one)),
    ]
      .slice(0, 1000)
      .map((text) => text.slice(0, 4096)),
    provenance_evidence: closure.flatMap(({ id, version, evidence }) =>
      evidence.map((one) => ({ ...one, subject: `${id}@${version}` })),
    ),
    rollback_plan: CONTENT_KEPT,
    signals,
  };
}

function closurePackage(one: NugetPackage): ClosurePackage {
  const { id, version, url, sha256, sha512, size, contents, registered, downgrade, requiredBy } = one;
  return {
    ...{ name: id, version, architecture: "all", url, sha256, size, requiredBy },
    integrity: `sha512:${sha512}`,
    purl: purlOfPackage(id, version),
    license: contents.nuspec.license,
    publishedAt: registered.publishedAt,
    ...(downgrade === null ? {} : { facts: { trust_downgrade: downgrade.slice(0, 1024) } }),
  };
}

function frameworkWarning(closure: readonly NugetPackage[]): string[] {
  const all = new Set(closure.flatMap(({ contents }) => contents.nuspec.frameworks));
  if (all.size < 2) return [];
  const names = [...all].sort();
  return [
    `nuget install takes the dependencies of every target framework: ${names.slice(0, 20).join(", ")}${names.length > 20 ? " and others" : ""}.`,
  ];
}

function warningsOf({ id, version, contents, registered, evidence }: NugetPackage): string[] {
  const named = `${id} ${version}`;
  const { nuspec } = contents;
  const needed = nuspec.minClientVersion;
  const some = (paths: readonly string[]) =>
    `${paths.slice(0, 3).join(", ")}${paths.length > 3 ? ` and ${paths.length - 3} other files` : ""}`;
  const warnings: string[] = [];
  const about = (paths: readonly string[], what: string) => {
    if (paths.length > 0) warnings.push(`${named} ${what}: ${some(paths)}.`);
  };
  about(contents.buildTargets, "changes the build of every project that uses it");
  about(
    contents.scripts.map(({ name }) => name),
    "has scripts that Visual Studio runs",
  );
  about(contents.powershell, "brings PowerShell");
  about(contents.native, "has machine code");
  about(contents.aspnet, "is part of how web applications are served or protected");
  about(registered.vulnerabilities, "is known to its source as vulnerable");
  if (!registered.isListed) warnings.push(`${named} is no longer listed by its source.`);
  if (registered.deprecated !== null) warnings.push(`${named} is deprecated: ${registered.deprecated}`);
  if (registered.publishedAt === null)
    warnings.push(`${named}: the source does not tell when it was published.`);
  for (const one of evidence) if (!one.verified) warnings.push(`${named}: ${one.detail}.`);
  if (needed !== null && NUGET_VERSIONS.isVersion(needed) && NUGET_VERSIONS.compare(DEBIANS, needed) < 0)
    warnings.push(
      `${named} needs NuGet ${needed}, and Debian's is ${DEBIANS}: the plan can't be run with that.`,
    );
  if (needsSemver2(nuspec.writtenVersion))
    warnings.push(
      `${named}: Debian's nuget (${DEBIANS}) can't read such a version: the plan can't be run with that.`,
    );
  return warnings;
}
