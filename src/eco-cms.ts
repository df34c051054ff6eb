import { createHash, type KeyObject, verify, X509Certificate } from "node:crypto";
import {
  contextTag,
  type DerElement,
  derChildren,
  expectTag,
  notDer,
  oidOf,
  readDer,
  TAG,
} from "./eco-der.ts";

/*
 * Signed data of the Cryptographic Message Syntax (RFC 5652), as far as package signatures use it: signed attributes, SHA-2, RSA with
 * PKCS #1 v1.5 and ECDSA. It tells whose certificate made a signature; whether that certificate is believed is for others to say.
 */

const SIGNED_DATA = "1.2.840.113549.1.7.2";
const ATTRIBUTE = {
  contentType: "1.2.840.113549.1.9.3",
  messageDigest: "1.2.840.113549.1.9.4",
  signingCertificateV2: "1.2.840.113549.1.9.16.2.47",
} as const;
const HASHES: Readonly<Record<string, "sha256" | "sha384" | "sha512">> = {
  "2.16.840.1.101.3.4.2.1": "sha256",
  "2.16.840.1.101.3.4.2.2": "sha384",
  "2.16.840.1.101.3.4.2.3": "sha512",
};
/** Signature algorithms: the hash that they are made with; null for the one of `digestAlgorithm`. */
const SIGNATURES: Readonly<Record<string, { key: "rsa" | "ec"; hash: string | null }>> = {
  "1.2.840.113549.1.1.1": { key: "rsa", hash: null },
  "1.2.840.113549.1.1.11": { key: "rsa", hash: "sha256" },
  "1.2.840.113549.1.1.12": { key: "rsa", hash: "sha384" },
  "1.2.840.113549.1.1.13": { key: "rsa", hash: "sha512" },
  "1.2.840.10045.4.3.2": { key: "ec", hash: "sha256" },
  "1.2.840.10045.4.3.3": { key: "ec", hash: "sha384" },
  "1.2.840.10045.4.3.4": { key: "ec", hash: "sha512" },
};
const MAX_CERTIFICATES = 64;
const MAX_SIGNERS = 16;

/** By object identifier: the values of an attribute. */
export type Attributes = ReadonlyMap<string, readonly DerElement[]>;

export interface SignerInfo {
  issuer: Uint8Array;
  serial: Uint8Array;
  hash: "sha256" | "sha384" | "sha512";
  signed: Attributes;
  /** The signed attributes as they are signed: a SET. */
  signedBytes: Uint8Array;
  algorithm: string;
  signature: Uint8Array;
  unsigned: Attributes;
}

export interface SignedData {
  contentType: string;
  content: Uint8Array;
  certificates: X509Certificate[];
  signers: SignerInfo[];
}

/**
 * Reads signed data. Its content is inside; where `detached` is given, it may be left out for that, and must be the same otherwise.
 * Nothing is verified.
 * @throws AegisError `invalid_document`
 */
export function readSignedData(bytes: Uint8Array, detached?: Uint8Array): SignedData {
  const [type, outer, ...behind] = derChildren(expectTag(readDer(bytes), TAG.sequence));
  if (oidOf(type) !== SIGNED_DATA || behind.length > 0) throw notDer("it is no signed data");
  const [inner, ...more] = derChildren(expectTag(outer, contextTag(0)));
  if (more.length > 0) throw notDer("it is no signed data");
  const [version, hashes, content, ...rest] = derChildren(expectTag(inner, TAG.sequence));
  expectTag(version, TAG.integer);
  expectTag(hashes, TAG.set);
  const [contentType, wrapped] = derChildren(expectTag(content, TAG.sequence));
  const inside =
    wrapped === undefined && detached !== undefined
      ? detached
      : expectTag(derChildren(expectTag(wrapped, contextTag(0)))[0], TAG.octets).content;
  if (detached !== undefined && !isSame(inside, detached)) throw notDer("it signs something else");
  const certificates = rest.find(({ tag }) => tag === contextTag(0));
  const signers = derChildren(expectTag(rest.at(-1), TAG.set));
  if (signers.length > MAX_SIGNERS) throw notDer("it has too many signers");
  return {
    contentType: oidOf(contentType),
    content: inside,
    certificates: certificates === undefined ? [] : certificatesIn(certificates),
    signers: signers.map(readSigner),
  };
}

/** @throws AegisError `invalid_document` */
export function readSigner(element: DerElement): SignerInfo {
  const [version, sid, digest, attributes, algorithm, signature, unsigned, ...more] = derChildren(
    expectTag(element, TAG.sequence),
  );
  expectTag(version, TAG.integer);
  const [issuer, serial] = derChildren(expectTag(sid, TAG.sequence));
  const signedAttributes = expectTag(attributes, contextTag(0));
  const [digestType] = derChildren(expectTag(digest, TAG.sequence));
  const [signatureType] = derChildren(expectTag(algorithm, TAG.sequence));
  if (more.length > 0) throw notDer("a signer has more than signers have");
  // What is signed has the tag of a SET in place of the implicit one: RFC 5652, section 5.4.
  const signedBytes = Uint8Array.from(signedAttributes.raw);
  signedBytes[0] = TAG.set;
  return {
    issuer: expectTag(issuer, TAG.sequence).raw,
    serial: expectTag(serial, TAG.integer).content,
    hash: hashOf(oidOf(digestType)),
    signed: attributesOf(signedAttributes),
    signedBytes,
    algorithm: oidOf(signatureType),
    signature: expectTag(signature, TAG.octets).content,
    unsigned: unsigned === undefined ? new Map() : attributesOf(expectTag(unsigned, contextTag(1))),
  };
}

