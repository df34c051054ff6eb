import type { Env } from "./paths.ts";
import { clip, type Terminal, terminalOf } from "./terminal.ts";

export interface ProgressLine {
  /** Standard error's. */
  terminal: Terminal;
  /** Draws the line anew. `text` must be safe; it is cut to one line. */
  draw(text: string): void;
  /** Takes the line away, so that something else can be written. */
  wipe(): void;
}

/** A line on standard error that is drawn again and again. For terminals only: look at `terminal.interactive` first. */
export function progressLine(env: Env): ProgressLine {
  const terminal = terminalOf(process.stderr, env);
  let drawn = false;
  return {
    terminal,
    draw(text) {
      process.stderr.write(`\r\u001b[K${clip(text, terminal.width - 1)}`);
      drawn = true;
    },
    wipe() {
      if (drawn) process.stderr.write("\r\u001b[K");
      drawn = false;
    },
  };
}
