import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { type CallOptions, callService, type RemoteService } from "./wire-client.ts";
import {
  REVIEWER_INTERFACE,
  type ReviewEvent,
  type ReviewerStatus,
  readReviewEvent,
  readReviewerStatus,
  UnusableReply,
} from "./wire-reviewer.ts";

const SERVICE: RemoteService = {
  interface: REVIEWER_INTERFACE,
  title: "the reviewer",
  group: "aegis-review",
  startHint: "Start it: sudo systemctl start aegis-reviewd.service; or ask the model yourself: --direct",
  brokenHint: "Try again; nothing was changed.",
};

/**
 * Has the reviewer at a socket review a plan, given as canonical JSON text. Resolves with the review's canonical JSON
 * text and the raw reply of the model's server. Neither is checked here.
 * @throws AegisError as the reviewer refused, or as {@link callService}; UnusableReply
 */
export async function callReviewer(
  socketPath: string,
  plan: string,
  options: CallOptions<ReviewEvent> = {},
): Promise<{ review: string; reply: string }> {
  const call = { method: "Review", parameters: { plan }, more: true };
  const { review, reply } = await callService(socketPath, SERVICE, call, readReviewEvent, options).catch(
    (error: unknown) => {
      throw withReply(withSettings(error));
    },
  );
  if (review === null || reply === null)
    throw new AegisError("protocol", "the reviewer ended without a review");
  return { review, reply };
}

/**
 * The status of the reviewer at a socket.
 * @throws AegisError as {@link callService}
 */
export function reviewerStatus(
  socketPath: string,
  options: Pick<CallOptions<ReviewerStatus>, "signal" | "silenceMs"> = {},
): Promise<ReviewerStatus> {
  const call = { method: "Status", parameters: {}, more: false };
  return callService(socketPath, SERVICE, call, readReviewerStatus, options);
}

/** Adds where to change the service's settings: it ignores the caller's variables. */
function withSettings(error: unknown): unknown {
  if (!(error instanceof AegisError) || !error.hint.includes("AEGIS_AI_")) return error;
  const where = `The service reads it from ${SYSTEM.reviewerEnv} (edit as root; then: systemctl restart aegis-reviewd.service).`;
  return new AegisError(error.code, error.message, `${error.hint} ${where}`, error.details);
}

/** Treats the model's reply as with --direct: it is kept out of what is printed. */
function withReply(error: unknown): unknown {
  if (!(error instanceof AegisError) || error.code !== "model_reply") return error;
  const { reply, ...details } = error.details;
  const plain = new AegisError(error.code, error.message, error.hint, details);
  return typeof reply === "string" ? new UnusableReply(plain, reply) : plain;
}
