import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Outcome } from "../scripts/soak-report.ts";
import { buildWhereNeeded } from "./kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

const SCRIPT = join(import.meta.dir, "../scripts/soak");

async function soak(...words: string[]) {
  const child = Bun.spawn([SCRIPT, ...words], { stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout, stderr };
}

test.each(["--only nothing", "--only", "--unknown", "--applies none", "--applies 0", "--seed x", "load"])(
  "soak %s is a usage error",
  async (words) => {
    const { status, stdout } = await soak(...words.split(" "));
    expect([status, stdout]).toEqual([2, ""]);
  },
);

describeOnThrowaway("load and faults", () => {
  test("scripts/soak --quick: nothing is lost, nothing runs twice, the log verifies", async () => {
    buildWhereNeeded();
    const { status, stdout, stderr } = await soak("--quick", "--applies", "8", "--json");
    if (status !== 0) process.stderr.write(`${stderr}\n`);
    const { steps, faults }: Outcome = JSON.parse(stdout);
    const wrong = steps.flatMap(({ account, problems = [] }) => [
      ...problems,
      ...(account?.lost ?? []),
      ...(account?.twice ?? []),
    ]);
    expect({ status, wrong, faults }).toEqual({ status: 0, wrong: [], faults: [] });
    const step = (what: string) => steps.find((it) => it.what === what);
    expect(Object.keys(step("denied")?.answers ?? {})).toEqual(
      expect.arrayContaining([
        "signature_invalid",
        "key_untrusted",
        "not_canonical",
        "invalid_document",
        "expired",
      ]),
    );
    expect(step("valid, all at once")?.account?.ran).toBe(step("valid, all at once")?.sent);
    expect(step("SIGKILL at random")?.account?.ran).toBeGreaterThan(0);
  }, 300_000);
});
