import { aptName } from "./apt-argv.ts";
import type { PolicyPackage } from "./apt-policy.ts";
import {
  isFetched,
  type OperationPlan,
  type ProvenanceEvidence,
  type RepositoryEvidence,
  type TransactionEntry,
} from "./operation-plan.ts";

/** Per package, the chain from a signed InRelease over its Packages index to the .deb. */
export function chainEvidence(
  transaction: readonly TransactionEntry[],
  repositories: readonly RepositoryEvidence[],
  conflicts: readonly ProvenanceEvidence[],
): ProvenanceEvidence[] {
  return transaction.filter(isFetched).map((entry) => {
    const subject = subjectOf(entry);
    const offers = entry.sources.map((id) => ({ id, evidence: repositories.find((r) => r.id === id) }));
    // apt may take the file from any of them, so the chain is as good as the worst.
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

/** Packages that the transaction brings in, as package URLs (https://github.com/package-url/purl-spec, type `deb`). */
export function sbomEvidence(
  transaction: readonly TransactionEntry[],
  namespace: string,
): OperationPlan["sbom_evidence"] {
  return transaction.filter(isFetched).map(({ name, to_version, architecture, sha256 }) => ({
    purl: `pkg:deb/${quote(namespace)}/${quote(name)}@${quote(to_version ?? "")}?arch=${quote(architecture)}`,
    sha256,
  }));
}

/** Percent-encoding as purl wants it: everything but letters, digits, `.-_~` and the colon. */
function quote(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll("%3A", ":");
}

/** The exact inverse of a transaction, and which of the old versions no source offers any more. */
export function rollbackPlan(
  transaction: readonly TransactionEntry[],
  policy: ReadonlyMap<string, PolicyPackage>,
  native: string,
): OperationPlan["rollback_plan"] {
  const inverse: string[] = [];
  const unobtainable: string[] = [];
  for (const entry of transaction) {
    const architecture = entry.architecture === "all" ? native : entry.architecture;
    const name = `${entry.name}:${architecture}`;
    if (entry.from_version === null) {
      inverse.push(`${name}-`);
      continue;
    }
    const back = `${name}=${entry.from_version}`;
    inverse.push(back);
    const table = policy.get(aptName(entry.name, entry.architecture, native));
    if ((table?.versions.get(entry.from_version) ?? []).length === 0) unobtainable.push(back);
  }
  const notes =
    inverse.length === 0
      ? []
      : ["What maintainer scripts and services changed in data and configuration is not undone by it."];
  return { inverse, unobtainable, notes };
}

function subjectOf(entry: TransactionEntry): string {
  return `${entry.name}:${entry.architecture}=${entry.to_version}`;
}
