import { NO_DATA, vulnerabilitiesOfNewVersions, weightOf } from "./doc-evidence.ts";
import { isMark, type OperationPlan } from "./doc-plan.ts";
import { RISK_SIGNALS, type RiskSignal } from "./doc-signals.ts";
import { isCritical } from "./policy-packages.ts";
import { restartRisk } from "./sys-unit-risk.ts";

/** Plan fields from which signals are derived. */
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

/** Signals derived from facts, and their conditions. Others come from denied targets and ecosystems. */
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
  "kernel-change": (f) => f.transaction.some((e) => !isMark(e) && isCritical("kernel", f.tool, e.name)),
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
  "vulnerability-critical": (f) => vulnerabilitiesOfNewVersions(f).some((x) => weightOf(x) === "critical"),
  "vulnerability-known": (f) =>
    vulnerabilitiesOfNewVersions(f).some((x) => weightOf(x) !== "none" && x.id !== NO_DATA),
  "trust-downgrade": (f) => f.transaction.some(({ trust_downgrade }) => trust_downgrade !== undefined),
  "service-restart": (f) => f.transaction.some(({ action }) => action === "restart"),
  "critical-service": (f) =>
    f.transaction.some(({ action, name }) => action === "restart" && restartRisk(name) !== null),
  "publisher-change": (f) => f.transaction.some(({ publisher_since }) => publisher_since !== undefined),
};

/** Signals derived from a plan's facts, for every ecosystem. */
export const DERIVED_SIGNALS = Object.keys(HOLDS);

/**
 * A plan's risk signals, in the order of {@link RISK_SIGNALS}. `raised` are those only its ecosystem can raise. For
 * people and the reviewer; policy uses the facts.
 */
export function riskSignals(facts: SignalFacts, raised: readonly RiskSignal[] = []): RiskSignal[] {
  const named = new Set([...raised, ...facts.denied_targets.map(({ signal }) => signal)]);
  return RISK_SIGNALS.filter((signal) => named.has(signal) || HOLDS[signal]?.(facts) === true);
}

/**
 * The sources used by a plan: those offering a package of the transaction, or all of them if it is empty, since the
 * plan is then about the sources themselves (`apt update`).
 */
export function usedSources(
  facts: Pick<OperationPlan, "transaction" | "repository_evidence">,
): OperationPlan["repository_evidence"] {
  if (facts.transaction.length === 0) return facts.repository_evidence;
  const used = new Set(facts.transaction.flatMap(({ sources }) => sources));
  return facts.repository_evidence.filter(({ id }) => used.has(id));
}

function toolMissing(facts: SignalFacts): boolean {
  return facts.raw_evidence.commands.some(({ outcome }) => outcome === "missing");
}
