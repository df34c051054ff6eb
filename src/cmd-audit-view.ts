import * as v from "valibot";
import type { AuditEvent } from "./audit-event.ts";
import { UUID } from "./canonical.ts";
import {
  columnsOf,
  GUTTER,
  paint,
  plural,
  roomFor,
  safe,
  showArgv,
  type Terminal,
  wrap,
} from "./terminal.ts";

/*
 * The log for people: when, what kind of event, who asked, who approved, how it went, and what was done with the packages
 * named. Where no terminal is, an event is one whole line, so that grep finds everything in it; on a terminal the same cells
 * stand in two rows of columns and go on below, and of many packages the first are named.
 */

/** Codes that a row names; `--json` has all. */
const NAMED_CODES = 5;
/** Columns of the terminal that are left for the last cell at least; below that an event is a paragraph. */
const LEAST_ROOM = 24;
/** The two columns in the middle, on a terminal. */
const NAME_COLUMNS = { least: 14, most: 22 };
/** Packages that a row names on a terminal; the event has more room, and a pipe and `--json` have all of it. */
const NAMED_PACKAGES = 12;
/** Up to here the columns of whole lines are aligned. */
const ALIGNED = 40;

interface Row {
  number: string;
  time: string;
  kind: string;
  asked: string;
  approved: string;
  outcome: string;
  what: string;
}

const HEADER: Row = {
  number: "#",
  time: "TIME (UTC)",
  kind: "EVENT",
  asked: "ASKED",
  approved: "APPROVED",
  outcome: "OUTCOME",
  what: "WHAT",
};

/** The events as lines, in their order, under a header. What stands in them is made safe here. */
export function renderEvents(events: readonly AuditEvent[], terminal: Terminal): string {
  if (events.length === 0) return "no such events";
  const rows = events.map((event) => rowOf(event, terminal.interactive));
  return (terminal.interactive ? blocks(rows, terminal) : wholeLines(rows)).join("\n");
}

/** One line an event, however long. */
function wholeLines(rows: readonly Row[]): string[] {
  const cells = [HEADER, ...rows].map(({ number, time, kind, asked, approved, outcome, what }) => [
    ...[number, time, kind, asked, approved, outcome].map((text) => closed(safe(text))),
    safe(what),
  ]);
  const widths = cells[0]?.map((_, i) => {
    const lengths = cells.map((row) => columnsOf(row[i] ?? ""));
    return Math.max(0, ...lengths.filter((length) => length <= ALIGNED));
  });
  return cells.map((row) => columns(row, widths ?? []));
}

/** Two spaces stand between columns, and between the parts of the last one: no text from outside holds any. */
function closed(text: string): string {
  return text.replaceAll(/ {2,}/g, " ");
}

function columns(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, i) => (i === cells.length - 1 ? cell : padded(cell, widths[i] ?? 0)))
    .join("  ")
    .trimEnd();
}

function padded(cell: string, width: number): string {
  return cell + " ".repeat(Math.max(0, width - columnsOf(cell)));
}

/** Two rows of columns an event: number, time, kind, outcome; and below who asked, who approved, what. */
function blocks(rows: readonly Row[], terminal: Terminal): string[] {
  const number = Math.max(...rows.map((row) => row.number.length));
  const asked = nameColumn(rows.flatMap((row) => [row.time.replaceAll(" ", "-"), row.asked]));
  const approved = nameColumn(rows.flatMap(({ kind, approved: names }) => [kind, names]));
  const last = terminal.width - number - asked - approved - 6;
  const lines = (row: Row): string[] => {
    const upper = [row.number.padStart(number), row.time, row.kind, row.outcome].map(safe);
    const lower = ["", row.asked, row.approved, row.what].map(safe);
    if (last < LEAST_ROOM)
      return wrap([...upper, ...lower.slice(1)].join("  "), terminal.width, GUTTER.padStart(4));
    return [upper, lower].flatMap((cells) => wrapped(cells, [number, asked, approved, last]));
  };
  const [header, ...body] = [HEADER, ...rows].map(lines);
  return [...(header ?? []).map((line) => paint(terminal, "dim", line)), ...body.flat()];
}

/** As wide as the longest word, within bounds. */
function nameColumn(texts: readonly string[]): number {
  const words = texts.flatMap((text) => safe(text).split(" "));
  const longest = Math.max(...words.map(roomFor));
  return Math.min(NAME_COLUMNS.most, Math.max(NAME_COLUMNS.least, longest));
}

/** Cells side by side, each going on below itself. */
function wrapped(cells: readonly string[], widths: readonly number[]): string[] {
  const stacks = cells.map((cell, i) => wrap(shortenWords(cell, widths[i] ?? 0), widths[i] ?? 0, ""));
  const height = Math.max(...stacks.map((stack) => stack.length));
  return Array.from({ length: height }, (_, n) =>
    columns(
      stacks.map((stack) => stack[n] ?? ""),
      widths,
    ),
  );
}

