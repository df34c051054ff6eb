import { formatAptTarget, parseAptTarget } from "./apt-target.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";

/** What may be added to an apt command line without changing what apt does, by operation. */
const FIXED: Readonly<Record<string, readonly string[]>> = {
  update: ["apt-get", "update"],
  upgrade: ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  repair: ["dpkg", "--configure", "-a"],
};

/** The operations that name packages on the command line. */
const NAMING: readonly string[] = ["install", "remove", "rollback"];

/**
 * The argv of an apt operation. `packages` are those it names: with their versions for what is installed, without for what
 * is removed. A rollback is one or the other.
 */
export function aptArgv(operation: string, packages: readonly string[]): string[] {
  const fixed = Object.hasOwn(FIXED, operation) ? FIXED[operation] : undefined;
  if (fixed !== undefined) return [...fixed];
  if (operation === "remove") return ["apt-get", "remove", "-y", ...packages];
  if (operation !== "rollback") return ["apt-get", "install", "-y", ...packages];
  return packages.some((name) => name.includes("="))
    ? ["apt-get", "install", "-y", "--allow-downgrades", ...packages]
    : ["apt-get", "remove", "-y", ...packages];
}

/**
 * The argv that a signature covers: every package with its exact version, so that apt has nothing left to choose.
 * @throws AegisError `invalid_document`
 */
export function signedAptArgv(plan: Pick<OperationPlan, "operation" | "exact_targets">): string[] {
  if (NAMING.includes(plan.operation)) {
    const [first] = plan.exact_targets;
    if (first === undefined) throw notSignable("it names no exact package");
    const versions = plan.operation === "install" || (plan.operation === "rollback" && first.includes("="));
    for (const target of plan.exact_targets) assertExact(target, versions);
  } else if (!Object.hasOwn(FIXED, plan.operation)) {
    throw notSignable(`apt has no operation ${plan.operation}`);
  }
  return aptArgv(plan.operation, plan.exact_targets);
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
    throw notSignable(`${JSON.stringify(target)} would be removed, and names a version`);
}

function notSignable(why: string): AegisError {
  return new AegisError("invalid_document", `this apt plan can't be signed: ${why}`, "Make a new plan.");
}

/** A package as apt names it: with its architecture only where that is foreign to the host. */
export function aptName(name: string, architecture: string, native: string): string {
  return architecture === native || architecture === "all" ? name : `${name}:${architecture}`;
}

/** The exact spelling of a requested package: the architecture where it was asked for, or where it is foreign. */
export function exactTarget(entry: TransactionEntry, asked: string | null, native: string): string {
  const foreign = entry.architecture !== native && entry.architecture !== "all";
  return formatAptTarget({
    name: entry.name,
    architecture: asked ?? (foreign ? entry.architecture : null),
    version: entry.to_version,
  });
}

/** Packages asked for in one call: far below what a kernel allows an argv. */
const BATCH = 2000;

/** Words in groups that each fit one command line. */
export function batches(words: readonly string[]): string[][] {
  const result: string[][] = [];
  for (let at = 0; at < words.length; at += BATCH) result.push(words.slice(at, at + BATCH));
  return result;
}

/** What has to become of a package: `name:arch=version` to be there again, `name:arch-` to be gone. */
export function undoSubject(name: string, architecture: string, version: string | null): string {
  return `${name}:${architecture}${version === null ? "-" : `=${version}`}`;
}

/** What an entry of a transaction makes of its package, in the same words. */
export function madeSubject({ name, architecture, to_version }: TransactionEntry): string {
  return undoSubject(name.replace(/:.*$/, ""), architecture, to_version);
}
