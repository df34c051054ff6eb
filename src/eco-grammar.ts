import type { DeniedTarget, Host, OperationPlan, Tool, TransactionEntry } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";

/*
 * What an ecosystem's words mean. Pure, and separate from planning and running, because policy judges with it.
 */

/** A request, checked against the ecosystem's grammar. */
export interface Targets {
  /** Normalised, in the order given, no duplicates. */
  targets: string[];
  /** Valid but always denied: URLs, local paths, git sources, … */
  denied: DeniedTarget[];
  /** The text of the file that the request brings with it; only of operations that take one. */
  content?: string;
  /** What a target is called in this ecosystem: `package`, `image`, `module`, … */
  targetType: string;
}

/** How an ecosystem orders its versions. */
export interface Versioning {
  isVersion(text: string): boolean;
  /** Negative if `a` comes first. Only for valid versions. */
  compare(a: string, b: string): number;
}

/** One version of a package in OSV's terms. */
export interface OsvName {
  /** What OSV may call the package: the source package for Debian and Ubuntu. */
  names: readonly string[];
  /** OSV's ecosystems that cover this version, most authoritative first. */
  ecosystems: readonly string[];
  /** The version as the ecosystem's advisories write it. */
  osvVersion: string;
}

/** Where OSV keeps the records of an ecosystem's packages on one host. */
export interface OsvEcosystem {
  /** OSV's name without a release, e.g. `Debian`. */
  base: string;
  /** The beginning of its packages' URLs, for VEX documents: the type, and a distribution's namespace (`deb/debian`). */
  purl: string;
  /** What else the URL of a package in OSV's terms has to have. */
  purlQualifier?: string;
  versioning: Versioning;
  /** The new or the old version of a package of the transaction in OSV's terms. */
  nameOf(entry: TransactionEntry, version: string, side: "new" | "old"): OsvName;
}

/**
 * How the executor compares its own plan with the signed one. The transaction and every field not named here must be equal.
 */
export interface Claims {
  /** What the host adds to the change. A difference is drift, reported as `what` with the items of both plans. */
  hostFacts(plan: OperationPlan): readonly { what: string; items: readonly string[] }[];
  /** What may differ between two honest plans of the same change. */
  mayDiffer: {
    fields: readonly ("publisher_or_maintainer" | "deprecated" | "transitive_dependency_count")[];
    /** Fields of each element of `repository_evidence`; never those that trust rests on. */
    ofRepositories: readonly ("release_date" | "release_valid_until" | "release_sha256")[];
    /** Prefixes of warnings. */
    warnings: readonly string[];
  };
}

/** A program that planning or running needs, for `aegis doctor`. */
interface NeededProgram {
  name: string;
  /** An alternative program. */
  instead?: string;
  /** The arguments that print its version, unless `--version` does; null where none do. */
  version?: readonly string[] | null;
  level: "warn" | "fail";
  /** What does not work without it. */
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
  /** Those of its operations that write a file, whose text the request brings with it. */
  withContent?: readonly string[];
  /** Operations that `--security` limits to security updates, and what they are then called. */
  security?: Readonly<Record<string, string>>;
  /**
   * Checks targets against the ecosystem's grammar.
   * @throws AegisError `invalid_target` for a target that the ecosystem does not allow
   */
  parseTargets(operation: string, targets: readonly string[]): Targets;
  /** The forms of a target, for help texts, and the one that names an exact version. */
  forms: { all: readonly string[]; exact: string };
  /** Risk signals that this ecosystem's planning may raise, besides those derived from any plan's facts. */
  signals: readonly RiskSignal[];
  /** Whether a valid target names exactly one version, as far as its text can tell. */
  isExact(target: string): boolean;
  /** OSV's ecosystem for packages of this kind on a host; null if OSV has none. */
  osv(host: Pick<Host, "os_id" | "os_version">): OsvEcosystem | null;
  claims: Claims;
  programs: readonly NeededProgram[];
  /** The program that shows that a host uses this ecosystem, where it isn't the first of those: many hosts have it for something else. */
  shownBy?: string;
}
