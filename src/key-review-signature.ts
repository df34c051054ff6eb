import type { AiReview } from "./doc.ts";
import { signDocument, verifyDocument } from "./key-sign.ts";

/** The review signed over the canonical JSON of everything else in it; a signature it had before is replaced. */
export function signReview(review: AiReview, secret: { seed: Uint8Array; keyId: string }): AiReview {
  const { signature: _, ...rest } = review;
  return signDocument(rest, secret.seed, secret.keyId);
}

/**
 * Whether one of these keys has signed the review. Never throws: a review without a signature, or with one that fits no
 * key, is one that nobody vouches for. The `key_id` in it is not itself signed and says nothing, so every key is tried.
 */
export function reviewIsSignedBy(review: AiReview, publicKeysHex: readonly string[]): boolean {
  const { signature } = review;
  if (signature === undefined) return false;
  try {
    return publicKeysHex.some((key) => verifyDocument({ ...review, signature }, key));
  } catch {
    // Text that has no canonical JSON (a lone surrogate): nobody can have signed it.
    return false;
  }
}
