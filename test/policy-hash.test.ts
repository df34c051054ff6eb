import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { evaluatorFiles, evaluatorHash, sourceClosure, sourcesHash } from "../src/policy-hash.ts";
import { update } from "./policy-plans.ts";

const SRC = resolve(import.meta.dir, "../src");

describe("coverage of the digest", () => {
  const covered = evaluatorFiles(resolve(SRC, ".."));
  for (const name of [
    "policy.ts",
    "policy-rule.ts",
    "policy-rules.ts",
    "policy-rules-apt.ts",
    "policy-rules-content.ts",
    "policy-rules-operation.ts",
    "policy-rules-request.ts",
    "policy-rules-review.ts",
    "policy-facts.ts",
    "policy-packages.ts",
    "policy-config.ts",
    "policy-targets.ts",
    "apt-target.ts",
    "apt-grammar.ts",
    "eco-grammar.ts",
    "eco-table.ts",
    "npm-target.ts",
    "policy-scripts.ts",
    "key-review-signature.ts",
    "key-sign.ts",
    "policy-hash.ts",
    "bun.lock",
    "sys-toml.ts",
    "node_modules/smol-toml/dist/parse.js",
    "node_modules/valibot/package.json",
    "node_modules/valibot/dist/index.mjs",
    "node_modules/json-canonicalize/package.json",
    "node_modules/tweetnacl/nacl-fast.js",
  ]) {
    test(name, () => expect(covered.has(name)).toBe(true));
    test(`${name}: one more byte, another digest`, () => {
      const changed = new Map(covered).set(name, `${covered.get(name)} `);
      expect(sourcesHash(changed)).not.toBe(sourcesHash(covered));
    });
  }
  for (const name of [
    "cli.ts",
    "key.ts",
    "exec-preflight.ts",
    "doc-result.ts",
    "sys-state.ts",
    "eco-driver.ts",
    "eco.ts",
    "apt.ts",
    "npm.ts",
    "node_modules/ofetch/package.json",
  ]) {
    test(`not ${name}`, () => expect(covered.has(name)).toBe(false));
  }
});

test("imports of any form are followed once; their order does not matter", () => {
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
    for (const name of ["package.json", "bun.lock"]) cpSync(resolve(SRC, "..", name), join(dir, name));
    const libraries = [...evaluatorFiles(resolve(SRC, "..")).keys()].filter((name) =>
      name.startsWith("node_modules/"),
    );
    for (const name of libraries) cpSync(resolve(SRC, "..", name), join(dir, name));
    // What is loaded lazily, and is no part of the digest, is bundled too.
    const modules = resolve(SRC, "../node_modules");
    for (const name of readdirSync(modules).filter((one) => !existsSync(join(dir, "node_modules", one)))) {
      symlinkSync(join(modules, name), join(dir, "node_modules", name));
    }
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  /** The bundled evaluator, built in its own process: a macro runs once a process. Planning, which is loaded lazily, needs libraries that are not here. */
  function built(): string {
    const out = join(dir, `out-${randomUUID()}`);
    const argv = [
      process.execPath,
      "build",
      join(dir, "src/policy.ts"),
      "--target=bun",
      "--packages=external",
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

  const digest = () => sourcesHash(evaluatorFiles(dir));
  const edit = (name: string, from: string, to: string) => {
    const path = join(dir, name);
    const text = readFileSync(path, "utf8");
    expect(text).toContain(from);
    writeFileSync(path, text.replace(from, to));
  };

  const CHANGES: [what: string, file: string, from: string, to: string][] = [
    ["a rule", "src/policy-rules-apt.ts", 'id: "apt-removal"', 'id: "apt-removals"'],
    ["the lockfile", "bun.lock", '"valibot@1.5.0"', '"valibot@1.5.1"'],
    ["an installed library", "node_modules/valibot/package.json", '"1.5.0"', '"1.5.1"'],
  ];
  for (const [what, file, from, to] of CHANGES) {
    test(`is compiled in, and changes with ${what}`, () => {
      const before = digest();
      expect(built()).toContain(before);
      edit(file, from, to);
      const after = digest();
      expect(after).not.toBe(before);
      const text = built();
      expect(text).toContain(after);
      expect(text).not.toContain(before);
    });
  }
});
