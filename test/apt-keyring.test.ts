import { describe, expect, test } from "bun:test";
import { parseGpgStatus } from "../src/apt-keyring.ts";
import { fixture } from "./apt-kit.ts";

describe("signatures that don't count", () => {
  for (const [what, text] of [
    ["of a changed text", fixture("keys/gpgv-bad.txt")],
    ["by a key that isn't in the keyring", fixture("keys/gpgv-no-key.txt")],
    ["by an expired key, although VALIDSIG follows", fixture("keys/gpgv-expired-key.txt")],
    ["over SHA-1", fixture("keys/gpgv-sha1.txt")],
    ["good ones beside a bad one", fixture("keys/gpgv-good.txt") + fixture("keys/gpgv-bad.txt")],
    ["VALIDSIG without GOODSIG", fixture("keys/gpgv-good.txt").replace(/.*GOODSIG.*\n/, "")],
    ["GOODSIG without VALIDSIG", fixture("keys/gpgv-good.txt").replace(/.*VALIDSIG.*\n/, "")],
    ["a user id that imitates a status line", "gpgv: [GNUPG:] GOODSIG 1 x\n [GNUPG:] VALIDSIG 1"],
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

test("of three signers only the known one counts", () => {
  expect(parseGpgStatus(fixture("keys/gpgv-one-of-three.txt")).good).toEqual([
    {
      fingerprint: "4D64FEC119C2029067D6E791F8D2585B8783D481",
      primary: "4D64FEC119C2029067D6E791F8D2585B8783D481",
    },
  ]);
});
