import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ALL } from "../src/cmd.ts";
import { completionScript } from "../src/cmd-completion.ts";
import { showHelp } from "../src/cmd-help.ts";
import { commandSections } from "../src/cmd-help-commands.ts";
import { manualPage } from "../src/cmd-help-man.ts";
import { renderSections } from "../src/cmd-help-text.ts";
import { TOPIC_NAMES, TOPICS, type Topic } from "../src/cmd-help-topics.ts";
import { EXPOSURE } from "../src/cmd-help-units.ts";
import { COMMANDS, type CommandName } from "../src/cmd-table.ts";
import type { Io } from "../src/command.ts";
import { BUILT, NOT_BUILT } from "../src/eco-load.ts";
import { WRAPPER_NAMES } from "../src/eco-names.ts";
import { EXIT, EXIT_OF } from "../src/errors.ts";
import { PROVIDERS } from "../src/exec-snapshot-id.ts";
import { BOOT_LOADER_DROP_IN } from "../src/host-drop-ins.ts";
import { UNIT_NAMES } from "../src/host-units.ts";
import { SHARED, SYSTEM } from "../src/paths.ts";
import { decisionOf } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { RULES } from "../src/policy-rules.ts";
import { VERSION } from "../src/self.ts";
import { DAEMON_VARIABLES, REVIEWER_VARIABLES } from "../src/sys-environment-file.ts";
import type { Terminal } from "../src/terminal.ts";
import { PROGRAMS } from "../src/wrap-table.ts";
import { ROOT } from "./kit.ts";
import { needs } from "./needs.ts";

const NAMES = Object.keys(COMMANDS) as CommandName[];
const PIPE: Terminal = { interactive: false, colour: false, width: 80 };

async function topicText(topic: Topic, terminal: Terminal = PIPE): Promise<string> {
  return renderSections([{ title: topic, blocks: await TOPICS[topic].load() }], terminal);
}

/** Lines put together again, as they would be on a terminal without an end. */
const unwrapped = (text: string) => text.replace(/\s+/g, " ");

describe("what the tables of the code have, the help has too", () => {
  const CASES: [topic: Topic, words: () => readonly string[]][] = [
    ["exit-status", () => [...Object.values(EXIT).map(String), ...Object.keys(EXIT_OF)]],
    ["environment", () => [...DAEMON_VARIABLES, ...REVIEWER_VARIABLES]],
    ["files", () => [...Object.values(SYSTEM), ...Object.values(SHARED)]],
    ["limits", () => [...BUILT, ...NOT_BUILT]],
    ["units", () => [...UNIT_NAMES, ...BOOT_LOADER_DROP_IN.lines, BOOT_LOADER_DROP_IN.path]],
    ["snapshots", () => Object.entries(PROVIDERS).map(([name, { like }]) => `${name}:<id> ${like}`)],
    [
      "wrappers",
      () => [...WRAPPER_NAMES, ...Object.values(PROGRAMS).flatMap(({ verbs }) => Object.keys(verbs))],
    ],
    [
      "policy-file",
      () => {
        const defaults = parsePolicyConfig("", "test");
        return [
          ...RULES.map((rule) => `${rule.id} ${decisionOf(rule, defaults)}: `),
          ...Object.entries(defaults).flatMap(([table, keys]) => [
            `[${table}]`,
            ...Object.entries(keys).map(
              ([key, value]) => `${key} = ${JSON.stringify(value).replaceAll('","', '", "')}`,
            ),
          ]),
        ];
      },
    ],
  ];
  for (const [topic, words] of CASES) {
    test(topic, async () => {
      const text = unwrapped(await topicText(topic));
      expect(words().filter((word) => !text.includes(word))).toEqual([]);
    });
  }

  test("limits: images are pulled by both engines, and podman's pulls rolled back", async () => {
    const text = unwrapped(await topicText("limits"));
    expect(/Planned and run: [^.]*/.exec(text)?.[0]).toMatch(/docker \(pull\), podman \(pull, rollback\)/);
  });

  test("every variable that the sources read, and none that they don't", async () => {
    const read = new Set<string>();
    for (const name of readdirSync(join(ROOT, "src")).filter((one) => !one.startsWith("cmd-help"))) {
      const text = readFileSync(join(ROOT, "src", name), "utf8");
      for (const [variable] of text.matchAll(/\bAEGIS_[A-Z_]*[A-Z]\b/g)) read.add(variable);
    }
    const text = await topicText("environment");
    const told = new Set([...text.matchAll(/^ {2}(AEGIS_\w+)/gm)].flatMap(([, name]) => name ?? []));
    // Shown as a pattern in messages.
    read.delete("AEGIS_AI");
    expect([...told].sort()).toEqual([...read].sort());
  });

  test("the exposure of every service", () => {
    expect(Object.keys(EXPOSURE).sort()).toEqual(
      UNIT_NAMES.filter((name) => name.endsWith(".service")).sort(),
    );
  });
});

