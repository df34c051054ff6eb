import { canonicalHash } from "./canonical.ts";
import type { OperationPlan } from "./documents.ts";

/** One message of an OpenAI-compatible chat. */
export interface ChatMessage {
  role: "system" | "user";
  content: string;
}

/** What the model is asked. */
export interface Prompt {
  messages: ChatMessage[];
  /** SHA-256 over the canonical JSON of the messages. */
  hash: string;
  /** UTF-16 code units of all messages together. */
  chars: number;
  /** What of the evidence found no room, in words. */
  omitted: string[];
}

/** The question about a plan. Pure: the same plan gives the same bytes. */
export function buildPrompt(plan: OperationPlan): Prompt {
  const messages: ChatMessage[] = [
    {
      role: "system",
      content: "You review a planned package operation. Answer with one JSON object and nothing else.",
    },
    { role: "user", content: JSON.stringify([plan.tool, plan.operation, plan.command_preview.join(" ")]) },
  ];
  return {
    messages,
    hash: canonicalHash(messages),
    chars: messages.reduce((sum, { content }) => sum + content.length, 0),
    omitted: [],
  };
}
