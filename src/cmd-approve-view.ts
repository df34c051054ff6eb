import { changedNames, changeTotal } from "./cmd-plan-changes.ts";
import { repositoryLines } from "./cmd-plan-repository.ts";
import { labelled, NAME_SHOWN, planParts, riskText } from "./cmd-plan-view.ts";
import type { PolicyResult } from "./doc.ts";
import { type OperationPlan, planCommand } from "./doc-plan.ts";
import { byAttention } from "./plan-attention.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { GUTTER, paint, quoteWord, safe, safeStart, showSomeArgv, type Terminal, wrap } from "./terminal.ts";

/** Limit on the packages listed first; the table has all of them. */
const LISTED_FIRST = 20;

/**
 * The approver's screen: what needs attention, the warnings, the facts, the decision, and last every package that changes,
 * directly above {@link renderQuestion}. `isOfAnother`: the plan is a file that the approver did not make. No trailing newline.
 */
export function renderApproval(
  plan: OperationPlan,
  policy: PolicyResult,
  config: PolicyConfig,
  terminal: Terminal,
  { isOfAnother = false }: { isOfAnother?: boolean } = {},
): string {
  const { head, attention, changes, facts } = planParts(plan, terminal, {
    sensitive: config.apt.sensitive_packages,
  });
  const decided = [
    paint(terminal, "bold", `Policy: ${policy.decision}`),
    ...[...policy.rules, ...policy.reasons].flatMap((text) => {
      const [first = "", ...rest] = wrap(safe(text), terminal.width - 2, `  ${GUTTER}`);
      return [`  ${first}`, ...rest];
    }),
  ];
  const claimed = isOfAnother ? claimedOnly(plan, terminal) : "";
  return [head, riskyFirst(plan, config, terminal), attention, facts, claimed, decided.join("\n"), changes]
    .filter((block) => block !== "")
    .join("\n\n");
}

/** What the executor leaves to the plan's author, and an approver must not rely on. Empty if the plan says none of it. */
function claimedOnly(plan: OperationPlan, terminal: Terminal): string {
  const isOld = plan.vulnerability_evidence.some(({ applies_to }) => applies_to === "old");
  // What a repository offers is compared.
  const { repository: _offers, ...outlook } = plan.outlook ?? {};
  const claims = [
    ...(isOld ? ["which vulnerabilities it fixes"] : []),
    ...(Object.keys(outlook).length === 0
      ? []
      : ["what it says of services, reboot, configuration files and disk"]),
  ];
  if (claims.length === 0) return "";
  const text = `! Nobody compares ${claims.join(", and ")}: that is the word of whoever made this plan. To see for yourself, on that host: ${planCommand(plan)}`;
  const [first = "", ...rest] = wrap(safe(text), terminal.width, GUTTER);
  return [paint(terminal, "yellow", first), ...rest].join("\n");
}

/**
 * The summary right above the question, without untrusted prose: the packages that change, dependencies included, what runs
 * where, who asked, what it needs and its risk. Repeats what has scrolled away. No trailing newline.
 */
export function renderQuestion(
  plan: OperationPlan,
  policy: PolicyResult,
  argv: readonly string[],
  terminal: Terminal,
  { asked = "", snapshot = "" }: { asked?: string; snapshot?: string } = {},
): string {
  const room = terminal.width - 11;
  return [
    ...changedNames(plan, terminal),
    ...repositoryLines(plan, terminal),
    "",
    labelled(terminal, [
      ["Asked by", asked],
      ["Will run", showSomeArgv(argv, room)],
      ["On", quoteWord(plan.host.hostname)],
      ["Policy", policy.decision],
      ["Needs", policy.required_controls.join(", ")],
      ["Snapshot", snapshot],
      ["Risk", riskText(plan)],
      ["Plan", `${plan.plan_id}, made ${plan.created_at}`],
    ]),
    ...wrap(
      plan.transaction.length === 0
        ? `No package changes${plan.repository === undefined ? "" : ", but what apt trusts does"}.`
        : `Changes ${changeTotal(plan)}`,
      terminal.width,
      "  ",
    ).map((line) => paint(terminal, "bold", line)),
    `Hash ${policy.plan_hash}`,
  ]
    .slice(plan.transaction.length === 0 && plan.repository === undefined ? 1 : 0)
    .join("\n");
}

/** Which snapshot the run may have, if it needs one: what the approver accepts is not looked up by anybody. */
export function snapshotText(
  policy: PolicyResult,
  { snapshot }: Pick<PolicyConfig, "snapshot">,
  accepted: readonly string[],
): string {
  if (accepted.length > 0) return `you accept ${accepted.map(quoteWord).join(", ")}, which nothing looks up`;
  if (!policy.required_controls.includes("system snapshot")) return "";
  return snapshot.accept_declared
    ? "any that the signer names: your policy accepts one that nothing looks up"
    : "one that the executor looks up; accept another: --accept-snapshot <id>";
}

/** A package in words, and the most serious of its reasons. */
interface Risky {
  text: string;
  reason: string;
}

/** Packages whose change can break or expose the host, most serious first, each with the reasons. */
function riskyFirst(plan: OperationPlan, config: PolicyConfig, terminal: Terminal): string {
  const risky = byAttention(plan, config.apt.sensitive_packages).notable.flatMap(
    ({ entry, marks }): Risky[] => {
      const why = marks.filter(({ isDanger }) => isDanger).map(({ what }) => what);
      const [reason] = why;
      const versions = `${entry.name} ${entry.from_version ?? "–"} → ${entry.to_version ?? "removed"}`;
      const change = entry.action === "restart" ? entry.name : versions;
      return reason === undefined ? [] : [{ text: `${change}  (${why.join(", ")})`, reason }];
    },
  );
  if (risky.length === 0) return "";
  const more = risky.length - LISTED_FIRST;
  return [
    paint(terminal, "yellow", "Look at these first:"),
    ...listedFirst(risky).flatMap(({ text }) => {
      const [first = "", ...rest] = wrap(safeStart(text, 2 * NAME_SHOWN), terminal.width - 2, `  ${GUTTER}`);
      return [`  ${first}`, ...rest];
    }),
    ...(more > 0 ? [`  and ${more} more, marked by policy's rules; the table lists all`] : []),
  ].join("\n");
}

/** So many of them, of each reason in turn: a repository must not push a kernel out with many packages of a graver reason. */
function listedFirst(risky: readonly Risky[]): Risky[] {
  const groups = [...Map.groupBy(risky, ({ reason }) => reason).values()];
  const inTurn = Array.from({ length: LISTED_FIRST }, (_, n) => groups.flatMap((group) => group[n] ?? []));
  const listed = new Set(inTurn.flat().slice(0, LISTED_FIRST));
  return risky.filter((one) => listed.has(one));
}
