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
    // Looked at only by what renders: opening `process.stdout` takes Bun as long as the rest of a short command.
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
 * Writes a result to standard output, all of it before it returns, so that exiting loses nothing. A reader that went
 * away is no error: whoever typed `| head` has what they wanted, and the exit status still tells how the command ended.
 * @throws AegisError `io` when it can't be written for another reason, e.g. a full disk
 */
export function printResult(text: string): void {
  try {
    writeAll(1, text);
  } catch (error) {
    if (errnoOf(error) === "EPIPE") return;
    throw new AegisError("io", `can't write the result: ${messageOf(error)}`, "Check where the output goes.");
  }
}

/** Writes to standard error what may be lost: nobody can be told when that fails. */
export function printNote(text: string): void {
  try {
    writeAll(2, text);
  } catch {
    // There is nowhere left to say so.
  }
}

/** Writes all of it before it returns, also where the reader is slow and the descriptor doesn't block. */
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
