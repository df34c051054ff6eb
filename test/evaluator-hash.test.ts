import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { evaluate } from "../src/evaluate.ts";
import { evaluatorHash, sourceClosure, sourcesHash } from "../src/evaluator-hash.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { update } from "./policy-plans.ts";

const SRC = resolve(import.meta.dir, "../src");

describe("what the digest covers", () => {
  const covered = sourceClosure(join(SRC, "evaluate.ts"));
  for (const name of [
    "evaluate.ts",
    "rules.ts",
    "policy-facts.ts",
    "package-names.ts",
    "policy-config.ts",
    "target-check.ts",
    "apt-target.ts",
    "npm-targets.ts",
    "script-scan.ts",
    "review-signature.ts",
    "ed25519.ts",
    "evaluator-hash.ts",
  ]) {
    test(name, () => expect(covered.has(name)).toBe(true));
    test(`${name}: one byte more, another digest`, () => {
      const changed = new Map(covered).set(name, `${covered.get(name)} `);
      expect(sourcesHash(changed)).not.toBe(sourcesHash(covered));
    });
  }
  for (const name of ["cli.ts", "keys.ts", "preflight.ts"]) {
    test(`not ${name}`, () => expect(covered.has(name)).toBe(false));
  }
});

test("imports are followed once, whatever their form, in an order that does not matter", () => {
  const files: Record<string, string> = {
    "/s/evaluate.ts":
      'import { a } from "./a.ts";\nexport * from "./b.ts";\nimport type { C } from \'./c.ts\';',
    "/s/a.ts": 'import "./d.ts";\nconst x = await import("./e.ts");\nimport { join } from "node:path";',
    "/s/b.ts": 'import "./evaluate.ts";',
    "/s/c.ts": "",
    "/s/d.ts": "",
    "/s/e.ts": "",
  };
  const closure = sourceClosure("/s/evaluate.ts", (path) => files[path] ?? "missing");
  expect([...closure.keys()].sort()).toEqual(["a.ts", "b.ts", "c.ts", "d.ts", "e.ts", "evaluate.ts"]);
  expect(sourcesHash(new Map([...closure].reverse()))).toBe(sourcesHash(closure));
});

test("moving text from one file into another changes the digest", () => {
  const one = new Map([
    ["a.ts", "xy"],
    ["b.ts", "z"],
  ]);
  const other = new Map([
    ["a.ts", "x"],
    ["b.ts", "yz"],
  ]);
  expect(sourcesHash(one)).not.toBe(sourcesHash(other));
});

describe("the digest in a policy result", () => {
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "aegis-evaluator-"));
    cpSync(SRC, join(dir, "src"), { recursive: true });
    cpSync(resolve(SRC, "../package.json"), join(dir, "package.json"));
    for (const name of ["valibot", "json-canonicalize", "tweetnacl"]) {
      const from = resolve(SRC, "../node_modules", name);
      cpSync(from, join(dir, "node_modules", name), { recursive: true });
    }
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  /** The bundled evaluator, built in a process of its own: a macro is worked out once a process. */
  function built(): string {
    const out = join(dir, `out-${Bun.hash(readFileSync(join(dir, "src/rules.ts")))}`);
    const argv = [
      process.execPath,
      "build",
      join(dir, "src/evaluate.ts"),
      "--target=bun",
      `--outfile=${out}`,
    ];
    const { exitCode, stderr } = Bun.spawnSync(argv, { cwd: dir });
    if (exitCode !== 0) throw new Error(stderr.toString());
    return readFileSync(out, "utf8");
  }

  test("is the digest of the sources", () => {
    const config = parsePolicyConfig("", "test");
    const result = evaluate({ plan: update(), planHash: "0".repeat(64), config, configHash: "1".repeat(64) });
    expect(result.evaluator_hash).toBe(evaluatorHash());
  });

  test("is compiled in, and a changed rule changes it", () => {
    const before = sourcesHash(sourceClosure(join(dir, "src/evaluate.ts")));
    expect(built()).toContain(before);
    const rules = join(dir, "src/rules.ts");
    writeFileSync(rules, readFileSync(rules, "utf8").replace('id: "apt-removal"', 'id: "apt-removals"'));
    const after = sourcesHash(sourceClosure(join(dir, "src/evaluate.ts")));
    expect(after).not.toBe(before);
    const text = built();
    expect(text).toContain(after);
    expect(text).not.toContain(before);
  });
});
