import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { SEMVER } from "./eco-semver.ts";
import { orExecution, parseSingleTarget, targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";

/*
 * What may be asked of Go: one package by its path, alone or with a version. Module paths by golang.org/x/mod/module, stricter
 * where that allows what no public module has.
 */

const MAX_TARGET = 512;
/** A canonical semantic version with its `v`; Go marks modules without a go.mod as `+incompatible`. */
const VERSION =
  /^v(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?(?:\+incompatible)?$/;
/** A version that stands for a commit: https://go.dev/ref/mod#pseudo-versions */
const PSEUDO = /^v\d+\.(?:0\.0-|\d+\.\d+-(?:[^+]*\.)?0\.)\d{14}-[A-Za-z0-9]+(?:\+incompatible)?$/;
/** What stands for another version tomorrow: `latest`, a branch, a prefix such as `v1.2`. */
const QUERY = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const FIRST_ELEMENT = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$/;
const ELEMENT = /^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$/;
/** Names that Windows keeps for devices, and the short names that it makes up. */
const RESERVED = /^(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\.|$)|~\d+(?:\.|$)/i;

const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/=>/, "replace-directive-denied"],
  [/^(?:git\+|git:|ssh:)|^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:/, "git-source-denied"],
  [/^https?:\/\/[^?#]*\.git(?:[?#@].*)?$/i, "git-source-denied"],
  [/^https?:/i, "direct-url-denied"],
  [/^[a-z][a-z0-9+.-]*:/i, "url-denied"],
  [/^(?:\.{1,2}(?:\/|$)|\/|~\/)/, "local-path-denied"],
];

export interface GoTarget {
  /** Path of a package, which is its module's path or below it. */
  path: string;
  /** A canonical version, or a query such as `latest`; null where none was given. */
  version: string | null;
  exact: boolean;
}

/**
 * Sorts a target into what a module proxy can answer and what is always denied. Go installs packages of one module at a time, so
 * there is one target.
 * @throws AegisError `invalid_target`
 */
export function parseGoTargets(_operation: string, given: readonly string[]): Targets {
  return parseSingleTarget(given, {
    targetType: "module",
    // The arrow of a replace directive is told as such, and not as white space or a redirection.
    problemOf: (target) => targetProblem(target.replaceAll(" => ", "=>").replaceAll(">", "="), MAX_TARGET),
    sources: SOURCES,
    split: splitGoTarget,
    invalid,
    single: "go installs one package at a time; plan it by itself",
  });
}

/**
 * A target taken apart.
 * @throws AegisError `invalid_target`
 */
export function splitGoTarget(target: string): GoTarget {
  const at = target.indexOf("@");
  const path = at < 0 ? target : target.slice(0, at);
  const version = at < 0 ? null : target.slice(at + 1);
  const problem = goPathProblem(path);
  if (problem !== null) throw invalid(target, problem);
  const exact = version !== null && isGoVersion(version);
  if (version !== null && !exact && !(version.length <= 128 && QUERY.test(version)))
    throw invalid(target, `${JSON.stringify(version)} is no version`);
  return { path, version, exact };
}

/** Whether a text is a canonical version of a module, which names the same bytes for ever. */
export function isGoVersion(text: string): boolean {
  return text.length <= 256 && VERSION.test(text);
}

/** Whether a version stands for a commit that nobody has tagged. */
export function isPseudoVersion(version: string): boolean {
  return PSEUDO.test(version);
}

/** Why a text is no path of a module or a package below one; null if it is one. https://go.dev/ref/mod#module-path */
function goPathProblem(path: string): string | null {
  if (path === "") return "the path is empty";
  const [first = "", ...rest] = path.split("/");
  if (!FIRST_ELEMENT.test(first)) return "a module's path begins with a host name, such as example.com";
  for (const element of rest) {
    if (!ELEMENT.test(element) || element.endsWith("."))
      return "a path has letters, digits and . _ ~ - between single slashes, and no element begins or ends with a dot";
  }
  return [first, ...rest].some((element) => RESERVED.test(element)) ? "a path has no names of devices" : null;
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be a Go package: ${reason}`,
    "Name it by its path and version: example.com/module/cmd/tool@v1.2.3.",
  );
}

/** What Go's words mean: see {@link Grammar}. */
export const goGrammar: Grammar = {
  tool: "go",
  operations: { get: "some", install: "some", rollback: "some" },
  parseTargets: orExecution(parseGoTargets),
  forms: { all: ["module", "module@version"], exact: "module@v1.2.3" },
  signals: ["gosumdb-disabled", "checksum-db-enabled", "private-module-bypass", "pseudo-version-risk"],
  isExact: (target) => splitGoTarget(target).exact,
  osv: () => ({
    base: "Go",
    purl: "golang",
    versioning: SEMVER,
    // OSV writes Go's versions without their v.
    nameOf: ({ name }, version) => ({
      names: [name],
      ecosystems: ["Go"],
      osvVersion: version.replace(/^v/, ""),
    }),
  }),
  claims: { hostFacts: () => [], mayDiffer: { fields: [], ofRepositories: [], warnings: [] } },
  programs: [
    {
      name: "go",
      version: ["version"],
      level: "warn",
      without: "Go modules can be neither planned nor installed",
      fix: "Install golang-go if you want to plan Go modules.",
    },
  ],
};
