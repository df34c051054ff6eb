import type { ServerLimits } from "./wire-session.ts";

/** Runners at once. */
export const RUNNER_PLACES = 48;

/** What one front puts up with. Times in milliseconds. */
export const FRONT_LIMITS = {
  /** Connections at a time, from everybody, and from one uid beside its verified submissions (root is no exception). */
  clients: 64,
  clientsPerUid: 8,
  /**
   * Apply calls that the runner has not answered to the end, whether their client is still there or not; those who watch other
   * executions; and of each, one uid's. With one for the status and one for refusals they have to fit into the runner's
   * slots, so that nobody keeps everybody else out. As in the runner's own queue, root's plans are bounded by `applies` alone.
   */
  applies: 32,
  appliesPerUid: 24,
  watches: 12,
  watchesPerUid: 4,
  /** A runner whose watcher has left sees that, and ends, within this time. */
  noticeMs: 1000,
  /** A runner that has not told its status after this time is not waited for. */
  statusMs: 30_000,
  /** A complete request must be there after this time, counted from the connection or the last answer. */
  requestMs: 10_000,
  /** A silent runner is covered with `alive` events this often. */
  aliveMs: 15_000,
  /** Answers a client has not read, in bytes; beyond that it is dropped. */
  unreadBytes: 1024 * 1024,
  /** Large requests that nobody has begun to answer, kept in memory: of everybody together, and of one uid. */
  bytes: 12 * 1024 * 1024,
  bytesPerUid: 6 * 1024 * 1024,
  /** Connections, and time, spent on letting refused clients read why: enough for a crowd that comes at once. */
  lingering: 256,
  lingerMs: 1000,
  /** Refusals are reported to the runner no more often than this. */
  reportMs: 1000,
} satisfies ServerLimits & Record<string, number>;
export type FrontLimits = typeof FRONT_LIMITS;
