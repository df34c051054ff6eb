import { columnsRow, fitColumns } from "./cmd-columns.ts";
import { checkedTrust, doubtOf } from "./doc-evidence.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { REPOSITORY_TRUST, type RepositoryEvidence } from "./doc-plan-evidence.ts";
import { bytes, GUTTER, paint, plural, quoteWord, safe, safeStart, type Terminal, wrap } from "./terminal.ts";

type Action = TransactionEntry["action"];

/** Removals and downgrades first, since people must not miss them. */
const ACTIONS: Readonly<Record<Action, { symbol: string; todo: string; order: number }>> = {
  remove: { symbol: "−", todo: "to remove", order: 0 },
  downgrade: { symbol: "↓", todo: "to downgrade", order: 1 },
  install: { symbol: "+", todo: "to install", order: 2 },
  reinstall: { symbol: "↻", todo: "to reinstall", order: 3 },
  upgrade: { symbol: "↑", todo: "to upgrade", order: 4 },
  configure: { symbol: "…", todo: "to configure", order: 5 },
};

const IN_ORDER = [
  "remove",
  "downgrade",
  "install",
  "reinstall",
  "upgrade",
  "configure",
] as const satisfies Action[];

/** Descriptions of a source's trust. */
const TRUST: Readonly<Record<RepositoryEvidence["trust"], string>> = {
  distribution: "distribution",
  pinned: "third party, pinned key",
  weak: "third party, key not pinned",
  untrusted: "untrusted",
};
/** Limits on what is shown of a source's name, in characters, and of a package's sources. */
const LABEL_SHOWN = 200;
const SOURCES_SHOWN = 4;
/** The rank of a source that the plan does not list. */
const UNKNOWN = REPOSITORY_TRUST.length;

/** Every package that changes, grouped by source, and a count; empty if none changes. */
export function renderChanges(plan: OperationPlan, terminal: Terminal): string {
  if (plan.nothing_to_do) {
    // A repair only configures; the warnings list what it can't fix.
    if (plan.operation === "repair") return "Nothing to configure.";
    return paint(terminal, "green", "Nothing to do: the host already is in that state.");
  }
  if (plan.transaction.length === 0) return "";
  const entries = plan.transaction.toSorted((a, b) => ACTIONS[a.action].order - ACTIONS[b.action].order);
  return [changeTable(entries, plan, terminal), "", ...wrap(changeTotal(plan), terminal.width, "  ")].join(
    "\n",
  );
}

/** How many packages change, and how: `3 packages: 1 to remove, 2 to upgrade; 1.2 MB to download`. */
export function changeTotal({ transaction }: Pick<OperationPlan, "transaction">): string {
  const counts = IN_ORDER.flatMap((action) => {
    const n = transaction.filter((entry) => entry.action === action).length;
    return n === 0 ? [] : [`${n} ${ACTIONS[action].todo}`];
  });
  const size = transaction.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
  const total = [
    plural(transaction.length, "package"),
    ...(counts.length > 0 ? [counts.join(", ")] : []),
  ].join(": ");
  return size > 0 ? `${total}; ${bytes(size)} to download` : total;
}

/** The names of all packages that change, by action, most serious last, which is nearest to the question below. */
export function changedNames(plan: OperationPlan, terminal: Terminal): string[] {
  const native = plan.host.architecture;
  return IN_ORDER.toReversed().flatMap((action) => {
    const entries = plan.transaction.filter((entry) => entry.action === action);
    if (entries.length === 0) return [];
    const { symbol, todo } = ACTIONS[action];
    const names = entries.map((entry) => quoteWord(nameOf(entry, native)) + taking(entry)).join(" ");
    const [first = "", ...rest] = wrap(
      `${symbol} ${entries.length} ${todo}: ${names}`,
      terminal.width,
      GUTTER,
    );
    const style = ACTIONS[action].order < 2 ? "yellow" : null;
    return [style === null ? first : paint(terminal, style, first), ...rest];
  });
}

