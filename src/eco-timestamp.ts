import { createHash, X509Certificate } from "node:crypto";
import { hashOf, readSignedData, signerCertificate } from "./eco-cms.ts";
import { derChildren, expectTag, notDer, oidOf, readDer, TAG, timeOf } from "./eco-der.ts";

/*
 * Timestamps of RFC 3161: an authority's word that something existed at a time. The authority's certificate has to lead to a root of
 * the system's store, and to be for timestamps alone.
 */

const TST_INFO = "1.2.840.113549.1.9.16.1.4";
const TIME_STAMPING = "1.3.6.1.5.5.7.3.8";

/**
 * The time at which `stamped` existed, by a timestamp token.
 * @throws AegisError `invalid_document` for a token that isn't valid
 */
export function timestampOf(token: Uint8Array, stamped: Uint8Array, roots: readonly X509Certificate[]): Date {
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
export function isValidAt({ validFrom, validTo }: X509Certificate, time: Date): boolean {
  return Date.parse(validFrom) <= time.getTime() && time.getTime() <= Date.parse(validTo);
}

/** The certificates in a text of PEM; those that can't be read are left out, since nothing they say is then believed. */
export function certificatesOf(pem: string): X509Certificate[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return found.flatMap((one) => {
    try {
      return [new X509Certificate(one)];
    } catch {
      return [];
    }
  });
}
