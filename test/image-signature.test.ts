import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { imageAccess } from "../src/image-config.ts";
import { normalizeReference } from "../src/image-reference.ts";
import { ImageRepository } from "../src/image-registry.ts";
import { signaturesOf } from "../src/image-signature.ts";
import { BASE, digestOf, fakeImage, imagePlanning, NAME, TYPES } from "./image-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

/*
 * Signatures and statements, real ones of other projects (fixtures/image) and some of our own, with every part of them changed once.
 */

const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/image", name));
type Answers = Record<string, RegistryAnswer>;

function find(name: string, digests: string[], answers: Answers) {
  const reference = normalizeReference(name);
  const planning = imagePlanning(answers);
  const repository = new ImageRepository(reference, imageAccess(reference, planning), planning);
  return signaturesOf(`${name}@${digests[0]}`, name, digests, repository);
}

interface Annotated {
  mediaType: string;
  bytes: Buffer | string;
  annotations?: Record<string, string>;
}

/** A manifest under a tag or a digest, with its files. */
function tagged(
  base: string,
  tag: string | null,
  layers: readonly Annotated[],
): { answers: Answers; digest: string; size: number } {
  const descriptors = layers.map(({ mediaType, bytes, annotations }) => ({
    ...{ mediaType, digest: digestOf(bytes), size: Buffer.byteLength(bytes) },
    ...(annotations === undefined ? {} : { annotations }),
  }));
  const manifest = JSON.stringify({
    ...{ schemaVersion: 2, mediaType: TYPES.manifest, layers: descriptors },
    config: { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf("{}"), size: 2 },
  });
  const digest = digestOf(manifest);
  return {
    answers: {
      [`${base}/manifests/${tag ?? digest}`]: manifest,
      ...Object.fromEntries(layers.map(({ bytes }) => [`${base}/blobs/${digestOf(bytes)}`, bytes])),
    },
    digest,
    size: Buffer.byteLength(manifest),
  };
}

/** Base64 with one bit of its middle flipped. */
function flipped(base64: string): string {
  const bytes = Buffer.from(base64, "base64");
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  return bytes.toString("base64");
}

const SIGNATURE = "dev.cosignproject.cosign/signature";
const NEW_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json";

/** A recorded signature of containers/image: a layer with its annotations. */
function recorded(name: string): {
  digest: string;
  layer: Annotated & { annotations: Record<string, string> };
} {
  const [, json = "{}"] = fixture(`cosign/${name}.signature-1`).toString("utf8").split("\n");
  const { mimeType, payload, annotations } = JSON.parse(json);
  const bytes = Buffer.from(payload, "base64");
  return {
    digest: digestOf(fixture(`cosign/${name}.manifest.json`)),
    layer: { mediaType: mimeType, bytes, annotations },
  };
}

const KEYED = { ...recorded("valid"), name: "192.168.64.2:5000/cosign-signed-single-sample" };
const KEYLESS = { ...recorded("fulcio-rekor-valid"), name: "192.168.64.2:5000/cosign-signed/fulcio-rekor-1" };
const baseOf = (name: string) => `https://${name.replace("/", "/v2/")}`;
type Recorded = typeof KEYED;
const sigOf = (
  { name, digest, layer }: Recorded,
  change: (layer: Recorded["layer"]) => Annotated = (same) => same,
) => find(name, [digest], tagged(baseOf(name), `${digest.replace(":", "-")}.sig`, [change(layer)]).answers);
const annotated = (layer: Recorded["layer"], name: string, change: (value: string) => string) => {
  const value = change(layer.annotations[name] ?? "");
  expect(value).not.toBe(layer.annotations[name] ?? "");
  return { ...layer, annotations: { ...layer.annotations, [name]: value } };
};

test("none", async () => {
  const made = fakeImage();
  expect(await find(NAME, [made.digest], {})).toEqual({ evidence: [], unreadable: [] });
});

