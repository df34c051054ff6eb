import { describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import { loadDriver, loadEcosystem } from "../src/eco-load.ts";
import { TABLE } from "../src/eco-table.ts";
import { evaluatorFiles } from "../src/policy-hash.ts";

describe("what is not in the table", () => {
  test("an ecosystem of a later version", () =>
    expect(loadEcosystem("cargo")).rejects.toMatchObject({ code: "not_built" }));
  test("a word that names none", () =>
    expect(loadEcosystem("toString")).rejects.toMatchObject({ code: "usage" }));
  test("a driver where plans are only made", () =>
    expect(loadDriver("npm")).rejects.toMatchObject({ code: "not_built" }));
});

for (const [tool, { grammar, load }] of Object.entries(TABLE)) {
  test(`${tool}: the grammar that policy judges with is the one that plans`, async () => {
    const ecosystem = await load();
    expect<string>(ecosystem.tool).toBe(tool);
    expect(ecosystem).toMatchObject(grammar);
  });
}

test("of all that policy is made of, only the table imports lazily", () => {
  const sources = [...evaluatorFiles(resolve(import.meta.dir, ".."))].filter(([name]) => !name.includes("/"));
  const lazy = sources.filter(([, text]) => /\bimport\s*\(\s*["']/.test(text)).map(([name]) => name);
  expect(lazy).toEqual(["eco-table.ts"]);
});
