import { isFetched, type OperationPlan, REPOSITORY_TRUST, type RepositoryEvidence } from "./doc-plan.ts";

/*
 * Words in a plan that more than one reader goes by, and what its evidence says of the versions that arrive.
 */

/** Stands for the id in vulnerability evidence where a configured source could not answer. */
export const NO_DATA = "no-data";
/** What a warning about vulnerability data begins with. */
export const OF_VULNERABILITIES = "Vulnerabilities: ";

/**
 * Whether a warning is the same in every honest plan of one change. Those about vulnerabilities are not, since each side has data
 * of its own; `passing` are the beginnings that the ecosystem names.
 */
export function isLasting(warning: string, passing: readonly string[]): boolean {
  return ![OF_VULNERABILITIES, ...passing].some((beginning) => warning.startsWith(beginning));
}

/** Kind of the evidence in a rollback's plan: each subject is one change that the executor's own record asks for. */
export const RECORDED_INVERSE = "apt-recorded-inverse";

/** A source's trust. One whose signature apt does not check is untrusted, whatever its evidence says. */
export function checkedTrust(source: RepositoryEvidence): RepositoryEvidence["trust"] {
  const isChecked = source.signature_verified && !source.trusted_option && !source.allow_insecure;
  return isChecked ? source.trust : "untrusted";
}

/** The rank of {@link checkedTrust}: 0 for the distribution's own archive; higher is less trusted. */
export function doubtOf(source: RepositoryEvidence): number {
  return REPOSITORY_TRUST.indexOf(checkedTrust(source));
}

/** Whether the version that a record is about is the record's own fix. */
function isOwnFix({
  version,
  matched_version,
  fixed_version,
}: OperationPlan["vulnerability_evidence"][number]): boolean {
  return fixed_version === (matched_version ?? version);
}

/** The gravest first. An unknown severity may be anything: it stands below high. */
const GRAVEST_FIRST: readonly string[] = ["critical", "high", "unknown", "medium", "low", "none"];

/**
 * Vulnerabilities of the versions to be installed, the gravest first, and last the versions that no source could answer for. A
 * record of such a version counts even if it says that it is about the old one; one that names it as the fix doesn't.
 */
export function vulnerabilitiesOfNewVersions({
  transaction,
  vulnerability_evidence,
}: Pick<OperationPlan, "transaction" | "vulnerability_evidence">): OperationPlan["vulnerability_evidence"] {
  const fetched = transaction.filter(isFetched);
  const arriving = new Set(fetched.map((e) => `${e.name.replace(/:.*$/, "")} ${e.to_version}`));
  const rank = ({ id, severity }: (typeof vulnerability_evidence)[number]) =>
    id === NO_DATA ? GRAVEST_FIRST.length : GRAVEST_FIRST.indexOf(severity);
  return vulnerability_evidence
    .filter((x) => x.applies_to === "new" || arriving.has(`${x.package} ${x.version}`))
    .filter((x) => !isOwnFix(x))
    .toSorted((a, b) => rank(a) - rank(b));
}
