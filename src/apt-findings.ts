import { aptArgv } from "./apt-argv.ts";
import type { Requested } from "./apt-requested.ts";
import type { Simulation } from "./apt-simulation.ts";
import { emptyFindings, type Findings, type PlanningOutput } from "./ecosystem.ts";
import { type CommandEvidence, isFetched, MAX_TAKEN_OVER, type TransactionEntry } from "./operation-plan.ts";

const MAX_WARNINGS = 200;

/** A plan's findings before anything is known: complete, and relied on by nobody. */
export function aptFindings(
  operation: string,
  targets: readonly string[],
  commands: CommandEvidence[],
  warnings: readonly string[],
): Findings {
  return {
    ...emptyFindings(aptArgv(operation, targets)),
    warnings: [...new Set(warnings)].slice(0, MAX_WARNINGS).map((line) => line.slice(0, 8192).toWellFormed()),
    raw_evidence: { commands },
  };
}

/** Why the simulation can't be relied on; empty where it can. */
export function failuresOf(output: PlanningOutput, simulation: Simulation): string[] {
  const failed = commandFailure(output);
  if (failed.length > 0) return failed;
  return simulation.unreadable.map((line) => `apt-get printed an action that can't be read: ${line}`);
}

export function commandFailure({ evidence }: PlanningOutput): string[] {
  if (evidence.outcome === "ok") return [];
  const command = evidence.argv.slice(0, 2).join(" ");
  const why = {
    missing: "is not installed",
    failed: "failed",
    timeout: "took too long",
    truncated: "said too much",
  };
  return [`${command} ${why[evidence.outcome]}`];
}

/** Packages that no hash binds or no plan could describe, and a transaction that nobody asked for by name. */
export function unpinnable(
  transaction: readonly TransactionEntry[],
  operation: string,
  requested: Requested,
): string[] {
  const failures = transaction.filter(isFetched).flatMap((e) => {
    const missing = e.sha256 === null ? "SHA-256" : e.size === null ? "size" : null;
    return missing === null ? [] : [`no ${missing} is known for ${e.name}:${e.architecture}=${e.to_version}`];
  });
  const taking = transaction.filter(({ takes_over = [] }) => takes_over.length > MAX_TAKEN_OVER);
  failures.push(...taking.map((e) => `${e.name} takes over files of more packages than a plan can name`));
  const { exact, problems } = requested;
  if (operation !== "upgrade" && exact.length === 0 && problems.length === 0 && transaction.length > 0) {
    failures.push("every target is as asked for already, but apt would change other packages");
  }
  return failures;
}
