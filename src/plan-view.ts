import type { OperationPlan, TransactionEntry } from "./documents.ts";
import { newVulnerabilities, usedSources } from "./signals.ts";
import { bytes, clip, paint, plural, safe, showArgv, type Terminal, table } from "./terminal.ts";

type Action = TransactionEntry["action"];

/** Removals and downgrades first: they are what people must not miss. */
const ACTIONS: Readonly<Record<Action, { symbol: string; todo: string; order: number }>> = {
  remove: { symbol: "−", todo: "to remove", order: 0 },
  downgrade: { symbol: "↓", todo: "to downgrade", order: 1 },
  install: { symbol: "+", todo: "to install", order: 2 },
  reinstall: { symbol: "↻", todo: "to reinstall", order: 3 },
  upgrade: { symbol: "↑", todo: "to upgrade", order: 4 },
};

/** What a plan would do, for people: every package that changes, then what to think about. No trailing newline. */
export function renderPlan(plan: OperationPlan, terminal: Terminal): string {
  const { host } = plan;
  const wish = [plan.tool, plan.operation, ...plan.targets].map(safe).join(" ");
  const where = safe(`${host.hostname} (${host.os_id} ${host.os_version}, ${host.architecture})`);
  const blocks = [
    wrap(`Plan: ${wish}`, terminal.width)
      .map((line) => paint(terminal, "bold", line))
      .join("\n"),
    lines(terminal, [
      ["Host", where],
      ["Command", showArgv(plan.command_preview)],
      ["From", plan.source_registry === null ? "" : safe(plan.source_registry)],
    ]),
    changes(plan, terminal),
    lines(terminal, facts(plan)),
    attention(plan, terminal),
  ];
  return blocks.filter((block) => block !== "").join("\n\n");
}

function changes(plan: OperationPlan, terminal: Terminal): string {
  if (plan.nothing_to_do) return paint(terminal, "green", "Nothing to do: the host is as you want it.");
  if (plan.transaction.length === 0) return "";
  const entries = plan.transaction.toSorted((a, b) => ACTIONS[a.action].order - ACTIONS[b.action].order);
  const counts = (["remove", "downgrade", "install", "reinstall", "upgrade"] as const).flatMap((action) => {
    const n = entries.filter((entry) => entry.action === action).length;
    return n === 0 ? [] : [`${n} ${ACTIONS[action].todo}`];
  });
  const size = entries.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
  const total = `${plural(entries.length, "package")}: ${counts.join(", ")}`;
  return [
    changeTable(entries, plan.host.architecture, terminal),
    "",
    size > 0 ? `${total}; ${bytes(size)} to download` : total,
  ].join("\n");
}

/**
 * One row a package, under a heading for each origin: as a column it would leave too little room for versions, which must
 * be readable whole. Sizes give way before versions are cut.
 */
function changeTable(entries: readonly TransactionEntry[], native: string, terminal: Terminal): string {
  const groups = Map.groupBy(entries, (entry) =>
    entry.action === "remove"
      ? "removed from this host"
      : `from ${[entry.origin, entry.archive].filter((part) => part !== null).join(" ") || "an unknown origin"}`,
  );
  const rows = [...groups.values()]
    .flat()
    .map((entry) => [
      ACTIONS[entry.action].symbol,
      [native, "all"].includes(entry.architecture) ? entry.name : `${entry.name}:${entry.architecture}`,
      entry.from_version ?? "–",
      entry.to_version ?? "–",
      entry.size === null ? "" : bytes(entry.size),
    ]);
  const header = ["", "package", "from", "to", "size"];
  const widest = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const fits = widest.reduce((sum, n) => sum + n + 2, -2) <= terminal.width;
  const columns = fits ? header.length : header.length - 1;
  const [head = "", ...shown] = table(
    terminal,
    header.slice(0, columns),
    rows.map((row) => row.slice(0, columns)),
  ).split("\n");
  const out = [head];
  for (const [heading, { length }] of groups) {
    out.push(paint(terminal, "dim", clip(safe(heading), terminal.width)), ...shown.splice(0, length));
  }
  return out.join("\n");
}

function facts(plan: OperationPlan): [string, string][] {
  const sources = plan.operation === "update" ? plan.repository_evidence.map(({ id }) => id) : [];
  const parts = plan.risk_contributions.map(({ name, points }) => `${name} ${points}`);
  return [
    ["Sources", sources.map(safe).join(", ")],
    ["Kept back", plan.packages_held_back.map(safe).join(", ")],
    ["Published", plan.published_at === null ? "" : plan.published_at.slice(0, 10)],
    ["Publisher", safe(plan.publisher_or_maintainer ?? "")],
    [
      "Checksums",
      plan.tool === "apt" || plan.transaction.length === 0 ? "" : safe(plan.signature_or_checksum_status),
    ],
    ["Scripts", plan.scripts.map((s) => safe(`${s.package} ${s.name}: ${s.body.slice(0, 300)}`)).join("; ")],
    ["Signals", plan.risk_signals.join(", ")],
    ["Risk", `${plan.risk_score} of 100${parts.length > 0 ? ` (${parts.join(", ")})` : ""}`],
  ];
}

/** Everything that someone should read before going on, one item a paragraph. */
function attention(plan: OperationPlan, terminal: Terminal): string {
  const denied = plan.denied_targets.map(
    ({ target, signal }) => `${target} will be denied by policy (${signal})`,
  );
  const repositories = usedSources(plan)
    .filter(({ trust }) => trust === "weak" || trust === "untrusted")
    .map(({ id, trust, problems }) => `Source ${id} is ${trust}: ${problems.join(", ")}`);
  const vulnerabilities = newVulnerabilities(plan)
    .filter(({ severity }) => severity !== "none")
    .map((v) => `${v.package} ${v.version} has ${v.id} (severity ${v.severity})`);
  const items = [...denied, ...repositories, ...vulnerabilities, ...plan.warnings];
  const shown = items.map((item) => {
    const [first = "", ...rest] = wrap(safe(item), terminal.width - 2);
    return [`${paint(terminal, "yellow", "!")} ${first}`, ...rest.map((line) => `  ${line}`)].join("\n");
  });
  return shown.join("\n");
}

/** `label  text` with the text wrapped under itself; empty texts are left out. All text must be safe. */
function lines(terminal: Terminal, items: readonly [string, string][]): string {
  const indent = 11;
  return items
    .filter(([, text]) => text !== "")
    .map(([label, text]) => {
      const [first = "", ...rest] = wrap(text, terminal.width - indent);
      const head = paint(terminal, "dim", label.padEnd(indent));
      return [`${head}${first}`, ...rest.map((line) => " ".repeat(indent) + line)].join("\n");
    })
    .join("\n");
}

/** `text` broken at spaces into lines of at most `width` columns; a longer word stays whole, so it can be copied. */
function wrap(text: string, width: number): string[] {
  const out: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      out.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...out, line];
}
