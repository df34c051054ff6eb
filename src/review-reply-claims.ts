import { AiReview } from "./doc.ts";

/*
 * What a reply says beside the verdict that was found in it. A verdict can be spelled in a way that no JSON parser reads
 * (`{risk: "deny"}`, `"risk": "Deny"`, a quotation mark too many) or in prose, and a well-formed one beside it can be a
 * quotation of what the evidence told the model to answer.
 */

/** Words of a verdict, lax ones first; those in one place are as grave as each other. */
const SCALES: readonly (readonly string[])[] = [
  AiReview.entries.risk.options,
  AiReview.entries.recommendation.options,
];
/** Longest first, and with what stands for `_` in prose. */
const WORDS = SCALES.flat()
  .toSorted((a, b) => b.length - a.length)
  .map((word) => word.replaceAll("_", "[_ -]"))
  .join("|");
/** "supply chain risk: medium" is not said about the whole, "overall risk: medium" is. */
const RISK = String.raw`(?:(?<![\p{L}\p{N}_][ \t_-]{0,3})|(?<=\b(?:the|my|overall|final|total)[ \t_]{1,3}))risk(?: level)?`;
const MARKUP = "[\"'`*_\\\\\\s]{0,8}";
const STATED = new RegExp(
  `(?:${RISK}|(?<!\\p{L})(?:recommendation|verdict|decision))${MARKUP}[:=]${MARKUP}(${WORDS})(?![\\p{L}_])`,
  "giu",
);

/** How grave a word of a verdict is, from 0 to 3 (deny). */
function gravity(word: string): number {
  return Math.max(...SCALES.map((scale) => scale.indexOf(word)));
}

/**
 * Whether the text states a risk or a recommendation that is graver than both of the verdict: `risk: deny`, in whatever
 * quotation marks, capitals or markup. A laxer one takes nothing away. Takes time by the text's length.
 */
export function statesGraver(
  text: string,
  { risk, recommendation }: Pick<AiReview, "risk" | "recommendation">,
): boolean {
  const found = Math.max(gravity(risk), gravity(recommendation));
  return text
    .matchAll(STATED)
    .some(([, word = ""]) => gravity(word.toLowerCase().replace(/[ -]/g, "_")) > found);
}
