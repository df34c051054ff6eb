import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { AiReview } from "../src/doc.ts";
import { CONTENT_KEPT } from "../src/doc-evidence.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { VERDICT_JSON_SCHEMA } from "../src/doc-verdict.ts";
import { buildPrompt, PROMPT_CHARS } from "../src/review-prompt.ts";
import { readReply } from "../src/review-reply.ts";
import { aPlan } from "./policy-arbitraries.ts";
import {
  command,
  configured,
  DEBIAN,
  entry,
  install,
  npm,
  removal,
  repair,
  rollback,
  update,
  upgrade,
  vulnerability,
  WEAK,
} from "./policy-plans.ts";

const [systemMessage] = buildPrompt(install()).messages;
const system = systemMessage?.content ?? "";
const userOf = (plan: OperationPlan) => buildPrompt(plan).messages[1]?.content ?? "";
const linesOf = (plan: OperationPlan) => userOf(plan).split("\n");

describe("the system message", () => {
  const keys = Object.keys(VERDICT_JSON_SCHEMA.properties);
  test("asks for the schema's keys, in order", () => {
    const asked = [...system.matchAll(/^ {2}"(\w+)": /gm)].map(([, key]) => key ?? "");
    expect(asked).toEqual(keys);
    const explained = [...system.matchAll(/^- (\w+): /gm)].map(([, key]) => key ?? "");
    expect(explained).toEqual(keys);
    expect(system).not.toContain("undefined");
  });
  test("lists every value that the schema allows", () => {
    for (const [key, field] of Object.entries(AiReview.entries)) {
      if (field.type !== "picklist") continue;
      const line = new RegExp(`^  "${key}": (.*?),?$`, "m").exec(system)?.[1];
      expect(line).toBe(field.options.map((value) => `"${value}"`).join(" or "));
    }
  });
  test("its examples are valid verdicts, in key order, and differ", () => {
    const examples = [...system.matchAll(/^Answer: (.*)$/gm)].map(([, json]) => json ?? "");
    const body = (content: string) =>
      JSON.stringify({ choices: [{ message: { role: "assistant", content } }] });
    const verdicts = examples.map((json) => readReply(body(json)));
    expect(verdicts.map(({ recommendation }) => recommendation)).toEqual(["auto_approve", "deny"]);
    for (const json of examples) expect(Object.keys(JSON.parse(json))).toEqual(keys);
  });
  test("is the same for every plan, and short", () => {
    expect(buildPrompt(npm()).messages[0]).toEqual({ role: "system", content: system });
    expect(system.length).toBeLessThan(6000);
  });
});

test("the task is repeated after the evidence", () => {
  const user = userOf(install());
  const [, after = ""] = user.split("\n</evidence>\n");
  expect(after).toContain("one JSON object");
  expect(after).toContain(Object.keys(VERDICT_JSON_SCHEMA.properties).join(", "));
});

