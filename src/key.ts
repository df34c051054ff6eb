import { existsSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { decryptSeed } from "./key-encryption.ts";
import { EncryptedKeyFile, KeyFile } from "./key-file.ts";
import { keyId, publicKeyOf } from "./key-sign.ts";
import type { Env } from "./paths.ts";
import { assertSafeEnvironment } from "./self.ts";
import { asTyped, fileProblem, readFileLimited } from "./sys-files.ts";
import { showArgv } from "./terminal.ts";

const MAX_KEY_BYTES = 16 * 1024;

/** Purposes of secret keys, and where each is looked up if no flag names it. */
const PURPOSES = {
  signing: {
    variable: "AEGIS_SIGNING_SECRET_KEY_HEX",
    credential: "aegis-signing-key",
    hexFlag: "--secret-key-hex",
  },
  approval: {
    variable: "AEGIS_APPROVAL_SECRET_KEY_HEX",
    credential: "aegis-approval-key",
    hexFlag: "--approval-secret-key-hex",
  },
  /** A service's key, which people never type. */
  review: { variable: null, credential: "aegis-review-key", hexFlag: null },
} as const;
type Purpose = keyof typeof PURPOSES;

export interface SecretKey {
  seed: Uint8Array;
  publicKeyHex: string;
  /** Key id in signatures: the key file's `key_id`, else the fingerprint. */
  keyId: string;
  /** Its owner's name, from the public part beside the key file, where that says so. */
  name?: string;
}

/** A key in an encrypted file. */
export interface LockedKey {
  /** Its source, for messages. */
  source: string;
  /**
   * The key; null if the passphrase is wrong or the file was modified. Takes some tenths of a second and 128 MiB or
   * more.
   * @throws AegisError `invalid_key` if the file's public key belongs to another secret
   */
  unlock(passphrase: string): SecretKey | null;
}

/**
 * {@link readSecret} for a service, which can't ask for a passphrase.
 * @throws AegisError `invalid_key` for an encrypted key file, and as readSecret
 */
export function loadSecret(...given: Parameters<typeof readSecret>): SecretKey | null {
  const found = readSecret(...given);
  if (found === null || !("unlock" in found)) return found;
  throw new AegisError(
    "invalid_key",
    `${found.source} is encrypted, and a service can't ask for its passphrase`,
    "Give the service an unencrypted key as a systemd credential; LoadCredentialEncrypted= encrypts it on disk.",
  );
}

/**
 * The secret key for a purpose: from the given key file, the hex flag (with a warning through `note`), the environment
 * variable, or the systemd credential (systemd.exec(5), LoadCredential=), in this order. Null if there is none.
 * @throws AegisError `invalid_key`, `refused` (dangerous environment), `usage`, `not_found`, `io`
 */
export function readSecret(
  purpose: Purpose,
  given: { file?: string | undefined; hex?: string | undefined },
  env: Env,
  note: (line: string) => void,
): SecretKey | LockedKey | null {
  const { credential } = PURPOSES[purpose];
  const source = sourceOf(purpose, given, env);
  if (source === null) return null;
  assertSafeEnvironment(env);
  switch (source.from) {
    case "file":
      return fromText(readPrivate(source.value), source.value);
    case "flag":
      note(`warning: ${source.name} exposes the secret to every user of this host; use a key file`);
      return fromSeedHex(source.value, source.name);
    case "variable":
      return fromSeedHex(source.value, source.name);
    case "credential":
      // The mode means nothing here: systemd protects the directory and gives the unit's user access by ACL.
      return fromText(
        readFileLimited(source.value, MAX_KEY_BYTES).toString("utf8"),
        `credential ${credential}`,
      );
  }
}

function sourceOf(
  purpose: Purpose,
  given: { file?: string | undefined; hex?: string | undefined },
  env: Env,
):
  | { from: "file" | "credential"; value: string }
  | { from: "flag" | "variable"; name: string; value: string }
  | null {
  const { variable, credential, hexFlag } = PURPOSES[purpose];
  if (given.file !== undefined && given.hex !== undefined) {
    throw new AegisError("usage", `both a key file and ${hexFlag} were given; give one`);
  }
  if (given.file !== undefined) return { from: "file", value: given.file };
  if (given.hex !== undefined && hexFlag !== null) return { from: "flag", name: hexFlag, value: given.hex };
  const value = variable === null ? "" : (env[variable] ?? "");
  if (variable !== null && value !== "") return { from: "variable", name: variable, value };
  const directory = env.CREDENTIALS_DIRECTORY ?? "";
  const path = join(directory, credential);
  return directory !== "" && existsSync(path) ? { from: "credential", value: path } : null;
}

/** The text of a key file, which must be a regular file owned by the caller or root and accessible to nobody else. */
function readPrivate(path: string): string {
  try {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) {
      const hint = "Give the file written by `aegis sign keygen --out <file>`.";
      throw new AegisError("not_found", `there is no key file ${path}`, hint);
    }
    const [problem, hint] = problemOf(path, stat) ?? [];
    if (problem !== undefined) throw new AegisError("invalid_key", `key file ${path}: ${problem}`, hint);
    return readFileLimited(path, MAX_KEY_BYTES).toString("utf8");
  } catch (error) {
    if (error instanceof AegisError) throw asTyped(error);
    throw new AegisError(
      "usage",
      `can't read the key file ${path}: ${fileProblem(error)}`,
      "Give a key file of yours.",
    );
  }
}

