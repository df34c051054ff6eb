import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { SigstoreIdentity, Statement } from "./eco-sigstore.ts";
import { AegisError, messageOf } from "./errors.ts";
import { normalizeReference, repositoryOf } from "./image-reference.ts";
import { type Envelope, type FoundSignature, findSignatures } from "./image-referrers.ts";
import type { ImageRepository } from "./image-registry.ts";
import { SIGNATURE_KINDS } from "./image-target.ts";

/*
 * What signatures of an image are worth. One with a certificate of Sigstore's is verified here, as Sigstore's roots are part of the
 * program; one by a bare key goes into the plan, for the policy to compare with the keys that it names. Each must speak of this
 * manifest in this repository.
 */

/** https://github.com/sigstore/cosign/blob/v2.4.1/specs/SIGNATURE_SPEC.md#simple-signing */
const SimpleSigning = v.looseObject({
  critical: v.looseObject({
    identity: v.looseObject({ "docker-reference": v.string() }),
    image: v.looseObject({ "docker-manifest-digest": v.string() }),
    type: v.picklist(["cosign container image signature", "atomic container signature"]),
  }),
});
/** What cosign 3 signs in place of it. */
const COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1";
const SLSA = /^https:\/\/slsa\.dev\/provenance\/v(?:1|0\.2)$/;
const IN_TOTO = "application/vnd.in-toto+json";

export interface SignatureFindings {
  evidence: ProvenanceEvidence[];
  /** What is there and can't be read, as sentences. */
  unreadable: string[];
}

/**
 * The signatures of an image and the statements about it, verified or not. `digests` are of the manifests that make it: of what was
 * asked for, and of this host's platform within that.
 * @throws AegisError `unavailable`, `evidence_mismatch`
 */
export async function signaturesOf(
  subject: string,
  name: string,
  digests: readonly string[],
  repository: ImageRepository,
  readRoot?: () => string | null,
): Promise<SignatureFindings> {
  const all: SignatureFindings = { evidence: [], unreadable: [] };
  let room = MAX_ALL_SIGNED;
  for (const digest of new Set(digests)) {
    const { found, unreadable } = await findSignatures(digest, repository);
    all.unreadable.push(...unreadable);
    for (const one of found) {
      const evidence = await judged(one, { subject, name, digest }, repository, readRoot);
      room -= evidence.signed?.payload.length ?? 0;
      if (room >= 0) all.evidence.push(evidence);
      else all.unreadable.push(`${one.where}: with it, what keys have signed would be too long for a plan`);
    }
  }
  return all;
}

interface About {
  subject: string;
  name: string;
  digest: string;
}

async function judged(
  one: FoundSignature,
  about: About,
  repository: ImageRepository,
  readRoot?: () => string | null,
): Promise<ProvenanceEvidence> {
  let kind: string = SIGNATURE_KINDS.signature;
  try {
    kind = kindOf(one);
    if (one.problem !== undefined) throw wrong(one.problem);
    const bytes = await signedBytes(one, about, repository);
    if (one.bundle === null) return byKey(kind, one, about, bytes);
    const { verifyAttestation, verifySigned } = await import("./eco-sigstore.ts");
    const identity =
      one.signed !== null && "envelope" in one.signed
        ? verifyAttestation(one.bundle, undefined, readRoot).identity
        : verifySigned(one.bundle, bytes, readRoot);
    if (identity === null) throw wrong("it has no certificate");
    return byIdentity(kind, one, about, identity);
  } catch (error) {
    if (
      error instanceof AegisError &&
      !["signature_invalid", "invalid_document", "invalid_target"].includes(error.code)
    )
      throw error;
    const detail = `${about.digest}, ${one.where}: ${messageOf(error)}`.slice(0, 4096);
    return { kind, subject: about.subject, verified: false, key: null, detail };
  }
}

function kindOf({ signed }: FoundSignature): string {
  if (signed === null || "payload" in signed) return SIGNATURE_KINDS.signature;
  const { predicateType } = statementOf(signed.envelope);
  if (predicateType === COSIGN_SIGN) return SIGNATURE_KINDS.signature;
  return SLSA.test(predicateType) ? SIGNATURE_KINDS.slsa : SIGNATURE_KINDS.other;
}

/**
 * The bytes that the signature is of, which must speak of this manifest.
 * @throws AegisError `signature_invalid`
 */