/** ` (takes over files of coreutils)`, for a package that may. */
function taking({ takes_over = [] }: TransactionEntry): string {
  return takes_over.length === 0 ? "" : ` (takes over files of ${takes_over.map(quoteWord).join(", ")})`;
}

/**
 * One row per package. Names and versions are never truncated: on a terminal a long cell wraps within its column, elsewhere
 * it widens its row, so that programs find each package on one line.
 */
function changeTable(entries: readonly TransactionEntry[], plan: OperationPlan, terminal: Terminal): string {
  const groups = Map.groupBy(entries, (entry) => headingOf(entry, plan));
  const native = plan.host.architecture;
  const header = ["", "package", "from", "to", "size"];
  const rows = new Map(
    [...groups].map(([heading, group]) => [heading, group.map((entry) => cellsOf(entry, native))]),
  );
  const widths = fitColumns([header, ...rows.values().toArray().flat()], terminal.width);
  const row = (cells: readonly string[]) => columnsRow(cells, widths, GUTTER.trim(), !terminal.interactive);
  const out = [paint(terminal, "dim", row(header))];
  for (const [heading, cells] of rows) {
    const style = /\((?:untrusted|third party, key not|unknown)/.test(heading) ? "yellow" : "dim";
    for (const line of wrap(heading, terminal.width, GUTTER)) out.push(paint(terminal, style, line));
    out.push(...cells.map(row));
  }
  return out.join("\n");
}

function nameOf(entry: TransactionEntry, native: string): string {
  const isOwn = [native, "all"].includes(entry.architecture);
  return isOwn ? entry.name : `${entry.name}:${entry.architecture}`;
}

function cellsOf(entry: TransactionEntry, native: string): string[] {
  return [
    ACTIONS[entry.action].symbol,
    safe(nameOf(entry, native)),
    safe(entry.from_version ?? "–"),
    safe(entry.to_version ?? "–"),
    entry.size === null ? "" : bytes(entry.size),
  ];
}

/**
 * Where a package comes from. For apt: the sources that offer the version, and how far the evidence trusts them. The name a
 * repository gives itself comes last and in quotes, since it may be anything.
 */
function headingOf(entry: TransactionEntry, plan: OperationPlan): string {
  if (entry.action === "remove") return "removed from this host";
  if (entry.action === "configure") return "already unpacked on this host";
  const label = safeStart(
    [entry.origin, entry.archive].filter((part) => part !== null).join(" "),
    LABEL_SHOWN,
  );
  if (plan.tool !== "apt") return `from ${label || "an unknown origin"}`;
  const judged = entry.sources.map((id) => ({ id, ...worstOf(id, plan.repository_evidence) }));
  // Least trusted first, since apt may fetch from any of them.
  const sources = judged
    .sort((a, b) => b.doubt - a.doubt)
    .map(({ id, words }) => `${safeStart(id, LABEL_SHOWN)} (${words})`);
  const more = sources.length - SOURCES_SHOWN;
  const from = sources.length === 0 ? "(unknown source)" : sources.slice(0, SOURCES_SHOWN).join(" and ");
  const others = more > 0 ? ` and ${plural(more, "more source")}` : "";
  return `from ${from}${others}${label === "" ? "" : `, calls itself "${label.replaceAll('"', '\\"')}"`}`;
}

/** A source's trust, in words and as a rank; of several entries with this id, the least trusted. */
function worstOf(id: string, evidence: readonly RepositoryEvidence[]): { words: string; doubt: number } {
  const known = evidence.filter((source) => source.id === id);
  const [source] = known.toSorted((a, b) => doubtOf(b) - doubtOf(a));
  if (source === undefined) return { words: "unknown: no configured source", doubt: UNKNOWN };
  const why = safeStart(source.problems.join(", "), LABEL_SHOWN) || "no verified signature";
  const trust = checkedTrust(source);
  return { words: trust === "untrusted" ? `untrusted: ${why}` : TRUST[trust], doubt: doubtOf(source) };
}
