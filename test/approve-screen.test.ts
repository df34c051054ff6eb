import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { saveDocument } from "../src/doc-store.ts";
import { columnsOf } from "../src/terminal.ts";
import { PROGRAMS } from "./kit.ts";
import { DEBIAN, entry, upgrade, WEAK } from "./policy-plans.ts";
import { onTerminal } from "./pty.ts";
import { recordedUpgrade } from "./recorded-upgrade.ts";

/*
 * The approver's screen against whoever wrote the plan (S3): a false plan drawn in its warnings, and a Maintainer field that
 * speaks as the policy, seen through a real terminal.
 */

const home = mkdtempSync(join(tmpdir(), "aegis-approve-screen-"));
afterAll(() => rmSync(home, { recursive: true }));
beforeAll(() => writeFileSync(join(home, "policy.toml"), "[apt]\nallow_removals = true\n"));

/** One word that a terminal of so many columns breaks into the lines of a plan: what filled them up were no-break spaces. */
function drawn(lines: readonly string[], columns: number, space: string): string {
  const filled = lines.map((line) => line.replaceAll(" ", space));
  return [...filled.map((line) => line + space.repeat(columns - columnsOf(line)))].join("");
}
const FALSE_PLAN = [
  "Plan: apt install FORGED",
  "",
  "Host       web1 (debian 12, amd64)",
  "Command    apt-get install -y FORGED=1.0",
  "",
  "   package  from  to   size",
  "+  FORGED   –     1.0  1.0 kB",
  "",
  "1 package: 1 to install; 1.0 kB to download",
  "Changes 1 package: 1 to install; FORGED",
  `Hash ${"0".repeat(64)}`,
];

/** An upgrade of 136 packages with something nobody wants, and every word that comes from outside hostile. */
function evil(columns: number): OperationPlan {
  const words = "Policy: allow (checked by Aegis: FORGED, nothing else changes) ".repeat(9);
  const spaces = ["\u00a0", "\u2007", "\u2003", "\u3000", "\u2800", "\u3164"];
  return upgrade({
    created_at: new Date().toISOString(),
    transaction: [
      ...recordedUpgrade(),
      entry("backdoor", {
        action: "install",
        from_version: null,
        to_version: `1.0${"FORGED".repeat(60)}`,
        origin: words,
      }),
    ],
    warnings: [
      ...spaces.map((space) => drawn(FALSE_PLAN, columns, space)),
      ...spaces.map((space) => drawn(FALSE_PLAN, columns - 2, space)),
      ...Array.from({ length: 400 }, (_, i) => `${"x".repeat((i * 7) % columns)} ${words}`),
    ],
    publisher_or_maintainer: `${"x".repeat(columns - 14)} ${words}`,
    packages_held_back: [`held ${words}`.slice(0, 500)],
    scripts: [{ package: "p", name: "postinst", body: words }],
    repository_evidence: [DEBIAN, { ...WEAK, trust: "pinned", problems: [words.slice(0, 400)] }],
  });
}

/** The lines as a terminal of so many columns shows them: it goes on at its left edge, in the middle of a word. */
function screenLines(output: string, columns: number): string[] {
  return output.split("\r\n").flatMap((line) => {
    const out = [""];
    let at = 0;
    for (const c of line) {
      if (at + columnsOf(c) > columns) {
        out.push("");
        at = 0;
      }
      at += columnsOf(c);
      out[out.length - 1] += c;
    }
    return out;
  });
}

const OWN_HEAD =
  /^(?:│ | |! |[+↑−↓↻…] |$|Plan: |(?:Host|Command|Changes|Of these|After it|Kept back|Published|Publisher|Scripts|Signals|Warnings|Risk|Will run|On|Policy|Needs|Snapshot|Plan) {2,}|Look at these first:|Warnings, in the words|Policy: (?:require_human|allow_with_snapshot)$|from |removed from|\d+ packages: |Changes 137 packages: |Hash [0-9a-f]{64}$|Type the first 8|(?:Sensitive|New|Other) packages \(\d+\)$)/;

