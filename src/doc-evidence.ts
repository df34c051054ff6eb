import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import {
  REPOSITORY_TRUST,
  type RepositoryEvidence,
  type Severity,
  type VulnerabilityEvidence,
} from "./doc-plan-evidence.ts";

/* Strings in a plan that several modules match on, and which vulnerabilities its new versions have. */

/** Placeholder id in vulnerability evidence when a configured source could not answer. */
export const NO_DATA = "no-data";
/** Prefix of warnings about vulnerability data. */
export const VULNERABILITY_WARNING = "Vulnerabilities: ";

/**
 * Whether every honest plan of the same change has this warning. Those about vulnerabilities may differ, since each
 * side has its own data; `passing` are the prefixes of others that may, from the ecosystem.
 */
export function isStableWarning(warning: string, passing: readonly string[]): boolean {
  return ![VULNERABILITY_WARNING, ...passing].some((beginning) => warning.startsWith(beginning));
}

/** Evidence kind in a rollback plan: each subject is one change recorded by the executor. */
export const RECORDED_INVERSE = "apt-recorded-inverse";

/** Evidence kind of a package file that Aegis kept: an execution had it verified and installed. The subject is `name:arch=version`. */
export const KEPT_FILE = "apt-kept-file";
/** Evidence kind: a package of the running kernel would be removed. Policy denies it. */
export const RUNNING_KERNEL = "running-kernel";

/**
 * Evidence kinds in a rollback of a managed root: what the execution left, which is there now, and what it replaced, which comes back.
 * Each subject is a tree's digest (treeDigest), which the supervisor of the run compares too.
 */
export const CONTENT_LEFT = "managed-content-left";
export const CONTENT_REPLACED = "managed-content-replaced";

/** The way back from a run of a managed root, whose content is kept as a whole. */
export const CONTENT_KEPT: OperationPlan["rollback_plan"] = {
  inverse: [],
  unobtainable: [],
  notes: ["What the run replaces is kept, and a rollback of the execution brings it back."],
};

/** Whether a plan brings back what an execution replaced in a managed root: nothing is fetched, and no tool runs. */
export function bringsBack({ tool, operation }: Pick<OperationPlan, "tool" | "operation">): boolean {
  return operation === "rollback" && tool !== "apt";
}

/** A source's trust. Without a signature checked by apt it is untrusted, whatever its evidence says. */
export function checkedTrust(source: RepositoryEvidence): RepositoryEvidence["trust"] {
  const isChecked = source.signature_verified && !source.trusted_option && !source.allow_insecure;
  return isChecked ? source.trust : "untrusted";
}

/** Whether the distribution's own archive signed what a source offers, also where it is a snapshot whose index has expired. */
export function isOfDistribution(source: RepositoryEvidence): boolean {
  return ["distribution", "snapshot"].includes(checkedTrust(source));
}

/** {@link checkedTrust} as a rank: 0 for the distribution's archive; higher is less trusted. */
export function doubtOf(source: RepositoryEvidence): number {
  return REPOSITORY_TRUST.indexOf(checkedTrust(source));
}

/**
 * Whether a source is the security pocket of the distribution's own archive: its Release file, verified by the archive's keyring,
 * is of a suite such as `stable-security` (Debian, with the label `Debian-Security`) or `noble-security` (Ubuntu). Neither what a
 * source is configured as nor what another key signed makes it one.
 */
export function isSecurityPocket(source: RepositoryEvidence): boolean {
  const { release_suite: suite, release_origin: origin, release_label: label } = source;
  const isLabelled = origin !== "Debian" || label === "Debian-Security";
  const isSuite = suite?.endsWith("-security") === true;
  return isSuite && ((checkedTrust(source) === "distribution" && isLabelled) || isExtended(source));
}

/** Keyrings of Ubuntu's extended maintenance (ubuntu-pro-client), whose key isn't the archive's. */
const ESM_KEYRINGS: readonly string[] = [
  "/usr/share/keyrings/ubuntu-pro-esm-infra.gpg",
  "/usr/share/keyrings/ubuntu-pro-esm-apps.gpg",
];

/** Whether a source is of Ubuntu's extended maintenance, verified by the keyring that the distribution's package brings. */
function isExtended(source: RepositoryEvidence): boolean {
  return (
    checkedTrust(source) === "pinned" &&
    ESM_KEYRINGS.includes(source.signed_by ?? "") &&
    ["UbuntuESM", "UbuntuESMApps"].includes(source.release_origin ?? "")
  );
}

/** Whether a security pocket offers the version to be installed, perhaps beside other sources. */
export function isSecurityUpdate(
  entry: Pick<TransactionEntry, "action" | "sources">,
  repositories: readonly RepositoryEvidence[],
): boolean {
  return (
    isFetched(entry) && repositories.some((one) => entry.sources.includes(one.id) && isSecurityPocket(one))
  );
}

/** Whether the record names its own version as the fixed one. */
function isFixedVersion({
  version,
  matched_version,
  fixed_version,
}: OperationPlan["vulnerability_evidence"][number]): boolean {
  return fixed_version === (matched_version ?? version);
}

/** Whether the package's builder states that this version is not affected. */
export function isRuledOut({ vex }: Pick<VulnerabilityEvidence, "vex">): boolean {
  return vex?.status === "not_affected" && vex.authentic;
}

/**
 * The severity that a record counts with: an exploited vulnerability like a critical one, and none where the distribution states that
 * this version is not affected.
 */
export function weightOf(x: Pick<VulnerabilityEvidence, "severity" | "known_exploited" | "vex">): Severity {
  if (isRuledOut(x)) return "none";
  return x.known_exploited === undefined ? x.severity : "critical";
}

/** Most severe first. Unknown may be anything; it ranks below high. */
const BY_SEVERITY: readonly string[] = ["critical", "high", "unknown", "medium", "low", "none"];

/**
 * Vulnerabilities of the versions to be installed, most severe first by {@link weightOf}, then the versions no source could answer for. A
 * record of a version being installed counts even if it says it applies to the old one; one that names it as the fix
 * doesn't.
 */
export function vulnerabilitiesOfNewVersions({
  transaction,
  vulnerability_evidence,
}: Pick<OperationPlan, "transaction" | "vulnerability_evidence">): OperationPlan["vulnerability_evidence"] {
  const fetched = transaction.filter(isFetched);
  const arriving = new Set(fetched.map((e) => `${e.name.replace(/:.*$/, "")} ${e.to_version}`));
  const rank = (x: VulnerabilityEvidence) =>
    x.id === NO_DATA ? BY_SEVERITY.length : BY_SEVERITY.indexOf(weightOf(x));
  return vulnerability_evidence
    .filter((x) => x.applies_to === "new" || arriving.has(`${x.package} ${x.version}`))
    .filter((x) => !isFixedVersion(x))
    .toSorted((a, b) => rank(a) - rank(b));
}

/**
 * A Release file's date in milliseconds since the epoch, or null. Only UTC is allowed there, so the reader's time zone
 * doesn't matter.
 */
export function releaseTime(date: string): number | null {
  if (!/^[A-Z][a-z]{2}, +\d{1,2} [A-Z][a-z]{2} \d{4} \d{1,2}:\d{2}:\d{2} (?:UTC|GMT|Z|\+0000)$/.test(date))
    return null;
  const time = Date.parse(date);
  return Number.isFinite(time) ? time : null;
}
