import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { SEMVER } from "./eco-semver.ts";
import { hintOnSign, orExecution, parseSingleTarget, targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";

/*
 * What may be asked of cargo: one crate of the registry, alone or with an exact version. Names by crates.io's own rules.
 */

const MAX_TARGET = 256;
/** https://doc.rust-lang.org/cargo/reference/registry-index.html#name-restrictions */
const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
/** A whole semantic version: `cargo install` takes anything less as a range. */
const EXACT =
  /^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/;

const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/^(?:git\+|git:|ssh:)|^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:/, "git-source-denied"],
  [/^https?:\/\/[^?#]*\.git(?:[?#@].*)?$/i, "git-source-denied"],
  [/^https?:/i, "direct-url-denied"],
  [/^[a-z][a-z0-9+.-]*:/i, "url-denied"],
  [/^(?:\.{1,2}(?:\/|$)|\/|~\/)|\.crate$/, "local-path-denied"],
];

interface CargoTarget {
  name: string;
  /** An exact version; null where none was given. */
  version: string | null;
}

/**
 * Sorts a target into what a registry can answer and what is always denied. Every crate is built by itself, so there is one target.
 * @throws AegisError `invalid_target`
 */
function parseCargoTargets(_operation: string, given: readonly string[]): Targets {
  return parseSingleTarget(given, {
    targetType: "crate",
    problemOf: (target) => targetProblem(target, MAX_TARGET),
    sources: SOURCES,
    split: splitCargoTarget,
    invalid,
    single: "cargo builds one crate at a time; plan it by itself",
  });
}

/**
 * A target taken apart.
 * @throws AegisError `invalid_target`
 */
export function splitCargoTarget(target: string): CargoTarget {
  const at = target.indexOf("@");
  const name = at < 0 ? target : target.slice(0, at);
  const version = at < 0 ? null : target.slice(at + 1);
  if (!NAME.test(name))
    throw invalid(target, "a name has letters, digits, - and _, and begins with a letter");
  if (version !== null && !isCrateVersion(version))
    throw invalid(target, `${JSON.stringify(version)} is not an exact version, such as 1.2.3`);
  return { name, version };
}

/** Whether a text is a whole version, which names one file of the registry for ever. */
function isCrateVersion(text: string): boolean {
  return text.length <= 128 && EXACT.test(text);
}

/** Whether these are the name and the whole version of a crate. */
export function isCrate(name: string, version: string): boolean {
  return NAME.test(name) && isCrateVersion(version);
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be a crate: ${reason}`,
    hintOnSign(target, "@", "Name it as in the registry: ripgrep or ripgrep@14.1.1."),
  );
}

/** What cargo's words mean: see {@link Grammar}. */
export const cargoGrammar: Grammar = {
  tool: "cargo",
  operations: { install: "some", rollback: "some" },
  parseTargets: orExecution(parseCargoTargets),
  forms: { all: ["crate", "crate@version"], exact: "crate@version" },
  signals: ["build-rs-risk", "proc-macro-risk", "native-link-risk"],
  isExact: (target) => splitCargoTarget(target).version !== null,
  osv: () => ({
    base: "crates.io",
    purl: "cargo",
    versioning: SEMVER,
    nameOf: ({ name }, version) => ({ names: [name], ecosystems: ["crates.io"], osvVersion: version }),
  }),
  claims: { hostFacts: () => [], mayDiffer: { fields: [], ofRepositories: [], warnings: [] } },
  programs: [
    {
      name: "cargo",
      level: "warn",
      without: "crates can be planned and not installed",
      fix: "Install cargo if you want to install crates.",
    },
  ],
};
