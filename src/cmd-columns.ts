import { columnsOf, padColumns, paint, pieces, roomFor, type Style, type Terminal } from "./terminal.ts";

/*
 * Columns that stay aligned when a cell is too long: it wraps within its column, and the other rows keep to one line.
 */

const GAP = "  ";

/** The column whose cell is styled, from `from` on (UTF-16 units) to its end. */
interface Marked {
  terminal: Terminal;
  column: number;
  from: number;
  style: Style;
}

/** Minimum width of a column. */
const NARROWEST = 6;

/**
 * Column widths that fit into `width`. Narrows whichever column adds the fewest lines, so that one long version among a
 * hundred short ones is what wraps. Cells must be safe.
 */
export function fitColumns(rows: readonly (readonly string[])[], width: number): number[] {
  const count = Math.max(0, ...rows.map((row) => row.length));
  const rooms = Array.from({ length: count }, (_, i) => rows.map((row) => roomFor(row[i] ?? "")));
  const widths = Array.from({ length: count }, (_, i) =>
    rows.reduce((most, row) => Math.max(most, columnsOf(row[i] ?? "")), 0),
  );
  let excess = widths.reduce((sum, n) => sum + n + GAP.length, -GAP.length) - width;
  for (; excess > 0; excess--) {
    const costs = widths.map((n, i) =>
      n <= NARROWEST ? Number.POSITIVE_INFINITY : lines(rooms[i] ?? [], n - 1) - lines(rooms[i] ?? [], n),
    );
    const least = Math.min(...costs);
    if (least === Number.POSITIVE_INFINITY) break;
    const [widest = 0] = widths
      .flatMap((_, i) => (costs[i] === least ? [i] : []))
      .sort((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0));
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}

function lines(rooms: readonly number[], width: number): number {
  return rooms.reduce((sum, room) => sum + Math.max(1, Math.ceil(room / width)), 0);
}

/** Columns that a table of these widths takes. */
export function tableWidth(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width + GAP.length, -GAP.length);
}

/**
 * One row in columns. A cell that is too long wraps into further lines, which begin with `mark`, so that nothing is cut off
 * and no cell's text begins a line. With `whole`, a long cell stays in one piece and widens its row.
 */
export function columnsRow(
  cells: readonly string[],
  widths: readonly number[],
  mark: string,
  whole: boolean,
  marked: Marked | null = null,
): string {
  const parts = cells.map((cell, i) => (whole ? [cell] : partsOf(cell, widths[i] ?? columnsOf(cell))));
  const height = Math.max(...parts.map((part) => part.length));
  return Array.from({ length: height }, (_, line) =>
    parts
      .map((part, i) => {
        const piece = part[line] ?? (line > 0 && i === 0 ? mark : "");
        const padded = padColumns(piece, widths[i] ?? 0);
        if (marked === null || marked.column !== i) return padded;
        const before = part.slice(0, line).join("").length;
        const at = Math.max(0, marked.from - before);
        if (at >= piece.length) return padded;
        const styled = paint(marked.terminal, marked.style, piece.slice(at));
        return piece.slice(0, at) + styled + padded.slice(piece.length);
      })
      .join(GAP)
      .trimEnd(),
  ).join("\n");
}

/** Breaks a cell into lines, preferably after a `-`, `.`, `+`, `~` or `:` in the second half of the column. */
function partsOf(cell: string, width: number): string[] {
  const [piece = "", ...rest] = pieces(cell, width);
  if (rest.length === 0) return [piece];
  const at = Math.max(...["-", ".", "+", "~", ":"].map((mark) => piece.lastIndexOf(mark))) + 1;
  const end = at > piece.length / 2 ? at : piece.length;
  return [piece.slice(0, end), ...partsOf(cell.slice(end), width)];
}
