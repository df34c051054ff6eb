/** How to format text for an output stream. */
export interface Terminal {
  /** Attached to a terminal. */
  interactive: boolean;
  colour: boolean;
  /** Columns; 80 where unknown. */
  width: number;
  /** Rows; absent where unknown. */
  height?: number;
}

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";
const SGR: Record<Style, string> = { bold: "1", dim: "2", red: "31", green: "32", yellow: "33", cyan: "36" };

/** Prefix of continuation lines of untrusted text, so that it never starts at the left edge. */
export const GUTTER = "│ ";

/** Layout assumes at least this many columns. */
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
    // A terminal that doesn't know its size reports 0.
    ...(interactive && stream.rows ? { height: stream.rows } : {}),
  };
}

/** `text` in a style, or unchanged without colour. `text` must already be {@link safe}. */
export function paint(terminal: Terminal, style: Style, text: string): string {
  return terminal.colour ? `\u001b[${SGR[style]}m${text}\u001b[0m` : text;
}

/**
 * Characters that untrusted text must not put on a screen: Unicode's C (control, format, surrogate, private,
 * unassigned), Zl and Zp; every space but U+0020 and invisible look-alikes (fillers, the empty braille pattern), since
 * text spaced with them does not wrap and can draw pictures; and stacked combining marks, which overlap the lines
 * above.
 */
const UNSAFE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|[^\P{Zs} ]|(?<=\p{M}\p{M})\p{M}/gu;

/** Untrusted text made safe to print: every {@link UNSAFE} character becomes an escape. */
export function safe(text: string): string {
  return text.toWellFormed().replace(UNSAFE, (c) => {
    const code = c.codePointAt(0) ?? 0;
    if (c === "\n") return "\\n";
    if (c === "\t") return "\\t";
    if (c === "\r") return "\\r";
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** Untrusted text made safe and cut to `most` characters; if cut, it states the full length. */
export function safeStart(text: string, most: number): string {
  const shown = safe(text.slice(0, most));
  if (shown.length <= most && text.length <= most) return shown;
  return `${shown.slice(0, most).toWellFormed()} … (${plural(text.length, "character")}; --json has all)`;
}

/** Like {@link safe}, but keeps line feeds and tabs. */
export function safeLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.split("\t").map(safe).join("\t"))
    .join("\n");
}

/**
 * One-line JSON that is safe to print: {@link UNSAFE} characters become JSON escapes, so a parser reads the same value.
 * Documents hold untrusted text and may be printed to a terminal.
 */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, (c) =>
    Array.from({ length: c.length }, (_, i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/**
 * An argv as words that a shell would read back unchanged; words with unsafe characters in bash's and zsh's own quotes, `$'\\x1b'`. A
 * tilde stays unquoted only where a shell doesn't expand it.
 */
export function showArgv(argv: readonly string[]): string {
  return argv.map(quoteWord).join(" ");
}

/** One word of {@link showArgv}, quoted if necessary. */
export function quoteWord(word: string): string {
  if (/^(?:[A-Za-z0-9_@%+=:,./-]|(?<=[^=:])~)+$/.test(word)) return word;
  if (safe(word) === word) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = word.toWellFormed().replace(/['\\]/g, "\\$&");
  return `$'${escaped.replace(UNSAFE, (c) => shellEscape(c.codePointAt(0) ?? 0))}'`;
}

function shellEscape(code: number): string {
  const hex = (digits: number) => code.toString(16).padStart(digits, "0");
  if (code < 0x80) return `\\x${hex(2)}`;
  return code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}

/** `Command argv`: wrapped and shortened for a terminal, else complete on one line. */
export function argvLines(argv: readonly string[], terminal: Terminal): string[] {
  const indent = GUTTER.padStart(12);
  const text = terminal.interactive
    ? wrap(showSomeArgv(argv, terminal.width - indent.length, 6), terminal.width, indent)
    : [showArgv(argv)];
  return text.map((line, i) => (i === 0 ? `Command     ${line}` : line));
}

/** As much of an argv as fits into `lines` lines, then the number of words left out. A very long word is cut. */
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

/** `text` cut to `width` UTF-16 units with an ellipsis, never splitting a surrogate pair. */
export function clip(text: string, width: number): string {
  if (text.length <= width) return text;
  const start = text.slice(0, Math.max(0, width - 1));
  return `${start.isWellFormed() ? start : start.slice(0, -1)}…`;
}

/** Columns of safe text on a terminal: 2 for a wide character (UAX #11), 0 for a combining one. */
export function columnsOf(text: string): number {
  return isAscii(text) ? text.length : Bun.stringWidth(text);
}

/**
 * Most columns safe text can take on any terminal. Terminals disagree about which characters are wide, but none is
 * wider than 2. An underestimated line would wrap to the left edge, which is reserved for our own words.
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

/** Safe text cut into pieces of at most `width` columns, never splitting a character; at least one piece. */
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
 * A table with two spaces between columns; the widest column shrinks until it fits the terminal. Cells are made safe
 * here.
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

/** Safe text cut to `width` columns with an ellipsis, never splitting a character. */
export function clipColumns(text: string, width: number): string {
  if (columnsOf(text) <= width) return text;
  return `${width < 2 ? "" : (pieces(text, width - 1)[0] ?? "")}…`;
}

/**
 * Safe text wrapped at spaces into lines of at most `width` columns; longer words are broken too. Every line but the
 * first begins with `indent` (the first leaves room for it), so untrusted text can't imitate the start of one of our
 * lines. `keepWords` leaves long words unbroken, for text meant to be copied.
 */
export function wrap(text: string, width: number, indent: string, keepWords = false): string[] {
  const room = Math.max(8, width - roomFor(indent));
  const out: string[] = [];
  let line = "";
  const words = text.split(" ").flatMap((word) => (keepWords ? [word] : pieces(word, room)));
  for (const word of words) {
    if (line !== "" && roomFor(line) + 1 + roomFor(word) > room) {
      out.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...out, line].map((one, i) => (i === 0 ? one : indent + one));
}

/**
 * Safe text wrapped for a terminal, unchanged for anything else. Long words and commands (`Type as root: …; then: …`)
 * are not broken, so that a copied command is complete.
 */
export function fit(terminal: Terminal, text: string, indent: string): string[] {
  if (!terminal.interactive) return [text];
  const glued = text.replace(
    /(?<=: )(?:sudo|aegis|systemctl|journalctl|ls|rm|chmod|chown|df|mkdir|unset|visudo|adduser) (?:'[^']*'|[^;,'])*/g,
    (command) => command.replaceAll(" ", GLUE),
  );
  return wrap(glued, terminal.width, indent, true).map((line) => line.replaceAll(GLUE, " "));
}

/** Stands for a non-breaking space. Safe text never contains it. */
const GLUE = "\0";

/** `1 package`, `2 packages`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** A byte count in powers of 1000, as apt prints it: `1.2 MB`. */
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
