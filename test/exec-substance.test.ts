import { describe, expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import type { PolicyResult } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { TABLE } from "../src/eco-table.ts";
import { compareVulnerabilities, compareWarnings, compareWithOwn } from "../src/exec-drift.ts";
import { decideOwn } from "../src/exec-replan.ts";
import { substanceOf } from "../src/exec-substance.ts";
import { riskScore } from "../src/plan-risk.ts";
import { riskSignals } from "../src/plan-signals.ts";
import { command, DEBIAN, entry, install, npm, removal, upgrade, vulnerability } from "./policy-plans.ts";
import { configOf, refuses } from "./signing-kit.ts";

const POLICY = { ...configOf(), source: "test" };
const decided = (plan: OperationPlan, toml?: string) =>
  decideOwn(plan, toml === undefined ? POLICY : { ...configOf(toml), source: "test" });

const GRAVE = vulnerability({ severity: "high" });
/** A plan as the planner scores it. */
function scored(plan: OperationPlan): OperationPlan {
  const risk_signals = riskSignals(plan);
  return { ...plan, risk_signals, ...riskScore({ ...plan, risk_signals }) };
}
const PLAN = scored(
  install({
    vulnerability_evidence: [GRAVE],
    warnings: ["kept back: x", "W: apt says this to root"],
  }),
);
const OF_PLAN = substanceOf(PLAN, decided(PLAN));
const [PACKAGE = entry("hello")] = PLAN.transaction;
const other = (change: Partial<typeof PACKAGE>) => ({ transaction: [{ ...PACKAGE, ...change }] });

describe("another substance", () => {
  const PLANS: [what: string, change: Partial<OperationPlan>][] = [
    ["another version", other({ to_version: "1.0-3" })],
    ["another version there now", other({ from_version: "0.9" })],
    ["other bytes of the same version", other({ sha256: "f".repeat(64) })],
    ["another origin", other({ origin: "Other" })],
    ["another source", other({ sources: ["http://other stable"] })],
    ["a package more", { transaction: [PACKAGE, entry("nginx")] }],
    ["a package removed", { transaction: [PACKAGE, removal("nginx")] }],
    ["nothing", { transaction: [] }],
    ["another host", { host: { ...PLAN.host, hostname: "other" } }],
    ["another machine of the same name", { host: { ...PLAN.host, machine_id_hash: "0".repeat(64) } }],
    ["another boot", { host: { ...PLAN.host, boot_id: "0b6ffbe2-8c1f-4c57-9d3a-000000000000" } }],
    ["a new vulnerability", { vulnerability_evidence: [GRAVE, { ...GRAVE, id: "CVE-2026-0009" }] }],
    ["a graver one", { vulnerability_evidence: [{ ...GRAVE, severity: "critical" }] }],
    ["one that is no longer known", { vulnerability_evidence: [] }],
    ["another warning", { warnings: ["kept back: y"] }],
    ["a warning less", { warnings: [] }],
    [
      "another key of the source",
      { repository_evidence: [{ ...DEBIAN, key_fingerprints: ["A".repeat(40)] }] },
    ],
    ["a source trusted less", { repository_evidence: [{ ...DEBIAN, trust: "weak" }] }],
    ["a hook of the host", { host_hooks: [{ configured_in: "/etc/dpkg/dpkg.cfg.d/zz", command: "x" }] }],
    ["other targets", { targets: ["nginx"], exact_targets: ["nginx=1"] }],
    ["another command", { command_preview: [...PLAN.command_preview, "--yes"] }],
    ["another operation", { operation: "upgrade" }],
    ["another way back", { rollback_plan: { ...PLAN.rollback_plan, notes: ["there is none"] } }],
    ["a score that is not the sum of its parts", { risk_score: 99 }],
  ];
  for (const [what, change] of PLANS)
    test(what, () => {
      const plan = { ...PLAN, ...change };
      // With the same decision, so that the plan alone makes the difference.
      expect(substanceOf(plan, decided(PLAN))).not.toBe(OF_PLAN);
    });

  const DECISIONS: [what: string, change: Partial<PolicyResult>][] = [
    ["another decision", { decision: "allow_with_snapshot" }],
    ["a rule more", { rules: [...decided(PLAN).rules, "zz"] }],
    ["a rule less", { rules: [] }],
    ["another reason of the same rule", { reasons: ["x"] }],
    ["another control", { required_controls: ["human approval", "system snapshot"] }],
    ["more people", { approvals_required: 2 }],
    ["another configuration", { policy_config_hash: "0".repeat(64) }],
    ["another version of the rules", { evaluator_hash: "0".repeat(64) }],
    ["a review", { ai_review_hash: "0".repeat(64) }],
  ];
  for (const [what, change] of DECISIONS)
    test(what, () => expect(substanceOf(PLAN, { ...decided(PLAN), ...change })).not.toBe(OF_PLAN));

  test("a tool that this version lacks has none", () =>
    refuses(() => substanceOf(PLAN, decided(PLAN), {}), "not_built"));
});

describe("the same substance", () => {
  const PLANS: [what: string, change: Partial<OperationPlan>][] = [
    ["the same plan", {}],
    [
      "made later",
      { plan_id: "99999999-2222-4333-8444-555555555555", created_at: "2026-01-02T08:00:00.000Z" },
    ],
    [
      "other raw output",
      { raw_evidence: { commands: [command("apt-get", "-s", "install", "hello", "-q")] } },
    ],
    ["apt's words to another user", { warnings: ["kept back: x", "W: apt says this to alice"] }],
    [
      "newer lists of the same source",
      { repository_evidence: [{ ...DEBIAN, release_date: "2026-01-03T00:00:00Z" }] },
    ],
    [
      "a vulnerability that needs no person",
      { vulnerability_evidence: [GRAVE, { ...GRAVE, id: "CVE-2026-0009", severity: "low" }] },
    ],
    ["other data about the same vulnerability", { vulnerability_evidence: [{ ...GRAVE, data_age_days: 9 }] }],
  ];
  for (const [what, change] of PLANS)
    test(what, () => {
      const plan = { ...PLAN, ...change };
      expect(substanceOf(plan, decided(plan))).toBe(OF_PLAN);
      expect(canonicalHash(plan) === canonicalHash(PLAN)).toBe(what === "the same plan");
    });
});

/** Every value that a field of a plan may be replaced with, so that whatever is compared is changed once. */
function* changed(value: unknown): Generator<unknown> {
  if (typeof value === "string") yield `${value}x`;
  else if (typeof value === "number") yield value + 1;
  else if (typeof value === "boolean") yield !value;
  else if (value === null) yield "x";
  else if (Array.isArray(value)) {
    yield [...value, ...value.slice(0, 1)];
    for (const [i, one] of value.entries()) for (const to of changed(one)) yield value.with(i, to);
  } else if (typeof value === "object")
    for (const [field, one] of Object.entries(value))
      for (const to of changed(one)) yield { ...value, [field]: to };
}

/** Refused by the comparison with the executor's own plan, in either direction. */
function isRefused(a: OperationPlan, b: OperationPlan): boolean {
  const { claims } = TABLE[b.tool === "npm" ? "npm" : "apt"].grammar;
  return [
    () => compareWithOwn(a, b, claims),
    () => compareWarnings(a, b, claims),
    () => compareVulnerabilities(a, b),
    () => compareVulnerabilities(b, a),
  ].some((compare) => {
    try {
      compare();
      return false;
    } catch {
      return true;
    }
  });
}

test.each([
  ["apt install", PLAN],
  [
    "apt upgrade",
    scored(
      upgrade({ provenance_evidence: [{ kind: "k", subject: "s", verified: true, key: "k", detail: "d" }] }),
    ),
  ],
  ["npm install", scored(npm())],
])("%s: whatever the executor refuses as another plan has another substance", (_what, plan) => {
  const policy = decided(plan);
  const of = substanceOf(plan, policy);
  let refused = 0;
  for (const one of changed(plan)) {
    const change = one as OperationPlan;
    // One that contradicts itself is refused whatever was approved, and another tool has other claims.
    if (change.tool !== plan.tool || isRefused(change, change) || !isRefused(plan, change)) continue;
    refused++;
    expect(substanceOf(change, policy)).not.toBe(of);
  }
  expect(refused).toBeGreaterThan(60);
});
