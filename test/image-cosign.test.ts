import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import { imageAccess } from "../src/image-config.ts";
import { normalizeReference } from "../src/image-reference.ts";
import { ImageRepository } from "../src/image-registry.ts";
import { signaturesOf } from "../src/image-signature.ts";
import { isSignedByKey } from "../src/key-image.ts";
import { digestOf, imagePlanning } from "./image-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

/*
 * What cosign 2.6.5 and 3.1.3 wrote into a registry (fixtures/image/cosign/recorded.json, made by scripts/record-cosign.ts): by a key,
 * and by an identity of a Sigstore of our own with Fulcio, a certificate log, Rekor 2 and a time stamp authority. Each is accepted as it
 * is, and refused with any part of it changed.
 */

interface Recorded {
  manifests: Record<string, string>;
  blobs: Record<string, string>;
  referrers: Record<string, unknown>;
}
const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/image/cosign", name), "utf8");
const RECORDED: { key: string; root: Root; repositories: Record<string, Recorded> } = JSON.parse(
  fixture("recorded.json"),
);
type Root = Record<"tlogs" | "certificateAuthorities" | "ctlogs" | "timestampAuthorities", unknown[]>;

/** What is found of a recorded image, with its signature changed. */
async function found(name: string, change: (text: string) => string = (same) => same, root?: string | null) {
  const { manifests, blobs, referrers } = RECORDED.repositories[name] ?? {
    ...{ manifests: {}, blobs: {}, referrers: {} },
  };
  const [digest = ""] = Object.keys(referrers);
  // A changed document has another digest, by which everything above it names it.
  const renamed = new Map<string, string>();
  const current = (text: string) => [...renamed].reduce((all, [was, is]) => all.replaceAll(was, is), text);
  const answers: Record<string, RegistryAnswer> = {};
  const base = `http://127.0.0.1:5055/v2/${name}`;
  const serve = (kind: string, key: string, before: string, after: string) => {
    if (after !== before && key.startsWith("sha256:")) renamed.set(key, digestOf(after));
    answers[`${base}/${kind}/${renamed.get(key) ?? key}`] = after;
  };
  for (const [key, text] of Object.entries(blobs)) {
    const after = change(text);
    serve("blobs", key, text, after);
    // Nothing but the size tells them apart for a manifest.
    if (after !== text) sizes.set(digestOf(after), Buffer.byteLength(after));
  }
  for (const [key, text] of Object.entries(manifests))
    serve("manifests", key, text, key === digest ? text : resized(current(change(text))));
  for (const [key, list] of Object.entries(referrers))
    answers[`${base}/referrers/${key}`] = resized(current(JSON.stringify(list)));

  const reference = normalizeReference(`127.0.0.1:5055/${name}`);
  const planning = imagePlanning(answers);
  const repository = new ImageRepository(reference, imageAccess(reference, planning), planning);
  const named = `127.0.0.1:5055/${name}`;
  const read = () => (root === undefined ? JSON.stringify(RECORDED.root) : root);
  return signaturesOf(`${named}@${digest}`, named, [digest], repository, read);
}
const sizes = new Map<string, number>();

/** A manifest with the sizes that its layers have now. */
function resized(text: string): string {
  const tree = JSON.parse(text);
  for (const layer of tree.layers ?? []) layer.size = sizes.get(layer.digest) ?? layer.size;
  return sizes.size === 0 ? text : JSON.stringify(tree);
}

/** Base64 with one bit of its middle flipped. */
function flipped(base64: string): string {
  const bytes = Buffer.from(base64, "base64");
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  return bytes.toString("base64");
}

test("the fixture holds every way", () =>
  expect(Object.keys(RECORDED.repositories).sort()).toEqual([
    ...["v2-identity-sig-timestamp", "v2-key-att", "v2-key-bundle", "v2-key-sig", "v2-key-sig-timestamp"],
    ...["v3-identity-attestation", "v3-identity-bundle", "v3-identity-message"],
    ...["v3-key-attestation", "v3-key-bundle", "v3-key-message"],
  ]));

