import { randomBytes } from "node:crypto";
import { accessSync, constants, lstatSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { AegisError } from "./errors.ts";
import { Encryption, encryptSeed } from "./key-encryption.ts";
import { keyId, publicKeyOf } from "./key-sign.ts";
import { createFileExclusive, fileProblem, isDirectory, typedPath } from "./sys-files.ts";

/*
 * Key files: what stands in them, and how they are made. None is ever overwritten.
 */

const hex32 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not 64 lower-case hex digits"));

const publicPart = {
  algorithm: v.literal("ed25519"),
  key_id: v.pipe(v.string(), v.minLength(1), v.maxLength(512)),
  public_key_hex: hex32,
};
/** A secret key file, and what `aegis sign keygen` prints. `secret_key_hex` is the 32-byte seed of RFC 8032. */
export const KeyFile = v.strictObject({ ...publicPart, secret_key_hex: hex32 });
type KeyFile = v.InferOutput<typeof KeyFile>;
/** The same under a passphrase. What stands in clear is believed only after the secret has been decrypted. */
export const EncryptedKeyFile = v.strictObject({ ...publicPart, encryption: Encryption });

/** A new key from the kernel's random numbers. */
export function generateKey(): KeyFile {
  const seed = randomBytes(32);
  const publicKeyHex = publicKeyOf(seed);
  return {
    algorithm: "ed25519",
    key_id: keyId(publicKeyHex),
    secret_key_hex: seed.toString("hex"),
    public_key_hex: publicKeyHex,
  };
}

/**
 * Asked before anyone is asked for a passphrase: whether {@link writeKeyFiles} can write there.
 * @throws AegisError `exists`, `usage`
 */
export function assertKeyPlace(path: string): void {
  if (path.endsWith("/") || isDirectory(path)) {
    const hint = `Name a file in it: --out ${join(path, "<name>")}`;
    throw new AegisError("usage", `${path} is a directory, and a key is a file`, hint);
  }
  try {
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
    for (const file of [`${path}.pub`, path]) {
      if (lstatSync(file, { throwIfNoEntry: false }) !== undefined) throw taken(file);
    }
  } catch (error) {
    if (error instanceof AegisError) throw error;
    throw new AegisError(
      "usage",
      `can't make a key in ${dirname(path)}: ${fileProblem(error)}`,
      "Give --out a place of your own.",
    );
  }
}

function taken(file: string): AegisError {
  return new AegisError(
    "exists",
    `${file} exists already; a key is never overwritten`,
    "Give another --out.",
  );
}

/**
 * Writes the secret to `path` (0600), encrypted where a passphrase is given, and the public part to `path`.pub (0644).
 * @throws AegisError `exists` rather than overwrite either, `usage` for a path that can't be, `io`
 */
export function writeKeyFiles(path: string, key: KeyFile, passphrase?: string): void {
  const { secret_key_hex: secret, ...publicPart } = key;
  const file =
    passphrase === undefined
      ? key
      : { ...publicPart, encryption: encryptSeed(Buffer.from(secret, "hex"), passphrase) };
  assertKeyPlace(path);
  typedPath(() => {
    if (!createFileExclusive(path, `${JSON.stringify(file)}\n`, 0o600)) throw taken(path);
    if (!createFileExclusive(`${path}.pub`, `${JSON.stringify(publicPart)}\n`, 0o644))
      throw taken(`${path}.pub`);
  });
}
