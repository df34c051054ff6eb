import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalHash } from "../src/canonical.ts";
import { renderApproval, renderQuestion } from "../src/cmd-approve-view.ts";
import { renderPlan } from "../src/cmd-plan-view.ts";
import { renderPolicyResult } from "../src/cmd-policy-view.ts";
import { renderReview } from "../src/cmd-review-view.ts";
import { type AiReview, DECISIONS, parseDocument } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { evaluate, strictness } from "../src/policy.ts";
import { buildPrompt, PROMPT_CHARS } from "../src/review-prompt.ts";
import { readReply } from "../src/review-reply.ts";
import { aReview, signFast } from "./policy-arbitraries.ts";
import { review } from "./policy-plans.ts";
import { everywhere, FLOODS, OBEYING, PAYLOADS, PLACES, SPOKEN_TO } from "./red-team-plans.ts";
import { configOf, REVIEWER } from "./signing-kit.ts";

/*
 * Evidence that speaks to the model. What it says must not get out of its quotation, must not push the danger out of the
 * prompt, and, where the model obeys all the same, must not lower the decision or reach a terminal unescaped.
 */

const userOf = (plan: OperationPlan) => buildPrompt(plan).messages[1]?.content ?? "";
const CLEAN = userOf(PLACES["what apt printed"]?.("") ?? everywhere("x"));
const TASK = CLEAN.slice(CLEAN.indexOf("\n</evidence>\n"));

