import { randomBytes, scryptSync } from "node:crypto";
import nacl from "tweetnacl";
import * as v from "valibot";

/*
 * A secret key under a passphrase: scrypt (RFC 7914) makes a key of it, NaCl's secretbox (XSalsa20 and Poly1305) encrypts
 * the 32-byte seed under that key and a random nonce.
 */

/** OWASP's recommendation for scrypt: 128 MiB, a few tenths of a second on a server. */
const COST = { n: 2 ** 17, r: 8, p: 1 } as const;

const hex = (bytes: number) =>
  v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `not ${bytes} bytes in lower-case hex`));

/**
 * `encryption` of a key file. The parameters have bounds, since they come from a file: at most 256 MiB and four rounds are
 * ever spent on it, and nothing weaker than what is written here is read.
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

/** Encrypts a 32-byte seed under a passphrase, with a new salt and nonce. */
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

/** The seed, or null for a wrong passphrase and for a changed file alike: the two can't be told apart. */
export function decryptSeed(encryption: Encryption, passphrase: string): Uint8Array | null {
  const { salt, nonce, ciphertext } = encryption;
  const key = deriveKey(passphraseBytes(passphrase), Buffer.from(salt, "hex"), encryption);
  const seed = nacl.secretbox.open(Buffer.from(ciphertext, "hex"), Buffer.from(nonce, "hex"), key);
  key.fill(0);
  return seed;
}

/**
 * Normalised to NFC (as RFC 8265 §4.2 has it for passwords): an é typed on one machine is the é of another. Nothing else
 * is changed, so spaces and case count.
 */
function passphraseBytes(passphrase: string): Uint8Array {
  return Buffer.from(passphrase.normalize("NFC"), "utf8");
}

/** A 32-byte key by scrypt (RFC 7914). Takes 128·n·r bytes of memory. */
export function deriveKey(
  passphrase: Uint8Array,
  salt: Uint8Array,
  cost: { n: number; r: number; p: number },
): Buffer {
  const { n, r, p } = cost;
  // OpenSSL counts the p blocks as well, and a little more.
  const maxmem = 128 * r * (n + p + 2) + 1024 * 1024;
  return scryptSync(passphrase, salt, 32, { N: n, r, p, maxmem });
}
