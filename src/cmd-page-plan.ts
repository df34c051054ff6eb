import { bullets, html, type Markup, pageText, rowsTable, section, terms, tile } from "./cmd-page.ts";
import { outlookLines, type PolicyNote, shortages } from "./cmd-plan-outlook.ts";
import { ACTION_WORDS, differsFrom } from "./cmd-plan-table.ts";
import { riskText } from "./cmd-plan-view.ts";
import { checkedTrust } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { severityCounts, type Vulnerability, vulnerabilityChange } from "./doc-vulnerabilities.ts";
import { changeGroups } from "./plan-groups.ts";
import { usedSources } from "./plan-signals.ts";
import { bytes, plural, showArgv } from "./terminal.ts";

/* A plan as a page: what the terminal's screen shows, with everything in it, since a page can be scrolled. */

/** Vulnerabilities in one table. */
const MOST = 500;

/** What a page shows besides the plan. */
export interface PageContext {
  hash: string;
  sensitive?: readonly string[];
  policy?: PolicyNote | null;
}

/** The page of a plan. */
export function planPageText(plan: OperationPlan, context: PageContext): string {
  const request = [plan.ecosystem, plan.operation, ...plan.targets].join(" ");
  return pageText(
    `Plan: ${request.slice(0, 200)}`,
    html`${[
      heading(plan, request, context.hash),
      decision(plan, context.policy ?? null),
      tiles(plan),
      attention(plan),
      section("What follows", terms(outlookLines(plan))),
      ...changeGroups(plan, context.sensitive ?? []).map(({ title, changes }) =>
        section(
          `${title} (${changes.length})`,
          rowsTable(
            ["", "Package", "From", "To", { number: "Size" }, "Source", "Notes"],
            changes.map(({ entry, marks }) => [
              ACTION_WORDS[entry.action].symbol,
              nameOf(entry, plan.host.architecture),
              html`<span class="v">${entry.from_version ?? "–"}</span>`,
              version(entry),
              entry.size === null ? "" : bytes(entry.size),
              entry.archive ?? entry.origin ?? "",
              marks.join("; "),
            ]),
          ),
        ),
      ),
      vulnerabilities(plan),
      sources(plan),
      section("Warnings, in the words of the plan and its sources", bullets(plan.warnings)),
      section(
        "The way back",
        bullets([
          ...plan.rollback_plan.notes,
          ...(plan.rollback_plan.unobtainable.length === 0
            ? []
            : [
                `No source offers any more, nor are they kept: ${plan.rollback_plan.unobtainable.join(", ")}`,
              ]),
          ...(plan.rollback_plan.kept === undefined
            ? []
            : [`No source offers any more, but Aegis keeps: ${plan.rollback_plan.kept.join(", ")}`]),
        ]),
      ),
      section("The command", html`<pre>${showArgv(plan.command_preview)}</pre>`),
      html`<p class="dim">Risk ${riskText(plan)}. A page is no document: what is approved is the plan with the hash above, and the
executor makes it again before it runs anything.</p>`,
    ]}`,
  );
}

function heading(plan: OperationPlan, request: string, hash: string): Markup {
  const { host } = plan;
  return html`<h1>Plan: ${request}</h1>
${terms([
  ["Host", `${host.hostname} (${host.os_id} ${host.os_version}, ${host.architecture})`],
  ["Made", plan.created_at],
  ["Plan", html`<code>${plan.plan_id}</code>`],
  ["Hash", html`<code>${hash}</code>`],
])}`;
}

function decision(plan: OperationPlan, note: PolicyNote | null): Markup {
  if (plan.nothing_to_do)
    return html`<div class="box"><p><b>Nothing to do.</b> The host is as asked for.</p></div>`;
  if (note === null) return html``;
  const { decision: word, reasons, rules } = note.result;
  const what = note.isDecided ? "Policy has decided" : "Nobody has decided yet; policy would say now";
  return html`<div class="box ${word}"><p>${what}: <b>${word}</b></p>${bullets(reasons)}
<p class="dim">${rules.length === 0 ? "" : `Rules: ${rules.join(", ")}`}</p></div>`;
}