/** The problem with a key file and its remedy, or null. */
function problemOf(path: string, stat: Stats): readonly [problem: string, hint: string] | null {
  if (!stat.isFile()) {
    return ["it is not a regular file", "Give the file written by `aegis sign keygen --out <file>`."];
  }
  if (stat.uid !== process.geteuid?.() && stat.uid !== 0) {
    const hint = "A secret key is for its owner only: use yours, or have the owner sign.";
    return [`it belongs to another user (uid ${stat.uid})`, hint];
  }
  if ((stat.mode & 0o077) === 0) return null;
  const hint = `Type: chmod 600 ${showArgv([path])}; if others may have read it, create a new key instead.`;
  return ["others can read or write it", hint];
}

/** A key file's JSON, or a bare hex seed. */
function fromText(text: string, source: string): SecretKey | LockedKey {
  if (!text.trimStart().startsWith("{")) return fromSeedHex(text.trim(), source);
  // Messages never quote the file: it holds a secret.
  let tree: unknown;
  try {
    tree = parseJson(text);
  } catch {
    throw new AegisError("invalid_key", `${source} is not a key file`);
  }
  if (!v.is(v.looseObject({ encryption: v.unknown() }), tree)) {
    const file = parseKeyFile(KeyFile, tree, source);
    return withFileId(fromSeedHex(file.secret_key_hex, source), file, source);
  }
  const file = parseKeyFile(EncryptedKeyFile, tree, source);
  return {
    source,
    unlock(passphrase) {
      const seed = decryptSeed(file.encryption, passphrase);
      return seed === null ? null : withFileId(fromSeed(seed), file, source);
    },
  };
}

function parseKeyFile<S extends v.GenericSchema>(schema: S, tree: unknown, source: string): v.InferOutput<S> {
  const parsed = v.safeParse(schema, tree, { abortEarly: true });
  if (parsed.success) return parsed.output;
  const path = v.getDotPath(parsed.issues[0]) ?? "(file)";
  throw new AegisError("invalid_key", `${source} is not a key file: ${path} is missing, wrong or unknown`);
}

/** The key with its file's id, after checking that the file's public key belongs to the secret. */
function withFileId(
  key: SecretKey,
  file: { key_id: string; public_key_hex: string },
  source: string,
): SecretKey {
  if (key.publicKeyHex !== file.public_key_hex) {
    throw new AegisError("invalid_key", `${source}: public_key_hex does not belong to the secret key`);
  }
  return { ...key, keyId: file.key_id };
}

function fromSeedHex(hex: string, source: string): SecretKey {
  if (!/^[0-9a-fA-F]{64}$/.test(hex)) {
    throw new AegisError("invalid_key", `${source} does not hold a 32-byte seed in hex`);
  }
  return fromSeed(Buffer.from(hex, "hex"));
}

function fromSeed(seed: Uint8Array): SecretKey {
  const publicKeyHex = publicKeyOf(seed);
  return { seed, publicKeyHex, keyId: keyId(publicKeyHex) };
}
