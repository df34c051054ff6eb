import type { OperationPlan, ProvenanceEvidence } from "./doc-plan.ts";
import type { Ecosystem, Findings } from "./eco.ts";
import type { Targets } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { AegisError } from "./errors.ts";
import { npmConfig, npmSettings, registryOf } from "./npm-config.ts";
import {
  deprecation,
  hasBinaries,
  hasNativeCode,
  lifecycleScripts,
  type NpmVersion,
  publishedAt,
  readNpmView,
} from "./npm-metadata.ts";
import { registrySignatures } from "./npm-signature.ts";
import { type NpmTarget, npmGrammar, splitNpmTarget } from "./npm-target.ts";

/** Prefix for signed installations. */
const PREFIX = "/var/lib/aegis/npm-global";
const MAX_SCRIPT = 64 * 1024;

interface Resolved {
  target: NpmTarget;
  /** The registry it comes from. */
  registry: string;
  version: NpmVersion;
  published: string | null;
}

/**
 * npm: `install` of packages from a registry into the managed prefix. The prefix belongs to root, so its contents are
 * not examined: every user must get the same transaction, which is always an installation.
 */
export const npm: Ecosystem = {
  ...npmGrammar,
  gather,
  check: () => Promise.resolve([]),
  driver: null,
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
};

function installArgv(targets: readonly string[]): string[] {
  const options = ["--global", "--prefix", PREFIX, "--ignore-scripts", "--no-audit", "--no-fund"];
  return ["npm", "install", ...options, ...targets];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const config = npmConfig(planning.env, planning.readText);
  const wanted = targets.map(splitNpmTarget);
  const settings = npmSettings(config);
  const view = (target: string) => planning.run(["npm", "view", target, "--json"], { settings });
  const outputs = await Promise.all(targets.map(view));

  const resolved: Resolved[] = [];
  const warnings: string[] = [];
  for (const [i, target] of wanted.entries()) {
    const answer = readAnswer(target, outputs[i]?.stdout ?? "", outputs[i]?.evidence.outcome ?? "missing");
    if (typeof answer === "string") warnings.push(`${targets[i]}: ${answer.slice(0, 1000)}`);
    else {
      const registry = registryOf(config, target.name);
      resolved.push({ target, registry, version: answer, published: publishedAt(answer) });
    }
  }
  for (const one of resolved) warnings.push(...warningsOf(one));
  const complete = resolved.length === wanted.length;
  const exactTargets = resolved.map(({ version }) => `${version.name}@${version.version}`);
  const single = resolved.length === 1 && wanted.length === 1 ? resolved[0] : undefined;
  const versions = resolved.map((one) => one.version);
  const scripts = versions.flatMap((one) =>
    lifecycleScripts(one).map((script) => ({ package: one.name, ...script })),
  );
  const provenance = resolved.flatMap(provenanceOf);

  return {
    exact_targets: exactTargets,
    target_version: single?.version.version ?? null,
    source_registry: [...new Set(wanted.map(({ name }) => registryOf(config, name)))].sort().join(" "),
    metadata_available: complete,
    command_preview: installArgv(complete ? exactTargets : targets),
    mutates_system: true,
    requires_root: true,
    nothing_to_do: false,
    transaction: resolved.map((one) => ({
      name: one.version.name,
      architecture: "all",
      action: "install",
      from_version: null,
      to_version: one.version.version,
      origin: originOf(one),
      archive: null,
      sha256: sha256Of(one.version),
      size: null,
      essential: false,
      source: null,
      from_source: null,
      to_source: null,
      sources: [],
    })),
    packages_held_back: [],
    scripts,
    build_hooks_detected: versions.some((one) => one.gypfile === true),
    native_code_risk: versions.some(hasNativeCode),
    binary_artifact_risk: versions.some(hasBinaries),
    signature_or_checksum_status: statusOf(resolved, provenance),
    mutable_reference: wanted.some(({ exact }) => !exact),
    publisher_or_maintainer: single === undefined ? null : publisherOf(single.version),
    published_at: single?.published ?? null,
    deprecated:
      versions
        .map(deprecation)
        .find((message) => message !== null)
        ?.slice(0, 4096) ?? null,
    transitive_dependency_count: complete ? versions.reduce((n, one) => n + dependencyCount(one), 0) : null,
    warnings,
    repository_evidence: [],
    vulnerability_evidence: [],
    provenance_evidence: provenance,
    sbom_evidence: versions.map((one) => ({
      purl: purlOf({ type: "npm", ...scoped(one.name), version: one.version, qualifiers: null }),
      sha256: sha256Of(one),
    })),
    rollback_plan: {
      inverse: versions.map(({ name }) => `${name}:all-`),
      unobtainable: [],
      notes: versions.map(({ name }) => `npm uninstall --global --prefix ${PREFIX} ${name}`).slice(0, 64),
    },
    signals: [],
    raw_evidence: { commands: outputs.map(({ evidence }) => evidence) },
  };
}

