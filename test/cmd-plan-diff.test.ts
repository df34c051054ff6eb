import { describe, expect, test } from "bun:test";
import { type PlanDifference, planDifference, renderDifference } from "../src/cmd-plan-diff.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { Terminal } from "../src/terminal.ts";
import { PROGRAMS, start } from "./kit.ts";
import { entry, removal, upgrade, vulnerability } from "./policy-plans.ts";

const TERMINAL: Terminal = { interactive: true, colour: false, width: 80 };
const SECOND = "22222222-0000-4000-8000-000000000002";

type Sides = [first: Partial<OperationPlan>, second: Partial<OperationPlan>];
const compare = (
  [first, second]: Sides,
  decisions: ["allow" | "deny" | null, "allow" | "deny" | null] = [null, null],
) =>
  planDifference(
    { plan: upgrade(first), decision: decisions[0], reasons: [] },
    { plan: upgrade({ plan_id: SECOND, ...second }), decision: decisions[1], reasons: [] },
  );

/** What a difference says, without what is empty. */
function said(difference: PlanDifference): Record<string, unknown> {
  const isEmpty = (value: unknown): boolean =>
    Array.isArray(value)
      ? value.length === 0
      : typeof value === "object" && value !== null && Object.values(value).every(isEmpty);
  const { same: _same, first: _first, second: _second, ...lists } = difference;
  return Object.fromEntries(Object.entries(lists).filter(([, value]) => !isEmpty(value)));
}

describe("two plans of one change", () => {
  test.each<[what: string, second: Partial<OperationPlan>]>([
    ["made at another time", { created_at: "2026-02-02T00:00:00.000Z" }],
    ["with other raw output", { raw_evidence: { commands: [] } }],
    [
      "with other free space, which no difference is about",
      { outlook: { space: [{ path: "/", needed: 1, available: 2 }] } },
    ],
  ])("%s", (_what, second) => {
    const found = compare([{}, second]);
    expect([found.same, said(found)]).toEqual([true, {}]);
    expect(renderDifference(found, TERMINAL)).toContain(
      "The two plans are the same change for the same reasons.",
    );
  });
});

test.each<[what: string, sides: Sides, expected: string[], lines: string[]]>([
  [
    "a package more",
    [{}, { transaction: [entry("hello"), entry("new-one", { action: "install", from_version: null })] }],
    ["packages"],
    ["Packages only in the second (1)", "  install new-one:amd64 1.0-2"],
  ],
  [
    "a package less",
    [{ transaction: [entry("hello"), removal("old")] }, {}],
    ["packages"],
    ["Packages only in the first (1)", "  remove old:amd64 1.0-1"],
  ],
  [
    "another version",
    [{}, { transaction: [entry("hello", { to_version: "1.0-3" })] }],
    ["packages"],
    [
      "Packages that change otherwise (1)",
      "  upgrade hello:amd64 1.0-1 → 1.0-3; in the first: upgrade 1.0-1 → 1.0-2",
    ],
  ],
  [
    "the same version with other bytes",
    [{}, { transaction: [entry("hello", { sha256: "f".repeat(64), size: 2 })] }],
    ["packages"],
    ["  upgrade hello:amd64 1.0-1 → 1.0-2: sha256, size"],
  ],
  [
    "a vulnerability",
    [{}, { vulnerability_evidence: [vulnerability()] }],
    ["introduces"],
    ["Vulnerabilities introduced, only in the second (1)", "  hello CVE-2026-0001"],
  ],
  [
    "services and a reboot",
    [
      {},
      {
        outlook: {
          services: {
            units: [{ unit: "ssh.service", packages: ["hello"], risky: null }],
            ...{ seen_at: "2026-01-01T00:00:00.000Z", unseen: 0 },
          },
          reboot: { reasons: ["a new kernel"] },
        },
      },
    ],
    ["services", "reboot"],
    ["Services to restart, only in the second (1)", "  ssh.service", "  a new kernel"],
  ],
  [
    "a warning",
    [{ warnings: ["x"] }, { warnings: ["y"] }],
    ["warnings"],
    ["Warnings, only in the second (1)", "  y", "Warnings, only in the first (1)", "  x"],
  ],
  [
    "another host",
    [{}, { host: { ...upgrade().host, hostname: "other", machine_id_hash: "d".repeat(64) } }],
    ["evidence"],
    ["Hosts   differ", "1 other field that the executor compares: host or boot"],
  ],
  [
    "evidence",
    [{}, { signature_or_checksum_status: "unverified", risk_score: 40 }],
    ["evidence"],
    ["Risk    40 of 100 for the second, 10 for the first"],
  ],
  ["another tool", [{}, { tool: "npm", ecosystem: "npm" }], ["evidence"], []],
])("%s", (_what, sides, expected, lines) => {
  const found = compare(sides);
  expect(found.same).toBe(false);
  expect(Object.keys(said(found)).sort()).toEqual(expected.toSorted());
  const shown = renderDifference(found, TERMINAL).split("\n");
  for (const line of lines) expect(shown).toContain(line);
});

test("another decision, with the same change", () => {
  const found = compare([{}, {}], ["allow", "deny"]);
  expect(found.same).toBe(false);
  expect(renderDifference(found, TERMINAL)).toContain(
    "\nPolicy  now deny for the second, allow for the first",
  );
});

test("the command: both from standard input is refused, a plan and itself are the same", async () => {
  const run = (...words: string[]) =>
    start([...PROGRAMS.sources, "plan", "diff", ...words], {
      env: { HOME: "/dev/null" },
      cwd: "/",
      stdin: JSON.stringify(upgrade()),
    });
  expect(await run("-", "-")).toMatchObject({ status: 2, stdout: "" });
  expect(await run("-")).toMatchObject({ status: 2, stdout: "" });
  expect(await run("-", "latest")).toMatchObject({ status: 2, stdout: "" });
});
