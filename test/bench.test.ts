import { expect, test } from "bun:test";
import { join } from "node:path";
import { line } from "../scripts/bench-measure.ts";

const SCRIPT = join(import.meta.dir, "../scripts/bench");

function bench(...words: string[]) {
  const { exitCode, stdout } = Bun.spawnSync([SCRIPT, ...words], { stderr: "ignore" });
  return { exitCode, stdout: stdout.toString() };
}

test.each(["--only nothing", "--only toString", "--only", "--unknown", "startup"])(
  "bench %s is a usage error",
  (words) => {
    expect(bench(...words.split(" "))).toEqual({ exitCode: 2, stdout: "" });
  },
);

test.each([
  { of: "ratio", at_most: 1.4, met: false },
  { of: "ratio", at_most: 1.5, met: true },
  { of: "ours", at_most: 29, met: false },
  { of: "ours", at_most: 30, met: true },
] as const)("30 against 20 with a goal of at most $at_most ($of): $met", ({ of, at_most, met }) => {
  const what = { name: "", unit: "ms", ours: 30, reference: 20, against: "", samples: 1 } as const;
  expect(line({ ...what, goal: { of, at_most } })).toMatchObject({ ratio: 1.5, met });
  expect(line({ ...what, goal: null })).toMatchObject({ ratio: 1.5, met: null });
});

test("bench --json prints one document with medians and ratios", () => {
  const { exitCode, stdout } = bench("--json", "--only", "startup", "--quick");
  expect(exitCode).toBe(0);
  const document = JSON.parse(stdout);
  const [{ ours, reference, ratio }] = document.lines;
  expect(ratio).toBeCloseTo(ours / reference);
  expect(document).toMatchObject({
    quick: true,
    binary_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    lines: [
      {
        name: "start-up: aegis --version",
        unit: "ms",
        ours: expect.any(Number),
        reference: expect.any(Number),
        ratio: expect.any(Number),
        goal: { of: "ratio", at_most: 1.5 },
        met: expect.any(Boolean),
      },
    ],
  });
});
