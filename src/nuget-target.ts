import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { hintOnSign, orExecution, parseSingleTarget, targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";
import { NUGET_VERSIONS, normalizedVersion } from "./nuget-version.ts";

/*
 * What may be asked of NuGet: one package of the registry, alone or with an exact version. `nuget install` takes one at a time.
 */

const MAX_TARGET = 256;
/** NuGet.Packaging's PackageIdValidator, in ASCII, and not beginning with a `_`. */
const ID = /^[A-Za-z0-9]\w*(?:[.-]\w+)*$/;
const MAX_ID = 100;

const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/^(?:git\+|git:|ssh:)|^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:/, "git-source-denied"],
  [/^https?:/i, "direct-url-denied"],
  [/^[a-z][a-z0-9+.-]*:/i, "url-denied"],
  [/^(?:\.{1,2}(?:\/|$)|\/|~\/)|\.nupkg$/i, "local-path-denied"],
  [/(?:^|\/)packages\.config$/i, "requirements-file-denied"],
];

interface NugetTarget {
  id: string;
  /** Normalised; null where none was given. */
  version: string | null;
}

/**
 * Sorts a target into what a registry can answer and what is always denied.
 * @throws AegisError `invalid_target`
 */
function parseNugetTargets(_operation: string, given: readonly string[]): Targets {
  return parseSingleTarget(given, {
    targetType: "package",
    problemOf: (target) => targetProblem(target, MAX_TARGET),
    sources: SOURCES,
    split: splitNugetTarget,
    invalid,
    single: "nuget installs one package at a time; plan it by itself",
  });
}

/**
 * A target taken apart.
 * @throws AegisError `invalid_target`
 */
export function splitNugetTarget(target: string): NugetTarget {
  const at = target.indexOf("@");
  const id = at < 0 ? target : target.slice(0, at);
  if (!isPackageId(id))
    throw invalid(target, "an id has letters, digits and _, with single dots and hyphens between them");
  if (at < 0) return { id, version: null };
  const version = normalizedVersion(target.slice(at + 1));
  if (version !== null) return { id, version };
  throw invalid(target, `${JSON.stringify(target.slice(at + 1))} is not an exact version, such as 1.2.3`);
}

/** Whether a text can be the id of a package. */
export function isPackageId(id: string): boolean {
  return id.length <= MAX_ID && ID.test(id);
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be a NuGet package: ${reason}`,
    hintOnSign(target, "@", "Name it as in the registry: Newtonsoft.Json or Newtonsoft.Json@13.0.3."),
  );
}

/** What NuGet's words mean: see {@link Grammar}. */
export const nugetGrammar: Grammar = {
  tool: "nuget",
  operations: { install: "some", rollback: "some" },
  parseTargets: orExecution(parseNugetTargets),
  forms: { all: ["id", "id@version"], exact: "id@version" },
  signals: ["build-targets-risk", "powershell-risk", "native-dll-risk", "aspnet-sensitive"],
  isExact: (target) => splitNugetTarget(target).version !== null,
  osv: () => ({
    base: "NuGet",
    purl: "nuget",
    versioning: NUGET_VERSIONS,
    nameOf: ({ name }, version) => ({ names: [name], ecosystems: ["NuGet"], osvVersion: version }),
  }),
  claims: {
    hostFacts: () => [],
    mayDiffer: { fields: ["publisher_or_maintainer", "deprecated"], ofRepositories: [], warnings: [] },
  },
  programs: [
    {
      name: "nuget",
      // It has no option for that, and its help, written to anything but a terminal, never ends (2.8.7, measured).
      version: null,
      level: "warn",
      without: "NuGet packages can be planned and not installed",
      fix: "Install nuget if you want to install NuGet packages. Debian 12 and Ubuntu 22.04 have it; Debian 13 runs Debian 12's package on its own Mono.",
    },
  ],
};
