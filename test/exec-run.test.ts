import { expect, test } from "bun:test";
import type { PolicyResult } from "../src/doc.ts";
import { boundedDecision } from "../src/exec-run.ts";
import { RULES } from "../src/policy-rules.ts";

const result = (reasons: string[], rules: string[] = []): PolicyResult => ({
  schema_version: "1.0",
  plan_id: "00000000-0000-4000-8000-000000000000",
  plan_hash: "0".repeat(64),
  decision: "require_human",
  reasons,
  required_controls: [],
  approvals_required: 1,
  rules,
  policy_version: "1",
  evaluator_hash: "0".repeat(64),
  policy_config_hash: "0".repeat(64),
  ai_review_hash: null,
  evidence_fresh_until: "2026-01-02T04:04:05Z",
});

test("the executor's decision stands whole in the start event where it is short", () => {
  expect(boundedDecision(result(["a", "b"], ["x"]))).toEqual({
    decision: "require_human",
    rules: ["x"],
    reasons: ["a", "b"],
  });
});

test("every rule with the longest of reasons leaves room for the rest of the event's details", () => {
  const ids = RULES.map(({ id }) => id);
  const bounded = boundedDecision(
    result(
      ids.map((id) => `${id}: ${"package ".repeat(200)}`),
      ids,
    ),
  );
  expect(bounded).toMatchObject({ rules: ids, reasons_left_out: ids.length - bounded.reasons.length });
  // An event's details have 8,000 bytes; the approvals of a plan take up to 1,100 of them and must never be left out.
  expect(JSON.stringify(bounded).length).toBeLessThan(3500);
});
