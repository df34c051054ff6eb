import * as v from "valibot";
import { canonicalJson } from "./canonical.ts";
import { Verdict } from "./doc-verdict.ts";
import { AegisError } from "./errors.ts";
import { type ObjectInText, objectAt, objectsIn } from "./review-json.ts";
import { statesGraver } from "./review-reply-claims.ts";
import { splitReply } from "./review-reply-text.ts";
import { HINT_BASE_URL } from "./review-settings.ts";

/** Limit on a verdict, in characters. The prompt asks for a page; this is thirty. */
const MAX_VERDICT = 64 * 1024;

const Completion = v.object({
  choices: v.pipe(
    v.array(
      v.object({
        message: v.object({
          content: v.optional(v.unknown()),
          refusal: v.optional(v.unknown()),
          reasoning: v.optional(v.unknown()),
          reasoning_content: v.optional(v.unknown()),
          tool_calls: v.nullish(v.array(v.object({ function: v.optional(v.unknown()) }))),
          function_call: v.optional(v.unknown()),
        }),
        finish_reason: v.nullish(v.string()),
      }),
    ),
    v.minLength(1),
    v.maxLength(16),
  ),
});
type Choice = v.InferOutput<typeof Completion>["choices"][number];

/**
 * The verdict in the body of a chat completion. It is read from the answer: the message's content without its thinking,
 * and the arguments of tool calls. If the answer is empty (some servers take the whole reply for thinking), it is read
 * from the thinking, provided that it ends with the verdict and was not truncated. The verdict may be repeated. A second,
 * different one, a malformed one, or a more severe statement in the text around it makes the reply unusable.
 * @throws AegisError `model_reply`
 */
export function readReply(body: string): Verdict {
  const verdicts = choicesOf(body).map(verdictOf);
  const [first, ...others] = verdicts;
  if (first === undefined || others.some((other) => canonicalJson(other) !== canonicalJson(first))) {
    throw unusable("its choices differ");
  }
  return first;
}

function choicesOf(body: string): Choice[] {
  const start = /^[\uFEFF \t\r\n]*/.exec(body)?.[0].length ?? 0;
  const { source, value, problem } = objectAt(body, start);
  if (problem !== "" || /[^ \t\r\n]/.test(body.slice(start + source.length))) {
    throw unusable(`the server's answer is ${problem === "syntax" ? "not a JSON object" : WHY[problem]}`);
  }
  const completion = v.safeParse(Completion, value);
  if (completion.success) return completion.output.choices;
  throw unusable("the server's answer is not a chat completion", HINT_BASE_URL);
}

function verdictOf({ message, finish_reason }: Choice): Verdict {
  const { answer, thinking, refusal } = textsOf(message.content);
  const split = splitReply(answer);
  const calls = [message.function_call, ...(message.tool_calls ?? []).map((call) => call.function ?? call)];
  const inAnswer = [...split.answer, ...calls.flatMap(objectsInCall)];
  const empty = inAnswer.length === 0 && !split.answered && calls.every((call) => !isRecord(call));
  const cut = finish_reason === "length" && (empty || inAnswer.at(-1)?.problem === "syntax");
  if (finish_reason === "content_filter" || refusal || (message.refusal || "") !== "") {
    throw unusable("the model refused");
  }
  const thoughts = [thinking, message.reasoning, message.reasoning_content].filter(
    (text) => typeof text === "string",
  );
  const drafts = () => [...split.thinking, ...thoughts.flatMap(objectsIn)];
  const found = cut ? null : judge(empty ? drafts() : inAnswer);
  if (found !== null) {
    if (empty && ![answer, ...thoughts].every(endsAsAnswer)) {
      throw unusable("it is empty, and its thinking continues after the verdict");
    }
    const beside = inAnswer.map(({ source, value }) => (isClaim(value) ? "" : source)).join("\n");
    if (!empty && statesGraver(`${split.prose}\n${beside}`, found)) {
      throw unusable("its text states something more severe than its verdict");
    }
    return found;
  }
  if (finish_reason !== "length") throw unusable(empty ? "it is empty" : "it contains no verdict");
  throw unusable(
    "it reached the token limit before its verdict was complete",
    "Raise AEGIS_AI_MAX_OUTPUT_TOKENS, or switch the model's thinking off.",
  );
}

