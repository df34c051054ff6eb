import type { AiReview } from "./doc.ts";
import { reviewIsSignedBy } from "./key-review-signature.ts";
import type { Facts, Rule } from "./policy-rule.ts";
import { plural } from "./terminal.ts";

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

/** Whether the review is signed by one of the policy's reviewers. */
function isTrustedReview(f: Facts): boolean {
  return f.review !== null && reviewIsSignedBy(f.review, f.config.review.public_keys);
}

/** Reasons in a review that call for a person's decision. Fixed texts: signed documents contain no text by a model. */
function concerns(review: AiReview): string[] {
  const levels = ["supply_chain_risk", "privilege_risk", "persistence_risk", "availability_risk"] as const;
  const found = levels.filter((level) => review[level] === "high").map((level) => `${level} is high`);
  if (review.risk === "high") found.unshift("risk is high");
  if (review.red_flags.length > 0) found.push(plural(review.red_flags.length, "red flag"));
  if (review.recommendation === "require_human") found.push("it recommends human approval");
  if (review.required_controls.includes("human approval")) found.push("it lists human approval as a control");
  return found;
}
