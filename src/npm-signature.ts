import { createPublicKey, verify } from "node:crypto";
import * as v from "valibot";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { AegisError } from "./errors.ts";
import type { NpmVersion } from "./npm-metadata.ts";

/*
 * Registry signatures: ECDSA P-256 with SHA-256 over `name@version:integrity`. The public registry's keys are built in, and those of
 * other registries have to be put into /etc/aegis by an administrator: whoever serves the metadata can't also supply the key. A
 * signature by any other key is unverified.
 * https://docs.npmjs.com/about-registry-signatures
 */

/** By key id. */
export type RegistryKeys = ReadonlyMap<string, RegistryKey>;

interface RegistryKey {
  /** DER SubjectPublicKeyInfo in base64. */
  key: string;
  /** Expiry: the key signed nothing published after this; null while in use. */
  expires: string | null;
}

/** As served by https://registry.npmjs.org/-/npm/v1/keys. */
const PUBLIC_KEYS: RegistryKeys = new Map([
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

/** What a registry serves at `/-/npm/v1/keys`. */
const KeyList = v.looseObject({
  keys: v.array(
    v.looseObject({
      keyid: v.string(),
      key: v.pipe(v.string(), v.check(isP256, "not an ECDSA P-256 key")),
      expires: v.nullable(v.pipe(v.string(), v.isoTimestamp())),
    }),
  ),
});

function isP256(key: string): boolean {
  try {
    const { asymmetricKeyDetails } = createPublicKey({
      key: Buffer.from(key, "base64"),
      format: "der",
      type: "spki",
    });
    return asymmetricKeyDetails?.namedCurve === "prime256v1";
  } catch {
    return false;
  }
}

/**
 * The keys that count for packages of the registry at `host`: the public registry's, and those in `/etc/aegis/npm-keys/<host>.json`,
 * which is that registry's `/-/npm/v1/keys` as an administrator saved it.
 * @throws AegisError `invalid_config`
 */
export function registryKeys(host: string, readText: (path: string) => string | null): RegistryKeys {
  const path = `/etc/aegis/npm-keys/${host}.json`;
  const text = readText(path);
  if (text === null) return PUBLIC_KEYS;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), KeyList), text);
  if (!parsed.success)
    throw new AegisError(
      "invalid_config",
      `${path} is no list of a registry's keys (${parsed.issues[0].message})`,
      "Save the document that the registry serves at /-/npm/v1/keys.",
    );
  // The built-in keys come last: no file may change what they are.
  const enrolled = parsed.output.keys.map(({ keyid, key, expires }) => [keyid, { key, expires }] as const);
  return new Map([...enrolled, ...PUBLIC_KEYS]);
}

/** Why a signature by a known key is wrong, or null: unlike one by an unknown key, it was meant to count. */
export function brokenSignature(
  { name, version, dist: { integrity = "", signatures = [] } }: NpmVersion,
  publishedAt: string | null,
  keys: RegistryKeys,
): string | null {
  const byKnown = signatures.slice(0, MAX_SIGNATURES).filter(({ keyid }) => keys.has(keyid));
  const message = `${name}@${version}:${integrity}`;
  return (
    byKnown
      .map(({ keyid, sig }) => signatureProblem(message, keyid, sig, publishedAt, keys))
      .find((problem) => problem !== null) ?? null
  );
}

const MAX_SIGNATURES = 8;

/**
 * One entry per signature of a version, verified or not; empty if the registry provides none. As in npm, `publishedAt`
 * is compared with a key's expiry.
 */
export function registrySignatures(
  version: NpmVersion,
  publishedAt: string | null,
  keys: RegistryKeys,
): ProvenanceEvidence[] {
  const { integrity, signatures = [] } = version.dist;
  const subject = `${version.name}@${version.version}`;
  return signatures.slice(0, MAX_SIGNATURES).map(({ keyid, sig }) => {
    const problem = signatureProblem(`${subject}:${integrity ?? ""}`, keyid, sig, publishedAt, keys);
    return {
      kind: "npm-registry-signature",
      subject,
      verified: integrity !== undefined && problem === null,
      key: keyid.slice(0, 256),
      detail:
        integrity === undefined ? "there is no integrity to verify" : (problem ?? "signed by its registry"),
    };
  });
}

/** Why a signature is not valid, or null. */
function signatureProblem(
  message: string,
  keyid: string,
  sig: string,
  publishedAt: string | null,
  keys: RegistryKeys,
): string | null {
  const known = keys.get(keyid);
  if (known === undefined)
    return "signed by a key that is neither the npm registry's nor in /etc/aegis/npm-keys";
  if (known.expires !== null && (publishedAt === null || publishedAt >= known.expires)) {
    return `the key expired ${known.expires}, before this version was published`;
  }
  const key = createPublicKey({ key: Buffer.from(known.key, "base64"), format: "der", type: "spki" });
  const good = verify("sha256", Buffer.from(message), key, Buffer.from(sig, "base64"));
  return good ? null : "the signature is wrong";
}