/** Whether nothing follows the last object: an object that thinking only quotes is followed by more thinking. */
function endsAsAnswer(text: string): boolean {
  const end = text.lastIndexOf("}");
  return end === -1 || /^[\s`]*(?:<[^<>]{1,40}>[\s`]*)*$/.test(text.slice(end + 1));
}

/** The texts of a message's content: a string, or an array of parts (Mistral), some of them thinking. */
function textsOf(content: unknown): { answer: string; thinking: string; refusal: boolean } {
  const texts = { answer: "", thinking: "", refusal: false };
  if (typeof content === "string") return { ...texts, answer: content };
  for (const part of Array.isArray(content) ? content : []) {
    if (typeof part === "string") texts.answer += part;
    else if (isRecord(part) && part["type"] === "refusal") texts.refusal = true;
    else if (isRecord(part) && "thinking" in part) texts.thinking += textsOf(part["thinking"]).answer;
    else if (isRecord(part) && typeof part["text"] === "string") texts.answer += part["text"];
  }
  return texts;
}

/** A call's arguments are a JSON string; some servers send the object itself. */
function objectsInCall(call: unknown): ObjectInText[] {
  const given = isRecord(call) ? call["arguments"] : undefined;
  if (typeof given === "string") return objectsIn(given);
  return isRecord(given) ? [{ source: "", value: given, problem: "" }] : [];
}

const LEGAL = [...Verdict.entries.risk.options, ...Verdict.entries.recommendation.options];
/** Recognises a verdict in text that is not valid JSON. */
const BROKEN_CLAIM = new RegExp(`"(?:risk|recommendation)"\\s*:\\s*"(?:${LEGAL.join("|")})"`);

/** The one verdict among the objects, or null. Looks inside wrappers such as `{"arguments": {…}}`. */
function judge(objects: readonly ObjectInText[]): Verdict | null {
  const verdicts = new Map<string, Verdict>();
  for (const { source, value, problem } of objects) {
    const fatal = problem === "depth" || problem === "too-many";
    if (fatal || (problem !== "" && BROKEN_CLAIM.test(source))) {
      throw unusable(`it contains an object that is ${WHY[problem]}`);
    }
    for (const claim of claimsIn(value)) {
      const verdict = parseVerdict(claim);
      verdicts.set(canonicalJson(verdict), verdict);
    }
  }
  if (verdicts.size > 1) throw unusable("it contains two different verdicts");
  return verdicts.values().next().value ?? null;
}

/** Objects with a valid `risk` or `recommendation`; a mere template of a verdict has neither. */
function* claimsIn(value: unknown): Generator<object> {
  if (typeof value !== "object" || value === null) return;
  if (isClaim(value)) yield value;
  else for (const member of Object.values(value)) yield* claimsIn(member);
}

function isClaim(value: unknown): boolean {
  const { risk, recommendation }: Record<string, unknown> = isRecord(value) ? value : {};
  return LEGAL.some((word) => word === risk || word === recommendation);
}

function parseVerdict(claim: object): Verdict {
  const result = v.safeParse(Verdict, claim, { abortEarly: true });
  if (!result.success) throw unusable(`its verdict is malformed: ${wrong(result.issues[0])}`);
  const { output } = result;
  // A lone surrogate has no canonical form, so the text could not be signed.
  const texts = Object.values(output).flat();
  if (!texts.every((text) => text.isWellFormed())) {
    throw unusable("its verdict is not well-formed Unicode");
  }
  if (canonicalJson(output).length > MAX_VERDICT) {
    throw unusable(`its verdict is longer than ${MAX_VERDICT} characters`);
  }
  return output;
}

/** Describes an issue without valibot's message, which repeats the model's text. */
function wrong(issue: v.BaseIssue<unknown>): string {
  const name = String(issue.path?.[0]?.key);
  if (!Object.hasOwn(Verdict.entries, name)) return "it has an unknown field";
  return issue.received === "undefined" ? `${name} is missing` : `${name} is not ${issue.expected}`;
}

const WHY = {
  "": "followed by other text",
  syntax: "not JSON",
  "duplicate-key": "JSON with a duplicate name in an object",
  depth: "nested too deeply",
  "too-many": "one of too many",
} as const;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unusable(
  why: string,
  hint = "Another model may do better (AEGIS_AI_MODEL). A review is optional unless policy requires one.",
): AegisError {
  return new AegisError("model_reply", `the model's reply can't be used: ${why}`, hint);
}
