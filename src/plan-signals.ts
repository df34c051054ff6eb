import { isFetched, type OperationPlan } from "./doc-plan.ts";
import { RISK_SIGNALS, type RiskSignal } from "./doc-signals.ts";
import { isCritical } from "./policy-packages.ts";

/** Stands for the id in vulnerability evidence where a configured source could not answer. */
export const NO_DATA = "no-data";
/** What a warning about vulnerability data begins with. */
export const OF_VULNERABILITIES = "Vulnerabilities: ";
/** What the warning about a half-done dpkg begins with. */
export const OF_DPKG = "dpkg was interrupted earlier";
/**
 * What warnings begin with that differ between two honest plans of one change: each side has vulnerability data of its own, a
 * half-done dpkg is repaired meanwhile (and the executor looks itself), and apt says other things to root.
 */
const PASSING_WARNINGS = [OF_VULNERABILITIES, OF_DPKG, "E: ", "W: "] as const;

/** Whether a warning is the same in every honest plan of one change. */
export function isLasting(warning: string): boolean {
  return !PASSING_WARNINGS.some((beginning) => warning.startsWith(beginning));
}

/** The facts of a plan that signals are derived from. */
export type SignalFacts = Pick<
  OperationPlan,
  | "tool"
  | "requires_root"
  | "network_access"
  | "metadata_available"
  | "transaction"
  | "packages_held_back"
  | "denied_targets"
  | "scripts"
  | "native_code_risk"
  | "binary_artifact_risk"
  | "mutable_reference"
  | "repository_evidence"
  | "vulnerability_evidence"
  | "raw_evidence"
>;

/** Each signal that is derived from facts, and when it holds. The others come from denied targets and from ecosystems. */
const HOLDS: Readonly<Partial<Record<RiskSignal, (facts: SignalFacts) => boolean>>> = {
  "requires-root": (f) => f.requires_root,
  "no-root-required": (f) => !f.requires_root,
  "network-operation": (f) => f.network_access,
  "package-install": (f) =>
    f.transaction.some(({ action }) => action === "install" || action === "reinstall"),
  "package-upgrade": (f) => f.transaction.some(({ action }) => action === "upgrade"),
  "package-removal": (f) => f.transaction.some(({ action }) => action === "remove"),
  "package-downgrade": (f) => f.transaction.some(({ action }) => action === "downgrade"),
  "package-held-back": (f) => f.packages_held_back.length > 0,
  "kernel-change": (f) => f.transaction.some(({ name }) => isCritical("kernel", f.tool, name)),
  "security-sensitive": (f) =>
    f.transaction.some(({ name }) => isCritical("security-sensitive", f.tool, name)),
  "metadata-unavailable": (f) => !f.metadata_available && toolMissing(f),
  "metadata-command-failed": (f) => !f.metadata_available && f.denied_targets.length === 0 && !toolMissing(f),
  "lifecycle-scripts": (f) => f.scripts.length > 0,
  "native-build-risk": (f) => f.native_code_risk,
  "binary-download-risk": (f) => f.binary_artifact_risk,
  "mutable-tag": (f) => f.mutable_reference && f.tool === "container",
  "mutable-version": (f) => f.mutable_reference && f.tool !== "container",
  "untrusted-repository": (f) => usedSources(f).some(({ trust }) => trust === "untrusted"),
  "weakly-pinned-repository": (f) => usedSources(f).some(({ trust }) => trust === "weak"),
  "vulnerability-critical": (f) => newVulnerabilities(f).some(({ severity }) => severity === "critical"),
  "vulnerability-known": (f) =>
    newVulnerabilities(f).some(({ severity, id }) => severity !== "none" && id !== NO_DATA),
};

/**
 * The risk signals of a plan, in the order of {@link RISK_SIGNALS}. `raised` are those that its ecosystem alone can raise.
 * For people and the reviewer; policy reads the facts.
 */
export function riskSignals(facts: SignalFacts, raised: readonly RiskSignal[] = []): RiskSignal[] {
  const named = new Set([...raised, ...facts.denied_targets.map(({ signal }) => signal)]);
  return RISK_SIGNALS.filter((signal) => named.has(signal) || HOLDS[signal]?.(facts) === true);
}

/**
 * The sources that the plan takes something from: those that offer a package of the transaction, and all of them where
 * there is none, because then the plan is about the sources themselves (`apt update`).
 */
export function usedSources(
  facts: Pick<OperationPlan, "transaction" | "repository_evidence">,
): OperationPlan["repository_evidence"] {
  if (facts.transaction.length === 0) return facts.repository_evidence;
  const used = new Set(facts.transaction.flatMap(({ sources }) => sources));
  return facts.repository_evidence.filter(({ id }) => used.has(id));
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
export function newVulnerabilities({
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

function toolMissing(facts: SignalFacts): boolean {
  return facts.raw_evidence.commands.some(({ outcome }) => outcome === "missing");
}
