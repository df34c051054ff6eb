import { createHash, createPublicKey } from "node:crypto";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { ProvenanceEvidence } from "./doc-plan.ts";
import { readZip } from "./eco-zip.ts";
import { AegisError } from "./errors.ts";
import { verifyBytes } from "./key-sign.ts";
import type { ListedExtension } from "./vscode-gallery.ts";

/*
 * What vouches for an extension's file. Open VSX states its SHA-256, and signs the file with Ed25519; the signature lies in a zip
 * (`.sigzip`) as `.signature.sig`, beside a manifest of hashes that nobody signs. Microsoft's gallery signs that manifest in CMS
 * (`.signature.p7s`), which is not verified here; of its archive the manifest's hash of the file counts, as a checksum.
 * (openvsx, ExtensionVersionIntegrityService.java)
 */

const MAX_DOCUMENT = 8 * 1024 * 1024;
const SIGNATURE_LIMITS = { maxEntries: 16, maxBytes: 32 * 1024 * 1024, maxRatio: 200 };

const Manifest = v.looseObject({
  package: v.looseObject({ size: v.number(), digests: v.looseObject({ sha256: v.string() }) }),
});

/** Gets a document that the gallery may keep elsewhere. */
export type GetDocument = (url: URL, maxBytes: number) => Promise<Uint8Array>;

export interface ExtensionEvidence {
  evidence: ProvenanceEvidence[];
  /** Why the extension deserves less trust than it asks for; null where nothing is wrong. */
  downgrade: string | null;
}

/**
 * The SHA-256 that the gallery states for a file, in hex; null where it states none.
 * @throws AegisError `unavailable`
 */
export async function statedSha256({ sha256 }: ListedExtension, get: GetDocument): Promise<string | null> {
  if (sha256 === null) return null;
  const found = /^([0-9a-f]{64})(?:\s|$)/i.exec(new TextDecoder().decode(await get(sha256, 4096)))?.[1];
  if (found !== undefined) return found.toLowerCase();
  throw new AegisError(
    "unavailable",
    `${sha256.host} gave no usable answer: its document has no SHA-256`,
    "Try again later.",
  );
}

/**
 * The evidence for a file whose bytes have the hash that the gallery states, where it states one.
 * @throws AegisError `unavailable`; `evidence_mismatch` for a file that isn't the one that its signature archive names
 */
export async function extensionEvidence(
  listed: ListedExtension,
  bytes: Uint8Array,
  stated: string | null,
  get: GetDocument,
): Promise<ExtensionEvidence> {
  const subject = `${listed.id}@${listed.version}`;
  const signature =
    listed.signature === null ? null : await signatureOf(listed.signature, listed.publicKey, bytes, get);
  const bySignature = signature?.packageSha256 ?? null;
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  if (bySignature !== null && bySignature !== sha256)
    throw new AegisError(
      "evidence_mismatch",
      `the file of ${subject} is not the one that its signature archive names`,
      "Don't install it: plan again later, and tell the gallery.",
    );
  const hash: ProvenanceEvidence = {
    ...{ kind: "vscode-sha256", subject, key: null },
    verified: stated !== null || bySignature !== null,
    detail:
      stated !== null
        ? `the file has the SHA-256 that the gallery states: ${sha256}`
        : bySignature !== null
          ? `the file has the SHA-256 in its signature archive, whose own signature is not verified: ${sha256}`
          : "the gallery states no hash of the file",
  };
  if (signature === null) return { evidence: [hash], downgrade: null };
  const { verified, key, detail, broken } = signature;
  return {
    evidence: [hash, { kind: "vscode-signature", subject, verified, key, detail }],
    downgrade: broken ? `its signature does not count: ${detail}`.slice(0, 1024) : null,
  };
}

interface FoundSignature {
  verified: boolean;
  /** The key in hex. */
  key: string | null;
  detail: string;
  /** Whether there is one that can be verified, and it doesn't hold. */
  broken: boolean;
  /** The file's hash by the manifest in the archive, in hex. */
  packageSha256: string | null;
}

async function signatureOf(
  archive: URL,
  publicKey: URL | null,
  bytes: Uint8Array,
  get: GetDocument,
): Promise<FoundSignature> {
  const none = { verified: false, key: null, packageSha256: null };
  let files: ReadonlyMap<string, Uint8Array>;
  let packageSha256: string | null;
  const packed = await get(archive, MAX_DOCUMENT);
  try {
    files = new Map(readZip(packed, SIGNATURE_LIMITS).map(({ path, data }) => [path, data]));
    packageSha256 = packageHash(files.get(".signature.manifest"));
  } catch {
    return { ...none, broken: true, detail: "its archive can't be read" };
  }
  const signature = files.get(".signature.sig");
  if (signature === undefined) {
    const isCms = (files.get(".signature.p7s")?.length ?? 0) > 0;
    const detail = isCms
      ? "it is signed in Microsoft's format (.signature.p7s), which is not verified"
      : "its archive holds no signature";
    return { ...none, packageSha256, broken: !isCms, detail };
  }
  if (publicKey === null)
    return { ...none, packageSha256, broken: true, detail: "the gallery names no key for it" };
  const key = rawKey(new TextDecoder().decode(await get(publicKey, 4096)));
  if (key === null)
    return { ...none, packageSha256, broken: true, detail: "the gallery's key is no Ed25519 key" };
  const verified = verifyBytes(key, bytes, signature);
  const detail = verified
    ? `the file is signed with the gallery's key ${key}`
    : `the file is not signed with the gallery's key ${key}`;
  return { verified, key, detail, broken: !verified, packageSha256 };
}

/** @throws Error for a manifest that can't be read */
function packageHash(manifest: Uint8Array | undefined): string | null {
  if (manifest === undefined) return null;
  const read = v.parse(Manifest, parseJson(new TextDecoder("utf-8", { fatal: true }).decode(manifest)));
  const hash = Buffer.from(read.package.digests.sha256, "base64");
  if (hash.length !== 32) throw new Error("no SHA-256");
  return hash.toString("hex");
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
