import type { NewAuditEvent } from "./audit-event.ts";
import { canonicalHash } from "./canonical.ts";
import type { AiReview } from "./documents.ts";
import { messageOf } from "./errors.ts";
import type { Log } from "./log.ts";
import { countRefusals, type Refusals } from "./refusals.ts";

/** The event of a review that was made. `details` are added to what the review says of itself. */
export function reviewCompleted(review: AiReview, details: Record<string, unknown> = {}): NewAuditEvent {
  const { plan_id, plan_hash, model, prompt_hash, risk, recommendation, signature } = review;
  const key_id = signature?.key_id ?? null;
  return {
    kind: "review_completed",
    plan_id,
    decision: recommendation,
    details: {
      plan_hash,
      ai_review_hash: canonicalHash(review),
      model,
      prompt_hash,
      risk,
      key_id,
      ...details,
    },
  };
}

/**
 * What a reviewer refuses, and the reviews that fail, added up: one event of each kind in `intervalMs` at the most, so that
 * neither a flood of requests nor a model that is down fills the log. `record` writes an event.
 */
export function auditReviewer(
  record: (event: NewAuditEvent) => void,
  intervalMs: number,
  log: Log,
): { refused: Refusals; failed: Refusals } {
  const counter = (kind: NewAuditEvent["kind"], what: string, word: string) =>
    countRefusals({
      async deliver(counted) {
        const total = counted.reduce((sum, { count }) => sum + count, 0);
        // The digest of a plan's text is the plan's hash.
        const list = counted.map(({ code, count, uid, request_sha256 }) => ({
          code,
          count,
          uid,
          request_sha256,
        }));
        try {
          record({ kind, details: { count: total, [word]: list } });
          return null;
        } catch (error) {
          return new Error(messageOf(error));
        }
      },
      intervalMs,
      log,
      what,
      undelivered: "the audit log can't take",
    });
  return {
    refused: counter("requests_refused", "refused requests", "refusals"),
    failed: counter("review_failed", "failed reviews", "failures"),
  };
}
