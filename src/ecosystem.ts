import type { CommandEvidence, DeniedTarget, Host, OperationPlan, Tool } from "./operation-plan.ts";
import type { Env } from "./paths.ts";

/** A wish, checked against the ecosystem's grammar. */
export interface Targets {
  /** Normalised, in the order given, no duplicates. */
  targets: string[];
  /** Legal to ask for, always denied: URLs, local paths, git sources, … */
  denied: DeniedTarget[];
  /** What a target is called in this ecosystem: `package`, `image`, `module`, … */
  targetType: string;
}

/** What planning may use of the world. Replaced as a whole in tests. */
export interface Planning {
  now: Date;
  /** The environment of whoever plans. */
  env: Env;
  host: Host;
  /** Where apt keeps the binary cache of this planning alone (an absolute path); left out, the host's own is used. */
  aptCache?: string;
  /**
   * Runs one of the read-only argv of planning and records it as evidence. A missing program, a failure, a time-out
   * and an output over the cap are outcomes, not exceptions; anything outside the list of planning throws `internal`.
   * `config` is written to a private file that APT_CONFIG names for this one call.
   */
  run(argv: readonly string[], options?: { config?: string; keep?: boolean }): Promise<PlanningOutput>;
  /** The text of a file on the host, or null where it is not there or can't be read. */
  readText(path: string): string | null;
  /** Names in a directory, sorted; empty where it is not there. */
  list(path: string): string[];
  /** Writes a private temporary file that lives as long as the planning; returns its path. */
  temporary(name: string, data: string | Uint8Array): string;
}

export interface PlanningOutput {
  stdout: string;
  stderr: string;
  evidence: CommandEvidence;
}

/** The part of a plan that the ecosystem finds out; the planner adds identity, host, signals and score. */
export type Findings = Pick<
  OperationPlan,
  | "exact_targets"
  | "target_version"
  | "source_registry"
  | "metadata_available"
  | "command_preview"
  | "mutates_system"
  | "requires_root"
  | "nothing_to_do"
  | "transaction"
  | "packages_held_back"
  | "host_hooks"
  | "scripts"
  | "build_hooks_detected"
  | "native_code_risk"
  | "binary_artifact_risk"
  | "signature_or_checksum_status"
  | "mutable_reference"
  | "publisher_or_maintainer"
  | "published_at"
  | "deprecated"
  | "transitive_dependency_count"
  | "warnings"
  | "repository_evidence"
  | "vulnerability_evidence"
  | "provenance_evidence"
  | "sbom_evidence"
  | "rollback_plan"
  | "raw_evidence"
>;

/** One package ecosystem: everything that differs between apt, npm and the others. */
export interface Ecosystem {
  tool: Tool;
  /** Operation name → how many targets it takes. */
  operations: Readonly<Record<string, "none" | "some">>;
  /**
   * Checks targets against the ecosystem's grammar. Pure.
   * @throws AegisError `invalid_target` for what could never be meant
   */
  parseTargets(operation: string, targets: readonly string[]): Targets;
  /**
   * Gathers evidence, read-only. A tool that is missing or fails gives findings that say so.
   * @throws AegisError `not_found` for a target that the tool has never heard of
   */
  gather(operation: string, targets: Targets, planning: Planning): Promise<Findings>;
  /**
   * The exact argv that a signature covers, from the plan alone. Pure.
   * @throws AegisError `invalid_document` when the plan has no exact version to sign
   */
  signedArgv(plan: OperationPlan): string[];
}