function tiles(plan: OperationPlan): Markup {
  const { fixes, introduces, leaves } = vulnerabilityChange(plan);
  const counts = Map.groupBy(plan.transaction, ({ action }) => action);
  const download = plan.transaction.filter(isFetched).reduce((sum, { size }) => sum + (size ?? 0), 0);
  const { reboot, services } = plan.outlook ?? {};
  const units = services?.units.length ?? 0;
  const actions = (Object.keys(ACTION_WORDS) as TransactionEntry["action"][]).sort(
    (a, b) => ACTION_WORDS[a].order - ACTION_WORDS[b].order,
  );
  return html`<div class="tiles">${[
    ...actions.flatMap((action) => {
      const n = counts.get(action)?.length ?? 0;
      const isBad = action === "remove" || action === "downgrade";
      return n === 0 ? [] : [tile(n, ACTION_WORDS[action].todo, isBad ? "bad" : "")];
    }),
    ...(download > 0 ? [tile(bytes(download), "to download")] : []),
    ...(fixes.length > 0 ? [tile(fixes.length, `fixed: ${severityCounts(fixes)}`, "good")] : []),
    ...(introduces.length > 0
      ? [tile(introduces.length, `introduced: ${severityCounts(introduces)}`, "bad")]
      : []),
    ...(leaves.length > 0 ? [tile(leaves.length, `left: ${severityCounts(leaves)}`, "warn")] : []),
    ...(units > 0
      ? [tile(units, `${units === 1 ? "unit runs" : "units run"} what is replaced`, "warn")]
      : []),
    ...((reboot?.reasons ?? []).length > 0 ? [tile("Reboot", "needed for the new code", "warn")] : []),
  ]}</div>`;
}

/** What must not be missed. */
function attention(plan: OperationPlan): Markup {
  const doubtful = usedSources(plan)
    .map((source) => ({ ...source, trust: checkedTrust(source) }))
    .filter(({ trust }) => trust === "weak" || trust === "untrusted");
  return section(
    "Look at this first",
    bullets([
      ...plan.denied_targets.map(({ target, signal }) => `${target} will be denied by policy (${signal})`),
      ...shortages(plan),
      ...plan.transaction.flatMap(({ name, takes_over = [] }) =>
        takes_over.length === 0 ? [] : [`${name} takes over files of ${takes_over.join(", ")}`],
      ),
      ...doubtful.map(({ id, trust, problems }) => `Source ${id} is ${trust}: ${problems.join(", ")}`),
    ]),
  );
}

function vulnerabilities(plan: OperationPlan): Markup {
  const { introduces, leaves, fixes, not_affected, unanswered } = vulnerabilityChange(plan);
  const rows = (what: string, of: readonly Vulnerability[]) => of.map((one) => ({ what, one }));
  const all = [...rows("introduced", introduces), ...rows("left", leaves), ...rows("fixed", fixes)];
  const more = all.length - MOST;
  return section(
    "Vulnerabilities",
    rowsTable(
      ["", "Vulnerability", "Package", "Severity", "Exploited", { number: "EPSS" }, "Fixed in"],
      all
        .slice(0, MOST)
        .map(({ what, one }) => [
          html`<span class="${what === "fixed" ? "good" : what === "left" ? "warn" : "bad"}">${what}</span>`,
          one.name,
          `${one.package} ${one.version}`,
          one.severity === "unknown" ? "not rated" : one.severity,
          one.known_exploited === undefined ? "" : `since ${one.known_exploited}`,
          one.epss === undefined ? "" : `${(one.epss * 100).toFixed(1)}%`,
          one.fixed_version ?? "",
        ]),
    ),
    bullets([
      ...(more > 0
        ? [`${plural(more, "more vulnerability", "more vulnerabilities")}: aegis plan show --json has all.`]
        : []),
      ...(not_affected.length > 0
        ? [
            `The distribution states that ${plural(not_affected.length, "vulnerability", "vulnerabilities")} don't affect these versions.`,
          ]
        : []),
      ...(unanswered.length > 0 ? [`No data about: ${unanswered.join(", ")}`] : []),
    ]),
  );
}

function sources(plan: OperationPlan): Markup {
  return section(
    "Sources",
    rowsTable(
      ["Source", "Trust", "Calls itself", "Of", "Keys"],
      usedSources(plan).map((source) => [
        source.id,
        checkedTrust(source),
        [source.release_origin, source.release_suite].filter((text) => text !== null).join(" "),
        source.release_date ?? "",
        html`<code>${source.key_fingerprints.join(" ")}</code>`,
      ]),
    ),
  );
}

/** The new version with the part that differs from the old one marked. */
function version({ from_version: from, to_version: to }: TransactionEntry): Markup {
  if (to === null) return html`<span class="v">–</span>`;
  const at = from === null ? to.length : differsFrom(from, to);
  return html`<span class="v">${to.slice(0, at)}<b>${to.slice(at)}</b></span>`;
}

function nameOf({ name, architecture }: TransactionEntry, native: string): string {
  return architecture === native || architecture === "all" ? name : `${name}:${architecture}`;
}
