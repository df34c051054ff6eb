import { lstatSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { recordUserEvent } from "./audit-log.ts";
import { reviewCompleted, subjectDetails } from "./audit-subject.ts";
import { canonicalJson } from "./canonical.ts";
import { type ReviewProgress, renderReview, reviewProgress } from "./cmd-review-view.ts";
import { defineSubcommand, type Io } from "./command.ts";
import { type AiReview, readDocument } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import {
  assertNotInput,
  documentPath,
  type Found,
  referenceTo,
  resolveDocument,
  saveDocument,
} from "./doc-store.ts";
import { AegisError, EXIT } from "./errors.ts";
import { SYSTEM, userPaths } from "./paths.ts";
import { ensureDir, typedPath, writeFileAtomic } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";

/** `aegis review <plan>`: a model's opinion, which can only make the decision stricter. */
export const review = defineSubcommand({
  name: "review",
  description:
    "Asks the local model about a plan: through the reviewer service where it runs, else from here. A review can only make the decision stricter.",
  args: {
    plan: {
      type: "positional",
      required: true,
      complete: "document",
      description: "path, id, beginning of an id, latest, or -",
    },
    socket: {
      type: "string",
      default: SYSTEM.reviewerSocket,
      valueHint: "path",
      description: "the reviewer service's socket",
    },
    direct: { type: "boolean", description: "ask the model from here, also where the service runs" },
    out: { type: "string", valueHint: "file", description: "write the review here instead" },
  },
  async run(values, io) {
    const plan = await resolveDocument("plan", values.plan, io);
    const service = !values.direct && socketExists(values.socket);
    const ask: Ask = service ? (...given) => askService(values.socket, ...given) : askHere;
    const replyPath = replyPathOf(plan.document, values.out, io);
    for (const out of values.out === undefined ? [] : [values.out, replyPath]) assertNotInput(out, [plan]);
    const answer = await whileWaiting(io, (signal, progress) => ask(plan, io, signal, progress)).catch(
      (error: unknown) => {
        throw keepReply(error, replyPath, plan, io);
      },
    );
    const made = parseReview(answer.review, plan);
    keep(replyPath, answer.reply, io);
    const path = saveDocument("review", made, io.env, values.out);
    recordUserEvent(io.env, reviewCompleted(made, subjectDetails(plan.document)));
    const files = {
      plan: referenceTo("plan", made.plan_id, plan.path, io.env),
      review: path,
      reply: replyPath,
      isOut: values.out !== undefined,
      by: `${answer.by}, ${made.signature === undefined ? "unsigned" : `signed with key ${made.signature.key_id}`}`,
    };
    io.result(
      { review: made, path, reply_path: replyPath },
      renderReview(plan.document, made, files, io.terminal),
    );
    return EXIT.ok;
  },
});

/** True as well if access is denied: then the service's error says who has access. */
function socketExists(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

interface Answer {
  /** The review, JSON text. */
  review: string;
  /** The model server's response body, unchanged. */
  reply: string;
  /** How the model was asked, for people. */
  by: string;
}
type Ask = (plan: Found<"plan">, io: Io, signal: AbortSignal, progress: ReviewProgress) => Promise<Answer>;

async function askHere(
  plan: Found<"plan">,
  io: Io,
  signal: AbortSignal,
  progress: ReviewProgress,
): Promise<Answer> {
  const [{ makeReview }, { readModelSettings }, { buildPrompt }] = await Promise.all([
    import("./review.ts"),
    import("./review-settings.ts"),
    import("./review-prompt.ts"),
  ]);
  const settings = readModelSettings(io.env);
  const where = settings.baseUrl.host;
  progress.show(`asking ${settings.model} at ${where}`, settings.timeoutMs(buildPrompt(plan.document).chars));
  const made = await makeReview(plan, settings, { signal });
  return { review: canonicalJson(made.review), reply: made.reply, by: `asked at ${where}` };
}

async function askService(
  socket: string,
  plan: Found<"plan">,
  _io: Io,
  signal: AbortSignal,
  progress: ReviewProgress,
): Promise<Answer> {
  const { callReviewer } = await import("./wire-reviewer-client.ts");
  progress.show("asking the reviewer service", null);
  const answer = await callReviewer(socket, canonicalJson(plan.document), {
    signal,
    onEvent({ kind, place, estimate_s }) {
      if (kind === "waiting") progress.show(`waiting: place ${place ?? 1} in the queue`, null);
      if (kind === "asking")
        progress.show("the model is thinking", estimate_s === null ? null : estimate_s * 1000);
    },
  });
  return { ...answer, by: `asked by the service at ${socket}` };
}

/** Shows progress while waiting. Ctrl-C aborts the request, then ends this process by the same signal. */
async function whileWaiting<T>(
  io: Io,
  work: (signal: AbortSignal, progress: ReviewProgress) => Promise<T>,
): Promise<T> {
  const progress = reviewProgress(io);
  const controller = new AbortController();
  let stoppedBy: NodeJS.Signals | null = null;
  const stop = (signal: NodeJS.Signals) => {
    stoppedBy = signal;
    controller.abort(
      new AegisError("interrupted", "stopped before the review was complete; nothing was written"),
    );
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.once(signal, stop);
  try {
    return await work(controller.signal, progress);
  } finally {
    progress.end();
    for (const signal of signals) process.removeListener(signal, stop);
    if (stoppedBy !== null) {
      io.note("stopped before the review was complete; nothing was written");
      process.kill(process.pid, stoppedBy);
    }
  }
}

/**
 * Parses the review and checks that it is of this plan.
 * @throws AegisError `protocol`, since only the reviewer service can get this wrong
 */
function parseReview(text: string, plan: Found<"plan">): AiReview {
  let made: AiReview;
  try {
    made = readDocument("review", text).document;
  } catch (error) {
    throw error instanceof AegisError ? new AegisError("protocol", error.message) : error;
  }
  if (made.plan_hash === plan.hash && made.plan_id === plan.document.plan_id) return made;
  throw new AegisError("protocol", "the reviewer service answered with a review of another plan");
}

/** Saves an unusable reply next to where the review would be, and adds its path to the error. */
function keepReply(error: unknown, path: string, plan: Found<"plan">, io: Io): unknown {
  if (!(error instanceof AegisError && "reply" in error && typeof error.reply === "string")) return error;
  keep(path, error.reply, io);
  recordUserEvent(io.env, {
    kind: "review_failed",
    plan_id: plan.document.plan_id,
    details: { plan_hash: plan.hash, code: error.code },
  });
  const hint = `${error.hint} Full answer: ${path}`.trimStart();
  return new AegisError(error.code, error.message, hint, { ...error.details, reply_path: path });
}

function keep(path: string, reply: string, { env }: Io): void {
  const directory = dirname(path);
  typedPath(() => {
    if (directory === userPaths(env).reviews) ensureOwnDir(directory);
    else ensureDir(directory);
    writeFileAtomic(path, reply);
  });
}

function replyPathOf(plan: OperationPlan, out: string | undefined, io: Io): string {
  if (out !== undefined) return `${resolve(out)}.reply.json`;
  return documentPath("review", plan.plan_id, io.env).replace(/\.review\.json$/, ".reply.json");
}
