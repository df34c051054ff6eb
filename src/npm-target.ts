import type { DeniedTarget } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { SEMVER } from "./eco-semver.ts";
import { hintOnSign, orExecution, targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";
import { type NpmReading, readAsNpm } from "./npm-grammar.ts";

/*
 * npm targets that can be planned: a name from a registry, alone or with an exact version, range or tag. Anything else
 * npm accepts names content no registry vouches for, and is always denied. The grammar is npm's own (npm-package-arg),
 * further restricted here.
 */

const EXACT =
  /^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/;
/** `^1`, `~1.2.3`, `1`, `1.x`, `1.2.x`: ranges without shell metacharacters. */
const RANGE = /^[\^~]?\d+(?:\.(?:\d+|x))?(?:\.(?:\d+|x))?(?:-[0-9A-Za-z.-]+)?$/;
const TAG = /^[A-Za-z][A-Za-z0-9._-]*$/;
const MAX_TARGET = 512;

/** First match wins. `name@source` gives a name to something not in the registry under that name. */
const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/^(?:@[^/@]+\/)?[^/@:]+@(?:https?|ftp|npm):/i, "direct-url-denied"],
  [
    /^(?:[^/:]+(?:\/[^/:]+)?@)?(?:git[+a-z]*|ssh|github|gitlab|bitbucket|gist|sourcehut):/i,
    "git-source-denied",
  ],
  [/^(?:https?|git\+https?):\/\/[^?#]*\.git(?:[?#].*)?$/i, "git-source-denied"],
  [/^(?:(?:@[^/@]+\/)?[^/@:]+@)?(?:file|link|workspace|portal):/i, "local-path-denied"],
  [/^(?:[^/@:]+@)?[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:/, "git-source-denied"],
  [/^(?:@[^/@]+\/)?[^/@:]+@(?:\.{0,2}\/|~\/)/, "local-path-denied"],
  [/^[a-z][a-z0-9+.-]*:/i, "url-denied"],
  [/^(?:\.{1,2}$|\.{0,2}\/|~\/)/, "local-path-denied"],
  [/\.(?:tgz|tar|tar\.gz)$/i, "local-path-denied"],
  // `owner/repository`, GitHub's shorthand, also after a name: `name@owner/repository`.
  [/^(?:(?:@[^/@]+\/)?[^/@]+@)?[^@/][^/]*\/[^/]+$/, "git-source-denied"],
];

/** Types that npm would not look up by name in a registry. */
const FOREIGN: Readonly<Partial<Record<NpmReading["type"], RiskSignal>>> = {
  alias: "direct-url-denied",
  git: "git-source-denied",
  remote: "url-denied",
  file: "local-path-denied",
  directory: "local-path-denied",
};

export interface NpmTarget {
  name: string;
  /** Exact version, range or tag; null if not given. */
  spec: string | null;
  /** Whether the spec is an exact version, for npm too. */
  exact: boolean;
}

/**
 * Separates targets a registry can provide from those always denied.
 * @throws AegisError `invalid_target` for anything npm could never install
 */
export function parseNpmTargets(_operation: string, given: readonly string[]): Targets {
  const targets = new Set<string>();
  const denied: DeniedTarget[] = [];
  for (const target of given) {
    const reason = targetProblem(target, MAX_TARGET);
    if (reason !== null) throw invalid(target, reason);
    const signal = signalOf(target);
    if (signal !== null && !targets.has(target)) denied.push({ target, signal });
    if (signal === null) splitNpmTarget(target);
    targets.add(target);
  }
  return { targets: [...targets], denied, targetType: "package" };
}

/** The signal for which a target is always denied, or null. */
function signalOf(target: string): RiskSignal | null {
  const source = SOURCES.find(([shape]) => shape.test(target));
  if (source !== undefined) return source[1];
  const reading = readAsNpm(target);
  return reading === null ? null : (FOREIGN[reading.type] ?? null);
}

/**
 * Splits a registry target.
 * @throws AegisError `invalid_target`
 */
export function splitNpmTarget(target: string): NpmTarget {
  if (/[?#&%:/\\]/.test(target.replace(/^@[^/]*\//, ""))) throw invalid(target, "not a package name");
  const at = target.indexOf("@", 1);
  const name = at === -1 ? target : target.slice(0, at);
  const spec = at === -1 ? null : target.slice(at + 1);
  const problem = npmNameProblem(name);
  if (problem !== null) throw invalid(target, problem);
  const known =
    spec === null || isExactVersion(spec) || (spec.length <= 256 && (RANGE.test(spec) || TAG.test(spec)));
  if (!known)
    throw invalid(target, `${JSON.stringify(spec)} is not an exact version, a ^ or ~ range, or a tag`);
  const reading = readAsNpm(target);
  if (reading === null) throw invalid(target, "npm itself refuses it");
  if (!reading.registry || reading.name !== name || reading.spec !== (spec ?? "*"))
    throw invalid(target, "npm interprets it differently");
  // Stricter than npm, which also accepts v1.2.3 and 1.2.3beta as versions.
  return { name, spec, exact: spec !== null && isExactVersion(spec) && reading.type === "version" };
}

/**
 * Whether a spec is a full semantic version (https://semver.org), the only kind ever signed. npm doesn't accept numbers
 * above 2^53-1 and would look for a tag of that name.
 */
export function isExactVersion(spec: string): boolean {
  const numbers = spec.split(/[-+]/, 1)[0]?.split(".") ?? [];
  return spec.length <= 256 && EXACT.test(spec) && numbers.every((n) => Number(n) <= Number.MAX_SAFE_INTEGER);
}

/**
 * Why a name is invalid for a new npm package, or null.
 * @see https://github.com/npm/validate-npm-package-name
 */
function npmNameProblem(name: string): string | null {
  if (name.length === 0) return "the name is empty";
  if (name.length > 214) return "a name can't be longer than 214 characters";
  if (name !== name.toLowerCase()) return "a name can't contain capital letters";
  const scoped = /^@([^/@]+)\/([^/@]+)$/.exec(name);
  const parts = scoped === null ? [name] : [scoped[1] ?? "", scoped[2] ?? ""];
  for (const part of parts) {
    if (/^[._-]/.test(part)) return "a name can't begin with a dot, an underscore or a hyphen";
    if (!/^[a-z0-9._-]+$/.test(part))
      return "a name can contain only letters, digits, dots, underscores and hyphens";
  }
  if (name === "node_modules" || name === "favicon.ico") return `${name} is a reserved name`;
  return null;
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be an npm package: ${reason}`,
    hintOnSign(target, "@", "Name it as in the registry: name, @scope/name or name@1.2.3."),
  );
}

/** npm's {@link Grammar}. */
/** Whether npm itself is asked depends on whose credentials are in its settings. */
export const NOT_ASKED = "npm was not asked about ";

export const npmGrammar: Grammar = {
  tool: "npm",
  operations: { install: "some", rollback: "some" },
  parseTargets: orExecution(parseNpmTargets),
  forms: { all: ["name", "name@version"], exact: "name@version" },
  signals: [],
  isExact: (target) => splitNpmTarget(target).exact,
  osv: () => ({
    base: "npm",
    purl: "npm",
    versioning: SEMVER,
    nameOf: ({ name }, version) => ({ names: [name], ecosystems: ["npm"], osvVersion: version }),
  }),
  claims: {
    hostFacts: () => [],
    mayDiffer: { fields: ["publisher_or_maintainer"], ofRepositories: [], warnings: [NOT_ASKED] },
  },
  programs: [
    {
      name: "npm",
      level: "warn",
      without: "npm plans lack metadata",
      fix: "Install npm if you want to plan npm packages.",
    },
  ],
};
