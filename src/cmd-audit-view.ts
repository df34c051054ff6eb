import * as v from "valibot";
import type { AuditEvent, AuditKind } from "./audit-event.ts";
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
 * The log for people: time, kind, who asked, who approved, the outcome and the packages. Without a terminal each event is
 * one full line, for grep; on a terminal the same cells take two rows of wrapped columns, and long package lists are cut.
 */

/** Limit on the refusal codes in a row; `--json` has all. */
const NAMED_CODES = 5;
/** Minimum width of the last cell on a terminal; below it, an event becomes a paragraph. */
const LEAST_ROOM = 24;
/** Widths of the two middle columns on a terminal. */
const NAME_COLUMNS = { least: 14, most: 22 };
/** Limit on the packages in a row on a terminal; pipes and `--json` get all that the event has. */
const NAMED_PACKAGES = 12;
/** Full lines align their columns up to this width. */
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

/** The events as lines, in order, under a header. Escapes their text. */
export function renderEvents(events: readonly AuditEvent[], terminal: Terminal): string {
  if (events.length === 0) return "no such events";
  const rows = events.map((event) => rowOf(event, terminal.interactive));
  return (terminal.interactive ? blocks(rows, terminal) : fullLines(rows)).join("\n");
}

/** One line per event, however long. */
function fullLines(rows: readonly Row[]): string[] {
  const cells = [HEADER, ...rows].map(({ number, time, kind, asked, approved, outcome, what }) => [
    ...[number, time, kind, asked, approved, outcome].map((text) => collapsed(safe(text))),
    safe(what),
  ]);
  const widths = cells[0]?.map((_, i) => {
    const lengths = cells.map((row) => columnsOf(row[i] ?? ""));
    return Math.max(0, ...lengths.filter((length) => length <= ALIGNED));
  });
  return cells.map((row) => columns(row, widths ?? []));
}

/** Collapses runs of spaces in outside text: two spaces separate columns and the parts of the last one. */
function collapsed(text: string): string {
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

/** Two rows per event: number, time, kind, outcome; below them who asked, who approved, and what. */
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

/** The width of the longest word, within bounds. */
function nameColumn(texts: readonly string[]): number {
  const words = texts.flatMap((text) => safe(text).split(" "));
  const longest = Math.max(...words.map(roomFor));
  return Math.min(NAME_COLUMNS.most, Math.max(NAME_COLUMNS.least, longest));
}

/** Cells side by side, each wrapped in its column. */
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

/** Cuts the middle out of words wider than their column: both ends of a name say more than its beginning. */
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
    // On a terminal without the year.
    time: short ? timestamp.slice(5, 19).replace("T", " ") : `${timestamp.slice(0, 19)}Z`,
    kind,
    asked: askedBy(event) ?? "-",
    approved: approvedBy(event) ?? "-",
    outcome: outcomeIn(event) ?? "-",
    what: whatIn(event, short),
  };
}

/** Events whose actor decides about what another has asked for. */
const DECIDES: readonly AuditKind[] = ["approval_signed", "request_approved", "request_rejected"];

const Name = v.object({ name: v.string(), key_id: v.string() });
const ReportedCaller = v.object({ uid: v.number() });

/** The actor, or, if no signature was verified, the sender that the front reported. */
export function askedBy({ kind, actor, details }: AuditEvent): string | null {
  if (DECIDES.includes(kind)) return null;
  const caller = detailOf(ReportedCaller, details?.["caller_reported_by_front"]);
  return actor ?? (caller === null ? null : `uid ${caller.uid}, reported by the front`);
}

export function approvedBy({ kind, actor, details }: AuditEvent): string | null {
  if (DECIDES.includes(kind)) return actor;
  const names =
    detailOf(v.array(Name), details?.["approved_by"])?.map(({ name, key_id }) => `${name} (key ${key_id})`) ??
    detailOf(v.array(v.string()), details?.["approvers"]);
  return names === null || names.length === 0 ? null : names.join(", ");
}

function outcomeIn(event: AuditEvent): string | null {
  const { kind, decision, exit_status, details } = event;
  const parts = [
    // The event's kind already says so.
    kind === "execution_denied" ? null : decision,
    refusalsIn(event),
    detailOf(v.string(), details?.["state"]),
    detailOf(v.string(), details?.["code"]),
    exit_status === null ? null : `exit ${exit_status}`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : parts.join(", ");
}

/** The front's refusals by code, most frequent first: `protocol 3, expired 1`. Null for other events. */
function refusalsIn({ kind, details }: AuditEvent): string | null {
  const refusals = detailOf(
    v.array(v.object({ code: v.string(), count: v.number() })),
    details?.["refusals"],
  );
  if (kind !== "requests_refused" || refusals === null) return null;
  const counts = new Map<string, number>();
  for (const { code, count } of refusals) counts.set(code, (counts.get(code) ?? 0) + count);
  const named = [...counts].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${code} ${count}`);
  const rest = named.length - NAMED_CODES;
  return `${named.slice(0, NAMED_CODES).join(", ")}${rest > 0 ? `, and ${plural(rest, "more code")}` : ""}`;
}

/**
 * The operation and its packages, the message, and the id. Commands also take an id's prefix, so a terminal shows only that.
 */
function whatIn({ argv, execution_id, plan_id, details }: AuditEvent, short: boolean): string {
  const id = (text: string) => (short && UUID.test(text) ? text.slice(0, 8) : text);
  const operation = detailOf(v.string(), details?.["operation"]) ?? (argv === null ? null : showArgv(argv));
  const packages = packagesIn(details, short ? NAMED_PACKAGES : Number.POSITIVE_INFINITY);
  const message = detailOf(v.string(), details?.["message"]);
  const request = detailOf(v.number(), details?.["request"]);
  const reason = request === null ? null : detailOf(v.string(), details?.["reason"]);
  const changes = detailOf(v.array(v.string()), details?.["changes"]);
  return [
    request === null ? null : `request ${request}${reason === null ? "" : ` (${reason})`}`,
    operation === null || packages === null ? (operation ?? packages) : `${operation}: ${packages}`,
    message === null || changes === null
      ? (message ?? changes?.join(", "))
      : `${message}: ${changes.join(", ")}`,
    execution_id === null ? null : `execution ${id(execution_id)}`,
    execution_id === null && plan_id !== null ? `plan ${id(plan_id)}` : null,
  ]
    .map((part) => collapsed(part ?? ""))
    .filter((part) => part !== "")
    .join("  ");
}

/** `remove a 1.0; install b 2.0, c 1.0, and 3 more`, with at most `most` packages; null if the event lists none. */
function packagesIn(details: AuditEvent["details"], most: number): string | null {
  const packages = detailOf(v.record(v.string(), v.array(v.string())), details?.["packages"]);
  if (packages === null) return null;
  const all = Object.values(packages).flat().length;
  if (all === 0) return null;
  let listed = 0;
  const groups = Object.entries(packages).map(([action, names]) => {
    const shown = names.slice(0, most - listed);
    listed += shown.length;
    return shown.length === 0 ? null : `${action} ${shown.join(", ")}`;
  });
  const more = (detailOf(v.number(), details?.["packages_count"]) ?? all) - listed;
  const text = groups.filter((group) => group !== null).join("; ");
  return more > 0 ? `${text}, and ${more} more` : text;
}

/** A field of an event's details, or null if it has another form: older versions wrote others. */
export function detailOf<S extends v.GenericSchema>(schema: S, value: unknown): v.InferOutput<S> | null {
  const parsed = v.safeParse(schema, value);
  return parsed.success ? parsed.output : null;
}
