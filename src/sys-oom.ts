import { readFileSync, writeFileSync } from "node:fs";

/*
 * Which process the kernel kills first when memory runs out: proc_pid_oom_score_adj(5). Raising the score and restoring
 * it need no capability.
 */

const SCORE = "/proc/self/oom_score_adj";
/** Counts as if the process used half of all memory in addition. */
const EXPENDABLE = 500;

/**
 * Makes this process a preferred OOM victim until the returned function is called. Children inherit the score, so call
 * that function before starting any that must survive. Does nothing if /proc doesn't permit it.
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
    // Best effort: it only affects who is killed first.
  }
}
