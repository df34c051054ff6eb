import { parseCanonical, parseJson, sha256Hex } from "./canonical.ts";
import { type Hashed, parseDocument } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";
import type { MadeReview } from "./review.ts";
import type { ByteBudget, Hold } from "./wire-budget.ts";
import type { ReviewEventInput } from "./wire-reviewer.ts";
import type { ReviewerLimits } from "./wire-reviewer-limits.ts";

export type Ended = { review: string; reply: string } | { error: unknown };

/** Who waits for a review. */
interface Asker {
  event(event: ReviewEventInput): void;
  /** Called once, with the review or with what went wrong; not after `leave`. */
  end(result: Ended): void;
}

interface QueueOptions {
  limits: ReviewerLimits;
  /** Room for the texts of plans. */
  budget: ByteBudget;
  /** How long the model is given, in seconds. */
  estimate(plan: OperationPlan): number;
  /** Asks the model. Never rejects, and settles soon once `signal` is aborted. `uid` is who asked first. */
  ask(plan: Hashed<OperationPlan>, uid: number, signal: AbortSignal): Promise<Ended>;
}

export interface ReviewQueue {
  /**
   * Asks for a review of a plan: its canonical JSON text. Whoever asks about the same plan before it is reviewed shares
   * the one call to the model.
   * @throws AegisError `not_canonical`, `invalid_document`, `busy`; `unavailable` once it is closed
   */
  join(text: string, uid: number, asker: Asker): { leave(): void };
  count(): { asking: number; waiting: number };
  /** Ends every review, and waits a little for the calls to the model to notice. */
  close(): Promise<void>;
}

/** One plan, and everybody who asks about it. Only its text is kept: read, it takes many times that. */
interface Job {
  text: string;
  /** Of the text, and so of the plan. */
  hash: string;
  uid: number;
  hold: Hold;
  askers: Set<Asker>;
  estimateS: number;
  /** In the queue, counted from 1; 0 before that is known. */
  place: number;
  /** Null while it waits. `since` is in milliseconds. */
  asked: { since: number; controller: AbortController } | null;
}

/** The plans that are being reviewed or wait: one call to the model a plan, in the order they came, few at a time. */
export function reviewQueue({ limits, budget, estimate, ask }: QueueOptions): ReviewQueue {
  /** By the plan's hash, in the order they came. */
  const jobs = new Map<string, Job>();
  /** Calls to the model, aborted ones too while they have not ended. */
  const calls = new Set<Promise<void>>();
  let timer: ReturnType<typeof setInterval> | undefined;
  let closed: AegisError | null = null;

  const all = () => [...jobs.values()];
  const waiting = () => all().filter((job) => job.asked === null);

  const tell = (job: Job, event: ReviewEventInput) => {
    for (const asker of job.askers) asker.event(event);
  };
  const alive = () => {
    for (const job of all()) tell(job, { ...standing(job), kind: "alive" });
  };

  /** Asks about those whose turn it is, and tells the others where they stand. */
  const next = () => {
    for (const job of waiting()) {
      const theirs = all().filter(({ uid, asked }) => uid === job.uid && asked !== null).length;
      if (calls.size < limits.asking && theirs < limits.askingPerUid) start(job);
    }
    for (const [index, job] of waiting().entries()) {
      if (job.place === index + 1) continue;
      job.place = index + 1;
      tell(job, standing(job));
    }
    if (jobs.size > 0) timer ??= setInterval(alive, limits.aliveMs);
    else {
      clearInterval(timer);
      timer = undefined;
    }
  };

  const start = (job: Job) => {
    // Telling somebody may have found that they are gone, and so have started it or taken it off already.
    if (job.asked !== null || jobs.get(job.hash) !== job) return;
    const controller = new AbortController();
    job.asked = { since: performance.now(), controller };
    tell(job, standing(job));
    const plan = { document: parseDocument("plan", parseJson(job.text)), hash: job.hash };
    const call = ask(plan, job.uid, controller.signal).then((result) => {
      calls.delete(call);
      end(job, result);
      next();
    });
    calls.add(call);
  };

  /** Takes a job off the list, if it is still on it. */
  const remove = (job: Job): boolean => {
    if (jobs.get(job.hash) !== job) return false;
    jobs.delete(job.hash);
    job.hold.set(0);
    return true;
  };
  const end = (job: Job, result: Ended) => {
    if (remove(job)) for (const asker of [...job.askers]) asker.end(result);
  };
  const abort = (job: Job, why: AegisError) => {
    job.asked?.controller.abort(why);
    end(job, { error: why });
  };

  /** A job for a plan that is not in hand yet. */
  const open = (text: string, hash: string, uid: number): Job => {
    // The schema first: it gives up at the first fault, where the canonical form is made of the whole text.
    const document = parseDocument("plan", parseJson(text, "not_canonical"));
    parseCanonical(text);
    const theirs = all().filter((job) => job.uid === uid).length;
    if (waiting().length >= limits.waiting || theirs >= limits.plansPerUid) {
      const whose = theirs >= limits.plansPerUid ? "you have" : "there are";
      throw new AegisError("busy", `${whose} too many plans waiting for a review`, "Try again later.");
    }
    const estimateS = estimate(document);
    const hold = budget.hold(uid);
    hold.set(Buffer.byteLength(text));
    return { text, hash, uid, hold, askers: new Set(), estimateS, place: 0, asked: null };
  };

  return {
    join(text, uid, asker) {
      if (closed !== null) throw closed;
      const hash = sha256Hex(text);
      const known = jobs.get(hash);
      const job = known ?? open(text, hash, uid);
      job.askers.add(asker);
      if (known !== undefined) asker.event(standing(job));
      else {
        jobs.set(hash, job);
        next();
      }
      return {
        leave() {
          job.askers.delete(asker);
          if (job.askers.size > 0 || !remove(job)) return;
          job.asked?.controller.abort(new AegisError("interrupted", "nobody waits for this review any more"));
          next();
        },
      };
    },
    count: () => ({ asking: all().length - waiting().length, waiting: waiting().length }),
    async close() {
      closed ??= new AegisError("unavailable", "the reviewer is being stopped", "Try again when it is back.");
      for (const job of all()) abort(job, closed);
      next();
      await Promise.race([Promise.all(calls), Bun.sleep(limits.stopMs)]);
    },
  };
}

/** Where a job stands, as an event. */
function standing({ asked, place, estimateS }: Job): ReviewEventInput {
  if (asked === null) return { kind: "waiting", place };
  const elapsed_s = Math.floor((performance.now() - asked.since) / 1000);
  return { kind: "asking", elapsed_s, estimate_s: estimateS };
}

/** How long an answer stands: as long as a plan is fresh by default. */
const MINUTES = 60;
const MAX_ENTRIES = 256;
const MAX_BYTES = 8 * 1024 * 1024;

export interface ReviewMemory {
  /** What the model said to this prompt lately, or null. */
  recall(promptHash: string, now: Date): MadeReview | null;
  keep(promptHash: string, made: MadeReview, now: Date): void;
}

/**
 * What the model said lately, by the prompt's hash: whoever asks again about the same evidence, be it under a new plan's id,
 * hears the same. A model doesn't always answer alike, and otherwise one could ask until the answer suits.
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
