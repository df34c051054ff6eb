import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { readZip } from "../src/eco-zip.ts";
import { makePlan } from "../src/plan.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { vscode } from "../src/vscode.ts";
import { judgeSignature } from "../src/vscode-signature.ts";
import {
  countersignature,
  makeSigner,
  openssl,
  place,
  type SignatureCase,
  type Signer,
  signedData,
  signerInfo,
  timestamped,
} from "./cms-kit.ts";
import { type FakeExtension, fakeGallery, sigzip, vscodePlanning, vsixOf } from "./vscode-kit.ts";

/*
 * Signatures in Microsoft's format, by certificates of our own: one of Microsoft's could not be had, nor what vsce-sign trusts.
 */

const marketplace = makeSigner("marketplace");
const publisher = makeSigner("publisher");
const other = makeSigner("other");
const expired = makeSigner("expired", { from: "20200101000000Z", to: "20210101000000Z" });
const root = makeSigner("root", { purpose: "", ca: true });
const tsa = makeSigner("tsa", { purpose: "timeStamping", issuer: root });
const foreignRoot = makeSigner("foreign-root", { purpose: "", ca: true });
const foreignTsa = makeSigner("foreign-tsa", { purpose: "timeStamping", issuer: foreignRoot });

const ONE: FakeExtension = { id: "acme.one", version: "1.0.0", files: { "main.js": "1", "a b.txt": "2" } };
const VSIX = vsixOf(ONE);
const TIME = { roots: () => [root.certificate], now: new Date("2026-11-30T00:00:00Z") };

const hashOf = (data: Uint8Array, encoding: "base64" | "hex" = "base64") => ({
  size: data.length,
  digests: { sha256: createHash("sha256").update(data).digest(encoding) },
});
const name = (path: string) => Buffer.from(path).toString("base64");
type Hashes = Record<string, unknown>;

/** The manifest of a package file, as vsce makes it; `change` may change what it says. */
function manifestOf(
  vsix: Buffer,
  change: (manifest: { package: Hashes; entries: Hashes }) => unknown = (same) => same,
): Buffer {
  const entries = Object.fromEntries(readZip(vsix).map(({ path, data }) => [name(path), hashOf(data)]));
  return Buffer.from(JSON.stringify(change({ package: hashOf(vsix), entries })));
}

const MANIFEST = manifestOf(VSIX);
const sign = (one: SignatureCase, carried: Signer[] = [one.by], signed = MANIFEST, detached = true) =>
  signedData(signed, [signerInfo(signed, { kinds: [], ...one })], carried, detached);
const archive = (p7s: Buffer, manifest: Buffer | null = MANIFEST) =>
  sigzip({ ...(manifest === null ? {} : { ".signature.manifest": manifest }), ".signature.p7s": p7s });
const judge = (file: Buffer, time = TIME, vsix = VSIX) =>
  judgeSignature({ archive: file, key: null, time }, vsix, readZip(vsix));

describe("good ones", () => {
  const GOOD: [string, () => Buffer][] = [
    ["without the manifest inside", () => sign({ by: marketplace })],
    ["with it", () => sign({ by: marketplace }, undefined, MANIFEST, false)],
  ];
  test.each(GOOD)("%s: whose certificate, and that nothing vouches for it", async (_, make) => {
    expect(await judge(archive(make()))).toEqual({
      broken: null,
      packageSha256: createHash("sha256").update(VSIX).digest("hex"),
      evidence: [
        {
          ...{ kind: "vscode-cms-signature", verified: true, key: marketplace.fingerprint },
          detail: `the hashes of its files are signed by "marketplace" without a timestamp, whose certificate nothing vouches for but the policy (SHA-256 ${marketplace.fingerprint})`,
        },
      ],
    });
  });
  test.each([
    ["", []],
    ["the manifest inside", ["-nodetach"]],
  ])("made by openssl; %s", async (_, more) => {
    writeFileSync(place("manifest"), MANIFEST);
    const by = ["-signer", place("marketplace.pem"), "-inkey", place("marketplace.key")];
    const how = ["-binary", "-outform", "DER", "-md", "sha256", "-nosmimecap", ...more];
    openssl(["cms", "-sign", "-in", place("manifest"), ...by, ...how, "-out", place("made.p7s")]);
    const { evidence, broken } = await judge(archive(readFileSync(place("made.p7s"))));
    expect([evidence.map(({ verified, key }) => [verified, key]), broken]).toEqual([
      [[true, marketplace.fingerprint]],
      null,
    ]);
  });
  test("openssl takes those of this test for valid ones", () => {
    writeFileSync(place("ours.p7s"), sign({ by: marketplace }));
    writeFileSync(place("manifest"), MANIFEST);
    const files = [
      "-in",
      place("ours.p7s"),
      "-content",
      place("manifest"),
      "-CAfile",
      place("marketplace.pem"),
    ];
    expect(openssl(["cms", "-verify", "-inform", "DER", "-binary", "-purpose", "any", ...files])).toEqual(
      MANIFEST,
    );
  });
  test("the publisher's, which the gallery countersigns", async () => {
    const unsigned = (value: Buffer) => [countersignature({ by: marketplace, kinds: [] })(value)];
    const { evidence, broken } = await judge(
      archive(sign({ by: publisher, unsigned }, [publisher, marketplace])),
    );
    expect([evidence.map(({ verified, key }) => [verified, key]), broken]).toEqual([
      [
        [true, publisher.fingerprint],
        [true, marketplace.fingerprint],
      ],
      null,
    ]);
  });
  test("with a timestamp, after the certificate has expired", async () => {
    const made = sign({ by: marketplace, unsigned: (value) => [timestamped(tsa, root)(value)] });
    const { evidence } = await judge(archive(made), { ...TIME, now: new Date("2040-01-01T00:00:00Z") });
    expect(evidence).toMatchObject([{ verified: true, detail: expect.stringMatching(/ at 20\d\d-/) }]);
  });
  test("a directory with an entry of its own", async () => {
    const manifest = manifestOf(VSIX, ({ entries, ...rest }) => ({
      ...rest,
      entries: { ...entries, [name("extension/")]: hashOf(Buffer.alloc(0)) },
    }));
    const made = archive(sign({ by: marketplace }, undefined, manifest), manifest);
    expect((await judge(made)).evidence).toMatchObject([{ verified: true }]);
  });
});

