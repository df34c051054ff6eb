import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { policyRules, runPolicy } from "../src/cmd-policy.ts";
import type { Io } from "../src/command.ts";
import { readDocument } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { saveDocument } from "../src/doc-store.ts";
import { AegisError } from "../src/errors.ts";
import { entry, install, npm, review, update, upgrade } from "./policy-plans.ts";

let dir = "";
let env: Record<string, string> = {};
let printed: { json: unknown; text: string }[] = [];
let stdin = "";

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "aegis-policy-"));
  env = { HOME: dir, XDG_DATA_HOME: join(dir, "data"), XDG_CONFIG_HOME: join(dir, "config") };
  env.AEGIS_POLICY_CONFIG = join(dir, "policy.toml");
  writeFileSync(env.AEGIS_POLICY_CONFIG, "");
  printed = [];
});
afterEach(() => rmSync(dir, { recursive: true }));

function io(): Io {
  return {
    env,
    json: false,
    terminal: { interactive: false, colour: false, width: 80 },
    readStdin: async () => stdin,
    result: (json, text) => printed.push({ json, text }),
    note: () => {},
  };
}

/** While the plans of policy-plans.ts are fresh. */
const NOW = new Date("2026-01-02T03:10:00Z");
const run = (plan: string, flags: { review?: string; out?: string } = {}, now = NOW) =>
  runPolicy({ plan, review: flags.review, out: flags.out, summary: false }, io(), now, false);
const text = () => printed.map((p) => p.text).join("\n");

