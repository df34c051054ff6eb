import { paint, type Terminal } from "./terminal.ts";

/*
 * Reference text as data, and as a terminal shows it. The manual page is made from the same data (cmd-help-man.ts).
 */

/** A paragraph, a list, terms with what each means, or lines to copy. Words in `backticks` are typed as they stand. */
export type Block =
  | string
  | { items: readonly string[] }
  | { terms: readonly (readonly [term: string, meaning: string])[] }
  | { lines: readonly string[] };

export interface HelpSection {
  title: string;
  blocks: readonly Block[];
}

/** Longer lines are tiring to read, however wide the terminal. */
const WIDEST = 100;
/** A term that is longer stands in a line by itself. */
const TERM_COLUMN = 24;

/** Sections as a terminal shows them, below each other. */
export function renderSections(sections: readonly HelpSection[], terminal: Terminal): string {
  return sections
    .map(({ title, blocks }) => {
      const head = paint(terminal, "bold", title.toUpperCase());
      return [head, ...blocks.map((block) => renderBlock(block, terminal))].join("\n\n");
    })
    .join("\n\n");
}

function renderBlock(block: Block, terminal: Terminal): string {
  if (typeof block === "string") return indented(block, terminal, "  ").join("\n");
  if ("lines" in block) return block.lines.map((line) => `    ${line}`.trimEnd()).join("\n");
  if ("items" in block)
    return block.items.map((item) => indented(item, terminal, "    ", "  - ").join("\n")).join("\n");
  const most = Math.min(TERM_COLUMN, Math.floor(terminal.width / 3));
  const column = Math.min(most, Math.max(...block.terms.map(([term]) => plain(term).length)));
  return block.terms
    .map(([term, meaning]) => {
      const shown = inline(term, terminal);
      if (meaning === "") return `  ${shown}`;
      const width = plain(term).length;
      const pad = " ".repeat(column + 4);
      if (width > column) return [`  ${shown}`, ...indented(meaning, terminal, pad)].join("\n");
      return indented(meaning, terminal, pad, `  ${shown}${" ".repeat(column - width + 2)}`).join("\n");
    })
    .join("\n");
}

/** Text in lines behind an indent, of which the first may be another of the same width. */
function indented(text: string, terminal: Terminal, indent: string, first = indent): string[] {
  const room = Math.max(20, Math.min(WIDEST, terminal.width) - indent.length);
  return Bun.wrapAnsi(inline(text, terminal), room)
    .split("\n")
    .map((line, i) => `${i === 0 ? first : indent}${line}`.trimEnd());
}

/** Words in backticks in bold, or bare where there is no colour. */
function inline(text: string, terminal: Terminal): string {
  return text.replace(/`([^`]*)`/g, (_, words: string) => paint(terminal, "bold", words));
}

/** Without the backticks. */
function plain(text: string): string {
  return text.replaceAll("`", "");
}
