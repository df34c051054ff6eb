import * as v from "valibot";
import {
  argv,
  count,
  name,
  names,
  schemaVersion,
  sha256,
  short,
  text,
  timestamp,
  uuid,
} from "./doc-fields.ts";
import { Outlook } from "./doc-outlook.ts";
import {
  CommandEvidence,
  ProvenanceEvidence,
  RepositoryEvidence,
  SbomEvidence,
  VulnerabilityEvidence,
} from "./doc-plan-evidence.ts";
import { ConfiguredRepository } from "./doc-repository.ts";
import { RISK_CONTRIBUTIONS, RISK_SIGNALS } from "./doc-signals.ts";
import { showArgv } from "./terminal.ts";

/* The operation plan. */

export const TOOLS = [
  "apt",
  "npm",
  "pip",
  "container",
  "nuget",
  "vscode",
  "go",
  "cargo",
  // No packages, but the units that run their code.
  "services",
] as const;
export type Tool = (typeof TOOLS)[number];
/** The tool of records that name none: earlier versions supported only this one. */
export const FIRST_TOOL: Tool = "apt";

export const Host = v.strictObject({
  hostname: short,
  /** HMAC-SHA256 of "aegis" under the machine id (machine-id(5)): identifies the host without revealing the id. */
  machine_id_hash: sha256,
  os_id: short,
  os_version: short,
  /** dpkg architecture, e.g. `amd64`. */
  architecture: short,
  /** The boot id (random(4)). Missing in documents of older versions, which can be read but never run. */
  boot_id: v.optional(uuid),
});
export type Host = v.InferOutput<typeof Host>;

/**
 * `configure` occurs only in repairs: the package is already unpacked, and dpkg finishes it. `hold` and `unhold` change only
 * whether an installed package is on hold. `restart` is of units: the old version is the run that ends, and the digest is that of
 * the files that define the unit.
 */
export const ACTIONS = [
  ...(["install", "upgrade", "downgrade", "reinstall", "remove", "configure"] as const),
  ...(["hold", "unhold"] as const),
  "restart",
] as const;

/** A binary package's source package (deb-control(5), `Source`). */
const SourcePackage = v.strictObject({ name: short, version: short });
export type SourcePackage = v.InferOutput<typeof SourcePackage>;

/** Limit on the packages in `takes_over`. */
export const MAX_TAKEN_OVER = 256;

/** A package the operation changes. Unknown facts are null, never missing. */
export const TransactionEntry = v.strictObject({
  name,
  architecture: short,
  action: v.picklist(ACTIONS),
  from_version: v.nullable(short),
  to_version: v.nullable(short),
  /**
   * apt: the archive's Origin/Label; npm: the registry host; of a managed root's rollback the directory; of a unit the file that
   * defines it. Null for removals.
   */
  origin: v.nullable(short),
  /** apt: the suite or archive, e.g. `bookworm-security`. Null where the ecosystem has none. */
  archive: v.nullable(short),
  sha256: v.nullable(sha256),
  /** Bytes to download. */
  size: v.nullable(count),
  /** apt: `Essential`, `Protected` or `Important: yes` of the installed or the new version. */
  essential: v.boolean(),
  /** Source package, if known. */
  source: v.nullable(short),
  /**
   * Source packages of the two versions. The source version may differ from the binary's, and advisories refer to it.
   * Null if unknown, if there is no such version, or if the ecosystem has no source packages.
   */
  from_source: v.nullable(SourcePackage),
  to_source: v.nullable(SourcePackage),
  /** Repositories that offer this version, as `id`s of repository_evidence; any other value is an unknown source. */
  sources: v.pipe(v.array(short), v.maxLength(256)),
  /**
   * Packages present afterwards whose files it may overwrite according to the index (deb-control(5), `Replaces`):
   * names, sorted. Omitted if empty.
   */
  takes_over: v.optional(v.pipe(v.array(name), v.minLength(1), v.maxLength(MAX_TAKEN_OVER))),
  /** Where the package file is fetched from. With the five fields below: of ecosystems whose closure Aegis resolves itself. */
  url: v.optional(v.pipe(v.string(), v.maxLength(2048))),
  /** The file's hash as the ecosystem writes it: `sha512-…` (npm), `h1:…` (Go), `sha256:…`. */
  integrity: v.optional(short),
  /** Package URL. */
  purl: v.optional(short),
  /** As the package states it: an SPDX expression, or other words. */
  license: v.optional(short),
  /** RFC 3339 publication time of this version, where the registry tells. */
  published_at: v.optional(timestamp),
  /** The package whose dependency it is, `name version`, or the unit that it is restarted with; left out for what was asked for. */
  required_by: v.optional(short),
  /** What earlier versions of the package were published with, and this one is not; left out where nothing is lost. */
  trust_downgrade: v.optional(short),
  /**
   * When whoever published this version first published one of this package, where others had published it before; left out where the
   * registry doesn't tell.
   */
  publisher_since: v.optional(timestamp),
  /** Images: the media type that the registry serves the file as. */
  media_type: v.optional(short),
  /** npm: the package pins its own dependencies, and the registry says so, so that npm looks into the file for them. */
  has_shrinkwrap: v.optional(v.literal(true)),
});
export type TransactionEntry = v.InferOutput<typeof TransactionEntry>;

