import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AiReview, ExecutionPlan } from "../src/doc.ts";
import type { Ecosystem } from "../src/eco.ts";
import type { RunDriver } from "../src/eco-driver.ts";
import { type Ecosystems, loadDriver } from "../src/eco-load.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import { planAgain } from "../src/exec-replan.ts";
import { signReview } from "../src/key-review-signature.ts";
import { openPlanning } from "../src/plan-world.ts";
import { buildPrompt } from "../src/review-prompt.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { makeExecutionHost, signed } from "./execution-kit.ts";
import { type FakeHost, withFake } from "./fake-ecosystem.ts";
import { review } from "./policy-plans.ts";
import { configOf, REVIEWER, refuses, STRANGER } from "./signing-kit.ts";

let directory: string;
let remove: () => void;
let host: FakeHost;
let paths: StatePaths;
beforeEach(() => {
  ({ directory, remove, host, paths } = makeExecutionHost());
});
afterEach(() => remove());

const install = () => signed(host, paths, directory, "install", "acme.tool@1.0.0");
interface Change {
  driver?: Partial<RunDriver>;
  ecosystem?: Partial<Ecosystem>;
  apply?: string;
  toml?: string;
}
/** Plans again with parts of the fake ecosystem, and of the policy, in others' place. */
async function again(
  execution: ExecutionPlan,
  { driver, ecosystem, apply = "require_human", toml = "" }: Change = {},
) {
  const fake = withFake(host, paths, driver);
  const entry = fake.vscode;
  if (entry === undefined) throw new Error("there is no fake ecosystem");
  const load = async () => ({ ...(await entry.load()), ...ecosystem });
  const ecosystems: Ecosystems = { ...fake, vscode: { ...entry, load } };
  const planning = openPlanning({ env: { HOME: directory } });
  try {
    const policy = { ...configOf(`[vscode]\napply = "${apply}"\n${toml}`), source: "test" };
    return await planAgain(execution, policy, {
      ecosystems,
      driver: await loadDriver({ tool: "vscode", argv: [] }, ecosystems),
      planning,
    });
  } finally {
    planning.close();
  }
}

const fails = (code: ErrorCode, message: string) => () => Promise.reject(new AegisError(code, message));
const REFUSED: [what: string, change: Change, code: ErrorCode, says: string][] = [
  [
    "the target isn't known any more",
    { ecosystem: { gather: fails("not_found", "no acme.tool") } },
    "drift",
    "acme.tool",
  ],
  [
    "planning isn't possible",
    { ecosystem: { gather: fails("unavailable", "no network") } },
    "unavailable",
    "no network",
  ],
  [
    "it is planned from what others write",
    { driver: { hold: fails("refused", "others write it") } },
    "refused",
    "others write it",
  ],
  [
    "what it is planned from isn't what was signed",
    { driver: { hold: async () => ({ check: fails("refused", "another file"), refuseReplaced: () => {} }) } },
    "refused",
    "another file",
  ],
  [
    "that is told rather than what follows from it",
    {
      driver: { hold: async () => ({ check: fails("refused", "another file"), refuseReplaced: () => {} }) },
      ecosystem: { gather: fails("unavailable", "no network") },
    },
    "refused",
    "another file",
  ],
  [
    "what it is planned from was replaced meanwhile",
    {
      driver: {
        hold: async () => ({
          check: async () => {},
          refuseReplaced() {
            throw new AegisError("drift", "replaced since");
          },
        }),
      },
    },
    "drift",
    "replaced since",
  ],
  ["the policy is stricter now", { apply: "deny" }, "policy_denied", ""],
];
describe("refused", () => {
  for (const [what, change, code, says] of REFUSED) {
    test(what, async () => {
      await refuses(async () => again(await install(), change), code, says);
      expect(readdirSync(host.store)).toEqual([]);
    });
  }
  test("a name that stands for another tool", async () => {
    const execution = await install();
    const operation_plan = { ...execution.operation_plan, tool: "npm" as const };
    await refuses(
      () => again({ ...execution, operation_plan }),
      "evidence_mismatch",
      "vscode is not planned as npm",
    );
  });
  test("the host has changed", async () => {
    const execution = await install();
    writeFileSync(join(host.store, "acme.tool"), "0.9.0");
    await refuses(() => again(execution), "drift", "upgrade acme.tool:all 0.9.0 -> 1.0.0");
  });
});

test("the same plan: this host's own decision", async () => {
  expect(await again(await install())).toMatchObject({ decision: "require_human" });
});

describe("a review that this host requires", () => {
  const toml = `[review]\nrequired = true\npublic_keys = ["${REVIEWER.publicKeyHex}"]`;
  const reviewed = async (change: Partial<AiReview>, by = REVIEWER) => {
    const execution = await install();
    const plan = execution.operation_plan;
    const prompt_hash = buildPrompt(plan).hash;
    const plan_hash = execution.operation_plan_hash;
    const ai_review = signReview(review({ plan_id: plan.plan_id, plan_hash, prompt_hash, ...change }), by);
    return { ...execution, ai_review };
  };
  test("of what this host finds", async () => {
    expect(await again(await reviewed({}), { toml })).toMatchObject({ decision: "require_human" });
  });
  test("of other evidence", async () => {
    const hint = await refuses(
      async () => again(await reviewed({ prompt_hash: "a".repeat(64) }), { toml }),
      "evidence_mismatch",
      "the model saw other evidence",
    );
    expect(hint).toContain("Plan and review again");
  });
  test("a review that does not count here, by an unknown key or not required, is not compared", async () => {
    const prompt_hash = "a".repeat(64);
    expect(await again(await reviewed({ prompt_hash }, STRANGER), { toml })).toMatchObject({
      decision: "require_human",
    });
    expect(await again(await reviewed({ prompt_hash }))).toMatchObject({ decision: "require_human" });
  });
});
