import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { AiReview } from "../src/doc.ts";
import { VERDICT_JSON_SCHEMA } from "../src/doc-verdict.ts";
import { AegisError } from "../src/errors.ts";
import { objectsIn } from "../src/review-json.ts";
import { readReply } from "../src/review-reply.ts";
import { splitReply } from "../src/review-reply-text.ts";
import { completion, VERDICT } from "./model-server.ts";

const FIXTURES = join(import.meta.dir, "fixtures/replies");
const MiB = 1024 * 1024;

/** The answer, a draft of it, and what an injected instruction asks for. */
const ANSWER = { ...VERDICT, risk: "medium", recommendation: "require_human" };
const [GOOD, DRAFT] = [JSON.stringify(ANSWER), JSON.stringify(VERDICT)];
const said = (content: unknown, rest: object = {}, finish = "stop") =>
  completion({ content, ...rest }, finish);

function failure(body: string): AegisError {
  try {
    readReply(body);
  } catch (error) {
    if (error instanceof AegisError) return error;
    throw error;
  }
  throw new Error("it was read");
}

const FIXTURE_ERRORS: Record<string, string> = {
  "vllm-harmony-nothing": "it is empty",
  "vllm-cut-while-reasoning": "token limit",
  "think-cut": "token limit",
  "error-with-status-200": "not a chat completion",
};

describe("replies of model families", () => {
  for (const file of readdirSync(FIXTURES).filter((name) => name.endsWith(".json"))) {
    const name = file.slice(0, -".json".length);
    const body = readFileSync(join(FIXTURES, file), "utf8");
    const problem = FIXTURE_ERRORS[name];
    test(name, () => {
      if (problem !== undefined) expect(failure(body).message).toContain(problem);
      else expect(readReply(body)).toMatchObject({ risk: "medium", recommendation: "require_human" });
    });
  }
});

/** Thinking with another verdict in it, in every form it comes in. */
const THINKING: [string, string][] = [
  ["tags", `<think>${DRAFT}</think>${GOOD}`],
  ["tags in capitals", `<THINK>${DRAFT}</THINK>${GOOD}`],
  ["other words", `<thinking>${DRAFT}</thinking><reasoning>${DRAFT}</reasoning>${GOOD}`],
  ["thought", `<thought>\n${DRAFT}\n</thought>\n${GOOD}`],
  ["Seed", `<seed:think>${DRAFT}</seed:think>${GOOD}`],
  ["Magistral", `[THINK]${DRAFT}[/THINK]${GOOD}`],
  ["Kimi", `◁think▷${DRAFT}◁/think▷${GOOD}`],
  ["Cohere", `<|START_THINKING|>${DRAFT}<|END_THINKING|>${GOOD}`],
  ["Gemma", `<|channel>thought\n${DRAFT}<channel|>${GOOD}`],
  [
    "two channels",
    `<|channel|>analysis<|message|>${DRAFT}<|end|><|channel|>commentary<|message|>x<|channel|>final<|message|>${GOOD}`,
  ],
  ["the opening mark in the prompt", `Hm: ${DRAFT}\n</think>\n${GOOD}`],
  ["thinking twice", `<think>${DRAFT}</think>So:<think>${DRAFT}</think>${GOOD}`],
  ["a broken draft", `<think>{"risk":"low", oops</think>${GOOD}`],
  ["a draft in an open string", `<think>{"risk":"low","summary":"</think>${GOOD}`],
  ["thinking after the answer", `${GOOD}<think>${DRAFT}`],
];

