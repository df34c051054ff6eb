import { createHash, type X509Certificate } from "node:crypto";
import { badArchive } from "./eco-archive.ts";
import {
  hashOf,
  readSignedData,
  readSigner,
  type SignerInfo,
  signerCertificate,
  singleValue,
} from "./eco-cms.ts";
import { derChildren, expectTag, notDer, oidOf, TAG } from "./eco-der.ts";
import { fingerprintOf, holderOf, signingTime, type TimeTrust } from "./eco-timestamp.ts";
import { AegisError } from "./errors.ts";

/*
 * Package signatures: by the author, by the repository, or by the author with the repository's countersignature. A repository's
 * certificate has to be one of those that the source's index names; an author's is for the policy to know.
 * https://github.com/NuGet/Home/wiki/Package-Signatures-Technical-Details and
 * https://github.com/NuGet/Home/wiki/Repository-Signatures-and-Countersignatures-Technical-Specification
 */

const DATA = "1.2.840.113549.1.7.1";
const COMMITMENT = "1.2.840.113549.1.9.16.2.16";
const PROOF_OF_ORIGIN = "1.2.840.113549.1.9.16.6.1";
const PROOF_OF_RECEIPT = "1.2.840.113549.1.9.16.6.2";
const SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.47";
const SERVICE_INDEX = "1.3.6.1.4.1.311.84.2.1.1.1";
const COUNTERSIGNATURE = "1.2.840.113549.1.9.6";

/** One thing that was verified of a package's file, or could not be. */
export interface NugetEvidence {
  kind: "nuget-sha512" | "nuget-author-signature" | "nuget-repository-signature";
  verified: boolean;
  /** SHA-256 fingerprint of the signer's certificate in lower-case hex, or null. */
  key: string | null;
  detail: string;
}

interface SignatureTrust extends TimeTrust {
  /** SHA-256 fingerprints of the certificates that the source signs with, in lower-case hex. */
  repository: readonly string[];
}

export interface NugetSignatures {
  /** One entry for each signature, or one for what makes them invalid. */
  evidence: NugetEvidence[];
  /** Why the package deserves less trust than one without a signature; null where it doesn't. */
  downgrade: string | null;
}

/** What a package's signature is worth. */
export function verifyNugetSignature(
  file: Uint8Array,
  signature: Uint8Array,
  trust: SignatureTrust,
): NugetSignatures {
  try {
    const { contentType, content, certificates, signers } = readSignedData(signature);
    const [primary, second] = signers;
    if (contentType !== DATA || primary === undefined || second !== undefined)
      throw notDer("it has not exactly one primary signature");
    const isAuthor = commitmentOf(primary) === "author";
    const certificate = signerCertificate(primary, content, DATA, certificates);
    refuseOtherFile(file, content);
    const countersigners = (primary.unsigned.get(COUNTERSIGNATURE) ?? [])
      .map(readSigner)
      .filter((one) => commitmentOf(one) === "repository");
    if (countersigners.length > (isAuthor ? 1 : 0)) throw notDer("it has two signatures of a repository");
    const found = [judge(primary, certificate, isAuthor, trust)];
    for (const one of countersigners)
      found.push(judge(one, signerCertificate(one, primary.signature, null, certificates), false, trust));
    const [bad] = found.filter(({ isValid }) => !isValid);
    return { evidence: found.map(({ evidence }) => evidence), downgrade: bad?.evidence.detail ?? null };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    const detail = `its signature is not valid: ${error.message}`;
    const kind = "nuget-repository-signature";
    return { evidence: [{ kind, verified: false, key: null, detail }], downgrade: detail };
  }
}

function judge(
  signer: SignerInfo,
  certificate: X509Certificate,
  isAuthor: boolean,
  { repository, ...time }: SignatureTrust,
): { evidence: NugetEvidence; isValid: boolean } {
  const key = fingerprintOf(certificate);
  const kind = isAuthor ? "nuget-author-signature" : "nuget-repository-signature";
  const who = `${isAuthor ? "author" : "repository"} ${holderOf(certificate)}`;
  const told = (verified: boolean, detail: string, isValid = verified) => ({
    isValid,
    evidence: { kind, verified, key, detail: detail.slice(0, 4096) } satisfies NugetEvidence,
  });
  const index = isAuthor ? "" : ` for ${serviceIndexOf(signer)}`;
  singleValue(signer.signed, SIGNING_CERTIFICATE);
  const signed = signingTime(signer, certificate, time);
  if (typeof signed === "string") return told(false, `signed by ${who}${signed}`);
  if (!isAuthor && !repository.includes(key))
    return told(
      false,
      `signed by ${who}${index} with a certificate that its source does not name (SHA-256 ${key})`,
      true,
    );
  const when = signed.time === null ? "without a timestamp" : `at ${signed.time.toISOString()}`;
  return told(true, `signed by ${who}${index} ${when}`);
}

