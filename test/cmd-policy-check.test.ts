import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "../src/cmd-args.ts";
import { policyCheck } from "../src/cmd-policy-check.ts";
import type { Io } from "../src/command.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { refuses } from "./signing-kit.ts";

const directory = mkdtempSync(join(tmpdir(), "aegis-policy-check-"));
afterAll(() => rmSync(directory, { recursive: true }));

async function check(words: readonly string[], stdin = "", width = 200) {
  const ran = { status: -1, json: {} as Record<string, unknown>, text: "" };
  const io: Io = {
    env: {},
    json: false,
    terminal: { interactive: width < 200, colour: false, width },
    readStdin: async () => stdin,
    result: (json, text) => Object.assign(ran, { json: JSON.parse(JSON.stringify(json)), text }),
    note: () => {},
  };
  ran.status = await policyCheck.run(parseArgs("policy check", policyCheck.args, words).values, io);
  return ran;
}

test("refused: no file, two files, one that isn't there", async () => {
  for (const words of [[], ["a", "b"], [join(directory, "none")], [directory]])
    await refuses(
      () => check(words),
      words.length === 1 && words[0] !== directory
        ? "not_found"
        : words[0] === directory
          ? "invalid_document"
          : "usage",
    );
});

describe("a file with mistakes: exit 2, and each with its place", () => {
  test.each<[string, string, string[]]>([
    [
      "syntax",
      "[apt]\ninstall = allow\n",
      ["2:11: not a value: a text needs quotes, and a list ends with ]"],
    ],
    [
      "an unknown table and an unknown key",
      "[aptt]\n[apt]\n instal = 1\n",
      ["1:2: aptt: unknown key; ", "3:2: apt.instal: unknown key; known keys: allow_removals, "],
    ],
    ["a decision that is none", '[npm]\napply = "yes"\n', ['2:1: npm.apply: "yes" is not one of "allow"']],
    ["no UTF-8", "[apt]\n# \u00ff", [""]],
  ])("%s", async (what, text, expected) => {
    const file = join(directory, "bad.toml");
    writeFileSync(file, what === "no UTF-8" ? Buffer.from(text, "latin1") : text);
    const { status, json, text: shown } = await check([file]);
    expect(status).toBe(2);
    expect(json).toMatchObject({ valid: false, differences: [], policy_config_hash: null });
    expect(
      shown
        .split("\n")
        .slice(1)
        .map((line, n) => line.slice(2, 2 + (expected[n]?.length ?? 0))),
    ).toEqual(expected);
  });
  test("text from the file is escaped", async () => {
    const { text } = await check(["-"], '"a\\u202eb" = 1\n');
    expect(text).not.toContain("\u202e");
  });
});

describe("a file that can be used", () => {
  test("its hash is that of the policy in force, and only what differs is named", async () => {
    const text = '[apt]\ninstall = "allow"\nupdate = "allow"\nsensitive_packages = ["nginx"]\n';
    const file = join(directory, "in-force.toml");
    writeFileSync(file, text);
    const { hash } = loadPolicyConfig({ AEGIS_POLICY_CONFIG: file });
    const { status, json } = await check(["-"], text);
    expect(status).toBe(0);
    expect(json).toEqual({
      file: "standard input",
      valid: true,
      problems: [],
      warnings: [],
      differences: [
        { setting: "apt.install", value: "allow", default: "require_human" },
        { setting: "apt.sensitive_packages", value: ["nginx"], default: [] },
      ],
      policy_config_hash: hash,
    });
  });
  test("an empty one is the default", async () => {
    expect((await check(["-"])).text).toContain("Every setting is the default.");
  });
  test("a warning where others can write it", async () => {
    const file = join(directory, "good.toml");
    writeFileSync(file, "");
    expect((await check([file])).json.warnings).toEqual([]);
    chmodSync(file, 0o666);
    expect((await check([file])).text).toContain("! others than its owner can write it");
  });
  test("on a narrow terminal nothing is cut", async () => {
    const { text } = await check(["-"], "[apt]\ninstal = 1\n", 80);
    expect(text.split("\n").every((line) => line.length <= 80)).toBe(true);
    expect(text.replaceAll(/\s+/g, " ")).toContain("trusted_origins, sensitive_packages");
  });
});
