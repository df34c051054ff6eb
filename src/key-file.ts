import { randomBytes } from "node:crypto";
import { accessSync, constants, lstatSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { Encryption, encryptSeed } from "./key-encryption.ts";
import { keyId, publicKeyOf } from "./key-sign.ts";
import type { Role } from "./key-trusted-keys.ts";
import { type Env, userPaths } from "./paths.ts";
import { createFileExclusive, fileProblem, isDirectory, typedPath } from "./sys-files.ts";

/* Key files: their format, and creating them. None is ever overwritten. */

const hex32 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not 64 lower-case hex digits"));

const publicPart = {
  algorithm: v.literal("ed25519"),
  key_id: v.pipe(v.string(), v.minLength(1), v.maxLength(512)),
  public_key_hex: hex32,
};
/** A secret key file, also printed by `aegis sign keygen`. `secret_key_hex` is the 32-byte seed of RFC 8032. */
export const KeyFile = v.strictObject({ ...publicPart, secret_key_hex: hex32 });
type KeyFile = v.InferOutput<typeof KeyFile>;
/** A key file with a passphrase. The unencrypted fields are trusted only after the secret has been decrypted. */
export const EncryptedKeyFile = v.strictObject({ ...publicPart, encryption: Encryption });

/**
 * The public part beside a secret key. Name and role are the owner's words: the commands that sign take the name from here, and
 * root what to write into the trusted keys, which alone decide.
 */
export const PublicKeyFile = v.strictObject({
  ...publicPart,
  name: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(512))),
  role: v.optional(v.picklist(["execution", "approval"])),
  break_glass: v.optional(v.literal(true)),
});
export type PublicKey = v.InferOutput<typeof PublicKeyFile>;

/** What `keygen` was told about a key. */
export type KeyOwner = Pick<PublicKey, "name" | "role" | "break_glass">;

/** The public part in a JSON text, or null if it is something else. */
export function parsePublicKey(text: string): PublicKey | null {
  try {
    return v.parse(PublicKeyFile, parseJson(text));
  } catch {
    return null;
  }
}

/** Where `keygen --role` writes a key, and where `sign` and `sign approve` look when none is given. */
export function defaultKeyPath(role: Role, env: Env): string {
  return join(userPaths(env).config, `${role}-key`);
}

/** A new key from the kernel's random number generator. */
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
 * Checks, before a passphrase is asked for, that {@link writeKeyFiles} can write to `path`.
 * @throws AegisError `exists`, `usage`
 */
export function assertKeyPath(path: string): void {
  if (path.endsWith("/") || isDirectory(path)) {
    const hint = `Give a file in it: --out ${join(path, "<name>")}`;
    throw new AegisError("usage", `${path} is a directory; a key is a file`, hint);
  }
  try {
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
    for (const file of [`${path}.pub`, path]) {
      if (lstatSync(file, { throwIfNoEntry: false }) !== undefined) throw alreadyExists(file);
    }
  } catch (error) {
    if (error instanceof AegisError) throw error;
    throw new AegisError(
      "usage",
      `can't create a key in ${dirname(path)}: ${fileProblem(error)}`,
      "Give --out a path you may write to.",
    );
  }
}

function alreadyExists(file: string): AegisError {
  return new AegisError(
    "exists",
    `${file} already exists; keys are never overwritten`,
    "Give another --out.",
  );
}

/**
 * Writes the secret to `path` (0600), encrypted if a passphrase is given, and the public part with name and role to `path`.pub (0644).
 * @throws AegisError `exists` if either file exists, `usage` for a path that can't be written, `io`
 */
export function writeKeyFiles(path: string, key: KeyFile, passphrase?: string, owner: KeyOwner = {}): void {
  const { secret_key_hex: secret, ...publicPart } = key;
  const file =
    passphrase === undefined
      ? key
      : { ...publicPart, encryption: encryptSeed(Buffer.from(secret, "hex"), passphrase) };
  assertKeyPath(path);
  typedPath(() => {
    if (!createFileExclusive(path, `${JSON.stringify(file)}\n`, 0o600)) throw alreadyExists(path);
    if (!createFileExclusive(`${path}.pub`, `${JSON.stringify({ ...publicPart, ...owner })}\n`, 0o644))
      throw alreadyExists(`${path}.pub`);
  });
}