describe("cosign's tag, by an identity", () => {
  test("who signed", async () => {
    const { evidence, unreadable } = await sigOf(KEYLESS);
    expect(unreadable).toEqual([]);
    expect(evidence).toMatchObject([
      {
        kind: "image-signature",
        subject: `${KEYLESS.name}@${KEYLESS.digest}`,
        verified: true,
        key: "mitr@redhat.com",
        identity: {
          issuer: "https://github.com/login/oauth",
          subject: "mitr@redhat.com",
          source_repository: null,
        },
      },
    ]);
  });

  const bundled = (layer: Recorded["layer"], change: (bundle: RekorBundle) => void) =>
    annotated(layer, "dev.sigstore.cosign/bundle", (text) => {
      const bundle: RekorBundle = JSON.parse(text);
      change(bundle);
      return JSON.stringify(bundle);
    });
  interface RekorBundle {
    SignedEntryTimestamp: string;
    Payload: { body: string; integratedTime: number; logIndex: number; logID: string };
  }
  const CASES: [string, (layer: Recorded["layer"]) => Annotated, string | RegExp][] = [
    ["the signature", (layer) => annotated(layer, SIGNATURE, flipped), "can't be verified"],
    [
      "the payload",
      (layer) => ({
        ...layer,
        bytes: Buffer.from(layer.bytes.toString().replace('"optional":null', '"optional":{}')),
      }),
      "can't be verified",
    ],
    [
      "the certificate",
      (layer) =>
        annotated(layer, "dev.sigstore.cosign/certificate", (pem) =>
          pem.replace(/(-----\n)([\s\S]*)(\n-----)/, (_, a, body, b) => `${a}${flipped(body)}${b}`),
        ),
      "can't be verified",
    ],
    [
      "the log's promise",
      (layer) =>
        bundled(layer, (bundle) =>
          Object.assign(bundle, { SignedEntryTimestamp: flipped(bundle.SignedEntryTimestamp) }),
        ),
      "can't be verified",
    ],
    [
      "its time",
      (layer) =>
        bundled(layer, ({ Payload }) =>
          Object.assign(Payload, { integratedTime: Payload.integratedTime + 1 }),
        ),
      "can't be verified",
    ],
    [
      "a time after the certificate's end",
      (layer) =>
        bundled(layer, ({ Payload }) =>
          Object.assign(Payload, { integratedTime: Payload.integratedTime + 86_400 }),
        ),
      "can't be verified",
    ],
    [
      "its place in the log",
      (layer) => bundled(layer, ({ Payload }) => Object.assign(Payload, { logIndex: 1 })),
      "can't be verified",
    ],
    [
      "the log",
      (layer) => bundled(layer, ({ Payload }) => Object.assign(Payload, { logID: "0".repeat(64) })),
      "can't be verified",
    ],
    [
      "the entry",
      (layer) =>
        bundled(layer, ({ Payload }) =>
          Object.assign(Payload, {
            body: Buffer.from('{"kind":"hashedrekord","apiVersion":"0.0.1"}').toString("base64"),
          }),
        ),
      "can't be verified",
    ],
  ];
  test.each(CASES)("%s changed: not verified", async (_, change, why) => {
    const { evidence } = await sigOf(KEYLESS, change);
    expect(evidence).toMatchObject([{ kind: "image-signature", verified: false, key: null }]);
    expect(evidence[0]?.identity).toBeUndefined();
    expect(evidence[0]?.signed).toBeUndefined();
    expect(evidence[0]?.detail).toMatch(why);
  });

  test("without the log's entry: not verified, and said", async () => {
    const { evidence, unreadable } = await sigOf(KEYLESS, (layer) => {
      const { "dev.sigstore.cosign/bundle": _, ...annotations } = layer.annotations;
      return { ...layer, annotations };
    });
    expect(unreadable).toEqual([]);
    expect(evidence).toMatchObject([{ kind: "image-signature", verified: false, key: null }]);
    expect(evidence[0]?.signed).toBeUndefined();
    expect(evidence[0]?.detail).toEndWith("it has a certificate and no entry in a transparency log");
  });

  test("with nonsense for the log's entry: can't be read", async () => {
    const { evidence, unreadable } = await sigOf(KEYLESS, (layer) =>
      annotated(layer, "dev.sigstore.cosign/bundle", () => "{}"),
    );
    expect(evidence).toEqual([]);
    expect(unreadable.join()).toContain(`tag ${KEYLESS.digest.replace(":", "-")}.sig`);
  });

  test("under another image's tag: of another image", async () => {
    const other = `sha256:${"0".repeat(64)}`;
    const { evidence } = await sigOf({ ...KEYLESS, digest: other });
    expect(evidence).toMatchObject([{ verified: false }]);
    expect(evidence[0]?.detail).toContain("it is of another image");
  });

  test("in another repository: of that one", async () => {
    const { evidence } = await sigOf({ ...KEYLESS, name: "192.168.64.2:5000/evil/copy" });
    expect(evidence).toMatchObject([{ verified: false }]);
    expect(evidence[0]?.detail).toContain("it is of 192.168.64.2:5000/cosign-signed/fulcio-rekor-1, not of");
  });
});

