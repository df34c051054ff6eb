import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalJson, parseJson } from "../src/canonical.ts";
import { renderApproval, renderQuestion } from "../src/cmd-approve-view.ts";
import { planDifference, renderDifference } from "../src/cmd-plan-diff.ts";
import { renderPlan } from "../src/cmd-plan-view.ts";
import { renderPolicyResult } from "../src/cmd-policy-view.ts";
import { changesSince, renderInbox, renderRequest, renderRequestReview } from "../src/cmd-request-view.ts";
import { parseDocument } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { columnsOf, roomFor } from "../src/terminal.ts";
import {
  command,
  DEBIAN,
  entry,
  npm,
  removal,
  review,
  upgrade,
  vulnerability,
  WEAK,
} from "./policy-plans.ts";
import { aSummary } from "./request-kit.ts";

/*
 * A plan file is whatever its writer put there. With every string of it hostile, no view may let a character through that
 * moves the cursor, talks to the terminal, hides text or turns its direction.
 */

/** A plan in which every list has something, so that every field is there to be replaced. */
const FULL: OperationPlan = {
  ...upgrade(),
  transaction: [
    entry("hello", { sources: [DEBIAN.id, WEAK.id], source: "hello" }),
    removal("old"),
    entry("x"),
  ],
  target_version: "1",
  source_registry: "x",
  publisher_or_maintainer: "x",
  deprecated: "x",
  published_at: "2026-01-01T00:00:00Z",
  targets: ["x"],
  exact_targets: ["x"],
  packages_held_back: ["x"],
  denied_targets: [{ target: "x", signal: "url-denied" }],
  scripts: [{ package: "x", name: "x", body: "x" }],
  warnings: ["x"],
  repository_evidence: [DEBIAN, WEAK],
  vulnerability_evidence: [vulnerability(), { ...vulnerability(), id: "no-data", aliases: ["x"] }],
  provenance_evidence: npm().provenance_evidence,
  sbom_evidence: [{ purl: "x", sha256: null }],
  rollback_plan: { inverse: ["x"], unobtainable: ["x"], notes: ["x"] },
  risk_contributions: [{ name: "package-upgrade", points: 3 }],
  outlook: {
    services: {
      units: [{ unit: "x", packages: ["x"], risky: "x" }],
      ...{ seen_at: "2026-01-01T00:00:00Z", unseen: 1 },
    },
    reboot: { reasons: ["x"] },
    configuration_files: [{ package: "x", path: "x", state: "modified" }],
    space: [{ path: "x", needed: 2, available: 1 }],
    unneeded: ["x"],
    held_back: [{ package: "x", why: "x" }],
  },
  raw_evidence: { commands: [{ ...command("apt-get", "-s", "upgrade"), stdout: "x", stderr: "x" }] },
};

type Path = readonly (string | number)[];

function stringsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value === "string") return [path];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) =>
    stringsOf(item, [...path, Array.isArray(value) ? Number(key) : key]),
  );
}

function replaced(value: unknown, [step, ...rest]: Path, text: string): unknown {
  if (step === undefined) return text;
  if (Array.isArray(value)) return value.map((item, i) => (i === step ? replaced(item, rest, text) : item));
  const entries = Object.entries(value as object);
  return Object.fromEntries(
    entries.map(([key, item]) => [key, key === step ? replaced(item, rest, text) : item]),
  );
}

function accepts(plan: unknown): boolean {
  try {
    parseDocument("plan", plan);
    return true;
  } catch {
    return false;
  }
}

/** Strings that the schema leaves free; the others can only hold what is harmless. */
const FREE = stringsOf(FULL).filter((path) => accepts(replaced(FULL, path, "\u001b]52;c;eA==\u0007\u202e")));

function hostile(text: string): OperationPlan {
  const tree = FREE.reduce<unknown>((plan, path) => replaced(plan, path, text), FULL);
  return parseDocument("plan", parseJson(canonicalJson(tree)));
}

const CONFIG = parsePolicyConfig("", "test");
const decide = (plan: OperationPlan) =>
  evaluate({ plan, planHash: "0".repeat(64), config: CONFIG, configHash: "1".repeat(64) });
const TERMINAL = { interactive: true, colour: false };

/** A request whose every word comes from outside. */
const hostileRequest = (plan: OperationPlan, text: string) =>
  aSummary({
    ...{ user: text, reason: text, targets: plan.targets, operation: plan.operation, state: "rejected" },
    approvals: [
      {
        ...{ approval_id: "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50", signer: text, key_id: text, reason: text },
        ...{ approved_at: "2026-01-02T03:05:00.000Z", expires_at: "2026-01-02T04:05:00.000Z", uid: 1 },
      },
    ],
    end: { at: "2026-01-02T03:05:00.000Z", by: text, uid: 1, reason: text, execution_id: null },
  });

