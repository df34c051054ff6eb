import type { DeniedTarget } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { hintOnSign, orExecution } from "./eco-target.ts";
import { AegisError } from "./errors.ts";
import { comparePython, isPythonVersion } from "./pip-version.ts";

/*
 * What may be asked of pip: projects of an index by their names, alone or with one exact version. Everything else that pip takes
 * names content that no index vouches for, or more than one version.
 */

const MAX_TARGET = 512;
/** https://packaging.python.org/en/latest/specifications/name-normalization/ */
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;

/** First match wins. White space around `@` has been dropped. */
const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/^(?:-r|--requirement|-c|--constraint|--requirements-from-script|--group)/, "requirements-file-denied"],
  [/^(?:-e|--editable|-f|--find-links)/, "local-path-denied"],
  [/^(?:[A-Za-z0-9._-]+(?:\[[^\]]*\])?@)?(?:git|hg|svn|bzr|ssh)(?:\+[a-z]+)?:/i, "git-source-denied"],
  [/^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!\/)/, "git-source-denied"],
  [/^(?:[A-Za-z0-9._-]+(?:\[[^\]]*\])?@)?https?:\/\/[^?#]*\.git(?:[?#@].*)?$/i, "git-source-denied"],
  [/^(?:[A-Za-z0-9._-]+(?:\[[^\]]*\])?@)?(?:file:|\.{0,2}\/|~\/)/i, "local-path-denied"],
  [/^(?:[A-Za-z0-9._-]+(?:\[[^\]]*\])?@)?https?:/i, "direct-url-denied"],
  [/^(?:[A-Za-z0-9._-]+(?:\[[^\]]*\])?@)?[a-z][a-z0-9+.-]*:/i, "url-denied"],
  [/(?:^|[^=])\.(?:txt|in)$/i, "requirements-file-denied"],
  [/(?:^|\/)pylock(?:\.[^./]+)?\.toml$/, "requirements-file-denied"],
  [/^(?!-).*\/|^\.{1,2}$|\.(?:whl|zip|egg|tar|tgz|tar\.(?:gz|bz2|xz)|tbz2?|txz)$/i, "local-path-denied"],
];

export interface PipTarget {
  /** Normalised: lower case, single hyphens. */
  name: string;
  /** Null where none was given. */
  version: string | null;
}

/** The one spelling of a project's name: `Foo._Bar` is `foo-bar`. */
export function normalName(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, "-");
}

/**
 * Sorts targets into what an index can answer and what is always denied.
 * @throws AegisError `invalid_target` for what could never be planned
 */
export function parsePipTargets(_operation: string, given: readonly string[]): Targets {
  const targets = new Map<string, string>();
  const denied: DeniedTarget[] = [];
  for (const target of given) {
    const compact = target.replace(/\s*@\s*/, "@").replace(/^(-\w+) +/, "$1");
    const signal = SOURCES.find(([shape]) => shape.test(compact))?.[1];
    const reason = unreadable(target, compact) ?? (signal === undefined ? unusable(target) : null);
    if (reason !== null) throw invalid(target, reason);
    if (signal !== undefined) {
      if (!targets.has(target)) denied.push({ target, signal });
      targets.set(target, target);
      continue;
    }
    const { name, version } = splitPipTarget(target);
    const normal = version === null ? name : `${name}==${version}`;
    const other = targets.get(name) ?? normal;
    if (other !== normal) throw invalid(target, `${JSON.stringify(other)} asks for the same project`);
    targets.set(name, normal);
  }
  return { targets: [...targets.values()], denied, targetType: "package" };
}

/**
 * A target taken apart.
 * @throws AegisError `invalid_target`
 */
export function splitPipTarget(target: string): PipTarget {
  const at = target.indexOf("==");
  const [given, version] = at < 0 ? [target, null] : [target.slice(0, at), target.slice(at + 2)];
  if (given.length > 128 || !NAME.test(given))
    throw invalid(target, "a name has letters, digits and . _ - between them");
  if (version !== null && !isPythonVersion(version))
    throw invalid(target, `${JSON.stringify(version)} is no version`);
  return { name: normalName(given), version };
}

/** Why a target can't even be shown as it is; null if it can. */
function unreadable(target: string, compact: string): string | null {
  if (target === "") return "it is empty";
  if (target.length > MAX_TARGET) return `it is longer than ${MAX_TARGET} characters`;
  return /[\s\p{C}\p{Z}]/u.test(compact) ? "it contains white space or control characters" : null;
}

/** Why a target that names a project of an index can't be planned; null if it can. */
function unusable(target: string): string | null {
  if (target.startsWith("-")) return "it would be read as an option";
  if (target.includes("["))
    return "extras can't be carried into the signed command; name the packages that the extra adds";
  if (target.includes("===")) return "=== compares texts; name the version with ==";
  if (/[<>~,]|!=|\.\*$|(?:^|[^=])=(?:[^=]|$)/.test(target))
    return "a range is no exact version; name one with ==";
  if (/["'`$;|(){}\]*!\\#&?%^]/.test(target)) return "it contains shell metacharacters";
  return null;
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be a Python package: ${reason}`,
    hintOnSign(target, "==", "Name it as in its index: name or name==1.2.3."),
  );
}

/** What pip's words mean: see {@link Grammar}. */
export const pipGrammar: Grammar = {
  tool: "pip",
  operations: { install: "some", rollback: "some" },
  parseTargets: orExecution(parsePipTargets),
  forms: { all: ["name", "name==version"], exact: "name==version" },
  signals: [
    ...(["build-backend-risk", "setup-py-risk", "native-extension-risk"] as const),
    ...(["virtualenv-missing", "user-site-risk"] as const),
  ],
  isExact: (target) => splitPipTarget(target).version !== null,
  osv: () => ({
    base: "PyPI",
    purl: "pypi",
    versioning: { isVersion: isPythonVersion, compare: comparePython },
    nameOf: ({ name }, version) => ({ names: [normalName(name)], ecosystems: ["PyPI"], osvVersion: version }),
  }),
  claims: {
    hostFacts: () => [],
    mayDiffer: { fields: [], ofRepositories: [], warnings: ["pip's settings: "] },
  },
  shownBy: "pip3",
  programs: [
    {
      name: "python3",
      level: "warn",
      without: "Python packages can be neither planned nor installed",
      fix: "Install python3-pip if you want to plan Python packages.",
    },
  ],
};
