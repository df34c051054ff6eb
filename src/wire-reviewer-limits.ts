import type { ServerLimits } from "./wire-session.ts";

/** Limits of one reviewer process. Times in milliseconds. */
export const REVIEWER_LIMITS = {
  /** Connections at a time: in total, and per uid. */
  clients: 256,
  clientsPerUid: 64,
  /** Plans at the model at a time. A local model answers two in parallel hardly faster than one after the other. */
  asking: 2,
  /** Of these, per uid, so that one user can't occupy a slow model. */
  askingPerUid: 1,
  /** Different plans waiting for the model: in total, and per uid including those at the model. */
  waiting: 32,
  plansPerUid: 16,
  /** Deadline for a complete request, counted from the connection or the last answer. */
  requestMs: 10_000,
  /** Interval of `alive` events to waiting clients. */
  aliveMs: 15_000,
  /** Limit on unread answers, in bytes; a client over it is dropped. One answer is always smaller: see REPLY_BYTES. */
  unreadBytes: 1536 * 1024,
  /** Memory for requests not yet being answered and plans waiting: in total, and per uid. */
  bytes: 32 * 1024 * 1024,
  bytesPerUid: 16 * 1024 * 1024,
  /** Refused connections kept open, and for how long, so that clients can read why. */
  lingering: 16,
  lingerMs: 1000,
  /** Least interval between audit log entries about refusals and failures. */
  reportMs: 60_000,
  /** On shutdown: time for calls to the model to notice that they were aborted. */
  stopMs: 500,
} satisfies ServerLimits & Record<string, number>;
export type ReviewerLimits = typeof REVIEWER_LIMITS;

/** Longest raw reply passed to a client, in bytes of JSON text. Far more than the model's token limit allows. */
export const REPLY_BYTES = 1024 * 1024;
