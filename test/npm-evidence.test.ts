import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, sign } from "node:crypto";
import { npm } from "../src/npm.ts";
import { registryKeys, registrySignatures } from "../src/npm-signature.ts";
import { makePlan } from "../src/plan.ts";
import { type FakePackage, fakeNpm, npmPlanning, sha512, tarballOf } from "./npm-kit.ts";

/** The plan for the newest of these versions. */
async function planOf(packages: readonly FakePackage[], files: Record<string, string> = {}) {
  const last = packages.at(-1);
  const target = `${last?.name}@${last?.version}`;
  return await makePlan(npm, "install", [target], npmPlanning(fakeNpm(packages), { files }));
}

const LIB: FakePackage = { name: "lib", version: "1.2.3" };
const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const KEYID = "SHA256:own";
const KEYS = "/etc/aegis/npm-keys/registry.npmjs.org.json";
const keyFile = (expires: string | null = null, keyid = KEYID, key = publicKey) => ({
  [KEYS]: JSON.stringify({
    keys: [
      {
        ...{ keyid, expires, keytype: "ecdsa-sha2-nistp256", scheme: "ecdsa-sha2-nistp256" },
        key: key.export({ format: "der", type: "spki" }).toString("base64"),
      },
    ],
  }),
});
function signed(one: FakePackage, message?: string): FakePackage {
  const integrity = `sha512-${Buffer.from(sha512(tarballOf(one)), "hex").toString("base64")}`;
  const text = message ?? `${one.name}@${one.version}:${integrity}`;
  const sig = sign("sha256", Buffer.from(text), privateKey).toString("base64");
  return { ...one, dist: { ...one.dist, signatures: [{ keyid: KEYID, sig }] } };
}
const flipped = (one: FakePackage): FakePackage => {
  const { signatures } = signed(one).dist as { signatures: { keyid: string; sig: string }[] };
  const sig = Buffer.from(signatures[0]?.sig ?? "", "base64");
  sig[40] = (sig[40] ?? 0) ^ 1;
  return { ...one, dist: { signatures: [{ keyid: KEYID, sig: sig.toString("base64") }] } };
};

/** A version of the public registry, with the signature by its key of 2025. */
test("the public registry's own signature verifies, and not for another version", () => {
  const read = (version: string) =>
    registrySignatures(
      {
        ...{ name: "@anthropic-ai/claude-code", version },
        dist: {
          integrity:
            "sha512-8lKM/rFctBl+82bQ+0g0Lkbt9tJU/zYKAjWisNUq436/386n/VZQbnyjnibGkyqqB6mrX/3ub/cpFlpCu4FXLg==",
          signatures: [
            {
              keyid: "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U",
              sig: "MEUCICG6rML8JBFMxvrHFFDhofBztC5mvsOLqHbO7G4bdU4MAiEA/TuR+/HzSBvE2e/5XokcLHWOLaw604eahZ4Hy+IFTew=",
            },
          ],
        },
      },
      "2026-04-08T00:00:00.000Z",
      registryKeys("registry.npmjs.org", () => null),
    ).map(({ verified }) => verified);
  expect([read("2.1.97"), read("2.1.98")]).toEqual([[true], [false]]);
});

