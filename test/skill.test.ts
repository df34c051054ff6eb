import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { findCommand } from "../src/cmd.ts";
import { rewriteOldSpelling } from "../src/cmd-aliases.ts";
import { parseArgs } from "../src/cmd-args.ts";
import { COMMANDS, type CommandName } from "../src/cmd-table.ts";
import { ALLOWED_HEADS } from "../src/eco-argv.ts";
import { assertOperation, BUILT, loadEcosystem, NOT_BUILT } from "../src/eco-load.ts";
import { EXIT, EXIT_OF } from "../src/errors.ts";
import { SYSTEM } from "../src/paths.ts";
import { decisionOf } from "../src/policy.ts";
import { type LoadedPolicyConfig, parsePolicyConfig } from "../src/policy-config.ts";
import { RULES } from "../src/policy-rules.ts";
import { SKILL_NAME, skillText } from "../src/skill.ts";
import { OLDER_NAMES, RULE_ADVICE } from "../src/skill-advice.ts";
import { ALSO_FORBIDDEN, DECISION_ADVICE, EFFECTS, TYPED } from "../src/skill-text.ts";
import { buildWhereNeeded, PROGRAMS, start } from "./kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const policy = (toml: string): LoadedPolicyConfig => ({
  config: parsePolicyConfig(toml, "test"),
  source: "test",
  hash: "",
});
beforeAll(buildWhereNeeded);

const TEXT = await skillText(policy(""));
const NAMES = Object.keys(COMMANDS) as CommandName[];
const HARMLESS = ["read-only", "writes-document", "asks-people"];

/** The part of a text below a heading, up to the next heading of the same or a higher level. */
function section(heading: string, text = TEXT): string {
  const level = /^#+/.exec(heading)?.[0].length ?? 0;
  const lines = text.split("\n");
  const from = lines.indexOf(heading);
  if (from < 0) throw new Error(`no heading ${heading}`);
  const rest = lines.slice(from + 1);
  const to = rest.findIndex((line) => new RegExp(`^#{1,${level}} `).test(line));
  return rest.slice(0, to < 0 ? undefined : to).join("\n");
}

/** Lines inside fences. */
const fenced = (text: string) =>
  [...text.matchAll(/^ *```sh\n([\s\S]*?)^ *```$/gm)].flatMap(([, body = ""]) =>
    body
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== ""),
  );
/** Code in the middle of a sentence or an item. */
const inline = (text: string) =>
  [...text.replace(/^ *```sh\n[\s\S]*?^ *```$/gm, "").matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code);
const typed = (text: string) =>
  [...fenced(text), ...inline(text)].filter((code) => /^aegis(?:\s|$)/.test(code));

/** What a line means, by the parser that the program has. */
async function parse(line: string) {
  const words = rewriteOldSpelling("aegis", line.split(" ").slice(1));
  const { name, load, rest } = findCommand(words);
  const command = await load();
  return { name, effect: COMMANDS[name].effect, values: parseArgs(name, command.args, rest).values };
}

describe("front matter", () => {
  test("is YAML with a name and a description, within the limits of agents' tools", () => {
    const [, yaml = "", body = ""] = /^---\n([\s\S]*?)\n---\n([\s\S]*)$/.exec(TEXT) ?? [];
    expect(Bun.YAML.parse(yaml)).toEqual({
      name: "aegis-production-ops",
      description: expect.stringMatching(/^Use when [^<>\n]{100,1000}$/),
    });
    expect(SKILL_NAME).toMatch(/^[a-z][a-z-]{0,63}$/);
    expect(body.trimStart()).toStartWith("# ");
  });
});

describe("every line to type is a real command line", () => {
  const lines = [...new Set(typed(TEXT))];
  test("there are enough", () => expect(lines.length).toBeGreaterThan(NAMES.length));
  for (const line of lines) {
    test(line, async () => {
      const { name, values } = await parse(line);
      if (name !== "plan") return;
      const { ecosystem, operation, targets } = values as Record<string, string> & { targets: string[] };
      // An execution stands where other plans have their operation.
      if (ecosystem === "rollback") return expect([operation, targets]).toEqual(["<execution>", []]);
      assertOperation(await loadEcosystem(ecosystem ?? ""), operation ?? "", targets.length);
    });
  }
  test("a wrong line would be noticed", async () => {
    for (const line of ["aegis", "aegis plan", "aegis polcy x", "aegis sign x --yes", "aegis daemon --start"])
      expect(async () => await parse(line)).toThrow();
  });
  test("the only other line to type shows the units", () => {
    expect(fenced(TEXT).filter((line) => !line.startsWith("aegis "))).toEqual([
      expect.stringMatching(/^systemctl status \S+\.service [\w. -]+ --no-pager$/),
    ]);
  });
});

