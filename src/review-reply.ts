import type { AiReview } from "./documents.ts";
import { AegisError } from "./errors.ts";

/** The part of a review that the model writes. */
export type Verdict = Pick<
  AiReview,
  | "risk"
  | "summary"
  | "supply_chain_risk"
  | "privilege_risk"
  | "persistence_risk"
  | "availability_risk"
  | "rollback_difficulty"
  | "red_flags"
  | "required_controls"
  | "recommendation"
>;

/** The verdict as a JSON schema. */
export const VERDICT_JSON_SCHEMA = {};

/**
 * The one verdict in the body of a chat completion.
 * @throws AegisError `model_reply`
 */
export function readReply(_body: string): Verdict {
  throw new AegisError("model_reply", "not built yet");
}
