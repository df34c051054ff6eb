import { SPACE_WARNING } from "./apt-grammar.ts";
import { renderChanges } from "./cmd-plan-changes.ts";
import { inBrief, outlookLines, type PolicyNote, policyLine, shortages } from "./cmd-plan-outlook.ts";
import { renderRepository } from "./cmd-plan-repository.ts";
import { vulnerabilityAttention, vulnerabilityFacts } from "./cmd-plan-vulnerabilities.ts";
import { checkedTrust, isStableWarning } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { type Grammars, TABLE } from "./eco-table.ts";
import { usedSources } from "./plan-signals.ts";
import {
  GUTTER,
  paint,
  plural,
  quoteWord,
  safe,
  safeStart,
  showSomeArgv,
  type Terminal,
  wrap,
} from "./terminal.ts";

/** Limit on a script's text, in characters. */
const SCRIPT_SHOWN = 300;
/** Limits on the entries of one kind, and on the characters of each, so that they can't hide the rest of the screen. */
const LISTED = 8;
const LISTED_CHARS = 400;
/** Limit on the name of a package, a source or a script, in characters. */
export const NAME_SHOWN = 200;
/** Limit on the names in one line of facts. */
const NAMED = 60;
/** A plan of more packages than this says at its top what it is about. */
const LONG = 8;

/** What the screen shows besides the plan. */
export interface PlanContext {
  /** Adds to the security-sensitive packages. */
  sensitive?: readonly string[];
  policy?: PolicyNote | null;
}

/** The blocks of a plan's screen, without trailing newlines; a block with nothing to say is empty. */
export interface PlanParts {
  /** The request and the host. */
  head: string;
  /** What needs attention, then the plan's warnings. */
  attention: string;
  /** Every package that changes. */
  changes: string;
  facts: string;
}

export function planParts(
  plan: OperationPlan,
  terminal: Terminal,
  { sensitive = [], policy = null }: PlanContext = {},
): PlanParts {
  const { host } = plan;
  const where = safe(`${host.hostname} (${host.os_id} ${host.os_version}, ${host.architecture})`);
  const head = [
    ...wrap(`Plan: ${requestText(plan, terminal)}`, terminal.width, GUTTER).map((line) =>
      paint(terminal, "bold", line),
    ),
    "",
    labelled(terminal, [
      ["Host", where],
      ["Command", showSomeArgv(plan.command_preview, terminal.width - INDENT)],
      // apt's packages are grouped by source.
      ["From", plan.source_registry === null || plan.tool === "apt" ? "" : safe(plan.source_registry)],
      ...(plan.transaction.length > LONG ? inBrief(plan, sensitive) : []),
    ]),
  ];
  return {
    head: head.join("\n"),
    attention: [attention(plan, terminal), remarks(plan, terminal)]
      .filter((block) => block !== "")
      .join("\n\n"),
    changes:
      plan.repository === undefined
        ? renderChanges(plan, terminal, sensitive)
        : renderRepository(plan, terminal),
    facts: labelled(terminal, [...facts(plan), policyLine(policy)]),
  };
}

/** A plan for people: what needs attention, then every package that changes. No trailing newline. */
export function renderPlan(plan: OperationPlan, terminal: Terminal, context: PlanContext = {}): string {
  const { head, attention: warned, changes, facts: known } = planParts(plan, terminal, context);
  return [head, warned, changes, known].filter((block) => block !== "").join("\n\n");
}

/** The request, escaped, in a few lines however many targets it has. */
export function requestText(plan: OperationPlan, terminal: Terminal): string {
  return showSomeArgv([plan.ecosystem, plan.operation, ...plan.targets], terminal.width, 2);
}