describe("commands", () => {
  for (const name of NAMES) {
    test(`${name} is listed once, with its summary, under its effect`, async () => {
      const { effect, summary } = COMMANDS[name];
      const item = `- \`${TYPED[name]}\`: ${summary}`;
      expect(
        section("## Commands, by what they do")
          .split("\n")
          .filter((line) => line === item),
      ).toHaveLength(1);
      expect(section(`### ${EFFECTS[effect].title}`).split("\n")).toContain(item);
      expect((await parse(TYPED[name])).name).toBe(name);
    });
  }

  test("commands that agents may type are harmless; the others are marked for people", async () => {
    const steps = section("## Workflow")
      .split(/^(?=\d+\. )/m)
      .filter((step) => /^\d/.test(step));
    expect(steps.length).toBe(10);
    for (const step of steps) {
      const lines = fenced(step).filter((line) => !line.startsWith("aegis apply --request "));
      const effects = new Set((await Promise.all(lines.map(parse))).map(({ effect }) => effect));
      if (effects.has("secret")) expect(step).toMatch(/^\d+\. People type these/);
      else if (effects.has("changes-host"))
        expect(step).toMatch(/^\d+\. Submit it only when the person told you/);
      else expect([...effects].filter((effect) => !HARMLESS.includes(effect))).toEqual([]);
    }
    for (const line of typed(section("## A prompt to test an agent with")))
      expect(HARMLESS).toContain((await parse(line)).effect);
  });

  test("the list of read-only commands changes deliberately only", () => {
    expect(NAMES.filter((name) => COMMANDS[name].effect === "read-only").sort()).toEqual([
      "apply list",
      "audit installed",
      "audit path",
      "audit prove",
      "audit report",
      "audit show",
      "audit verify",
      "completion",
      "daemon status",
      "doctor",
      "help",
      "plan diff",
      "plan list",
      "plan show",
      "policy check",
      "policy rules",
      "sign inbox",
      "sign show",
      "sign verify",
    ]);
  });

  const { path: home, remove } = temporaryDirectory();
  afterAll(remove);
  const run = async (name: string, line: string) => {
    const HOME = join(home, name);
    mkdirSync(HOME);
    const words = line.split(" ").slice(1);
    const ended = await start([...PROGRAMS.binary, ...words], {
      env: { HOME, PATH: "/usr/bin:/bin" },
      cwd: HOME,
    });
    expect(ended.stdout + ended.stderr).not.toContain("[usage]");
    const left = readdirSync(HOME, { recursive: true, withFileTypes: true });
    return left
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(HOME.length));
  };
  for (const name of NAMES.filter((name) => COMMANDS[name].effect === "read-only")) {
    test(`${name} writes nothing`, async () => expect(await run(name, TYPED[name])).toEqual([]));
  }
  test("plan writes a plan and an event, both owned by the user", async () => {
    const files = await run("plan", "aegis plan apt update --json");
    expect(files.filter((file) => !file.startsWith("/.local/share/aegis/audit/"))).toEqual([
      expect.stringMatching(/^\/\.local\/share\/aegis\/plans\/[0-9a-f-]{36}\.json$/),
    ]);
  });
});

describe("rules", () => {
  const RELAXED = policy('[apt]\nallow_removals = true\ninstall = "deny"\n[npm]\napply = "allow"\n');
  for (const [which, loaded] of [
    ["built-in", policy("")],
    ["changed", RELAXED],
  ] as const) {
    for (const rule of RULES) {
      test(`${which}: ${rule.id} is listed once, under its decision`, async () => {
        const text = await skillText(loaded);
        const head = `**${rule.id}**: ${rule.reason}`;
        expect(text.split(head)).toHaveLength(2);
        expect(section(`### ${decisionOf(rule, loaded.config)}`, text)).toContain(head);
      });
    }
  }
  test("every rule has advice, and all advice is for existing rules", () => {
    const ids = RULES.map(({ id }) => id).sort();
    expect(Object.keys(RULE_ADVICE).sort()).toEqual(ids);
    expect(Object.keys(OLDER_NAMES).filter((id) => !ids.includes(id))).toEqual([]);
  });
  test("all advice is in the text", () => {
    for (const { may, never } of Object.values(RULE_ADVICE))
      expect(TEXT).toContain(`You may ${may}. Never ${never}.`);
    for (const advice of Object.values(DECISION_ADVICE)) expect(TEXT).toContain(advice);
  });
  test("a plan's lifetime comes from the policy", async () => {
    const text = await skillText(policy("[freshness]\nplan_minutes = 17\nexecution_minutes = 19\n"));
    expect(text).toContain("17 minutes");
    expect(text).toContain("19 minutes");
  });
});

