import { formatAptTarget, parseAptTarget } from "./apt-target.ts";
import type { OperationPlan, TransactionEntry } from "./documents.ts";
import { AegisError } from "./errors.ts";

/** What may be added to an apt command line without changing what apt does, by operation. */
const FIXED: Readonly<Record<string, readonly string[]>> = {
  update: ["apt-get", "update"],
  upgrade: ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
};

/** The argv of an apt operation; `packages` only for `install`. */
export function aptArgv(operation: string, packages: readonly string[]): string[] {
  return [...(FIXED[operation] ?? ["apt-get", "install", "-y", ...packages])];
}

/**
 * The argv that a signature covers: every package with its exact version, so that apt has nothing left to choose.
 * @throws AegisError `invalid_document`
 */
export function signedAptArgv(plan: Pick<OperationPlan, "operation" | "exact_targets">): string[] {
  if (plan.operation === "install") {
    if (plan.exact_targets.length === 0) throw notSignable("it names no exact package");
    for (const target of plan.exact_targets) assertExact(target);
  } else if (!Object.hasOwn(FIXED, plan.operation)) {
    throw notSignable(`apt has no operation ${plan.operation}`);
  }
  return aptArgv(plan.operation, plan.exact_targets);
}

function assertExact(target: string): void {
  let version: string | null;
  try {
    version = parseAptTarget(target).version;
  } catch {
    throw notSignable(`${JSON.stringify(target)} is not a package with an exact version`);
  }
  if (version === null) throw notSignable(`${JSON.stringify(target)} has no exact version`);
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