describe("a registry's signature", () => {
  const BAD: [string, FakePackage, Record<string, string>, RegExp, RegExp | null][] = [
    ["one bit flipped", flipped(LIB), keyFile(), /is wrong/, /does not count: the signature is wrong/],
    ["of another version", signed(LIB, "lib@1.2.4:x"), keyFile(), /is wrong/, /does not count/],
    [
      "by a key that had expired",
      signed(LIB),
      keyFile("2026-01-02T03:04:05.000Z"),
      /expired 2026-01-02/,
      /does not count: the key expired/,
    ],
    [
      "of unknown date by a key that expires",
      signed({ ...LIB, time: null }),
      keyFile("2030-01-01T00:00:00Z"),
      /expired/,
      /expired/,
    ],
    ["by a key that nobody enrolled", signed(LIB), {}, /neither the npm registry's nor in/, null],
    [
      "by another registry's key",
      signed(LIB),
      { [KEYS.replace("npmjs", "other")]: keyFile()[KEYS] ?? "" },
      /neither/,
      null,
    ],
  ];
  test.each(BAD)("not verified: %s", async (_, one, files, why, downgrade) => {
    const plan = await planOf([one], files);
    const [integrity, signature] = plan.provenance_evidence;
    expect(signature).toMatchObject({ kind: "npm-registry-signature", verified: false });
    expect(signature?.detail).toMatch(why);
    expect(integrity).toMatchObject({ kind: "npm-integrity", verified: true, key: null });
    expect(plan.signature_or_checksum_status).toBe("signature-unverified");
    expect(plan.transaction[0]?.trust_downgrade ?? "").toMatch(downgrade ?? /^$/);
  });

  test("verified by an enrolled key, for every package of the closure", async () => {
    const app: FakePackage = { name: "app", version: "1.0.0", manifest: { dependencies: { lib: "1" } } };
    const plan = await planOf([signed(LIB), signed(app)], keyFile("2026-01-02T03:04:05.001Z"));
    expect(plan.signature_or_checksum_status).toBe("signature-verified");
    const keys = plan.provenance_evidence.map(({ kind, subject, verified, key }) => [
      kind,
      subject,
      verified,
      key,
    ]);
    expect(keys).toEqual(
      ["app@1.0.0", "lib@1.2.3"].flatMap((subject) =>
        ["npm-integrity", "npm-registry-signature"].map((kind) => [kind, subject, true, KEYID]),
      ),
    );
  });

  test("some packages signed, some not: that isn't called signed", async () => {
    const app: FakePackage = { name: "app", version: "1.0.0", manifest: { dependencies: { lib: "1" } } };
    const plan = await planOf([LIB, signed(app)], keyFile());
    expect(plan.signature_or_checksum_status).toBe("checksum-verified");
  });

  const FILES: [string, string][] = [
    ["no JSON", "{"],
    ["no list", '{"keys":{}}'],
    ["a key of another kind", keyFile(null, KEYID, generateKeyPairSync("ed25519").publicKey)[KEYS] ?? ""],
    ["no key", '{"keys":[{"keyid":"a","expires":null,"key":"AAAA"}]}'],
  ];
  test.each(FILES)("a file of keys that can't be used is an error: %s", async (_, text) => {
    await expect(planOf([LIB], { [KEYS]: text })).rejects.toMatchObject({ code: "invalid_config" });
  });

  test("no file can replace a key of the public registry", async () => {
    const keyid = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U";
    const one = signed(LIB);
    const { signatures } = one.dist as { signatures: { keyid: string }[] };
    for (const signature of signatures) signature.keyid = keyid;
    const plan = await planOf([one], keyFile(null, keyid));
    expect(plan.provenance_evidence[1]).toMatchObject({ verified: false, detail: "the signature is wrong" });
  });
});

describe("compared with earlier versions", () => {
  const at = (version: string, time: string | null, more: Partial<FakePackage> = {}): FakePackage => ({
    ...{ name: "lib", version, time, ...more },
  });
  const by = (name: string) => ({ metadata: { _npmUser: { name } } });
  const attested = { dist: { attestations: { url: "x" } } };
  const withSignature = { dist: { signatures: [{ keyid: "k", sig: "AAAA" }] } };
  const LOST: [string, FakePackage[], string | null][] = [
    [
      "provenance is lost",
      [at("1.0.0", "2026-01-01T00:00:00Z", attested), at("1.1.0", "2026-02-01T00:00:00Z")],
      "1.0.0 was published with provenance",
    ],
    [
      "a signature is lost",
      [at("1.0.0", "2026-01-01T00:00:00Z", withSignature), at("1.1.0", "2026-02-01T00:00:00Z")],
      "1.0.0 was signed by the registry",
    ],
    [
      "by number where there is no time",
      [at("1.0.0", null, attested), at("1.1.0", null)],
      "1.0.0 was published with provenance",
    ],
    [
      "an older branch, published later",
      [at("2.0.0", "2026-01-01T00:00:00Z", attested), at("1.1.0", "2026-02-01T00:00:00Z")],
      "2.0.0 was published with provenance",
    ],
    [
      "a later version had it",
      [at("2.0.0", "2026-03-01T00:00:00Z", attested), at("1.1.0", "2026-02-01T00:00:00Z")],
      null,
    ],
    ["never had it", [at("1.0.0", "2026-01-01T00:00:00Z"), at("1.1.0", "2026-02-01T00:00:00Z")], null],
  ];
  test.each(LOST)("%s", async (_, packages, expected) => {
    const [entry] = (await planOf(packages)).transaction;
    expect(entry?.trust_downgrade ?? null).toBe(expected);
  });

  const PUBLISHERS: [string, FakePackage[], string | null][] = [
    [
      "somebody new",
      [at("1.0.0", "2026-01-01T00:00:00Z", by("a")), at("1.1.0", "2026-02-01T00:00:00Z", by("b"))],
      "2026-02-01T00:00:00.000Z",
    ],
    [
      "somebody who had published before, when others had",
      [
        at("1.0.0", "2026-01-01T00:00:00Z", by("b")),
        at("1.0.1", "2026-01-02T00:00:00Z", by("a")),
        at("1.1.0", "2026-02-01T00:00:00Z", by("b")),
      ],
      "2026-01-01T00:00:00.000Z",
    ],
    [
      "always the same",
      [at("1.0.0", "2026-01-01T00:00:00Z", by("a")), at("1.1.0", "2026-02-01T00:00:00Z", by("a"))],
      null,
    ],
    ["the first version", [at("1.0.0", "2026-01-01T00:00:00Z", by("a"))], null],
    ["nobody is named", [at("1.0.0", "2026-01-01T00:00:00Z"), at("1.1.0", "2026-02-01T00:00:00Z")], null],
  ];
  test.each(PUBLISHERS)("publisher: %s", async (_, packages, expected) => {
    const [entry] = (await planOf(packages)).transaction;
    expect(entry?.publisher_since ?? null).toBe(expected);
  });
});