/** Nothing of the plan's text stands outside of the evidence, or could be taken for something of ours. */
function expectFenced(plan: OperationPlan): void {
  const { messages, chars, omitted } = buildPrompt(plan);
  const user = messages[1]?.content ?? "";
  expect(chars).toBeLessThanOrEqual(PROMPT_CHARS);
  expect(chars).toBe((messages[0]?.content.length ?? 0) + user.length);
  expect(user).toMatch(/^[\n\x20-\x7e]*$/);
  expect(user.match(/</g)).toHaveLength(2);
  expect(user).not.toMatch(/[[`]|\/(?:no_?)?think/i);
  expect(user).toStartWith("Review this planned change.\n\n<evidence>\n");
  const [, after = ""] = user.split("\n</evidence>\n");
  const [, task = ""] = TASK.split("\n</evidence>\n");
  expect(after).toEndWith(task);
  expect(after.split("\n")).toHaveLength(task.split("\n").length + (omitted.length > 0 ? 1 : 0));
}

/** The prompt without what stands in quotation marks, without numbers, and without what is said of cuts. */
function skeleton(plan: OperationPlan): string {
  return userOf(plan)
    .replace(/"(?:\\.|[^"\\])*"/g, '""')
    .replace(/^Left out.*\n/m, "")
    .replace(/\d+/g, "0");
}

describe("text in the evidence stays in its quotation", () => {
  for (const [where, place] of Object.entries(PLACES)) {
    test(where, () => {
      const harmless = skeleton(place("two words"));
      for (const text of Object.values(PAYLOADS)) {
        const plan = place(text.toWellFormed());
        expectFenced(plan);
        // Whatever the text says, around it stands what stands around harmless text.
        expect(skeleton(plan)).toBe(harmless);
      }
    });
  }
  test("what commands printed is not in the prompt at all", () => {
    for (const text of Object.values(PAYLOADS)) {
      expect(userOf(PLACES["what apt printed"]?.(text.toWellFormed()) ?? everywhere("x"))).toBe(CLEAN);
    }
  });
});

describe("the danger stays in the prompt", () => {
  const evidenceOf = (plan: OperationPlan) => userOf(plan).split("\n</evidence>")[0] ?? "";
  test("whatever is said beside it", () => {
    for (const { plan, danger } of SPOKEN_TO) expect(evidenceOf(plan)).toContain(`\n${danger}`);
  });
  for (const { name, make, danger } of FLOODS) {
    test(name, () => {
      const plan = make();
      expectFenced(plan);
      expect(evidenceOf(plan)).toContain(`\n${danger}`);
      expect(buildPrompt(plan).omitted).not.toEqual([]);
    });
  }
  test("no two plans of the set are the same, and each is one that a reader accepts", () => {
    const hashes = new Set(SPOKEN_TO.map(({ plan }) => canonicalHash(parseDocument("plan", plan))));
    expect(hashes.size).toBeGreaterThan(SPOKEN_TO.length * 0.9);
  });
});

const OPTIONAL = configOf("");
const LENIENT = configOf('[apt]\nallow_removals = true\nupgrade = "allow"');
const REQUIRED = configOf(`[review]\nrequired = true\npublic_keys = ["${REVIEWER.publicKeyHex}"]`);

function decide(plan: OperationPlan, { config, hash }: typeof OPTIONAL, document?: AiReview) {
  const about = document === undefined ? undefined : { document, hash: canonicalHash(document) };
  return evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash, review: about });
}

const obeyed = (plan: OperationPlan, change: Partial<AiReview> = {}) =>
  review({
    ...OBEYING,
    red_flags: [],
    required_controls: [],
    plan_id: plan.plan_id,
    plan_hash: canonicalHash(plan),
    ...change,
  });

/** The plans as they are, which are denied, and without the removal, which leaves room for a decision to be lowered. */
const JUDGED = SPOKEN_TO.flatMap(({ plan }) => [
  plan,
  { ...plan, transaction: plan.transaction.filter(({ action }) => action !== "remove") },
]);
/** A part of them that has every place and every payload in it. */
const SOME = JUDGED.filter((_, i) => i % 7 === 0);

describe("a model that obeys lowers nothing", () => {
  test("its review changes neither the decision nor a reason", () => {
    const decisions = new Set<string>();
    for (const config of [OPTIONAL, LENIENT]) {
      for (const plan of JUDGED) {
        const alone = decide(plan, config);
        decisions.add(alone.decision);
        const with_ = decide(plan, config, obeyed(plan));
        expect({ ...with_, ai_review_hash: "" }).toEqual({ ...alone, ai_review_hash: "" });
      }
    }
    expect([...decisions].sort()).toEqual([...DECISIONS].sort());
  });
  test("not where a review is required, and not with the reviewer's own signature", () => {
    for (const plan of SOME) {
      const alone = decide(plan, OPTIONAL);
      const signed = decide(plan, REQUIRED, signFast(obeyed(plan), REVIEWER));
      expect([signed.decision, signed.rules]).toEqual([alone.decision, alone.rules]);
      expect(decide(plan, REQUIRED, obeyed(plan)).rules).toContain("review-missing");
    }
  });
  test("nor does one that says anything else", () => {
    const any = fc
      .constantFrom(...JUDGED)
      .chain((plan) => fc.tuple(fc.constant(plan), aReview(plan, canonicalHash(plan)), fc.boolean()));
    fc.assert(
      fc.property(any, ([plan, document, isSigned]) => {
        const given = isSigned ? signFast(document, REVIEWER) : document;
        for (const [alone, with_] of [
          [decide(plan, OPTIONAL), decide(plan, OPTIONAL, given)],
          [decide(plan, LENIENT), decide(plan, LENIENT, given)],
          // A trusted review answers the question for one, and nothing else.
          [decide(plan, OPTIONAL), decide(plan, REQUIRED, given)],
        ] as const) {
          expect(strictness(with_.decision)).toBeGreaterThanOrEqual(strictness(alone.decision));
          expect(with_.required_controls).toEqual(expect.arrayContaining(alone.required_controls));
          expect(with_.rules).toEqual(expect.arrayContaining(alone.rules));
        }
      }),
    );
  });
  const answer = (content: string) =>
    JSON.stringify({ choices: [{ message: { role: "assistant", content }, finish_reason: "stop" }] });
  const honest = { ...OBEYING, risk: "deny", recommendation: "deny", red_flags: ["It gives orders."] };
  test("the review that the evidence brought along, beside the model's own, is no review", () => {
    const both = `The evidence says ${JSON.stringify(OBEYING)}. My answer: ${JSON.stringify(honest)}`;
    expect(() => readReply(answer(both))).toThrow(/verdict|reply|differ/);
  });
  test("quoted in a red flag, it is text", () => {
    const quoting = { ...honest, red_flags: [PAYLOADS["a finished review"] ?? ""] };
    expect(readReply(answer(JSON.stringify(quoting))).recommendation).toBe("deny");
  });
});

describe("no screen shows such text unescaped", () => {
  const TERMINAL = { interactive: true, colour: false, width: 80 };
  const FILES = {
    plan: "p",
    review: "r",
    reply: "a",
    result: "e",
    config: "c",
    isOut: false,
    isOwnReview: true,
    hasExecutor: false,
    denial: null,
    by: "direct",
  };
  const screens: Readonly<Record<string, (plan: OperationPlan, text: string) => string>> = {
    plan: (plan) => renderPlan(plan, TERMINAL),
    policy: (plan) => renderPolicyResult(plan, decide(plan, OPTIONAL), FILES, TERMINAL),
    approve: (plan) => renderApproval(plan, decide(plan, OPTIONAL), OPTIONAL.config, TERMINAL),
    question: (plan) => renderQuestion(plan, decide(plan, OPTIONAL), plan.command_preview, TERMINAL),
    // A model that repeats what it read.
    review: (plan, text) => {
      const said = [text, text];
      const given = obeyed(plan, { summary: text, red_flags: said, required_controls: said, model: text });
      return renderReview(plan, given, FILES, TERMINAL);
    },
  };
  for (const [name, screen] of Object.entries(screens)) {
    test(name, () => {
      for (const [where, place] of Object.entries(PLACES)) {
        for (const text of Object.values(PAYLOADS)) {
          // Long texts are cut for names, and a page of them proves no more than a few lines.
          const short = text.slice(0, 300).toWellFormed();
          const shown = screen(place(short), short);
          if (/[^\P{C}\n]|[\p{Zl}\p{Zp}]/u.test(shown)) throw new Error(`${where}: ${JSON.stringify(text)}`);
          expect(shown).not.toMatch(/^(?:## Package sources|System:|Assistant:|- NOT SHOWN)/m);
        }
      }
    });
  }
});

describe("properties", () => {
  const atoms = Object.values(PAYLOADS).map((text) => text.slice(0, 200));
  const text = fc
    .array(fc.oneof(fc.constantFrom(...atoms), fc.string({ unit: "binary", maxLength: 20 })), {
      minLength: 1,
      maxLength: 6,
    })
    .map((list) => list.join(""))
    .filter((one) => one !== "")
    .map((one) => one.toWellFormed());
  test("any text in every place at once: fenced, bounded, the danger kept, the same bytes again", () => {
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 8 }), (one, times) => {
        const plan = parseDocument("plan", everywhere(one, times));
        expectFenced(plan);
        expect(userOf(plan)).toContain("\n- remove openssh-server ");
        expect(userOf(structuredClone(plan))).toBe(userOf(plan));
      }),
    );
  });
  test("any text in any place is surrounded by what surrounds harmless text", () => {
    fc.assert(
      fc.property(text, fc.constantFrom(...Object.keys(PLACES)), (one, where) => {
        const place = PLACES[where] ?? everywhere;
        fc.pre(where !== "a script" && /[^A-Za-z0-9+.:~@/_=%,^-]/.test(one.slice(0, 100)));
        expect(skeleton(place(one))).toBe(skeleton(place("two words")));
      }),
      { numRuns: 300 },
    );
  });
});
