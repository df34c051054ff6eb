/** How a stream wants its text. */
export interface Terminal {
  /** Attached to a terminal. */
  interactive: boolean;
  colour: boolean;
  /** Columns; 80 where unknown. */
  width: number;
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";
const SGR: Record<Style, string> = { bold: "1", dim: "2", red: "31", green: "32", yellow: "33", cyan: "36" };

/**
 * The terminal behind a stream. No colour with NO_COLOR (https://no-color.org), TERM=dumb, or a pipe.
 */
export function terminalOf(
  stream: { isTTY?: boolean; columns?: number },
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  const interactive = stream.isTTY === true;
  const plain = (env.NO_COLOR ?? "") !== "" || env.TERM === "dumb" || env.TERM === "";
  return { interactive, colour: interactive && !plain, width: Math.max(40, stream.columns ?? 80) };
}

/** `text` in a style, or as it is where there is no colour. `text` must have been through {@link safe}. */
export function paint(terminal: Terminal, style: Style, text: string): string {
  return terminal.colour ? `\u001b[${SGR[style]}m${text}\u001b[0m` : text;
}

/**
 * Outside text made safe to show: every character of Unicode's C (control, format, surrogate, private, unassigned), Zl
 * and Zp classes is written as an escape. That covers terminal sequences, newlines, bidirectional overrides and
 * zero-width characters.
 */
export function safe(text: string): string {
  return text.toWellFormed().replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => {
    const code = c.codePointAt(0) ?? 0;
    if (c === "\n") return "\\n";
    if (c === "\t") return "\\t";
    if (c === "\r") return "\\r";
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
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
  return JSON.stringify(value).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) =>
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
  return argv
    .map((word) =>
      /^(?:[A-Za-z0-9_@%+=:,./-]|(?<=[^=:])~)+$/.test(word)
        ? word
        : `'${safe(word).replaceAll("'", "'\\''")}'`,
    )
    .join(" ");
}

/** `text` cut to `width` columns with an ellipsis, never inside a character. */
export function clip(text: string, width: number): string {
  if (text.length <= width) return text;
  const start = text.slice(0, Math.max(0, width - 1));
  return `${start.isWellFormed() ? start : start.slice(0, -1)}…`;
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
  const widths = header.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)));
  const room = terminal.width - 2 * (widths.length - 1);
  while (widths.reduce((a, b) => a + b, 0) > room) {
    const widest = widths.indexOf(Math.max(...widths));
    if ((widths[widest] ?? 0) <= 8) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return cells
    .map((row, n) => {
      const line = row
        .map((cell, i) => clip(cell, widths[i] ?? 0).padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd();
      return n === 0 ? paint(terminal, "dim", line) : line;
    })
    .join("\n");
}

/**
 * `text` broken at spaces into lines of at most `width` columns; a longer word stays whole, so it can be copied. Every line
 * but the first begins with `indent`, for which the first leaves room: no text can put something of its own where a line
 * of ours begins.
 */
export function wrap(text: string, width: number, indent: string): string[] {
  const out: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      out.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...out, line].map((one, i) => (i === 0 ? one : indent + one));
}

/**
 * Safe text in lines as {@link wrap} makes them, for a terminal; anything else gets it as it is. Commands (`Type as root: …;
 * then: …`) stay whole, so that copying one never takes half of it.
 */
export function fit(terminal: Terminal, text: string, indent: string): string[] {
  if (!terminal.interactive) return [text];
  const glued = text.replace(
    /(?<=: )(?:sudo|aegis|systemctl|journalctl|ls|rm|chmod|chown|df|mkdir|unset|visudo|adduser) (?:'[^']*'|[^;,'])*/g,
    (command) => command.replaceAll(" ", GLUE),
  );
  return wrap(glued, terminal.width, indent).map((line) => line.replaceAll(GLUE, " "));
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
