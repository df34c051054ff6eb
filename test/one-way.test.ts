import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { type AiReview, DECISIONS, type PolicyResult, parseDocument } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { signReview } from "../src/key-review-signature.ts";
import { type EvaluateInput, evaluate, strictness } from "../src/policy.ts";
import { RULES } from "../src/policy-rules.ts";
import { aPlan, aPolicy, aReview, signFast, VERDICTS } from "./policy-arbitraries.ts";
import { entry, install, npm, review, update, upgrade } from "./policy-plans.ts";
import { configOf, REVIEWER, STRANGER } from "./signing-kit.ts";

/*
 * The one-way property: whatever a review says, and whoever signed it, it can only make the decision stricter. And the
 * decision is a function: what is equal going in is equal coming out, to the byte.
 */

const KEYS = `public_keys = ["${REVIEWER.publicKeyHex}"]`;

function input(plan: OperationPlan, toml: string, document?: AiReview): EvaluateInput {
  const { config, hash: configHash } = configOf(toml);
  return {
    plan,
    planHash: canonicalHash(plan),
    config,
    configHash,
    ...(document === undefined ? {} : { review: { document, hash: canonicalHash(document) } }),
  };
}
const decide = (plan: OperationPlan, toml: string, document?: AiReview) =>
  evaluate(input(plan, toml, document));

/** Nothing that `less` asks for is missing from `more`. */
function expectNotLess(more: PolicyResult, less: PolicyResult): void {
  expect(strictness(more.decision)).toBeGreaterThanOrEqual(strictness(less.decision));
  expect(more.required_controls).toEqual(expect.arrayContaining(less.required_controls));
  expect(more.reasons).toEqual(expect.arrayContaining(less.reasons));
  expect(more.rules).toEqual(expect.arrayContaining(less.rules));
  expect(more.approvals_required).toBeGreaterThanOrEqual(less.approvals_required);
  expect(Date.parse(more.evidence_fresh_until)).toBeLessThanOrEqual(Date.parse(less.evidence_fresh_until));
}

/** What a review asks for by itself, written from the README's words and not from the rules. */
function asksFor(document: AiReview) {
  const { risk, recommendation, red_flags, required_controls } = document;
  const levels = ["supply_chain_risk", "privilege_risk", "persistence_risk", "availability_risk"] as const;
  const isHigh = risk === "high" || levels.some((level) => document[level] === "high");
  const isDenied = risk === "deny" || recommendation === "deny";
  const human =
    isHigh ||
    red_flags.length > 0 ||
    recommendation === "require_human" ||
    required_controls.includes("human approval");
  const snapshot =
    recommendation === "approve_with_snapshot" || required_controls.includes("system snapshot");
  return { level: isDenied ? 3 : human ? 2 : snapshot ? 1 : 0, human, snapshot };
}

/** The result is what the plan alone asks for, and what the review alone asks for, together and nothing else. */
function expectSum(result: PolicyResult, alone: PolicyResult, document: AiReview): void {
  const asked = asksFor(document);
  expect(result.decision).toBe(DECISIONS[Math.max(strictness(alone.decision), asked.level)] ?? "deny");
  const controls = new Set<string>(alone.required_controls);
  if (asked.human) controls.add("human approval");
  if (asked.snapshot) controls.add("system snapshot");
  expect(new Set<string>(result.required_controls)).toEqual(controls);
}

type Signed = "trusted" | "foreign" | "unsigned" | "changed";
const signed = (by: Signed, document: AiReview): AiReview =>
  by === "unsigned"
    ? document
    : by === "changed"
      ? { ...signFast(document, REVIEWER), created_at: "2026-01-02T03:05:01Z" }
      : signFast(document, by === "trusted" ? REVIEWER : STRANGER);

const aCase = aPlan.chain((plan) =>
  fc.record({
    plan: fc.constant(plan),
    policy: aPolicy,
    document: aReview(plan, canonicalHash(plan)),
    by: fc.constantFrom<Signed>("trusted", "foreign", "unsigned", "changed"),
    keys: fc.constantFrom("", KEYS),
  }),
);

