import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { readDer, timeOf } from "../src/eco-der.ts";
import { readZip } from "../src/eco-zip.ts";
import { nuget } from "../src/nuget.ts";
import { hashWithoutSignature, verifyNugetSignature } from "../src/nuget-signature.ts";
import { makePlan } from "../src/plan.ts";
import { zip } from "./archive-kit.ts";
import {
  AUTHOR,
  contentOf,
  countersignature,
  makeSigner,
  openssl,
  place,
  REPOSITORY,
  type SignatureCase,
  type Signer,
  signedData,
  signedPackage,
  signerInfo,
  timestamped,
} from "./cms-kit.ts";
import { fakeSource, nugetPlanning, nuspecOf, SOURCE } from "./nuget-kit.ts";

const author = makeSigner("author");
const repository = makeSigner("repository");
const other = makeSigner("other");
const expired = makeSigner("expired", { from: "20200101000000Z", to: "20210101000000Z" });
const root = makeSigner("root", { purpose: "", ca: true });
const tsa = makeSigner("tsa", { purpose: "timeStamping", issuer: root });
const foreignRoot = makeSigner("foreign-root", { purpose: "", ca: true });
const foreignTsa = makeSigner("foreign-tsa", { purpose: "timeStamping", issuer: foreignRoot });

const ENTRIES = [
  { name: "Root.nuspec", body: nuspecOf({ id: "Root", version: "1.0.0" }) },
  { name: "lib/a.dll", body: "code" },
  { name: "lib/b.dll", body: "more code" },
];
const NOW = new Date("2026-11-30T00:00:00Z");
const trust = { repository: [repository.fingerprint], roots: () => [root.certificate], now: NOW };

const make =
  (
    one: SignatureCase,
    carried: Signer[] = [one.by],
    change: (content: Buffer) => Buffer = (content) => content,
  ) =>
  (content: Buffer) => {
    const signed = change(content);
    return signedData(signed, [signerInfo(signed, one)], carried);
  };
const packaged = (...how: Parameters<typeof make>) => signedPackage(ENTRIES, make(...how));
const judged = ({ file, signature }: { file: Buffer; signature: Buffer }, over: Partial<typeof trust> = {}) =>
  verifyNugetSignature(file, signature, { ...trust, ...over });
const byRepository = { by: repository, kinds: [REPOSITORY] };

describe("what is signed", () => {
  test.each([0, 1, 3])("the file without its signature, wherever that stands (%p)", (at) => {
    const { file } = signedPackage(ENTRIES, make({ by: author }), at);
    for (const hash of ["sha256", "sha384", "sha512"] as const)
      expect(hashWithoutSignature(file, hash)).toEqual(createHash(hash).update(zip(ENTRIES)).digest());
    expect(readZip(file).length).toBe(4);
  });
  test("none without a signature, and none that is packed", () => {
    expect(() => hashWithoutSignature(zip(ENTRIES), "sha256")).toThrow("it has no signature");
    const packed = zip([...ENTRIES, { name: ".signature.p7s", body: "x".repeat(99) }]);
    expect(() => hashWithoutSignature(packed, "sha256")).toThrow("its signature is packed");
  });
  test("openssl takes the signatures of this test for valid ones", () => {
    const { signature } = packaged({ by: author });
    writeFileSync(place("p7s"), signature);
    writeFileSync(place("ca"), author.pem);
    const args = [
      "-inform",
      "DER",
      "-in",
      place("p7s"),
      "-CAfile",
      place("ca"),
      "-purpose",
      "any",
      "-binary",
    ];
    expect(openssl(["cms", "-verify", ...args])).toEqual(contentOf(zip(ENTRIES)));
  });
});

describe("good signatures", () => {
  test("an author's says who, and that the policy may know them", () => {
    expect(judged(packaged({ by: author }))).toEqual({
      downgrade: null,
      evidence: [
        {
          ...{ kind: "nuget-author-signature", verified: true, key: author.fingerprint },
          detail: 'signed by author "author" without a timestamp',
        },
      ],
    });
  });
  test("a repository's, by a certificate that its source names", () => {
    const { evidence } = judged(packaged(byRepository));
    expect(evidence).toMatchObject([
      { kind: "nuget-repository-signature", verified: true, key: repository.fingerprint },
    ]);
    expect(evidence[0]?.detail).toContain('repository "repository" for https://nuget.example/v3/index.json');
  });
  test("both: the repository countersigns", () => {
    const one = { by: author, unsigned: (value: Buffer) => [countersignature(byRepository)(value)] };
    const { evidence, downgrade } = judged(packaged(one, [author, repository]));
    expect(evidence.map(({ kind, verified }) => `${kind} ${verified}`)).toEqual([
      "nuget-author-signature true",
      "nuget-repository-signature true",
    ]);
    expect(downgrade).toBeNull();
  });
  test("with a timestamp by openssl, and after the certificate has expired", () => {
    const one = { ...byRepository, unsigned: (value: Buffer) => [timestamped(tsa, root)(value)] };
    const found = judged(packaged(one), { now: new Date("2040-01-01T00:00:00Z") });
    expect(found.evidence).toMatchObject([{ verified: true, detail: expect.stringMatching(/ at 20\d\d-/) }]);
  });
  test("one that the source doesn't name counts for nothing, and against nothing", () => {
    const { evidence, downgrade } = judged(packaged({ by: other, kinds: [REPOSITORY] }));
    expect(evidence).toMatchObject([{ verified: false, key: other.fingerprint }]);
    expect([evidence[0]?.detail, downgrade]).toEqual([
      expect.stringContaining("its source does not name"),
      null,
    ]);
  });
});