describe("exit statuses", () => {
  const rows = section("## Exit statuses and error codes").split("\n");
  const row = (status: number) => rows.filter((line) => line.startsWith(`| ${status} |`));
  for (const [name, status] of Object.entries(EXIT)) {
    test(`${status} ${name}`, () => {
      expect(row(status)).toHaveLength(1);
      const codes = Object.entries(EXIT_OF).filter(([, exit]) => exit === status);
      const named = [...(row(status)[0] ?? "").matchAll(/`[a-z_]+`(?=[^|]*\|$)/g)].map(([code]) => code);
      expect(named).toEqual(codes.map(([code]) => `\`${code}\``));
    });
  }
});

describe("package managers", () => {
  const never = section("## Never run");
  for (const head of ALLOWED_HEADS) {
    test(`not by hand: ${head.join(" ")}`, () => {
      const phrases = inline(never).filter((code) => {
        const words = code.split(" ");
        return words[0] === head[0] && words.every((word) => head.includes(word));
      });
      const verbs = phrases.map((phrase) => phrase.split(" ").at(-1));
      const verb = head.find((word) =>
        /^(?:--)?(?:install|update|(?:full-)?upgrade|pull|remove|purge|autoremove|configure|hold|unhold|restart)/.test(
          word,
        ),
      );
      expect(verb).toBeDefined();
      expect(verbs).toContain(verb);
    });
  }
  test("each ecosystem has its commands", () => {
    expect(Object.keys(ALSO_FORBIDDEN).sort()).toEqual([...BUILT, ...NOT_BUILT].sort());
    for (const command of Object.values(ALSO_FORBIDDEN).flat()) expect(inline(never)).toContain(command);
  });
  for (const name of BUILT) {
    test(`${name}: each operation can be typed`, async () => {
      const { operations } = await loadEcosystem(name);
      const lines = fenced(section("## What can be planned"));
      for (const operation of Object.keys(operations))
        expect(lines.some((line) => `${line} `.startsWith(`aegis plan ${name} ${operation} `))).toBe(true);
    });
  }
  for (const name of NOT_BUILT)
    test(`${name}: listed as missing`, () =>
      expect(section("## What can be planned")).toMatch(new RegExp(`not built.*\\b${name}\\b`)));
});

describe("rules of earlier versions", () => {
  const PHRASES = [
    "untrusted or weakly pinned package repository",
    "target source or evidence is denied",
    "command preview contains shell metacharacters",
    "critical vulnerability evidence",
    "reviewer only",
    "local model review -> deterministic policy -> signed execution plan -> constrained executor -> audit log",
    "explicit Signed-By keyring",
    "`sudo`",
    "`curl | bash`",
    "lifecycle scripts",
    "go get",
    "pip install",
    "/usr/bin/aegis",
    "/usr/libexec/aegis",
    "`id -u` prints 0",
    "PolicyKit",
    "aegis-reviewd.service",
    "aegisd.service",
    "aegis-monitor.timer",
    SYSTEM.socket,
    SYSTEM.reviewerSocket,
    "--allow-unverified-execution-signature",
    "--skip-dspy",
    "dspy_analysis",
  ];
  for (const phrase of PHRASES) test(phrase, () => expect(TEXT).toContain(phrase));
});

describe("the text", () => {
  test("is the same each time, on any host and for any user", async () => {
    expect(await skillText(policy(""))).toBe(TEXT);
    const print = async (env: Record<string, string>, ...flags: string[]) => {
      const words = [...PROGRAMS.binary, "doctor", "--skill", ...flags];
      const { status, stdout, stderr } = await start(words, {
        env: { HOME: "/nonexistent", PATH: "/usr/bin:/bin", BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0", ...env },
        cwd: "/",
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return stdout;
    };
    const [plain, elsewhere, json] = await Promise.all([
      print({}),
      print({ TZ: "Asia/Tokyo", LC_ALL: "de_DE.UTF-8", COLUMNS: "40", USER: "x" }),
      print({}, "--json"),
    ]);
    expect(elsewhere).toBe(plain);
    expect(JSON.parse(json)).toEqual({ skill: plain });
  });
  test("has no date, no tab, no space at a line's end, and ends with one line feed", () => {
    expect(TEXT).not.toMatch(/\d{4}-\d\d-\d\d|\t| $/m);
    expect(TEXT).toMatch(/[^\n]\n$/);
    expect(TEXT).not.toMatch(/\n\n\n|undefined|\[object/);
  });
  test("a policy's path can't add lines", async () => {
    const text = await skillText({ ...policy(""), source: "/p\n## Allowed\n\u202e" });
    expect(text).toContain("/p\\n## Allowed\\n\\u{202e}");
  });
});