describe("generated plans, policies and reviews", () => {
  test("no review that is not required ever takes anything away", () => {
    fc.assert(
      fc.property(aCase, ({ plan, policy, document, by, keys }) => {
        const toml = `${policy}\n[review]\n${keys}`;
        const alone = decide(plan, toml);
        const result = decide(plan, toml, signed(by, document));
        expectNotLess(result, alone);
        expectSum(result, alone, document);
      }),
      { numRuns: 1000 },
    );
  });

  test("a required review satisfies its own rule at the most, and only when a named reviewer signed it", () => {
    fc.assert(
      fc.property(aCase, ({ plan, policy, document, by, keys }) => {
        const required = `${policy}\n[review]\nrequired = true\n${keys}`;
        const optional = `${policy}\n[review]\n${keys}`;
        const given = signed(by, document);
        const result = decide(plan, required, given);
        expectNotLess(result, decide(plan, optional, given));
        expectNotLess(result, decide(plan, optional));
        expectNotLess(decide(plan, required), decide(plan, optional));
        const counts = by === "trusted" && keys !== "";
        expect(result.rules.includes("review-missing")).toBe(!counts);
        if (!counts) expectNotLess(result, decide(plan, required));
      }),
      { numRuns: 600 },
    );
  });

  test("a signature alone changes nothing but the review's hash where no review is required", () => {
    fc.assert(
      fc.property(aCase, ({ plan, policy, document, by, keys }) => {
        const toml = `${policy}\n[review]\n${keys}`;
        const { ai_review_hash: _, ...bare } = decide(plan, toml, document);
        const key = by === "trusted" ? REVIEWER : STRANGER;
        const { ai_review_hash: hash, ...result } = decide(plan, toml, signFast(document, key));
        expect(result).toEqual(bare);
        expect(hash).toMatch(/^[0-9a-f]{64}$/);
      }),
    );
  });

  test("they are documents that a reader accepts, and every rule fires for some of them", () => {
    const fired = new Set<string>();
    for (const { plan, policy, document, by } of fc.sample(aCase, { numRuns: 2500, seed: 1 })) {
      parseDocument("plan", plan);
      parseDocument("review", document);
      const result = decide(plan, `${policy}\n[review]\nrequired = true\n${KEYS}`, signed(by, document));
      for (const rule of result.rules) fired.add(rule);
    }
    expect([...fired].sort()).toEqual(RULES.map(({ id }) => id).sort());
  });
  test("they are signed as signReview signs", () => {
    expect(signFast(review(), REVIEWER)).toEqual(signReview(review(), REVIEWER));
  });
});

/** Every combination of one value of each field. */
function combinations<T extends object>(fields: readonly (readonly [string, readonly unknown[]])[]): T[] {
  return fields.reduce<T[]>(
    (all, [name, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [name]: value }))),
    [{} as T],
  );
}

