import { plural } from "./terminal.ts";

/*
 * Outside text as it stands in the model's prompt.
 *
 * The fence is made of characters, not of a secret delimiter: the evidence stands between tags, and no outside text can
 * hold a `<`, a line break or a bare quotation mark, since all three are escaped. A delimiter that nobody can guess would
 * do no better (a rough imitation of one misleads a small model too). Quoting also marks where each piece of outside text
 * begins and ends, which models heed more than one fence around everything ("spotlighting", arXiv:2403.14720).
 *
 * Escaping `<` and `[` has a second use: many servers turn the text of a control token (`<|im_end|>`, `</s>`, `[/INST]`)
 * into the token itself wherever it stands, so that data could end its message and speak as the system
 * (huggingface/transformers#29279, InternLM/lmdeploy#4960). Such tokens hold one of the two, or a character outside ASCII.
 *
 * Every backslash in the evidence is ours: outside ones are escaped too.
 */

/** What names, versions and addresses are made of. */
const PLAIN = /^[A-Za-z0-9@._/-][A-Za-z0-9+.:~@/_=%,^-]*$/;
/** Words that switch a model's thinking off or on: some chat templates look for them in every message. */
const SWITCH = "/(?:no_?)?think";
/** What nobody sees: control, format, private, unassigned and default-ignorable characters, and Unicode's line ends. */
const HIDDEN = "(?:(?![\\n\\r\\t])[\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}])+";
const ONE_PIECE = new RegExp(`${HIDDEN}|${SWITCH}|.`, "gisu");
const IS_HIDDEN = new RegExp(`^${HIDDEN}$`, "u");
/** Printable ASCII without `"`, `<`, `[`, the backslash and the backquote. */
const BARE = /^[ !#-;=-Z\]^_a-~]$/;
const HAS_SWITCH = new RegExp(SWITCH, "i");
const ESCAPED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"' };

/** A name, version or address: bare where that is safe, else as {@link quote} writes it. */
export function word(text: string, max = 120): string {
  return text.length <= max && PLAIN.test(text) && !HAS_SWITCH.test(text) ? text : quote(text, max);
}

/**
 * Text in quotation marks on one line of printable ASCII: at most `max` characters of it, and `\cut{n}` where n are
 * missing. What nobody sees becomes `\hidden{n}`, a letter from elsewhere its number, as in `\u{430}`, and what could begin a
 * control token or an escape `\x3c` and the like. Takes time by `max`, not by the text's length.
 */
export function quote(text: string, max: number): string {
  return framed(text, fitting(pieces(beginning(text, max)), max), []);
}

/** Like {@link quote}, but both ends of a long text are shown, twice as much of the beginning. */
export function quoteEnds(text: string, max: number): string {
  const whole = fitting(pieces(beginning(text, max)), max);
  if (lengthOf(whole) === text.length) return framed(text, whole, []);
  const room = Math.floor(max / 3);
  const first = fitting(whole, max - room);
  const end = text.slice(Math.max(lengthOf(first), text.length - room));
  return framed(text, first, fitting(pieces(end).reverse(), room).reverse());
}

/**
 * Words with commas between them, as far as they fit into about `max` characters, and how many are missing. Of a long word
 * its beginning is shown.
 */
export function commaList(texts: readonly string[], max: number): string {
  return wordList(texts, max, ", ").text;
}

/** Like {@link commaList}, with `between` between them, and with how many are missing as a number. */
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

/** The lines that fit into `max` characters with `gap` between them, and how many items are left over. */
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

/** A part of the evidence, and what it leaves out, in words. */
export interface Section {
  lines: string[];
  omitted: string[];
}

/** Room that the line about what is missing needs at most. */
const NOTE = 80;

/** One line for each item as far as they fit into `max` characters; the last line says how many did not. */
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

/** Texts of a plan are well-formed; a cut must not make half a character of one. */
function beginning(text: string, max: number): string {
  if (text.length <= max) return text;
  const start = text.slice(0, max);
  return start.isWellFormed() ? start : start.slice(0, -1);
}

function pieces(text: string): string[] {
  return text.match(ONE_PIECE) ?? [];
}

/** The first pieces, as many as stay within `max` characters when they are escaped. */
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
