import type { ServerLimits } from "./wire-session.ts";

/** What one reviewer puts up with. Times in milliseconds. */
export const REVIEWER_LIMITS = {
  /** Connections at a time, from everybody, and from one uid. */
  clients: 256,
  clientsPerUid: 64,
  /** Plans at the model at once. A local model answers two at once hardly faster than one after the other. */
  asking: 2,
  /** Of these, plans that one uid came with: a slow model's slots are not one user's alone. */
  askingPerUid: 1,
  /** Different plans that wait for it, of everybody together, and of one uid with those that it has at the model. */
  waiting: 32,
  plansPerUid: 16,
  /** A complete request must be there after this time, counted from the connection or the last answer. */
  requestMs: 10_000,
  /** Who waits hears something this often. */
  aliveMs: 15_000,
  /** Answers a client has not read, in bytes; beyond that it is dropped. A whole answer is smaller: see REPLY_BYTES. */
  unreadBytes: 1536 * 1024,
  /** Requests that nobody has begun to answer and plans that wait, in memory: of everybody together, and of one uid. */
  bytes: 32 * 1024 * 1024,
  bytesPerUid: 16 * 1024 * 1024,
  /** Connections, and time, spent on letting refused clients read why. */
  lingering: 16,
  lingerMs: 1000,
  /** Refusals and failures are written to the audit log no more often than this. */
  reportMs: 60_000,
  /** At the end: what calls to the model may take to notice that they are aborted. */
  stopMs: 500,
} satisfies ServerLimits & Record<string, number>;
export type ReviewerLimits = typeof REVIEWER_LIMITS;

/** Longest raw reply that is passed on to a client, in bytes as JSON text. It is far more than the tokens it may have. */
export const REPLY_BYTES = 1024 * 1024;
