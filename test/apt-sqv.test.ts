import { describe, expect, test } from "bun:test";
import { parseSqvSigners, sqvEnvironment } from "../src/apt-sqv.ts";
import { fixture } from "./apt-kit.ts";

/** apt's order (SetPolicy, methods/sqv.cc). */
const POLICIES = [
  "/etc/crypto-policies/back-ends/apt-sequoia.config",
  "/var/lib/crypto-config/profiles/current/apt-sequoia.config",
  "/etc/crypto-policies/back-ends/sequoia.config",
  "/var/lib/crypto-config/profiles/current/sequoia.config",
  "/usr/share/apt/default-sequoia.config",
];

describe("sqv uses the policy that apt chooses", () => {
  for (const [n, policy] of POLICIES.entries()) {
    test(`${policy}, where none before it is there`, () => {
      const there = POLICIES.slice(n);
      expect(sqvEnvironment((path) => there.includes(path))).toEqual({ SEQUOIA_CRYPTO_POLICY: policy });
    });
  }
  test("sqv's default if there is none", () => expect(sqvEnvironment(() => false)).toEqual({}));
});

describe("fingerprints of the certificates that signed", () => {
  const signers = (name: string) => parseSqvSigners(fixture(`keys/${name}`)).map(({ primary }) => primary);
  test("one", () => expect(signers("sqv-good.txt")).toEqual(["F1FD3177732B109A110CB78F2C317FFB16437EC5"]));
  test("three", () => expect(signers("sqv-three.txt")).toHaveLength(3));
  test("of the primary key if a subkey signed", () => {
    expect(parseSqvSigners(fixture("keys/sqv-subkey.txt"))).toEqual([
      { fingerprint: null, primary: "BDD52C99AACDDD76BBD5D853C499F34813CBE600" },
    ]);
  });
  // sqv checks the date of the signature. gpgv refuses such a key; apt with sqv accepts it.
  test("of a key that has expired since it signed", () =>
    expect(signers("sqv-expired-key.txt")).toHaveLength(1));
  for (const text of ["", "\n", "F1FD\n", "Error: x\n", `x ${"A".repeat(40)}\n`, `${"A".repeat(41)}\n`]) {
    test(`none: ${JSON.stringify(text)}`, () => expect(parseSqvSigners(text)).toEqual([]));
  }
});
