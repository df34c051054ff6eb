import { parseCanonical, parseJson, sha256Hex } from "./canonical.ts";
import { type Hashed, parseDocument } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";
import type { MadeReview } from "./review.ts";
import type { ByteBudget, Hold } from "./wire-budget.ts";
import type { ReviewEventInput } from "./wire-reviewer.ts";
import type { ReviewerLimits } from "./wire-reviewer-limits.ts";

export type Ended = { review: string; reply: string } | { error: unknown };

/** A client waiting for a review. */
interface Subscriber {
  event(event: ReviewEventInput): void;
  /** Called once, with the review or the error; not after `leave`. */
  end(result: Ended): void;
}

interface QueueOptions {
  limits: ReviewerLimits;
  /** Memory for the plans' texts. */
  budget: ByteBudget;
  /** The model's time limit, in seconds. */
  estimate(plan: OperationPlan): number;
  /** Asks the model. Never rejects, and settles soon after `signal` is aborted. `uid` is the first client's. */
  ask(plan: Hashed<OperationPlan>, uid: number, signal: AbortSignal): Promise<Ended>;
}

export interface ReviewQueue {
  /**
   * Requests a review of a plan, given as canonical JSON text. Clients that ask about the same plan share one call to the
   * model.
   * @throws AegisError `not_canonical`, `invalid_document`, `busy`; `unavailable` after `close`
   */
  join(text: string, uid: number, subscriber: Subscriber): { leave(): void };
  count(): { asking: number; waiting: number };
  /** Aborts every review and waits briefly for the calls to the model to end. */
  close(): Promise<void>;
}

/** One plan and its clients. Keeps the text only: the parsed plan takes many times the memory. */
interface Job {
  text: string;
  /** SHA-256 of the text, which is the plan's hash. */
  hash: string;
  uid: number;
  hold: Hold;
  subscribers: Set<Subscriber>;
  estimateS: number;
  /** Position in the queue, from 1; 0 until assigned. */
  place: number;
  /** Null while waiting. `since` is in milliseconds. */
  asked: { since: number; controller: AbortController } | null;
}