describe("the evidence", () => {
  const cases: readonly [what: string, plan: OperationPlan, line: string][] = [
    ["what is asked for", install(), "Asked for: apt install; targets: hello"],
    ["the command", install(), "Command that would run: apt-get install -y hello=1.0-2"],
    ["the host, without its name", install(), "Host: debian 12, amd64"],
    ["an install", install(), "- install hello (amd64) to 1.0-2; from S1; asked for by name"],
    [
      "counts",
      upgrade({ transaction: [entry("a"), entry("b"), removal("c")] }),
      "Packages that change: 3 (2 to upgrade, 1 to remove).",
    ],
    [
      "nothing",
      upgrade({ transaction: [], nothing_to_do: true }),
      "Planning says that there is nothing to do.",
    ],
    [
      "no metadata",
      install({ metadata_available: false }),
      "Planning could NOT learn what it needs about the targets.",
    ],
    [
      "a removal",
      upgrade({ transaction: [removal("c", { essential: true })] }),
      "- remove c (amd64) from 1.0-1; essential package removed; removed",
    ],
    [
      "a downgrade",
      upgrade({ transaction: [entry("a", { action: "downgrade" })] }),
      "- downgrade a (amd64) from 1.0-1 to 1.0-2; from S1; downgraded",
    ],
    ["a kernel", upgrade({ transaction: [entry("linux-image-6.1")] }), "- kernel: 1 (linux-image-6.1)"],
    ["the boot loader", upgrade({ transaction: [entry("grub-pc")] }), "- needed to boot: 1 (grub-pc)"],
    ["a sensitive package", upgrade({ transaction: [entry("sudo")] }), "- security-sensitive: 1 (sudo)"],
    [
      "an essential one",
      upgrade({ transaction: [entry("x", { essential: true })] }),
      "- essential package: 1 (x)",
    ],
    [
      "one that takes files over",
      upgrade({ transaction: [entry("x", { takes_over: ["coreutils", "sudo"] })] }),
      "- upgrade x (amd64) from 1.0-1 to 1.0-2; from S1; takes over files of another package; files of coreutils, sudo",
    ],
    ["one on hold", upgrade({ transaction: [entry("x")], packages_held_back: ["x"] }), "- on hold: 1 (x)"],
    ["no hash", upgrade({ transaction: [entry("x", { sha256: null })] }), "- no SHA-256 known: 1 (x)"],
    [
      "an unknown source",
      upgrade({ transaction: [entry("x", { sources: ["?"] })] }),
      "- upgrade x (amd64) from 1.0-1 to 1.0-2; from an unknown source; from a source without trust",
    ],
    [
      "no source",
      upgrade({ transaction: [entry("x", { sources: [] })] }),
      "- from a source without trust: 1 (x)",
    ],
    [
      "a weak source among others",
      upgrade({
        transaction: [entry("x", { sources: [DEBIAN.id, WEAK.id] })],
        repository_evidence: [DEBIAN, WEAK],
      }),
      "- from a source without trust: 1 (x)",
    ],
    [
      "a third party",
      upgrade({ repository_evidence: [{ ...DEBIAN, trust: "pinned" }] }),
      "- from a third party: 1 (hello)",
    ],
    [
      "a source's trust",
      install(),
      '- S1: "http://deb.debian.org/debian bookworm"; trusted: the distribution\'s own; calls itself Debian Debian stable',
    ],
    [
      "a source's problems",
      install({ repository_evidence: [WEAK] }),
      '- S1: "https://ppa.example/debian stable"; third party, key NOT pinned to it; calls itself Debian Debian stable; problem: "no Signed-By"',
    ],
    [
      "a source whose signature is not good",
      upgrade({ repository_evidence: [{ ...DEBIAN, signature_verified: false }] }),
      "- from a source without trust: 1 (hello)",
    ],
    [
      "options that switch checks off",
      install({ repository_evidence: [{ ...DEBIAN, trusted_option: true, allow_insecure: true }] }),
      '- S1: "http://deb.debian.org/debian bookworm"; NOT trusted; calls itself Debian Debian stable; its signature is NOT checked (trusted=yes); may be unsigned (allow-insecure)',
    ],
    [
      "a vulnerability",
      install({ vulnerability_evidence: [vulnerability()] }),
      "- critical: hello 1.0-2 has CVE-2026-0001, no fix known",
    ],
    [
      "vulnerabilities of what is installed, as a number",
      install({ vulnerability_evidence: [vulnerability({ applies_to: "old" })] }),
      "In the versions that are installed now: 1.",
    ],
    [
      "no data",
      install({ vulnerability_evidence: [vulnerability({ id: "no-data", severity: "unknown" })] }),
      "- unknown: hello 1.0-2: no data from osv",
    ],
    [
      "a failed check",
      npm({
        provenance_evidence: [
          { kind: "npm-integrity", subject: "left-pad@1.3.0", verified: false, key: null, detail: "bad" },
        ],
      }),
      '- NOT verified: npm-integrity of left-pad@1.3.0: "bad"',
    ],
    ["good checks, as a number", npm(), "Checked and good: 2 of 2."],
    ["a rollback's own record is no check", rollback([removal("b")], "b:amd64-"), "No check is recorded."],
    [
      "what a rollback is",
      rollback([removal("b")], "b:amd64-"),
      "It undoes what that execution changed, by the record that the host's executor keeps.",
    ],
    [
      "what is unpacked already has no source to doubt",
      repair([configured]),
      "Packages that change: 1 (1 to configure).",
    ],
    ["and nothing stands out about it", repair([configured]), "Nothing stands out about the others: hello"],
    [
      "a script",
      npm({ scripts: [{ package: "p", name: "install", body: "node x.js" }] }),
      '- install of p (9 characters); text: "node x.js"',
    ],
    [
      "a script that downloads",
      npm({ scripts: [{ package: "p", name: "install", body: "curl x | sh" }] }),
      '- install of p (11 characters); FOUND: it downloads something and runs it; text: "curl x | sh"',
    ],
    [
      "a script nobody has seen",
      npm({ scripts_detected: true }),
      "There are some, but their text is not known.",
    ],
    ["age", npm({ published_at: "2026-01-01T03:04:05Z" }), "Published 1 day before this plan"],
    ["deprecation", npm({ deprecated: "use x" }), 'DEPRECATED, as its publisher says: "use x"'],
    [
      "what an artifact does",
      npm({ native_code_risk: true, mutable_reference: true }),
      "The package: not pinned to one exact version, compiles or loads native code",
    ],
    ["signals", update(), "Signals: requires-root, network-operation, package-upgrade"],
    ["a warning", install({ warnings: ["W: x y"] }), '- "W: x y"'],
    [
      "a command that failed",
      install({ raw_evidence: { commands: [{ ...command("apt-get", "-s"), outcome: "timeout" }] } }),
      "- A command of planning: apt-get -s: timeout",
    ],
    [
      "a forbidden target",
      install({ denied_targets: [{ target: "./x.deb", signal: "local-path-denied" }] }),
      '- Forbidden target: "./x.deb" (local-path-denied)',
    ],
    [
      "undoing",
      install({ rollback_plan: { inverse: ["a=1", "b-"], unobtainable: ["a=1"], notes: [] } }),
      "Steps to undo it: 2. Old versions that no source offers any more: 1 (a=1).",
    ],
  ];
  for (const [what, plan, line] of cases) test(what, () => expect(linesOf(plan)).toContain(line));
  test("a managed directory, whose content is kept, has a way back", () => {
    const lines = linesOf(npm({ rollback_plan: CONTENT_KEPT }));
    expect(lines).toContain(`- "${CONTENT_KEPT.notes[0]}"`);
    expect(lines).not.toContain("No way back is known.");
  });

  const absent: readonly [what: string, plan: OperationPlan, text: string][] = [
    [
      "what commands printed",
      install({ raw_evidence: { commands: [{ ...command("apt-get"), stdout: "RAW", stderr: "RAW" }] } }),
      "RAW",
    ],
    ["the host's name", install({ host: { ...install().host, hostname: "bank-db-1" } }), "bank-db-1"],
    ["the score, which suggests an answer", install({ risk_score: 97 }), "97"],
    [
      "a vulnerability that the version fixes",
      install({ vulnerability_evidence: [vulnerability({ fixed_version: "1.0-2" })] }),
      "CVE-2026-0001",
    ],
    [
      "apt's marks on an npm package",
      npm({ transaction: [entry("linux-sudo", { sources: [], sha256: null })] }),
      "kernel",
    ],
  ];
  for (const [what, plan, text] of absent)
    test(`without ${what}`, () => expect(userOf(plan)).not.toContain(text));
});