/** A signature says what it is; what says both, or neither, is none. */
function commitmentOf({ signed }: SignerInfo): "author" | "repository" {
  const types = (signed.get(COMMITMENT) ?? []).map((one) =>
    oidOf(derChildren(expectTag(one, TAG.sequence))[0]),
  );
  const [isAuthor, isRepository] = [types.includes(PROOF_OF_ORIGIN), types.includes(PROOF_OF_RECEIPT)];
  if (isAuthor === isRepository) throw notDer("it is neither an author's nor a repository's");
  return isAuthor ? "author" : "repository";
}

/** The signed content names the hash of the package: `Version:1`, an empty line, `<OID of the hash>-Hash:<base64>`. */
function refuseOtherFile(file: Uint8Array, content: Uint8Array): void {
  const text = Buffer.from(content).toString("utf8");
  const [, oid = "", hash = ""] =
    /^Version:1\r?\n\r?\n([0-9.]+)-Hash:([A-Za-z0-9+/]+={0,2})(?:\r?\n)*$/.exec(text) ?? [];
  if (oid === "") throw notDer("what it signs can't be read");
  const actual = hashWithoutSignature(file, hashOf(oid));
  if (Buffer.compare(Buffer.from(hash, "base64"), actual) !== 0)
    throw notDer("the package was changed after it was signed");
}

function serviceIndexOf({ signed }: SignerInfo): string {
  const { content } = expectTag(singleValue(signed, SERVICE_INDEX), TAG.ia5);
  const address = Buffer.from(content).toString("latin1").slice(0, 512);
  if (!/^https:\/\/[\x21-\x7e]+$/.test(address)) throw notDer("it names no repository");
  return address;
}

/*
 * What a package signature covers: the file as it was before the signature was put into it. The archive has been read strictly before,
 * so its directory is sound and its entries lie side by side.
 * https://github.com/NuGet/Home/wiki/Package-Signatures-Technical-Details
 */

const SIGNATURE_FILE = ".signature.p7s";
const [END_SIZE, CENTRAL_SIZE] = [22, 46];

/**
 * The hash of a package file without its signature.
 * @throws AegisError `refused` for one that has none, or has it packed
 */
export function hashWithoutSignature(bytes: Uint8Array, algorithm: "sha256" | "sha384" | "sha512"): Buffer {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = view.length - END_SIZE;
  const start = view.readUInt32LE(end + 16);
  const records: { from: number; to: number; offset: number }[] = [];
  let signature = -1;
  for (let at = start; at < end; ) {
    const [name = 0, extra = 0, comment = 0] = [28, 30, 32].map((offset) => view.readUInt16LE(at + offset));
    const to = at + CENTRAL_SIZE + name + extra + comment;
    const isSignature =
      view.toString("latin1", at + CENTRAL_SIZE, at + CENTRAL_SIZE + name) === SIGNATURE_FILE;
    if (isSignature && view.readUInt16LE(at + 10) !== 0) throw badArchive("its signature is packed");
    if (isSignature) signature = records.length;
    records.push({ from: at, to, offset: view.readUInt32LE(at + 42) });
    at = to;
  }
  const signed = records[signature];
  if (signed === undefined) throw badArchive("it has no signature");
  const ends = [...records.map(({ offset }) => offset), start].sort((a, b) => a - b);
  const signatureEnd = ends.find((offset) => offset > signed.offset) ?? start;
  const size = signatureEnd - signed.offset;
  const hash = createHash(algorithm);
  hash.update(view.subarray(0, signed.offset)).update(view.subarray(signatureEnd, start));
  for (const { from, to, offset } of records) {
    if (from === signed.from) continue;
    const record = Buffer.from(view.subarray(from, to));
    record.writeUInt32LE(offset > signed.offset ? offset - size : offset, 42);
    hash.update(record);
  }
  const tail = Buffer.from(view.subarray(end));
  for (const at of [8, 10]) tail.writeUInt16LE(tail.readUInt16LE(at) - 1, at);
  tail.writeUInt32LE(tail.readUInt32LE(12) - (signed.to - signed.from), 12);
  tail.writeUInt32LE(tail.readUInt32LE(16) - size, 16);
  return hash.update(tail).digest();
}
