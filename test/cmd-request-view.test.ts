import { describe, expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import type { DecidedPlan } from "../src/cmd-plan-again.ts";
import {
  askedFor,
  askerOf,
  changesSince,
  renderInbox,
  renderRequest,
  renderRequestReview,
  requestSteps,
} from "../src/cmd-request-view.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { decideOwn } from "../src/exec-replan.ts";
import { signReview } from "../src/key-review-signature.ts";
import { entry, install, review, vulnerability } from "./policy-plans.ts";
import { aSummary } from "./request-kit.ts";
import { ALICE, BOB, configOf } from "./signing-kit.ts";

const NOW = new Date("2026-01-02T06:05:00.000Z");
const at = (width: number, interactive = true) => ({ interactive, colour: false, width });
const planned = (plan: OperationPlan, toml = ""): DecidedPlan => {
  const policy = decideOwn(plan, { ...configOf(toml), source: "test" });
  return {
    plan: { document: plan, hash: canonicalHash(plan) },
    policy: { document: policy, hash: canonicalHash(policy) },
  };
};

describe("a request's review", () => {
  const made = review({ summary: "fine", risk: "low", recommendation: "auto_approve" });
  const signed = signReview(made, ALICE);
  const unknown =
    "Review as the requester hands it over, with no reviewer's signature that is known here: risk low";
  test.each([
    ["written by the requester", made, [ALICE.publicKeyHex], unknown],
    ["signed by a key that the policy doesn't name", signed, [BOB.publicKeyHex], unknown],
    ["changed after it was signed", { ...signed, summary: "better" }, [ALICE.publicKeyHex], unknown],
    [
      "signed by the reviewer",
      signed,
      [ALICE.publicKeyHex],
      "signed by the reviewer: risk low, auto_approve",
    ],
  ])("%s", (_, shown, reviewers, says) =>
    expect(renderRequestReview(shown, reviewers, at(200))).toContain(says),
  );
});

describe("the inbox", () => {
  const ended = { at: "2026-01-02T05:00:00.000Z", uid: 1001, reason: "no", execution_id: null };
  const requests = [
    aSummary({
      number: 9,
      user: null,
      uid: 1001,
      approvals_required: 2,
      targets: ["a".repeat(60)],
      targets_left_out: 3,
    }),
    aSummary({ number: 8, state: "rejected", end: { ...ended, by: "alice@example (key 1a2b)" } }),
  ];
  test("80 columns", () =>
    expect(renderInbox({ requests, left_out: 2 }, NOW, at(80))).toBe(
      [
        "no.  who       age  state                      what",
        `9    uid 1001  3 h  0 of 2 approvals           apt install ${"a".repeat(21)}`,
        `│                                              ${"a".repeat(33)}`,
        `│                                              ${"a".repeat(6)} and 3 more`,
        '     "web server" (require_human; expires in 21 h)',
        "8    agent     3 h  rejected by alice@example  apt install nginx",
        '     "web server"',
        "2 older requests left out.",
      ].join("\n"),
    ));
  for (const width of [40, 80, 120])
    test(`nothing is wider than ${width} columns`, () => {
      const lines = renderInbox({ requests, left_out: 0 }, NOW, at(width)).split("\n");
      expect(lines.filter((line) => line.length > width)).toEqual([]);
    });
  test("in a pipe each request's facts are on one line", () => {
    const lines = renderInbox({ requests, left_out: 0 }, NOW, at(40, false)).split("\n");
    expect(lines[1]).toContain(`apt install ${"a".repeat(60)} and 3 more`);
  });
  test("nothing waits", () =>
    expect(renderInbox({ requests: [], left_out: 0 }, NOW, at(80))).toBe("No request waits."));
});

describe("the head of a request", () => {
  test("who asks, by the kernel's word, for what, why, and how it ended", () => {
    const end = {
      at: "2026-01-02T05:00:00.000Z",
      by: "alice@example",
      uid: 1,
      reason: "use the proxy",
      execution_id: null,
    };
    expect(renderRequest(aSummary({ state: "rejected", end }), NOW, at(80))).toBe(
      [
        "Request 7",
        "Asked by    agent (uid 1000), 3 h ago",
        "For         apt install nginx",
        'Reason      "web server"',
        "State       rejected by alice@example: use the proxy",
        "Ended       2026-01-02T05:00:00.000Z",
      ].join("\n"),
    );
  });
  test("names as people know them", () => {
    expect([askerOf({ user: "agent", uid: 1 }), askerOf({ user: null, uid: 1 })]).toEqual(["agent", "uid 1"]);
    expect(askedFor(aSummary({ targets: ["a b"], targets_left_out: 1 }))).toBe(
      "apt install 'a b' and 1 more",
    );
  });
});

describe("what changed since it was planned", () => {
  const plan = install();
  const [first = entry("hello")] = plan.transaction;
  const since = (change: Partial<OperationPlan>, toml?: string) =>
    changesSince(planned(plan), planned({ ...plan, ...change }, toml), "then", at(80));

  test("nothing", () =>
    expect(since({ plan_id: "99999999-2222-4333-8444-555555555555" })).toBe(
      "Planned again just now: the same change as planned at then.",
    ));
  const CASES: [what: string, change: Partial<OperationPlan>, toml: string | undefined, says: string[]][] = [
    [
      "another version",
      { transaction: [{ ...first, to_version: "1.0-3" }] },
      undefined,
      ["Changes that are new:", "1.0-3", "Changes that are gone:"],
    ],
    [
      "a package more",
      { transaction: [first, entry("nginx")] },
      undefined,
      ["upgrade nginx:amd64 1.0-1 → 1.0-2"],
    ],
    [
      "a vulnerability",
      { vulnerability_evidence: [vulnerability({ severity: "high" })] },
      undefined,
      ["Vulnerabilities that are new:", "CVE-2026-0001 (high)", "Reasons that are new:"],
    ],
    ["a warning", { warnings: ["kept back: x"] }, undefined, ["Warnings that are new:", "kept back: x"]],
    [
      "another boot",
      { host: { ...plan.host, boot_id: "0b6ffbe2-8c1f-4c57-9d3a-000000000000" } },
      undefined,
      ["host or boot"],
    ],
    [
      "other evidence",
      { publisher_or_maintainer: "Mallory" },
      undefined,
      ["Evidence that differs:", "publisher_or_maintainer"],
    ],
    ["another decision", {}, '[apt]\ninstall = "allow"', ["Decision: allow; it was require_human"]],
  ];
  for (const [what, change, toml, says] of CASES)
    test(what, () => {
      const text = since(change, toml);
      expect(text).toStartWith("Changed since it was planned at then:\n");
      for (const word of says) expect(text).toContain(word);
    });
  test("each below its heading, wrapped behind the bar", () => {
    const warnings = [`kept back: ${"name ".repeat(20)}`];
    expect(since({ warnings })).toBe(
      [
        "Changed since it was planned at then:",
        "  Warnings that are new:",
        `    kept back: ${"name ".repeat(11)}name`,
        `    │ ${"name ".repeat(8)}`,
      ].join("\n"),
    );
  });
  test("many changes are counted", () => {
    const many = Array.from({ length: 40 }, (_, n) => entry(`p${n}`));
    expect(since({ transaction: [first, ...many] })).toContain("and 28 more");
  });
});

test("the next steps name where they are typed: this host, or the one that ssh reaches", () => {
  const open = aSummary({ state: "open" });
  const who = (via?: string) => requestSteps(open, false, via).map((step) => step.who);
  expect(who()).toEqual(["an approver, on this host", "the signer, on this host"]);
  expect(who("alice@web1")).toEqual(["an approver, on alice@web1", "the signer, on alice@web1"]);
});
