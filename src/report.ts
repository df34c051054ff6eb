import { byCodeUnit } from "./canonical.ts";
import { SCHEMA_VERSION } from "./doc.ts";
import { type CandidateTest, candidateTests } from "./report-candidates.ts";
import { type Patterns, patternsOf } from "./report-patterns.ts";
import { factsOf, type PlanFacts, type ReadPlan } from "./report-plans.ts";

/*
 * The advisory report for the policy's maintainers: patterns in signed plans. It depends on the plans only, not on their
 * order, so the same plans give the same bytes.
 */

export interface PolicyReport extends Patterns {
  schema_version: string;
  kind: "advisory-policy-report";
  /** A note on the report's limits. */
  advice: string;
  plans_read: number;
  plans_verified: number;
  plans: PlanFacts[];
  candidate_policy_tests: CandidateTest[];
}

/** The report on these plans. Duplicates count once. */
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
      "Advisory only. Nothing here changes the policy, approves or signs. People change the rules by hand, with tests of what they deny.",
    plans_read: plans.length,
    plans_verified: plans.filter(({ verified }) => verified).length,
    plans,
    ...patternsOf(plans),
    candidate_policy_tests: candidateTests(plans),
  };
}
