import { keep, OBJECT_BEGIN, type ObjectInText, objectAt, objectsIn } from "./review-json.ts";

/*
 * Separates a model's answer from its thinking. Servers that know the model's format send the two separately; others leave
 * the model's marks in the text. The opening mark is missing if the prompt ended with it (DeepSeek-R1, Qwen3), the closing
 * one if the reply was truncated.
 */

/** Pairs of marks around thinking. Matched case-insensitively. */
const MARKS: readonly (readonly [open: string, close: string])[] = [
  // DeepSeek-R1, Qwen3, GLM, MiniMax and many others; the variants come from models that were prompted to think.
  ["<think>", "</think>"],
  ["<thinking>", "</thinking>"],
  ["<thought>", "</thought>"],
  ["<reasoning>", "</reasoning>"],
  ["<seed:think>", "</seed:think>"],
  // Magistral, Kimi, Cohere.
  ["[THINK]", "[/THINK]"],
  ["◁think▷", "◁/think▷"],
  ["<|START_THINKING|>", "<|END_THINKING|>"],
  // Gemma 4.
  ["<|channel>thought", "<channel|>"],
  // gpt-oss (OpenAI harmony), with and without its special tokens, which some servers drop.
  ["<|channel|>analysis", "<|channel|>final"],
  ["<|channel|>commentary", "assistantfinal"],
];

const escaped = (texts: readonly string[]) => texts.map((t) => t.replace(/[|[\]]/g, "\\$&")).join("|");
const OPEN = `${escaped(MARKS.map(([open]) => open))}|^\\s*analysis(?=[A-Z])`;
const CLOSE = escaped(MARKS.map(([, close]) => close));

export interface SplitReply {
  /** Objects in the answer, in order. */
  answer: ObjectInText[];
  /** Objects in the thinking: drafts. */
  thinking: ObjectInText[];
  /** Whether the answer has any text. */
  answered: boolean;
  /** The answer's text without its complete objects. */
  prose: string;
}

/**
 * Separates the objects in the answer from those in the thinking. Objects are read whole, so a mark inside one of their
 * strings is not taken for a mark.
 */
export function splitReply(text: string): SplitReply {
  const split: SplitReply = { answer: [], thinking: [], answered: false, prose: "" };
  const next = new RegExp(`(?<open>${OPEN})|(?<close>${CLOSE})|${OBJECT_BEGIN}`, "gi");
  const close = new RegExp(CLOSE, "gi");
  // A lone closing mark ends thinking that the prompt opened. No model starts its thinking with JSON.
  let mayHaveBegunThinking = !/^\s*(?:\{|```)/.test(text);
  let at = 0;
  for (;;) {
    next.lastIndex = at;
    const match = next.exec(text);
    const from = match?.index ?? text.length;
    const before = text.slice(at, from);
    split.answered ||= /\S/.test(before);
    split.prose += before;
    if (match === null) return split;
    at = next.lastIndex;
    if (match[0] === "{") {
      const found = objectAt(text, from);
      split.answered = true;
      split.prose += found.problem === "" ? "\n" : found.source;
      if (!keep(split.answer, found)) return split;
      at = from + found.source.length;
    } else if (match.groups?.["close"] !== undefined) {
      if (mayHaveBegunThinking) {
        for (const draft of split.answer) keep(split.thinking, draft);
        Object.assign(split, { answer: [], answered: false, prose: "" });
      }
    } else {
      close.lastIndex = at;
      const end = close.exec(text);
      for (const draft of objectsIn(text.slice(at, end?.index))) keep(split.thinking, draft);
      at = end === null ? text.length : close.lastIndex;
    }
    if (match[0] !== "{") mayHaveBegunThinking = false;
  }
}
