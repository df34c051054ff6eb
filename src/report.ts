import { byCodeUnit } from "./canonical.ts";
import { SCHEMA_VERSION } from "./doc.ts";
import { type CandidateTest, candidateTests } from "./report-candidates.ts";
import { type Patterns, patternsOf } from "./report-patterns.ts";
import { factsOf, type PlanFacts, type ReadPlan } from "./report-plans.ts";

/*
 * The advisory report: what signed plans have in common, for whoever maintains the policy. It is made of the plans alone,
 * in an order that does not depend on how they were given, so the same plans make the same bytes.
 */

export interface PolicyReport extends Patterns {
  schema_version: string;
  kind: "advisory-policy-report";
  /** What the report is not. */
  advice: string;
  plans_read: number;
  plans_verified: number;
  plans: PlanFacts[];
  candidate_policy_tests: CandidateTest[];
}

/** The report over plans that were read. One that was given twice counts once. */
export function makeReport(given: readonly ReadPlan[]): PolicyReport {
  const distinct = new Map(given.map((plan) => [plan.hash, plan]));
  const plans = [...distinct.values()]
    .map(factsOf)
    .sort(
      (a, b) =>
        byCodeUnit(a.signed_at, b.signed_at) || byCodeUnit(a.execution_plan_hash, b.execution_plan_hash),
    );
  return {
    schema_version: SCHEMA_VERSION,
    kind: "advisory-policy-report",
    advice:
      "Advisory only. Nothing here changes the policy, approves or signs. A change of the rules is made in the rules, by hand, with tests of what they deny.",
    plans_read: plans.length,
    plans_verified: plans.filter(({ verified }) => verified).length,
    plans,
    ...patternsOf(plans),
    candidate_policy_tests: candidateTests(plans),
  };
}
