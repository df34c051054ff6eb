import type { Decision } from "./doc.ts";
import { RULES } from "./policy-rules.ts";
import type { PlanFacts } from "./report-plans.ts";
import { plural } from "./terminal.ts";

const MAX_CASES = 100;
const MAX_EXAMPLES = 5;

/**
 * A test that the policy's maintainers may want to write. It is data for people: there is no way from here to a setting,
 * and no candidate ever expects less than what was decided.
 */
export interface CandidateTest {
  verified: boolean;
  /** `keeps`: what was decided stays so. `denies`: one thing added to it must be denied. */
  kind: "keeps" | "denies";
  case: {
    operation: string;
    rules: string[];
    /** Packages of one of the plans. */
    packages: string[];
    /** What is added, in the words of the rule that must fire. */
    with: string | null;
  };
  expect: { decision: Decision; required_controls: string[]; rules: string[] };
  why: string;
  execution_plan_ids: string[];
}

/** Rules that deny whatever the configuration says, and that a plan of this kind could come to meet. */
const DENIALS = {
  apt: ["apt-essential-removal", "apt-repository-untrusted", "apt-hash-unknown", "apt-source-conflict"],
  update: ["apt-update-changes", "metadata-command-failed"],
  artifact: ["target-denied", "artifact-mutable", "artifact-unverified", "script-downloads-and-runs"],
} as const;

/** Candidate tests for every kind of decision in these plans: the decision itself, and what must still be denied. */
export function candidateTests(plans: readonly PlanFacts[]): CandidateTest[] {
  const cases = new Map<string, [PlanFacts, ...PlanFacts[]]>();
  for (const plan of plans) {
    const { verified, tool, operation, rules, decision, required_controls } = plan;
    const key = JSON.stringify([verified, tool, operation, rules, decision, required_controls]);
    const same = cases.get(key);
    if (same === undefined) cases.set(key, [plan]);
    else same.push(plan);
  }
  return [...cases.values()]
    .sort((a, b) => Number(b[0].verified) - Number(a[0].verified) || b.length - a.length)
    .slice(0, MAX_CASES)
    .flatMap((same) => [keeps(same), ...denials(same)]);
}

function keeps(same: readonly [PlanFacts, ...PlanFacts[]]): CandidateTest {
  const [{ verified, decision, rules, required_controls }] = same;
  const approvals = same.reduce((total, plan) => total + plan.approvals.length, 0);
  return {
    verified,
    kind: "keeps",
    case: caseOf(same, null),
    expect: { decision, required_controls, rules },
    why:
      approvals > 1
        ? `decided so in ${plural(same.length, "plan")} and approved ${approvals} times: that people agree is no reason to stop asking them`
        : `decided so in ${plural(same.length, "plan")}`,
    execution_plan_ids: idsOf(same),
  };
}

function denials(same: readonly [PlanFacts, ...PlanFacts[]]): CandidateTest[] {
  const [{ verified, tool, operation, decision }] = same;
  // A decision that is a denial already shows nothing new with one more reason.
  if (decision === "deny") return [];
  const kind = tool !== "apt" ? "artifact" : operation === "update" ? "update" : "apt";
  return DENIALS[kind].flatMap((id) => {
    const rule = RULES.find((one) => one.id === id);
    if (rule === undefined) return [];
    return {
      verified,
      kind: "denies" as const,
      case: caseOf(same, rule.reason),
      expect: { decision: "deny" as const, required_controls: [], rules: [id] },
      why: "a change that people are used to approving is the one to hide something in",
      execution_plan_ids: idsOf(same),
    };
  });
}

function caseOf([first]: readonly [PlanFacts, ...PlanFacts[]], added: string | null): CandidateTest["case"] {
  const { tool, operation, rules, packages } = first;
  return {
    operation: `${tool} ${operation}`,
    rules,
    packages: packages.slice(0, MAX_EXAMPLES).map(({ name, action }) => `${action} ${name}`),
    with: added,
  };
}

function idsOf(plans: readonly PlanFacts[]): string[] {
  return plans.slice(0, MAX_EXAMPLES).map(({ execution_plan_id }) => execution_plan_id);
}
