import { openSync, read, readSync, writeSync } from "node:fs";
import { isatty, ReadStream, WriteStream } from "node:tty";
import { flushInput } from "./sys-ffi.ts";

/** The user's terminal, for questions and answers. */
export interface Screen {
  /** File descriptor for output. */
  output: number;
  /** Columns and rows; undefined or 0 if unknown. */
  columns: number | undefined;
  rows: number | undefined;
  /**
   * Asks a question and reads one line, trimmed; null if the input ends without a newline. Input typed before the
   * question is discarded: it can't be an answer.
   */
  ask(question: string): string | null;
}

/**
 * The controlling terminal (tty(4), /dev/tty), independent of redirections. A session without one (`su -c`) may still
 * have a terminal on standard input and error. Null if there is none. It stays open.
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
  // The stream closes its descriptor, so give it one of its own.
  const stream = new WriteStream(openSync("/dev/tty", "r+"));
  const { columns, rows } = stream;
  stream.destroy();
  return { columns, rows };
}

/** Bytes a terminal in raw mode sends for keys (ASCII; termios(3), VINTR, VEOF, VERASE, VKILL). */
const KEYS = { interrupt: 3, end: 4, backspace: 8, newline: 10, enter: 13, clear: 21, erase: 127 } as const;
/** Longest passphrase accepted. */
const MAX_BYTES = 1024;
const SIGNALS = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"] as const;

/**
 * Like {@link Screen.ask}, without echo or trimming. Control-C ends the process as SIGINT would. The terminal is always
 * restored. Also null if the answer is not UTF-8.
 */
export async function askHidden(question: string): Promise<string | null> {
  const opened = openTerminal();
  if (opened === null) return null;
  const { input, output, isOwn } = opened;
  // Used for raw mode only: reading through the stream would go on after the answer and keep the process alive.
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
    // The terminal is gone.
  } finally {
    restore();
    // Also closes the descriptor. Standard input stays open for the next question.
    if (isOwn) terminal.destroy();
  }
  if (line === "interrupted") process.kill(process.pid, "SIGINT");
  return Array.isArray(line) ? utf8(line) : null;
}

/**
 * One line, read byte by byte so that typed-ahead input stays for the next question. An overlong line is read to its
 * end all the same: otherwise the rest would be echoed by the next reader of the terminal.
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
        // Erase a whole UTF-8 character: pop continuation bytes (10xxxxxx) up to its first byte.
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
  /** Opened here, so closed here. */
  isOwn: boolean;
}

/** Falls back to the standard descriptors: after `su` the terminal device belongs to another user and can't be opened. */
function openTerminal(): OpenTerminal | null {
  try {
    const fd = openSync("/dev/tty", "r+");
    return { input: fd, output: fd, isOwn: true };
  } catch {
    return isatty(0) && isatty(2) ? { input: 0, output: 2, isOwn: false } : null;
  }
}
