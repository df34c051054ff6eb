import { createPublicKey, verify } from "node:crypto";
import nacl from "tweetnacl";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import { type ApprovalSignature, type Signature, unsigned } from "./doc.ts";
import { AegisError } from "./errors.ts";

/** DER prefix of a SubjectPublicKeyInfo for Ed25519 (RFC 8410 §4); the raw 32 bytes follow. */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

const P = 2n ** 255n - 19n;
/** The curve's d = -121665/121666 (RFC 8032 §5.1). */
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
/** y of the points of order 1, 2, 4 and 8; with both sign bits these are all eight of them. */
const SMALL_ORDER_Y = new Set([
  0n,
  1n,
  P - 1n,
  littleEndian("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
  littleEndian("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]);

function littleEndian(hex: string): bigint {
  return BigInt(`0x${Buffer.from(hex, "hex").reverse().toString("hex")}`);
}

/**
 * Why a public key must not be trusted, or null. Refused: anything but 64 lower-case hex digits, y ≥ p (RFC 8032
 * §5.1.3), points of small order (which verify forged signatures), and bytes that encode no point.
 */
export function publicKeyProblem(hex: string): string | null {
  if (!/^[0-9a-f]{64}$/.test(hex)) return "it is not 64 lower-case hex digits";
  const y = BigInt.asUintN(255, littleEndian(hex));
  if (y >= P) return "it is not a canonical encoding";
  if (SMALL_ORDER_Y.has(y)) return "it is a point of small order";
  const numerator = y * y - 1n;
  const denominator = D * y * y + 1n;
  return isSquare(numerator * denominator) ? null : "it is not a point of the curve";
}

/** Euler's criterion modulo p. x² = u/v has a root exactly when u·v is a square. */
function isSquare(value: bigint): boolean {
  let result = 1n;
  let base = value % P;
  for (let exponent = (P - 1n) / 2n; exponent > 0n; exponent >>= 1n) {
    if ((exponent & 1n) === 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return (result + P) % P === 1n;
}

/**
 * Checks a public key being enrolled from trusted-keys.toml, an environment file, or a flag.
 * @throws AegisError `invalid_key`
 */
export function checkPublicKey(hex: string): void {
  const problem = publicKeyProblem(hex);
  if (problem !== null) throw new AegisError("invalid_key", `public key ${hex.slice(0, 64)}: ${problem}`);
}

/** A key's fingerprint: the first 16 hex digits of the SHA-256 of the raw 32-byte public key. */
export function keyId(publicKeyHex: string): string {
  return sha256Hex(Buffer.from(publicKeyHex, "hex")).slice(0, 16);
}

/** The public key, in hex, of a 32-byte seed. */
export function publicKeyOf(seed: Uint8Array): string {
  return Buffer.from(nacl.sign.keyPair.fromSeed(seed).publicKey).toString("hex");
}

/** The 64-byte Ed25519 signature (RFC 8032 §5.1.6) of `message` under a 32-byte seed. */
export function signBytes(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return nacl.sign.detached(message, nacl.sign.keyPair.fromSeed(seed).secretKey);
}

/**
 * Strict Ed25519 verification (RFC 8032 §5.1.7, without the cofactor). False for a bad signature, for S ≥ L (node:crypto
 * refuses it, tweetnacl would not), and for a public key that {@link checkPublicKey} would refuse.
 */
export function verifyBytes(publicKeyHex: string, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64 || publicKeyProblem(publicKeyHex) !== null) return false;
  const key = createPublicKey({
    key: Buffer.concat([SPKI_PREFIX, Buffer.from(publicKeyHex, "hex")]),
    format: "der",
    type: "spki",
  });
  return verify(null, message, key, signature);
}

/** The document with a `signature` over the canonical JSON of its other fields. */
export function signDocument<T extends object>(
  document: T,
  seed: Uint8Array,
  id: string,
): T & { signature: Signature } {
  const signature = Buffer.from(signBytes(seed, Buffer.from(canonicalJson(document)))).toString("base64");
  return { ...document, signature: { algorithm: "ed25519", key_id: id, signature } };
}

/**
 * Whether this key made the document's signature. `document` is the tree as read, so that unknown fields are covered
 * too. Only canonical base64 is accepted: the signature's text is not itself signed, so a second spelling would be a
 * second document with the same meaning.
 */
export function verifyDocument(document: { signature: ApprovalSignature }, publicKeyHex: string): boolean {
  if (document.signature.algorithm !== "ed25519") return false;
  const bytes = Buffer.from(document.signature.signature, "base64");
  if (bytes.toString("base64") !== document.signature.signature) return false;
  return verifyBytes(publicKeyHex, Buffer.from(canonicalJson(unsigned(document))), bytes);
}
