import type { NewAuditEvent } from "./audit-event.ts";
import { reviewCompleted } from "./audit-subject.ts";
import { canonicalJson } from "./canonical.ts";
import type { AiReview, Hashed } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { AegisError, messageOf } from "./errors.ts";
import type { SecretKey } from "./key.ts";
import { signReview } from "./key-review-signature.ts";
import type { Log } from "./log.ts";
import type { makeReview } from "./review.ts";
import { buildPrompt } from "./review-prompt.ts";
import {
  type Ended,
  type ReviewMemory,
  type ReviewQueue,
  reviewMemory,
  reviewQueue,
} from "./review-queue.ts";
import type { ModelSettings } from "./review-settings.ts";
import { byteBudget } from "./wire-budget.ts";
import { countRefusals, type Refusals } from "./wire-refusals.ts";
import { REVIEWER_INTERFACE, readReviewerCall, UnusableReply } from "./wire-reviewer.ts";
import { REPLY_BYTES, REVIEWER_LIMITS, type ReviewerLimits } from "./wire-reviewer-limits.ts";
import { type Listen, startServer } from "./wire-server.ts";
import { refusalReply } from "./wire-service.ts";
import type { Service } from "./wire-session.ts";

/**
 * Counts refused requests and failed reviews, and records each as at most one event per `intervalMs`, so that neither a
 * flood of requests nor a model that is down fills the log.
 */
function auditReviewer(
  record: (event: NewAuditEvent) => void,
  intervalMs: number,
  log: Log,
): { refused: Refusals; failed: Refusals } {
  const counter = (kind: NewAuditEvent["kind"], what: string, word: string) =>
    countRefusals({
      async deliver(counted) {
        const total = counted.reduce((sum, { count }) => sum + count, 0);
        // request_sha256 is the digest of the plan's text, and so the plan's hash.
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

export interface ReviewerOptions {
  listen: Listen;
  settings: ModelSettings;
  /** Signs every review. */
  secret: SecretKey;
  makeReview: typeof makeReview;
  /** Writes an event to the audit log. */
  record(event: NewAuditEvent): void;
  limits?: Partial<ReviewerLimits>;
  log: Log;
}

/**
 * Starts the reviewer: asks the model about plans on behalf of local clients and signs its reviews. Needs no privileges.
 * `close` aborts running reviews and sends waiting clients an error.
 * @throws AegisError `exists` if another daemon owns the socket path, `unavailable` with too few file descriptors, `io`
 */
export async function serveReviewer(options: ReviewerOptions): Promise<{ close(): Promise<void> }> {
  const { listen, settings, log } = options;
  const limits = { ...REVIEWER_LIMITS, ...options.limits };
  const budget = byteBudget(limits);
  const audit = auditReviewer(options.record, limits.reportMs, log);
  const failed = (plan_hash: string, uid: number, error: unknown) => {
    const code = error instanceof AegisError ? error.code : "internal";
    log[code === "internal" ? "error" : "debug"]("a review failed", { code, problem: messageOf(error) });
    audit.failed.add({ code, uid, request_sha256: plan_hash, execution_id: null });
  };
  const memory = reviewMemory();
  const queue = reviewQueue({
    limits,
    budget,
    estimate: (plan) => Math.ceil(settings.timeoutMs(buildPrompt(plan).chars) / 1000),
    async ask(plan, uid, signal) {
      try {
        return await review(plan, uid, signal, memory, options);
      } catch (error) {
        failed(plan.hash, uid, error);
        return { error };
      }
    },
  });
  const service: Service = {
    title: "the reviewer",
    interface: REVIEWER_INTERFACE,
    start: reviewerCalls(queue, options),
    refused: (refusal) => audit.refused.add({ ...refusal, execution_id: null }),
  };
  const server = await startServer({ listen, service, limits, budget, descriptorsPerClient: 1, log });
  return {
    async close() {
      await queue.close();
      await server.close();
      await Promise.all([audit.refused.close(), audit.failed.close()]);
    },
  };
}

/** One review, signed and in the audit log before it is sent. */
async function review(
  plan: Hashed<OperationPlan>,
  uid: number,
  signal: AbortSignal,
  memory: ReviewMemory,
  { makeReview, settings, secret, record, log }: ReviewerOptions,
): Promise<Ended> {
  const since = performance.now();
  const prompt = buildPrompt(plan.document).hash;
  const now = new Date();
  const before = memory.recall(prompt, now);
  const answer = before ?? (await makeReview(plan, settings, { signal }));
  // Another plan with the same evidence may have been answered in the meantime.
  const said = memory.recall(prompt, now) ?? answer;
  const remembered = before !== null || said !== answer;
  const made = { ...said, review: ofPlan(said.review, plan) };
  if (!fits(made.reply)) {
    throw new AegisError("model_reply", `the model's reply is longer than ${REPLY_BYTES} bytes`);
  }
  if (!remembered) memory.keep(prompt, made, new Date());
  const signed = signReview(made.review, secret);
  const seconds = Math.round((performance.now() - since) / 1000);
  record(reviewCompleted(signed, { requested_by: `uid ${uid}`, seconds, remembered }));
  log.info("reviewed", { plan: signed.plan_id, risk: signed.risk, seconds, remembered });
  return { review: canonicalJson(signed), reply: made.reply };
}

/** An answer to the same prompt, as a review of this plan. */
function ofPlan(said: AiReview, plan: Hashed<OperationPlan>): AiReview {
  const { plan_id } = plan.document;
  return { ...said, plan_id, plan_hash: plan.hash, created_at: new Date().toISOString() };
}

/** Whether a reply is short enough to send. */
function fits(reply: string): boolean {
  return Buffer.byteLength(JSON.stringify(reply)) <= REPLY_BYTES;
}

function reviewerCalls(queue: ReviewQueue, { settings, secret }: ReviewerOptions): Service["start"] {
  return (call, caller, { send, done }) => {
    const request = readReviewerCall(call);
    if ("answer" in request) {
      send({ parameters: request.answer });
      return null;
    }
    if (request.method === "Status") {
      const { model } = settings;
      send({ parameters: { model, public_key_hex: secret.publicKeyHex, ...queue.count() } });
      return null;
    }
    const place = queue.join(request.plan, caller.uid, {
      event: (event) => {
        if (call.more) send({ parameters: { event }, continues: true });
      },
      end: (result) => {
        send(
          "error" in result
            ? refusal(result.error)
            : { parameters: { event: { kind: "finished", ...result } } },
        );
        done();
      },
    });
    return { stop: place.leave, uncounted: false };
  };
}

/** The error reply. It carries the model's reply even if that is unusable, so that the user can look at it. */
function refusal(error: unknown): object {
  const answer = refusalReply(error, REVIEWER_INTERFACE);
  if (!(error instanceof UnusableReply) || !fits(error.reply)) return answer;
  return {
    ...answer,
    parameters: { ...answer.parameters, details: { ...error.details, reply: error.reply } },
  };
}
