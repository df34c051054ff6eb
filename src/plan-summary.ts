import * as v from "valibot";
import { CONTROLS, DECISIONS, type PolicyResult } from "./doc.ts";
import { checkedTrust } from "./doc-evidence.ts";
import { count, sha256, uuid } from "./doc-fields.ts";
import { type OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { vulnerabilityChange, vulnerabilityText, worstFirst } from "./doc-vulnerabilities.ts";
import { AegisError } from "./errors.ts";
import { byAttention } from "./plan-attention.ts";
import { clip, plural, showArgv } from "./terminal.ts";

/*
 * A plan in at most 10 kB: whole, an upgrade of 150 packages is 190 kB. `left_out` counts what was cut from the lists.
 */

/** Limit on the characters of all lists together, and of each but that of the packages, which gets the rest. */
const ALL_LISTS = 6500;
const ONE_LIST = 600;
/** Limit on one entry. */
const MAX_CHARACTERS = 240;
const DECIDED = ["decision", "rules", "reasons", "required_controls", "approvals_required"] as const;

const line = v.pipe(v.string(), v.maxLength(MAX_CHARACTERS));
const lines = v.array(line);

export const PlanSummary = v.strictObject({
  plan_id: uuid,
  plan_hash: sha256,
  created_at: v.string(),
  request: v.pipe(line, v.description("ecosystem, operation and targets")),
  command: v.pipe(line, v.description("what would run")),
  nothing_to_do: v.boolean(),
  counts: v.record(v.string(), count),
  /** `action name from → to (why it is notable)`. */
  packages: v.pipe(lines, v.description("the riskiest first")),
  repository: v.pipe(
    lines,
    v.description("the file that is written (+) or removed (-), its sources and the fingerprint of its key"),
  ),
  held_back: lines,
  sources: lines,
  vulnerabilities: v.pipe(
    lines,
    v.description(
      "of the new versions, the worst first, as far as data was there; `too`: the installed version has it",
    ),
  ),
  vulnerabilities_fixed: v.pipe(lines, v.description("of the installed versions and not of the new ones")),
  scripts: lines,
  risk_score: count,
  risk_signals: lines,
  warnings: lines,
  left_out: v.pipe(
    v.record(v.string(), count),
    v.description("entries that the lists above had to leave out"),
  ),
  /** What the policy in force says without a review. Null where it can't be read, or nothing is to do. */
  policy: v.nullable(
    v.strictObject({
      decision: v.picklist(DECISIONS),
      rules: lines,
      reasons: lines,
      required_controls: v.array(v.picklist(CONTROLS)),
      approvals_required: count,
    }),
  ),
});
export type PlanSummary = v.InferOutput<typeof PlanSummary>;

/** The summary of a plan with this hash, and of what policy says about it. */
export function planSummary(
  plan: OperationPlan,
  planHash: string,
  policy: Pick<PolicyResult, (typeof DECIDED)[number]> | null,
): PlanSummary {
  const left: Record<string, number> = {};
  let room = ALL_LISTS;
  const cut = (name: string, all: readonly string[], limit = ONE_LIST) => {
    const kept: string[] = [];
    for (let used = 0; kept.length < all.length; ) {
      const next = clip(all[kept.length] ?? "", MAX_CHARACTERS);
      used += next.length;
      if (used > limit) break;
      room -= next.length;
      kept.push(next);
    }
    if (kept.length < all.length) left[name] = all.length - kept.length;
    return kept;
  };
  const { notable, ordinary } = byAttention(plan);
  const packages = [
    ...notable.map(
      ({ entry, marks }) => `${packageLine(entry)} (${marks.map(({ what }) => what).join(", ")})`,
    ),
    ...ordinary.map(packageLine),
  ];
  const counts: Record<string, number> = {};
  for (const { action } of plan.transaction) counts[action] = (counts[action] ?? 0) + 1;
  const known = vulnerabilityChange(plan);
  const others = {
    repository: cut("repository", repositorySummary(plan)),
    held_back: cut("held_back", plan.packages_held_back),
    sources: cut(
      "sources",
      plan.repository_evidence.map((source) => `${source.id}: ${checkedTrust(source)}`),
    ),
    vulnerabilities: cut("vulnerabilities", [
      ...[...known.introduces, ...known.leaves]
        .sort(worstFirst)
        .map((one) => `${one.package}${known.leaves.includes(one) ? " too" : ""}: ${vulnerabilityText(one)}`),
      ...known.unanswered.map((name) => `${name}: no data`),
      ...known.not_affected.map((one) => `${one.package}: ${vulnerabilityText(one)}`),
    ]),
    vulnerabilities_fixed: cut(
      "vulnerabilities_fixed",
      known.fixes.map((one) => `${one.package}: ${vulnerabilityText(one)}`),
    ),
    scripts: cut(
      "scripts",
      plan.scripts.map(({ package: of, name }) => `${of}: ${name}`),
    ),
    risk_signals: cut("risk_signals", plan.risk_signals),
    warnings: cut("warnings", plan.warnings),
    policy:
      policy === null || plan.nothing_to_do
        ? null
        : {
            decision: policy.decision,
            rules: cut("rules", policy.rules),
            reasons: cut("reasons", policy.reasons),
            required_controls: policy.required_controls,
            approvals_required: policy.approvals_required,
          },
  };
  return {
    plan_id: plan.plan_id,
    plan_hash: planHash,
    created_at: plan.created_at,
    request: clip([plan.ecosystem, plan.operation, ...plan.targets].join(" "), MAX_CHARACTERS),
    command: clip(showArgv(plan.command_preview), MAX_CHARACTERS),
    nothing_to_do: plan.nothing_to_do,
    counts,
    packages: cut("packages", packages, room),
    risk_score: plan.risk_score,
    ...others,
    left_out: left,
  };
}

function repositorySummary({ repository, repository_evidence }: OperationPlan): string[] {
  if (repository === undefined) return [];
  const { path, before, after, key, previous_key } = repository;
  return [
    ...(before === null ? [] : [`- ${path} sha256:${repository.before_sha256}`]),
    ...(after === null ? [] : [`+ ${path} sha256:${repository.after_sha256}`]),
    ...(previous_key === null ? [] : [`- key ${previous_key.fingerprint}`]),
    ...(key === null ? [] : [`+ key ${key.fingerprint} (${key.algorithm})`]),
    ...repository_evidence.map(({ id }) => id),
  ];
}

function packageLine({ action, name, architecture, from_version, to_version }: TransactionEntry): string {
  const versions = [from_version, to_version].filter((one) => one !== null).join(" → ");
  return `${action} ${name}:${architecture} ${versions}`;
}

/** Characters of the entries on one page; one that is larger has a page of its own. */
const PAGE_ROOM = 9600;

export const PlanPage = v.strictObject({
  plan_id: uuid,
  plan_hash: sha256,
  page: count,
  pages: count,
  /** Of all pages. */
  entries: count,
  /** Number of this page's first entry, from 0. */
  first: count,
  transaction: v.array(TransactionEntry),
});

/**
 * One page of a plan's transaction, in the plan's order. The same plan always has the same pages.
 * @throws AegisError `usage` for a page that it doesn't have
 */
export function planPage(
  plan: OperationPlan,
  planHash: string,
  page: number,
): v.InferOutput<typeof PlanPage> {
  const starts = [0];
  let room = PAGE_ROOM;
  for (const [n, entry] of plan.transaction.entries()) {
    const size = JSON.stringify(entry).length;
    if (size > room && n > (starts.at(-1) ?? 0)) {
      starts.push(n);
      room = PAGE_ROOM;
    }
    room -= size;
  }
  const first = starts[page - 1];
  if (first === undefined) {
    const what = `the plan has ${plural(starts.length, "page")}`;
    throw new AegisError("usage", what, `Give --page from 1 to ${starts.length}.`);
  }
  return {
    ...{ plan_id: plan.plan_id, plan_hash: planHash, page, pages: starts.length },
    ...{ entries: plan.transaction.length, first },
    transaction: plan.transaction.slice(first, starts[page]),
  };
}
