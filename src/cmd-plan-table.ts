import { columnsRow, fitColumns, tableWidth } from "./cmd-columns.ts";
import { checkedTrust, doubtOf } from "./doc-evidence.ts";
import { isMark, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { REPOSITORY_TRUST, type RepositoryEvidence } from "./doc-plan-evidence.ts";
import type { Vulnerability } from "./doc-vulnerabilities.ts";
import { changeGroups, type PlannedChange, together } from "./plan-groups.ts";
import {
  bytes,
  columnsOf,
  GUTTER,
  paint,
  plural,
  quoteWord,
  safe,
  safeStart,
  type Terminal,
  wrap,
} from "./terminal.ts";

/* The table of what a plan changes: grouped by what matters, aligned, the differing part of each version marked. */

export type Action = TransactionEntry["action"];

/** Removals and downgrades first, since people must not miss them. */
export const ACTION_WORDS: Readonly<Record<Action, { symbol: string; todo: string; order: number }>> = {
  remove: { symbol: "−", todo: "to remove", order: 0 },
  downgrade: { symbol: "↓", todo: "to downgrade", order: 1 },
  install: { symbol: "+", todo: "to install", order: 2 },
  reinstall: { symbol: "↻", todo: "to reinstall", order: 3 },
  upgrade: { symbol: "↑", todo: "to upgrade", order: 4 },
  configure: { symbol: "…", todo: "to configure", order: 5 },
  hold: { symbol: "■", todo: "to put on hold", order: 6 },
  unhold: { symbol: "□", todo: "to take off hold", order: 7 },
  restart: { symbol: "↻", todo: "to restart", order: 8 },
};

/** Descriptions of a source's trust. */
const TRUST: Readonly<Record<RepositoryEvidence["trust"], string>> = {
  distribution: "distribution",
  pinned: "third party, pinned key",
  snapshot: "distribution, a snapshot that has expired",
  weak: "third party, key not pinned",
  untrusted: "untrusted",
};
/** Limit on the vulnerabilities that a row names. */
const NAMED = 3;
/** Limits on what is shown of a source's name, in characters, and on the names that it gives itself. */
const LABEL_SHOWN = 200;
const LABELS_SHOWN = 4;
const UNPACKED = "already unpacked on this host";
/** The rank of a source that the plan does not list. */
const UNKNOWN = REPOSITORY_TRUST.length;
const WEAK = REPOSITORY_TRUST.indexOf("weak");

/** Least width of the column of notes; where the terminal has less room, notes stand below their row. */
const NOTES_ROOM = 28;
/** From this width on, a column names the source package. */
const WIDE = 160;
const SOURCE_HEADER = "of source";

/** A row of the table before it is laid out. Text is safe. */
interface Row {
  cells: string[];
  source: string;
  notes: string;
}

/**
 * What changes, by what matters ({@link changeGroups}), below the list of where it comes from. Names and versions are never truncated:
 * on a terminal a long cell wraps within its column, and packages of one source with the same versions share a row and are named below
 * it; elsewhere each package is on one line of its own, for programs.
 */
export function changeTable(plan: OperationPlan, terminal: Terminal, sensitive: readonly string[]): string {
  const groups = changeGroups(plan, sensitive);
  const origins = originsOf(plan);
  const keyed = origins.size > 1;
  const header = ["", "package", "from", "to", "size", ...(keyed ? ["src"] : [])];
  const rows = groups.map(({ changes }) =>
    (terminal.interactive ? together(changes) : changes.map((one) => [one])).map((set): Row => {
      const [first] = set;
      const ids = first === undefined ? [] : originIds(first.entry, plan);
      const keys = ids.map((id) => origins.get(id)?.key ?? "").sort();
      return {
        cells: [...cellsOf(set, plan.host.architecture), ...(keyed ? [keys.join(",")] : [])],
        source: first === undefined || set.length > 1 ? "" : safe(sourceName(first.entry)),
        notes: notesOf(set, plan.host.architecture),
      };
    }),
  );
  const layout = layOut(header, rows.flat(), terminal);
  return [
    ...legend(origins, terminal),
    paint(terminal, "dim", layout.row(layout.header, 0)),
    ...groups.flatMap(({ id, title, changes }, n) => [
      ...(groups.length === 1 && (id === "rest" || id === "new")
        ? []
        : wrap(`${title} (${changes.length})`, terminal.width, GUTTER).map((line) =>
            paint(terminal, GRAVE.includes(id) ? "yellow" : "bold", line),
          )),
      ...(rows[n] ?? []).flatMap((one) => layout.lines(one)),
    ]),
  ].join("\n");
}

const GRAVE: readonly string[] = ["removed", "downgraded", "doubtful"];

/** The columns that fit the terminal: notes and source packages get some where there is room. */
function layOut(header: string[], rows: readonly Row[], terminal: Terminal) {
  const isPipe = !terminal.interactive;
  const natural = tableWidth(
    fitColumns([header, ...rows.map(({ cells }) => cells)], Number.MAX_SAFE_INTEGER),
  );
  const named = Math.max(SOURCE_HEADER.length, ...rows.map(({ source }) => columnsOf(source)));
  const isWide =
    rows.some(({ source }) => source !== "") &&
    terminal.width >= WIDE &&
    terminal.width - natural - named - 4 >= NOTES_ROOM;
  const hasNotes = rows.some(({ notes }) => notes !== "");
  const room = terminal.width - natural - 2 - (isWide ? named + 2 : 0);
  const isBeside = hasNotes && (isPipe || room >= NOTES_ROOM);
  const all = (cells: readonly string[], source: string) => (isWide ? [...cells, source] : [...cells]);
  const widths = fitColumns(
    [all(header, SOURCE_HEADER), ...rows.map(({ cells, source }) => all(cells, source))],
    terminal.width,
  );
  const row = (cells: readonly string[], from: number) =>
    columnsRow(cells, widths, GUTTER.trim(), isPipe, { terminal, column: 3, from, style: "bold" });
  return {
    header: [...all(header, SOURCE_HEADER), ...(isBeside ? ["notes"] : [])],
    row,
    lines({ cells, source, notes }: Row): string[] {
      const from = differsFrom(cells[2] ?? "", cells[3] ?? "");
      const main = all(cells, source);
      if (!isBeside) {
        const below = notes === "" ? [] : wrap(notes, terminal.width - 1, `${GUTTER} `);
        return [row(main, from), ...below.map((line, n) => (n === 0 ? `${GUTTER} ${line}` : line))];
      }
      const [first = "", ...rest] = isPipe ? [notes] : wrap(notes, room, "");
      const blank = main.map((_, n) => (n === 0 ? GUTTER.trim() : ""));
      return [row([...main, first], from), ...rest.map((line) => row([...blank, line], 0))];
    },
  };
}

/**
 * Where `to` begins to differ from `from`, in UTF-16 units, at the beginning of a run of digits or of letters: `12` of `1.2.12` after
 * `1.2.11`. 0 where one of them is no version.
 */
export function differsFrom(from: string, to: string): number {
  if (from === NONE || to === NONE) return to.length;
  let at = 0;
  while (at < to.length && at < from.length && to[at] === from[at]) at++;
  for (const run of [/[0-9]/, /[A-Za-z]/]) {
    const goesOn = [from[at], to[at]].some((c) => c !== undefined && run.test(c));
    const isInside = goesOn && at > 0 && run.test(to[at - 1] ?? "");
    while (isInside && at > 0 && run.test(to[at - 1] ?? "")) at--;
    if (isInside) break;
  }
  return at;
}

/** The cell for a version that there is not. */
const NONE = "–";

function cellsOf(set: readonly PlannedChange[], native: string): string[] {
  const [first] = set;
  if (first === undefined) return [];
  const { entry } = first;
  const sizes = set.flatMap(({ entry: { size } }) => size ?? []);
  return [
    ACTION_WORDS[entry.action].symbol,
    set.length === 1 ? safe(shownName(entry, native)) : safe(`${sourceName(entry)} (${set.length})`),
    safe(entry.from_version ?? NONE),
    safe(entry.to_version ?? NONE),
    sizes.length === 0 ? "" : bytes(sizes.reduce((sum, size) => sum + size, 0)),
  ];
}

function sourceName(entry: TransactionEntry): string {
  return (entry.to_source ?? entry.from_source)?.name ?? "";
}

/** Why a row is notable, which vulnerabilities it is about, and of several packages in a row their names. */
function notesOf(set: readonly PlannedChange[], native: string): string {
  const [first] = set;
  if (first === undefined) return "";
  const names = set.map(({ entry }) => quoteWord(shownName(entry, native))).join(" ");
  return [
    ...first.marks,
    ...vulnerabilities("fixes", first.fixes),
    ...vulnerabilities("introduces", first.introduces),
    ...vulnerabilities("leaves", first.leaves),
    ...(set.length === 1 ? [] : [names]),
  ].join("; ");
}

/** `fixes CVE-2024-6387 (critical, exploited), CVE-2024-1 (high) and 3 more` */
function vulnerabilities(what: string, list: readonly Vulnerability[]): string[] {
  if (list.length === 0) return [];
  const shown = list.slice(0, NAMED).map(({ name, severity, known_exploited }) => {
    const rated = severity === "unknown" ? [] : [severity];
    const facts = [...rated, ...(known_exploited === undefined ? [] : ["exploited"])];
    return safeStart(`${name}${facts.length === 0 ? "" : ` (${facts.join(", ")})`}`, LABEL_SHOWN);
  });
  const more = list.length - shown.length;
  return [`${what} ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`];
}

/** Where packages come from: a source, a registry, or what this host has already. All text is safe. */
interface Origin {
  /** What stands for it in the table if there are several. */
  key: string;
  words: string;
  isDoubtful: boolean;
  /** Names that it gives itself, which may be anything. */
  labels: string[];
}

/** The origins of a plan's packages by id, least trusted first. */
function originsOf(plan: OperationPlan): Map<string, Origin> {
  const found = new Map<string, { doubt: number; words: string; labels: Set<string> }>();
  for (const entry of plan.transaction) {
    for (const [n, id] of originIds(entry, plan).entries()) {
      const one = found.get(id) ?? { ...judged(id, plan), labels: new Set<string>() };
      found.set(id, one);
      // apt prints the name that the first source gives itself.
      if (plan.tool === "apt" && n === 0 && entry.origin !== null) one.labels.add(labelOf(entry));
    }
  }
  const ordered = [...found].sort(([, a], [, b]) => b.doubt - a.doubt);
  return new Map(
    ordered.map(([id, { doubt, words, labels }], n) => {
      return [id, { key: letters(n), words, isDoubtful: doubt >= WEAK, labels: [...labels] }];
    }),
  );
}

function judged(id: string, plan: OperationPlan): { doubt: number; words: string } {
  if (id === UNPACKED) return { doubt: -1, words: UNPACKED };
  if (id === "")
    return {
      doubt: UNKNOWN,
      words: `from ${plan.tool === "apt" ? "(unknown source)" : "an unknown origin"}`,
    };
  const by = plan.tool === "services" ? "defined by" : "from";
  if (plan.tool !== "apt") return { doubt: 0, words: `${by} ${safeStart(id, LABEL_SHOWN)}` };
  const { doubt, words } = worstOf(id, plan.repository_evidence);
  return { doubt, words: `from ${safeStart(id, LABEL_SHOWN)} (${words})` };
}

/** An entry's origins. apt may fetch from any of its sources. */
function originIds(entry: TransactionEntry, { tool }: OperationPlan): string[] {
  if (entry.action === "remove" || isMark(entry)) return [];
  if (entry.action === "configure") return [UNPACKED];
  const ids =
    tool === "apt"
      ? entry.sources
      : [[entry.origin, entry.archive].filter((part) => part !== null).join(" ")];
  return ids.length === 0 ? [""] : ids;
}

/** The name that a repository gives itself. */
function labelOf({ origin, archive }: TransactionEntry): string {
  return safeStart([origin, archive].filter((part) => part !== null).join(" "), LABEL_SHOWN);
}

/** A, B, … Z, AA, AB, … */
function letters(n: number): string {
  return `${n < 26 ? "" : letters(Math.floor(n / 26) - 1)}${String.fromCharCode(65 + (n % 26))}`;
}

/** A line for each origin, with its letter if there are several. */
function legend(origins: ReadonlyMap<string, Origin>, terminal: Terminal): string[] {
  return [...origins.values()].flatMap(({ key, words, isDoubtful, labels }) => {
    const more = labels.length - LABELS_SHOWN;
    const quoted = labels.slice(0, LABELS_SHOWN).map((label) => `"${label.replaceAll('"', '\\"')}"`);
    const calls = labels.length === 0 ? "" : `, calls itself ${quoted.join(", ")}`;
    const text = `${origins.size > 1 ? `${key}: ` : ""}${words}${calls}${more > 0 ? ` and ${plural(more, "other name")}` : ""}`;
    return wrap(text, terminal.width, GUTTER).map((line) =>
      paint(terminal, isDoubtful ? "yellow" : "dim", line),
    );
  });
}

export function shownName(entry: TransactionEntry, native: string): string {
  const isOwn = [native, "all"].includes(entry.architecture);
  return isOwn ? entry.name : `${entry.name}:${entry.architecture}`;
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