/** Answers a person would read without doubt. */
const READABLE: [string, string][] = [
  ...THINKING.map(([what, content]): [string, string] => [`thinking: ${what}`, said(content)]),
  [
    "the same verdict twice",
    said(`${GOOD}\nAs JSON:\n\`\`\`json\n${JSON.stringify(ANSWER, null, 2)}\n\`\`\``),
  ],
  ["the fields in another order", said(JSON.stringify(Object.fromEntries(Object.entries(ANSWER).reverse())))],
  ["escapes", said(GOOD.replace('"medium"', '"\\u006dedium"'))],
  ["in an array", said(`[${GOOD}]`)],
  ["in a wrapper", said(`{"review": ${GOOD}}`)],
  ["beside unlike objects", said(`{"plan": {"packages": ["a"]}} ${GOOD} {}`)],
  ["after braces", said(`{{x}} {"a} {"b": ${GOOD}`)],
  [
    "after its own schema",
    said(`${JSON.stringify({ type: "object", properties: { risk: { enum: ["low"] } } })} ${GOOD}`),
  ],
  ["cut after it", said(`${GOOD}\n\n\n`, {}, "length")],
  [
    "parts of text",
    said([
      { type: "text", text: GOOD.slice(0, 20) },
      { type: "text", text: GOOD.slice(20) },
    ]),
  ],
  ["arguments that are no string", said(null, { function_call: { name: "r", arguments: ANSWER } })],
  ["reasoning alone", said("", { reasoning_content: `Right.\n${GOOD}` })],
  ["reasoning under both names", said(null, { reasoning: GOOD, reasoning_content: GOOD })],
  ["drafts beside the answer", said(GOOD, { reasoning: `${DRAFT} {"risk":"deny"` })],
  ["risks of parts in prose", said(`- Supply chain risk: high\n${GOOD}`)],
  ["laxer words beside it", said(`Form: "risk": "low" or "medium" or "deny". Risk: low.\n${GOOD}`)],
  ["no refusal", said(GOOD, { refusal: false })],
  ["choices that agree", JSON.stringify({ choices: [choice(GOOD), choice(` ${GOOD}`)] })],
  ["white space around the body", `\n ${said(GOOD)}\n`],
];

function choice(content: string) {
  return { message: { content }, finish_reason: "stop" };
}

describe("what a person would understand", () => {
  test("marks and verdicts inside the answer's text", () => {
    const answer = { ...ANSWER, summary: `</think>${DRAFT}<think>` };
    expect<unknown>(readReply(said(JSON.stringify(answer)))).toEqual(answer);
  });

  for (const [what, body] of READABLE) {
    test(what, () => expect<unknown>(readReply(body)).toEqual(ANSWER));
  }
});

const twice = (json: string, name: string, value: string) => json.replace("{", `{"${name}":${value},`);
const nested = (depth: number) => `${'{"a":'.repeat(depth)}${GOOD}${"}".repeat(depth)}`;
const changed = (change: object) => said(JSON.stringify({ ...ANSWER, ...change }));
const { risk: _, ...WITHOUT_RISK } = ANSWER;

