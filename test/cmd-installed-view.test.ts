import { describe, expect, test } from "bun:test";
import {
  type InstalledPackage,
  type InstalledRoot,
  installedLines,
  installedText,
} from "../src/cmd-installed-view.ts";
import type { Terminal } from "../src/terminal.ts";

const FIRST = "0b6ffbe2-7c9e-4f6a-9a44-000000000001";
const OPS = "ops@example (key ops)";

const one = (change: Partial<InstalledPackage> = {}): InstalledPackage => ({
  ...{ name: "greeter", version: "1.0.0", part_of: null, execution: FIRST },
  ...{ signed_by: OPS, approved_by: ["alice@example (key alice)"], vulnerabilities: null },
  ...change,
});
const root = (change: Partial<InstalledRoot> = {}): InstalledRoot => ({
  ...{ tool: "npm", path: "/var/lib/aegis/npm-global", state: "signed", execution: FIRST, problem: null },
  ...{ files: 5, bytes: 1234, packages: [one()], deviations: [], deviations_count: 0 },
  ...change,
});
const EXECUTION = {
  ...{ id: FIRST, at: "2026-11-30T13:20:11.123Z", operation: "npm install greeter@1.0.0" },
  ...{ signed_by: OPS, approved_by: ["alice@example (key alice)"] },
};
const installed = (...roots: InstalledRoot[]) => ({ roots, executions: [EXECUTION], warnings: [] });
const terminal = (width: number): Terminal => ({ interactive: true, colour: false, width });

describe("in a pipe", () => {
  test("nothing", () => {
    expect(installedLines({ roots: [root({ packages: [] })], executions: [], warnings: [] })).toBe(
      "nothing is installed in managed directories",
    );
  });

  test("one line for each package, with everything", () => {
    const known = [
      { id: "GHSA-1", aliases: ["CVE-2020-8203"], severity: "high" as const, fixed_version: "4.17.19" },
      { id: "GHSA-2", aliases: [], severity: "unknown" as const, fixed_version: null },
    ];
    const packages = [
      one(),
      one({ name: "words", version: "1.1.0", part_of: "greeter", vulnerabilities: [] }),
      one({ name: "lodash", execution: null, signed_by: null, approved_by: [], vulnerabilities: known }),
    ];
    const [, ...lines] = installedLines(installed(root({ packages }))).split("\n");
    expect(lines.map((line) => line.split(/ {2,}/))).toEqual([
      ["npm", "greeter", "1.0.0", "-", FIRST, OPS, "alice@example (key alice)", "signed", "unknown"],
      ["npm", "words", "1.1.0", "greeter", FIRST, OPS, "alice@example (key alice)", "signed", "none known"],
      [
        ...["npm", "lodash", "1.0.0", "-", "none", "-", "-", "signed"],
        "2: CVE-2020-8203 (high, fixed in 4.17.19), GHSA-2 (not rated)",
      ],
    ]);
  });
});

describe("on a terminal", () => {
  const HOSTILE = "\u001b[2J\u202eevil\n  npm  all is well";
  const deviating = root({
    state: "deviating",
    packages: [one({ name: HOSTILE, version: HOSTILE }), one({ name: `@scope/${"long-".repeat(20)}name` })],
    deviations: [
      { path: "lib/node_modules/greeter/cli.js", what: "changed" },
      { path: HOSTILE, what: "added" },
      { path: "", what: "has the mode 0777" },
    ],
    deviations_count: 1003,
  });

  test("a clean directory at 80 columns", () => {
    const clean = root({ packages: [one(), one({ name: "words", version: "1.1.0", part_of: "greeter" })] });
    expect(installedText(installed(clean), terminal(80)).split("\n")).toEqual([
      "npm  /var/lib/aegis/npm-global",
      "  5 files, 1.2 kB: as signed, by execution 0b6ffbe2",
      "  PACKAGE             VERSION  EXECUTION  VULNERABILITIES",
      "  greeter             1.0.0    0b6ffbe2   unknown",
      "  words (in greeter)  1.1.0    0b6ffbe2   unknown",
      "",
      "Executions",
      "  0b6ffbe2  2026-11-30 13:20Z  npm install greeter@1.0.0",
      "    signed by ops@example (key ops), approved by alice@example (key alice)",
    ]);
  });

  test.each([40, 80, 120])(
    "what deviates is named, and hostile text stays in its place, at %d columns",
    (width) => {
      const text = installedText(installed(deviating), terminal(width));
      const lines = text.split("\n");
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width);
      expect(text).not.toMatch(/[\u001b\u202e]/);
      expect(text).toContain("NOT AS SIGNED: 1003 paths");
      expect(lines.filter((line) => /^\S/.test(line) && !line.startsWith("│"))).toEqual([
        "npm  /var/lib/aegis/npm-global",
        "Executions",
      ]);
      expect(lines.map((line) => line.trim())).toContain("and 1000 more (--json has them)");
    },
  );

  test("a directory that is being changed, and one whose record is lost", () => {
    const text = installedText(
      installed(root({ state: "changing" }), root({ problem: "its record is missing" })),
      terminal(80),
    );
    expect(text).toContain("an execution is changing it");
    expect(text).toContain("its record is missing");
  });

  test("links are told of where they deviate", () => {
    const links = root({ tool: null, path: "/var/lib/aegis/bin", packages: [], execution: null });
    expect(installedText({ ...installed(links), executions: [] }, terminal(80))).toBe(
      "nothing is installed in managed directories",
    );
    const bad = { ...links, state: "deviating" as const, deviations: [{ path: "sh", what: "added" }] };
    expect(installedText(installed({ ...bad, deviations_count: 1 }), terminal(80))).toContain("sh: added");
  });
});