describe("commands", () => {
  for (const name of NAMES) {
    test(name, async () => {
      const { args } = await ALL.load(name);
      let shown = "";
      const io: Io = {
        env: {},
        json: false,
        terminal: PIPE,
        readStdin: async () => "",
        result: (_, text) => {
          shown = text;
        },
        note: () => {},
      };
      expect(await showHelp(name, await ALL.load(name), io)).toBe(0);
      expect(shown).toStartWith(`${(await ALL.load(name)).description.split(" ")[0]}`);
      for (const [arg, { type }] of Object.entries(args))
        expect(shown).toContain(type === "positional" ? arg.toUpperCase() : `--${arg}`);
      const sections = commandSections(name);
      const flags = sections.flatMap(({ blocks }) => JSON.stringify(blocks).match(/`--[a-z-]+/g) ?? []);
      // A flag that its help names is one that it has.
      const others = ["--kind", "--with", ...flagsElsewhere(name)];
      expect(
        flags.map((flag) => flag.slice(3)).filter((flag) => !(flag in args) && !others.includes(`--${flag}`)),
      ).toEqual([]);
    });
  }

  /** Flags of `--json` and of commands that another one's help refers to. */
  function flagsElsewhere(name: CommandName): string[] {
    return ["--json", ...(name === "review" ? ["--review"] : [])];
  }
});

describe("on a terminal", () => {
  const text = (words: string) => [{ title: "t", blocks: [{ terms: [["`--a`", words] as const] }] }];

  test("words to type are bold, and bare without colour", () => {
    const colour = renderSections(text("type `aegis help`"), { ...PIPE, colour: true });
    expect(colour).toBe("\u001b[1mT\u001b[0m\n\n  \u001b[1m--a\u001b[0m  type \u001b[1maegis help\u001b[0m");
    expect(renderSections(text("type `aegis help`"), PIPE)).toBe("T\n\n  --a  type aegis help");
  });
  for (const width of [40, 80, 120]) {
    test(`${width} columns`, async () => {
      for (const topic of TOPIC_NAMES) {
        // What is meant to be copied stays whole: lines of commands, terms, and long words.
        const blocks = (await TOPICS[topic].load()).filter(
          (block) => typeof block === "string" || !("lines" in block),
        );
        const terms = blocks.flatMap((block) =>
          typeof block === "object" && "terms" in block ? block.terms : [],
        );
        const whole = new Set(terms.map(([term]) => `  ${term.replaceAll("`", "")}`));
        const lines = renderSections([{ title: topic, blocks }], { ...PIPE, width }).split("\n");
        const wide = lines.filter((line) => Bun.stringWidth(line) > Math.min(width, 100) && !whole.has(line));
        expect({ topic, wide: wide.filter((line) => line.trim().includes(" ")) }).toEqual({
          topic,
          wide: [],
        });
        expect(lines.filter((line) => line !== line.trimEnd())).toEqual([]);
      }
    });
  }
});

describe("aegis(1)", () => {
  test("has every command, flag and topic, and the version", async () => {
    const page = (await manualPage(ALL.load)).replaceAll("\\-", "-");
    expect(page).toContain(`"aegis ${VERSION}"`);
    for (const name of NAMES) {
      expect(page).toContain(`.SS "aegis ${name}`);
      for (const [arg, { type }] of Object.entries((await ALL.load(name)).args))
        expect(page).toContain(type === "positional" ? `\\fI${arg}\\fR` : `\\fB--${arg}\\fR`);
    }
    for (const topic of TOPIC_NAMES) expect(page).toContain(`.SH "${topic.toUpperCase()}"`);
  });
  test("no line is a request by accident, and every character is ASCII", async () => {
    const requests = /^\.(?:TH|S[HS]|PP|TP|IP|RS|RE|nf|fi|BR|\\") ?/;
    const page = await manualPage(ALL.load);
    expect(page.split("\n").filter((line) => /^['.]/.test(line) && !requests.test(line))).toEqual([]);
    expect(page).toMatch(/^[\n\x20-\x7e]+$/);
  });
  test("the same bytes each time", async () =>
    expect(await manualPage(ALL.load)).toBe(await manualPage(ALL.load)));

  const has = (program: string) => Bun.which(program) !== null;
  needs(has("groff"), "groff (cmd-help.test.ts)").test("groff has no warnings", async () => {
    const { stderr, exitCode } = Bun.spawnSync(["groff", "-man", "-Tutf8", "-ww", "-z"], {
      stdin: Buffer.from(await manualPage(ALL.load)),
    });
    expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  });
  needs(has("man"), "man (cmd-help.test.ts)").test(
    "man has no warnings, and shows what is meant",
    async () => {
      const { stdout, stderr, exitCode } = Bun.spawnSync(["man", "--warnings", "-E", "UTF-8", "-l", "-"], {
        stdin: Buffer.from(await manualPage(ALL.load)),
        env: { ...process.env, MANWIDTH: "80", LC_ALL: "C.UTF-8", MAN_KEEP_FORMATTING: "" },
      });
      expect([exitCode, stderr.toString()]).toEqual([0, ""]);
      const text = stdout.toString();
      expect(text).toContain("aegis - package changes that are planned, judged, signed and logged");
      expect(text).toContain("--snapshot-id=[provider:]id");
      expect(text).toContain("~/.local/share/aegis");
      expect(text).toContain("PrivateDevices=no\n");
    },
  );
});

test("texts that daemon install writes end with one line feed", async () => {
  for (const text of [
    await manualPage(ALL.load),
    ...(await Promise.all(
      (["bash", "zsh", "fish"] as const).map((shell) => completionScript(shell, ALL.load)),
    )),
  ])
    expect(text).toMatch(/[^\n]\n$/);
});