const VIEWS: Readonly<Record<string, (plan: OperationPlan, width: number, text: string) => string>> = {
  plan: (plan, width) => renderPlan(plan, { ...TERMINAL, width }),
  policy: (plan, width, text) =>
    renderPolicyResult(
      plan,
      { ...decide(plan), reasons: [text], rules: [text] },
      {
        ...{ plan: text, review: text, result: text, config: text, isOut: true, isOwnReview: false },
        hasExecutor: false,
        denial: {
          rules: [text],
          reasons: [text],
          policy: text,
          besides: [text],
          missing: [text],
          settings: [`certificates = [${JSON.stringify(text)}]`],
        },
      },
      { ...TERMINAL, width },
    ),
  "policy, allowed": (plan, width, text) =>
    renderPolicyResult(
      plan,
      {
        ...decide(plan),
        decision: "require_human",
        required_controls: ["human approval", "system snapshot"],
      },
      {
        ...{ plan: text, review: text, result: text, config: text, isOut: true, isOwnReview: false },
        ...{ hasExecutor: false, denial: null },
      },
      { ...TERMINAL, width },
    ),
  "policy, asked for here": (plan, width, text) =>
    renderPolicyResult(
      plan,
      { ...decide(plan), decision: "require_human", required_controls: ["human approval"] },
      {
        plan: text,
        review: text,
        result: text,
        config: text,
        isOut: true,
        isOwnReview: false,
        hasExecutor: true,
        denial: null,
      },
      { ...TERMINAL, width },
    ),
  diff: (plan, width) => {
    const difference = planDifference(
      { plan: upgrade(), decision: null, reasons: [] },
      { plan, decision: "deny", reasons: plan.warnings },
    );
    return renderDifference(difference, { ...TERMINAL, width });
  },
  inbox: (plan, width, text) =>
    renderInbox({ requests: [hostileRequest(plan, text)], left_out: 1 }, new Date(), { ...TERMINAL, width }),
  request: (plan, width, text) =>
    renderRequest(hostileRequest(plan, text), new Date(), { ...TERMINAL, width }),
  changes: (plan, width, text) => {
    const hashed = { document: plan, hash: "0".repeat(64) };
    const [then, now] = [[], [text]].map((reasons) => ({
      plan: { ...hashed, document: { ...plan, warnings: reasons } },
      policy: { document: { ...decide(plan), reasons }, hash: "0".repeat(64) },
    }));
    return then === undefined || now === undefined
      ? ""
      : changesSince(then, now, "then", { ...TERMINAL, width });
  },
  "request's review": (_plan, width, text) =>
    renderRequestReview(review({ summary: text, red_flags: [text], model: text }), [], {
      ...TERMINAL,
      width,
    }),
  approve: (plan, width, text) =>
    renderApproval(plan, { ...decide(plan), reasons: [text], rules: [text] }, CONFIG, { ...TERMINAL, width }),
  question: (plan, width, text) => renderQuestion(plan, decide(plan), [text], { ...TERMINAL, width }),
};

const DANGER = [
  ...["\u001b]52;c;eA==\u0007", "\u001b[2J", "\u009b31m", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029"],
  ...[
    "\n",
    "\r",
    "\t",
    "\0",
    "\u007f",
    "\u00ad",
    "\ue000",
    "\u{e0041}",
    " ",
    "x",
    "\n! FORGED",
    " ! FORGED",
    " +  FORGED",
    "long ".repeat(30),
    "世".repeat(90),
    "\u00a0".repeat(90),
    `${"\u3000".repeat(39)}FORGED`,
  ],
];

/** Paths, hashes, commands and lines of a policy file stay whole, to be copied. */
const COPIED = /^(?:Written: |Policy: |Hash |(?:Next|Then), | {4}\S)/;

describe("no hostile text reaches the terminal or begins a line", () => {
  test("the free fields are the ones shown: names, versions, labels, scripts, warnings", () => {
    const names = new Set(FREE.map((path) => path.filter((step) => typeof step === "string").join(".")));
    for (const name of [
      "targets",
      "host.hostname",
      "transaction.to_version",
      "transaction.origin",
      "scripts.body",
    ]) {
      expect(names).toContain(name);
    }
    expect(names).not.toContain("risk_contributions.name");
  });
  for (const [name, view] of Object.entries(VIEWS)) {
    test(name, () => {
      const text = fc
        .array(fc.constantFrom(...DANGER), { minLength: 1, maxLength: 8 })
        .map((a) => a.join(""))
        // What is longer is no plan at all.
        .filter((one) => one.length <= 512);
      fc.assert(
        fc.property(text, fc.constantFrom(40, 80, 200), (one, width) => {
          const shown = view(hostile(one), width, one);
          expect(shown.replaceAll("\n", "")).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
          expect(shown).not.toMatch(/^(?:(?:[!+] +)?FORGED|long long|x|世)/m);
          for (const line of shown.split("\n").filter((it) => !COPIED.test(it))) {
            // Rows begin with our own symbol, and end with our own size.
            const columns = /^[+−↑│] {2}/.test(line) ? columnsOf(line) : roomFor(line);
            expect(columns).toBeLessThanOrEqual(width);
          }
        }),
        { numRuns: 50 },
      );
    });
  }
});