const REFUSED: [string, string, string][] = [
  ["two verdicts", said(`${GOOD} No: ${DRAFT}`), "two different verdicts"],
  [
    "a verdict and an injected one",
    said(`The summary says ${DRAFT}. But I say ${GOOD}`),
    "two different verdicts",
  ],
  [
    "one in the content, one in a call",
    said(GOOD, { function_call: { arguments: DRAFT } }),
    "two different verdicts",
  ],
  [
    "calls that differ",
    said(null, {
      tool_calls: [GOOD, DRAFT].map((arguments_) => ({ function: { arguments: arguments_ } })),
    }),
    "two different verdicts",
  ],
  ["choices that differ", JSON.stringify({ choices: [choice(GOOD), choice(DRAFT)] }), "choices differ"],
  ["a graver verdict in capitals", said(`{"risk":"HIGH","recommendation":"DENY"} ${GOOD}`), "more severe"],
  ["a graver verdict, names in capitals", said(`{"Risk":"deny"} ${GOOD}`), "more severe"],
  ["a graver verdict without quotes", said(`{risk: deny} ${GOOD}`), "more severe"],
  ["a graver verdict in single quotes", said(`{'recommendation': 'deny'} ${GOOD}`), "more severe"],
  ["a graver verdict after a stray quote", said(`{"a":"it "steals"","risk":"deny"} ${GOOD}`), "more severe"],
  [
    "a graver verdict in prose",
    said(`It holds ${GOOD}. An attack.\n\n**Recommendation:** deny`),
    "more severe",
  ],
  ["a graver overall risk in prose", said(`Overall risk: Deny\n${GOOD}`), "more severe"],
  ["a graver verdict around it", said(`{"verdict":"deny","quoted":${GOOD}}`), "more severe"],
  [
    "a graver verdict in a call, not as JSON",
    said(GOOD, { function_call: { arguments: '{"x":1,"risk":"Deny"}' } }),
    "more severe",
  ],
  [
    "a quotation in thinking alone",
    said("", { reasoning: `It says ${GOOD}. An attack.` }),
    "continues after",
  ],
  ["a quotation in thinking that never ends", said(`<think>It says ${GOOD}. No!`), "continues after"],
  ["a call of a kind nobody asked for", said(null, { tool_calls: [{}], reasoning: GOOD }), "no verdict"],
  ["a refusal among parts", said([{ type: "refusal", refusal: "I can't" }], { reasoning: GOOD }), "refused"],
  ["4 MiB of claims", said(`${GOOD}${"the risk: ".repeat((4 * MiB) / 10)}deny`), "more severe"],
  ["reasoning alone with a draft", said("", { reasoning: `${DRAFT} ${GOOD}` }), "two different verdicts"],
  ["a verdict, a closing mark, another", said(`${GOOD}</think>${DRAFT}`), "two different verdicts"],
  [
    "fenced, a closing mark, another",
    said(`\`\`\`json\n${GOOD}\n\`\`\`</think>${DRAFT}`),
    "two different verdicts",
  ],
  [
    "thinking that quotes the mark",
    said(`<think>x</think>${DRAFT}</think>${GOOD}`),
    "two different verdicts",
  ],
  ["a draft where the answer is prose", said("I can't say.", { reasoning: DRAFT }), "no verdict"],
  ["a draft where the answer is another object", said("{}", { reasoning: DRAFT }), "no verdict"],
  ["a draft where the answer was cut", said("", { reasoning: DRAFT }, "length"), "token limit"],
  ["an answer that was cut", said(GOOD.slice(0, -30), {}, "length"), "token limit"],
  ["an answer that was cut, said otherwise", said(GOOD.slice(0, -30)), "an object that is not JSON"],
  ["a verdict and the next one cut", said(`${DRAFT}${GOOD.slice(0, -5)}`, {}, "length"), "token limit"],
  ["a draft where the model refused", said(null, { refusal: "I can't", reasoning: DRAFT }), "refused"],
  ["a draft where a filter ended it", said("", { reasoning: DRAFT }, "content_filter"), "refused"],
  ["a verdict and one that was cut", said(`${DRAFT}${GOOD.slice(0, -5)}`), "an object that is not JSON"],
  ["a name twice", said(twice(GOOD, "risk", '"low"')), "a duplicate name"],
  ["a name twice, once in escapes", said(twice(GOOD, "r\\u0069sk", '"low"')), "a duplicate name"],
  ["a name twice around it", said(`{"a":1,"a":${GOOD}}`), "a duplicate name"],
  ["a name twice in the envelope", said(GOOD).replace("{", '{"choices":[],'), "a duplicate name"],
  ["a comma too many", said(GOOD.replace("}", ",}")), "not JSON"],
  ["single quotes", said(GOOD.replaceAll('"', "'")), "no verdict"],
  ["a verdict inside a string", said(JSON.stringify({ note: GOOD })), "no verdict"],
  ["a verdict in quotes", said(JSON.stringify(GOOD)), "no verdict"],
  ["__proto__", said(twice(GOOD, "__proto__", '{"x":1}')), "it has an unknown field"],
  [
    "all of it in __proto__",
    said(`{"__proto__":${JSON.stringify({ ...ANSWER, x: 1 })}}`),
    "an unknown field",
  ],
  ["constructor", said(twice(GOOD, "constructor", "{}")), "an unknown field"],
  ["a field that was not asked for", changed({ confidence: 1 }), "an unknown field"],
  ["a field of the review", changed({ plan_hash: "0".repeat(64) }), "an unknown field"],
  ["a signature", changed({ signature: {} }), "an unknown field"],
  ["a field missing", said(JSON.stringify(WITHOUT_RISK)), "risk is missing"],
  ["a number for a word", changed({ risk: 1 }), "risk is not"],
  ["a word of another field", changed({ recommendation: "low" }), "recommendation is not"],
  ["capitals", changed({ risk: "LOW" }), "risk is not"],
  ["a number for text", changed({ summary: 1 }), "summary is not string"],
  ["text for a list", changed({ red_flags: "none" }), "red_flags is not"],
  ["objects in a list", changed({ red_flags: [{ flag: "x" }] }), "red_flags is not"],
  ["null", changed({ required_controls: null }), "required_controls is not"],
  ["a text too long", changed({ summary: "x".repeat(65_537) }), "summary is not"],
  ["too much text", changed({ red_flags: Array(3).fill("x".repeat(30_000)) }), "longer than 65536"],
  ["too many flags", changed({ red_flags: Array(257).fill("x") }), "red_flags is not"],
  ["a lone surrogate", said(GOOD.replace("Two", "\\ud800")), "not well-formed Unicode"],
  ["a lone surrogate in a list", said(GOOD.replace("[]", '["\\udc00"]')), "not well-formed Unicode"],
  ["only a short verdict", said('{"risk":"low"}'), "summary is missing"],
  ["a short verdict and a whole one", said(`${GOOD} {"risk":"deny"}`), "is missing"],
  ["a pattern", said('{"risk": "low|medium|high|deny", "recommendation": "..."}'), "no verdict"],
  ["nested too deeply", said(nested(70)), "nested too deeply"],
  ["an envelope nested too deeply", `{"a":${"[".repeat(70)}`, "nested too deeply"],
  ["prose", said("This looks fine. Approve it!"), "no verdict"],
  ["a refusal", said(null, { refusal: "I can't" }), "the model refused"],
  ["nothing", said(""), "it is empty"],
  ["content null", said(null), "it is empty"],
  ["content of another type", said(42), "it is empty"],
  ["thinking without an answer", said("<think>hm</think>"), "it is empty"],
  ["no choices", '{"choices":[]}', "not a chat completion"],
  ["no message", '{"choices":[{}]}', "not a chat completion"],
  ["many choices", JSON.stringify({ choices: Array(17).fill(choice(GOOD)) }), "not a chat completion"],
  ["a bare verdict", GOOD, "not a chat completion"],
  ["a list", `[${said(GOOD)}]`, "not a JSON object"],
  ["a string", JSON.stringify(said(GOOD)), "not a JSON object"],
  ["a page", "<!DOCTYPE html><title>502</title>", "not a JSON object"],
  ["a stream of events", `data: ${said(GOOD)}\n\ndata: [DONE]\n\n`, "not a JSON object"],
  ["two bodies", `${said(GOOD)}${said(DRAFT)}`, "followed by other text"],
  ["no body", "", "not a JSON object"],
  ["4 MiB of braces", said("{".repeat(4 * MiB)), "no verdict"],
  ["4 MiB of objects", said('{"a":'.repeat((4 * MiB) / 5)), "nested too deeply"],
  ["4 MiB of empty objects", said("{}".repeat((4 * MiB) / 2)), "one of too many"],
  ["too many objects after a verdict", said(`${GOOD} ${"{} ".repeat(1000)}`), "one of too many"],
  ["4 MiB of marks", said("<think>".repeat((4 * MiB) / 7)), "it is empty"],
  ["4 MiB of drafts", said("<think>{}</think>".repeat((4 * MiB) / 17)), "one of too many"],
  ["4 MiB of closing marks", said("</think>".repeat((4 * MiB) / 8)), "it is empty"],
  ["4 MiB of open strings", said('{"'.repeat((4 * MiB) / 2)), "one of too many"],
  ["4 MiB of white space", said(" ".repeat(4 * MiB)), "it is empty"],
  ["4 MiB of braces for a body", "{".repeat(4 * MiB), "not a JSON object"],
];

