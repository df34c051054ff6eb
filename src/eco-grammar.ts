import type {
  DeniedTarget,
  Host,
  OperationPlan,
  RepositoryEvidence,
  Tool,
  TransactionEntry,
} from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";

/*
 * What an ecosystem's words mean. Pure, and separate from planning and running, because policy judges with it.
 */

/** A request, checked against the ecosystem's grammar. */
export interface Targets {
  /** Normalised, in the order given, no duplicates. */
  targets: string[];
  /** Legal to ask for, always denied: URLs, local paths, git sources, … */
  denied: DeniedTarget[];
  /** What a target is called in this ecosystem: `package`, `image`, `module`, … */
  targetType: string;
}

/** How an ecosystem orders its versions. */
export interface Versioning {
  isVersion(text: string): boolean;
  /** Negative where `a` comes first. Only for texts that are versions. */
  compare(a: string, b: string): number;
}

/** One version of a package in OSV's terms. */
export interface OsvName {
  /** What OSV may call the package: the source package for Debian and Ubuntu. */
  names: readonly string[];
  /** OSV's ecosystems that speak of this version, the one to be believed first. */
  ecosystems: readonly string[];
  /** The version as the ecosystem's advisories write it. */
  osvVersion: string;
}

/** Where OSV keeps the records of an ecosystem's packages on one host. */
export interface OsvEcosystem {
  /** OSV's name without a release, e.g. `Debian`. */
  base: string;
  versioning: Versioning;
  /** The new or the old version of a package of the transaction in OSV's terms. */
  nameOf(entry: TransactionEntry, version: string, side: "new" | "old"): OsvName;
}

/**
 * How the executor holds its own plan of a request against the signed one. Its transaction must be equal, and so must every field
 * that is not named here.
 */
export interface Claims {
  /** What the host itself adds to the change. A difference is drift, reported as `what` with the items of both plans. */
  hostFacts(plan: OperationPlan): readonly { what: string; items: readonly string[] }[];
  /** What may differ between two honest plans of the same change. */
  mayDiffer: {
    fields: readonly ("publisher_or_maintainer" | "deprecated" | "transitive_dependency_count")[];
    /** Fields of each element of `repository_evidence`. */
    ofRepositories: readonly (keyof RepositoryEvidence)[];
    /** What warnings begin with. */
    warnings: readonly string[];
  };
}

/** A program that planning or running needs, for `aegis doctor`. */
interface NeededProgram {
  name: string;
  /** Another that does as well. */
  instead?: string;
  level: "warn" | "fail";
  /** What is lost without it. */
  without: string;
  fix: string;
}

/**
 * What an ecosystem's words mean. Pure and small: policy judges targets with it, so its source is part of `evaluator_hash`.
 */
export interface Grammar {
  tool: Tool;
  /** Operation name → how many targets it takes. */
  operations: Readonly<Record<string, "none" | "some">>;
  /**
   * Checks targets against the ecosystem's grammar.
   * @throws AegisError `invalid_target` for what could never be meant
   */
  parseTargets(operation: string, targets: readonly string[]): Targets;
  /** How people may write a target, for help texts, and which form names one exact version. */
  forms: { all: readonly string[]; exact: string };
  /** Risk signals that only this ecosystem's planning can raise, beside those that follow from any plan's facts. */
  signals: readonly RiskSignal[];
  /** Whether a target that parses stands for exactly one version, as far as its words can tell. */
  isExact(target: string): boolean;
  /** OSV's records for packages of this ecosystem on a host; null where OSV has none. */
  osv(host: Host): OsvEcosystem | null;
  claims: Claims;
  programs: readonly NeededProgram[];
}
