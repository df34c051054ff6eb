import { columnsRow, fitColumns, tableWidth } from "./cmd-columns.ts";
import { legend, originIds, originsOf } from "./cmd-plan-origins.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { Vulnerability } from "./doc-vulnerabilities.ts";
import { ASKED, changeGroups, type PlannedChange, together } from "./plan-groups.ts";
import {
  bytes,
  columnsOf,
  GUTTER,
  paint,
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

/** Limit on the vulnerabilities that a row names. */
const NAMED = 3;
/** Limit on the characters of a vulnerability's name. */
const NAME_ROOM = 200;
/** Least width of the column of notes; where the terminal has less room, notes stand below their row. */
const NOTES_ROOM = 28;
/** From this width on, a column names the source package. */
const WIDE = 110;
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
  const isKnown = rows.some(({ source }) => source !== "");
  const hasNotes = rows.some(({ notes }) => notes !== "");
  const left = terminal.width - natural - 2;

  // Notes come first; where even they have no room beside, they stand below, and the source package may have it.
  const needed = hasNotes && left >= NOTES_ROOM ? named + 2 + NOTES_ROOM : named;
  const isWide = isKnown && terminal.width >= WIDE && left >= needed;
  const room = left - (isWide ? named + 2 : 0);
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
  const isOne = set.length === 1;
  const names = set.map(
    ({ entry, marks }) => quoteWord(shownName(entry, native)) + (marks.includes(ASKED) ? " (asked for)" : ""),
  );
  return [
    ...first.marks.filter((what) => isOne || what !== ASKED),
    ...vulnerabilities("fixes", first.fixes),
    ...vulnerabilities("introduces", first.introduces),
    ...vulnerabilities("leaves", first.leaves),
    ...(isOne ? [] : [names.join(" ")]),
  ].join("; ");
}

/** `fixes CVE-2024-6387 (critical, exploited), CVE-2024-1 (high) and 3 more` */
function vulnerabilities(what: string, list: readonly Vulnerability[]): string[] {
  if (list.length === 0) return [];
  const shown = list.slice(0, NAMED).map(({ name, severity, known_exploited }) => {
    const rated = severity === "unknown" ? [] : [severity];
    const facts = [...rated, ...(known_exploited === undefined ? [] : ["exploited"])];
    return safeStart(`${name}${facts.length === 0 ? "" : ` (${facts.join(", ")})`}`, NAME_ROOM);
  });
  const more = list.length - shown.length;
  return [`${what} ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`];
}

export function shownName(entry: TransactionEntry, native: string): string {
  const isOwn = [native, "all"].includes(entry.architecture);
  return isOwn ? entry.name : `${entry.name}:${entry.architecture}`;
}
