import { createHash } from "node:crypto";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { TimeTrust } from "./eco-timestamp.ts";
import { AegisError } from "./errors.ts";
import type { ListedExtension } from "./vscode-gallery.ts";
import { judgeSignature } from "./vscode-signature.ts";
import type { Vsix } from "./vscode-vsix.ts";

/*
 * What vouches for an extension's file: the SHA-256 that Open VSX states, and the gallery's signature. The hash in a signature's archive
 * counts as a checksum, whether or not anybody is known to have signed it. (openvsx, ExtensionVersionIntegrityService.java)
 */

const MAX_DOCUMENT = 8 * 1024 * 1024;

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
  { bytes, vsix }: { bytes: Uint8Array; vsix: Vsix },
  stated: string | null,
  get: GetDocument,
  time: TimeTrust,
): Promise<ExtensionEvidence> {
  const subject = `${listed.id}@${listed.version}`;
  const { signature: archive, publicKey } = listed;
  const key = publicKey === null ? null : async () => new TextDecoder().decode(await get(publicKey, 4096));
  const signature =
    archive === null
      ? null
      : await judgeSignature({ archive: await get(archive, MAX_DOCUMENT), key, time }, bytes, vsix.entries);
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
          ? `the file has the SHA-256 in its signature archive: ${sha256}`
          : "the gallery states no hash of the file",
  };
  const { evidence = [], broken = null } = signature ?? {};
  return {
    evidence: [hash, ...evidence.map((one) => ({ ...one, subject }))],
    downgrade: broken === null ? null : `its signature does not count: ${broken}`.slice(0, 1024),
  };
}
