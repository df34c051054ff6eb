import { describe, expect, test } from "bun:test";
import { canonicalJson } from "../src/canonical.ts";
import { type AiReview, readDocument } from "../src/doc.ts";
import { reviewIsSignedBy, signReview } from "../src/key-review-signature.ts";
import { review } from "./policy-plans.ts";
import { ALICE, REVIEWER, refuses, STRANGER } from "./signing-kit.ts";

const KEYS = [ALICE.publicKeyHex, REVIEWER.publicKeyHex];
const SIGNED = signReview(review(), REVIEWER);
const { signature: SIGNATURE } = SIGNED;
if (SIGNATURE === undefined) throw new Error("signReview has not signed");

const signedWith = (change: Partial<typeof SIGNATURE>): AiReview => ({
  ...SIGNED,
  signature: { ...SIGNATURE, ...change },
});
const bytes = Buffer.from(SIGNATURE.signature, "base64");
/** S + L, which is the same signature to a lax verifier (RFC 8032 §8.4). */
const malleable = () => {
  const L = 2n ** 252n + 27742317777372353535851937790883648493n;
  const s = BigInt(`0x${Buffer.from(bytes.subarray(32)).reverse().toString("hex")}`) + L;
  const raised = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
  return Buffer.concat([bytes.subarray(0, 32), raised]).toString("base64");
};

describe("reviewIsSignedBy is false for", () => {
  const cases: readonly [what: string, document: AiReview, keys?: readonly string[]][] = [
    ["an unsigned review", review()],
    ["one signed by a stranger", signReview(review(), STRANGER)],
    [
      "one signed by a stranger under the reviewer's key id",
      signReview(review(), { ...STRANGER, keyId: REVIEWER.keyId }),
    ],
    ["any review, without keys", SIGNED, []],
    ["any review, with malformed keys", SIGNED, ["", "zz", "00".repeat(32), "ff".repeat(32)]],
    ["any review, with the key in upper case", SIGNED, KEYS.map((key) => key.toUpperCase())],
    ["another signature", signedWith({ signature: Buffer.alloc(64, 1).toString("base64") })],
    ["a signature too short", signedWith({ signature: "AA==" })],
    ["the same signature, with S raised by L", signedWith({ signature: malleable() })],
    [
      "the same signature in another spelling",
      signedWith({ signature: SIGNATURE.signature.replace(/==$/, "") }),
    ],
    ["one with a lone surrogate", { ...SIGNED, summary: "\ud800" }],
    ...(
      [
        { risk: "medium" },
        { recommendation: "require_human" },
        { summary: "" },
        { red_flags: ["x"] },
        { plan_hash: "1".repeat(64) },
        { plan_id: "11111111-2222-4333-8444-555555555556" },
        { model: "other" },
        { prompt_hash: "0".repeat(64) },
        { created_at: "2026-01-02T03:05:01Z" },
        { schema_version: "1.1" },
      ] as Partial<AiReview>[]
    ).map((change): [string, AiReview] => [
      `one whose ${Object.keys(change)} was changed after signing`,
      { ...SIGNED, ...change },
    ]),
  ];
  for (const [what, document, keys = KEYS] of cases) {
    test(what, () => expect(reviewIsSignedBy(document, keys)).toBe(false));
  }
});

describe("reviewIsSignedBy is true for", () => {
  const cases: readonly [what: string, document: AiReview][] = [
    ["a signed review", SIGNED],
    ["a stored review read back", readDocument("review", canonicalJson(SIGNED)).document],
    ["a review re-signed over a stranger's signature", signReview(signReview(review(), STRANGER), REVIEWER)],
    ["the same under another key id, which is not signed", signedWith({ key_id: "other" })],
  ];
  for (const [what, document] of cases) {
    test(what, () => expect(reviewIsSignedBy(document, KEYS)).toBe(true));
  }
});

test("signing doesn't change the review, and is deterministic", () => {
  const { signature: _, ...rest } = SIGNED;
  expect(rest).toEqual(review());
  expect(canonicalJson(signReview(review(), REVIEWER))).toBe(canonicalJson(SIGNED));
});

describe("a review is not a valid document", () => {
  const cases: readonly [signature: unknown, path: string][] = [
    [null, "signature"],
    ["x", "signature"],
    [{ ...SIGNATURE, algorithm: "rsa" }, "signature.algorithm"],
    [{ ...SIGNATURE, signature: "not base64" }, "signature.signature"],
    [{ ...SIGNATURE, public_key: REVIEWER.publicKeyHex }, "signature.public_key"],
    [{ algorithm: "ed25519", signature: SIGNATURE.signature }, "signature.key_id"],
  ];
  for (const [signature, path] of cases) {
    test(`${path}: ${JSON.stringify(signature)}`, () =>
      refuses(
        () => readDocument("review", JSON.stringify({ ...review(), signature })),
        "invalid_document",
        path,
      ));
  }
});
