import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { expendable } from "../src/sys-oom.ts";

const score = (pid: number | "self" = "self") => Number(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8"));

test("a process is a preferred OOM victim until restored; children started later are not", async () => {
  const before = score();
  const needed = expendable();
  expect(score()).toBe(Math.max(before, 500));
  needed();
  expect(score()).toBe(before);
  const child = Bun.spawn(["/bin/sleep", "1000"]);
  try {
    expect(score(child.pid)).toBe(before);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
});