describe("most serious first", () => {
  const after = (plan: OperationPlan, start: string) =>
    linesOf(plan)
      .filter((line) => line.startsWith(start))
      .map((line) => line.slice(start.length).split(/[ ;:]/)[0]);
  test("packages", () => {
    const transaction = [
      entry("plain"),
      entry("sudo"),
      entry("grub-pc"),
      entry("linux-image-1"),
      entry("old", { action: "downgrade" }),
      entry("nohash", { sha256: null }),
      entry("weak", { sources: [WEAK.id] }),
      removal("gone"),
      removal("base", { essential: true }),
    ];
    const plan = upgrade({ transaction, repository_evidence: [DEBIAN, WEAK] });
    const names = linesOf(plan).flatMap(
      (line) => /^- (?:upgrade|downgrade|remove) (\S+)/.exec(line)?.[1] ?? [],
    );
    expect(names).toEqual(["base", "gone", "weak", "nohash", "old", "linux-image-1", "grub-pc", "sudo"]);
    expect(linesOf(plan)).toContain("Nothing stands out about the others: plain");
  });
  test("vulnerabilities; unknown ranks below high", () => {
    const severities = ["none", "low", "unknown", "medium", "critical", "high"] as const;
    const plan = install({
      vulnerability_evidence: severities.map((severity) => vulnerability({ severity })),
    });
    const shown = linesOf(plan).flatMap((line) => /^- (\w+): hello 1.0-2 has/.exec(line)?.[1] ?? []);
    expect(shown).toEqual(["critical", "high", "unknown", "medium", "low"]);
  });
  test("scripts and sources", () => {
    const scripts = ["true", "curl x | sh"].map((body, i) => ({ package: `p${i}`, name: "install", body }));
    expect(after(npm({ scripts }), "- install of ")).toEqual(["p1", "p0"]);
    const unused = { ...DEBIAN, id: "unused", trust: "untrusted" as const };
    const plan = upgrade({
      transaction: [entry("a"), entry("b", { sources: [WEAK.id] })],
      repository_evidence: [unused, DEBIAN, WEAK],
    });
    expect(linesOf(plan).filter((line) => /^- S\d/.test(line))).toEqual([
      expect.stringContaining("ppa.example"),
      expect.stringContaining("deb.debian.org"),
      expect.stringContaining("unused"),
    ]);
  });
});

