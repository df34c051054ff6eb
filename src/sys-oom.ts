import { readFileSync, writeFileSync } from "node:fs";

/*
 * Whom the kernel ends first when memory runs out, by proc_pid_oom_score_adj(5). Raising the score needs no capability, nor does
 * going back to where it was.
 */

const SCORE = "/proc/self/oom_score_adj";
/** Half of all memory on top of what the process takes. */
const EXPENDABLE = 500;

/**
 * Makes this process one that the kernel ends before others, until the function that it returns is called. Children inherit it,
 * so call that before any is started that must last. Where /proc does not let us, nothing changes.
 */
export function expendable(): () => void {
  const before = read();
  if (before === null || Number(before) >= EXPENDABLE) return () => {};
  write(String(EXPENDABLE));
  return () => write(before);
}

function read(): string | null {
  try {
    return readFileSync(SCORE, "utf8").trim();
  } catch {
    return null;
  }
}

function write(score: string): void {
  try {
    writeFileSync(SCORE, score);
  } catch {
    // Only a matter of who is first.
  }
}
