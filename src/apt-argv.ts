import { repositoryArgv } from "./apt-repository-argv.ts";
import { formatAptTarget, parseAptTarget } from "./apt-target.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";

/** The argv of operations without package names. The -o option keeps dpkg from asking about configuration files. */
const FIXED: Readonly<Record<string, readonly string[]>> = {
  update: ["apt-get", "update"],
  upgrade: ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  "full-upgrade": ["apt-get", "full-upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  autoremove: ["apt-get", "autoremove", "-y"],
  repair: ["dpkg", "--configure", "-a"],
};

/** Operations that change a repository's file, or may undo that. */
const WITH_REPOSITORY: readonly string[] = ["add-repository", "remove-repository", "rollback"];

/** Operations with package names on the command line. */
const WITH_PACKAGES: readonly string[] = [
  "install",
  "security-upgrade",
  "remove",
  "purge",
  "rollback",
  "hold",
  "unhold",
];

/** A change of holds, which apt-mark(8) makes. */
export type Mark = "hold" | "unhold";

export function isMarkOperation(operation: string): operation is Mark {
  return operation === "hold" || operation === "unhold";
}

/** How a transaction changes holds; null if it doesn't. */
function markOf(transaction: readonly TransactionEntry[]): Mark | null {
  const actions = transaction.map(({ action }) => action);
  return actions.find(isMarkOperation) ?? null;
}

/**
 * The argv of an apt operation. `packages` have versions if to be installed, none if to be removed or marked. A rollback does
 * one of these; `mark` says that it changes holds, and how.
 */
export function aptArgv(operation: string, packages: readonly string[], mark: Mark | null = null): string[] {
  const fixed = Object.hasOwn(FIXED, operation) ? FIXED[operation] : undefined;
  if (fixed !== undefined) return [...fixed];
  const marks = isMarkOperation(operation) ? operation : mark;
  if (marks !== null) return ["apt-mark", marks, ...packages];
  if (operation === "remove" || operation === "purge") return ["apt-get", operation, "-y", ...packages];
  if (operation === "security-upgrade") return ["apt-get", "install", "-y", "--only-upgrade", ...packages];
  if (operation !== "rollback") return ["apt-get", "install", "-y", ...packages];
  return packages.some((name) => name.includes("="))
    ? ["apt-get", "install", "-y", "--allow-downgrades", ...packages]
    : ["apt-get", "remove", "-y", ...packages];
}

/**
 * The argv that gets signed: every package with its exact version, so that apt has no choice left.
 * @throws AegisError `invalid_document`
 */
export function signedAptArgv(
  plan: Pick<OperationPlan, "operation" | "exact_targets" | "repository" | "transaction">,
): string[] {
  if (plan.repository !== undefined && WITH_REPOSITORY.includes(plan.operation))
    return repositoryArgv(plan.repository);
  if (WITH_PACKAGES.includes(plan.operation)) {
    const [first] = plan.exact_targets;
    if (first === undefined) throw notSignable("it names no exact package");
    const versions =
      ["install", "security-upgrade"].includes(plan.operation) ||
      (plan.operation === "rollback" && first.includes("="));
    for (const target of plan.exact_targets) assertExact(target, versions);
  } else if (!Object.hasOwn(FIXED, plan.operation)) {
    throw notSignable(`apt has no operation ${plan.operation}`);
  }
  return aptArgv(plan.operation, plan.exact_targets, markOf(plan.transaction));
}

function assertExact(target: string, versioned: boolean): void {
  let version: string | null;
  try {
    version = parseAptTarget(target).version;
  } catch {
    throw notSignable(`${JSON.stringify(target)} is not one exact package`);
  }
  if (versioned && version === null) throw notSignable(`${JSON.stringify(target)} has no exact version`);
  if (!versioned && version !== null)
    throw notSignable(`${JSON.stringify(target)} has a version, and is not to be installed`);
}

function notSignable(why: string): AegisError {
  return new AegisError("invalid_document", `this apt plan can't be signed: ${why}`, "Create a new plan.");
}

/** A package name as apt prints it: with its architecture only if foreign to the host. */
export function aptName(name: string, architecture: string, native: string): string {
  return architecture === native || architecture === "all" ? name : `${name}:${architecture}`;
}

/** The exact target of a requested package: with its architecture if that was requested or is foreign. */
export function exactTarget(entry: TransactionEntry, asked: string | null, native: string): string {
  const foreign = entry.architecture !== native && entry.architecture !== "all";
  return formatAptTarget({
    name: entry.name,
    architecture: asked ?? (foreign ? entry.architecture : null),
    version: entry.to_version,
  });
}

/** Packages per command line: far below the kernel's limit on argv. */
const BATCH = 2000;

/** Splits words into groups that each fit on a command line. */
export function batches(words: readonly string[]): string[][] {
  const result: string[][] = [];
  for (let at = 0; at < words.length; at += BATCH) result.push(words.slice(at, at + BATCH));
  return result;
}

/** A package's state to restore: `name:arch=version` for a version, `name:arch-` for not installed. */
export function undoSubject(name: string, architecture: string, version: string | null): string {
  return `${name}:${architecture}${version === null ? "-" : `=${version}`}`;
}

/** The resulting state of a transaction entry, as in {@link undoSubject}. */
export function madeSubject({ name, architecture, to_version }: TransactionEntry): string {
  return undoSubject(name.replace(/:.*$/, ""), architecture, to_version);
}
