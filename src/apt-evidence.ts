import { aptArgv, aptName } from "./apt-argv.ts";
import type { PolicyPackage } from "./apt-cache.ts";
import { isKept, type KeptFile } from "./apt-kept.ts";
import type { Requested } from "./apt-requested.ts";
import type { Simulation } from "./apt-simulation.ts";
import { findInstalled, type PackageFacts } from "./apt-transaction.ts";
import { KEPT_FILE } from "./doc-evidence.ts";
import {
  type Host,
  isFetched,
  MAX_TAKEN_OVER,
  type OperationPlan,
  type TransactionEntry,
} from "./doc-plan.ts";
import type { CommandEvidence, ProvenanceEvidence, RepositoryEvidence } from "./doc-plan-evidence.ts";
import { emptyFindings, type Findings } from "./eco.ts";
import type { PlanningOutput } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { SYSTEM } from "./paths.ts";

/** For each package, the chain from a signed InRelease through its Packages index to the .deb, or that Aegis kept it. */
export function chainEvidence(
  transaction: readonly TransactionEntry[],
  repositories: readonly RepositoryEvidence[],
  conflicts: readonly ProvenanceEvidence[],
): ProvenanceEvidence[] {
  return transaction.filter(isFetched).map((entry) => {
    const subject = subjectOf(entry);
    if (isKept(entry)) {
      const detail = `an execution had it verified and installed; kept in ${SYSTEM.kept}, SHA-256 ${entry.sha256 ?? "unknown"}`;
      return { kind: KEPT_FILE, subject, verified: entry.sha256 !== null, key: null, detail };
    }
    const offers = entry.sources.map((id) => ({ id, evidence: repositories.find((r) => r.id === id) }));
    // apt may use any of them, so the chain is as weak as the weakest.
    const unsigned = offers.filter(({ evidence }) => evidence?.signature_verified !== true);
    const [first] = offers;
    const isSigned = first !== undefined && unsigned.length === 0;
    return {
      kind: "apt-chain",
      subject,
      verified:
        isSigned && entry.sha256 !== null && !conflicts.some((conflict) => conflict.subject === subject),
      key: isSigned ? (first.evidence?.key_fingerprints[0] ?? null) : null,
      detail: isSigned
        ? `InRelease of ${first.id}, its Packages index as apt checked it on download, .deb SHA-256 ${entry.sha256 ?? "unknown"}`
        : `no verified signature of a source that offers it (${unsigned.map(({ id }) => id).join(", ") || "source unknown"})`,
    };
  });
}

/** Packages to be installed, as package URLs of type `deb`, with the host's distribution as namespace. */
export function sbomEvidence(
  transaction: readonly TransactionEntry[],
  { os_id, os_version }: Pick<Host, "os_id" | "os_version">,
): OperationPlan["sbom_evidence"] {
  const distro = os_version === "" ? {} : { distro: `${os_id}-${os_version}` };
  return transaction.filter(isFetched).map(({ name, to_version, architecture, sha256 }) => ({
    purl: purlOf({
      ...{ type: "deb", namespace: os_id, name, version: to_version },
      qualifiers: { arch: architecture, ...distro },
    }),
    sha256,
  }));
}

/** What a purge does that its inverse doesn't undo. */
export const PURGE_LOSS =
  "What a purge deletes is lost: configuration files, and what the packages' postrm scripts delete, such as data, logs and accounts. A rollback installs the packages again, as new.";

/** What an operation does that its inverse doesn't undo. */
const NOT_UNDONE: Readonly<Record<string, string>> = {
  purge: PURGE_LOSS,
  autoremove: "Packages that a rollback installs again count as installed by hand.",
};

/** The exact inverse of a transaction, and the old versions that no source offers any more: those that Aegis keeps, and the others. */
export function rollbackPlan(
  transaction: readonly TransactionEntry[],
  policy: ReadonlyMap<string, PolicyPackage>,
  { native, installed }: Pick<PackageFacts, "native" | "installed">,
  operation: string,
  files: readonly KeptFile[],
): OperationPlan["rollback_plan"] {
  const inverse: string[] = [];
  const kept: string[] = [];
  const unobtainable: string[] = [];
  for (const entry of transaction) {
    const architecture = entry.architecture === "all" ? native : entry.architecture;
    const name = `${entry.name}:${architecture}`;
    if (entry.from_version === null) {
      inverse.push(`${name}-`);
      continue;
    }
    // A purge of what a removal has left behind.
    if (
      findInstalled(installed, entry.name, entry.architecture, native)?.state === "config-files" &&
      entry.action === "remove"
    )
      continue;
    const back = `${name}=${entry.from_version}`;
    inverse.push(back);
    const table = policy.get(aptName(entry.name, entry.architecture, native));
    if ((table?.versions.get(entry.from_version) ?? []).length > 0) continue;
    const isHere = files.some(
      (file) =>
        file.name === entry.name &&
        file.version === entry.from_version &&
        [entry.architecture, native, "all"].includes(file.architecture),
    );
    (isHere ? kept : unobtainable).push(back);
  }
  const own = NOT_UNDONE[operation];
  const notes =
    transaction.length === 0
      ? []
      : [
          "What maintainer scripts and services changed in data and configuration is not undone by it.",
          ...(own === undefined ? [] : [own]),
        ];
  return { inverse, unobtainable, ...(kept.length === 0 ? {} : { kept }), notes };
}

function subjectOf(entry: TransactionEntry): string {
  return `${entry.name}:${entry.architecture}=${entry.to_version}`;
}

const MAX_WARNINGS = 200;

/** A plan's initial findings: complete in form, before anything is known. */
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

/** Reasons the simulation can't be trusted; empty if it can. */
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

/** Operations that leave it to apt which packages change. */
const WITHOUT_TARGETS: readonly string[] = ["upgrade", "full-upgrade", "autoremove"];

/** Packages without a hash or that a plan can't describe, and changes although every target is already as requested. */
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
  if (
    !WITHOUT_TARGETS.includes(operation) &&
    exact.length === 0 &&
    problems.length === 0 &&
    transaction.length > 0
  ) {
    failures.push("every target is as asked for already, but apt would change other packages");
  }
  return failures;
}
