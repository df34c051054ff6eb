import { writeSync } from "node:fs";
import type { Json } from "./canonical.ts";
import type { Io } from "./command.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { terminalOf } from "./terminal.ts";

const MAX_STDIN = 4 * 1024 * 1024;

/** The Io of a real process. */
export function processIo(json: boolean): Io {
  return {
    env: process.env,
    json,
    terminal: terminalOf(process.stdout, process.env),
    readStdin,
    result(document: Json | object, text: string) {
      writeOut(
        1,
        json ? `${JSON.stringify(document)}\n` : text.endsWith("\n") || text === "" ? text : `${text}\n`,
      );
    },
    note(line: string) {
      writeOut(2, `${line}\n`);
    },
  };
}

/**
 * Writes everything before it returns, so that exiting loses nothing. A reader that went away is no error: whoever
 * typed `| head` has what they wanted, and the exit status still tells how the command ended.
 */
export function writeOut(fd: 1 | 2, text: string): void {
  const data = Buffer.from(text);
  let done = 0;
  while (done < data.length) {
    try {
      done += writeSync(fd, data, done);
    } catch (error) {
      if (errnoOf(error) !== "EAGAIN") return;
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
