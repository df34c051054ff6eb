import type { Decision, PolicyResult } from "./documents.ts";
import type { OperationPlan } from "./operation-plan.ts";
import { paint, safe, showArgv, type Terminal, wrap } from "./terminal.ts";

const LOOK = {
  allow: { symbol: "✔", style: "green", words: "allowed" },
  allow_with_snapshot: { symbol: "◆", style: "cyan", words: "allowed with a snapshot" },
  require_human: { symbol: "●", style: "yellow", words: "a person must approve" },
  deny: { symbol: "✘", style: "red", words: "denied" },
} as const satisfies Record<Decision, object>;

/** Where the documents behind a decision are, for the commands that come next. */
interface PolicyFiles {
  /** Null for standard input. */
  plan: string | null;
  /** The review that was taken into account, where sign has to be told of it. */
  review: string | undefined;
  result: string;
  /** Where the configuration came from. */
  config: string;
  /** The result was written where the user said, so no later command finds it by itself. */
  isOut: boolean;
}

/** A policy result for people: decision, reasons, controls, what to type next. No trailing newline. */
export function renderPolicyResult(
  plan: OperationPlan,
  result: PolicyResult,
  files: PolicyFiles,
  terminal: Terminal,
): string {
  const { symbol, style, words } = LOOK[result.decision];
  const wish = [plan.tool, plan.operation, ...plan.targets].map(safe).join(" ");
  const lines = [
    `${paint(terminal, style, `${symbol} ${result.decision}`)}  ${words}: ${wish}`,
    "",
    ...result.reasons.flatMap((reason) =>
      wrap(safe(reason), terminal.width - 4, "").map((line, i) => `${i === 0 ? "  · " : "    "}${line}`),
    ),
    "",
  ];
  if (result.decision !== "deny" && result.required_controls.length > 0) {
    lines.push(`Needed: ${controls(result)}`);
  }
  lines.push(`Fresh until: ${result.evidence_fresh_until}`, `Policy: ${safe(files.config)}`);
  lines.push(`Written: ${safe(files.result)}`);
  for (const line of next(plan, result, files)) lines.push(paint(terminal, "bold", line));
  return lines.join("\n");
}

function controls(result: PolicyResult): string {
  const words = result.required_controls.map((control) =>
    control === "human approval" && result.approvals_required > 1
      ? `${result.approvals_required} human approvals`
      : control,
  );
  return words.join(", ");
}

/** The commands that come next, in order. */
function next(plan: OperationPlan, result: PolicyResult, files: PolicyFiles): string[] {
  if (result.decision === "deny") {
    return ["Next: ask for something else, or have the policy changed: aegis policy rules"];
  }
  if (plan.nothing_to_do) return [];
  const plain = files.plan !== null && !files.isOut && files.plan.endsWith(`/${plan.plan_id}.json`);
  const planRef = plain ? plan.plan_id : (files.plan ?? "<plan file>");
  const commands: string[][] = [];
  const sign = ["aegis", "sign", ...(plain ? [planRef] : ["--plan", planRef, "--policy", files.result])];
  if (files.review !== undefined) sign.push("--review", files.review);
  if (result.required_controls.includes("human approval")) {
    commands.push(["aegis", "sign", "approve", "--plan", planRef, "--reason", "<why>"]);
    sign.push("--approval", "<approval>");
  }
  if (result.required_controls.includes("system snapshot")) sign.push("--snapshot-id", "<snapshot>");
  commands.push(sign);
  return commands.map((argv, i) => `${i === 0 ? "Next" : "Then"}: ${command(argv)}`);
}

/** An argv to type, with `<…>` left as it is for the reader to fill in. */
function command(argv: readonly string[]): string {
  return argv.map((word) => (/^<[a-z ]+>$/.test(word) ? word : showArgv([word]))).join(" ");
}

interface RuleRow {
  id: string;
  decision: Decision;
  looks_at: string;
  reason: string;
  control: string | null;
}

/** The rules for people: two lines each, so that no reason is cut off. No trailing newline. */
export function renderRules(rules: readonly RuleRow[], source: string, terminal: Terminal): string {
  const blocks = rules.map((rule) => {
    const { symbol, style } = LOOK[rule.decision];
    const decision = rule.control === null ? rule.decision : `${rule.decision} + ${rule.control}`;
    const head = `${paint(terminal, style, symbol)} ${paint(terminal, "bold", rule.id)}: ${decision}`;
    return `${head} (${rule.looks_at})\n    ${rule.reason}`;
  });
  blocks.push(`\nEvery rule is judged; the strictest decision wins. Policy: ${safe(source)}`);
  return blocks.join("\n");
}
