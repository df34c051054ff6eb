import { expect, test } from "bun:test";
import { aptGrammar } from "../src/apt-grammar.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { compareWithOwn } from "../src/exec-drift.ts";
import { riskScore } from "../src/plan-risk.ts";
import { riskSignals } from "../src/plan-signals.ts";
import { DEBIAN, entry, upgrade, vulnerability } from "./policy-plans.ts";

/** A plan as the planner scores it. */
function scored(change: Partial<OperationPlan> = {}): OperationPlan {
  const plan = upgrade(change);
  const signals = riskSignals(plan);
  return { ...plan, risk_signals: signals, ...riskScore({ ...plan, risk_signals: signals }) };
}
const VULNERABLE = scored({ vulnerability_evidence: [vulnerability()] });

test("both sides may know different vulnerabilities", () => {
  expect(VULNERABLE.risk_score).toBeGreaterThan(scored().risk_score);
  compareWithOwn(scored(), VULNERABLE, aptGrammar.claims);
  compareWithOwn(VULNERABLE, scored(), aptGrammar.claims);
});

test("also if one score has reached its maximum", () => {
  const weak = { ...DEBIAN, trust: "untrusted" as const };
  const removal = { ...entry("old"), action: "remove" as const, essential: true };
  const transaction = [...upgrade().transaction, entry("hello", { sources: [weak.id] }), removal];
  const own = scored({ transaction, repository_evidence: [weak] });
  const signed = scored({
    transaction,
    repository_evidence: [weak],
    vulnerability_evidence: [vulnerability()],
  });
  expect([own.risk_score, signed.risk_score]).toEqual([100, 100]);
  compareWithOwn(signed, own, aptGrammar.claims);
  compareWithOwn(own, signed, aptGrammar.claims);
});

const LIES: [string, Partial<OperationPlan>, string][] = [
  ["a score of zero", { risk_score: 0, risk_contributions: [] }, "risk_score"],
  ["a score that is not the sum", { risk_score: 1 }, "risk_score"],
  ["a missing signal", { risk_signals: [] }, "risk_signals"],
  [
    "evidence without its signals and points",
    (({ risk_signals, risk_score, risk_contributions }) => ({
      risk_signals,
      risk_score,
      risk_contributions,
    }))(scored()),
    "risk_signals",
  ],
  ["signals without the evidence", { vulnerability_evidence: [] }, "risk_signals"],
  [
    "points moved to a vulnerability",
    { risk_contributions: [{ name: "vulnerability-known", points: VULNERABLE.risk_score }] },
    "risk_score",
  ],
];
for (const [what, lie, field] of LIES) {
  test(`still found: ${what}`, () => {
    expect(() => compareWithOwn({ ...VULNERABLE, ...lie }, scored(), aptGrammar.claims)).toThrow(
      expect.objectContaining({ code: "evidence_mismatch", details: { field } }),
    );
  });
}
