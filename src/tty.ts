import { closeSync, openSync, read, readSync, writeSync } from "node:fs";
import { ReadStream } from "node:tty";

/**
 * Asks on the process's own terminal (tty(4), /dev/tty), wherever standard input and output lead, and waits for one line.
 * Null where there is no terminal or the answer has no end.
 */
export function askTerminal(question: string): string | null {
  const fd = openTerminal();
  if (fd === null) return null;
  try {
    writeSync(fd, question);
    const answer = Buffer.alloc(1024);
    const n = readSync(fd, answer, 0, answer.length, null);
    const line = answer.toString("utf8", 0, n);
    return line.endsWith("\n") ? line.trim() : null;
  } finally {
    closeSync(fd);
  }
}

/** Bytes that a terminal in raw mode sends for keys (ASCII; termios(3), VINTR, VEOF, VERASE, VKILL). */
const KEYS = { interrupt: 3, end: 4, backspace: 8, newline: 10, enter: 13, clear: 21, erase: 127 } as const;
/** Longer is no passphrase. */
const MAX_BYTES = 1024;
const SIGNALS = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"] as const;

/**
 * Like {@link askTerminal}, with nothing of the answer shown and nothing of it trimmed. Control-C ends the process as
 * SIGINT would. However it ends, the terminal is as before. Null also where the answer is not UTF-8.
 */
export async function askHidden(question: string): Promise<string | null> {
  const fd = openTerminal();
  if (fd === null) return null;
  // Never reads: its own reading would outlive the answer and keep the process from ending.
  const terminal = new ReadStream(fd);
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
    writeSync(fd, question);
    line = await readLine(fd);
    writeSync(fd, "\n");
  } catch {
    // The terminal has gone away.
  } finally {
    restore();
    terminal.destroy();
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

function openTerminal(): number | null {
  try {
    return openSync("/dev/tty", "r+");
  } catch {
    return null;
  }
}
