import type { OperationPlan, RepositoryEvidence, TransactionEntry } from "./operation-plan.ts";
import { bytes, paint, plural, safe, type Terminal, wrap } from "./terminal.ts";

type Action = TransactionEntry["action"];

/** Removals and downgrades first: they are what people must not miss. */
const ACTIONS: Readonly<Record<Action, { symbol: string; todo: string; order: number }>> = {
  remove: { symbol: "−", todo: "to remove", order: 0 },
  downgrade: { symbol: "↓", todo: "to downgrade", order: 1 },
  install: { symbol: "+", todo: "to install", order: 2 },
  reinstall: { symbol: "↻", todo: "to reinstall", order: 3 },
  upgrade: { symbol: "↑", todo: "to upgrade", order: 4 },
  configure: { symbol: "…", todo: "to configure", order: 5 },
};

/** What a source's trust means, the best first. */
const TRUST: Readonly<Record<RepositoryEvidence["trust"], string>> = {
  distribution: "distribution",
  pinned: "third party, pinned key",
  weak: "third party, key not pinned",
  untrusted: "untrusted",
};
const BY_TRUST = Object.keys(TRUST);

/** Every package that changes, under where it comes from, and a count; empty where none does. */
export function renderChanges(plan: OperationPlan, terminal: Terminal): string {
  if (plan.nothing_to_do) {
    // A repair only configures: what it can't mend stands among the warnings.
    if (plan.operation === "repair") return "Nothing to configure.";
    return paint(terminal, "green", "Nothing to do: the host is as you want it.");
  }
  if (plan.transaction.length === 0) return "";
  const entries = plan.transaction.toSorted((a, b) => ACTIONS[a.action].order - ACTIONS[b.action].order);
  const counts = (["remove", "downgrade", "install", "reinstall", "upgrade", "configure"] as const).flatMap(
    (action) => {
      const n = entries.filter((entry) => entry.action === action).length;
      return n === 0 ? [] : [`${n} ${ACTIONS[action].todo}`];
    },
  );
  const size = entries.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
  const total = `${plural(entries.length, "package")}: ${counts.join(", ")}`;
  return [
    changeTable(entries, plan, terminal),
    "",
    size > 0 ? `${total}; ${bytes(size)} to download` : total,
  ].join("\n");
}

/** One row a package. Nothing of a name or a version is ever cut off: a row that is too long goes on in the next line. */
function changeTable(entries: readonly TransactionEntry[], plan: OperationPlan, terminal: Terminal): string {
  const groups = Map.groupBy(entries, (entry) => headingOf(entry, plan));
  const native = plan.host.architecture;
  const header = ["", "package", "from", "to", "size"];
  const rows = new Map(
    [...groups].map(([heading, group]) => [heading, group.map((entry) => cellsOf(entry, native))]),
  );
  const all = [header, ...rows.values().toArray().flat()];
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  const isWide = widths.reduce((sum, n) => sum + n + 2, -2) > terminal.width;
  // One long name must not push every other row out of its columns.
  const pads = isWide ? widths.map((n) => Math.min(n, Math.floor(terminal.width / 3))) : widths;
  const out = [paint(terminal, "dim", rowOf(header, pads, terminal.width))];
  for (const [heading, cells] of rows) {
    const style = /\((?:untrusted|third party, key not|unknown)/.test(heading) ? "yellow" : "dim";
    for (const line of wrap(heading, terminal.width, "  ")) out.push(paint(terminal, style, line));
    out.push(...cells.map((row) => rowOf(row, pads, terminal.width)));
  }
  return out.join("\n");
}

function cellsOf(entry: TransactionEntry, native: string): string[] {
  const isOwn = [native, "all"].includes(entry.architecture);
  return [
    ACTIONS[entry.action].symbol,
    safe(isOwn ? entry.name : `${entry.name}:${entry.architecture}`),
    safe(entry.from_version ?? "–"),
    safe(entry.to_version ?? "–"),
    entry.size === null ? "" : bytes(entry.size),
  ];
}

function rowOf(cells: readonly string[], pads: readonly number[], width: number): string {
  const line = cells
    .map((cell, i) => cell.padEnd(pads[i] ?? 0))
    .join("  ")
    .trimEnd();
  if (line.length <= width) return line;
  const lines: string[] = [];
  let current = "";
  for (const cell of cells.filter((one) => one !== "")) {
    if (current !== "" && current.length + 2 + cell.length > width) {
      lines.push(current);
      current = `     ${cell}`;
    } else current = current === "" ? cell : `${current}  ${cell}`;
  }
  return [...lines, current].join("\n");
}

/**
 * Where a package comes from. For apt the sources that offer the version and why they are trusted, by the evidence; what a
 * repository calls itself stands in quotes behind them, since it can call itself anything.
 */
function headingOf(entry: TransactionEntry, plan: OperationPlan): string {
  if (entry.action === "remove") return "removed from this host";
  if (entry.action === "configure") return "unpacked on this host already";
  const label = [entry.origin, entry.archive].filter((part) => part !== null).join(" ");
  if (plan.tool !== "apt") return `from ${safe(label) || "an unknown origin"}`;
  const sources = entry.sources.map((id) => `${safe(id)} (${trustOf(id, plan.repository_evidence)})`);
  const from = sources.length === 0 ? "(unknown source)" : sources.join(" and ");
  return `from ${from}${label === "" ? "" : `, calls itself "${safe(label).replaceAll('"', '\\"')}"`}`;
}

/** The worst that is known of a source, in words. */
function trustOf(id: string, evidence: readonly RepositoryEvidence[]): string {
  const known = evidence.filter((source) => source.id === id);
  const rank = (source: RepositoryEvidence) => BY_TRUST.indexOf(worst(source));
  const [source] = known.toSorted((a, b) => rank(b) - rank(a));
  if (source === undefined) return "unknown: no configured source";
  const why = source.problems.map(safe).join(", ") || "no verified signature";
  return worst(source) === "untrusted" ? `untrusted: ${why}` : TRUST[worst(source)];
}

function worst(source: RepositoryEvidence): RepositoryEvidence["trust"] {
  return source.signature_verified ? source.trust : "untrusted";
}
