/** How a stream wants its text. */
export interface Terminal {
  /** Attached to a terminal. */
  interactive: boolean;
  colour: boolean;
  /** Columns; 80 where unknown. */
  width: number;
  /** Rows; left out where unknown. */
  height?: number;
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";
const SGR: Record<Style, string> = { bold: "1", dim: "2", red: "31", green: "32", yellow: "33", cyan: "36" };

/** What outside text that goes on in another line stands behind, so that it never begins one. */
export const GUTTER = "│ ";

/** Nothing is laid out for fewer columns. */
export const MIN_WIDTH = 40;

/**
 * The terminal behind a stream. No colour with NO_COLOR (https://no-color.org), TERM=dumb, or a pipe.
 */
export function terminalOf(
  stream: { isTTY?: boolean; columns?: number; rows?: number },
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  const interactive = stream.isTTY === true;
  const plain = (env.NO_COLOR ?? "") !== "" || env.TERM === "dumb" || env.TERM === "";
  return {
    interactive,
    colour: interactive && !plain,
    width: Math.max(MIN_WIDTH, stream.columns || 80),
    // 0 is a terminal that does not know its size.
    ...(interactive && stream.rows ? { height: stream.rows } : {}),
  };
}

/** `text` in a style, or as it is where there is no colour. `text` must have been through {@link safe}. */
export function paint(terminal: Terminal, style: Style, text: string): string {
  return terminal.colour ? `\u001b[${SGR[style]}m${text}\u001b[0m` : text;
}

/**
 * What no outside text may put on a screen: Unicode's C (control, format, surrogate, private, unassigned), Zl and Zp; every
 * space but U+0020, and what else looks like one (fillers, the empty braille pattern), because words of them are not broken
 * into lines and draw pictures; marks piled onto one letter, which reach into the lines above.
 */
const UNSAFE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|[^\P{Zs} ]|(?<=\p{M}\p{M})\p{M}/gu;

/** Outside text made safe to show: every character of {@link UNSAFE} is written as an escape. */
export function safe(text: string): string {
  return text.toWellFormed().replace(UNSAFE, (c) => {
    const code = c.codePointAt(0) ?? 0;
    if (c === "\n") return "\\n";
    if (c === "\t") return "\\t";
    if (c === "\r") return "\\r";
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** Outside text made safe, in at most `most` characters as shown; a longer one says how long it is. */
export function safeStart(text: string, most: number): string {
  const shown = safe(text.slice(0, most));
  if (shown.length <= most && text.length <= most) return shown;
  return `${shown.slice(0, most).toWellFormed()} … (${plural(text.length, "character")}; --json has all)`;
}

/** Safe text over several lines: line feeds and tabs stay, the rest is escaped. */
export function safeLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.split("\t").map(safe).join("\t"))
    .join("\n");
}

/**
 * JSON on one line that is also safe to show: what {@link safe} escapes stands in JSON's own escapes, so that a program
 * reads the same. Documents hold outside text, and a terminal may be all that reads them.
 */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, (c) =>
    Array.from({ length: c.length }, (_, i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/**
 * An argv shown so that a shell would read it back as the same words. Unsafe characters are escaped. A tilde stands bare
 * only where a shell doesn't expand it.
 */
export function showArgv(argv: readonly string[]): string {
  return argv.map(quoteWord).join(" ");
}

/** One word of {@link showArgv}: in quotes unless it is plain. */
export function quoteWord(word: string): string {
  return /^(?:[A-Za-z0-9_@%+=:,./-]|(?<=[^=:])~)+$/.test(word)
    ? word
    : `'${safe(word).replaceAll("'", "'\\''")}'`;
}

/** `Command     argv`, for a terminal in few lines that break between words, else all of it in one. */
export function argvLines(argv: readonly string[], terminal: Terminal): string[] {
  const indent = GUTTER.padStart(12);
  const text = terminal.interactive
    ? wrap(showSomeArgv(argv, terminal.width - indent.length, 6), terminal.width, indent)
    : [showArgv(argv)];
  return text.map((line, i) => (i === 0 ? `Command     ${line}` : line));
}

/** An argv in at most `lines` lines' worth of columns, then how many words are left out. A word too long for that is cut. */
export function showSomeArgv(argv: readonly string[], width: number, lines = 3): string {
  const most = width * lines;
  const words = argv.map((word) => clipColumns(quoteWord(word), Math.floor(most / 2)));
  let room = most;
  const missing = words.findIndex((word) => {
    room -= roomFor(word) + 1;
    return room < 0;
  });
  if (missing < 0) return words.join(" ");
  const more = plural(words.length - missing, "more word");
  return `${words.slice(0, missing).join(" ")} … and ${more} (--json has all)`;
}

/** `text` cut to `width` UTF-16 units with an ellipsis, never inside a character. */
export function clip(text: string, width: number): string {
  if (text.length <= width) return text;
  const start = text.slice(0, Math.max(0, width - 1));
  return `${start.isWellFormed() ? start : start.slice(0, -1)}…`;
}

/** Columns that safe text takes on a terminal: 2 for a wide character (UAX #11), 0 for a combining one. */
export function columnsOf(text: string): number {
  return isAscii(text) ? text.length : Bun.stringWidth(text);
}

/**
 * Columns that are kept free for safe text: no terminal shows a character wider than 2, and terminals disagree about which
 * ones are. A line that may be too long on one of them would go on at the left edge, where only our own words stand.
 */
export function roomFor(text: string): number {
  if (isAscii(text)) return text.length;
  let room = 0;
  for (const c of text) room += isAscii(c) ? 1 : 2;
  return room;
}

function isAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

/** Safe text in pieces that take at most `width` columns each, never inside a character; at least one piece. */
export function pieces(text: string, width: number): string[] {
  if (roomFor(text) <= width) return [text];
  const out: string[] = [];
  let piece = "";
  let room = 0;
  for (const c of text) {
    const more = isAscii(c) ? 1 : 2;
    if (piece !== "" && room + more > width) {
      out.push(piece);
      piece = "";
      room = 0;
    }
    piece += c;
    room += more;
  }
  return [...out, piece];
}

/** Safe text padded with spaces to `width` columns. */
export function padColumns(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - columnsOf(text)));
}

/**
 * Columns aligned with two spaces between; the widest column shrinks until the table fits the terminal. Cells are made
 * safe here.
 */
export function table(
  terminal: Terminal,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const cells = [header, ...rows].map((row) => row.map(safe));
  const widths = header.map((_, i) => Math.max(...cells.map((row) => columnsOf(row[i] ?? ""))));
  const room = terminal.width - 2 * (widths.length - 1);
  while (widths.reduce((a, b) => a + b, 0) > room) {
    const widest = widths.indexOf(Math.max(...widths));
    if ((widths[widest] ?? 0) <= 8) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return cells
    .map((row, n) => {
      const line = row
        .map((cell, i) => padColumns(clipColumns(cell, widths[i] ?? 0), widths[i] ?? 0))
        .join("  ")
        .trimEnd();
      return n === 0 ? paint(terminal, "dim", line) : line;
    })
    .join("\n");
}

/** Safe text cut to `width` columns with an ellipsis, never inside a character. */
export function clipColumns(text: string, width: number): string {
  if (columnsOf(text) <= width) return text;
  return `${width < 2 ? "" : (pieces(text, width - 1)[0] ?? "")}…`;
}

/**
 * Safe text broken at spaces into lines of at most `width` columns; a word that is longer than a line is broken too. Every
 * line but the first begins with `indent`, for which the first leaves room: no text can put something of its own where a
 * line of ours begins. With `whole` long words stay whole, for what is meant to be copied.
 */
export function wrap(text: string, width: number, indent: string, whole = false): string[] {
  const room = Math.max(8, width - roomFor(indent));
  const out: string[] = [];
  let line = "";
  const words = text.split(" ").flatMap((word) => (whole ? [word] : pieces(word, room)));
  for (const word of words) {
    if (line !== "" && roomFor(line) + 1 + roomFor(word) > room) {
      out.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...out, line].map((one, i) => (i === 0 ? one : indent + one));
}

/**
 * Safe text in lines as {@link wrap} makes them, for a terminal; anything else gets it as it is. Long words and commands
 * (`Type as root: …; then: …`) stay whole, so that copying one never takes half of it.
 */
export function fit(terminal: Terminal, text: string, indent: string): string[] {
  if (!terminal.interactive) return [text];
  const glued = text.replace(
    /(?<=: )(?:sudo|aegis|systemctl|journalctl|ls|rm|chmod|chown|df|mkdir|unset|visudo|adduser) (?:'[^']*'|[^;,'])*/g,
    (command) => command.replaceAll(" ", GLUE),
  );
  return wrap(glued, terminal.width, indent, true).map((line) => line.replaceAll(GLUE, " "));
}

/** Stands for a space that is no place to break at. Safe text has none. */
const GLUE = "\0";

/** `1 package`, `2 packages`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** Bytes for people, in powers of 1000 as apt prints them: `1.2 MB`. */
export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
