import { createHash, createPublicKey, type X509Certificate } from "node:crypto";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { type ArchiveFile, archivePath } from "./eco-archive.ts";
import { readSignedData, readSigner, type SignerInfo, signerCertificate } from "./eco-cms.ts";
import { notDer } from "./eco-der.ts";
import { fingerprintOf, holderOf, signingTime, type TimeTrust } from "./eco-timestamp.ts";
import { readZip } from "./eco-zip.ts";
import { AegisError, messageOf } from "./errors.ts";
import { verifyBytes } from "./key-sign.ts";

/*
 * The archive with an extension's signature, which has a manifest of hashes (`.signature.manifest`): of the package file, and of each
 * file in it. Open VSX signs the package file with Ed25519 (`.signature.sig`), and nobody the manifest. Microsoft's gallery signs the
 * manifest in CMS (`.signature.p7s`): itself, or where the publisher did, as a countersignature. Whose certificate that is only the
 * policy can say, since Microsoft's roots are in no package that this program could take them from.
 * https://github.com/filiptronicek/node-ovsx-sign and https://github.com/coder/code-marketplace/tree/main/extensionsign have the
 * manifest; the words of vsce-sign's log the roles (https://github.com/microsoft/vscode/issues/248308). Whether Microsoft leaves the
 * manifest out of the CMS isn't documented: both forms are read.
 */

const LIMITS = { maxEntries: 16, maxBytes: 32 * 1024 * 1024, maxRatio: 200 };
const DATA = "1.2.840.113549.1.7.1";
const COUNTERSIGNATURE = "1.2.840.113549.1.9.6";
const MAX_COUNTERSIGNATURES = 4;

/** The gallery's signature, by the key that it gives. */
export const GALLERY_SIGNATURE = "vscode-signature";
/** A signature by a certificate, which counts where the policy names that. */
export const CMS_SIGNATURE = "vscode-cms-signature";

const hash = v.pipe(
  v.string(),
  v.transform((base64) => Buffer.from(base64, "base64")),
  v.check((bytes) => bytes.length === 32),
  v.transform((bytes) => bytes.toString("hex")),
);
const Hashed = v.looseObject({ size: v.number(), digests: v.looseObject({ sha256: hash }) });
const Manifest = v.looseObject({ package: Hashed });
/** Names of files are in base64 too. */
const ManifestOfFiles = v.looseObject({
  package: Hashed,
  entries: v.record(v.pipe(v.string(), v.base64()), Hashed),
});

/** What an archive says. `key` gets the gallery's own, in PEM, where that signs. */
export interface SignatureSource {
  archive: Uint8Array;
  key: (() => Promise<string>) | null;
  time: TimeTrust;
}

type Evidence = Pick<ProvenanceEvidence, "verified" | "key" | "detail"> & { kind: string };

interface FoundSignature {
  evidence: Evidence[];
  /** Why a signature that is there doesn't hold; null where nothing is wrong. */
  broken: string | null;
  /** The package file's hash by the manifest in the archive, in hex. */
  packageSha256: string | null;
}

/**
 * What the signature of a package file with these entries is worth.
 * @throws AegisError what getting the key throws
 */
export async function judgeSignature(
  { archive, key, time }: SignatureSource,
  bytes: Uint8Array,
  entries: readonly ArchiveFile[],
): Promise<FoundSignature> {
  let files: ReadonlyMap<string, Uint8Array>;
  let packageSha256: string | null;
  const manifest = () => files.get(".signature.manifest");
  try {
    files = new Map(readZip(archive, LIMITS).map(({ path, data }) => [path, data]));
    const text = manifest();
    packageSha256 = text === undefined ? null : v.parse(Manifest, jsonOf(text)).package.digests.sha256;
  } catch {
    return { ...bad(GALLERY_SIGNATURE, "its archive can't be read"), packageSha256: null };
  }
  const [signature, cms] = [files.get(".signature.sig"), files.get(".signature.p7s")];
  if (signature !== undefined) return { ...(await byKey(signature, key, bytes)), packageSha256 };
  if (cms === undefined || cms.length === 0)
    return { ...bad(GALLERY_SIGNATURE, "its archive holds no signature"), packageSha256 };
  try {
    const signed = manifest();
    if (signed === undefined) throw notDer("its archive has no manifest for it");
    const found = byCertificates(cms, signed, time);
    refuseOtherFiles(signed, bytes, entries);
    return { evidence: found, broken: null, packageSha256 };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    return { ...bad(CMS_SIGNATURE, `its signature is not valid: ${error.message}`), packageSha256 };
  }
}

