import { openSync, read, readSync, writeSync } from "node:fs";
import { isatty, ReadStream, WriteStream } from "node:tty";
import { flushInput } from "./sys-ffi.ts";

/** The terminal that a person reads and answers on. */
export interface Screen {
  /** Its descriptor for output. */
  output: number;
  /** Columns and rows; undefined or 0 where it doesn't know. */
  columns: number | undefined;
  rows: number | undefined;
  /**
   * Puts a question and waits for one line, trimmed. Null where the answer has no end. What was typed before the question was
   * there is no answer to it: it is thrown away.
   */
  ask(question: string): string | null;
}

/**
 * The process's own terminal (tty(4), /dev/tty), wherever standard input and output lead. A session without a terminal of its
 * own (`su -c`) may have one all the same, on standard input and error. Null where there is none. It stays open.
 */
export function openScreen(): Screen | null {
  const terminal = openTerminal();
  if (terminal === null) return null;
  const { columns, rows } = sizeOf(terminal);
  return {
    output: terminal.output,
    columns,
    rows,
    ask(question) {
      flushInput(terminal.input);
      writeSync(terminal.output, question);
      const answer = Buffer.alloc(1024);
      const n = readSync(terminal.input, answer, 0, answer.length, null);
      const line = answer.toString("utf8", 0, n);
      return line.endsWith("\n") ? line.trim() : null;
    },
  };
}

function sizeOf({ isOwn }: OpenTerminal): { columns: number | undefined; rows: number | undefined } {
  if (!isOwn) return { columns: process.stderr.columns, rows: process.stderr.rows };
  // Measured by a descriptor that may be closed with the stream.
  const stream = new WriteStream(openSync("/dev/tty", "r+"));
  const { columns, rows } = stream;
  stream.destroy();
  return { columns, rows };
}

/** Bytes that a terminal in raw mode sends for keys (ASCII; termios(3), VINTR, VEOF, VERASE, VKILL). */
const KEYS = { interrupt: 3, end: 4, backspace: 8, newline: 10, enter: 13, clear: 21, erase: 127 } as const;
/** Longer is no passphrase. */
const MAX_BYTES = 1024;
const SIGNALS = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"] as const;

/**
 * Like {@link Screen.ask}, with nothing of the answer shown and nothing of it trimmed. Control-C ends the process as
 * SIGINT would. However it ends, the terminal is as before. Null also where the answer is not UTF-8.
 */
export async function askHidden(question: string): Promise<string | null> {
  const opened = openTerminal();
  if (opened === null) return null;
  const { input, output, isOwn } = opened;
  // Never reads: its own reading would outlive the answer and keep the process from ending.
  const terminal = new ReadStream(input);
  const restore = () => {
    for (const [signal, stop] of stops) process.off(signal, stop);
    terminal.setRawMode(false);
  };
  const stops = SIGNALS.map((signal) => {
    const stop = () => {
      restore();
      process.kill(process.pid, signal);
    };
    return [signal, stop] as const;
  });
  for (const [signal, stop] of stops) process.on(signal, stop);
  let line: number[] | "interrupted" | null = null;
  try {
    terminal.setRawMode(true);
    writeSync(output, question);
    line = await readLine(input);
    writeSync(output, "\n");
  } catch {
    // The terminal has gone away.
  } finally {
    restore();
    // Closes what is below. Standard input is asked once more for the next question.
    if (isOwn) terminal.destroy();
  }
  if (line === "interrupted") process.kill(process.pid, "SIGINT");
  return Array.isArray(line) ? utf8(line) : null;
}

/**
 * One line's bytes. Byte by byte, so that what was typed ahead stays for the next question. One that is too long is read to
 * its end all the same: the rest would be shown by whatever reads the terminal next.
 */
async function readLine(fd: number): Promise<number[] | "interrupted" | null> {
  const line: number[] = [];
  for (;;) {
    const byte = await readByte(fd);
    switch (byte) {
      case KEYS.enter:
      case KEYS.newline:
        return line.length <= MAX_BYTES ? line : null;
      case KEYS.interrupt:
        return "interrupted";
      case KEYS.end:
      case null:
        return null;
      case KEYS.clear:
        line.length = 0;
        break;
      case KEYS.erase:
      case KEYS.backspace:
        // A character of UTF-8 ends with its first byte: the others are 10xxxxxx.
        while (((line.pop() ?? 0) & 0xc0) === 0x80) {}
        break;
      default:
        if (line.length <= MAX_BYTES) line.push(byte);
    }
  }
}

function readByte(fd: number): Promise<number | null> {
  const byte = Buffer.alloc(1);
  return new Promise((resolve, reject) => {
    read(fd, byte, 0, 1, null, (error, n) => {
      if (error === null) resolve(n === 0 ? null : (byte[0] ?? null));
      else reject(error);
    });
  });
}

function utf8(bytes: readonly number[]): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return null;
  }
}

interface OpenTerminal {
  input: number;
  output: number;
  /** Opened here, and to be closed here. */
  isOwn: boolean;
}

/** By its descriptors where it has no name: after `su` its device belongs to someone else and can't be opened again. */
function openTerminal(): OpenTerminal | null {
  try {
    const fd = openSync("/dev/tty", "r+");
    return { input: fd, output: fd, isOwn: true };
  } catch {
    return isatty(0) && isatty(2) ? { input: 0, output: 2, isOwn: false } : null;
  }
}