/** Actions that download and unpack a package file. */
const FETCHED: readonly TransactionEntry["action"][] = ["install", "upgrade", "downgrade", "reinstall"];

/** Whether an entry involves downloading and unpacking a package file. */
export function isFetched({ action }: Pick<TransactionEntry, "action">): boolean {
  return FETCHED.includes(action);
}

/** Whether an entry only puts a package on hold, or takes it off. */
export function isMark({ action }: Pick<TransactionEntry, "action">): boolean {
  return action === "hold" || action === "unhold";
}

/** A file that installing needs beside the package files: a go.mod of the module graph, for example. */
const SupportFile = v.strictObject({
  name: short,
  url: v.pipe(v.string(), v.maxLength(2048)),
  sha256,
  size: count,
  /** As the ecosystem writes it. */
  integrity: short,
});
export type SupportFile = v.InferOutput<typeof SupportFile>;

/** A script of the package that the package manager would run. */
const ScriptEvidence = v.strictObject({ package: name, name: short, body: text });

/** What an image says of itself: how it is started, and what its author wrote down. */
const ImageFacts = v.strictObject({
  /** `linux/amd64` */
  platform: short,
  user: short,
  starts_as_root: v.boolean(),
  entrypoint: v.pipe(v.array(short), v.maxLength(64)),
  command: v.pipe(v.array(short), v.maxLength(64)),
  exposed_ports: v.pipe(v.array(short), v.maxLength(256)),
  volumes: v.pipe(v.array(short), v.maxLength(256)),
  labels: v.record(short, short),
  /** When it says that it was made; null where it doesn't, or not as a time. */
  created: v.nullable(timestamp),
});
export type ImageFacts = v.InferOutput<typeof ImageFacts>;

/** A program that the host's configuration makes the package manager run with every change. */
const HostHook = v.strictObject({ configured_in: short, command: short });
export type HostHook = v.InferOutput<typeof HostHook>;

/** A target that policy must deny, with the signal giving the reason. */
export const DeniedTarget = v.strictObject({ target: short, signal: v.picklist(RISK_SIGNALS) });
export type DeniedTarget = v.InferOutput<typeof DeniedTarget>;

