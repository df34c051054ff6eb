import { cargoConfig } from "./cargo-config.ts";
import { CargoIndex } from "./cargo-index.ts";
import { type Crate, resolveCrate } from "./cargo-resolve.ts";
import { cargoGrammar, splitCargoTarget } from "./cargo-target.ts";
import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { closureFindings } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import { HOST_SETTINGS, type Planning } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { SEMVER } from "./eco-semver.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/** Where signed installations go. */
const ROOT = "/var/lib/aegis/cargo";
/** Limits on the build scripts in a plan: how many, and characters of each and of all. */
const MAX_SCRIPTS = 256;
const MAX_SCRIPT = 64 * 1024;
const MAX_SCRIPT_TEXT = 1024 * 1024;

/**
 * cargo: `cargo install` of one crate, built from the crates that its own Cargo.lock names. Building runs the build scripts and
 * procedural macros of all of them, so a plan names each.
 */
export const cargo: Ecosystem = withRollback(
  {
    ...cargoGrammar,
    gather,
    check: () => Promise.resolve([]),
    driver: async () => {
      const [{ managedDriver }, { cargoManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./cargo-managed.ts"),
      ]);
      return managedDriver(cargoManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const [target] = plan.exact_targets;
      if (
        target === undefined ||
        plan.exact_targets.length > 1 ||
        splitCargoTarget(target).version === null
      ) {
        throw new AegisError(
          "invalid_document",
          "the plan has no exact version of a crate to sign",
          "Plan again with a version: aegis plan cargo install <crate>@<version>",
        );
      }
      return installArgv(target);
    },
  },
  {
    root: "cargo",
    purl: (name, version) => purlOf({ type: "cargo", namespace: null, name, version, qualifiers: null }),
  },
);

function installArgv(target: string): string[] {
  return ["cargo", "install", "--locked", "--root", ROOT, target];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const [target = ""] = targets;
  const { name, version } = splitCargoTarget(target);
  const config = cargoConfig(planning.env, planning.readText);
  const index = new CargoIndex(config, planning);
  // Everything is found out by GETs; whether there is a cargo to run is all that it is asked.
  const { evidence, stdout } = await planning.run(["cargo", "--version"], { settings: HOST_SETTINGS });
  const root = version === null ? await index.newest(name) : await index.version(name, version);
  const pinned = `${root.name}@${root.version}`;
  const base: Findings = {
    ...emptyFindings(installArgv(pinned)),
    source_registry: config.index.href,
    mutable_reference: version === null,
    raw_evidence: { commands: [evidence] },
  };
  if (root.isYanked)
    return { ...base, warnings: [`${pinned} has been withdrawn by its authors (yanked); cargo refuses it.`] };
  try {
    const { crates, features } = await resolveCrate(root, index, planning.host.architecture);
    const remarks = [
      ...(version === null ? [`${pinned} is the newest version today; name it to keep it.`] : []),
      ...(evidence.outcome === "missing" ? ["cargo is not installed: the plan can't be run here."] : []),
      ...tooOld(crates[0], /^cargo (\d+\.\d+\.\d+)/.exec(stdout)?.[1]),
    ];
    return { ...base, ...describe(pinned, crates, features, { remarks, planning }) };
  } catch (error) {
    if (!(error instanceof AegisError) || error.code === "internal") throw error;
    return { ...base, warnings: [`${pinned}: ${error.message}`] };
  }
}

function describe(
  pinned: string,
  crates: readonly Crate[],
  features: ReadonlySet<string>,
  { remarks, planning }: { remarks: readonly string[]; planning: Planning },
): Partial<Findings> {
  const [root] = crates;
  const scripts = scriptsOf(crates);
  const macros = crates.filter(({ facts }) => facts.manifest.isMacro).map(idOf);
  const links = crates.flatMap((crate) => {
    const { links: library } = crate.facts.manifest;
    return library === null ? [] : [`${idOf(crate)} links ${library}`];
  });
  const binaries = crates.flatMap((crate) =>
    crate.facts.machineCode.map(({ path, kind }) => `${idOf(crate)} carries machine code: ${path} (${kind})`),
  );
  const commands = root === undefined ? [] : commandsOf(root, features);
  const shadowed = commands.filter((command) =>
    SYSTEM_PATH.some((path) => planning.list(path).includes(command)),
  );
  const signals: RiskSignal[] = [];
  if (scripts.length > 0) signals.push("build-rs-risk");
  if (macros.length > 0) signals.push("proc-macro-risk");
  if (links.length > 0) signals.push("native-link-risk");
  return {
    exact_targets: [pinned],
    target_version: root?.entry.version ?? null,
    metadata_available: commands.length > 0,
    ...closureFindings(
      crates.map(
        ({ entry: { name, version, checksum, publishedAt }, url, sha256, size, facts, requiredBy }) => ({
          ...{ name, version, architecture: "all", url, sha256, size },
          integrity: `sha256:${checksum}`,
          purl: purlOf({ type: "cargo", namespace: null, name, version, qualifiers: null }),
          ...{ license: facts.manifest.license, publishedAt, requiredBy },
        }),
      ),
    ),
    scripts: withinLimits(scripts),
    build_hooks_detected: scripts.length > 0 || macros.length > 0,
    native_code_risk: links.length > 0,
    binary_artifact_risk: binaries.length > 0,
    signature_or_checksum_status: "checksum-verified",
    published_at: root?.entry.publishedAt ?? null,
    warnings: [
      ...remarks,
      ...(commands.length > 0 ? [] : [`${pinned} has no command: there is nothing to install.`]),
      ...shadowed.map(
        (command) => `${pinned} installs ${command}, which is the name of a command of this system.`,
      ),
      ...crates
        .filter(({ entry }) => entry.isYanked)
        .map((crate) => `${idOf(crate)} has been withdrawn by its authors (yanked).`),
      ...(macros.length === 0 ? [] : [`Procedural macros run while it is built: ${macros.join(", ")}.`]),
      ...links.map((text) => `${text}.`),
      ...binaries.map((text) => `${text}.`),
      ...(withinLimits(scripts).every(({ body }, i) => body === scripts[i]?.body) &&
      scripts.length <= MAX_SCRIPTS
        ? []
        : ["The build scripts are too long for the plan: not all of their text is in it."]),
    ]
      .slice(0, 1000)
      .map((text) => text.slice(0, 4096)),
    provenance_evidence: crates.map(provenanceOf),
    rollback_plan: CONTENT_KEPT,
    signals,
  };
}

/** cargo refuses to install what states that it needs a newer compiler; it comes with one of its own version. */
function tooOld(root: Crate | undefined, version: string | undefined): string[] {
  const needed = root?.facts.manifest.oldestRust ?? null;
  if (needed === null || version === undefined || !SEMVER.isVersion(needed)) return [];
  if (SEMVER.compare(version, needed) >= 0) return [];
  return [`It needs Rust ${needed}, and cargo here is ${version}: the plan can't be run here.`];
}

function idOf({ entry }: Crate): string {
  return `${entry.name} ${entry.version}`;
}

function scriptsOf(crates: readonly Crate[]): Findings["scripts"] {
  return crates.flatMap(({ entry, facts }) =>
    facts.buildScripts.map(({ path, body }) => ({
      package: entry.name,
      name: path.slice(0, 1024),
      body: (body ?? "(its manifest names one that isn't there)").toWellFormed(),
    })),
  );
}

function withinLimits(scripts: Findings["scripts"]): Findings["scripts"] {
  let left = MAX_SCRIPT_TEXT;
  return scripts.slice(0, MAX_SCRIPTS).map((script) => {
    const body = script.body.slice(0, Math.min(MAX_SCRIPT, left)).toWellFormed();
    left -= body.length;
    return { ...script, body };
  });
}

/** Names of the commands that cargo installs: those whose features are on. */
function commandsOf({ facts }: Crate, features: ReadonlySet<string>): string[] {
  const installed = facts.manifest.commands.filter((one) => one.features.every((it) => features.has(it)));
  return installed.map(({ name }) => name).sort();
}

function provenanceOf({ entry: { name, version, checksum }, url }: Crate): ProvenanceEvidence {
  return {
    kind: "crates-cksum",
    subject: `${name}@${version}`,
    // The file was fetched and has this hash; the index, over TLS, is all that vouches for it.
    verified: true,
    key: null,
    detail: `sha256:${checksum}, by the index for ${url.host}`,
  };
}