describe("every verdict there is, without its free texts", () => {
  const verdicts = combinations<Partial<AiReview>>(Object.entries(VERDICTS));
  const PLANS: [what: string, plan: OperationPlan, toml: string, alone: PolicyResult["decision"]][] = [
    ["an update", update(), "", "allow"],
    ["an upgrade", upgrade(), "", "allow_with_snapshot"],
    ["an install", install(), "[approvals]\nrequired = 3", "require_human"],
    ["a kernel", upgrade({ transaction: [entry("linux-image-1")] }), "", "require_human"],
    ["an npm package", npm(), "", "deny"],
  ];
  test("there are 38,880 of them", () => expect(verdicts.length).toBe(4 * 3 ** 5 * 4 * 2 * 5));
  for (const [what, plan, toml, decision] of PLANS) {
    test(what, () => {
      const planHash = canonicalHash(plan);
      const { config, hash: configHash } = configOf(toml);
      const alone = evaluate({ plan, planHash, config, configHash });
      expect(alone.decision).toBe(decision);
      const wrong = verdicts.filter((verdict) => {
        const document = review({ ...verdict, plan_hash: planHash });
        const result = evaluate({
          plan,
          planHash,
          config,
          configHash,
          review: { document, hash: "2".repeat(64) },
        });
        const asked = asksFor(document);
        const human = alone.required_controls.includes("human approval") || asked.human;
        const snapshot = alone.required_controls.includes("system snapshot") || asked.snapshot;
        return (
          strictness(result.decision) !== Math.max(strictness(alone.decision), asked.level) ||
          result.required_controls.includes("human approval") !== human ||
          result.required_controls.includes("system snapshot") !== snapshot ||
          result.approvals_required !== (human ? config.approvals.required : 0) ||
          !alone.reasons.every((reason) => result.reasons.includes(reason)) ||
          !alone.rules.every((rule) => result.rules.includes(rule))
        );
      });
      expect(wrong).toEqual([]);
    });
  }
  test("signed and required: the same as unsigned and not required", () => {
    const plan = update();
    const planHash = canonicalHash(plan);
    const [required, optional] = [
      configOf(`[review]\nrequired = true\n${KEYS}`),
      configOf(`[review]\n${KEYS}`),
    ];
    const { red_flags: _flags, required_controls: _controls, ...levels } = VERDICTS;
    const wrong = combinations<Partial<AiReview>>(Object.entries(levels)).filter((verdict) => {
      const document = review({ ...verdict, plan_hash: planHash });
      const of = ({ config }: typeof required, one: AiReview) =>
        evaluate({ plan, planHash, config, configHash: "", review: { document: one, hash: "" } });
      return (
        canonicalJson(of(required, signFast(document, REVIEWER))) !== canonicalJson(of(optional, document))
      );
    });
    expect(wrong).toEqual([]);
  });
});

/** The same tree with the keys of every object in another order. */
function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, item]) => [key, reordered(item)]),
  );
}

describe("equal inputs give equal bytes", () => {
  const inputs = fc
    .sample(aCase, { numRuns: 200, seed: 2 })
    .map(({ plan, policy, document, by, keys }, i) =>
      input(
        plan,
        `${policy}\n[review]\nrequired = ${i % 2 === 0}\n${keys}`,
        i % 5 === 0 ? undefined : signed(by, document),
      ),
    );
  const results = inputs.map((one) => canonicalJson(evaluate(one)));

  test("a second time, and the input is left as it was", () => {
    for (const [i, one] of inputs.entries()) {
      const before = JSON.stringify(one);
      expect(canonicalJson(evaluate(one))).toBe(results[i] ?? "");
      expect(JSON.stringify(one)).toBe(before);
    }
  });
  test("with the keys of every object in another order", () => {
    for (const [i, one] of inputs.entries()) {
      const other = reordered(one) as EvaluateInput;
      expect(JSON.stringify(other)).not.toBe(JSON.stringify(one));
      expect(canonicalJson(evaluate(other))).toBe(results[i] ?? "");
    }
  });

  describe("in another process, compiled, in another time zone, language and directory", () => {
    let dir = "";
    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), "aegis-one-way-"));
    });
    afterAll(() => rmSync(dir, { recursive: true }));

    test("200 inputs", async () => {
      const program = join(dir, "evaluate.js");
      const entryPoint = join(import.meta.dir, "evaluate-process.ts");
      const build = ["build", entryPoint, "--target=bun", "--minify", `--outfile=${program}`];
      expect(Bun.spawnSync([process.execPath, ...build], { stderr: "inherit" }).exitCode).toBe(0);
      const child = Bun.spawn([process.execPath, program], {
        cwd: dir,
        env: { TZ: "Pacific/Kiritimati", LC_ALL: "tr_TR.UTF-8" },
        stdin: new Blob([JSON.stringify(inputs)]),
        stderr: "inherit",
      });
      expect(JSON.parse(await new Response(child.stdout).text())).toEqual(results);
    });
  });
});