describe("what can't be verified here counts for nothing, and against nothing", () => {
  const CASES: [string, SignatureCase, string][] = [
    ["expired, without a timestamp", { by: expired }, "has expired, without a timestamp"],
    [
      "a timestamp by an authority that the system doesn't know",
      { by: marketplace, unsigned: (value) => [timestamped(foreignTsa, foreignRoot)(value)] },
      "the system's certificates don't know",
    ],
    [
      "expired before its timestamp",
      { by: expired, unsigned: (value) => [timestamped(tsa, root)(value)] },
      "was not valid at the time of its timestamp",
    ],
    [
      "a certificate for something else",
      { by: makeSigner("server", { purpose: "serverAuth" }) },
      "is not for signing code",
    ],
    ["a short key", { by: makeSigner("short", { bits: 1024 }) }, "has no RSA key of 2048 bits"],
  ];
  test.each(CASES)("%s", async (_, one, why) => {
    const { evidence, broken } = await judge(archive(sign(one)));
    expect([evidence.map(({ verified }) => verified), broken]).toEqual([[false], null]);
    expect(evidence[0]?.detail).toContain(why);
  });
});

describe("what doesn't hold counts against the extension", () => {
  /** A manifest that says something else, rightly signed. */
  const saying = (...how: [(manifest: { package: Hashes; entries: Hashes }) => unknown]) => {
    const manifest = manifestOf(VSIX, ...how);
    return archive(sign({ by: marketplace }, undefined, manifest), manifest);
  };
  const entry = (path: string, hashed: unknown) =>
    saying(({ entries, ...rest }) => ({ ...rest, entries: { ...entries, [name(path)]: hashed } }));
  const MAIN = "extension/main.js";
  const without = (path: string) =>
    saying(({ entries: { [name(path)]: _, ...entries }, ...rest }) => ({ ...rest, entries }));
  const twice = () =>
    archive(
      signedData(
        MANIFEST,
        [1, 2].map(() => signerInfo(MANIFEST, { by: marketplace, kinds: [] })),
        [marketplace],
        true,
      ),
    );

  const CASES: [string, () => Buffer, string][] = [
    ["nothing that can be read", () => archive(Buffer.from("x")), "it ends too early"],
    [
      "something behind it",
      () => archive(Buffer.concat([sign({ by: marketplace }), Buffer.alloc(1)])),
      "behind its end",
    ],
    ["the manifest left out", () => archive(sign({ by: marketplace }), null), "no manifest for it"],
    [
      "another manifest inside",
      () => archive(sign({ by: marketplace }, undefined, Buffer.from("{}"), false)),
      "it signs something else",
    ],
    [
      "made for another manifest",
      () => archive(sign({ by: marketplace }, undefined, Buffer.from("{}"))),
      "its content was changed",
    ],
    ["a wrong key", () => archive(sign({ by: { ...marketplace, key: other.key } })), "signature is wrong"],
    ["its certificate left out", () => archive(sign({ by: marketplace }, [other])), "is not in it"],
    [
      "another certificate named in what is signed",
      () => archive(sign({ by: marketplace, names: other }, [marketplace, other])),
      "names another certificate",
    ],
    ["two signers", twice, "exactly one primary"],
    [
      "a countersignature of something else",
      () =>
        archive(
          sign(
            {
              by: publisher,
              unsigned: () => [countersignature({ by: marketplace, kinds: [] })(Buffer.from("x"))],
            },
            [publisher, marketplace],
          ),
        ),
      "its content was changed",
    ],
    ["a file's hash", () => entry(MAIN, hashOf(Buffer.from("2"))), `another "${MAIN}"`],
    ["a file's size", () => entry(MAIN, { ...hashOf(Buffer.from("1")), size: 2 }), `another "${MAIN}"`],
    ["a hash in hex", () => entry(MAIN, hashOf(Buffer.from("1"), "hex")), "names no files"],
    ["a file that isn't there", () => entry("extension/evil.js", hashOf(Buffer.from("x"))), "evil.js"],
    ["a path that leads out", () => entry("../evil.js", hashOf(Buffer.from("x"))), "evil.js"],
    [
      "a name that isn't in base64",
      () => saying((m) => ({ ...m, entries: { "a b": hashOf(VSIX) } })),
      "no files",
    ],
    ["a file that it doesn't name", () => without(MAIN), `lacks "${MAIN}"`],
    ["the description that it doesn't name", () => without("[Content_Types].xml"), "lacks"],
    ["no files at all", () => saying(({ entries: _, ...rest }) => rest), "names no files"],
    [
      "the size of the package",
      () => saying(({ package: whole, ...rest }) => ({ ...rest, package: { ...whole, size: 1 } })),
      "of another package file",
    ],
  ];
  test.each(CASES)("%s", async (_, make, why) => {
    const { evidence, broken } = await judge(make());
    expect(evidence.map(({ verified }) => verified)).toEqual([false]);
    expect(broken).toContain(why);
  });
  const flip = (bytes: Buffer, at: number) => {
    const changed = Buffer.from(bytes);
    changed.writeUInt8((changed[at] ?? 0) ^ 1, at);
    return changed;
  };
  /** Places whose change leaves everything verified. */
  const unnoticed = async (bytes: Buffer, judged: (changed: Buffer) => ReturnType<typeof judge>) => {
    const found: number[] = [];
    for (let at = 0; at < bytes.length; at++) {
      const { evidence } = await judged(flip(bytes, at));
      if (evidence.every(({ verified }) => verified)) found.push(at);
    }
    return found;
  };
  test("no byte of the manifest can be changed unnoticed", async () => {
    const p7s = sign({ by: marketplace });
    expect(await unnoticed(MANIFEST, (changed) => judge(archive(p7s, changed)))).toEqual([]);
  });
  test("no byte of the package file can be changed unnoticed", async () => {
    const file = archive(sign({ by: marketplace }));
    const source = { archive: file, key: null, time: TIME };
    const entries = readZip(VSIX);
    expect(await unnoticed(VSIX, (changed) => judgeSignature(source, changed, entries))).toEqual([]);
  });
  test("no byte of the signature can be changed unnoticed", async () => {
    const found = await unnoticed(sign({ by: marketplace }), (changed) => judge(archive(changed)));
    // Nothing rests on these: two versions, the list of hashes before the content, two NULL parameters.
    expect(found.filter((at) => at < 25 || at > 42)).toHaveLength(3);
  });
});

