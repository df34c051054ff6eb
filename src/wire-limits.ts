import type { ServerLimits } from "./wire-session.ts";

/** Runner processes at a time. */
export const RUNNER_SLOTS = 64;

/** Limits of one front process. Times in milliseconds. */
export const FRONT_LIMITS = {
  /** Connections at a time: in total, and per uid (root included) not counting its verified submissions. */
  clients: 64,
  clientsPerUid: 8,
  /**
   * Apply calls that the runner has not finished answering, whether or not their client is still connected; Watch calls
   * to other executions; and each per uid. Together with `requests`, one Status and one Report they must fit into the runner's
   * slots, so that no user can lock out the others. As in the runner's queue, only `applies` limits root's plans.
   */
  applies: 32,
  appliesPerUid: 24,
  watches: 12,
  watchesPerUid: 4,
  /**
   * Calls about requests that the runner has not finished answering, or whose answer the client has not taken; and per uid, root
   * included. They are short, except for a client that doesn't prove who it is: that takes ten seconds.
   */
  requests: 16,
  requestsPerUid: 3,
  /** Clients that wait for a request. They are the front's alone, and count towards no other limit. */
  watchers: 256,
  watchersPerUid: 16,
  /** Time within which a runner notices that its watcher is gone, and ends. */
  noticeMs: 1000,
  /** How long to wait for a runner's answer to Status. */
  statusMs: 30_000,
  /** Deadline for a complete request, counted from the connection or the last answer. */
  requestMs: 10_000,
  /** Interval of `alive` events while the runner is silent. */
  aliveMs: 15_000,
  /** Limit on unread answers, in bytes; a client over it is dropped. */
  unreadBytes: 1024 * 1024,
  /** Memory for large requests not yet being answered: in total, and per uid. */
  bytes: 12 * 1024 * 1024,
  bytesPerUid: 6 * 1024 * 1024,
  /** Refused connections kept open, and for how long, so that clients can read why. Enough for a burst of clients. */
  lingering: 256,
  lingerMs: 1000,
  /** Least interval between reports of refusals to the runner. */
  reportMs: 1000,
} satisfies ServerLimits & Record<string, number>;
export type FrontLimits = typeof FRONT_LIMITS;
