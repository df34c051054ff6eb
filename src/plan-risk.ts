import type { OperationPlan } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";

/** Points for a target that is always denied. */
const DENIED_POINTS = 100;

/** Points per signal. For people: the score orders plans by how closely to look, and decides nothing. */
const SIGNAL_POINTS: Readonly<Record<RiskSignal, number>> = {
  "requires-root": 5,
  "network-operation": 0,
  "no-root-required": 0,
  "package-install": 5,
  "package-upgrade": 3,
  "package-removal": 25,
  "package-downgrade": 25,
  "package-held-back": 2,
  "kernel-change": 20,
  "security-sensitive": 20,
  "metadata-unavailable": 30,
  "metadata-command-failed": 30,
  "lifecycle-scripts": 20,
  "native-build-risk": 10,
  "binary-download-risk": 15,
  "build-backend-risk": 10,
  "setup-py-risk": 20,
  "native-extension-risk": 10,
  "virtualenv-missing": 5,
  "user-site-risk": 5,
  "mutable-tag": 20,
  "unknown-registry": 20,
  "dockerhub-default": 5,
  "unsigned-image": 15,
  "build-targets-risk": 15,
  "powershell-risk": 20,
  "native-dll-risk": 10,
  "aspnet-sensitive": 10,
  "activation-events-risk": 10,
  "command-activation-risk": 2,
  "workspace-contains-risk": 5,
  "bundled-binary-risk": 15,
  "workspace-access-risk": 5,
  "gosumdb-disabled": 30,
  "checksum-db-enabled": 0,
  "private-module-bypass": 30,
  "mutable-version": 20,
  "pseudo-version-risk": 10,
  "build-rs-risk": 15,
  "proc-macro-risk": 10,
  "native-link-risk": 10,
  "untrusted-repository": 50,
  "weakly-pinned-repository": 30,
  "vulnerability-critical": 50,
  "vulnerability-known": 15,
  "trust-downgrade": 40,
  "publisher-change": 10,
  "service-restart": 5,
  "critical-service": 25,
  "direct-url-denied": DENIED_POINTS,
  "url-denied": DENIED_POINTS,
  "git-source-denied": DENIED_POINTS,
  "local-path-denied": DENIED_POINTS,
  "vsix-denied": DENIED_POINTS,
  "requirements-file-denied": DENIED_POINTS,
  "replace-directive-denied": DENIED_POINTS,
  "embedded-command-flag-denied": DENIED_POINTS,
};

type Facts = Pick<OperationPlan, "risk_signals" | "transaction" | "deprecated">;

/** The risk score, 0–100, and its contributions, largest first. */
export function riskScore(facts: Facts): Pick<OperationPlan, "risk_score" | "risk_contributions"> {
  const parts: OperationPlan["risk_contributions"] = facts.risk_signals.map((name) => ({
    name,
    points: SIGNAL_POINTS[name],
  }));
  if (facts.deprecated !== null) parts.push({ name: "deprecated", points: 10 });
  if (facts.transaction.some(({ action, essential }) => essential && action === "remove")) {
    parts.push({ name: "essential-removal", points: 50 });
  }
  if (facts.transaction.length > 50) parts.push({ name: "large-transaction", points: 10 });
  const risk_contributions = parts
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points || (a.name < b.name ? -1 : 1));
  const sum = risk_contributions.reduce((total, { points }) => total + points, 0);
  return { risk_score: Math.min(100, sum), risk_contributions };
}