describe("in plans", () => {
  const listed = `${"https://open-vsx.org/api"}/acme/one/1.0.0/file/acme.one-1.0.0.sigzip`;
  const planned = (file: Buffer) =>
    makePlan(
      vscode,
      "install",
      ["acme.one@1.0.0"],
      vscodePlanning({ ...fakeGallery([ONE]), [listed]: file }),
    );
  const decide = (plan: Awaited<ReturnType<typeof planned>>, more: string) =>
    evaluate({
      ...{ plan, planHash: "0".repeat(64), configHash: "1".repeat(64), review: undefined },
      config: parsePolicyConfig(`[vscode]\napply = "allow"\nrequire_provenance = true\n${more}`, "test"),
    });

  test("a certificate that nobody named is no verified signature, and the plan says whose it is", async () => {
    const plan = await planned(archive(sign({ by: marketplace })));
    expect([plan.signature_or_checksum_status, plan.transaction[0]?.trust_downgrade]).toEqual([
      "checksum-verified",
      undefined,
    ]);
    expect(plan.warnings.join()).toContain(
      `nothing vouches for but the policy (SHA-256 ${marketplace.fingerprint})`,
    );
    expect(decide(plan, "").rules).toContain("vscode-signature");
    expect(decide(plan, `certificates = ["${other.fingerprint}"]`).decision).toBe("deny");
    const named = decide(plan, `certificates = ["${marketplace.certificate.fingerprint256}"]`);
    expect(named.rules).not.toContain("vscode-signature");
  });
  test("one that doesn't hold is denied, whatever the policy names", async () => {
    const plan = await planned(archive(sign({ by: { ...marketplace, key: other.key } })));
    expect(plan.transaction[0]?.trust_downgrade).toContain("its signature is wrong");
    expect(decide(plan, `certificates = ["${marketplace.fingerprint}"]`).rules).toContain("trust-downgrade");
  });
});
