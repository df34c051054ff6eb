import { concerns, isTrustedReview } from "./policy-facts.ts";
import type { Rule } from "./policy-rule.ts";

/*
 * Rules about the review. They can only make a decision stricter.
 */

/** Without a review the first can fire; with one, the others. */
export const REVIEW: readonly Rule[] = [
  {
    id: "review-missing",
    looks_at: "review",
    decision: "require_human",
    reason: "the policy requires a review signed by one of its [review] public_keys",
    fires: (f) => f.config.review.required && !isTrustedReview(f),
  },
  {
    id: "review-denies",
    looks_at: "review",
    decision: "deny",
    reason: "the review advises against it",
    fires: (f) => f.review?.risk === "deny" || f.review?.recommendation === "deny",
  },
  {
    id: "review-wants-human",
    looks_at: "review",
    decision: "require_human",
    reason: "the review calls for a person's decision",
    fires: (f) => f.review !== null && concerns(f.review),
  },
  {
    id: "review-wants-snapshot",
    looks_at: "review",
    decision: "allow_with_snapshot",
    reason: "the review calls for a snapshot",
    fires: (f) =>
      f.review?.recommendation === "approve_with_snapshot" ||
      f.review?.required_controls.includes("system snapshot") === true,
  },
];