function facts(plan: OperationPlan): [string, string][] {
  const sources = plan.operation === "update" ? plan.repository_evidence.map(({ id }) => id) : [];
  const { length: warnings } = plan.warnings;
  return [
    ["Sources", named(sources.map(safe), ", ")],
    ...outlookLines(plan),
    ["Image", plan.image === undefined ? "" : imageText(plan.image)],
    ["Published", safe(plan.published_at?.slice(0, 10) ?? "")],
    ["Publisher", quotedText(plan.publisher_or_maintainer)],
    [
      "Checksums",
      plan.tool === "apt" || plan.transaction.length === 0 ? "" : safe(plan.signature_or_checksum_status),
    ],
    ...vulnerabilityFacts(plan),
    ["Way back", wayBack(plan)],
    ["Host hooks", named((plan.host_hooks ?? []).map(hookText), "; ", LISTED)],
    ...scriptLines(plan),
    ["Signals", plan.risk_signals.join(", ")],
    ["Warnings", warnings > 0 && plan.transaction.length > LISTED ? `${warnings}, above the table` : ""],
    ["Risk", riskText(plan)],
  ];
}

/** Old versions that no source offers any more. */
function wayBack({ rollback_plan: { inverse, unobtainable, kept = [] } }: OperationPlan): string {
  const of = plural(inverse.length, "change");
  const gone = unobtainable.map((text) => safeStart(text, NAME_SHOWN));
  return [
    ...(gone.length === 0
      ? []
      : [
          `${gone.length} of ${of} can't be undone, the old version is neither offered nor kept: ${named(gone, ", ", 3)}`,
        ]),
    ...(kept.length === 0 ? [] : [`${kept.length} of ${of} only with files that Aegis keeps`]),
  ].join("; ");
}

/** What the image itself says: where it runs, and what it starts as whom. */
function imageText({ platform, user, entrypoint, command }: NonNullable<OperationPlan["image"]>): string {
  const argv = [...entrypoint, ...command];
  const starts = argv.length === 0 ? "" : `, starts ${argv.map(quoteWord).join(" ")}`;
  return safeStart(`${platform}${starts} as ${user === "" ? "root" : quoteWord(user)}`, LISTED_CHARS);
}

/** `33 of 100 (package-removal 25, …)` */
export function riskText({ risk_score, risk_contributions }: OperationPlan): string {
  const parts = risk_contributions.map(({ name, points }) => `${safe(name)} ${points}`);
  return `${risk_score} of 100${parts.length > 0 ? ` (${parts.join(", ")})` : ""}`;
}

/** Outside text in quotes, with its own quotes escaped. */
function quotedText(text: string | null): string {
  if (text === null || text === "") return "";
  return `"${safeStart(text, LISTED_CHARS).replaceAll('"', '\\"')}"`;
}

function named(names: readonly string[], separator: string, most = NAMED): string {
  const more = names.length - most;
  const shown = names.slice(0, most).join(separator);
  return more > 0 ? `${shown}${separator}and ${more} more (--json has all)` : shown;
}

/** One script to a line: a command in its own words, the text of a program by its length. */
function scriptLines({ scripts }: OperationPlan): [string, string][] {
  const more = scripts.length - LISTED;
  const texts = scripts.slice(0, LISTED).map(scriptText);
  if (more > 0) texts.push(`and ${more} more (--json has all)`);
  return texts.map((text, n) => [n === 0 ? "Scripts" : GUTTER.padStart(INDENT), text]);
}

function scriptText({ package: name, name: script, body }: OperationPlan["scripts"][number]): string {
  const lines = body.trimEnd().split("\n").length;
  const text =
    lines === 1
      ? safeStart(body.trimEnd(), SCRIPT_SHOWN)
      : `${lines} lines, ${body.length} characters (--json has all)`;
  return `${safeStart(`${name} ${script}`, NAME_SHOWN)}: ${text}`;
}

function hookText({ configured_in, command }: NonNullable<OperationPlan["host_hooks"]>[number]): string {
  return `${safeStart(configured_in, NAME_SHOWN)}: ${safeStart(command, SCRIPT_SHOWN)}`;
}

