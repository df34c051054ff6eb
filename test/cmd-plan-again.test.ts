import { describe, expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import { signableDocuments } from "../src/cmd-plan-again.ts";
import type { Approval } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { evaluate } from "../src/policy.ts";
import { install } from "./policy-plans.ts";
import { aSummary } from "./request-kit.ts";
import { approvalOf, configOf, minutesFrom, NOW, refuses } from "./signing-kit.ts";

const IO = { env: {}, note: () => {} };
const CONFIG = configOf("");

/** What a front answers for a request. */
function answered(plan: OperationPlan, approvals: Approval[]) {
  const planHash = canonicalHash(plan);
  const policy = evaluate({ plan, planHash, config: CONFIG.config, configHash: CONFIG.hash });
  const hashed = <T extends object>(document: T) => ({ document, hash: canonicalHash(document) });
  return {
    request: aSummary({ state: "approved", plan_hash: planHash }),
    documents: { plan: hashed(plan), policy: hashed(policy), review: null, approvals },
  };
}
const sign = (given: ReturnType<typeof answered>, asked: OperationPlan | null) =>
  signableDocuments(given, IO, NOW, asked);

describe("nothing is signed because a front says that it was asked for and approved", () => {
  const asked = install();
  const others: [string, Partial<OperationPlan>][] = [
    ["targets", { targets: ["telnetd"] }],
    ["operation", { operation: "remove" }],
    ["ecosystem", { ecosystem: "npm" }],
  ];
  test.each(others)("with other %s", async (field, change) => {
    const other = { ...asked, ...change };
    await refuses(
      () => sign(answered(other, [approvalOf(other)]), asked),
      "hash_mismatch",
      `another ${field}`,
    );
  });

  test.each([
    ["asked for in this command", asked],
    ["known by its number", null],
  ])("without an approval, %s", async (_, own) => {
    await refuses(() => sign(answered(asked, []), own), "approval_required", "no approval");
  });

  test("with one that has expired", async () => {
    const old = approvalOf(asked, { now: minutesFrom(NOW, -61) });
    await refuses(() => sign(answered(asked, [old]), asked), "approval_required");
  });
});

test("what was asked for and approved can be signed", async () => {
  const plan = install();
  const given = answered(plan, [approvalOf(plan)]);
  expect(await sign(given, plan)).toEqual(given.documents);
});
