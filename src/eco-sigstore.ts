import { createHash, createPublicKey } from "node:crypto";
import { bundleFromJSON, isBundleWithDsseEnvelope, isBundleWithMessageSignature } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";
import * as v from "valibot";
import { SIGSTORE_ROOT } from "./eco-sigstore-root.ts";
import { AegisError, messageOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { readConfig } from "./sys-config.ts";

/*
 * Attestations as npm and PyPI publish them: an in-toto statement in a DSSE envelope, signed with a certificate of Sigstore's (or a
 * key that the registry is known by), and entered in its transparency log. All of it is verified here, without a network.
 * Loads a parser of certificates: import it only when there is an attestation.
 */

/** A key that signs without a certificate, DER SubjectPublicKeyInfo in base64. */
interface HintedKey {
  key: string;
  /** RFC 3339; null for no end. */
  expires: string | null;
}

/** https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md */
const Statement = v.looseObject({
  _type: v.picklist(["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"]),
  subject: v.pipe(
    v.array(v.looseObject({ name: v.optional(v.string(), ""), digest: v.record(v.string(), v.string()) })),
    v.minLength(1),
  ),
  predicateType: v.string(),
  predicate: v.unknown(),
});
export type Statement = v.InferOutput<typeof Statement>;

/** Who signed, by the certificate: what its issuer knew of the workflow. Null where the certificate doesn't say. */
export interface SigstoreIdentity {
  /** Subject alternative name: a workflow's address, or a mail address. */
  subject: string;
  issuer: string;
  /** https://github.com/…, without what is behind it. */
  sourceRepository: string | null;
  sourceRef: string | null;
  sourceDigest: string | null;
  /** `github-hosted` or `self-hosted`. */
  runner: string | null;
}

export interface VerifiedAttestation {
  statement: Statement;
  /** Null for one signed by a key without a certificate; `key` is then its hint. */
  identity: SigstoreIdentity | null;
  key: string;
}

/** https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md */
const FULCIO = "1.3.6.1.4.1.57264.1";

/**
 * What vouches for Sigstore: root's file, else what is in the program. `text` is the file's, null without one.
 * @throws AegisError `invalid_config` for a file that isn't a trusted root, or without authorities or logs: it would vouch for nothing
 */
export function trustedRoot(text: string | null): TrustedRoot {
  if (text === null) return TrustedRoot.fromJSON(SIGSTORE_ROOT);
  try {
    const root = TrustedRoot.fromJSON(JSON.parse(text));
    if (root.certificateAuthorities.length === 0) throw new Error("it has no certificate authorities");
    if (root.tlogs.length === 0) throw new Error("it has no transparency logs");
    // Parses every key and certificate.
    toTrustMaterial(root);
    return root;
  } catch (error) {
    throw new AegisError(
      "invalid_config",
      `${SYSTEM.sigstoreRoot} is no trusted root of Sigstore's: ${messageOf(error)}`,
      `Save trusted_root.json there again, or remove the file: the one in the program counts then.`,
    );
  }
}

/** The text of the file in which root trusts another Sigstore than the public one, or its newer keys; null without one. */
function readSigstoreRoot(): string | null {
  return readConfig(SYSTEM.sigstoreRoot, true);
}

/**
 * Verifies a bundle: the signature over the statement, the signer's certificate at the time of signing (or the key that `keys` has for
 * its hint), and the entry in the transparency log. What the statement says, and whether this signer may say it, is for the caller.
 * @throws AegisError `signature_invalid`; as {@link trustedRoot}, `invalid_config` also for a file that others than root can write
 */
export function verifyAttestation(
  document: unknown,
  keys: ReadonlyMap<string, HintedKey> = new Map(),
  readRoot = readSigstoreRoot,
): VerifiedAttestation {
  const root = trustedRoot(readRoot());
  try {
    const bundle = bundleFromJSON(document);
    if (!isBundleWithDsseEnvelope(bundle)) throw new Error("it is no statement");
    const { payload, payloadType } = bundle.content.dsseEnvelope;
    if (payloadType !== "application/vnd.in-toto+json") throw new Error("its statement is of another type");
    const trust = toTrustMaterial(root, (hint) => findKey(hint, keys));
    const signer = new Verifier(trust).verify(toSignedEntity(bundle));
    const statement = v.parse(Statement, JSON.parse(payload.toString()));
    const { content } = bundle.verificationMaterial;
    if (content.$case === "publicKey") return { statement, identity: null, key: content.publicKey.hint };
    const identity = identityOf(signer.identity ?? {});
    return { statement, identity, key: identity.subject };
  } catch (error) {
    throw new AegisError("signature_invalid", `the attestation can't be verified: ${messageOf(error)}`);
  }
}

/**
 * Verifies a bundle with a signature of bytes that come separately: the signature, the signer's certificate at the time of signing, and
 * the entry in the transparency log. Returns who signed.
 * @throws AegisError as {@link verifyAttestation}
 */
export function verifySigned(
  document: unknown,
  bytes: Uint8Array,
  readRoot = readSigstoreRoot,
): SigstoreIdentity {
  const root = trustedRoot(readRoot());
  try {
    const bundle = bundleFromJSON(document);
    if (!isBundleWithMessageSignature(bundle)) throw new Error("it is no signature of bytes");
    const { messageDigest } = bundle.content.messageSignature;
    if (!createHash("sha256").update(bytes).digest().equals(messageDigest.digest))
      throw new Error("it is a signature of something else");
    const trust = toTrustMaterial(root);
    const { identity } = new Verifier(trust).verify(toSignedEntity(bundle, Buffer.from(bytes)));
    if (identity === undefined) throw new Error("it has no certificate");
    return identityOf(identity);
  } catch (error) {
    throw new AegisError("signature_invalid", `the signature can't be verified: ${messageOf(error)}`);
  }
}

function findKey(hint: string, keys: ReadonlyMap<string, HintedKey>) {
  const found = keys.get(hint);
  if (found === undefined) throw new Error("its key is not known");
  const publicKey = createPublicKey({ key: Buffer.from(found.key, "base64"), format: "der", type: "spki" });
  const end = found.expires === null ? null : new Date(found.expires);
  return { publicKey, validFor: (date: Date) => end === null || date < end };
}

type Signer = ReturnType<Verifier["verify"]>;

function identityOf({
  subjectAlternativeName,
  extensions,
  oids = [],
}: NonNullable<Signer["identity"]>): SigstoreIdentity {
  const extension = (last: number): string | null => {
    const value = oids.find(({ oid }) => oid?.id.join(".") === `${FULCIO}.${last}`)?.value;
    return value === undefined ? null : derText(value);
  };
  return {
    subject: subjectAlternativeName ?? "",
    issuer: extension(8) ?? extensions?.issuer ?? "",
    sourceRepository: extension(12),
    sourceRef: extension(14),
    sourceDigest: extension(13),
    runner: extension(11),
  };
}

/** The text of a DER UTF8String; the extensions from 8 on have one. */
function derText(value: Uint8Array): string | null {
  const [tag, length = 0] = value;
  if (tag !== 0x0c) return null;
  const lengthBytes = length < 0x80 ? 0 : length - 0x80;
  return Buffer.from(value.subarray(2 + lengthBytes)).toString("utf8");
}
