import { closeSync, openSync, readSync, writeSync } from "node:fs";

/**
 * Asks on the process's own terminal (tty(4), /dev/tty), wherever standard input and output lead, and waits for one line.
 * Null where there is no terminal or the answer has no end.
 */
export function askTerminal(question: string): string | null {
  let fd: number;
  try {
    fd = openSync("/dev/tty", "r+");
  } catch {
    return null;
  }
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
