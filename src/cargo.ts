import { cargoConfig } from "./cargo-config.ts";
import { CargoIndex } from "./cargo-index.ts";
import { type Crate, resolveCrate, textOf } from "./cargo-resolve.ts";
import { cargoGrammar, splitCargoTarget } from "./cargo-target.ts";
import type { OperationPlan, ProvenanceEvidence } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { closureFindings, machineCode } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/** Where signed installations go. */
const ROOT = "/var/lib/aegis/cargo";
const MAX_SCRIPT = 64 * 1024;
const MAX_SCRIPTS = 256;

/**
 * cargo: `cargo install` of one crate, built from the crates that its own Cargo.lock names. Building runs the build scripts and
 * procedural macros of all of them, so a plan names each.
 */
export const cargo: Ecosystem = {
  ...cargoGrammar,
  gather,
  check: () => Promise.resolve([]),
  driver: null,
  signedArgv(plan: OperationPlan): string[] {
    const [target] = plan.exact_targets;
    if (target === undefined || plan.exact_targets.length > 1 || splitCargoTarget(target).version === null) {
      throw new AegisError(
        "invalid_document",
        "the plan has no exact version of a crate to sign",
        "Plan again with a version: aegis plan cargo install <crate>@<version>",
      );
    }
    return installArgv(target);
  },
};

function installArgv(target: string): string[] {
  return ["cargo", "install", "--locked", "--root", ROOT, target];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const [target = ""] = targets;
  const { name, version } = splitCargoTarget(target);
  const config = cargoConfig(planning.env, planning.readText);
  const index = new CargoIndex(config, planning);
  const root = version === null ? await index.newest(name) : await index.version(name, version);
  const pinned = `${root.name}@${root.vers}`;
  const base: Findings = {
    ...emptyFindings(installArgv(target)),
    source_registry: config.index.href,
    mutable_reference: version === null,
  };
  if (root.yanked)
    return { ...base, warnings: [`${pinned} has been withdrawn by its authors (yanked); cargo refuses it.`] };
  try {
    const crates = await resolveCrate(root, index, config.request, planning);
    const named = version === null ? [`${pinned} is the newest version today; name it to keep it.`] : [];
    return { ...base, ...describe(pinned, crates, named, planning) };
  } catch (error) {
    if (!(error instanceof AegisError) || error.code === "internal") throw error;
    return { ...base, warnings: [`${pinned}: ${error.message}`] };
  }
}