describe("cosign's tag, by a key", () => {
  const keyOf = (name: string) => fixture(`cosign/${name}.pub`).toString();

  test("what was signed is in the plan, for policy to judge", async () => {
    const { evidence } = await sigOf(KEYED);
    expect(evidence).toMatchObject([{ kind: "image-signature", verified: false, key: null }]);
    const { payload = "", signature = "" } = evidence[0]?.signed ?? {};
    const isBy = (pem: string) =>
      verify("sha256", Buffer.from(payload, "base64"), pem, Buffer.from(signature, "base64"));
    expect([isBy(keyOf("cosign")), isBy(keyOf("cosign2"))]).toEqual([true, false]);
  });
  test.each([
    ["a payload that says nothing of an image", "{}", "says nothing of an image"],
    ["no JSON", "x", "not valid JSON"],
    [
      "another type of signature",
      KEYED.layer.bytes.toString().replace("cosign container image signature", "party invitation"),
      "says nothing of an image",
    ],
    [
      "a reference that is none",
      KEYED.layer.bytes.toString().replace("192.168.64.2:5000/cosign-signed-single-sample", "A B"),
      "can't be an image",
    ],
  ])("%s", async (_, bytes, why) => {
    const { evidence } = await sigOf(KEYED, (layer) => ({ ...layer, bytes }));
    expect(evidence).toMatchObject([{ verified: false, key: null }]);
    expect(evidence[0]?.signed).toBeUndefined();
    expect(evidence[0]?.detail).toContain(why);
  });
  test("without a signature, or with one that is none", async () => {
    for (const signature of ["", "!", "A".repeat(1000)]) {
      const { evidence } = await sigOf(KEYED, (layer) => annotated(layer, SIGNATURE, () => signature));
      expect(evidence[0]?.signed).toBeUndefined();
    }
  });
  test("a file in the registry that isn't the named one ends planning", () => {
    const { answers } = tagged(baseOf(KEYED.name), `${KEYED.digest.replace(":", "-")}.sig`, [KEYED.layer]);
    const blob = `${baseOf(KEYED.name)}/blobs/${digestOf(KEYED.layer.bytes)}`;
    expect(find(KEYED.name, [KEYED.digest], { ...answers, [blob]: "x" })).rejects.toMatchObject({
      code: "evidence_mismatch",
    });
  });
  test("more than are looked at is said", async () => {
    const { answers } = tagged(
      baseOf(KEYED.name),
      `${KEYED.digest.replace(":", "-")}.sig`,
      Array(40).fill(KEYED.layer),
    );
    const { evidence, unreadable } = await find(KEYED.name, [KEYED.digest], answers);
    expect(evidence).toHaveLength(32);
    expect(unreadable.join()).toContain("of 40 only the first 32 are looked at");
  });
});

