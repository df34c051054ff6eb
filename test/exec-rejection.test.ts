import { describe, expect, test } from "bun:test";
import { canonicalJson } from "../src/canonical.ts";
import { type Rejection, requestHash } from "../src/doc-request.ts";
import { unsignedRejection, verifyRejection } from "../src/exec-rejection.ts";
import { signDocument } from "../src/key-sign.ts";
import { parseSshKey } from "../src/key-sshsig.ts";
import { bareKeys } from "../src/key-trusted-keys.ts";
import { aSummary } from "./request-kit.ts";
import { ALICE, minutesFrom, NOW, refuses, SIGNER, STRANGER, TRUST } from "./signing-kit.ts";
import { type Forgery, sshPublicKey, sshSign } from "./ssh-token.ts";

const REQUEST = { number: 7, hash: requestHash(aSummary()) };
type Change = Partial<Parameters<typeof unsignedRejection>[0]>;
const unsignedOf = (change: Change) =>
  unsignedRejection({
    request: REQUEST.number,
    requestHash: REQUEST.hash,
    signer: "alice",
    reason: "not on a Friday",
    now: NOW,
    ...change,
  });
const rejectionOf = ({ key = ALICE, ...change }: Change & { key?: typeof ALICE } = {}): Rejection =>
  signDocument(unsignedOf(change), key.seed, key.keyId);

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

describe("by a security key", () => {
  const line = sshPublicKey(ALICE.seed);
  const trust = bareKeys({ execution: [], approval: [line] });
  const byToken = (forgery: Partial<Forgery> = {}): Rejection => {
    const rejection = unsignedOf({});
    const blob = sshSign(ALICE.seed, Buffer.from(canonicalJson(rejection)), forgery);
    const { fingerprint } = parseSshKey(line);
    const signature = {
      algorithm: "sshsig" as const,
      key_id: fingerprint,
      signature: blob.toString("base64"),
    };
    return { ...rejection, signature };
  };
  test("refused: not touched, and made for something else", async () => {
    for (const [forgery, says] of [
      [{ flags: 0 }, "nobody touched"],
      [{ namespace: "file" }, "was made for"],
    ] as const) {
      const action = () => verifyRejection(byToken(forgery), REQUEST, trust, NOW);
      await refuses(action, "signature_invalid", says);
    }
  });
  test("accepted", () => {
    expect(verifyRejection(byToken(), REQUEST, trust, NOW)).toBe(parseSshKey(line).fingerprint);
  });
});
