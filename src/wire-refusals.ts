import type { Log } from "./log.ts";
import { openCall } from "./wire-client.ts";
import { EXECUTOR, MAX_REFUSALS, type Refusal, replyError } from "./wire-executor.ts";

/** Pseudo-uid of further users once too many are counted. */
const OTHER_UIDS = -1;
const REPORT_TIMEOUT_MS = 30_000;
/** Least time between two lines in the service's log; the audit log records each delivery. */
const LOG_MS = 10_000;
/** Codes and uids listed in one line. */
const NAMED = 5;

export interface Refusals {
  /** Counts one refusal, without I/O. Unknown members are null. */
  add(refusal: Omit<Refusal, "count">): void;
  /** Delivers the remaining counts, once, and stops counting. */
  close(): Promise<void>;
}

interface Delivery {
  /** Delivers counted refusals; resolves with the error, or null. */
  deliver(refusals: Refusal[]): Promise<Error | null>;
  /** Least time between two deliveries. */
  intervalMs: number;
  log: Log;
  /** For the log: `refused requests`, and `can't report to the runner:`. */
  what: string;
  undelivered: string;
}

/**
 * Reports the front's refusals to the runner: at most one message per `intervalMs`, counted by code and uid. Nothing
 * waits for it. While the runner is unreachable the counts are kept, in bounded memory.
 */
export function reportRefusals(runnerPath: string, intervalMs: number, log: Log): Refusals {
  return countRefusals({
    deliver: (refusals) => report(runnerPath, refusals),
    intervalMs,
    log,
    what: "refused requests",
    undelivered: "can't report to the runner:",
  });
}

/**
 * Counts refusals by code and uid and delivers them: the first at once, the rest in batches. Counts that can't be
 * delivered are kept, in bounded memory.
 */
export function countRefusals({ deliver, intervalMs, log, what, undelivered }: Delivery): Refusals {
  let counts = new Map<string, Refusal>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sending: Promise<void> | null = null;
  let closed = false;
  const lines = tally(log, what, undelivered);

  const add = (refusal: Refusal) => {
    const key = `${refusal.code} ${refusal.uid}`;
    const before = counts.get(key);
    if (before !== undefined) {
      before.count += refusal.count;
      if (before.request_sha256 !== refusal.request_sha256) before.request_sha256 = null;
      if (before.execution_id !== refusal.execution_id) before.execution_id = null;
    } else if (counts.size < MAX_REFUSALS - 1 || refusal.uid === OTHER_UIDS) {
      counts.set(key, refusal);
    } else {
      add({
        code: "refused",
        count: refusal.count,
        uid: OTHER_UIDS,
        request_sha256: null,
        execution_id: null,
      });
    }
  };

  /** Sends now and starts the timer, so that the next message is at least one interval later. */
  const send = () => {
    timer = undefined;
    if (counts.size === 0) return;
    const sent = [...counts.values()];
    counts = new Map();
    if (!closed) timer = setTimeout(tick, intervalMs);
    sending = deliver(sent).then((problem) => {
      sending = null;
      if (problem === null) return lines.delivered(sent);
      lines.failed(sent, problem);
      for (const refusal of sent) add(refusal);
      if (timer === undefined && !closed) timer = setTimeout(tick, intervalMs);
    });
  };
  const tick = () => {
    timer = undefined;
    if (sending === null) send();
    else timer = setTimeout(tick, intervalMs);
  };

  return {
    add(refusal) {
      if (closed) return;
      add({ ...refusal, count: 1 });
      if (timer === undefined && sending === null) send();
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await sending;
      send();
      await sending;
      lines.flush();
    },
  };
}

/**
 * Log lines about deliveries: the first at once, then one per interval with everything since; a failure is logged once,
 * and again when it ends.
 */
function tally(log: Log, what: string, undelivered: string) {
  let waiting: Refusal[] = [];
  let last = Number.NEGATIVE_INFINITY;
  let failing = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (waiting.length === 0) return;
    log.warn(what, summaryOf(waiting));
    waiting = [];
    last = performance.now();
  };
  return {
    delivered(sent: readonly Refusal[]) {
      if (failing) log.info("delivered after an earlier failure", { what });
      failing = false;
      for (const refusal of sent) {
        const same = waiting.find(({ code, uid }) => code === refusal.code && uid === refusal.uid);
        if (same === undefined) waiting.push({ ...refusal });
        else same.count += refusal.count;
      }
      const pause = last + LOG_MS - performance.now();
      if (pause <= 0) flush();
      else timer ??= setTimeout(flush, pause);
    },
    failed(sent: readonly Refusal[], problem: Error) {
      if (!failing) log.error(`${undelivered} ${what}`, { ...summaryOf(sent), problem: problem.message });
      failing = true;
    },
    flush,
  };
}

/** `{ count: 3, codes: "replay 2, expired 1", uids: "1000" }` */
function summaryOf(refusals: readonly Refusal[]): { count: number; codes: string; uids: string } {
  const codes = new Map<string, number>();
  for (const { code, count } of refusals) codes.set(code, (codes.get(code) ?? 0) + count);
  const named = [...codes].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${code} ${count}`);
  const uids = [...new Set(refusals.map(({ uid }) => (uid === OTHER_UIDS ? "others" : String(uid))))];
  const few = (words: readonly string[]) =>
    words.length <= NAMED ? words.join(", ") : `${words.slice(0, NAMED).join(", ")}, …`;
  return { count: refusals.reduce((sum, { count }) => sum + count, 0), codes: few(named), uids: few(uids) };
}

/** Sends one Report; resolves with the error, or null. */
function report(path: string, refusals: Refusal[]): Promise<Error | null> {
  return new Promise((resolve) => {
    const call = openCall(
      path,
      { method: `${EXECUTOR}.Report`, parameters: { refusals } },
      { onReply: (reply) => finish(replyError(reply)), onFailure: (failure) => finish(failure.error) },
    );
    const timer = setTimeout(() => finish(new Error("no answer")), REPORT_TIMEOUT_MS);
    const finish = (problem: Error | null) => {
      clearTimeout(timer);
      call.close();
      resolve(problem);
    };
  });
}