function describe(
  pinned: string,
  crates: readonly Crate[],
  named: readonly string[],
  planning: Planning,
): Partial<Findings> {
  const [root] = crates;
  const idsOf = (test: (crate: Crate) => boolean) => crates.filter(test).map(idOf);
  const buildScripts = crates.flatMap((crate) => buildScript(crate) ?? []);
  const macros = idsOf(
    ({ manifest }) => manifest.lib?.["proc-macro"] === true || manifest.lib?.proc_macro === true,
  );
  const links = crates.flatMap((crate) => {
    const { links: library } = crate.manifest.package;
    return library === undefined ? [] : [`${idOf(crate)} links ${library}`];
  });
  const binaries = crates.flatMap((crate) =>
    crate.files.flatMap((file) => {
      const kind = machineCode(file);
      return kind === null || isOfTests(file.path)
        ? []
        : [`${idOf(crate)} carries machine code: ${file.path} (${kind})`];
    }),
  );
  const commands = root === undefined ? [] : commandsOf(root);
  const shadowed = commands.filter((command) =>
    SYSTEM_PATH.some((path) => planning.list(path).includes(command)),
  );
  const signals: RiskSignal[] = [];
  if (buildScripts.length > 0) signals.push("build-rs-risk");
  if (macros.length > 0) signals.push("proc-macro-risk");
  if (links.length > 0) signals.push("native-link-risk");
  return {
    exact_targets: [pinned],
    target_version: root?.entry.vers ?? null,
    metadata_available: commands.length > 0,
    command_preview: installArgv(pinned),
    ...closureFindings(
      crates.map(({ entry, url, file, manifest, requiredBy }) => ({
        ...{
          name: entry.name,
          version: entry.vers,
          architecture: "all",
          url,
          sha256: file.sha256,
          size: file.bytes.length,
        },
        integrity: `sha256:${entry.cksum}`,
        purl: purlOf({
          type: "cargo",
          namespace: null,
          name: entry.name,
          version: entry.vers,
          qualifiers: null,
        }),
        license: manifest.package.license ?? null,
        publishedAt: timeOf(entry.pubtime),
        requiredBy,
      })),
    ),
    scripts: buildScripts.slice(0, MAX_SCRIPTS),
    build_hooks_detected: buildScripts.length > 0 || macros.length > 0,
    native_code_risk: links.length > 0,
    binary_artifact_risk: binaries.length > 0,
    signature_or_checksum_status: "checksum-verified",
    published_at: timeOf(root?.entry.pubtime),
    warnings: [
      ...named,
      ...(commands.length > 0 ? [] : [`${pinned} has no command: there is nothing to install.`]),
      ...shadowed.map(
        (command) => `${pinned} installs ${command}, which is the name of a command of this system.`,
      ),
      ...crates
        .filter(({ entry }) => entry.yanked)
        .map((crate) => `${idOf(crate)} has been withdrawn by its authors (yanked).`),
      ...(macros.length === 0 ? [] : [`Procedural macros run while it is built: ${macros.join(", ")}.`]),
      ...links.map((text) => `${text}.`),
      ...binaries.map((text) => `${text}.`),
      ...(buildScripts.length <= MAX_SCRIPTS
        ? []
        : [`Only the first ${MAX_SCRIPTS} build scripts are in the plan.`]),
    ].slice(0, 1000),
    provenance_evidence: crates.map(provenanceOf),
    rollback_plan: {
      inverse: [],
      unobtainable: [],
      notes: ["The previous content of the managed directory is kept."],
    },
    signals,
  };
}

function idOf({ entry }: Crate): string {
  return `${entry.name} ${entry.vers}`;
}

/** The build script of a crate, which cargo compiles and runs; null where it has none. */
function buildScript({ entry, files, manifest }: Crate): Findings["scripts"][number] | null {
  const { build } = manifest.package;
  if (build === false) return null;
  const path = typeof build === "string" ? build.replace(/^(?:\.\/)+/, "") : "build.rs";
  const body = textOf(files, path);
  if (body === null && typeof build !== "string") return null;
  const shown = (body ?? "(its manifest names one that isn't there)").slice(0, MAX_SCRIPT);
  return { package: entry.name, name: path.slice(0, 1024), body: shown.toWellFormed() };
}

/** Names of the commands that cargo installs: its manifest's, and those that cargo finds by their place. */
function commandsOf({ entry, files, manifest }: Crate): string[] {
  const found = new Set(manifest.bin.flatMap(({ name }) => name ?? []));
  for (const { path } of files) {
    if (path === "src/main.rs") found.add(entry.name);
    const [, name] = /^src\/bin\/([^/]+?)(?:\.rs|\/main\.rs)$/.exec(path) ?? [];
    if (name !== undefined) found.add(name);
  }
  return [...found].sort();
}

/** Files that no build reads: data of tests, examples and benchmarks. */
function isOfTests(path: string): boolean {
  return /^(?:tests|test|examples|benches|fuzz)\//.test(path);
}

function timeOf(pubtime: string | null | undefined): string | null {
  const time = new Date(pubtime ?? "");
  return Number.isFinite(time.getTime()) ? time.toISOString() : null;
}

function provenanceOf({ entry, url }: Crate): ProvenanceEvidence {
  return {
    kind: "crates-cksum",
    subject: `${entry.name}@${entry.vers}`,
    // The file was fetched and has this hash; the index, over TLS, is all that vouches for it.
    verified: true,
    key: null,
    detail: `sha256:${entry.cksum}, by the index for ${url.host}`,
  };
}
