import { describe, expect, test } from "bun:test";
import { requestHash } from "../src/doc-request.ts";
import { makeRejection, verifyRejection } from "../src/exec-rejection.ts";
import { aSummary } from "./request-kit.ts";
import { ALICE, minutesFrom, NOW, SIGNER, STRANGER, TRUST } from "./signing-kit.ts";

const REQUEST = { number: 7, hash: requestHash(aSummary()) };
const rejectionOf = (change: Partial<Parameters<typeof makeRejection>[0]> = {}) =>
  makeRejection({
    request: REQUEST.number,
    requestHash: REQUEST.hash,
    signer: "alice",
    reason: "not on a Friday",
    key: ALICE,
    now: NOW,
    ...change,
  });

describe("refused", () => {
  const CASES: [string, ReturnType<typeof rejectionOf>, string][] = [
    ["by a stranger", rejectionOf({ key: STRANGER }), "key_untrusted"],
    ["by a key that signs execution plans", rejectionOf({ key: SIGNER }), "key_untrusted"],
    ["of another number", rejectionOf({ request: 8 }), "hash_mismatch"],
    [
      "of a request that was shown with another reason",
      rejectionOf({ requestHash: requestHash(aSummary({ reason: "other" })) }),
      "hash_mismatch",
    ],
    // The key is trusted without a name, in hex: it is found by verifying, so an edited document has no signer.
    ["with another reason than was signed", { ...rejectionOf(), reason: "other" }, "signature_invalid"],
    ["an old one", rejectionOf({ now: minutesFrom(NOW, -61) }), "expired"],
    ["one from the future", rejectionOf({ now: minutesFrom(NOW, 1) }), "not_yet_valid"],
  ];
  test.each(CASES)("%s", (_, rejection, code) => {
    expect(() => verifyRejection(rejection, REQUEST, TRUST, NOW)).toThrow(expect.objectContaining({ code }));
  });
});

test("a rejection by a trusted approval key", () => {
  expect(verifyRejection(rejectionOf(), REQUEST, TRUST, NOW)).toBe(ALICE.keyId);
});
