import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type Descriptor, MANIFEST_TYPES, readImageManifest } from "./image-manifest.ts";
import type { ImageRepository } from "./image-registry.ts";

/*
 * Where signatures of an image are kept beside it: as documents that refer to its manifest, by the registry's own list or by a tag
 * that stands for it, and under the two tags of cosign's older form. Nothing is judged here.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers,
 * https://github.com/sigstore/cosign/blob/v2.4.1/specs/SIGNATURE_SPEC.md, .../BUNDLE_SPEC.md
 */

const BUNDLE = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v0\.\d+\+json|\+json;version=0\.\d+)$/;
const SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE = "application/vnd.dsse.envelope.v1+json";
/** Most signatures of one kind that are looked at, and their size in bytes. */
const MAX_SIGNATURES = 32;
const MAX_SIZE = 1024 * 1024;

const OLD = "dev.sigstore.cosign/";
const OldBundle = v.looseObject({
  SignedEntryTimestamp: v.string(),
  Payload: v.looseObject({
    body: v.string(),
    integratedTime: v.number(),
    logIndex: v.number(),
    logID: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  }),
});
const Entry = v.looseObject({ kind: v.string(), apiVersion: v.string() });
const Envelope = v.looseObject({
  payloadType: v.string(),
  payload: v.string(),
  signatures: v.pipe(v.array(v.looseObject({ sig: v.string() })), v.length(1)),
});
export type Envelope = v.InferOutput<typeof Envelope>;
const Bundle = v.looseObject({
  verificationMaterial: v.looseObject({ publicKey: v.optional(v.unknown()) }),
  dsseEnvelope: v.optional(Envelope),
  messageSignature: v.optional(v.looseObject({ signature: v.string() })),
});

/** One signature as it was found. */
export interface FoundSignature {
  where: string;
  /** What was signed: bytes of their own, a statement in an envelope, or (null) the manifest itself. */
  signed: { payload: Uint8Array } | { envelope: Envelope } | null;
  /** In base64. */
  signature: string;
  /** In Sigstore's form; null for one by a bare key. */
  bundle: object | null;
  /** Why it can't count, whoever signed. */
  problem?: string;
}

export interface FoundSignatures {
  found: FoundSignature[];
  /** What is there and can't be read, as sentences. */
  unreadable: string[];
}

/**
 * Everything that says to be a signature of one manifest.
 * @throws AegisError `unavailable`, `evidence_mismatch` as the registry's answers
 */
export async function findSignatures(digest: string, repository: ImageRepository): Promise<FoundSignatures> {
  const all: FoundSignatures = { found: [], unreadable: [] };
  const tag = digest.replace(":", "-");
  for (const suffix of ["sig", "att"]) await fromOldTag(`${tag}.${suffix}`, repository, all);
  await fromReferrers(digest, tag, repository, all);
  return all;
}

async function fromOldTag(tag: string, repository: ImageRepository, all: FoundSignatures): Promise<void> {
  await reading(`tag ${tag}`, all, async (where) => {
    const layers = await filesOf(tag, repository);
    const mine = layers.filter(({ mediaType }) => mediaType === SIMPLE_SIGNING || mediaType === ENVELOPE);
    for (const layer of limited(mine, where, all)) {
      await reading(`${where}, ${layer.digest}`, all, async (place) => {
        const { bytes } = await repository.blob(layer, MAX_SIZE);
        all.found.push(oldSignature(place, layer, bytes));
      });
    }
  });
}

/** The files of a manifest under a tag or digest; none where there is no manifest. */
async function filesOf(reference: string, repository: ImageRepository): Promise<readonly Descriptor[]> {
  const fetched = await repository.manifest(reference);
  if (fetched === null) return [];
  const document = readImageManifest(fetched.bytes, fetched.contentType);
  return document.kind === "manifest" ? document.manifest.layers : [];
}

function oldSignature(
  where: string,
  { mediaType, annotations }: Descriptor,
  bytes: Uint8Array,
): FoundSignature {
  if (mediaType === ENVELOPE) {
    const envelope = v.parse(Envelope, parseJson(Buffer.from(bytes).toString("utf8")));
    const signature = envelope.signatures[0]?.sig ?? "";
    return { where, signed: { envelope }, signature, ...certified(annotations, { dsseEnvelope: envelope }) };
  }
  const signature = annotations?.["dev.cosignproject.cosign/signature"] ?? "";
  const digest = new Bun.CryptoHasher("sha256").update(bytes).digest("base64");
  const content = { messageSignature: { messageDigest: { algorithm: "SHA2_256", digest }, signature } };
  return { where, signed: { payload: bytes }, signature, ...certified(annotations, content) };
}