/** Denied targets, takeovers, doubtful sources and vulnerabilities, one paragraph per item. */
function attention(plan: OperationPlan, terminal: Terminal): string {
  const denied = plan.denied_targets.map(
    ({ target, signal }) => `${target} will be denied by policy (${signal})`,
  );
  const taking = plan.transaction.flatMap(({ name, takes_over = [] }) =>
    takes_over.length === 0 ? [] : [`${name} takes over files of ${takes_over.join(", ")}`],
  );
  const repositories = usedSources(plan)
    .map((source) => ({ ...source, trust: checkedTrust(source) }))
    .filter(({ trust }) => trust === "weak" || trust === "untrusted")
    .map(
      ({ id, trust, problems }) =>
        `Source ${id} is ${trust}${problems.length === 0 ? "" : `: ${problems.join(", ")}`}`,
    );
  const vulnerabilities = vulnerabilityAttention(plan);
  const cut = vulnerabilities.grave - LISTED;
  return [
    ...items(denied, "denied target", terminal),
    ...items(shortages(plan), "file system", terminal),
    ...items(taking, "package that takes over files", terminal, "packages that take over files"),
    ...items(repositories, "source", terminal),
    ...items(
      vulnerabilities.texts,
      "vulnerability",
      terminal,
      "vulnerabilities",
      cut > 0 ? `, ${cut} of them exploited or of high or critical severity` : "",
    ),
  ].join("\n");
}

function items(
  texts: readonly string[],
  one: string,
  terminal: Terminal,
  many?: string,
  ofThem = "",
): string[] {
  const mark = paint(terminal, "yellow", "!");
  const more = texts.length - LISTED;
  return [
    ...texts.slice(0, LISTED).map((text) => {
      return `${mark} ${wrap(safeStart(text, LISTED_CHARS), terminal.width, GUTTER).join("\n")}`;
    }),
    ...(more > 0
      ? [`${mark} and ${plural(more, `more ${one}`, many && `more ${many}`)}${ofThem} (--json has all)`]
      : []),
  ];
}

/**
 * The plan's warnings. Their text comes from apt, a registry or the plan's author, so it is limited, marked with a bar, and
 * placed above everything that Aegis itself says about the change.
 */
function remarks(plan: OperationPlan, terminal: Terminal): string {
  const { tool } = plan;
  // What doesn't fit on the disk is said above, in Aegis's own words.
  const isTold = shortages(plan).length > 0;
  const warnings = plan.warnings.filter((text) => !isTold || !text.startsWith(SPACE_WARNING));
  if (warnings.length === 0) return "";
  // Warnings that the executor derives again and compares can't be forged, so they come before those that can.
  const grammars: Grammars = TABLE;
  const passing = grammars[tool]?.grammar.claims.mayDiffer.warnings ?? [];
  const lasts = (text: string) => isStableWarning(text, passing);
  const ordered = [...warnings.filter(lasts), ...warnings.filter((text) => !lasts(text))];
  const more = warnings.length - LISTED;
  const shown = ordered.slice(0, LISTED).flatMap((text) => {
    const [first = "", ...rest] = wrap(safeStart(text, LISTED_CHARS), terminal.width, `${GUTTER}  `);
    return [`${GUTTER}${paint(terminal, "yellow", "!")} ${first}`, ...rest];
  });
  return [
    ...wrap("Warnings, in the words of the plan and its sources:", terminal.width, "  "),
    ...shown,
    ...(more > 0 ? [`${GUTTER}… and ${plural(more, "more warning")} (--json has all)`] : []),
  ].join("\n");
}

/** Width of the label column. */
const INDENT = 11;

/**
 * `label  text`, with the text wrapped in its column; pairs without text are left out. All text must be safe.
 */
export function labelled(terminal: Terminal, pairs: readonly [string, string][]): string {
  const indent = GUTTER.padStart(INDENT);
  return pairs
    .filter(([, text]) => text !== "")
    .map(([label, text]) => {
      const head = paint(terminal, "dim", label.padEnd(INDENT));
      return `${head}${wrap(text, terminal.width, indent).join("\n")}`;
    })
    .join("\n");
}
