import { randomBytes, scryptSync } from "node:crypto";
import nacl from "tweetnacl";
import * as v from "valibot";

/*
 * Encryption of secret keys under a passphrase: scrypt (RFC 7914) derives a key, and NaCl's secretbox
 * (XSalsa20-Poly1305) encrypts the 32-byte seed with it and a random nonce.
 */

/** OWASP's recommendation for scrypt: 128 MiB, some tenths of a second on a server. */
const COST = { n: 2 ** 17, r: 8, p: 1 } as const;

const hex = (bytes: number) =>
  v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `not ${bytes} bytes in lower-case hex`));

/**
 * `encryption` of a key file. The parameters come from a file, so they are bounded: at most 256 MiB and p = 4, and
 * nothing weaker than what we write.
 */
export const Encryption = v.strictObject({
  kdf: v.literal("scrypt"),
  n: v.picklist([2 ** 17, 2 ** 18]),
  r: v.literal(8),
  p: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(4)),
  salt: hex(32),
  nonce: hex(nacl.secretbox.nonceLength),
  ciphertext: hex(32 + nacl.secretbox.overheadLength),
});
type Encryption = v.InferOutput<typeof Encryption>;

/** Encrypts a 32-byte seed under a passphrase, with a fresh salt and nonce. */
export function encryptSeed(seed: Uint8Array, passphrase: string): Encryption {
  const salt = randomBytes(32);
  const nonce = randomBytes(nacl.secretbox.nonceLength);
  const key = deriveKey(passphraseBytes(passphrase), salt, COST);
  const ciphertext = Buffer.from(nacl.secretbox(seed, nonce, key));
  key.fill(0);
  return {
    kdf: "scrypt",
    ...COST,
    salt: salt.toString("hex"),
    nonce: nonce.toString("hex"),
    ciphertext: ciphertext.toString("hex"),
  };
}

/** The seed; null if the passphrase is wrong or the file was modified, which can't be told apart. */
export function decryptSeed(encryption: Encryption, passphrase: string): Uint8Array | null {
  const { salt, nonce, ciphertext } = encryption;
  const key = deriveKey(passphraseBytes(passphrase), Buffer.from(salt, "hex"), encryption);
  const seed = nacl.secretbox.open(Buffer.from(ciphertext, "hex"), Buffer.from(nonce, "hex"), key);
  key.fill(0);
  return seed;
}

/** Normalised to NFC (RFC 8265 §4.2 for passwords), so that an é is the same on every machine. Spaces and case are kept. */
function passphraseBytes(passphrase: string): Uint8Array {
  return Buffer.from(passphrase.normalize("NFC"), "utf8");
}

/** A 32-byte key derived with scrypt (RFC 7914). Uses 128·n·r bytes of memory. */
export function deriveKey(
  passphrase: Uint8Array,
  salt: Uint8Array,
  cost: { n: number; r: number; p: number },
): Buffer {
  const { n, r, p } = cost;
  // OpenSSL counts the p blocks too, and some overhead.
  const maxmem = 128 * r * (n + p + 2) + 1024 * 1024;
  return scryptSync(passphrase, salt, 32, { N: n, r, p, maxmem });
}