function certified(
  annotations: Descriptor["annotations"],
  content: object,
): Pick<FoundSignature, "bundle" | "problem"> {
  const certificate = annotations?.[`${OLD}certificate`];
  if (certificate === undefined) return { bundle: null };
  if (annotations?.[`${OLD}bundle`] !== undefined)
    return { bundle: asBundle(certificate, annotations, content) };
  // A time stamp vouches for the time; only the log shows the owner of an identity what was signed with it.
  const stamp = annotations?.[`${OLD}rfc3161timestamp`] === undefined ? "" : ", only a time stamp";
  return { bundle: null, problem: `it has a certificate and no entry in a transparency log${stamp}` };
}

/** cosign's older annotations in the form that Sigstore's verifiers take. */
function asBundle(certificate: string, annotations: Record<string, string>, content: object): object {
  const { SignedEntryTimestamp, Payload } = v.parse(
    OldBundle,
    parseJson(annotations[`${OLD}bundle`] ?? "{}"),
  );
  const { kind, apiVersion } = v.parse(
    Entry,
    parseJson(Buffer.from(Payload.body, "base64").toString("utf8")),
  );
  const rawBytes =
    /-----BEGIN CERTIFICATE-----([^-]*)-----END/.exec(certificate)?.[1]?.replace(/\s/g, "") ?? "";
  const entry = {
    logIndex: String(Payload.logIndex),
    logId: { keyId: Buffer.from(Payload.logID, "hex").toString("base64") },
    kindVersion: { kind, version: apiVersion },
    integratedTime: String(Payload.integratedTime),
    inclusionPromise: { signedEntryTimestamp: SignedEntryTimestamp },
    canonicalizedBody: Payload.body,
  };
  return {
    mediaType: "application/vnd.dev.sigstore.bundle+json;version=0.1",
    verificationMaterial: { x509CertificateChain: { certificates: [{ rawBytes }] }, tlogEntries: [entry] },
    ...content,
  };
}

async function fromReferrers(
  digest: string,
  tag: string,
  repository: ImageRepository,
  all: FoundSignatures,
): Promise<void> {
  await reading(`the referrers of ${digest}`, all, async (where) => {
    const listed = await repository.referrers(digest);
    // Without a list of its own, a registry has an index under the tag that stands for the digest.
    const fetched = listed === null ? await repository.manifest(tag, [MANIFEST_TYPES[0]]) : null;
    const bytes = listed?.bytes ?? fetched?.bytes;
    if (bytes === undefined) return;
    if (listed?.isWhole === false)
      all.unreadable.push(`${where}: the list is longer than one answer; the rest isn't read`);
    const document = readImageManifest(bytes, fetched?.contentType ?? MANIFEST_TYPES[0]);
    if (document.kind !== "index") return;
    // Some registries leave the type out of the list; their documents are looked into.
    const mine = document.index.manifests.filter(
      ({ artifactType }) => artifactType === undefined || BUNDLE.test(artifactType),
    );
    for (const one of limited(mine, where, all)) await fromReferrer(one, repository, all);
  });
}

async function fromReferrer(
  { digest }: Descriptor,
  repository: ImageRepository,
  all: FoundSignatures,
): Promise<void> {
  await reading(`referrer ${digest}`, all, async (where) => {
    for (const layer of await filesOf(digest, repository)) {
      if (!BUNDLE.test(layer.mediaType)) continue;
      const { bytes } = await repository.blob(layer, MAX_SIZE);
      const tree = parseJson(Buffer.from(bytes).toString("utf8"));
      const { dsseEnvelope, messageSignature, verificationMaterial } = v.parse(Bundle, tree);
      all.found.push({
        where,
        signed: dsseEnvelope === undefined ? null : { envelope: dsseEnvelope },
        signature: dsseEnvelope?.signatures[0]?.sig ?? messageSignature?.signature ?? "",
        bundle: verificationMaterial.publicKey === undefined && typeof tree === "object" ? tree : null,
      });
    }
  });
}

function limited<T>(items: readonly T[], where: string, { unreadable }: FoundSignatures): readonly T[] {
  if (items.length > MAX_SIGNATURES)
    unreadable.push(`${where}: of ${items.length} only the first ${MAX_SIGNATURES} are looked at`);
  return items.slice(0, MAX_SIGNATURES);
}

/** What a document says wrongly is told; what a registry doesn't answer ends planning, as the next answer might differ. */
async function reading(
  where: string,
  { unreadable }: FoundSignatures,
  read: (where: string) => Promise<void>,
): Promise<void> {
  try {
    await read(where);
  } catch (error) {
    const isAnswer = error instanceof AegisError && !["refused", "invalid_document"].includes(error.code);
    if (isAnswer || !(error instanceof Error)) throw error;
    unreadable.push(`${where}: ${messageOf(error).slice(0, 300)}`);
  }
}
