import { randomUUID } from "node:crypto";
import { SCHEMA_VERSION } from "./doc.ts";
import type { Rejection } from "./doc-request.ts";
import { AegisError } from "./errors.ts";
import { checkSigner, findSigner, signatureProblem, type Trust } from "./key-trust.ts";

/** A rejection of a request is good for this long, in minutes: its approver hands it over at once. */
const REJECTION_MINUTES = 60;

/** A rejection of a request, without its signature. `requestHash` is that of what its approver was shown. */
export function unsignedRejection(given: {
  request: number;
  requestHash: string;
  signer: string;
  reason: string;
  now: Date;
}): Omit<Rejection, "signature"> {
  return {
    schema_version: SCHEMA_VERSION,
    rejection_id: randomUUID(),
    signer: given.signer,
    role: "approver",
    request: given.request,
    request_hash: given.requestHash,
    reason: given.reason,
    rejected_at: given.now.toISOString(),
  };
}

/**
 * Proves that a trusted approval key, valid now, rejected this request lately, under its owner's name. Returns the key's fingerprint.
 * @throws AegisError `key_untrusted`, `signature_invalid`, `hash_mismatch`, `expired`, `not_yet_valid`
 */
export function verifyRejection(
  rejection: Rejection,
  request: { number: number; hash: string },
  trust: Trust,
  now: Date,
): string {
  const key = findSigner(trust, "approval", rejection, now);
  const problem = signatureProblem(rejection, key);
  const hint = "Reject it again: aegis sign reject --help";
  if (problem !== null) {
    throw new AegisError("signature_invalid", `the rejection is refused: ${problem}`, hint);
  }
  checkSigner(key, rejection.signer);
  if (rejection.request !== request.number || rejection.request_hash !== request.hash) {
    throw new AegisError(
      "hash_mismatch",
      "the rejection is of another request than this one",
      `Read it first: aegis sign show ${request.number}`,
    );
  }
  const age = now.getTime() - Date.parse(rejection.rejected_at);
  if (age < 0)
    throw new AegisError(
      "not_yet_valid",
      `the rejection is dated ${rejection.rejected_at}, in the future`,
      hint,
    );
  if (age > REJECTION_MINUTES * 60_000)
    throw new AegisError("expired", `the rejection was signed at ${rejection.rejected_at}`, hint);
  return key.ids[0] ?? rejection.signature.key_id;
}
