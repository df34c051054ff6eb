import type { Decision } from "./doc.ts";
import { RULES } from "./policy-rules.ts";
import type { PlanFacts } from "./report-plans.ts";
import { plural } from "./terminal.ts";

const MAX_CASES = 100;
const MAX_EXAMPLES = 5;

/**
 * A test that the policy's maintainers may want to write. Information for people only: nothing turns it into a setting, and
 * no candidate expects a milder decision than the one made.
 */
export interface CandidateTest {
  verified: boolean;
  /** `keeps`: the decision must stay the same. `denies`: with one fact added, the plan must be denied. */
  kind: "keeps" | "denies";
  case: {
    operation: string;
    rules: string[];
    /** Packages of one of the plans. */
    packages: string[];
    /** The fact added: the reason of the rule that must fire. */
    with: string | null;
  };
  expect: { decision: Decision; required_controls: string[]; rules: string[] };
  why: string;
  execution_plan_ids: string[];
}

/** Rules that deny under any configuration and can apply to this kind of plan. */
const DENIALS = {
  apt: ["apt-essential-removal", "apt-repository-untrusted", "apt-hash-unknown", "apt-source-conflict"],
  update: ["apt-update-changes", "metadata-command-failed"],
  artifact: ["target-denied", "artifact-mutable", "artifact-unverified", "script-downloads-and-runs"],
  services: ["services-never-restarted", "target-invalid", "metadata-command-failed"],
} as const;

/** Candidate tests per kind of decision: that the decision stays, and what must still be denied. */
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
        ? `decided in ${plural(same.length, "plan")} and approved ${approvals} times: agreement is no reason to stop asking people`
        : `decided in ${plural(same.length, "plan")}`,
    execution_plan_ids: idsOf(same),
  };
}

function denials(same: readonly [PlanFacts, ...PlanFacts[]]): CandidateTest[] {
  const [{ verified, tool, operation, decision }] = same;
  // Adding another reason to a denial tests nothing.
  if (decision === "deny") return [];
  const ofApt = operation === "update" ? "update" : "apt";
  const kind = tool === "apt" ? ofApt : tool === "services" ? tool : "artifact";
  return DENIALS[kind].flatMap((id) => {
    const rule = RULES.find((one) => one.id === id);
    if (rule === undefined) return [];
    return {
      verified,
      kind: "denies" as const,
      case: caseOf(same, rule.reason),
      expect: { decision: "deny" as const, required_controls: [], rules: [id] },
      why: "an attacker would hide something in a change that people routinely approve",
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