export const OperationPlan = v.strictObject({
  schema_version: schemaVersion,
  plan_id: uuid,
  created_at: timestamp,
  tool: v.picklist(TOOLS),
  operation: short,
  ecosystem: short,
  target_type: short,
  target: text,
  targets: names,
  exact_targets: names,
  target_version: v.nullable(short),
  source_registry: v.nullable(short),
  host: Host,
  metadata_available: v.boolean(),
  command_preview: argv,
  mutates_system: v.boolean(),
  requires_root: v.boolean(),
  network_access: v.boolean(),
  /** True if the host is already in the requested state, so there is nothing to sign. */
  nothing_to_do: v.boolean(),
  transaction: v.pipe(v.array(TransactionEntry), v.maxLength(20_000)),
  packages_installed: names,
  packages_upgraded: names,
  packages_removed: names,
  packages_downgraded: names,
  packages_held_back: names,
  /** Omitted if empty. */
  support_files: v.optional(v.pipe(v.array(SupportFile), v.minLength(1), v.maxLength(20_000))),
  /** Of images only. */
  image: v.optional(ImageFacts),
  /** apt: the repository that is added, replaced or removed. Omitted if none is. */
  repository: v.optional(ConfiguredRepository),
  denied_targets: v.pipe(v.array(DeniedTarget), v.maxLength(256)),
  /** apt: programs that dpkg's configuration makes it run. Omitted if there are none. */
  host_hooks: v.optional(v.pipe(v.array(HostHook), v.minLength(1), v.maxLength(64))),
  scripts_detected: v.boolean(),
  scripts: v.pipe(v.array(ScriptEvidence), v.maxLength(256)),
  build_hooks_detected: v.boolean(),
  native_code_risk: v.boolean(),
  binary_artifact_risk: v.boolean(),
  signature_or_checksum_status: short,
  mutable_reference: v.boolean(),
  publisher_or_maintainer: v.nullable(text),
  /** RFC 3339 publication time of the exact version, if the ecosystem provides it. */
  published_at: v.nullable(timestamp),
  deprecated: v.nullable(text),
  transitive_dependency_count: v.nullable(count),
  risk_signals: v.array(v.picklist(RISK_SIGNALS)),
  warnings: v.pipe(v.array(text), v.maxLength(1000)),
  repository_evidence: v.pipe(v.array(RepositoryEvidence), v.maxLength(1000)),
  vulnerability_evidence: v.pipe(v.array(VulnerabilityEvidence), v.maxLength(20_000)),
  provenance_evidence: v.pipe(v.array(ProvenanceEvidence), v.maxLength(20_000)),
  sbom_evidence: v.pipe(v.array(SbomEvidence), v.maxLength(20_000)),
  /**
   * apt: since which day (UTC) a source of this host has offered each package file, by the monitor's record: `name:arch=version` → day.
   * Files that the record lacks are left out, and so is all of it if empty. Days in the signed plan may not be earlier than the
   * executor's own.
   */
  first_seen: v.optional(v.record(short, v.pipe(v.string(), v.regex(/^\d{4}-\d{2}-\d{2}$/)))),
  rollback_plan: v.strictObject({
    /** The exact inverse, each `name:arch=version` or `name:arch-` (to be removed). */
    inverse: names,
    /** Entries of `inverse` whose old version is neither offered by any configured source nor kept. */
    unobtainable: names,
    /** Entries of `inverse` whose old version no source offers any more, but Aegis keeps. Omitted if empty. */
    kept: v.optional(names),
    notes: v.pipe(v.array(text), v.maxLength(64)),
  }),
  risk_score: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(100)),
  risk_contributions: v.pipe(
    v.array(
      v.strictObject({
        name: v.picklist(RISK_CONTRIBUTIONS, "unknown name"),
        points: v.pipe(v.number(), v.safeInteger()),
      }),
    ),
    v.maxLength(64),
  ),
  /** For people only. Omitted if planning didn't look. */
  outlook: v.optional(Outlook),
  raw_evidence: v.strictObject({ commands: v.pipe(v.array(CommandEvidence), v.maxLength(1000)) }),
});
export type OperationPlan = v.InferOutput<typeof OperationPlan>;

/** The command that plans the same again, for people; a file that the request brings with it has to be named anew. */
export function planCommand(plan: OperationPlan): string {
  const { ecosystem, operation, targets, repository } = plan;
  const brings = operation !== "rollback" && repository !== undefined && repository.after !== null;
  return `${showArgv(["aegis", "plan", ecosystem, operation, ...targets])}${brings ? " --stanza <file>" : ""}`;
}
