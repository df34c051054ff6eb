import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runAptHook } from "../src/apt-hook.ts";
import { TOOLS } from "../src/doc-plan.ts";
import { assertOperation, loadDriver, loadEcosystem, loadHook } from "../src/eco-load.ts";
import { ECOSYSTEM_NAMES } from "../src/eco-names.ts";
import { TABLE } from "../src/eco-table.ts";
import { evaluatorFiles } from "../src/policy-hash.ts";

describe("what is not in the table", () => {
  test("an ecosystem of a later version", () =>
    expect(loadEcosystem("vscode", {})).rejects.toMatchObject({ code: "not_built" }));
  test("a word that names none", () =>
    expect(loadEcosystem("toString")).rejects.toMatchObject({ code: "usage" }));
  test("a driver where plans are only made", async () => {
    const planned = { ...(await loadEcosystem("npm")), driver: null };
    const load = () => Promise.resolve(planned);
    expect(loadDriver({ tool: "npm", argv: [] }, { npm: { grammar: planned, load } })).rejects.toMatchObject({
      code: "not_built",
    });
  });
});

test("a rollback of what can't be undone says so", async () => {
  const services = await loadEcosystem("services");
  expect(() => assertOperation(services, "rollback", 1)).toThrow(
    expect.objectContaining({ code: "usage", hint: expect.stringContaining("Aegis keeps nothing") }),
  );
});

describe("what a tool calls back", () => {
  for (const name of ["npm", "cargo", "toString", ""]) {
    test(`not ${JSON.stringify(name)}`, () =>
      expect(loadHook(name)).rejects.toMatchObject({ code: "usage" }));
  }
  test("apt's hook", async () => expect(await loadHook("apt")).toBe(runAptHook));
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

/**
 * Files outside the ecosystems that name one, and what makes sure that a new ecosystem is not forgotten there. A file that
 * asks only for apt's own (repositories, dpkg's packages) treats every other ecosystem alike and needs no edit.
 */
const NAMED: Readonly<Record<string, string>> = {
  "doc-evidence": "apt's own; every other rollback is of a managed root",
  "doc-plan": "the list of tools that all types come from",
  "doctor-status": "the name of a check, of Aegis's own services",
  "doctor-units": "the name of a check, of Aegis's own services",
  "eco-argv": "exec-preflight.test.ts: what an ecosystem signs is on the list",
  "host-install": "the name of a step, about Aegis's own services",
  "eco-names": "the list of names on the command line",
  "eco-planning-argv": "planning throws for an argv that is not on the list",
  "plan-signals": "of containers, whose references are called tags",
  "policy-facts": "apt's own, and units; the type ArtifactTool asks for the settings of all others",
  "policy-images": "images' own; the type of [container] asks for it",
  "policy-packages": "apt's own packages",
  "policy-rules-content": "packages of NuGet and VS Code are signed, not attested",
  "policy-rules-operation": "apt's own; the rules of all others are made from the list of tools",
  "wrap-apt": "apt's own",
  "wrap-table": "Record<WrapperName, …>",
  "cmd-help-policy-keys": "its types: every table of the policy file",
  "cmd-installed": "apt's packages are dpkg's",
  "cmd-plan-outlook": "a heading, of services that run old code",
  "cmd-plan-origins": "apt's own",
  "cmd-plan-view": "apt's own",
  "cmd-remedy": "its types: every other ecosystem has a row",
  osv: "apt's own",
  "plan-attention": "apt's own",
  "plan-groups": "apt's own",
  "report-candidates": "apt's own",
  "review-changes": "apt's own",
  "review-evidence": "apt's own",
};

test("no other file names an ecosystem", () => {
  const words = [...new Set([...TOOLS, ...Object.keys(ECOSYSTEM_NAMES)])];
  const named = new RegExp(`"(?:${words.join("|")})"`);
  const src = join(import.meta.dir, "../src");
  const files = readdirSync(src)
    .filter((name) => name.endsWith(".ts") && named.test(readFileSync(join(src, name), "utf8")))
    .map((name) => name.slice(0, -".ts".length));
  // The room of the tool `container` is named after what it deals with.
  const rooms = [...TOOLS, "image"];
  const own = (name: string) => rooms.some((room) => name === room || name.startsWith(`${room}-`));
  expect(files.filter((name) => !own(name)).sort()).toEqual(Object.keys(NAMED).sort());
});

test("the executor's files name no tool, in their comments neither", () => {
  const src = join(import.meta.dir, "../src");
  const word = /\b(?:apt|dpkg|npm|pip|cargo|nuget|vscode|podman|docker)\b/i;
  const files = readdirSync(src).filter((name) => /^exec[-.]/.test(name));
  expect(files.length).toBeGreaterThan(20);
  expect(files.filter((name) => word.test(readFileSync(join(src, name), "utf8")))).toEqual([]);
});