/** In package URLs `@scope/name` is a name in a namespace. */
function scoped(full: string): { namespace: string | null; name: string } {
  const [, namespace = null, name = full] = /^(@[^/]+)\/(.+)$/.exec(full) ?? [];
  return { namespace, name };
}

/** The version found, or why there is none. */
function readAnswer(target: NpmTarget, stdout: string, outcome: string): NpmVersion | string {
  if (outcome === "missing") return "npm is not installed, so nothing is known about the package";
  if (outcome === "timeout") return "npm did not answer in time";
  if (outcome === "truncated") return "npm's answer is too large";
  const answer = readNpmView(stdout, target);
  if (typeof answer === "string") return answer;
  if (outcome !== "ok") return "npm view failed";
  // A script that doesn't fit into the plan completely can't be judged.
  const tooLong = lifecycleScripts(answer).find(({ body }) => body.length > MAX_SCRIPT);
  return tooLong === undefined
    ? answer
    : `its ${tooLong.name} script is longer than ${MAX_SCRIPT} characters`;
}

function warningsOf({ target, version, registry, published }: Resolved): string[] {
  const id = `${version.name}@${version.version}`;
  const warnings: string[] = [];
  if (!target.exact) {
    warnings.push(
      `${target.name}${target.spec === null ? "" : `@${target.spec}`} is ${version.version} today; name the version to keep it.`,
    );
  }
  const message = deprecation(version);
  if (message !== null) warnings.push(`${id} is deprecated: ${message.slice(0, 4096)}`);
  const dependencies = dependencyCount(version);
  if (dependencies > 0) {
    warnings.push(
      `${id} has ${dependencies} direct dependencies, which npm resolves when it installs; they are not part of this plan.`,
    );
  }
  if (version.dist.integrity === undefined) warnings.push(`${id} has no integrity in the registry.`);
  if (published === null) warnings.push(`${id}: the registry does not tell when it was published.`);
  const host = tarballHost(version);
  if (host !== null && host !== new URL(registry).host) warnings.push(`${id} is downloaded from ${host}.`);
  return warnings;
}

function provenanceOf({ version, published }: Resolved): ProvenanceEvidence[] {
  const subject = `${version.name}@${version.version}`;
  const { integrity, attestations } = version.dist;
  const entries = registrySignatures(version, published);
  if (integrity !== undefined) {
    entries.unshift({
      kind: "npm-integrity",
      subject,
      // True only if a known key vouches for it: the registry's metadata alone vouches only for itself.
      verified: entries.some((entry) => entry.verified),
      key: entries.find((entry) => entry.verified)?.key ?? null,
      detail: integrity.slice(0, 1024),
    });
  }
  if (attestations !== undefined) {
    const detail = `not verified: ${(attestations.url ?? "no address").slice(0, 1024)}`;
    entries.push({ kind: "npm-attestation", subject, verified: false, key: null, detail });
  }
  return entries;
}

/** The status of the worst package. */
function statusOf(resolved: readonly Resolved[], provenance: readonly ProvenanceEvidence[]): string {
  if (resolved.length === 0) return "unknown";
  if (resolved.some(({ version }) => version.dist.integrity === undefined)) return "missing";
  const signatures = provenance.filter(({ kind }) => kind === "npm-registry-signature");
  if (signatures.some(({ verified }) => !verified)) return "signature-unverified";
  const signed = new Set(signatures.map(({ subject }) => subject));
  return signed.size === new Set(resolved.map(({ version }) => `${version.name}@${version.version}`)).size
    ? "signature-verified"
    : "checksum-only";
}

/** The host of the tarball; npm itself replaces the public registry's host with the configured one. */
function originOf({ version, registry }: Resolved): string {
  return tarballHost(version) ?? new URL(registry).host;
}

function tarballHost(version: NpmVersion): string | null {
  const { tarball } = version.dist;
  if (tarball === undefined || !URL.canParse(tarball)) return null;
  const { host } = new URL(tarball);
  return host === "registry.npmjs.org" || host === "" ? null : host.slice(0, 255);
}

/** The tarball's SHA-256 if the registry provides it; it is nearly always SHA-512, which is in the evidence. */
function sha256Of(version: NpmVersion): string | null {
  const match = /(?:^|\s)sha256-([A-Za-z0-9+/]{43}=)(?:\s|$)/.exec(version.dist.integrity ?? "");
  return match?.[1] === undefined ? null : Buffer.from(match[1], "base64").toString("hex");
}

function dependencyCount(version: NpmVersion): number {
  // npm also lists optional dependencies among the others.
  return Object.keys({ ...version.dependencies, ...version.optionalDependencies }).length;
}

function publisherOf(version: NpmVersion): string | null {
  const people = version.maintainers ?? (version.author === undefined ? [] : [version.author]);
  return people.length === 0 ? null : people.join(", ").slice(0, 4096);
}
