import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { dearmor, isArmored, parseGpgStatus } from "../src/apt-gpgv.ts";
import { fixture } from "./apt-kit.ts";

describe("signatures that count for nothing", () => {
  for (const [what, text] of [
    ["of a changed text", fixture("keys/gpgv-bad.txt")],
    ["by a key that isn't in the keyring", fixture("keys/gpgv-no-key.txt")],
    ["by an expired key, although VALIDSIG follows", fixture("keys/gpgv-expired-key.txt")],
    ["over SHA-1", fixture("keys/gpgv-sha1.txt")],
    ["good ones beside a bad one", fixture("keys/gpgv-good.txt") + fixture("keys/gpgv-bad.txt")],
    ["VALIDSIG without GOODSIG", fixture("keys/gpgv-good.txt").replace(/.*GOODSIG.*\n/, "")],
    ["GOODSIG without VALIDSIG", fixture("keys/gpgv-good.txt").replace(/.*VALIDSIG.*\n/, "")],
    ["words of a user id, on another line", "gpgv: [GNUPG:] GOODSIG 1 x\n [GNUPG:] VALIDSIG 1"],
    ["nothing", ""],
  ] as const) {
    test(what, () => expect(parseGpgStatus(text).good).toEqual([]));
  }
});

test("a good signature", () => {
  const { good, bad } = parseGpgStatus(fixture("keys/gpgv-good.txt"));
  const [, fingerprint = ""] = /VALIDSIG ([0-9A-F]{40})/.exec(fixture("keys/gpgv-good.txt")) ?? [];
  expect({ good, bad }).toEqual({ good: [{ fingerprint, primary: fingerprint }], bad: false });
});

test("one of three signers is known: that one counts", () => {
  expect(parseGpgStatus(fixture("keys/gpgv-one-of-three.txt")).good).toEqual([
    {
      fingerprint: "4D64FEC119C2029067D6E791F8D2585B8783D481",
      primary: "4D64FEC119C2029067D6E791F8D2585B8783D481",
    },
  ]);
});

describe("armor", () => {
  const armored = fixture("keys/a.asc");
  const binary = Buffer.from(fixture("keys/a.gpg.base64"), "base64");
  test("gives the very bytes that gpg exports", () => {
    expect(isArmored(armored)).toBe(true);
    expect(Buffer.from(dearmor(armored) ?? []).equals(binary)).toBe(true);
  });
  test("several keys in one file", () => {
    expect(dearmor(armored + armored)?.length).toBe(2 * binary.length);
  });
  test("headers, carriage returns and indentation are no data", () => {
    const text = armored.replace("\n\n", "\nComment: x\nVersion: GnuPG v2\n\n").replaceAll("\n", "\r\n ");
    expect(Buffer.from(dearmor(text) ?? []).equals(binary)).toBe(true);
  });
  for (const [what, text] of [
    ["no block", "hello"],
    ["an empty block", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n"],
    ["an unfinished block", armored.slice(0, 200)],
    ["letters that aren't base64", armored.replace("mDME", "mD*E")],
  ] as const) {
    test(`malformed: ${what}`, () => expect(dearmor(text)).toBeNull());
  }
  test("arbitrary text never throws", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        parseGpgStatus(text);
        dearmor(`-----BEGIN PGP PUBLIC KEY BLOCK-----${text}-----END PGP PUBLIC KEY BLOCK-----`);
      }),
    );
  });
});
