import type { OperationPlan } from "./operation-plan.ts";
import type { RiskSignal } from "./risk-signals.ts";

/** What each signal adds. A number for people: it orders plans by how closely to look, and decides nothing. */
const SIGNAL_POINTS: Readonly<Partial<Record<RiskSignal, number>>> = {
  "requires-root": 5,
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
  "mutable-tag": 20,
  "mutable-version": 20,
  "unknown-registry": 20,
  "untrusted-repository": 50,
  "weakly-pinned-repository": 30,
  "vulnerability-critical": 50,
  "vulnerability-known": 15,
};

const DENIED_POINTS = 100;

type Facts = Pick<OperationPlan, "risk_signals" | "transaction" | "deprecated">;

/** The risk score, 0–100, and what it is made of, largest first. */
export function riskScore(facts: Facts): Pick<OperationPlan, "risk_score" | "risk_contributions"> {
  const parts: OperationPlan["risk_contributions"] = facts.risk_signals.map((name) => ({
    name,
    points: name.endsWith("-denied") ? DENIED_POINTS : (SIGNAL_POINTS[name] ?? 0),
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