describe("by a key", () => {
  const WAYS: [string, string][] = [
    ["v2-key-sig", "image-signature"],
    ["v2-key-sig-timestamp", "image-signature"],
    ["v2-key-bundle", "image-signature"],
    ["v2-key-att", "image-attestation"],
    ["v3-key-bundle", "image-signature"],
    ["v3-key-attestation", "image-attestation"],
    ["v3-key-message", "image-signature"],
  ];
  const isBy = (key: string, signed: { payload: string; signature: string } | undefined) =>
    signed !== undefined && isSignedByKey(key, Buffer.from(signed.payload, "base64"), signed.signature);

  test.each(WAYS)("%s: by this key, and by no other", async (name, kind) => {
    const { evidence, unreadable } = await found(name);
    expect(unreadable).toEqual([]);
    expect(evidence).toMatchObject([{ kind, verified: false, key: null }]);
    expect(isBy(RECORDED.key, evidence[0]?.signed)).toBe(true);
    expect(isBy(fixture("cosign.pub"), evidence[0]?.signed)).toBe(false);
  });

  /** The one signature of the way. */
  const SIGNATURE = /(?<="(?:dev\.cosignproject\.cosign\/signature|sig|signature)":")[^"]{20,}(?=")/;
  test.each(WAYS)("%s with one bit of its signature changed", async (name) => {
    const { evidence } = await found(name, (text) => text.replace(SIGNATURE, flipped));
    expect(evidence).toHaveLength(1);
    expect(isBy(RECORDED.key, evidence[0]?.signed)).toBe(false);
  });

  /** What is signed, where it is beside the signature. */
  const changes: [string, string, (text: string) => string, string][] = [
    [
      "v2-key-sig",
      "another image",
      (text) => text.replace(/(?<="docker-manifest-digest":"sha256:)./, "0"),
      "it is of another image",
    ],
    [
      "v2-key-sig",
      "another repository",
      (text) => text.replace('5055/v2-key-sig"', '5055/v2-key-other"'),
      "it is of 127.0.0.1:5055/v2-key-other, not of",
    ],
    ...["v2-key-bundle", "v2-key-att", "v3-key-bundle", "v3-key-attestation"].map(
      (name): [string, string, (text: string) => string, string] => [
        name,
        "another image",
        (text) =>
          text.replace(/(?<="payload":")[^"]+/, (payload) =>
            Buffer.from(
              Buffer.from(payload, "base64")
                .toString()
                .replace(/(?<="sha256":")./, "0"),
            ).toString("base64"),
          ),
        "it speaks of another image",
      ],
    ),
  ];
  test.each(changes)("%s made to speak of %s", async (name, _, change, why) => {
    const { evidence } = await found(name, change);
    expect(evidence).toMatchObject([{ verified: false, key: null }]);
    expect(evidence[0]?.signed).toBeUndefined();
    expect(evidence[0]?.detail).toContain(why);
  });
  test.each(["v2-key-bundle", "v3-key-bundle"])("%s with another annotation", async (name) => {
    const { evidence } = await found(name, (text) =>
      text.replace(/(?<="payload":")[^"]+/, (payload) =>
        Buffer.from(Buffer.from(payload, "base64").toString().replace("{", '{"a":1,')).toString("base64"),
      ),
    );
    expect(evidence).toHaveLength(1);
    expect(isBy(RECORDED.key, evidence[0]?.signed)).toBe(false);
  });
});

describe("by an identity", () => {
  const WAYS: [string, string][] = [
    ["v3-identity-bundle", "image-signature"],
    ["v3-identity-attestation", "image-attestation"],
    ["v3-identity-message", "image-signature"],
  ];

  test.each(WAYS)("%s: who signed", async (name, kind) => {
    const { evidence, unreadable } = await found(name);
    expect(unreadable).toEqual([]);
    const identity = { issuer: "https://127.0.0.1:5056", subject: "dev@aegis.test", source_repository: null };
    expect(evidence).toMatchObject([{ kind, verified: true, key: "dev@aegis.test", identity }]);
  });

  interface Bundle {
    verificationMaterial: {
      certificate?: { rawBytes: string };
      tlogEntries: Entry[];
      timestampVerificationData?: { rfc3161Timestamps: { signedTimestamp: string }[] };
    };
    dsseEnvelope?: { payload: string; signatures: { sig: string }[] };
    messageSignature?: { messageDigest: { digest: string }; signature: string };
  }
  interface Entry {
    logId: { keyId: string };
    kindVersion: { kind: string; version: string };
    inclusionProof?: {
      rootHash: string;
      logIndex?: string;
      treeSize: string;
      checkpoint: { envelope: string };
    };
    inclusionPromise?: { signedEntryTimestamp: string };
    integratedTime?: string;
    canonicalizedBody: string;
  }
  const isBundle = (text: string) => text.includes('"verificationMaterial"');
  const bundleOf = (name: string): Bundle =>
    JSON.parse(Object.values(RECORDED.repositories[name]?.blobs ?? {}).find(isBundle) ?? "{}");
  const changed = (change: (bundle: Bundle, entry: Entry) => void) => (text: string) => {
    if (!isBundle(text)) return text;
    const bundle: Bundle = JSON.parse(text);
    const [entry] = bundle.verificationMaterial.tlogEntries;
    if (entry !== undefined) change(bundle, entry);
    const after = JSON.stringify(bundle);
    expect(after).not.toBe(JSON.stringify(JSON.parse(text)));
    return after;
  };
  const other = bundleOf("v3-identity-message");
  const stamps = (bundle: Bundle) =>
    bundle.verificationMaterial.timestampVerificationData?.rfc3161Timestamps ?? [];

  const CHANGES: [string, (bundle: Bundle, entry: Entry) => void][] = [
    [
      "its signature",
      ({ dsseEnvelope, messageSignature }) => {
        if (messageSignature !== undefined) messageSignature.signature = flipped(messageSignature.signature);
        for (const one of dsseEnvelope?.signatures ?? []) one.sig = flipped(one.sig);
      },
    ],
    [
      "what is signed",
      ({ dsseEnvelope, messageSignature }) => {
        if (messageSignature !== undefined)
          messageSignature.messageDigest.digest = flipped(messageSignature.messageDigest.digest);
        if (dsseEnvelope === undefined) return;
        const statement = Buffer.from(dsseEnvelope.payload, "base64").toString();
        dsseEnvelope.payload = Buffer.from(statement.replace("{", '{"a":1,')).toString("base64");
      },
    ],
    [
      "its certificate",
      ({ verificationMaterial: material }) => {
        if (material.certificate !== undefined)
          material.certificate.rawBytes = flipped(material.certificate.rawBytes);
      },
    ],
    ["without a certificate", ({ verificationMaterial }) => delete verificationMaterial.certificate],
    ["without the log's entry", ({ verificationMaterial }) => verificationMaterial.tlogEntries.pop()],
    [
      "the log's entry twice",
      ({ verificationMaterial }, entry) => verificationMaterial.tlogEntries.push(structuredClone(entry)),
    ],
    ["without the proof that the log has it", (_, entry) => delete entry.inclusionProof],
    [
      "the root in the log's checkpoint",
      (_, { inclusionProof: proof }) => {
        if (proof !== undefined)
          proof.checkpoint.envelope = proof.checkpoint.envelope.replace(/\n\d+\n(\S+)/, (all, root) =>
            all.replace(root, flipped(root)),
          );
      },
    ],
    [
      "the signature of the log's checkpoint",
      (_, { inclusionProof: proof }) => {
        if (proof !== undefined)
          proof.checkpoint.envelope = proof.checkpoint.envelope.replace(/\S+(?=\n$)/, flipped);
      },
    ],
    [
      "its place in the log",
      (_, { inclusionProof: proof }) => {
        if (proof !== undefined) proof.logIndex = proof.logIndex === "2" ? "1" : "7";
      },
    ],
    [
      "what the log has",
      (_, entry) => {
        entry.canonicalizedBody = Buffer.from(
          Buffer.from(entry.canonicalizedBody, "base64").toString().replace('"digest":"', '"digest":"A'),
        ).toString("base64");
      },
    ],
    [
      "the kind of entry",
      (_, entry) => {
        entry.kindVersion.version = "0.0.1";
      },
    ],
    [
      "the log's name",
      (_, entry) => {
        entry.logId.keyId = flipped(entry.logId.keyId);
      },
    ],
    [
      "a promise of the log besides",
      (_, entry) => {
        entry.integratedTime = "1796000000";
        entry.inclusionPromise = { signedEntryTimestamp: "MEUCIQ==" };
      },
    ],
    [
      "without a time stamp",
      ({ verificationMaterial }) => delete verificationMaterial.timestampVerificationData,
    ],
    [
      "its time stamp",
      (bundle) => {
        for (const one of stamps(bundle)) one.signedTimestamp = flipped(one.signedTimestamp);
      },
    ],
    [
      "its time stamp twice",
      (bundle) => stamps(bundle).push(structuredClone(stamps(bundle)[0] ?? { signedTimestamp: "" })),
    ],
  ];
  describe.each(WAYS)("%s", (name) => {
    test.each(CHANGES)("%s", async (_, change) => {
      const { evidence, unreadable } = await found(name, changed(change));
      expect(
        evidence.some(
          ({ verified, identity, signed }) => verified || identity !== undefined || signed !== undefined,
        ),
      ).toBe(false);
      expect(evidence.length + unreadable.length).toBe(1);
    });
  });
  test.each([
    ["a time stamp", (bundle: Bundle) => Object.assign(stamps(bundle)[0] ?? {}, stamps(other)[0])],
    [
      "a certificate",
      ({ verificationMaterial: material }: Bundle) =>
        Object.assign(material, { certificate: other.verificationMaterial.certificate }),
    ],
    [
      "a log's entry",
      ({ verificationMaterial: material }: Bundle) =>
        Object.assign(material, { tlogEntries: other.verificationMaterial.tlogEntries }),
    ],
  ])("%s of another signature by the same person", async (_, change) => {
    const { evidence } = await found("v3-identity-bundle", changed(change));
    expect(evidence).toMatchObject([{ verified: false, key: null }]);
    expect(evidence[0]?.identity).toBeUndefined();
  });

  test("the root that a proof repeats is not looked at: the log's signed checkpoint has it", async () => {
    const { evidence } = await found(
      "v3-identity-bundle",
      changed((_, { inclusionProof: proof }) => {
        if (proof !== undefined) proof.rootHash = flipped(proof.rootHash);
      }),
    );
    expect(evidence).toMatchObject([{ verified: true }]);
  });

  const without = (member: keyof Root) => JSON.stringify({ ...RECORDED.root, [member]: [] });
  test.each(WAYS)("%s, where nobody trusts this Sigstore", async (name) => {
    const { evidence } = await found(name, undefined, null);
    expect(evidence).toMatchObject([{ verified: false, key: null }]);
  });
  test.each(["ctlogs", "timestampAuthorities"] as const)("without trusted %s", async (member) => {
    for (const [name] of WAYS) {
      const { evidence } = await found(name, undefined, without(member));
      expect(evidence).toMatchObject([{ verified: false, key: null }]);
    }
  });
  test.each(["tlogs", "certificateAuthorities"] as const)("a root without %s is no root", (member) =>
    expect(found("v3-identity-message", undefined, without(member))).rejects.toMatchObject({
      code: "invalid_config",
    }),
  );

  test("under cosign's tag with a time stamp and no log's entry: doesn't count, and why", async () => {
    const { evidence, unreadable } = await found("v2-identity-sig-timestamp");
    expect(unreadable).toEqual([]);
    expect(evidence).toMatchObject([{ kind: "image-signature", verified: false, key: null }]);
    expect(evidence[0]?.detail).toEndWith(
      "it has a certificate and no entry in a transparency log, only a time stamp",
    );
  });
});

test("the plan's evidence of a signature is the same each time", async () => {
  for (const name of Object.keys(RECORDED.repositories))
    expect(canonicalHash(await found(name))).toBe(canonicalHash(await found(name)));
});
