import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import nacl from "tweetnacl";
import {
  checkPublicKey,
  keyId,
  publicKeyOf,
  signBytes,
  signDocument,
  verifyBytes,
  verifyDocument,
} from "../src/key-sign.ts";
import rfc8032 from "./fixtures/ed25519/rfc8032.json";
import speccheck from "./fixtures/ed25519/speccheck.json";
import { refuses, SIGNER } from "./signing-kit.ts";

const bytes = (hex: string) => Buffer.from(hex, "hex");

describe("speccheck", () => {
  for (const [i, c] of speccheck.entries()) {
    test(`case ${i}: ${c.why}: ${c.cofactorless ? "accepted" : "refused"}`, () => {
      expect(verifyBytes(c.public_key, bytes(c.message), bytes(c.signature))).toBe(c.cofactorless);
    });
  }
  test("the malleable S that tweetnacl accepts (case 6)", () => {
    const c = speccheck[6];
    if (c === undefined) throw new Error("fixture");
    expect(nacl.sign.detached.verify(bytes(c.message), bytes(c.signature), bytes(c.public_key))).toBe(true);
    expect(verifyBytes(c.public_key, bytes(c.message), bytes(c.signature))).toBe(false);
  });
});

describe("RFC 8032 §7.1", () => {
  for (const v of rfc8032) {
    test(v.name, () => {
      expect(publicKeyOf(bytes(v.seed))).toBe(v.public_key);
      expect(Buffer.from(signBytes(bytes(v.seed), bytes(v.message))).toString("hex")).toBe(v.signature);
      expect(verifyBytes(v.public_key, bytes(v.message), bytes(v.signature))).toBe(true);
      expect(verifyBytes(v.public_key, bytes(`${v.message}00`), bytes(v.signature))).toBe(false);
      expect(verifyBytes(v.public_key, bytes(v.message), bytes(v.signature).subarray(1))).toBe(false);
    });
  }
});

/** Keys that would verify forged signatures, other spellings of a key, and invalid keys. */
const BAD_KEYS: [what: string, hex: string, says: string][] = [
  ["order 1", `01${"00".repeat(31)}`, "small order"],
  ["order 1, x = 0 with the sign bit", `01${"00".repeat(30)}80`, "small order"],
  ["order 2", `ec${"ff".repeat(30)}7f`, "small order"],
  ["order 2 with the sign bit", `ec${"ff".repeat(31)}`, "small order"],
  ["order 4", "00".repeat(32), "small order"],
  ["order 4, other sign", `${"00".repeat(31)}80`, "small order"],
  ["order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "small order"],
  ["order 8, other sign", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", "small order"],
  ["order 8, other y", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "small order"],
  ["y = p", `ed${"ff".repeat(30)}7f`, "canonical"],
  ["y = p + 1", `ee${"ff".repeat(30)}7f`, "canonical"],
  ["y = 2^255 - 1", "ff".repeat(32), "canonical"],
  ["not a point on the curve", `02${"00".repeat(31)}`, "not a point"],
  ["too short", "ab".repeat(31), "hex digits"],
  ["upper case", SIGNER.publicKeyHex.toUpperCase(), "hex digits"],
];

describe("refused public keys", () => {
  for (const [what, hex, says] of BAD_KEYS) {
    test(what, async () => {
      await refuses(() => checkPublicKey(hex), "invalid_key", says);
      expect(verifyBytes(hex, bytes(""), new Uint8Array(64))).toBe(false);
    });
  }
  test("every generated key is accepted", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (seed) =>
        checkPublicKey(publicKeyOf(seed)),
      ),
      { numRuns: 20 },
    );
  });
  test("a key's id is the start of its SHA-256", () => {
    // printf d75a…511a | xxd -r -p | sha256sum
    expect(keyId("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")).toBe(
      "21fe31dfa154a261",
    );
  });
});

describe("documents", () => {
  const document = signDocument({ b: 1, a: ["x"] }, SIGNER.seed, SIGNER.keyId);
  const verifies = (change: object) => verifyDocument({ ...document, ...change }, SIGNER.publicKeyHex);
  const base64 = document.signature.signature;

  test("verifies with fields in any order", () => {
    const turned = Object.fromEntries(Object.entries(document).reverse());
    expect(verifyDocument({ ...turned, signature: document.signature }, SIGNER.publicKeyHex)).toBe(true);
  });
  for (const [what, change] of [
    ["a changed field", { b: 2 }],
    ["an added field", { c: null }],
    ["base64 without its padding", { signature: { ...document.signature, signature: base64.slice(0, -2) } }],
    [
      "base64 with other padding bits",
      // 64 bytes leave four unused bits in the last of 86 digits; Q and R differ only in these.
      { signature: { ...document.signature, signature: withOtherUnusedBits(base64) } },
    ],
  ] as const) {
    test(`refuses ${what}`, () => expect(verifies(change)).toBe(false));
  }
});

function withOtherUnusedBits(base64: string): string {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const last = base64.length - 3;
  const other = `${base64.slice(0, last)}${digits[digits.indexOf(base64[last] ?? "") + 1]}==`;
  expect(Buffer.from(other, "base64")).toEqual(Buffer.from(base64, "base64"));
  return other;
}