describe("bad ones count against the package", () => {
  const flip = (bytes: Buffer, at: number) => {
    const changed = Buffer.from(bytes);
    changed.writeUInt8((changed[at] ?? 0) ^ 1, at);
    return changed;
  };
  const bad = ({ evidence, downgrade }: ReturnType<typeof judged>, why: string | RegExp) => {
    expect(evidence.some(({ verified }) => !verified)).toBe(true);
    expect(downgrade).toMatch(why);
  };
  const withTime = (...how: Parameters<typeof timestamped>) =>
    packaged({ by: repository, kinds: [REPOSITORY], unsigned: (value) => [timestamped(...how)(value)] });

  test("one byte of a file in the package", () => {
    const { file, signature } = packaged({ by: author });
    const changed = signedPackage(
      ENTRIES.map((one) => (one.name === "lib/a.dll" ? { ...one, body: "codf" } : one)),
      () => signature,
    );
    bad(judged(changed), "the package was changed after it was signed");
    bad(judged({ file: flip(file, 12), signature }), "changed after");
  });
  test("a file more in the package", () => {
    const { signature } = packaged({ by: author });
    bad(
      judged(signedPackage([...ENTRIES, { name: "tools/install.ps1", body: "x" }], () => signature)),
      "changed after",
    );
  });
  test("the signature of another package", () => {
    const { signature } = signedPackage([{ name: "Other.nuspec", body: "x" }], make({ by: author }));
    bad(judged(signedPackage(ENTRIES, () => signature)), "changed after");
  });

  const cases: [string, () => { file: Buffer; signature: Buffer }, string | RegExp][] = [
    ["nothing that can be read", () => signedPackage(ENTRIES, () => Buffer.from("x")), "it ends too early"],
    [
      "something behind it",
      () =>
        signedPackage(ENTRIES, (content) => Buffer.concat([make({ by: author })(content), Buffer.from([0])])),
      "behind its end",
    ],
    ["a wrong key", () => packaged({ by: { ...author, key: other.key } }), "its signature is wrong"],
    ["its certificate left out", () => packaged({ by: author }, [other]), "not in it"],
    [
      "another certificate named in what is signed",
      () => packaged({ by: author, names: other }),
      "names another certificate",
    ],
    [
      "a digest of something else",
      () => packaged({ by: author, digest: Buffer.alloc(32) }),
      "its content was changed",
    ],
    [
      "neither an author's nor a repository's",
      () => packaged({ by: author, kinds: [] }),
      "neither an author's",
    ],
    ["both at once", () => packaged({ by: author, kinds: [AUTHOR, REPOSITORY] }), "neither an author's"],
    [
      "a repository that has no address",
      () => packaged({ ...byRepository, serviceIndex: null }),
      "exactly one attribute 1.3.6.1",
    ],
    [
      "an address in the clear",
      () => packaged({ ...byRepository, serviceIndex: "http://x" }),
      "it names no repository",
    ],
    [
      "two signers",
      () =>
        signedPackage(ENTRIES, (content) =>
          signedData(
            content,
            [1, 2].map(() => signerInfo(content, { by: author })),
            [author],
          ),
        ),
      "exactly one primary",
    ],
    [
      "SHA-1",
      () => packaged({ by: author }, [author], () => Buffer.from("Version:1\n\n1.3.14.3.2.26-Hash:AAAA\n\n")),
      "not one of SHA-2",
    ],
    [
      "another version of the format",
      () =>
        packaged({ by: author }, [author], (content) =>
          Buffer.from(content.toString().replace("Version:1", "Version:2")),
        ),
      "what it signs can't be read",
    ],
    [
      "more in what is signed",
      () => packaged({ by: author }, [author], (content) => Buffer.concat([content, Buffer.from("x:y\n")])),
      "what it signs can't be read",
    ],
    [
      "a certificate for something else",
      () => packaged({ by: makeSigner("server", { purpose: "serverAuth" }) }),
      "is not for signing code",
    ],
    ["a short key", () => packaged({ by: makeSigner("short", { bits: 1024 }) }), "no RSA key of 2048 bits"],
    ["expired, without a timestamp", () => packaged({ by: expired }), "has expired, without a timestamp"],
    [
      "expired before its timestamp",
      () => packaged({ by: expired, unsigned: (value) => [timestamped(tsa, root)(value)] }),
      "not valid at the time",
    ],
    [
      "a timestamp of something else",
      () => packaged({ by: author, unsigned: () => [timestamped(tsa, root)(Buffer.from("x"))] }),
      "of something else",
    ],
    [
      "a timestamp by a stranger",
      () => withTime(foreignTsa, foreignRoot),
      "an authority that the system's certificates don't know",
    ],
    [
      "a timestamp by a certificate for code",
      () => withTime(tsa, root, () => signedData(Buffer.from("x"), [], [])),
      "it is no timestamp",
    ],
    [
      "a changed timestamp",
      () => withTime(tsa, root, (token) => flip(token, token.length - 3)),
      "its signature is wrong",
    ],
    [
      "a countersignature of something else",
      () =>
        packaged({ by: author, unsigned: () => [countersignature(byRepository)(Buffer.from("x"))] }, [
          author,
          repository,
        ]),
      "its content was changed",
    ],
    [
      "a countersignature with a wrong key",
      () =>
        packaged(
          {
            by: author,
            unsigned: (value) => [
              countersignature({ ...byRepository, by: { ...repository, key: other.key } })(value),
            ],
          },
          [author, repository],
        ),
      "its signature is wrong",
    ],
    [
      "a repository that countersigns itself",
      () => packaged({ ...byRepository, unsigned: (value) => [countersignature(byRepository)(value)] }),
      "two signatures of a repository",
    ],
  ];
  test.each(cases)("%s", (_, given, why) => bad(judged(given()), why));

  test("no byte of a signature can be changed unnoticed", () => {
    const { file, signature } = packaged({ by: author });
    const unnoticed: number[] = [];
    for (let at = 0; at < signature.length; at++) {
      const { evidence } = judged({ file, signature: flip(signature, at) });
      if (evidence.every(({ verified }) => verified)) unnoticed.push(at);
    }
    // Nothing rests on these: the version and the list of hashes before the content, the signer's version, two NULL parameters.
    expect(unnoticed.filter((at) => at < 25 || at > 42)).toHaveLength(3);
  });
});

