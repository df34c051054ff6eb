import type { Env } from "./paths.ts";
import { clipColumns, type Terminal, terminalOf } from "./terminal.ts";

export interface ProgressLine {
  /** Standard error's, `interactive` where a line can be drawn again. */
  terminal: Terminal;
  /** Draws the line anew. `text` must be safe; it is cut to one line. */
  draw(text: string): void;
  /** Takes the line away, so that something else can be written. */
  wipe(): void;
}

/**
 * A line on standard error that is drawn again and again. For terminals only: look at `terminal.interactive` first, which is
 * false here also for a terminal that can't take a line back (TERM=dumb).
 */
export function progressLine(env: Env): ProgressLine {
  const found = terminalOf(process.stderr, env);
  const dumb = env.TERM === "dumb" || env.TERM === "";
  const terminal = { ...found, interactive: found.interactive && !dumb };
  let drawn = false;
  return {
    terminal,
    draw(text) {
      process.stderr.write(`\r\u001b[K${clipColumns(text, terminal.width - 1)}`);
      drawn = true;
    },
    wipe() {
      if (drawn) process.stderr.write("\r\u001b[K");
      drawn = false;
    },
  };
}