/** Reviews plans in order of arrival: one call to the model per plan, and a limited number at a time. */
export function reviewQueue({ limits, budget, estimate, ask }: QueueOptions): ReviewQueue {
  /** By plan hash, in order of arrival. */
  const jobs = new Map<string, Job>();
  /** Calls to the model that have not ended, aborted ones included. */
  const calls = new Set<Promise<void>>();
  let timer: ReturnType<typeof setInterval> | undefined;
  let closed: AegisError | null = null;

  const all = () => [...jobs.values()];
  const waiting = () => all().filter((job) => job.asked === null);

  const notify = (job: Job, event: ReviewEventInput) => {
    for (const subscriber of job.subscribers) subscriber.event(event);
  };
  const alive = () => {
    for (const job of all()) notify(job, { ...standing(job), kind: "alive" });
  };

  /** Starts the jobs whose turn it is, and reports their position to the others. */
  const next = () => {
    for (const job of waiting()) {
      const theirs = all().filter(({ uid, asked }) => uid === job.uid && asked !== null).length;
      if (calls.size < limits.asking && theirs < limits.askingPerUid) start(job);
    }
    for (const [index, job] of waiting().entries()) {
      if (job.place === index + 1) continue;
      job.place = index + 1;
      notify(job, standing(job));
    }
    if (jobs.size > 0) timer ??= setInterval(alive, limits.aliveMs);
    else {
      clearInterval(timer);
      timer = undefined;
    }
  };

  const start = (job: Job) => {
    // Reporting to a client may reveal that it is gone, which may already have started or removed this job.
    if (job.asked !== null || jobs.get(job.hash) !== job) return;
    const controller = new AbortController();
    job.asked = { since: performance.now(), controller };
    notify(job, standing(job));
    const plan = { document: parseDocument("plan", parseJson(job.text)), hash: job.hash };
    const call = ask(plan, job.uid, controller.signal).then((result) => {
      calls.delete(call);
      end(job, result);
      next();
    });
    calls.add(call);
  };

  /** Returns whether the job was still listed. */
  const remove = (job: Job): boolean => {
    if (jobs.get(job.hash) !== job) return false;
    jobs.delete(job.hash);
    job.hold.set(0);
    return true;
  };
  const end = (job: Job, result: Ended) => {
    if (remove(job)) for (const subscriber of [...job.subscribers]) subscriber.end(result);
  };
  const abort = (job: Job, why: AegisError) => {
    job.asked?.controller.abort(why);
    end(job, { error: why });
  };

  /** A job for a plan that has none yet. */
  const open = (text: string, hash: string, uid: number): Job => {
    // The schema first: it stops at the first error, while the canonical form costs the whole text.
    const document = parseDocument("plan", parseJson(text, "not_canonical"));
    parseCanonical(text);
    const theirs = all().filter((job) => job.uid === uid).length;
    if (waiting().length >= limits.waiting || theirs >= limits.plansPerUid) {
      const subject = theirs >= limits.plansPerUid ? "you have" : "there are";
      throw new AegisError("busy", `${subject} too many plans waiting for a review`, "Try again later.");
    }
    const estimateS = estimate(document);
    const hold = budget.hold(uid);
    hold.set(Buffer.byteLength(text));
    return { text, hash, uid, hold, subscribers: new Set(), estimateS, place: 0, asked: null };
  };

  return {
    join(text, uid, subscriber) {
      if (closed !== null) throw closed;
      const hash = sha256Hex(text);
      const known = jobs.get(hash);
      const job = known ?? open(text, hash, uid);
      job.subscribers.add(subscriber);
      if (known !== undefined) subscriber.event(standing(job));
      else {
        jobs.set(hash, job);
        next();
      }
      return {
        leave() {
          job.subscribers.delete(subscriber);
          if (job.subscribers.size > 0 || !remove(job)) return;
          job.asked?.controller.abort(
            new AegisError("interrupted", "no client is waiting for this review any more"),
          );
          next();
        },
      };
    },
    count: () => ({ asking: all().length - waiting().length, waiting: waiting().length }),
    async close() {
      closed ??= new AegisError("unavailable", "the reviewer is stopping", "Try again once it is running.");
      for (const job of all()) abort(job, closed);
      next();
      await Promise.race([Promise.all(calls), Bun.sleep(limits.stopMs)]);
    },
  };
}

/** A job's state as an event. */
function standing({ asked, place, estimateS }: Job): ReviewEventInput {
  if (asked === null) return { kind: "waiting", place };
  const elapsed_s = Math.floor((performance.now() - asked.since) / 1000);
  return { kind: "asking", elapsed_s, estimate_s: estimateS };
}

/** How long an answer is reused: as long as a plan is fresh by default. */
const MINUTES = 60;
const MAX_ENTRIES = 256;
const MAX_BYTES = 8 * 1024 * 1024;

export interface ReviewMemory {
  /** The model's recent answer to this prompt, or null. */
  recall(promptHash: string, now: Date): MadeReview | null;
  keep(promptHash: string, made: MadeReview, now: Date): void;
}

/**
 * The model's recent answers by prompt hash. The same evidence gets the same answer, even under a new plan id: a model's
 * answers vary, and a client could otherwise ask until it likes one.
 */
export function reviewMemory(): ReviewMemory {
  const kept = new Map<string, { made: MadeReview; bytes: number; until: number }>();
  let bytes = 0;
  const forget = (hash: string) => {
    bytes -= kept.get(hash)?.bytes ?? 0;
    kept.delete(hash);
  };
  return {
    recall(promptHash, now) {
      const entry = kept.get(promptHash);
      return entry !== undefined && entry.until > now.getTime() ? entry.made : null;
    },
    keep(hash, made, now) {
      forget(hash);
      const size = Buffer.byteLength(JSON.stringify(made));
      kept.set(hash, { made, bytes: size, until: now.getTime() + MINUTES * 60_000 });
      bytes += size;
      for (const oldest of kept.keys()) {
        if (kept.size <= MAX_ENTRIES && bytes <= MAX_BYTES) break;
        forget(oldest);
      }
    },
  };
}
