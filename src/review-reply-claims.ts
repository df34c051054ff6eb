import { AiReview } from "./doc.ts";

/*
 * Statements in a reply besides the verdict found in it. The model's real verdict may be in prose or in broken JSON
 * (`{risk: "deny"}`, `"risk": "Deny"`, an extra quotation mark), while the well-formed one only quotes what the evidence
 * told the model to answer.
 */

/** A verdict's words, mildest first; words at the same index are equally severe. */
const SCALES: readonly (readonly string[])[] = [
  AiReview.entries.risk.options,
  AiReview.entries.recommendation.options,
];
/** Longest first; in prose, a space or a hyphen may replace `_`. */
const WORDS = SCALES.flat()
  .toSorted((a, b) => b.length - a.length)
  .map((word) => word.replaceAll("_", "[_ -]"))
  .join("|");
/** "overall risk: medium" is about the whole plan, "supply chain risk: medium" is not. */
const RISK = String.raw`(?:(?<![\p{L}\p{N}_][ \t_-]{0,3})|(?<=\b(?:the|my|overall|final|total)[ \t_]{1,3}))risk(?: level)?`;
const MARKUP = "[\"'`*_\\\\\\s]{0,8}";
const STATED = new RegExp(
  `(?:${RISK}|(?<!\\p{L})(?:recommendation|verdict|decision))${MARKUP}[:=]${MARKUP}(${WORDS})(?![\\p{L}_])`,
  "giu",
);

/** The severity of a verdict's word, from 0 to 3 (deny). */
function gravity(word: string): number {
  return Math.max(...SCALES.map((scale) => scale.indexOf(word)));
}

/**
 * Whether the text states a risk or recommendation more severe than both of the verdict's, such as `risk: deny`, whatever
 * its quotes, case or markup. Linear time.
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
