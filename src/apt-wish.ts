import { type Requested, resolveRemovals, resolveRequested } from "./apt-requested.ts";
import type { Simulation } from "./apt-simulation.ts";
import type { PackageFacts } from "./apt-transaction.ts";
import type { CommandEvidence, ProvenanceEvidence, TransactionEntry } from "./operation-plan.ts";

/** What an operation asks apt for, once its targets are known to be packages. */
export interface Wish {
  /** How apt-get is asked, without the packages; null where nothing is left to ask for. */
  verb: readonly string[] | null;
  /** `name[:arch][=version]`, or `name[:arch]` to be removed. */
  packages: readonly string[];
  /** Evidence of why it is asked for. */
  evidence: ProvenanceEvidence[];
  commands: CommandEvidence[];
  /** Why it can't be asked for, one sentence each. With one, there is no plan. */
  problems: string[];
  warnings: string[];
}

/** A wish for packages that somebody has named. */
export function wishFor(verb: readonly string[], packages: readonly string[]): Wish {
  return { verb, packages, evidence: [], commands: [], problems: [], warnings: [] };
}

/** Ties each package that was asked for to what apt makes of it. */
export function resolveWish(
  { verb, packages }: Wish,
  transaction: readonly TransactionEntry[],
  simulation: Simulation,
  facts: PackageFacts,
): Requested {
  switch (verb?.[0]) {
    case "install":
      return resolveRequested(packages, transaction, simulation, facts);
    case "remove":
      return resolveRemovals(packages, transaction, facts);
    default:
      return { exact: [], chosen: [], problems: [], warnings: [] };
  }
}
