import { createPublicKey, verify } from "node:crypto";
import type { ProvenanceEvidence } from "./doc-plan.ts";
import type { NpmVersion } from "./npm-metadata.ts";

/*
 * Registry signatures: ECDSA P-256 with SHA-256 over `name@version:integrity`. The public registry's keys are built in,
 * so a mirror that serves the metadata can't also supply the key. A signature by any other key is unverified.
 * https://docs.npmjs.com/about-registry-signatures
 */

interface RegistryKey {
  /** DER SubjectPublicKeyInfo in base64. */
  key: string;
  /** Expiry: the key signed nothing published after this; null while in use. */
  expires: string | null;
}

/** As served by https://registry.npmjs.org/-/npm/v1/keys. */
const KEYS: ReadonlyMap<string, RegistryKey> = new Map([
  [
    "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA",
    {
      key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1Olb3zMAFFxXKHiIkQO5cJ3Yhl5i6UPp+IhuteBJbuHcA5UogKo0EWtlWwW6KSaKoTNEYL7JlCQiVnkhBktUgg==",
      expires: "2025-01-29T00:00:00.000Z",
    },
  ],
  [
    "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U",
    {
      key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY6Ya7W++7aUPzvMTrezH6Ycx3c+HOKYCcNGybJZSCJq/fd7Qa8uuAKtdIkUQtQiEKERhAmE5lMMJhP8OkDOa2g==",
      expires: null,
    },
  ],
]);

/**
 * One entry per signature of a version, verified or not; empty if the registry provides none. As in npm, `publishedAt`
 * is compared with a key's expiry.
 */
export function registrySignatures(version: NpmVersion, publishedAt: string | null): ProvenanceEvidence[] {
  const { integrity, signatures = [] } = version.dist;
  const subject = `${version.name}@${version.version}`;
  return signatures.slice(0, 8).map(({ keyid, sig }) => {
    const problem = signatureProblem(`${subject}:${integrity ?? ""}`, keyid, sig, publishedAt);
    return {
      kind: "npm-registry-signature",
      subject,
      verified: integrity !== undefined && problem === null,
      key: keyid.slice(0, 256),
      detail:
        integrity === undefined
          ? "there is no integrity to verify"
          : (problem ?? "signed by the npm registry"),
    };
  });
}

/** Why a signature is not valid, or null. */
function signatureProblem(
  message: string,
  keyid: string,
  sig: string,
  publishedAt: string | null,
): string | null {
  const known = KEYS.get(keyid);
  if (known === undefined) return "signed by a key that is not one of the npm registry's";
  if (known.expires !== null && (publishedAt === null || publishedAt >= known.expires)) {
    return `the key expired ${known.expires}, before this version was published`;
  }
  const key = createPublicKey({ key: Buffer.from(known.key, "base64"), format: "der", type: "spki" });
  const good = verify("sha256", Buffer.from(message), key, Buffer.from(sig, "base64"));
  return good ? null : "the signature is wrong";
}
