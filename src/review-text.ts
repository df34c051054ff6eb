import { plural } from "./terminal.ts";

/*
 * Untrusted text, escaped for the model's prompt.
 *
 * The evidence stands between tags, and untrusted text can't contain `<`, a line break or a bare quotation mark, since all
 * three are escaped. A secret delimiter would do no better: even a rough imitation misleads a small model. Quoting also
 * marks where each piece of untrusted text begins and ends, which models heed better than a single fence around everything
 * ("spotlighting", arXiv:2403.14720).
 *
 * Escaping `<` and `[` has a second use. Many servers turn the text of a control token (`<|im_end|>`, `</s>`, `[/INST]`)
 * into the token itself wherever it occurs, so that data could end its message and speak as the system
 * (huggingface/transformers#29279, InternLM/lmdeploy#4960). All these tokens contain `<`, `[` or a non-ASCII character.
 *
 * Backslashes are escaped too, so every backslash in the evidence starts one of our escapes.
 */

/** Names, versions and addresses. */
const PLAIN = /^[A-Za-z0-9@._/-][A-Za-z0-9+.:~@/_=%,^-]*$/;
/** Commands that switch thinking on or off; some chat templates look for them in every message. */
const SWITCH = "/(?:no_?)?think";
/** Invisible: control, format, private, unassigned and default-ignorable characters, and Unicode line separators. */
const HIDDEN = "(?:(?![\\n\\r\\t])[\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}])+";
const ONE_PIECE = new RegExp(`${HIDDEN}|${SWITCH}|.`, "gisu");
const IS_HIDDEN = new RegExp(`^${HIDDEN}$`, "u");
/** Printable ASCII without `"`, `<`, `[`, the backslash and the backquote. */
const BARE = /^[ !#-;=-Z\]^_a-~]$/;
const HAS_SWITCH = new RegExp(SWITCH, "i");
const ESCAPED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"' };

/** A name, version or address: bare if that is safe, else as {@link quote} writes it. */
export function word(text: string, max = 120): string {
  return text.length <= max && PLAIN.test(text) && !HAS_SWITCH.test(text) ? text : quote(text, max);
}

/**
 * Quotes text as one line of printable ASCII: at most `max` characters, then `\cut{n}` if n are left out. Invisible
 * characters become `\hidden{n}`, non-ASCII ones `\u{430}`, and those that could start a control token or an escape `\x3c`.
 * Its cost grows with `max`, not with the text's length.
 */
export function quote(text: string, max: number): string {
  return framed(text, fitting(pieces(beginning(text, max)), max), []);
}

/** Like {@link quote}, but keeps both ends of a long text: two thirds from the beginning, one third from the end. */
export function quoteEnds(text: string, max: number): string {
  const whole = fitting(pieces(beginning(text, max)), max);
  if (lengthOf(whole) === text.length) return framed(text, whole, []);
  const room = Math.floor(max / 3);
  const first = fitting(whole, max - room);
  const end = text.slice(Math.max(lengthOf(first), text.length - room));
  return framed(text, first, fitting(pieces(end).reverse(), room).reverse());
}

/**
 * As many words as fit into about `max` characters, separated by commas, and how many were left out. Long words are
 * truncated.
 */
export function commaList(texts: readonly string[], max: number): string {
  return wordList(texts, max, ", ").text;
}

/** Like {@link commaList}, with a separator, and with the number left out. */
export function wordList(
  texts: readonly string[],
  max: number,
  between: string,
): { text: string; left: number } {
  const { lines, left } = fitLines(texts, (text) => word(text, Math.floor(max / 2)), max, between.length);
  const shown = lines.length === 0 ? "" : lines.join(between);
  if (left === 0) return { text: shown || "none", left };
  return { text: shown === "" ? `${left} not shown` : `${shown} and ${left} more`, left };
}

/** The lines that fit into `max` characters, with `gap` characters between them, and the number of items left over. */
export function fitLines<T>(
  items: readonly T[],
  toLine: (item: T) => string,
  max: number,
  gap = 1,
): { lines: string[]; left: number; chars: number } {
  const lines: string[] = [];
  let chars = 0;
  for (const item of items) {
    const line = toLine(item);
    if (chars + line.length + gap > max) break;
    lines.push(line);
    chars += line.length + gap;
  }
  return { lines, left: items.length - lines.length, chars };
}

/** A section of the evidence, and descriptions of what it leaves out. */
export interface Section {
  lines: string[];
  omitted: string[];
}

/** Limit, in characters, on the line that says how many were left out. */
const NOTE = 80;

/** One line per item, as many as fit into `max` characters; if some don't fit, a last line says how many. */
export function listed<T>(
  items: readonly T[],
  toLine: (item: T) => string,
  max: number,
  one: string,
  many = `${one}s`,
): Section {
  const { lines, left } = fitLines(items, toLine, max - NOTE);
  if (left === 0) return { lines, omitted: [] };
  const note = plural(left, `more ${one}`, `more ${many}`);
  return { lines: [...lines, `- NOT SHOWN: ${note}`], omitted: [note] };
}

/** The first `max` code units, without splitting a surrogate pair. */
function beginning(text: string, max: number): string {
  if (text.length <= max) return text;
  const start = text.slice(0, max);
  return start.isWellFormed() ? start : start.slice(0, -1);
}

function pieces(text: string): string[] {
  return text.match(ONE_PIECE) ?? [];
}

/** The first pieces that fit into `max` characters once escaped. */
function fitting(all: readonly string[], max: number): string[] {
  let chars = 0;
  const end = all.findIndex((piece) => {
    chars += escaped(piece).length;
    return chars > max;
  });
  return end === -1 ? [...all] : all.slice(0, end);
}

function framed(text: string, first: readonly string[], last: readonly string[]): string {
  const missing = text.length - lengthOf(first) - lengthOf(last);
  const gap = missing > 0 ? `\\cut{${missing}}` : "";
  return `"${first.map(escaped).join("")}${gap}${last.map(escaped).join("")}"`;
}

function lengthOf(some: readonly string[]): number {
  return some.reduce((sum, piece) => sum + piece.length, 0);
}

function escaped(piece: string): string {
  const known = ESCAPED[piece];
  if (known !== undefined) return known;
  if (IS_HIDDEN.test(piece)) return `\\hidden{${[...piece].length}}`;
  if (BARE.test(piece)) return piece;
  const code = piece.codePointAt(0) ?? 0;
  return code < 0x80 ? `\\x${code.toString(16)}${piece.slice(1)}` : `\\u{${code.toString(16)}}`;
}
