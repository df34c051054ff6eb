import { createHash, X509Certificate } from "node:crypto";
import { hashOf, readSignedData, type SignerInfo, signerCertificate, singleValue } from "./eco-cms.ts";
import { derChildren, expectTag, notDer, oidOf, readDer, TAG, timeOf } from "./eco-der.ts";
import { AegisError } from "./errors.ts";

/*
 * When code was signed. Timestamps of RFC 3161 are an authority's word that something existed at a time: its certificate has to lead to
 * a root of the system's store, and to be for timestamps alone. The signer's has to have been valid then, or now where there is none.
 */

const TST_INFO = "1.2.840.113549.1.9.16.1.4";
const TIME_STAMPING = "1.3.6.1.5.5.7.3.8";
const CODE_SIGNING = "1.3.6.1.5.5.7.3.3";
const TIMESTAMP = "1.2.840.113549.1.9.16.2.14";
/** Roots for the authorities of timestamps. */
const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";
const MIN_RSA_BITS = 2048;

/** What vouches for the time of a signature. */
export interface TimeTrust {
  /** Roots for timestamps; asked for where there is one. */
  roots(): readonly X509Certificate[];
  now: Date;
}

/** This system's roots, read where they are needed, and the time of the plan. */
export function timeTrust({
  readText,
  now,
}: {
  readText: (path: string) => string | null;
  now: Date;
}): TimeTrust {
  let known: X509Certificate[] | null = null;
  const roots = () => {
    known ??= certificatesOf(readText(CERTIFICATES) ?? "");
    return known;
  };
  return { roots, now };
}

/**
 * The time of a signature's one timestamp, null without any; or why the certificate could not sign code when it did, as the end of a
 * sentence.
 */
export function signingTime(
  { unsigned, signature }: SignerInfo,
  certificate: X509Certificate,
  { roots, now }: TimeTrust,
): { time: Date | null } | string {
  const unfit = unfitness(certificate);
  if (unfit !== null) return ` with a certificate that ${unfit}`;
  let time: Date | null = null;
  try {
    if (unsigned.has(TIMESTAMP)) time = timestampOf(singleValue(unsigned, TIMESTAMP).raw, signature, roots());
  } catch (error) {
    if (error instanceof AegisError) return `: ${error.message}`;
    throw error;
  }
  if (isValidAt(certificate, time ?? now)) return { time };
  const when =
    time === null ? "has expired, without a timestamp" : "was not valid at the time of its timestamp";
  return ` with a certificate that ${when}`;
}

/** The certificate's common name, for people; what identifies it is its fingerprint. */
export function holderOf({ subject }: X509Certificate): string {
  const name = /^CN=(.*)$/m.exec(subject)?.[1] ?? subject;
  return JSON.stringify(name.toWellFormed().slice(0, 200));
}

/** The SHA-256 fingerprint of a certificate in lower-case hex. */
export function fingerprintOf({ fingerprint256 }: X509Certificate): string {
  return fingerprint256.replaceAll(":", "").toLowerCase();
}

/** Why a certificate can't sign code; null where it can. */
function unfitness({ keyUsage, publicKey }: X509Certificate): string | null {
  if (keyUsage?.includes(CODE_SIGNING) !== true) return "is not for signing code";
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
  if (publicKey.asymmetricKeyType !== "rsa" || bits < MIN_RSA_BITS)
    return `has no RSA key of ${MIN_RSA_BITS} bits`;
  return null;
}

/**
 * The time at which `stamped` existed, by a timestamp token.
 * @throws AegisError `invalid_document` for a token that isn't valid
 */
function timestampOf(token: Uint8Array, stamped: Uint8Array, roots: readonly X509Certificate[]): Date {
  const { contentType, content, certificates, signers } = readSignedData(token);
  const [signer, second] = signers;
  if (contentType !== TST_INFO || signer === undefined || second !== undefined)
    throw notDer("it is no timestamp");
  const authority = signerCertificate(signer, content, contentType, certificates);
  const [, , imprint, , made] = derChildren(expectTag(readDer(content), TAG.sequence));
  const [algorithm, hashed] = derChildren(expectTag(imprint, TAG.sequence));
  const [type] = derChildren(expectTag(algorithm, TAG.sequence));
  const expected = createHash(hashOf(oidOf(type)))
    .update(stamped)
    .digest();
  if (Buffer.compare(expectTag(hashed, TAG.octets).content, expected) !== 0)
    throw notDer("its timestamp is of something else");
  const time = timeOf(expectTag(made, TAG.generalizedTime));
  const purposes = authority.keyUsage ?? [];
  if (purposes.length !== 1 || purposes[0] !== TIME_STAMPING)
    throw notDer("its timestamp is by a certificate that isn't for timestamps");
  if (!leadsTo(authority, certificates, roots, time))
    throw notDer("its timestamp is by an authority that the system's certificates don't know");
  return time;
}

/** Whether a certificate was valid at a time, and is a root or was issued by one, by way of `between`, each of which counts once. */
function leadsTo(
  certificate: X509Certificate,
  between: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  time: Date,
): boolean {
  const reached = [certificate];
  const left = new Set(between.filter((one) => one !== certificate));
  const issued = (one: X509Certificate, by: X509Certificate) =>
    by.ca && one.checkIssued(by) && one.verify(by.publicKey);
  for (const one of reached) {
    if (!isValidAt(one, time)) continue;
    if (roots.some((root) => Buffer.compare(root.raw, one.raw) === 0 || issued(one, root))) return true;
    for (const by of left) {
      if (!issued(one, by)) continue;
      left.delete(by);
      reached.push(by);
    }
  }
  return false;
}

/** Whether a certificate's dates have this one. */
function isValidAt({ validFrom, validTo }: X509Certificate, time: Date): boolean {
  return Date.parse(validFrom) <= time.getTime() && time.getTime() <= Date.parse(validTo);
}

/** The certificates in a text of PEM; those that can't be read are left out, since nothing they say is then believed. */
function certificatesOf(pem: string): X509Certificate[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return found.flatMap((one) => {
    try {
      return [new X509Certificate(one)];
    } catch {
      return [];
    }
  });
}
