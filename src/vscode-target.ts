import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { SEMVER } from "./eco-semver.ts";
import { orExecution, parseSingleTarget, targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";

/*
 * What may be asked of an extension gallery: one extension by publisher and name, alone or with an exact version.
 */

const MAX_TARGET = 256;
const MAX_PART = 100;
/** VS Code's EXTENSION_IDENTIFIER_PATTERN. Case doesn't matter in one. */
const ID = /^[A-Za-z0-9][A-Za-z0-9-]*\.[A-Za-z0-9][A-Za-z0-9-]*$/;
/** Extensions have semantic versions without build metadata; the part behind the hyphen is rare. */
const EXACT = /^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*)?$/;

const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/\.vsix(?:[?#].*)?$/i, "vsix-denied"],
  [/^(?:git:|git\+|ssh:)|^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:|\.git$/, "git-source-denied"],
  [/^https?:/i, "direct-url-denied"],
  [/^[A-Za-z][A-Za-z0-9+.-]*:/, "url-denied"],
  [/^(?:\.{1,2}(?:\/|$)|\/|~\/)/, "local-path-denied"],
];

interface ExtensionTarget {
  /** `publisher.name`, in lower case. */
  id: string;
  /** Null where none was given. */
  version: string | null;
}

/** Whether a text is the id of an extension. */
export function isExtensionId(text: string): boolean {
  return ID.test(text) && text.split(".").every((part) => part.length <= MAX_PART);
}

/** Whether a text is a whole version. */
export function isExtensionVersion(text: string): boolean {
  return text.length <= MAX_PART && EXACT.test(text);
}

/**
 * A target taken apart.
 * @throws AegisError `invalid_target`
 */
export function splitExtensionTarget(target: string): ExtensionTarget {
  const at = target.indexOf("@");
  const id = at < 0 ? target : target.slice(0, at);
  const version = at < 0 ? null : target.slice(at + 1);
  if (!isExtensionId(id))
    throw invalid(target, "an id is publisher.name, of letters, digits and hyphens, and begins with neither");
  if (version !== null && !isExtensionVersion(version))
    throw invalid(target, `${JSON.stringify(version)} is not an exact version, such as 1.2.3`);
  return { id: id.toLowerCase(), version };
}

/**
 * Sorts a target into what a gallery can answer and what is always denied.
 * @throws AegisError `invalid_target`
 */
function parseExtensionTargets(_operation: string, given: readonly string[]): Targets {
  const parsed = parseSingleTarget(given, {
    targetType: "extension",
    problemOf: (target) => targetProblem(target, MAX_TARGET),
    sources: SOURCES,
    split: splitExtensionTarget,
    invalid,
    single: "the signed command installs one extension; plan it by itself",
  });
  const denied = new Set(parsed.denied.map(({ target }) => target));
  const normal = (target: string) => {
    const { id, version } = splitExtensionTarget(target);
    return version === null ? id : `${id}@${version}`;
  };
  return { ...parsed, targets: parsed.targets.map((one) => (denied.has(one) ? one : normal(one))) };
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be an extension: ${reason}`,
    "Name it as in its gallery: redhat.java or redhat.java@1.2.3.",
  );
}

/** What the words of VS Code mean: see {@link Grammar}. */
export const vscodeGrammar: Grammar = {
  tool: "vscode",
  operations: { install: "some", rollback: "some" },
  parseTargets: orExecution(parseExtensionTargets),
  forms: { all: ["publisher.name", "publisher.name@version"], exact: "publisher.name@version" },
  signals: [
    ...(["activation-events-risk", "command-activation-risk", "workspace-contains-risk"] as const),
    ...(["bundled-binary-risk", "workspace-access-risk"] as const),
  ],
  isExact: (target) => splitExtensionTarget(target).version !== null,
  // Records have been seen with a slash between publisher and name, and with a dot.
  osv: () => ({
    base: "VSCode",
    purl: "vscode-extension",
    versioning: SEMVER,
    nameOf: ({ name }, version) => ({
      names: [name.replace(".", "/"), name],
      ecosystems: ["VSCode"],
      osvVersion: version,
    }),
  }),
  claims: { hostFacts: () => [], mayDiffer: { fields: ["deprecated"], ofRepositories: [], warnings: [] } },
  programs: [
    {
      name: "code-server",
      instead: "code",
      level: "warn",
      without: "extensions can be planned and not installed",
      fix: "Install code-server if you want to install extensions.",
    },
  ],
};
