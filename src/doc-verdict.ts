import * as v from "valibot";
import { AiReview } from "./doc.ts";

/*
 * The part of a review that the model writes. It lives here because both the prompt and the reply parser need it, and
 * the executor, which builds prompts to compare hashes, must not load the parser.
 */

/** In the order requested from the model: findings first, verdict last. */
export const Verdict = v.pick(AiReview, [
  "summary",
  "red_flags",
  "supply_chain_risk",
  "privilege_risk",
  "persistence_risk",
  "availability_risk",
  "rollback_difficulty",
  "risk",
  "required_controls",
  "recommendation",
]);
export type Verdict = v.InferOutput<typeof Verdict>;

/**
 * The verdict as a JSON schema, sent with the request. Without lengths: llama.cpp turns the schema into a grammar,
 * expands a length into that many repetitions, and refuses it ("number of repetitions exceeds sane defaults").
 */
export const VERDICT_JSON_SCHEMA = {
  type: "object",
  properties: Object.fromEntries(
    Object.entries(Verdict.entries).map(([name, field]) => [name, jsonSchemaOf(field)]),
  ),
  required: Object.keys(Verdict.entries),
  additionalProperties: false,
} as const;

type Field = (typeof Verdict.entries)[keyof typeof Verdict.entries];

function jsonSchemaOf(field: Field): object {
  switch (field.type) {
    case "picklist":
      return { type: "string", enum: field.options };
    case "array":
      return { type: "array", items: { type: field.item.type } };
    case "string":
      return { type: "string" };
  }
}