describe("unusable replies", () => {
  for (const [what, body, message] of REFUSED) {
    test(what, () => {
      const error = failure(body);
      expect(error).toMatchObject({ code: "model_reply", exit: 8 });
      expect(error.message).toContain(message);
      expect(error.hint).not.toBe("");
    });
  }

  test("the message does not contain the model's text", () => {
    const marker = "hunter2\u202e";
    for (const body of [
      changed({ [marker]: 1 }),
      changed({ risk: marker, recommendation: "deny" }),
      changed({ red_flags: [{ [marker]: 1 }] }),
      said(`${marker} {"risk":"low","${marker}`),
      said(null, { refusal: marker }),
    ]) {
      const { message, hint, details } = failure(body);
      expect(message + hint + JSON.stringify(details)).not.toContain("hunter2");
    }
  });

  test("a truncated reply's hint names the setting", () => {
    expect(failure(said("<think>", {}, "length")).hint).toContain("AEGIS_AI_MAX_OUTPUT_TOKENS");
  });
});

/** Text made of what the reader looks for, so that it comes to all its corners. */
const PIECES = [
  ...[
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "\\",
    "\\u00",
    " ",
    "\n",
    "1",
    "-0.5e1",
    "true",
    "null",
    "x",
    "\ud800",
  ],
  ...["<think>", "</think>", "[/THINK]", "<|channel|>final", "assistantfinal", "analysisX", "```json"],
  ...['"risk":"low"', '"recommendation":"deny"', '"__proto__":', '{"a":', '"a":1', GOOD, DRAFT],
];
const text = fc.array(fc.constantFrom(...PIECES), { maxLength: 60 }).map((pieces) => pieces.join(""));

