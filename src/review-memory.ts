import type { MadeReview } from "./reviewer.ts";

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
