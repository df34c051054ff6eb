import { basename } from "node:path";
import type { Denial } from "./cmd-decide.ts";
import { handOver, type NextStep, renderSteps } from "./cmd-next.ts";
import { requestText } from "./cmd-plan-view.ts";
import { pinnedRequest } from "./cmd-remedy.ts";
import type { Decision, PolicyResult } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { SYSTEM } from "./paths.ts";
import { fit, GUTTER, paint, safe, type Terminal, wrap } from "./terminal.ts";

const LOOK = {
  allow: { symbol: "✔", style: "green", words: "allowed" },
  allow_with_snapshot: { symbol: "◆", style: "cyan", words: "allowed with a snapshot" },
  require_human: { symbol: "●", style: "yellow", words: "a person must approve" },
  deny: { symbol: "✘", style: "red", words: "denied" },
} as const satisfies Record<Decision, object>;

/** The files behind a decision, for the next commands. */
interface PolicyFiles {
  /** Null for standard input. */
  plan: string | null;
  /** The review's file; null for standard input, undefined for no review. */
  review: string | null | undefined;
  /** Whether the review is stored under the plan's id, where sign finds it in the same account. */
  isOwnReview: boolean;
  result: string;
  /** Source of the configuration. */
  config: string;
  /** Whether --out was given, so that later commands need the result's path. */
  isOut: boolean;
  /** Whether an executor listens on this host, which keeps requests. */
  hasExecutor: boolean;
  /** Why it is denied, and what would help; null where it isn't. */
  denial: Denial | null;
}

/** A policy result for people: decision, reasons, controls, next commands. No trailing newline. */
export function renderPolicyResult(
  plan: OperationPlan,
  result: PolicyResult,
  files: PolicyFiles,
  terminal: Terminal,
): string {
  const { symbol, style, words } = LOOK[result.decision];
  const [first = "", ...rest] = wrap(`${words}: ${requestText(plan, terminal)}`, terminal.width - 21, GUTTER);
  const lines = [
    `${paint(terminal, style, `${symbol} ${result.decision}`)}  ${first}`,
    ...rest,
    "",
    ...(files.denial === null ? reasonLines(result.reasons, terminal) : denialLines(files.denial, terminal)),
    "",
  ];
  if (result.decision !== "deny" && result.required_controls.length > 0) {
    lines.push(`Needed: ${controls(result)}`);
  }
  lines.push(`Fresh until: ${result.evidence_fresh_until}`, `Policy: ${safe(files.config)}`);
  lines.push(`Written: ${safe(files.result)}`);
  if (files.denial !== null)
    lines.push(
      afterDenial(files.denial, { plan: planNamed(plan, files), pinned: pinnedRequest(plan) }, terminal),
    );
  else if (!plan.nothing_to_do) lines.push(renderSteps(next(plan, result, files), terminal));
  return lines.join("\n");
}

function reasonLines(reasons: readonly string[], terminal: Terminal): string[] {
  return reasons.flatMap((reason) => {
    const [first = "", ...rest] = wrap(safe(reason), terminal.width - 2, `  ${GUTTER}`);
    return [`  · ${first}`, ...rest];
  });
}

/** The reasons of rules that deny, then those that would only ask for a person, then what the plan lacks. */
function denialLines(denial: Denial, terminal: Terminal): string[] {
  return [
    ...reasonLines(denial.reasons, terminal),
    ...section("Besides, a person would have to know:", denial.besides, terminal),
    ...missingLines(denial, terminal),
  ];
}

function missingLines({ missing }: Denial, terminal: Terminal): string[] {
  return section("Evidence that the plan lacks, and how to get it:", missing, terminal);
}

function section(title: string, items: readonly string[], terminal: Terminal): string[] {
  return items.length === 0
    ? []
    : ["", ...wrap(title, terminal.width, "  "), ...reasonLines(items, terminal)];
}

/** Why policy denies a plan that was just made, and what to type instead, where that is known. No trailing newline. */
export function renderDenial(denial: Denial, terminal: Terminal, after: AfterDenial): string {
  return [
    "",
    paint(terminal, "red", "✘ Policy denies this plan"),
    ...wrap("No review, approval or snapshot can change that:", terminal.width, "  "),
    ...reasonLines(denial.reasons, terminal),
    ...missingLines(denial, terminal),
    ...(denial.missing.length === 0 ? [] : [""]),
    `Policy: ${safe(denial.policy)}`,
    afterDenial(denial, after, terminal),
  ].join("\n");
}

interface AfterDenial {
  /** The plan, as the user may name it. */
  plan: string;
  /** The request that names the versions, where that is what is wrong. */
  pinned: NextStep | undefined;
}