function bad(kind: string, detail: string, key: string | null = null) {
  return { evidence: [{ kind, verified: false, key, detail }], broken: detail };
}

async function byKey(signature: Uint8Array, getKey: SignatureSource["key"], bytes: Uint8Array) {
  if (getKey === null) return bad(GALLERY_SIGNATURE, "the gallery names no key for it");
  const key = rawKey(await getKey());
  if (key === null) return bad(GALLERY_SIGNATURE, "the gallery's key is no Ed25519 key");
  if (!verifyBytes(key, bytes, signature))
    return bad(GALLERY_SIGNATURE, `the file is not signed with the gallery's key ${key}`, key);
  const detail = `the file is signed with the gallery's key ${key}`;
  return { evidence: [{ kind: GALLERY_SIGNATURE, verified: true, key, detail }], broken: null };
}

/**
 * One entry for each signature over the manifest: the first, and those that countersign it.
 * @throws AegisError `invalid_document` for one that doesn't hold
 */
function byCertificates(cms: Uint8Array, manifest: Uint8Array, time: TimeTrust): Evidence[] {
  const { contentType, content, certificates, signers } = readSignedData(cms, manifest);
  const [primary, second] = signers;
  if (contentType !== DATA || primary === undefined || second !== undefined)
    throw notDer("it has not exactly one primary signature");
  const countersigners = (primary.unsigned.get(COUNTERSIGNATURE) ?? []).map(readSigner);
  if (countersigners.length > MAX_COUNTERSIGNATURES) throw notDer("it has too many countersignatures");
  return [
    toldOf(primary, signerCertificate(primary, content, DATA, certificates), time),
    ...countersigners.map((one) =>
      toldOf(one, signerCertificate(one, primary.signature, null, certificates), time),
    ),
  ];
}

/** What a signature that holds says; whether its certificate could sign is another question. */
function toldOf(signer: SignerInfo, certificate: X509Certificate, time: TimeTrust): Evidence {
  const key = fingerprintOf(certificate);
  const who = `the hashes of its files are signed by ${holderOf(certificate)}`;
  const signed = signingTime(signer, certificate, time);
  const rest =
    typeof signed === "string"
      ? signed
      : ` ${signed.time === null ? "without a timestamp" : `at ${signed.time.toISOString()}`}, whose certificate nothing vouches for but the policy`;
  return {
    ...{ kind: CMS_SIGNATURE, verified: typeof signed !== "string", key },
    detail: `${who}${rest} (SHA-256 ${key})`.slice(0, 4096),
  };
}

/** @throws AegisError `invalid_document` for a manifest that is not of exactly this package file and these files in it */
function refuseOtherFiles(manifest: Uint8Array, bytes: Uint8Array, entries: readonly ArchiveFile[]): void {
  const read = v.safeParse(ManifestOfFiles, jsonOf(manifest));
  if (!read.success) throw notDer("its manifest names no files");
  const isOf = ({ size, digests }: v.InferOutput<typeof Hashed>, data: Uint8Array) =>
    size === data.length && digests.sha256 === createHash("sha256").update(data).digest("hex");
  if (!isOf(read.output.package, bytes)) throw notDer("its manifest is of another package file");
  const left = new Map(entries.map(({ path, data }) => [path, data]));
  for (const [name, hashed] of Object.entries(read.output.entries)) {
    const raw = Buffer.from(name, "base64").toString("utf8");
    const path = archivePath(raw);
    const data = left.get(path);
    // A directory has an entry in some archives, and no contents.
    if (data === undefined && raw.endsWith("/") && hashed.size === 0) continue;
    if (data === undefined || !isOf(hashed, data))
      throw notDer(`its manifest has another ${JSON.stringify(path.slice(0, 200))} than the package file`);
    left.delete(path);
  }
  const [unsigned] = left.keys();
  if (unsigned !== undefined)
    throw notDer(`its manifest lacks ${JSON.stringify(unsigned.slice(0, 200))} of the package file`);
}

/** @throws AegisError `invalid_document` for what is no JSON */
function jsonOf(bytes: Uint8Array): unknown {
  try {
    return parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw notDer(`its manifest is no JSON: ${messageOf(error)}`);
  }
}

/** An Ed25519 key in PEM as hex; null for any other. */
function rawKey(pem: string): string | null {
  if (!/^\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*$/.test(pem)) return null;
  try {
    const { x } = createPublicKey(pem).export({ format: "jwk" });
    return x === undefined ? null : Buffer.from(x, "base64url").toString("hex");
  } catch {
    return null;
  }
}
