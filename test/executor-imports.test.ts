import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { sourceClosure } from "../src/policy-hash.ts";

/*
 * What runs as root is what a reader has to trust: the runner's closure of imports, types and lazy imports included.
 */

const SRC = resolve(import.meta.dir, "../src");

/** The files that read what a model writes, or talk to one. */
const MODEL_SIDE = /^(?:review(?:-reply|-json|-model|-service|-daemon|\.ts$)|wire-reviewer)/;

for (const entry of ["exec-runner.ts", "exec.ts", "front.ts"]) {
  test(`${entry} loads nothing that reads a model's reply`, () => {
    const closure = [...sourceClosure(join(SRC, entry)).keys()];
    expect(closure).toContain(entry);
    expect(closure.filter((name) => MODEL_SIDE.test(name))).toEqual([]);
  });
}

test("the pattern matches existing files", () => {
  const closure = [...sourceClosure(join(SRC, "review.ts")).keys()].filter((name) => MODEL_SIDE.test(name));
  expect(closure.sort()).toEqual([
    "review-json.ts",
    "review-model.ts",
    "review-reply-claims.ts",
    "review-reply-text.ts",
    "review-reply.ts",
    "review.ts",
    "wire-reviewer.ts",
  ]);
});
