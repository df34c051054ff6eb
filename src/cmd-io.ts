import { writeSync } from "node:fs";
import type { Json } from "./canonical.ts";
import type { Io } from "./command.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import type { Env } from "./paths.ts";
import { clipColumns, jsonLine, type Terminal, terminalOf } from "./terminal.ts";

const MAX_STDIN = 4 * 1024 * 1024;

/** The Io of a real process. */
export function processIo(json: boolean): Io {
  return {
    env: process.env,
    json,
    // A getter, since only rendering needs it: opening `process.stdout` takes Bun as long as the rest of a short command.
    get terminal() {
      return terminalOf(process.stdout, process.env);
    },
    readStdin,
    result(document: Json | object, text: string) {
      printResult(json ? `${jsonLine(document)}\n` : text.endsWith("\n") || text === "" ? text : `${text}\n`);
    },
    note(line: string) {
      printNote(`${line}\n`);
    },
  };
}

/**
 * Writes a result to stdout completely before returning, so that exiting loses nothing. A closed pipe is no error, as with
 * `| head`; the exit status still says how the command ended.
 * @throws AegisError `io` if writing fails for another reason, for example a full disk
 */
export function printResult(text: string): void {
  try {
    writeAll(1, text);
  } catch (error) {
    if (errnoOf(error) === "EPIPE") return;
    throw new AegisError(
      "io",
      `can't write the result: ${messageOf(error)}`,
      "Check the output's destination.",
    );
  }
}

/** Writes to stderr. A failure is ignored, since there is no way to report it. */
export function printNote(text: string): void {
  try {
    writeAll(2, text);
  } catch {
    // Nowhere left to report it.
  }
}

/** Writes everything before returning, even to a non-blocking descriptor with a slow reader. */
export function writeAll(fd: number, text: string): void {
  const data = new TextEncoder().encode(text);
  let done = 0;
  while (done < data.length) {
    try {
      done += writeSync(fd, data, done);
    } catch (error) {
      if (errnoOf(error) !== "EAGAIN") throw error;
      Bun.sleepSync(2);
    }
  }
}

async function readStdin(): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of Bun.stdin.stream()) {
    total += chunk.length;
    if (total > MAX_STDIN)
      throw new AegisError("invalid_document", `standard input is larger than ${MAX_STDIN} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

export interface ProgressLine {
  /** The terminal on stderr; `interactive` if a line can be redrawn. */
  terminal: Terminal;
  /** Redraws the line. `text` must be safe; it is cut to one line. */
  draw(text: string): void;
  /** Erases the line, so that other text can be written. */
  wipe(): void;
}

/**
 * A line on stderr that is redrawn. For terminals only: check `terminal.interactive` first, which is also false for a
 * terminal that can't erase a line (TERM=dumb).
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