/**
 * The certificate that made this signature over `content`. `contentType` is that of the content, or null for a countersignature, which
 * has none.
 * @throws AegisError `invalid_document` for a signature that isn't valid
 */
export function signerCertificate(
  signer: SignerInfo,
  content: Uint8Array,
  contentType: string | null,
  certificates: readonly X509Certificate[],
): X509Certificate {
  const certificate = certificates.find((one) => isOf(signer, one));
  if (certificate === undefined) throw notDer("the certificate of its signer is not in it");
  const type = signer.signed.get(ATTRIBUTE.contentType);
  if (
    contentType === null
      ? type !== undefined
      : oidOf(singleValue(signer.signed, ATTRIBUTE.contentType)) !== contentType
  )
    throw notDer("it signs another kind of content");
  const digest = expectTag(singleValue(signer.signed, ATTRIBUTE.messageDigest), TAG.octets).content;
  if (!isSame(digest, createHash(signer.hash).update(content).digest()))
    throw notDer("its content was changed");
  refuseOtherCertificate(signer, certificate);
  if (!isSignedBy(signer, certificate.publicKey)) throw notDer("its signature is wrong");
  return certificate;
}

/**
 * The one value of an attribute that has to be there once.
 * @throws AegisError `invalid_document`
 */
export function singleValue(attributes: Attributes, oid: string): DerElement {
  const [value, second] = attributes.get(oid) ?? [];
  if (value === undefined || second !== undefined) throw notDer(`it has not exactly one attribute ${oid}`);
  return value;
}

/** The hash that an object identifier names. @throws AegisError `invalid_document` for any but SHA-256, SHA-384, SHA-512 */
export function hashOf(oid: string): SignerInfo["hash"] {
  const hash = Object.hasOwn(HASHES, oid) ? HASHES[oid] : undefined;
  if (hash === undefined) throw notDer(`the hash ${oid} is not one of SHA-2`);
  return hash;
}

/** Names the certificate inside what is signed, so that another one of the same key doesn't do: RFC 5035, section 3. */
function refuseOtherCertificate({ signed }: SignerInfo, certificate: X509Certificate): void {
  if (!signed.has(ATTRIBUTE.signingCertificateV2)) return;
  const [ids] = derChildren(expectTag(singleValue(signed, ATTRIBUTE.signingCertificateV2), TAG.sequence));
  const [first] = derChildren(expectTag(ids, TAG.sequence));
  const parts = derChildren(expectTag(first, TAG.sequence));
  const [algorithm] = parts[0]?.tag === TAG.sequence ? derChildren(parts[0]) : [];
  const hash = algorithm === undefined ? "sha256" : hashOf(oidOf(algorithm));
  const named = parts.find(({ tag }) => tag === TAG.octets);
  const own = createHash(hash).update(certificate.raw).digest();
  if (named === undefined || !isSame(named.content, own))
    throw notDer("it names another certificate than it has");
}

function isSignedBy({ algorithm, hash, signedBytes, signature }: SignerInfo, key: KeyObject): boolean {
  const known = Object.hasOwn(SIGNATURES, algorithm) ? SIGNATURES[algorithm] : undefined;
  if (known === undefined || known.key !== key.asymmetricKeyType) return false;
  return verify(known.hash ?? hash, signedBytes, key, signature);
}

function isOf({ issuer, serial }: SignerInfo, certificate: X509Certificate): boolean {
  const [body] = derChildren(readDer(certificate.raw));
  const [first, ...rest] = derChildren(expectTag(body, TAG.sequence));
  const [number, , name] = first?.tag === contextTag(0) ? rest : [first, ...rest];
  return (
    isSame(expectTag(number, TAG.integer).content, serial) &&
    isSame(expectTag(name, TAG.sequence).raw, issuer)
  );
}

function certificatesIn(element: DerElement): X509Certificate[] {
  const found = derChildren(element).filter(({ tag }) => tag === TAG.sequence);
  if (found.length > MAX_CERTIFICATES) throw notDer("it has too many certificates");
  return found.map(({ raw }) => {
    try {
      return new X509Certificate(Buffer.from(raw));
    } catch {
      throw notDer("a certificate in it is broken");
    }
  });
}

function attributesOf(element: DerElement): Attributes {
  const found = new Map<string, readonly DerElement[]>();
  for (const one of derChildren(element)) {
    const [type, values] = derChildren(expectTag(one, TAG.sequence));
    const oid = oidOf(type);
    // One attribute twice has two meanings.
    if (found.has(oid)) throw notDer(`the attribute ${oid} is there twice`);
    found.set(oid, derChildren(expectTag(values, TAG.set)));
  }
  return found;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