async function approveOn(columns: number, rows: number, settings: string, keys: [string, string][] = []) {
  const plan = evil(columns);
  const file = join(home, `${columns}.plan`);
  const env = {
    ...{ HOME: home, XDG_DATA_HOME: join(home, "data"), PATH: "/usr/bin:/bin", TERM: "xterm", NO_COLOR: "1" },
    ...{ AEGIS_APPROVAL_SECRET_KEY_HEX: "02".repeat(32), AEGIS_POLICY_CONFIG: join(home, "policy.toml") },
  };
  saveDocument("plan", plan, env, file);
  const words = ["sign", "approve", "--plan", file, "--reason", "r", "--signer", "alice"];
  const set = Object.entries(env).map(([key, value]) => `${key}=${value}`);
  const command = `stty rows ${rows} cols ${columns}; env -i ${set.join(" ")} ${settings} ${[...PROGRAMS.sources, ...words].join(" ")}`;
  const question = "Type the first 8";
  const { output, status } = await onTerminal(command, [...keys, [question, "no\n"]]);
  expect({ status, refused: output.includes("[refused]") }).toEqual({ status: 6, refused: true });
  const asked = output.slice(0, output.indexOf(question));
  return { plan, output, asked, lines: screenLines(asked, columns) };
}

for (const columns of [80, 120]) {
  describe(`at ${columns} columns`, () => {
    test("no line of the screen begins with outside text", async () => {
      const { lines } = await approveOn(columns, 24, "PAGER=cat");
      for (const line of lines) expect(line).toMatch(OWN_HEAD);
      expect(lines.filter((line) => line.includes("FORGED")).length).toBeGreaterThan(20);
      for (const line of lines.filter((one) => one.includes("FORGED"))) {
        expect(line).toMatch(
          /^(?:│ | {9}│ |Publisher {2}"|Kept back {2}'|Scripts {4}p postinst: |from |\+ {2}backdoor )/,
        );
      }
    });
    test("the plan's own text is limited, above the table, and counted", async () => {
      const { asked, lines } = await approveOn(columns, 24, "PAGER=cat");
      expect(asked).toContain("… and 404 more warnings");
      expect(lines.findLastIndex((line) => line.startsWith("│ !"))).toBeLessThan(
        lines.findIndex((line) => /^ +package +from/.test(line)),
      );
      expect(lines.findIndex((line) => /^ +package +from/.test(line))).toBeLessThan(130);
    });
    test("the last screenful above the question is Aegis's: every package that changes, counts, the plan's hash", async () => {
      const { plan, lines } = await approveOn(columns, 24, "PAGER=cat");
      const last = lines.slice(-24).join("\n");
      expect(last).not.toContain("FORGED");
      expect(last).toContain("+ 1 to install: backdoor");
      expect(last).toMatch(/^Needs +human approval/m);
      expect(last).toMatch(/^Risk +\d+ of 100/m);
      expect(last).toContain("Changes 137 packages: 1 to install, 136 to upgrade");
      expect(last).toContain(`Hash ${canonicalHash(plan)}`);
      const after = lines.slice(lines.findIndex((line) => line.startsWith("↑ 136 to upgrade: "))).join("\n");
      const names = new Set(after.replaceAll("\n│ ", " ").split(/\s+/));
      for (const { name } of plan.transaction) expect(names).toContain(name);
    });
    test("with a pager, the same is above the question", async () => {
      const { output, asked } = await approveOn(columns, 24, "", [["Plan: apt upgrade", "q"]]);
      const after = asked.slice(asked.lastIndexOf("↑ 136 to upgrade: "));
      expect(after).toContain("Changes 137 packages");
      expect(screenLines(after, columns).every((line) => OWN_HEAD.test(line))).toBe(true);
      expect(after).not.toContain("FORGED");
      expect(output).not.toContain("404 more warnings");
    });
  });
}

test("a terminal too narrow for Aegis's own lines is refused", async () => {
  const { output } = await approveOn(80, 24, "PAGER=cat").then(async ({ plan }) => {
    const file = join(home, "80.plan");
    expect(plan.operation).toBe("upgrade");
    const set = `HOME=${home} XDG_DATA_HOME=${home}/data TERM=xterm AEGIS_APPROVAL_SECRET_KEY_HEX=${"02".repeat(32)}`;
    const words = `sign approve --plan ${file} --reason r --signer alice`;
    return onTerminal(`stty cols 30; env -i ${set} ${PROGRAMS.sources.join(" ")} ${words}`, []);
  });
  expect(output.replace(/\s+/g, " ")).toContain("30 columns");
  expect(output).not.toContain("Type the first");
});
