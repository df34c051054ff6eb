import { byCodeUnit } from "./canonical.ts";
import type { DeniedTarget } from "./doc-plan.ts";
import type { Targets } from "./eco-grammar.ts";
import { parseExecution } from "./eco-target.ts";
import { AegisError } from "./errors.ts";

/** Upstream version and revision, as dpkg accepts them (parseversion, lib/dpkg/parsehelp.c). A `:` requires an epoch. */
const UPSTREAM = /^[0-9][0-9A-Za-z.+~:-]*$/;
const REVISION = /^[0-9A-Za-z.+~]+$/;
/** Largest epoch: dpkg's INT_MAX. */
const MAX_EPOCH = "2147483647";

/**
 * Whether a text is a Debian version accepted by `dpkg --validate-version` (deb-version(7)): no wildcard, regular
 * expression or white space. Stricter in two ways that no archive needs: an epoch is digits only, and the length is
 * limited.
 */
export function isDebVersion(text: string): boolean {
  if (text.length > 256) return false;
  const colon = text.indexOf(":");
  const epoch = text.slice(0, Math.max(colon, 0));
  if (colon >= 0 && (!/^[0-9]+$/.test(epoch) || compareNumbers(epoch, MAX_EPOCH) > 0)) return false;
  const rest = text.slice(colon + 1);
  const dash = rest.lastIndexOf("-");
  if (dash < 0) return UPSTREAM.test(rest);
  // A trailing `-` is an empty revision, which apt would read as "remove".
  return UPSTREAM.test(rest.slice(0, dash)) && REVISION.test(rest.slice(dash + 1));
}

/**
 * Compares two Debian versions: negative if `a` is older, 0 if equal, positive if `a` is newer.
 * @see deb-version(7), "Sorting algorithm"
 */
export function compareDebVersions(a: string, b: string): number {
  const [x, y] = [split(a), split(b)];
  return (
    compareNumbers(x.epoch, y.epoch) ||
    comparePart(x.upstream, y.upstream) ||
    comparePart(x.revision, y.revision)
  );
}

function split(version: string): { epoch: string; upstream: string; revision: string } {
  const colon = version.indexOf(":");
  const rest = version.slice(colon + 1);
  const dash = rest.lastIndexOf("-");
  return {
    epoch: colon < 0 ? "" : version.slice(0, colon),
    upstream: dash < 0 ? rest : rest.slice(0, dash),
    revision: dash < 0 ? "" : rest.slice(dash + 1),
  };
}

/** Compares alternating runs of non-digits, by {@link rank}, and digits, by value. */
function comparePart(a: string, b: string): number {
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    while (isOther(a[i]) || isOther(b[j])) {
      const difference = rank(a[i]) - rank(b[j]);
      if (difference !== 0) return difference;
      i++;
      j++;
    }
    const [m, n] = [digitsFrom(a, i), digitsFrom(b, j)];
    const difference = compareNumbers(m, n);
    if (difference !== 0) return difference;
    i += m.length;
    j += n.length;
  }
  return 0;
}

function isOther(c: string | undefined): boolean {
  return c !== undefined && (c < "0" || c > "9");
}

/** `~` sorts before the end of a part, the end and digits before letters, letters before other characters. */
function rank(c: string | undefined): number {
  if (c === undefined || !isOther(c)) return 0;
  if (c === "~") return -1;
  const code = c.charCodeAt(0);
  return /[A-Za-z]/.test(c) ? code : code + 256;
}

function digitsFrom(text: string, start: number): string {
  let end = start;
  while (end < text.length && !isOther(text[end])) end++;
  return text.slice(start, end);
}

/** Compares decimal digits of any length without rounding; "" is zero. */
function compareNumbers(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  if (x.length !== y.length) return x.length - y.length;
  return byCodeUnit(x, y);
}

/** A package on apt's command line. */
export interface AptTarget {
  name: string;
  /** Null if not given: apt then prefers the host's architecture. */
  architecture: string | null;
  version: string | null;
}