describe("the provenance of a build, by an identity", () => {
  const INDEX = "sha256:e0a0a765d690a5104331cfbac88ebbbf01736c1f87aaa3cd455c516a5ea586a5";
  const REPOSITORY = "ghcr.io/slsa-framework/example-package.verifier-e2e.all.tag.main.default.slsa3";
  const SLSA = baseOf(REPOSITORY);
  const ENVELOPE = fixture("slsa/20b16d5835eceaa7b9dbb7e4fdf4db52a8b9159c1416dd73e54cade07e838917");
  const ATTESTATION = JSON.parse(
    fixture("slsa/31cc4fb663c8d34e2e6a0bd5f183d576c2811ee286e0998b4c2965e3b35a0d86").toString(),
  ).layers[0];
  const attOf = (digest: string, layer: Annotated) =>
    find(REPOSITORY, [digest], tagged(SLSA, `${digest.replace(":", "-")}.att`, [layer]).answers);
  const LAYER: Annotated & { annotations: Record<string, string> } = {
    ...{ mediaType: ATTESTATION.mediaType, bytes: ENVELOPE, annotations: ATTESTATION.annotations },
  };

  test("real, under cosign's tag", async () => {
    const { evidence } = await attOf(INDEX, LAYER);
    expect(evidence).toMatchObject([
      {
        kind: "image-attestation",
        subject: `${REPOSITORY}@${INDEX}`,
        verified: true,
        identity: {
          issuer: "https://token.actions.githubusercontent.com",
          subject:
            "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v1.10.0",
          source_repository: "https://github.com/slsa-framework/example-package",
        },
      },
    ]);
  });
  test("of another image", async () => {
    const { evidence } = await attOf(`sha256:${"1".repeat(64)}`, LAYER);
    expect(evidence).toMatchObject([{ kind: "image-attestation", verified: false }]);
    expect(evidence[0]?.detail).toContain("it speaks of another image");
  });
  test("with one bit of its statement changed", async () => {
    const envelope = JSON.parse(ENVELOPE.toString());
    const statement = Buffer.from(envelope.payload, "base64")
      .toString()
      .replace("example-package", "example-packagf");
    const bytes = JSON.stringify({ ...envelope, payload: Buffer.from(statement).toString("base64") });
    const { evidence } = await attOf(INDEX, { ...LAYER, bytes });
    expect(evidence).toMatchObject([{ verified: false }]);
    expect(evidence[0]?.detail).toContain("can't be verified");
  });

  /** The same as a bundle that refers to the image, in the form of cosign 3. */
  const [log] = [JSON.parse(LAYER.annotations["dev.sigstore.cosign/bundle"] ?? "{}")];
  const BUNDLE = {
    mediaType: "application/vnd.dev.sigstore.bundle+json;version=0.1",
    verificationMaterial: {
      x509CertificateChain: {
        certificates: [
          {
            rawBytes: (LAYER.annotations["dev.sigstore.cosign/certificate"] ?? "")
              .replace(/-----[A-Z ]+-----/g, "")
              .replace(/\s/g, ""),
          },
        ],
      },
      tlogEntries: [
        {
          logIndex: String(log.Payload.logIndex),
          logId: { keyId: Buffer.from(log.Payload.logID, "hex").toString("base64") },
          kindVersion: { kind: "dsse", version: "0.0.1" },
          integratedTime: String(log.Payload.integratedTime),
          inclusionPromise: { signedEntryTimestamp: log.SignedEntryTimestamp },
          canonicalizedBody: log.Payload.body,
        },
      ],
    },
    dsseEnvelope: JSON.parse(ENVELOPE.toString()),
  };
  const MEDIA = "application/vnd.dev.sigstore.bundle+json;version=0.1";

  /** What refers to the image: by the registry's list, or under the tag that stands for its digest. */
  const referring = (way: "list" | "tag", bundle: unknown, artifactType: string | null = MEDIA): Answers => {
    const made = tagged(SLSA, null, [{ mediaType: MEDIA, bytes: JSON.stringify(bundle) }]);
    const descriptor = {
      ...{ mediaType: TYPES.manifest, digest: made.digest, size: made.size },
      ...(artifactType === null ? {} : { artifactType }),
    };
    const list = JSON.stringify({ schemaVersion: 2, mediaType: TYPES.index, manifests: [descriptor] });
    const address = way === "list" ? `referrers/${INDEX}` : `manifests/${INDEX.replace(":", "-")}`;
    return { ...made.answers, [`${SLSA}/${address}`]: list };
  };

  test.each([
    ["by the registry's list", "list", MEDIA],
    ["by the tag that stands for the digest", "tag", MEDIA],
    ["in a list without types", "list", null],
  ] as const)("as a referrer, %s", async (_, way, type) => {
    const { evidence, unreadable } = await find(REPOSITORY, [INDEX], referring(way, BUNDLE, type));
    expect(unreadable).toEqual([]);
    expect(evidence).toMatchObject([{ kind: "image-attestation", verified: true }]);
  });
  test("a referrer of another type is left alone", async () => {
    const answers = referring("list", BUNDLE, "application/spdx+json");
    expect(await find(REPOSITORY, [INDEX], answers)).toEqual({ evidence: [], unreadable: [] });
  });
  test.each([
    ["an empty bundle", {}],
    [
      "an envelope with two signatures",
      { ...BUNDLE, dsseEnvelope: { ...BUNDLE.dsseEnvelope, signatures: [{ sig: "" }, { sig: "" }] } },
    ],
    ["nonsense", [1]],
  ])("%s can't be read", async (_, bundle) => {
    const { evidence, unreadable } = await find(REPOSITORY, [INDEX], referring("list", bundle));
    expect(evidence).toEqual([]);
    expect(unreadable.join()).toContain("referrer sha256:");
  });
  test("a list that goes on is said", async () => {
    const answers = referring("list", BUNDLE);
    const address = `${SLSA}/referrers/${INDEX}`;
    const body = String(answers[address]);
    const answer = { status: 200, body, headers: { link: '</v2/x>; rel="next"' } };
    const { unreadable } = await find(REPOSITORY, [INDEX], { ...answers, [address]: answer });
    expect(unreadable.join()).toContain("longer than one answer");
  });
  test("a registry that doesn't answer ends planning", () => {
    const answers = { ...referring("list", BUNDLE), [`${SLSA}/referrers/${INDEX}`]: { status: 429 } };
    expect(find(REPOSITORY, [INDEX], answers)).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("a bundle by a key of our own", () => {
  const IMAGE = fakeImage();
  const hex = IMAGE.digest.slice(7);
  const statementOf = (predicateType: string, sha256 = hex) =>
    JSON.stringify({
      ...{ _type: "https://in-toto.io/Statement/v1", subject: [{ digest: { sha256 } }] },
      ...{ predicateType, predicate: {} },
    });
  const TYPE = "application/vnd.in-toto+json";
  const paeOf = (statement: string) =>
    Buffer.from(`DSSEv1 ${TYPE.length} ${TYPE} ${Buffer.byteLength(statement)} ${statement}`);

  const found = (statement: string, key: KeyObject) => {
    const algorithm = key.asymmetricKeyType === "ed25519" ? null : "sha256";
    const sig = sign(algorithm, paeOf(statement), key).toString("base64");
    const payload = Buffer.from(statement).toString("base64");
    const bundle = {
      mediaType: NEW_BUNDLE,
      verificationMaterial: { publicKey: { hint: "x" }, tlogEntries: [] },
      dsseEnvelope: { payloadType: TYPE, payload, signatures: [{ sig }] },
    };
    const made = tagged(BASE, null, [{ mediaType: NEW_BUNDLE, bytes: JSON.stringify(bundle) }]);
    const manifests = [
      { mediaType: TYPES.manifest, digest: made.digest, size: made.size, artifactType: NEW_BUNDLE },
    ];
    const list = JSON.stringify({ schemaVersion: 2, manifests });
    return find(NAME, [IMAGE.digest], { ...made.answers, [`${BASE}/referrers/${IMAGE.digest}`]: list });
  };
  const keys = {
    P256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
    Ed25519: generateKeyPairSync("ed25519"),
  };

  for (const [name, { publicKey, privateKey }] of Object.entries(keys)) {
    test.each([
      ["https://sigstore.dev/cosign/sign/v1", "image-signature"],
      ["https://slsa.dev/provenance/v1", "image-attestation"],
    ])(`${name}: %s is %s`, async (predicateType, kind) => {
      const { evidence } = await found(statementOf(predicateType), privateKey);
      expect(evidence).toMatchObject([{ kind, verified: false, key: null }]);
      const { payload = "", signature = "" } = evidence[0]?.signed ?? {};
      const algorithm = name === "Ed25519" ? null : "sha256";
      expect(
        verify(algorithm, Buffer.from(payload, "base64"), publicKey, Buffer.from(signature, "base64")),
      ).toBe(true);
    });
  }
  test("what policy doesn't ask for isn't carried along", async () => {
    const { evidence } = await found(statementOf("https://spdx.dev/Document"), keys.P256.privateKey);
    expect(evidence).toMatchObject([{ kind: "image-statement", verified: false }]);
    expect(evidence[0]?.signed).toBeUndefined();
  });
  test("more than a plan holds is said", async () => {
    const payload = (n: number) =>
      JSON.stringify({
        critical: {
          identity: { "docker-reference": NAME },
          image: { "docker-manifest-digest": IMAGE.digest },
          type: "cosign container image signature",
        },
        optional: { n, long: "x".repeat(40_000) },
      });
    const layers = Array.from({ length: 20 }, (_, n) => ({
      mediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
      bytes: payload(n),
      annotations: { [SIGNATURE]: "AAAA" },
    }));
    const { answers } = tagged(BASE, `${IMAGE.digest.replace(":", "-")}.sig`, layers);
    const { evidence, unreadable } = await find(NAME, [IMAGE.digest], answers);
    expect(evidence).toHaveLength(9);
    expect(unreadable).toHaveLength(11);
    expect(unreadable[0]).toContain("would be too long for a plan");
  });
  test("of another image", async () => {
    const statement = statementOf("https://sigstore.dev/cosign/sign/v1", "0".repeat(64));
    const { evidence } = await found(statement, keys.P256.privateKey);
    expect(evidence[0]?.signed).toBeUndefined();
    expect(evidence[0]?.detail).toContain("it speaks of another image");
  });
});