describe("DER is read strictly", () => {
  test.each([
    ["an indefinite length", "3080020101000000", "not definite"],
    ["a long form for a short length", "30810100", "longer than it need be"],
    ["a length with zeros", "308200800000", "longer than it need be"],
    ["a large tag", "1f8101", "a tag is too large"],
    ["too short", "3003", "ends too early"],
    ["nothing", "", "ends too early"],
  ])("%s", (_, hex, why) => expect(() => readDer(Buffer.from(hex, "hex"))).toThrow(why));
  test.each([
    ["17", "260102030405Z", "2026-01-02T03:04:05.000Z"],
    ["17", "990102030405Z", "1999-01-02T03:04:05.000Z"],
    ["18", "20260102030405.123456Z", "2026-01-02T03:04:05.123Z"],
  ])("times: %s %s", (tag, text, time) =>
    expect(
      timeOf({
        tag: Number.parseInt(tag, 16),
        content: Buffer.from(text),
        raw: new Uint8Array(),
      }).toISOString(),
    ).toBe(time),
  );
  test.each(["260102030405", "20260102030405Z", "261302030405Z", "x"])("%s is no time", (text) =>
    expect(() => timeOf({ tag: 0x17, content: Buffer.from(text), raw: new Uint8Array() })).toThrow(
      "a time can't be read",
    ),
  );
});

describe("in plans", () => {
  const sources = (signed: boolean, signsAll = false) => {
    const { file } = packaged(byRepository);
    const one = { id: "Root", version: "1.0.0", ...(signed ? { file } : {}) };
    const address = `${SOURCE}/signatures`;
    return {
      ...fakeSource([one], { more: [{ "@id": address, "@type": "RepositorySignatures/5.0.0" }] }),
      [address]: JSON.stringify({
        allRepositorySigned: signsAll,
        signingCertificates: [{ fingerprints: { "2.16.840.1.101.3.4.2.1": repository.fingerprint } }],
      }),
    };
  };
  const planned = (answers: ReturnType<typeof sources>) =>
    makePlan(nuget, "install", ["Root@1.0.0"], nugetPlanning(answers));

  test("a signature that its source vouches for", async () => {
    const plan = await planned(sources(true, true));
    expect([plan.signature_or_checksum_status, plan.transaction[0]?.trust_downgrade]).toEqual([
      "signature-verified",
      undefined,
    ]);
    expect(plan.provenance_evidence.map(({ kind, verified }) => `${kind} ${verified}`)).toEqual([
      "nuget-sha512 true",
      "nuget-repository-signature true",
    ]);
  });
  test("none where the source signs all: less than it claims", async () => {
    const plan = await planned(sources(false, true));
    expect(plan.transaction[0]?.trust_downgrade).toContain("its source signs all packages");
    expect(plan.risk_signals).toContain("trust-downgrade");
    expect((await planned(sources(false))).transaction[0]?.trust_downgrade).toBeUndefined();
  });
});