/** What to type: the request with its versions, or the policy's lines for whoever owns it. */
function afterDenial({ settings }: Denial, { plan, pinned }: AfterDenial, terminal: Terminal): string {
  const again: NextStep = { who: "you", argv: ["aegis", "policy", plan] };
  if (settings.length === 0) return pinned === undefined ? denied(terminal) : renderSteps([pinned], terminal);
  const owner = `If its owner agrees, root writes this into ${SYSTEM.policy}, and such a plan is no longer denied:`;
  return [
    "",
    ...wrap(owner, terminal.width, "  "),
    ...settings.map((line) => `    ${safe(line)}`),
    "",
    renderSteps([pinned ?? again], terminal),
  ].join("\n");
}

function denied(terminal: Terminal): string {
  const next =
    "Next, you: plan something else, or see what the policy's owner could change: aegis policy rules";
  return fit(terminal, next, "  ")
    .map((line) => paint(terminal, "bold", line))
    .join("\n");
}

/** A plan as the next command names it. */
function planNamed(plan: OperationPlan, files: PolicyFiles): string {
  const isStored = files.plan?.endsWith(`/${plan.plan_id}.json`) === true && !files.isOut;
  return isStored ? plan.plan_id.slice(0, 8) : (files.plan ?? "<plan file>");
}

function controls(result: PolicyResult): string {
  const words = result.required_controls.map((control) =>
    control === "human approval" && result.approvals_required > 1
      ? `${result.approvals_required} human approvals`
      : control,
  );
  return words.join(", ");
}

/**
 * The next commands, in order. Without an approval the plan can be signed in this account. An approval is asked for where an
 * executor keeps requests; elsewhere the files are handed over to the approver's account, and named by their base names.
 */
function next(plan: OperationPlan, result: PolicyResult, files: PolicyFiles): NextStep[] {
  const isStored = files.plan !== null && !files.isOut && files.plan.endsWith(`/${plan.plan_id}.json`);
  const snapshot = result.required_controls.includes("system snapshot")
    ? ["--snapshot-id", "<snapshot>"]
    : [];
  if (!result.required_controls.includes("human approval")) {
    const documents = isStored
      ? [plan.plan_id]
      : ["--plan", files.plan ?? "<plan file>", "--policy", files.result];
    const review = files.isOwnReview ? [] : reviewFlag(files.review);
    const argv = ["aegis", "sign", ...documents, ...review, ...snapshot];
    return [{ who: "the signer, in this account", argv }];
  }
  if (files.hasExecutor) {
    const named = isStored ? plan.plan_id : (files.plan ?? "<plan file>");
    const review = files.isOwnReview ? [] : reviewFlag(files.review);
    const ask = ["aegis", "apply", "--request", named, ...review, "--reason", "<why>", ...snapshot, "--wait"];
    const approve = ["aegis", "sign", "approve", "<number>"];
    return [
      { who: "you", argv: ask },
      { who: "the approver, on this host", argv: approve },
    ];
  }
  const there = files.plan === null ? `${plan.plan_id}.json` : basename(files.plan);
  const given = [files.plan, files.result, files.review].filter((file) => typeof file === "string");
  const review = reviewFlag(typeof files.review === "string" ? basename(files.review) : files.review);
  const approve = ["aegis", "sign", "approve", "--plan", there, ...review, "--reason", "<why>"];
  const policy = ["--policy", basename(files.result)];
  const sign = ["aegis", "sign", "--plan", there, ...policy, ...review, "--approval", "<approval file>"];
  return [
    handOver(given),
    { who: "the approver, there", argv: approve },
    { who: "the signer, there", argv: [...sign, ...snapshot] },
  ];
}

function reviewFlag(review: string | null | undefined): string[] {
  return review === undefined ? [] : ["--review", review ?? "<review file>"];
}

interface RuleRow {
  id: string;
  decision: Decision;
  looks_at: string;
  reason: string;
  control: string | null;
}

/** The rules for people, two lines each, so that reasons are not truncated. No trailing newline. */
export function renderRules(rules: readonly RuleRow[], source: string, terminal: Terminal): string {
  const blocks = rules.map((rule) => {
    const { symbol, style } = LOOK[rule.decision];
    const decision = rule.control === null ? rule.decision : `${rule.decision} + ${rule.control}`;
    const head = `${paint(terminal, style, symbol)} ${paint(terminal, "bold", rule.id)}: ${decision}`;
    return `${head} (${rule.looks_at})\n    ${rule.reason}`;
  });
  blocks.push(`\nEvery rule is evaluated; the strictest decision wins. Policy: ${safe(source)}`);
  return blocks.join("\n");
}
