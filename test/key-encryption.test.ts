import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import nacl from "tweetnacl";
import * as v from "valibot";
import { decryptSeed, deriveKey, Encryption, encryptSeed } from "../src/key-encryption.ts";

/** RFC 7914 §12, the first 32 of 64 bytes: scrypt's last step is PBKDF2 with one block of 32 bytes after the other. */
const SCRYPT: [passphrase: string, salt: string, n: number, r: number, p: number, key: string][] = [
  ["", "", 16, 1, 1, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"],
  ["password", "NaCl", 1024, 8, 16, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"],
  [
    "pleaseletmein",
    "SodiumChloride",
    16384,
    8,
    1,
    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2",
  ],
];

describe("scrypt", () => {
  for (const [passphrase, salt, n, r, p, key] of SCRYPT) {
    test(`RFC 7914: ${n} ${r} ${p}`, () => {
      expect(deriveKey(Buffer.from(passphrase), Buffer.from(salt), { n, r, p }).toString("hex")).toBe(key);
    });
  }
});

test("secretbox: the vector of NaCl's own tests (tests/secretbox.c)", () => {
  const message =
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
  const box =
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
  const bytes = (hex: string) => Buffer.from(hex, "hex");
  const sealed = nacl.secretbox(
    bytes(message),
    bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37"),
    bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"),
  );
  expect(Buffer.from(sealed).toString("hex")).toBe(box);
});

const made: unknown = JSON.parse(readFileSync(join(import.meta.dir, "fixtures/keys/pynacl.json"), "utf8"));
const { encryption } = v.parse(v.object({ encryption: Encryption }), made);
const SEED = createHash("sha256").update("aegis fixture").digest("hex");
const opened = (passphrase: string, change: object = {}) => {
  const seed = decryptSeed({ ...encryption, ...change }, passphrase);
  return seed === null ? null : Buffer.from(seed).toString("hex");
};

describe("a seed that libsodium encrypted", () => {
  test("opens with its passphrase", () => expect(opened("caf\u00e9 under a hat")).toBe(SEED));
  test("and with the same passphrase in another Unicode form", () =>
    expect(opened("cafe\u0301 under a hat")).toBe(SEED));
  test("not with another case or an extra space", () => {
    expect(opened("Caf\u00e9 under a hat")).toBeNull();
    expect(opened("caf\u00e9 under a hat ")).toBeNull();
  });
  test("not with a bit of the ciphertext, the nonce or the salt changed", () => {
    for (const field of ["ciphertext", "nonce", "salt"] as const) {
      const other = (encryption[field].startsWith("0") ? "1" : "0") + encryption[field].slice(1);
      expect(opened("caf\u00e9 under a hat", { [field]: other })).toBeNull();
    }
  });
});

test("salt and nonce are fresh each time, and the seed is restored", () => {
  const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
  const [one, two] = [encryptSeed(seed, "a passphrase"), encryptSeed(seed, "a passphrase")];
  expect([one.salt === two.salt, one.nonce === two.nonce]).toEqual([false, false]);
  expect(decryptSeed(v.parse(Encryption, one), "a passphrase")).toEqual(seed);
});

/** Parameters a hostile file could request: memory, time, or a cost that helps a guesser. */
const REFUSED: [what: string, change: object][] = [
  ["another function", { kdf: "argon2id" }],
  ["1 GiB of memory", { n: 2 ** 20 }],
  ["a cost that is not a power of two", { n: 2 ** 17 + 1 }],
  ["a cost below ours", { n: 2 ** 14 }],
  ["n as text", { n: "131072" }],
  ["a larger block", { r: 16 }],
  ["no round", { p: 0 }],
  ["a thousand rounds", { p: 1000 }],
  ["half a round", { p: 1.5 }],
  ["an empty salt", { salt: "" }],
  ["a short nonce", { nonce: "00" }],
  ["a long ciphertext", { ciphertext: `${encryption.ciphertext}00` }],
  ["upper-case hex", { salt: "A".repeat(64) }],
  ["an extra field", { hint: "the dog" }],
];
describe("parameters of a file", () => {
  for (const [what, change] of REFUSED) {
    test(`refused: ${what}`, () => expect(v.is(Encryption, { ...encryption, ...change })).toBe(false));
  }
});