describe("any reply", () => {
  test("gives a verdict or a clear error", () => {
    const value = fc.oneof(text, fc.string({ unit: "binary" }), fc.jsonValue(), fc.constant(undefined));
    const message = fc.record({
      content: fc.oneof(value, fc.array(fc.record({ text: value, thinking: value }))),
      reasoning: value,
      tool_calls: fc.oneof(value, fc.array(fc.record({ function: fc.record({ arguments: value }) }))),
      function_call: fc.oneof(value, fc.record({ arguments: value })),
    });
    const bodies = fc.oneof(
      text,
      fc.string({ unit: "binary" }),
      fc.tuple(message, fc.constantFrom("stop", "length", null)).map(([m, finish]) => completion(m, finish)),
    );
    fc.assert(
      fc.property(bodies, (body) => {
        try {
          expect(Object.keys(readReply(body)).sort()).toEqual(Object.keys(VERDICT).sort());
        } catch (error) {
          expect(error).toBeInstanceOf(AegisError);
          expect(error).toMatchObject({ code: "model_reply" });
        }
      }),
      { numRuns: 2000 },
    );
  });

  /** No character is part of two pieces: what has been read is not read again, so the work is linear in the length. */
  function assertReadOnce(reply: string): void {
    const length = (sources: { source: string }[]) =>
      sources.reduce((sum, { source }) => sum + source.length, 0);
    const { answer, thinking } = splitReply(reply);
    expect(length([...answer, ...thinking])).toBeLessThanOrEqual(reply.length);
    expect(length(objectsIn(reply))).toBeLessThanOrEqual(reply.length);
  }
  test("each character is read once", () => {
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 200 }), (piece, times) =>
        assertReadOnce(piece.repeat(times)),
      ),
    );
  });
  for (const piece of PIECES) {
    test(`each character is read once: a MiB of ${JSON.stringify(piece.slice(0, 20))}`, () => {
      assertReadOnce(piece.repeat(MiB / piece.length));
    });
  }

  test("finds the objects that JSON.parse accepts", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 5 })),
        fc.boolean(),
        (object, pretty) => {
          const source = JSON.stringify(object, null, pretty ? 2 : 0);
          const [found, ...others] = objectsIn(`x }] ${source}`);
          expect(found).toEqual({ source, value: JSON.parse(source), problem: "" });
          expect(others).toEqual([]);
        },
      ),
    );
  });
});

describe("the JSON schema", () => {
  test("has a review's fields without those that Aegis fills in", () => {
    const own = ["schema_version", "plan_id", "plan_hash", "model", "prompt_hash", "created_at", "signature"];
    const asked = Object.keys(AiReview.entries).filter((name) => !own.includes(name));
    expect([...VERDICT_JSON_SCHEMA.required].sort()).toEqual(asked.sort());
    expect(Object.keys(VERDICT_JSON_SCHEMA.properties)).toEqual([...VERDICT_JSON_SCHEMA.required]);
    expect(VERDICT_JSON_SCHEMA.additionalProperties).toBe(false);
  });

  test("lists the values of each field", () => {
    expect(VERDICT_JSON_SCHEMA.properties).toMatchObject({
      risk: { type: "string", enum: ["low", "medium", "high", "deny"] },
      rollback_difficulty: { type: "string", enum: ["easy", "moderate", "hard"] },
      summary: { type: "string" },
      red_flags: { type: "array", items: { type: "string" } },
    });
  });

  test("has no length limits", () => {
    expect(JSON.stringify(VERDICT_JSON_SCHEMA)).not.toMatch(/m(?:in|ax)(?:Length|Items)|pattern/);
  });
});
