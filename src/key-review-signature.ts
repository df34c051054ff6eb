import type { AiReview } from "./doc.ts";
import { signDocument, verifyDocument } from "./key-sign.ts";

/** Signs a review over the canonical JSON of its other fields, replacing any earlier signature. */
export function signReview(review: AiReview, secret: { seed: Uint8Array; keyId: string }): AiReview {
  const { signature: _, ...rest } = review;
  return signDocument(rest, secret.seed, secret.keyId);
}

/**
 * Whether one of these keys signed the review. Never throws: without a valid signature nobody vouches for it. The
 * `key_id` is not itself signed, so every key is tried.
 */
export function reviewIsSignedBy(review: AiReview, publicKeysHex: readonly string[]): boolean {
  const { signature } = review;
  if (signature === undefined) return false;
  try {
    return publicKeysHex.some((key) => verifyDocument({ ...review, signature }, key));
  } catch {
    // Not representable as canonical JSON (a lone surrogate), so nobody can have signed it.
    return false;
  }
}
