import { expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import { parseDocument } from "../src/doc.ts";
import { makeReview } from "../src/review.ts";
import { buildPrompt } from "../src/review-prompt.ts";
import { readModelSettings } from "../src/review-settings.ts";
import { UnusableReply } from "../src/wire-reviewer.ts";
import { completion, says, startModelServer, VERDICT } from "./model-server.ts";
import { upgrade } from "./policy-plans.ts";

const DOCUMENT = upgrade();
const PLAN = { document: DOCUMENT, hash: canonicalHash(DOCUMENT) };
const NOW = new Date("2026-11-22T01:02:03.004Z");

function make(url: string) {
  const settings = readModelSettings({ AEGIS_AI_BASE_URL: url, AEGIS_AI_MODEL: "m" });
  return makeReview(PLAN, settings, { signal: new AbortController().signal, now: () => NOW });
}

test("a review is bound to the plan, the prompt and the model", async () => {
  using server = startModelServer();
  const { review, reply } = await make(server.url);
  const prompt = buildPrompt(DOCUMENT);
  expect(review).toEqual({
    ...VERDICT,
    schema_version: "1.0",
    plan_id: DOCUMENT.plan_id,
    plan_hash: PLAN.hash,
    model: "m",
    prompt_hash: prompt.hash,
    created_at: NOW.toISOString(),
  });
  expect(parseDocument("review", review)).toEqual(review);
  expect(reply).toBe(completion({ content: JSON.stringify(VERDICT) }));
  expect(server.asked[0]?.body).toMatchObject({ model: "m", messages: prompt.messages });
});

test("an unusable reply is kept, but not in the message", async () => {
  using server = startModelServer([says("hunter2")]);
  const error = await make(server.url).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UnusableReply);
  const { reply, message, hint, details } = error as UnusableReply;
  expect(error).toMatchObject({ code: "model_reply", exit: 8 });
  expect(reply).toBe(completion({ content: "hunter2" }));
  expect(message + hint + JSON.stringify(details)).not.toContain("hunter2");
});
