import type { OperationPlan } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import type { RunDriver } from "./eco-driver.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import type { EcosystemName } from "./eco-names.ts";
import type { Planning } from "./eco-planning.ts";
import type { Finding } from "./finding.ts";

/*
 * The interface of an ecosystem. It has three parts, by what each may touch: a grammar (eco-grammar.ts), which is pure;
 * planning (eco-planning.ts), which reads; and a run driver (eco-driver.ts), which changes the host. eco-table.ts lists all
 * ecosystems.
 */

/** The part of a plan that the ecosystem provides; the planner adds identity, host, signals and score. */
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
  | "support_files"
  | "image"
  | "repository"
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
  | "first_seen"
  | "rollback_plan"
  | "outlook"
  | "raw_evidence"
> & {
  /** Those of {@link Grammar.signals} that apply; the planner adds the signals derived from the facts above. */
  signals: readonly RiskSignal[];
};

/** Findings before anything is known. `preview` is the command that would be run. */
export function emptyFindings(preview: readonly string[]): Findings {
  return {
    exact_targets: [],
    target_version: null,
    source_registry: null,
    metadata_available: false,
    command_preview: [...preview],
    mutates_system: true,
    requires_root: true,
    nothing_to_do: false,
    transaction: [],
    packages_held_back: [],
    scripts: [],
    build_hooks_detected: false,
    native_code_risk: false,
    binary_artifact_risk: false,
    signature_or_checksum_status: "unknown",
    mutable_reference: false,
    publisher_or_maintainer: null,
    published_at: null,
    deprecated: null,
    transitive_dependency_count: null,
    warnings: [],
    repository_evidence: [],
    vulnerability_evidence: [],
    provenance_evidence: [],
    sbom_evidence: [],
    rollback_plan: { inverse: [], unobtainable: [], notes: [] },
    raw_evidence: { commands: [] },
    signals: [],
  };
}

/** One package ecosystem: everything that differs between apt, npm and the others. */
export interface Ecosystem extends Grammar {
  /** The name on the command line that it goes by, where a tool has several: a plan's `ecosystem`. Left out, the tool's. */
  name?: EcosystemName;
  /** The ecosystem under another of its tool's names; for each of them the same, but for what that name stands for. */
  named?(name: EcosystemName): Ecosystem;
  /**
   * Gathers evidence, read-only. If the tool is missing or fails, the findings say so.
   * @throws AegisError `not_found` for a target that the tool does not know
   */
  gather(operation: string, targets: Targets, planning: Planning): Promise<Findings>;
  /**
   * The text of the file that a request brings with it (`withContent`), from the files that were typed.
   * @throws AegisError `invalid_target` for what must not be written
   */
  contentFrom?(target: string, stanza: string, key: Uint8Array | undefined): string;
  /**
   * The exact argv to sign, from the plan alone. Pure.
   * @throws AegisError `invalid_document` if the plan has no exact version to sign
   */
  signedArgv(plan: OperationPlan): string[];
  /** The package manager's state, for `aegis doctor`. Read-only. */
  check(): Promise<Finding[]>;
  /** Runs its signed plans; null if this version can only plan. */
  driver: ((argv: readonly string[]) => Promise<RunDriver>) | null;
}