async function signedBytes(
  { signed }: FoundSignature,
  { name, digest }: About,
  repository: ImageRepository,
): Promise<Uint8Array> {
  if (signed === null) {
    const fetched = await repository.manifest(digest);
    if (fetched === null) throw wrong("the manifest is not there");
    return fetched.bytes;
  }
  if ("payload" in signed) {
    assertSimple(signed.payload, name, digest);
    return signed.payload;
  }
  const { subject } = statementOf(signed.envelope);
  const hex = digest.replace("sha256:", "");
  if (!subject.some((one) => one.digest["sha256"] === hex)) throw wrong("it speaks of another image");
  return preAuthEncoding(signed.envelope);
}

function assertSimple(payload: Uint8Array, name: string, digest: string): void {
  const parsed = v.safeParse(SimpleSigning, parseJson(Buffer.from(payload).toString("utf8")));
  if (!parsed.success) throw wrong("what it signs says nothing of an image");
  const { identity, image } = parsed.output.critical;
  if (image["docker-manifest-digest"] !== digest) throw wrong("it is of another image");
  const reference = identity["docker-reference"];
  if (repositoryOf(normalizeReference(reference)) !== name)
    throw wrong(`it is of ${reference.slice(0, 300)}, not of ${name}`);
}

/** What of an in-toto statement is read before its signature is verified; {@link verifyAttestation} reads it again. */
const Claimed = v.looseObject({
  subject: v.array(v.looseObject({ digest: v.record(v.string(), v.string()) })),
  predicateType: v.string(),
});

function statementOf({
  payload,
  payloadType,
}: Envelope): Pick<Statement, "predicateType"> & v.InferOutput<typeof Claimed> {
  if (payloadType !== IN_TOTO) throw wrong(`it is of an unknown kind (${payloadType.slice(0, 100)})`);
  const parsed = v.safeParse(Claimed, parseJson(Buffer.from(payload, "base64").toString("utf8")));
  if (parsed.success) return parsed.output;
  throw wrong("it is no statement");
}

/** https://github.com/secure-systems-lab/dsse/blob/master/protocol.md */
function preAuthEncoding({ payload, payloadType }: Envelope): Uint8Array {
  const bytes = Buffer.from(payload, "base64");
  const head = `DSSEv1 ${Buffer.byteLength(payloadType)} ${payloadType} ${bytes.length} `;
  return Buffer.concat([Buffer.from(head), bytes]);
}

function byKey(
  kind: string,
  one: FoundSignature,
  { subject, digest }: About,
  bytes: Uint8Array,
): ProvenanceEvidence {
  const { signature, where } = one;
  if (kind === SIGNATURE_KINDS.other)
    return {
      ...{ kind, subject, verified: false, key: null },
      detail: `${digest}, ${where}: signed by a key, and about something that policy doesn't ask for`,
    };
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(signature) || signature.length > 256 || bytes.length > MAX_SIGNED)
    throw wrong("its signature, or what it signs, is longer than any of a supported key");
  return {
    ...{ kind, subject, verified: false, key: null },
    detail: `${digest}, ${where}: signed by a key; whether it is one of the policy's signers, policy says`,
    signed: { payload: Buffer.from(bytes).toString("base64"), signature },
  };
}

/** In base64 it must fit into a text of a plan, and all of them together into what the executor takes. */
const MAX_SIGNED = 48 * 1024;
const MAX_ALL_SIGNED = 512 * 1024;

function byIdentity(
  kind: string,
  { where }: FoundSignature,
  { subject, digest }: About,
  { subject: who, issuer, sourceRepository, sourceRef }: SigstoreIdentity,
): ProvenanceEvidence {
  const source = sourceRepository === null ? "" : `, run for ${sourceRepository} at ${sourceRef ?? "?"}`;
  return {
    ...{ kind, subject, verified: true, key: who.slice(0, 1024) },
    detail: `${digest}, ${where}: signed by ${who}, known to ${issuer}${source}`.slice(0, 4096),
    identity: {
      issuer: issuer.slice(0, 1024),
      subject: who.slice(0, 1024),
      source_repository: sourceRepository?.slice(0, 1024) ?? null,
    },
  };
}

function wrong(why: string): AegisError {
  return new AegisError("signature_invalid", why);
}