async function refusal(promise: Promise<unknown>): Promise<AegisError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof AegisError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("aegis policy", () => {
  const cases: readonly [string, OperationPlan, number, string[]][] = [
    [
      "deny",
      npm(),
      3,
      ["✘ deny", "[npm] apply", '    [npm]\n    apply = "require_human"\n', "Next, you: aegis policy"],
    ],
    [
      "require_human",
      install(),
      4,
      [
        "● require_human",
        "Needed: human approval",
        "Next, you: install -m 640 -t <directory they can read> /",
        "Then, the approver, there: aegis sign approve --plan 11111111-2222-4333-8444-555555555555.json --reason <why>",
        "Then, the signer, there: aegis sign --plan 11111111-2222-4333-8444-555555555555.json --policy 11111111-2222-4333-8444-555555555555.policy.json --approval <approval file>",
      ],
    ],
    [
      "require_human with a snapshot",
      upgrade({ transaction: [entry("linux-image-1")] }),
      4,
      ["● require_human", "Needed: human approval, system snapshot", "--snapshot-id <snapshot>"],
    ],
    [
      "allow_with_snapshot",
      upgrade(),
      5,
      [
        "◆ allow_with_snapshot",
        "Next, the signer, in this account: aegis sign 11111111-2222-4333-8444-555555555555 --snapshot-id <snapshot>",
      ],
    ],
    [
      "allow",
      update(),
      0,
      ["✔ allow", "Next, the signer, in this account: aegis sign 11111111-2222-4333-8444-555555555555"],
    ],
  ];
  for (const [what, plan, exit, words] of cases) {
    test(`${what}: exit ${exit}`, async () => {
      saveDocument("plan", plan, env);
      expect(await run(plan.plan_id)).toBe(exit as 0);
      for (const word of words) expect(text()).toContain(word);
      expect(printed).toHaveLength(1);
    });
  }

  const expired: readonly [string, OperationPlan, string][] = [
    ["that a person must approve", install(), "Plan again: aegis plan apt install hello"],
    ["that is denied", npm(), "Plan again: aegis plan npm install "],
    [
      "with nothing to do",
      install({ nothing_to_do: true, transaction: [] }),
      "Plan again: aegis plan apt install",
    ],
  ];
  for (const [what, plan, hint] of expired) {
    test(`an expired plan ${what}: refused as expired, exit 6, nothing written`, async () => {
      saveDocument("plan", plan, env);
      const error = await refusal(run(plan.plan_id, {}, new Date("2026-01-02T05:00:00Z")));
      expect([error.code, error.exit]).toEqual(["expired", 6]);
      expect(error.hint).toStartWith(hint);
      expect(printed).toEqual([]);
      expect(existsSync(join(dir, "data/aegis/policy"))).toBe(false);
    });
  }

  test("nothing to do: nothing to sign", async () => {
    saveDocument("plan", install({ nothing_to_do: true, transaction: [] }), env);
    expect(await run("latest")).toBe(0);
    expect(text()).not.toContain("aegis sign");
  });

  test("writes the result under the plan's id, bound to the bytes of plan and policy, and an audit event", async () => {
    const plan = update();
    saveDocument("plan", plan, env);
    await run(plan.plan_id.slice(0, 8));
    const path = join(dir, "data/aegis/policy", `${plan.plan_id}.policy.json`);
    const { document, hash } = readDocument("policy", readFileSync(path, "utf8"));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(document.plan_hash).toBe(canonicalHash(plan));
    expect(printed[0]?.json).toEqual({ policy_result: document, path });
    const log = readFileSync(join(dir, "data/aegis/audit/audit.ndjson"), "utf8").trim().split("\n");
    expect(log).toHaveLength(1);
    expect(JSON.parse(log[0] ?? "")).toMatchObject({
      kind: "policy_evaluated",
      plan_id: plan.plan_id,
      decision: "allow",
      details: { plan_hash: document.plan_hash, policy_result_hash: hash, rules: ["apt-update"] },
    });
  });

  test("a plan from stdin, the result at --out", async () => {
    stdin = canonicalJson(install());
    const out = join(dir, "result.json");
    expect(await run("-", { out })).toBe(4);
    expect(existsSync(out)).toBe(true);
    const { plan_id } = install();
    expect(text()).toContain(`Next, you: install -m 640 -t <directory they can read> ${out}\n`);
    expect(text()).toContain(
      `the signer, there: aegis sign --plan ${plan_id}.json --policy result.json --approval <approval file>`,
    );
  });

  test("no command for another person contains a path of this account", async () => {
    const plan = upgrade({ transaction: [entry("linux-image-1")] });
    saveDocument("plan", plan, env);
    saveDocument("review", review({ plan_hash: canonicalHash(plan) }), env);
    const file = join(dir, "kernel.plan");
    saveDocument("plan", plan, env, file);
    for (const flags of [{}, { review: plan.plan_id }, { out: join(dir, "kernel.policy") }])
      for (const name of [plan.plan_id, file]) await run(name, flags);
    const steps = text()
      .split("\n")
      .filter((line) => /^(?:Next|Then)/.test(line));
    expect(steps).toHaveLength(18);
    for (const step of steps) {
      const [, who = "", typed = ""] = /^(?:Next|Then), ([^:]+): (.*)$/.exec(step) ?? [];
      expect(["you", "the approver, there", "the signer, there"]).toContain(who);
      if (who !== "you") expect(typed).not.toContain("/");
    }
  });

  test("where this host has an executor, a person is asked there, and no file is handed over", async () => {
    const { plan_id } = install();
    saveDocument("plan", install(), env);
    const here = { plan: plan_id, review: undefined, out: undefined, summary: false };
    expect(await runPolicy(here, io(), NOW, true)).toBe(4);
    expect(text()).toContain(
      `Next, you: aegis apply --request ${plan_id} --reason <why> --wait\nThen, the approver, on this host: aegis sign approve <number>`,
    );
    expect(text()).not.toContain("install -m");
  });

  test("a review is used only if named", async () => {
    const plan = update();
    saveDocument("plan", plan, env);
    saveDocument("review", review({ plan_hash: canonicalHash(plan), risk: "deny" }), env);
    expect(await run(plan.plan_id)).toBe(0);
    expect(await run(plan.plan_id, { review: plan.plan_id })).toBe(3);
  });

  test("a review of another plan is refused and nothing is written", async () => {
    const plan = update();
    saveDocument("plan", plan, env);
    saveDocument("review", review(), env);
    expect((await refusal(run(plan.plan_id, { review: plan.plan_id }))).code).toBe("hash_mismatch");
    expect(existsSync(join(dir, "data/aegis/policy"))).toBe(false);
    expect(existsSync(join(dir, "data/aegis/audit"))).toBe(false);
  });

  test("an invalid review is an error", async () => {
    const plan = update();
    saveDocument("plan", plan, env);
    const path = join(dir, "review.json");
    writeFileSync(path, JSON.stringify({ ...review({ plan_hash: canonicalHash(plan) }), risk: "none" }));
    expect((await refusal(run(plan.plan_id, { review: path }))).code).toBe("invalid_document");
  });

  test("a plan with an unknown field is refused, naming the field's path", async () => {
    stdin = JSON.stringify({ ...update(), approved: true });
    const error = await refusal(run("-"));
    expect([error.code, error.details.path]).toEqual(["invalid_document", "approved"]);
  });

  test("a faulty policy file is refused before anything is decided", async () => {
    writeFileSync(env.AEGIS_POLICY_CONFIG ?? "", "[apt]\nallow_everything = true");
    saveDocument("plan", update(), env);
    const error = await refusal(run("latest"));
    expect(error.code).toBe("invalid_config");
    expect(error.message).toContain("apt.allow_everything");
  });

  test("terminal sequences in a plan don't reach the terminal", async () => {
    stdin = canonicalJson(install({ target: "a\u001b[2J\u202e", targets: ["a\u001b[2J\u202e"] }));
    expect(await run("-")).toBe(3);
    expect(text()).not.toMatch(/[\u001b\u202e]/);
  });
});

test("aegis policy rules shows their decisions under the configuration in force", async () => {
  writeFileSync(env.AEGIS_POLICY_CONFIG ?? "", '[apt]\ninstall = "deny"');
  expect(await policyRules.run({}, io())).toBe(0);
  expect(text()).toContain(
    "✘ apt-install: deny (operation)\n    the policy denies apt install ([apt] install)",
  );
  expect(text()).toContain(
    "◆ apt-upgrade: allow_with_snapshot (operation)\n    apt upgrade changes the system",
  );
  expect(text()).toContain("● kernel-change: require_human + system snapshot (transaction)");
  expect(printed[0]?.json).toMatchObject({ source: env.AEGIS_POLICY_CONFIG, rules: expect.any(Array) });
});
