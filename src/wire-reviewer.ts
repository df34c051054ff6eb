import * as v from "valibot";
import { AegisError } from "./errors.ts";
import type { Call, Reply } from "./wire.ts";
import { REVIEWER_IDL } from "./wire-idl.ts";
import {
  type Interface,
  maybe,
  methodOf,
  nonNegative,
  readAnswer,
  readParameters,
  serviceError,
  shortText,
} from "./wire-service.ts";

/* The protocol of the reviewer's socket, io.aegis.Reviewer. The schemas check what wire-idl.ts defines. */

export const REVIEWER_INTERFACE: Interface = { name: "io.aegis.Reviewer", idl: REVIEWER_IDL };

const EventSchema = v.strictObject({
  kind: v.picklist(["waiting", "asking", "alive", "finished"]),
  place: maybe(nonNegative),
  elapsed_s: maybe(nonNegative),
  estimate_s: maybe(nonNegative),
  review: maybe(v.string()),
  reply: maybe(v.string()),
});
/** An event as read: absent members are null. */
export type ReviewEvent = v.InferOutput<typeof EventSchema>;
/** An event as written: absent members are omitted. */
export type ReviewEventInput = v.InferInput<typeof EventSchema>;

const StatusSchema = v.strictObject({
  model: shortText,
  public_key_hex: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a public key")),
  asking: nonNegative,
  waiting: nonNegative,
});
/** A reviewer's status: its model, the key that signs its reviews, and the number of plans in hand. */
export type ReviewerStatus = v.InferOutput<typeof StatusSchema>;

const ReviewParameters = v.strictObject({ plan: v.string() });

/**
 * Reads a call of io.aegis.Reviewer or of introspection; the latter is returned as the parameters of its answer.
 * @throws VarlinkError InterfaceNotFound, MethodNotFound or InvalidParameter of org.varlink.service
 */
export function readReviewerCall(
  call: Call,
): { method: "Review"; plan: string } | { method: "Status" } | { answer: Record<string, unknown> } {
  const named = methodOf(call, REVIEWER_INTERFACE);
  if ("answer" in named) return named;
  const { method } = named;
  switch (method) {
    case "Review":
      return { method, ...readParameters(ReviewParameters, call) };
    case "Status":
      readParameters(v.strictObject({}), call);
      return { method };
    default:
      throw serviceError("MethodNotFound", { method });
  }
}

/**
 * The event in a reply to Review.
 * @throws AegisError `protocol`
 */
export function readReviewEvent(reply: Reply): ReviewEvent {
  return readAnswer(v.strictObject({ event: EventSchema }), reply).event;
}

/**
 * The reply to Status.
 * @throws AegisError `protocol`
 */
export function readReviewerStatus(reply: Reply): ReviewerStatus {
  return readAnswer(StatusSchema, reply);
}

/** A model reply without a usable verdict. `reply` may go to a file, never to a screen or log. */
export class UnusableReply extends AegisError {
  readonly reply: string;

  constructor(cause: AegisError, reply: string) {
    super("model_reply", cause.message, cause.hint, cause.details);
    this.reply = reply;
  }
}