/** Debian Policy 5.6.1, without a trailing `-`, which apt reads as "remove". */
const NAME = /^[a-z0-9][a-z0-9+.-]{0,126}[a-z0-9+.]$/;
const ARCHITECTURE = /^[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?$/;
/** Architecture wildcards; a pinned target must name one architecture. */
const WILDCARD_ARCHITECTURES: readonly string[] = ["any", "native"];

/** Whether a text is a Debian package name. */
export function isPackageName(text: string): boolean {
  return NAME.test(text);
}

/** Operations on whatever version is installed. */
const TAKES_INSTALLED = {
  remove: "a removal",
  purge: "a purge",
  hold: "a hold",
  unhold: "an unhold",
} as const;

/**
 * Parses `name`, `name:arch`, `name=version` or `name:arch=version`.
 * @throws AegisError `invalid_target`
 */
export function parseAptTarget(text: string): AptTarget {
  const equals = text.indexOf("=");
  const version = equals < 0 ? null : text.slice(equals + 1);
  const left = equals < 0 ? text : text.slice(0, equals);
  const colon = left.indexOf(":");
  const architecture = colon < 0 ? null : left.slice(colon + 1);
  const name = colon < 0 ? left : left.slice(0, colon);
  if (name.endsWith("-")) throw invalid(text, "apt reads a trailing `-` as a removal");
  if (!NAME.test(name)) throw invalid(text, "it is not the name of one Debian package");
  if (
    architecture !== null &&
    (!ARCHITECTURE.test(architecture) || WILDCARD_ARCHITECTURES.includes(architecture))
  ) {
    throw invalid(text, "what follows the `:` is not one architecture");
  }
  if (version !== null && !isDebVersion(version))
    throw invalid(text, "what follows the `=` is not a version");
  return { name, architecture, version };
}

/** A target in apt's syntax. */
export function formatAptTarget({ name, architecture, version }: AptTarget): string {
  return `${name}${architecture === null ? "" : `:${architecture}`}${version === null ? "" : `=${version}`}`;
}

/**
 * Checks the targets of an apt operation, one exact package each. URLs and package files are returned as denied.
 * @throws AegisError `invalid_target` for operators (`pkg-`), patterns, `name/suite`, options, white space
 */
export function parseAptTargets(targets: readonly string[]): Targets {
  const unique = [...new Set(targets)];
  const denied: DeniedTarget[] = [];
  for (const target of unique) {
    const signal = deniedBy(target);
    if (signal === null) parseAptTarget(target);
    else denied.push({ target, signal });
  }
  return { targets: unique, denied, targetType: "package" };
}

/** Targets apt would fetch or read directly, bypassing its repositories. */
function deniedBy(target: string): DeniedTarget["signal"] | null {
  if (target.length > 1024 || !/^[\x21-\x7e]+$/.test(target) || target.startsWith("-")) return null;
  if (/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(target)) return "url-denied";
  if (/^(?:file|copy|cdrom):/.test(target)) return "local-path-denied";
  if (/^(?:\.{0,2}|~[^/]*)\//.test(target) || /\.d?deb$/.test(target)) return "local-path-denied";
  return null;
}

/**
 * Checks the targets of any apt operation: packages, packages without versions to remove, one execution to roll back,
 * or none.
 * @throws AegisError `invalid_target`
 */
export function parseAptOperation(operation: string, targets: readonly string[]): Targets {
  switch (operation) {
    case "update":
    case "upgrade":
    case "full-upgrade":
    case "security-upgrade":
    case "autoremove":
    case "repair":
      if (targets.length === 0) return { targets: [], denied: [], targetType: "package" };
      throw new AegisError(
        "invalid_target",
        `apt ${operation} takes no target`,
        `Try: aegis plan apt ${operation}`,
      );
    case "remove":
    case "purge":
    case "hold":
    case "unhold": {
      const parsed = parseAptTargets(targets);
      const versioned = parsed.targets.find((target) => target.includes("=") && !isDenied(parsed, target));
      if (versioned !== undefined) throw invalid(versioned, `${TAKES_INSTALLED[operation]} takes no version`);
      return parsed;
    }
    case "rollback":
      return parseExecution(targets);
    case "add-repository":
    case "remove-repository":
      return parseRepositoryName(operation, targets);
    default:
      return parseAptTargets(targets);
  }
}

/** A file's name below /etc/apt/sources.list.d, without `.sources`. No dots: it could seem to end in something else. */
function parseRepositoryName(operation: string, targets: readonly string[]): Targets {
  const [name = "", second] = targets;
  if (second === undefined && /^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$/.test(name))
    return { targets: [name], denied: [], targetType: "repository" };
  throw new AegisError(
    "invalid_target",
    second === undefined
      ? `${JSON.stringify(name.slice(0, 80))} can't name a repository's file: small letters, digits, - and _ only`
      : `${operation} takes one name`,
    `Type: aegis plan apt ${operation} docker`,
  );
}

function isDenied({ denied }: Targets, target: string): boolean {
  return denied.some((one) => one.target === target);
}

function invalid(target: string, why: string): AegisError {
  const shown = target.length > 80 ? `${target.slice(0, 80)}…` : target;
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(shown)} can't be an apt target: ${why}`,
    "Name packages as name, name=version, name:architecture or name:architecture=version.",
    { target: shown },
  );
}
