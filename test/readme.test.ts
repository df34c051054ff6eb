import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findCommand } from "../src/cmd.ts";
import { TOPIC_NAMES } from "../src/cmd-help-topics.ts";
import { ROOT } from "./kit.ts";

/*
 * What the README, SECURITY.md and CHANGELOG.md name exists, and the README stays short.
 */

const PAGES = ["README.md", "SECURITY.md", "CHANGELOG.md"];
const text = (name: string) => readFileSync(join(ROOT, name), "utf8");
const README = text("README.md");
const PACKAGE = JSON.parse(text("package.json"));

test("the README has at most 300 lines", () => {
  expect(README.trimEnd().split("\n").length).toBeLessThanOrEqual(300);
});

for (const page of PAGES) {
  describe(page, () => {
    test("no line of prose or code is wider than 120 columns", () => {
      const wide = text(page)
        .split("\n")
        .filter((line) => !line.startsWith("|") && line.length > 120);
      expect(wide).toEqual([]);
    });
    test("every source file, test, script and page that it names exists", () => {
      const files = new Set([...readdirSync(join(ROOT, "src")), ...readdirSync(join(ROOT, "test"))]);
      const sources = [...text(page).matchAll(/`(?:src\/|test\/)?([\w.-]+\.ts)`/g)].map(
        ([, name]) => name ?? "",
      );
      const paths = [...text(page).matchAll(/`?\.?\/?(scripts\/[\w-]+)/g)].map(([, path]) => path ?? "");
      const pages = [...text(page).matchAll(/\]\(([\w.-]+)\)/g)].map(([, path]) => path ?? "");
      expect(sources.filter((name) => !files.has(name))).toEqual([]);
      expect([...paths, ...pages].filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    });
  });
}

test("every command that a session of the README types exists", () => {
  const typed = [...README.matchAll(/^ {4}(?:[a-z0-9]*[$#] +)?(?:\.\/)?aegis (.*)$/gm)].map(
    ([, words]) => words ?? "",
  );
  expect(typed.length).toBeGreaterThan(15);
  for (const words of typed) expect(() => findCommand(words.split(" "))).not.toThrow();
});

test("it names every topic of help, and no other", () => {
  const from = README.indexOf("| topics |");
  const rows = README.slice(from).split("\n\n")[0]?.split("\n").slice(2) ?? [];
  const named = rows.flatMap((row) =>
    [...(row.split(" | ")[0] ?? "").matchAll(/`([\w-]+)`/g)].map(([, name]) => `${name}`),
  );
  expect(named.sort()).toEqual([...TOPIC_NAMES].sort());
});

test("the table of dependencies is that of package.json", () => {
  const from = README.indexOf("| dependency |");
  const rows = README.slice(from).split("\n\n")[0]?.split("\n").slice(2) ?? [];
  const named = rows.map((row) => row.split(" | ")[0]?.slice(2));
  expect(named.toSorted()).toEqual(Object.keys(PACKAGE.dependencies).sort());
  const others = README.slice(from).match(/^For development: ((?:.+\n)+)/m)?.[1] ?? "";
  for (const name of Object.keys(PACKAGE.devDependencies)) expect(others).toContain(name);
});

test("the files at the top level are those that the README names", () => {
  const shown = readdirSync(ROOT).filter(
    (name) => !name.startsWith(".") && !["dist", "node_modules"].includes(name),
  );
  const from = README.indexOf("At the top level are");
  const paragraph = README.slice(from).split("\n\n")[0] ?? "";
  const settings = ["README.md", "biome.json", "knip.json", "tsconfig.json"];
  expect(shown.filter((name) => !settings.includes(name) && !paragraph.includes(name))).toEqual([]);
});

test("the changelog has a section for the version of package.json", () => {
  expect(text("CHANGELOG.md")).toContain(`\n## ${PACKAGE.version}`);
});
