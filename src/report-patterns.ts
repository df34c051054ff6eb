import type { ApprovalFacts, PlanFacts } from "./report-plans.ts";

/*
 * Recurring patterns in approvals. Verified and unverified plans are never counted together: each row covers one kind.
 */

/** Limit on the rows of a list, so that a person can still read the report. */
const MAX_ROWS = 200;
const MAX_IDS = 50;

/** Seconds from planning to approval. The median of an even number of values is the lower middle one. */
interface Delay {
  least: number;
  median: number;
  most: number;
}

/** One person approved the same operation, for the same rules, more than once. */
interface ApprovalPattern {
  verified: boolean;
  operation: string;
  rules: string[];
  approver: string;
  key: string | null;
  times: number;
  distinct_reasons: number;
  seconds_after_plan: Delay;
  execution_plan_ids: string[];
}

interface ApproverRow {
  verified: boolean;
  approver: string;
  key: string | null;
  approvals: number;
  /** Whether this person gave all approvals, and more than one. */
  approves_alone: boolean;
  distinct_reasons: number;
  seconds_after_plan: Delay;
}

interface PackageRow {
  verified: boolean;
  tool: string;
  package: string;
  actions: string[];
  /** Approved plans that change it. */
  times: number;
  /** Distinct approvers. */
  approvers: number;
}

interface ReasonRow {
  verified: boolean;
  /** In lower case, with whitespace collapsed. */
  reason: string;
  times: number;
  approvers: string[];
}

export interface Patterns {
  approval_patterns: ApprovalPattern[];
  approvers: ApproverRow[];
  recurring_packages: PackageRow[];
  recurring_reasons: ReasonRow[];
}

/** An approval with the first plan that contains it. */
interface Given extends ApprovalFacts {
  plan: PlanFacts;
}

/** The patterns in these plans, most frequent first. */
export function patternsOf(plans: readonly PlanFacts[]): Patterns {
  const parts = [true, false].map((verified) => {
    const part = plans.filter((plan) => plan.verified === verified);
    const given = distinctApprovals(part);
    return {
      approval_patterns: approvalPatterns(given, verified),
      approvers: approvers(given, verified),
      recurring_packages: recurringPackages(part, verified),
      recurring_reasons: recurringReasons(given, verified),
    };
  });
  return {
    approval_patterns: parts.flatMap((part) => part.approval_patterns),
    approvers: parts.flatMap((part) => part.approvers),
    recurring_packages: parts.flatMap((part) => part.recurring_packages),
    recurring_reasons: parts.flatMap((part) => part.recurring_reasons),
  };
}

function distinctApprovals(plans: readonly PlanFacts[]): Given[] {
  const seen = new Map<string, Given>();
  for (const plan of plans) {
    for (const approval of plan.approvals) {
      if (!seen.has(approval.approval_hash)) seen.set(approval.approval_hash, { ...approval, plan });
    }
  }
  return [...seen.values()];
}

/** A person is identified by the key, or by name if no key is verified. */
const personOf = (approval: ApprovalFacts) => approval.key ?? `name ${approval.approver}`;

function approvalPatterns(given: readonly Given[], verified: boolean): ApprovalPattern[] {
  const groups = group(given, (a) => [a.plan.tool, a.plan.operation, a.plan.rules, personOf(a)]);
  return mostFrequent(
    groups.map((same) => {
      const { plan, approver, key } = same[0];
      return {
        verified,
        operation: `${plan.tool} ${plan.operation}`,
        rules: plan.rules,
        approver,
        key,
        times: same.length,
        distinct_reasons: distinctReasons(same),
        seconds_after_plan: delayOf(same),
        execution_plan_ids: same.slice(0, MAX_IDS).map((one) => one.plan.execution_plan_id),
      };
    }),
  );
}

function approvers(given: readonly Given[], verified: boolean): ApproverRow[] {
  return group(given, (a) => personOf(a))
    .map((same) => ({
      verified,
      approver: same[0].approver,
      key: same[0].key,
      approvals: same.length,
      approves_alone: same.length === given.length && given.length > 1,
      distinct_reasons: distinctReasons(same),
      seconds_after_plan: delayOf(same),
    }))
    .sort((a, b) => b.approvals - a.approvals)
    .slice(0, MAX_ROWS);
}

function recurringPackages(plans: readonly PlanFacts[], verified: boolean): PackageRow[] {
  const changes = plans
    .filter((plan) => plan.approvals.length > 0)
    .flatMap((plan) => plan.packages.map((one) => ({ plan, ...one })));
  return mostFrequent(
    group(changes, ({ plan, name }) => [plan.tool, name]).map((same) => ({
      verified,
      tool: same[0].plan.tool,
      package: same[0].name,
      actions: [...new Set(same.map(({ action }) => action))].sort(),
      times: new Set(same.map(({ plan }) => plan.execution_plan_hash)).size,
      approvers: new Set(same.flatMap(({ plan }) => plan.approvals.map(personOf))).size,
    })),
  );
}

function recurringReasons(given: readonly Given[], verified: boolean): ReasonRow[] {
  return mostFrequent(
    group(given, normalised).map((same) => ({
      verified,
      reason: normalised(same[0]),
      times: same.length,
      approvers: [...new Set(same.map(({ approver }) => approver))].sort(),
    })),
  );
}

function normalised({ reason }: ApprovalFacts): string {
  return reason.trim().replace(/\s+/g, " ").toLowerCase();
}

function distinctReasons(given: readonly Given[]): number {
  return new Set(given.map(normalised)).size;
}

function delayOf(given: readonly Given[]): Delay {
  const sorted = given.map(({ seconds_after_plan }) => seconds_after_plan).sort((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? 0;
  return { least: at(0), median: at((sorted.length - 1) >> 1), most: at(sorted.length - 1) };
}

/** Groups items by key, in order of each key's first item. */
function group<T>(items: readonly T[], keyOf: (item: T) => unknown): [T, ...T[]][] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const item of items) {
    const key = JSON.stringify(keyOf(item));
    const same = groups.get(key);
    if (same === undefined) groups.set(key, [item]);
    else same.push(item);
  }
  return [...groups.values()];
}

/** Rows that occur more than once, most frequent first; the sort is stable. */
function mostFrequent<R extends { times: number }>(rows: readonly R[]): R[] {
  return rows
    .filter(({ times }) => times > 1)
    .sort((a, b) => b.times - a.times)
    .slice(0, MAX_ROWS);
}
