import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { type ClosurePackage, closureFindings } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import { HOST_SETTINGS, type Planning, type PlanningOutput } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { type Fetched, type NpmClosure, npmClosure } from "./npm-closure.ts";
import { npmConfig, npmRequests, npmSettings } from "./npm-config.ts";
import {
  deprecation,
  hasBinaries,
  hasNativeCode,
  licenseOf,
  type NpmVersion,
  publishedAt,
} from "./npm-metadata.ts";
import { digestOf, NpmRegistry } from "./npm-registry.ts";
import { NOT_ASKED, type NpmTarget, npmGrammar, splitNpmTarget } from "./npm-target.ts";
import { viewProblem } from "./npm-view.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";
import { plural } from "./terminal.ts";

/** Prefix for signed installations. */
const PREFIX = "/var/lib/aegis/npm-global";
/** As many scripts as a plan holds. */
const MAX_SCRIPTS = 256;

/**
 * npm: `install` of packages from a registry, with everything that they need, into the managed prefix. The prefix belongs to root,
 * so its contents are not examined: every user must get the same transaction, which is always an installation.
 */
export const npm: Ecosystem = withRollback(
  {
    ...npmGrammar,
    gather,
    check: () => Promise.resolve([]),
    driver: async () => {
      const [{ managedDriver }, { npmManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./npm-managed.ts"),
      ]);
      return managedDriver(npmManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const exact = plan.exact_targets.every((target) => splitNpmTarget(target).exact);
      if (plan.exact_targets.length === 0 || !exact) {
        throw new AegisError(
          "invalid_document",
          "the plan has no exact npm version to sign",
          "Plan again when the registry is reachable: aegis plan npm install <name>@<version>",
        );
      }
      return installArgv(plan.exact_targets);
    },
  },
  {
    root: "npm-global",
    purl: (name, version) => purlOf({ type: "npm", ...scoped(name), version, qualifiers: null }),
  },
);

function installArgv(targets: readonly string[]): string[] {
  const options = ["--global", "--prefix", PREFIX, "--ignore-scripts", "--no-audit", "--no-fund"];
  return ["npm", "install", ...options, ...targets];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const config = npmConfig(planning.env, planning.readText);
  const registry = new NpmRegistry(config, npmRequests(planning.env, planning.readText, config), planning);
  const wanted = targets.map(splitNpmTarget);
  const node = await planning.run(["node", "--version"], { settings: HOST_SETTINGS });
  const settings = npmSettings(config);
  // npm is given no credentials: where the registry wants some, it would only be told that there is no such package.
  const viewed = targets.filter((_, i) => !registry.needsLogin(wanted[i]?.name ?? ""));
  const [views, closure] = await Promise.all([
    Promise.all(viewed.map((target) => planning.run(["npm", "view", target, "--json"], { settings }))),
    npmClosure(targets, wanted, registry, planning, node.stdout.trim()),
  ]);
  const base: Findings = {
    ...emptyFindings(installArgv(targets)),
    source_registry: [...new Set(wanted.map(({ name }) => registry.urlOf(name).href))].sort().join(" "),
    mutable_reference: wanted.some(({ exact }) => !exact),
    raw_evidence: { commands: [node, ...views].map(({ evidence }) => evidence) },
  };
  const warnings = [
    ...(views.some(({ evidence }) => evidence.outcome === "missing")
      ? ["npm is not installed: the plan is complete, but nothing can be installed by it."]
      : []),
    ...targets.flatMap((target) =>
      viewed.includes(target) ? [] : [`${NOT_ASKED}${target}: its registry wants a login.`],
    ),
  ];
  const problem = typeof closure === "string" ? closure : differingView(views, viewed, closure);
  if (typeof closure === "string" || problem !== null)
    return { ...base, warnings: [...warnings, problem ?? ""] };
  return { ...base, ...describe(wanted, closure, planning, warnings) };
}

/** What npm itself says of a target that is not what the registry told us, or null. */
function differingView(
  views: readonly PlanningOutput[],
  viewed: readonly string[],
  { tree, packages }: NpmClosure,
) {
  for (const [i, target] of viewed.entries()) {
    const { name, exact } = splitNpmTarget(target);
    const found = packages.find(({ version: v }) => v.name === name && v.version === tree.roots.get(name));
    const { stdout = "", evidence } = views[i] ?? {};
    if (found === undefined || evidence?.outcome !== "ok") continue;
    const problem = viewProblem(stdout, found.version, exact);
    if (problem !== null) return `${target}: ${problem}`;
  }
  return null;
}

function describe(
  wanted: readonly NpmTarget[],
  { tree, packages }: NpmClosure,
  planning: Planning,
  before: readonly string[],
): Partial<Findings> {
  const { parents } = tree;
  const exactTargets = wanted.map(({ name }) => `${name}@${tree.roots.get(name)}`);
  const isTarget = ({ version }: Fetched) => exactTargets.includes(`${version.name}@${version.version}`);
  const asked = packages.filter(isTarget);
  const single = asked.length === 1 ? asked[0] : undefined;
  const provenance = packages.flatMap(({ evidence }) => evidence);
  const scripts = packages.flatMap(({ version, contents }) =>
    contents.scripts.map((script) => ({ package: version.name, ...script })),
  );
  if (scripts.length > MAX_SCRIPTS)
    return {
      warnings: [...before, `More than ${MAX_SCRIPTS} install scripts are more than anybody can judge.`],
    };
  const closure = closureFindings(packages.map((one) => closurePackage(one, parents)));
  const messages = asked.map(({ version }) => deprecation(version)).filter((message) => message !== null);
  return {
    exact_targets: exactTargets,
    target_version: single?.version.version ?? null,
    metadata_available: true,
    command_preview: installArgv(exactTargets),
    ...closure,
    sbom_evidence: [...closure.sbom_evidence, ...bundledOf(packages)],
    scripts,
    build_hooks_detected: packages.some(({ contents }) => contents.hasBindingGyp),
    native_code_risk: packages.some(({ version }) => hasNativeCode(version)),
    binary_artifact_risk: packages.some(
      ({ version, contents }) => hasBinaries(version) || contents.binaries.length > 0,
    ),
    signature_or_checksum_status: statusOf(packages, provenance),
    publisher_or_maintainer: single === undefined ? null : publisherOf(single.version),
    published_at: single === undefined ? null : publishedAt(single.packument, single.version.version),
    deprecated: messages[0]?.slice(0, 4096) ?? null,
    warnings: [
      ...before,
      ...wanted.flatMap(({ name, exact }) =>
        exact
          ? []
          : [`${name}@${tree.roots.get(name)} is what this means today; name the version to keep it.`],
      ),
      ...tree.warnings,
      ...shadowed(asked, planning),
      ...packages.flatMap((one) => warningsOf(one)),
    ].slice(0, 1000),
    provenance_evidence: provenance,
    rollback_plan: CONTENT_KEPT,
  };
}

function closurePackage(one: Fetched, parents: ReadonlyMap<string, string | null>): ClosurePackage {
  const { name, version, dist } = one.version;
  return {
    ...{ name, version, architecture: "all", url: one.url, sha256: one.sha256, size: one.size },
    integrity:
      dist.integrity?.slice(0, 1024) ?? `sha1-${Buffer.from(dist.shasum ?? "", "hex").toString("base64")}`,
    purl: purlOf({ type: "npm", ...scoped(name), version, qualifiers: null }),
    license: licenseOf(one.version),
    publishedAt: publishedAt(one.packument, version),
    requiredBy: parents.get(`${name} ${version}`) ?? null,
    ...(one.facts === undefined ? {} : { facts: one.facts }),
  };
}

/** Packages inside the files of others, whose hashes are theirs. */
function bundledOf(packages: readonly Fetched[]): Findings["sbom_evidence"] {
  const named = new Set(packages.flatMap(({ contents }) => contents.bundled));
  return [...named].sort().map((one) => {
    const at = one.lastIndexOf("@");
    const [name, version] = [one.slice(0, at), one.slice(at + 1)];
    return { purl: purlOf({ type: "npm", ...scoped(name), version, qualifiers: null }), sha256: null };
  });
}

/** In package URLs `@scope/name` is a name in a namespace. */
function scoped(full: string): { namespace: string | null; name: string } {
  const [, namespace = null, name = full] = /^(@[^/]+)\/(.+)$/.exec(full) ?? [];
  return { namespace, name };
}

/** Commands of the targets that this system has already: only targets get theirs into the prefix's bin directory. */
function shadowed(asked: readonly Fetched[], planning: Planning): string[] {
  const commands = asked.flatMap(({ version, contents }) =>
    contents.commands.map((one) => [version.name, one] as const),
  );
  if (commands.length === 0) return [];
  const known = new Map(
    SYSTEM_PATH.toReversed().flatMap((path) => planning.list(path).map((name) => [name, path] as const)),
  );
  return commands.flatMap(([name, command]) => {
    const path = known.get(command);
    return path === undefined ? [] : [`${name} brings a command that this system has: ${path}/${command}.`];
  });
}

function warningsOf({ version, contents, packument }: Fetched): string[] {
  const id = `${version.name}@${version.version}`;
  const message = deprecation(version);
  const { bundled, binaries, hasShrinkwrap } = contents;
  return [
    ...(message === null ? [] : [`${id} is deprecated: ${message.slice(0, 4096)}`]),
    ...(digestOf(version)?.algorithm === "sha1"
      ? [`${id}: its registry states only a SHA-1, which can be forged.`]
      : []),
    ...(publishedAt(packument, version.version) === null
      ? [`${id}: the registry does not tell when it was published.`]
      : []),
    ...(bundled.length === 0
      ? []
      : [`${id} bundles ${plural(bundled.length, "package")}, not looked up: ${firstOf(bundled)}.`]),
    ...(binaries.length === 0 ? [] : [`${id} contains machine code: ${firstOf(binaries)}.`]),
    ...(hasShrinkwrap && version._hasShrinkwrap !== true
      ? [
          `${id} pins its dependencies in npm-shrinkwrap.json; npm doesn't see that, since the registry doesn't say so.`,
        ]
      : []),
  ];
}

function firstOf(names: readonly string[]): string {
  const shown = names.slice(0, 10).join(", ").slice(0, 2048);
  return names.length <= 10 ? shown : `${shown} and ${names.length - 10} more`;
}

/** The status of the worst package. */
function statusOf(packages: readonly Fetched[], provenance: readonly ProvenanceEvidence[]): string {
  const subjects = packages.map(({ version }) => `${version.name}@${version.version}`);
  const [signatures, hashes] = ["npm-registry-signature", "npm-integrity"].map((kind) =>
    provenance.filter((one) => one.kind === kind),
  );
  if (hashes?.some(({ verified }) => !verified) !== false) return "unverified";
  if (signatures?.some(({ verified }) => !verified) !== false) return "signature-unverified";
  const signed = new Set(signatures.map(({ subject }) => subject));
  return subjects.every((subject) => signed.has(subject)) ? "signature-verified" : "checksum-verified";
}

function publisherOf(version: NpmVersion): string | null {
  const people = version.maintainers ?? (version.author === undefined ? [] : [version.author]);
  return people.length === 0 ? null : people.join(", ").slice(0, 4096);
}