/** Words that are wider than their column lose their middle: both ends of a name tell more than its beginning alone. */
function shortenWords(text: string, width: number): string {
  const shorten = (word: string) => {
    const begin = charactersWithin([...word], Math.floor((width - 2) / 2));
    const end = charactersWithin([...word].reverse(), Math.floor((width - 2) / 2));
    return [...begin, "…", ...end.reverse()].join("");
  };
  return text
    .split(" ")
    .map((word) => (roomFor(word) <= width ? word : shorten(word)))
    .join(" ");
}

function charactersWithin(characters: readonly string[], room: number): string[] {
  let left = room;
  return characters.filter((character) => {
    left -= roomFor(character);
    return left >= 0;
  });
}

function rowOf(event: AuditEvent, short: boolean): Row {
  const { sequence, timestamp, kind } = event;
  return {
    number: String(sequence),
    // On a terminal from the month to the second.
    time: short ? timestamp.slice(5, 19).replace("T", " ") : `${timestamp.slice(0, 19)}Z`,
    kind,
    asked: askedBy(event) ?? "-",
    approved: approvedBy(event) ?? "-",
    outcome: outcomeIn(event) ?? "-",
    what: whatIn(event, short),
  };
}

const Name = v.object({ name: v.string(), key_id: v.string() });
const ReportedCaller = v.object({ uid: v.number() });

/** The actor, or where no signature was verified whoever the front says has sent it. */
function askedBy({ kind, actor, details }: AuditEvent): string | null {
  if (kind === "approval_signed") return null;
  const caller = read(ReportedCaller, details?.["caller_reported_by_front"]);
  return actor ?? (caller === null ? null : `uid ${caller.uid}, says the front`);
}

function approvedBy({ kind, actor, details }: AuditEvent): string | null {
  if (kind === "approval_signed") return actor;
  const names =
    read(v.array(Name), details?.["approved_by"])?.map(({ name, key_id }) => `${name} (key ${key_id})`) ??
    read(v.array(v.string()), details?.["approvers"]);
  return names === null || names.length === 0 ? null : names.join(", ");
}

function outcomeIn(event: AuditEvent): string | null {
  const { kind, decision, exit_status, details } = event;
  const parts = [
    // The kind says it already.
    kind === "execution_denied" ? null : decision,
    refusalsIn(event),
    read(v.string(), details?.["state"]),
    read(v.string(), details?.["code"]),
    exit_status === null ? null : `exit ${exit_status}`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : parts.join(", ");
}

/** What the front refused, by code, the most frequent first: `protocol 3, expired 1`. Null for other events. */
function refusalsIn({ kind, details }: AuditEvent): string | null {
  const refusals = read(v.array(v.object({ code: v.string(), count: v.number() })), details?.["refusals"]);
  if (kind !== "requests_refused" || refusals === null) return null;
  const counts = new Map<string, number>();
  for (const { code, count } of refusals) counts.set(code, (counts.get(code) ?? 0) + count);
  const named = [...counts].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${code} ${count}`);
  const rest = named.length - NAMED_CODES;
  return `${named.slice(0, NAMED_CODES).join(", ")}${rest > 0 ? `, and ${plural(rest, "more code")}` : ""}`;
}

/**
 * The operation and its packages, then what was said of it, then the id, which other commands take: by its beginning too, so
 * that is enough on a terminal.
 */
function whatIn({ argv, execution_id, plan_id, details }: AuditEvent, short: boolean): string {
  const id = (text: string) => (short && UUID.test(text) ? text.slice(0, 8) : text);
  const operation = read(v.string(), details?.["operation"]) ?? (argv === null ? null : showArgv(argv));
  const packages = packagesIn(details, short ? NAMED_PACKAGES : Number.POSITIVE_INFINITY);
  const message = read(v.string(), details?.["message"]);
  const changes = read(v.array(v.string()), details?.["changes"]);
  return [
    operation === null || packages === null ? (operation ?? packages) : `${operation}: ${packages}`,
    message === null || changes === null
      ? (message ?? changes?.join(", "))
      : `${message}: ${changes.join(", ")}`,
    execution_id === null ? null : `execution ${id(execution_id)}`,
    execution_id === null && plan_id !== null ? `plan ${id(plan_id)}` : null,
  ]
    .map((part) => closed(part ?? ""))
    .filter((part) => part !== "")
    .join("  ");
}

/** `remove a 1.0; install b 2.0, c 1.0, and 3 more`, `most` at most; null where the event lists none. */
function packagesIn(details: AuditEvent["details"], most: number): string | null {
  const packages = read(v.record(v.string(), v.array(v.string())), details?.["packages"]);
  if (packages === null) return null;
  const all = Object.values(packages).flat().length;
  if (all === 0) return null;
  let listed = 0;
  const groups = Object.entries(packages).map(([action, names]) => {
    const shown = names.slice(0, most - listed);
    listed += shown.length;
    return shown.length === 0 ? null : `${action} ${shown.join(", ")}`;
  });
  const more = (read(v.number(), details?.["packages_count"]) ?? all) - listed;
  const text = groups.filter((group) => group !== null).join("; ");
  return more > 0 ? `${text}, and ${more} more` : text;
}

/** A member of an event's details in the form that is expected, or null: older versions wrote others. */
function read<S extends v.GenericSchema>(schema: S, value: unknown): v.InferOutput<S> | null {
  const parsed = v.safeParse(schema, value);
  return parsed.success ? parsed.output : null;
}