describe("evidence that does not fit", () => {
  test("is mentioned in the prompt and returned", () => {
    const plan = upgrade({
      transaction: Array.from({ length: 3000 }, (_, i) => entry(`package-${i}`)),
      warnings: Array.from({ length: 30 }, (_, i) => `${i} ${"long ".repeat(100)}`),
    });
    const { omitted, messages } = buildPrompt(plan);
    expect(omitted).toEqual([
      expect.stringMatching(/^the names of \d+ more packages$/),
      expect.stringMatching(/^\d+ more warnings$/),
      expect.stringMatching(/^parts of \d+ long texts$/),
    ]);
    for (const what of omitted) expect(messages[1]?.content).toContain(what);
  });
  test("every package is shown or counted", () => {
    for (const [n, name] of [
      [3000, "package"],
      [3000, "libssl"],
      [40, "libssl"],
    ] as const) {
      const plan = upgrade({ transaction: Array.from({ length: n }, (_, i) => entry(`${name}-${i}x`)) });
      const shown = new Set(userOf(plan).match(new RegExp(`${name}-\\d+x`, "g"))).size;
      const [, missing = "0"] = /the names of (\d+) more/.exec(userOf(plan)) ?? [];
      expect(shown + Number(missing)).toBe(n);
    }
  });
  test("an ordinary upgrade of 128 packages fits", () => {
    const transaction = Array.from({ length: 128 }, (_, i) =>
      entry(`${i % 3 === 0 ? "libssl" : "package"}-${i}`),
    );
    expect(buildPrompt(upgrade({ transaction })).omitted).toEqual([]);
  });
});

describe("properties", () => {
  test("bounded, deterministic, and does not change its input", () => {
    fc.assert(
      fc.property(aPlan, (plan) => {
        const before = canonicalJson(plan);
        const first = buildPrompt(plan);
        expect(first.chars).toBe(first.messages.reduce((sum, { content }) => sum + content.length, 0));
        expect(first.chars).toBeLessThanOrEqual(PROMPT_CHARS);
        expect(first.hash).toBe(canonicalHash(first.messages));
        expect(buildPrompt(structuredClone(plan))).toEqual(first);
        expect(canonicalJson(plan)).toBe(before);
      }),
    );
  });
  test("different evidence, different hash", () => {
    expect(buildPrompt(upgrade()).hash).not.toBe(buildPrompt(install()).hash);
    expect(buildPrompt(upgrade({ plan_id: "99999999-2222-4333-8444-555555555555" })).hash).toBe(
      buildPrompt(upgrade()).hash,
    );
  });
});
