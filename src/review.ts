import { type AiReview, type Hashed, SCHEMA_VERSION } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { Verdict } from "./doc-verdict.ts";
import { AegisError } from "./errors.ts";
import { askModel } from "./review-model.ts";
import { buildPrompt } from "./review-prompt.ts";
import { readReply } from "./review-reply.ts";
import type { ModelSettings } from "./review-settings.ts";
import { UnusableReply } from "./wire-reviewer.ts";

export interface MadeReview {
  /** Unsigned. */
  review: AiReview;
  /** The model server's response body, JSON text. */
  reply: string;
}

/**
 * Asks the model about the plan once and binds its verdict to the plan, the prompt and the model.
 * @throws UnusableReply; AegisError `unavailable`, `timeout`; the abort reason of `signal` if it is an AegisError
 */
export async function makeReview(
  plan: Hashed<OperationPlan>,
  settings: ModelSettings,
  { signal, now = () => new Date() }: { signal: AbortSignal; now?: () => Date },
): Promise<MadeReview> {
  const prompt = buildPrompt(plan.document);
  const reply = await askModel(prompt.messages, settings, signal);
  return {
    reply,
    review: {
      schema_version: SCHEMA_VERSION,
      plan_id: plan.document.plan_id,
      plan_hash: plan.hash,
      model: settings.model,
      prompt_hash: prompt.hash,
      created_at: now().toISOString(),
      ...verdictIn(reply),
    },
  };
}

function verdictIn(reply: string): Verdict {
  try {
    return readReply(reply);
  } catch (error) {
    throw error instanceof AegisError && error.code === "model_reply"
      ? new UnusableReply(error, reply)
      : error;
  }
}
