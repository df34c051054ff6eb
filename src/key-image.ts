import { createPublicKey, type KeyObject, verify } from "node:crypto";

/*
 * Keys that sign images without a certificate, as cosign makes them: ECDSA over P-256, or Ed25519, in PEM.
 */

/** Why a text is no key that images can be signed with; null if it is one. */
export function imageKeyProblem(pem: string): string | null {
  const key = keyOf(pem);
  if (key === null) return "give it in PEM, as cosign.pub has it";
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "ed25519" || (type === "ec" && details?.namedCurve === "prime256v1")) return null;
  return "only ECDSA over P-256 and Ed25519 are supported";
}

/**
 * Whether a signature in base64 is by this key, of these bytes. False for a key or a signature that is none.
 */
export function isSignedByKey(pem: string, bytes: Uint8Array, signature: string): boolean {
  const key = imageKeyProblem(pem) === null ? keyOf(pem) : null;
  if (key === null) return false;
  const algorithm = key.asymmetricKeyType === "ed25519" ? null : "sha256";
  try {
    return verify(algorithm, bytes, key, Buffer.from(signature, "base64"));
  } catch {
    return false;
  }
}

function keyOf(pem: string): KeyObject | null {
  // node also takes a private key, and says that it is public.
  if (!/^\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*$/.test(pem)) return null;
  try {
    return createPublicKey(pem);
  } catch {
    return null;
  }
}
