import { describe, expect, test } from "bun:test";
import { subjectDetails } from "../src/audit-subject.ts";
import { renderQuestion } from "../src/cmd-approve-view.ts";
import { renderRepository } from "../src/cmd-plan-repository.ts";
import { type OperationPlan, planCommand } from "../src/doc-plan.ts";
import { planSummary } from "../src/plan-summary.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { buildPrompt } from "../src/review-prompt.ts";
import { adding, removing, replacing, STANZA, VENDOR, vendorFile } from "./policy-repository-cases.ts";

const terminal = { interactive: false, colour: false, width: 80 };
const KEY = "8F08 1431 3638 E864 83C5 C178 AF2D B912 AF39 821F";
const shown = (plan: OperationPlan) => renderRepository(plan, terminal).replaceAll(/[│\s]+/g, " ");

describe("the screen", () => {
  test("a new file: every line but the key's, which is its fingerprint", () => {
    const text = shown(adding());
    for (const part of [
      "vendor.sources, a new file:",
      "+ URIs: https://vendor.example/debian",
      "(the key, ",
      `Key: ${KEY}, Ed25519, made 2024-01-01, does not expire`,
      'It calls itself "Vendor One <one@vendor.example>"; nobody has checked that.',
    ])
      expect(text).toContain(part);
    expect(text).not.toContain("mDME");
  });
  test("replaced: the old lines, then the new, and both keys", () => {
    const text = shown(replacing(vendorFile("rsa2048")));
    expect(text).toMatch(/would be replaced.*− Types.*\+ Types.*Old key: F9E0 0D5B.* Key: 8F08/);
  });
  test("of another hand", () =>
    expect(shown(replacing(`${STANZA}Trusted: yes\n`))).toContain("− Trusted: yes"));
  test("removed", () => expect(shown(removing())).toMatch(/would be removed.*get no updates any more/));
  test("an index that isn't verified says why", () =>
    expect(
      shown(
        adding({
          repository_evidence: [{ ...VENDOR, signature_verified: false, problems: ["no good signature"] }],
        }),
      ),
    ).toContain("Index https://vendor.example/debian stable: no good signature"));
  test("names that others chose are escaped and quoted", () => {
    const plan = adding({ repository_evidence: [{ ...VENDOR, release_origin: 'x"\u202e\u001b[2J' }] });
    const { key, ...rest } = plan.repository ?? {};
    const hostile = {
      ...plan,
      repository: { ...rest, key: { ...key, user_ids: ['Debian"\u0007'] } },
    } as OperationPlan;
    const text = renderRepository(hostile, terminal);
    expect(text).not.toMatch(/[\u0007\u001b\u202e]/);
    expect(text.replaceAll(/[│\s]+/g, " ")).toContain('It calls itself "Debian\\"\\x07"');
  });
  test.each([40, 80, 120])("fits into %d columns", (width) => {
    for (const line of renderRepository(replacing(vendorFile("rsa2048")), { ...terminal, width }).split("\n"))
      expect(line.length).toBeLessThanOrEqual(width);
  });
});

test("right above the question: the file, where from, and the key's fingerprint", () => {
  const plan = adding();
  const config = parsePolicyConfig("", "test");
  const policy = evaluate({
    plan,
    planHash: "0".repeat(64),
    config,
    configHash: "1".repeat(64),
    review: undefined,
  });
  const text = renderQuestion(plan, policy, plan.command_preview, terminal).replaceAll(/[│\s]+/g, " ");
  expect(text).toContain(
    "+ /etc/apt/sources.list.d/vendor.sources, a new file from https://vendor.example/debian stable",
  );
  expect(text).toContain(`key ${KEY}`);
  expect(text).toContain("No package changes, but what apt trusts does.");
});

test("the log names file, digests and key", () =>
  expect(subjectDetails(adding())).toMatchObject({
    operation: "apt add-repository vendor",
    repository: {
      path: "/etc/apt/sources.list.d/vendor.sources",
      before_sha256: null,
      key: KEY.replaceAll(" ", ""),
    },
  }));

test("an agent's summary has the fingerprint", () =>
  expect(planSummary(adding(), "0".repeat(64), null).repository).toEqual([
    expect.stringMatching(/^\+ \/etc\/apt\/sources\.list\.d\/vendor\.sources sha256:/),
    `+ key ${KEY.replaceAll(" ", "")} (Ed25519)`,
    VENDOR.id,
  ]));

test("the model is told what would be written", () => {
  const { messages } = buildPrompt(replacing(vendorFile("rsa2048")));
  const text = JSON.stringify(messages);
  expect(text).toContain("of package sources would be replaced.");
  expect(text).toContain(`Its key afterwards: ${KEY.replaceAll(" ", "")}`);
});

test("planning again needs the file again", () => {
  expect(planCommand(adding())).toBe("aegis plan apt add-repository vendor --stanza <file>");
  expect(planCommand(removing())).toBe("aegis plan apt remove-repository vendor");
});
