import { existsSync } from "node:fs";
import { AegisError } from "./errors.ts";
import { type LockedKey, readSecret, type SecretKey } from "./key.ts";
import { defaultKeyPath, parsePublicKey } from "./key-file.ts";
import { readFileLimited } from "./sys-files.ts";
import { askHidden } from "./sys-tty.ts";
import { safe } from "./terminal.ts";

/*
 * Passphrases of encrypted key files. They are read only from the terminal, never from a flag, the environment or
 * standard input, which others, a log or a pipe could see.
 */

const TRIES = 3;
const SHORTEST = 8;
const MAX_PUBLIC_BYTES = 16 * 1024;

type Ask = (question: string) => Promise<string | null>;

/**
 * The secret key for an interactive command: like {@link readSecret}, but the user's own key of that purpose is used if no other
 * is found, the owner's name is read from the public part beside the file, and the passphrase of an encrypted file is asked for
 * on the terminal, at most three times.
 * @throws AegisError `refused` without a terminal, `invalid_key` after the last wrong passphrase, and as readSecret
 */
export async function unlockSecret(
  ...[purpose, given, env, note, ask = askHidden]: [...Parameters<typeof readSecret>, ask?: Ask]
): Promise<SecretKey | null> {
  let { file } = given;
  let found = readSecret(purpose, given, env, note);
  if (found === null && purpose !== "review") {
    const own = defaultKeyPath(purpose === "signing" ? "execution" : "approval", env);
    if (!existsSync(own)) return null;
    file = own;
    found = readSecret(purpose, { file }, env, note);
  }
  if (found === null) return null;
  const key = "unlock" in found ? await unlocked(found, note, ask) : found;
  const name = file === undefined ? undefined : nameBeside(file, key.publicKeyHex);
  return name === undefined ? key : { ...key, name };
}

/** The name in the public part beside a key file. Nothing where that is missing or belongs to another key. */
function nameBeside(file: string, publicKeyHex: string): string | undefined {
  try {
    const beside = parsePublicKey(readFileLimited(`${file}.pub`, MAX_PUBLIC_BYTES).toString("utf8"));
    return beside?.public_key_hex === publicKeyHex ? beside.name : undefined;
  } catch {
    return undefined;
  }
}

async function unlocked(locked: LockedKey, note: (line: string) => void, ask: Ask): Promise<SecretKey> {
  const source = safe(locked.source);
  for (let left = TRIES; left > 0; left--) {
    const passphrase = await ask(`Passphrase of ${source}: `);
    if (passphrase === null) throw noAnswer(`the passphrase of ${source}`);
    const key = locked.unlock(passphrase);
    if (key !== null) return key;
    if (left > 1) note("Wrong passphrase; try again.");
  }
  throw new AegisError("invalid_key", `wrong passphrase for ${source}, or the file has been changed`);
}

/**
 * Asks twice for the passphrase of a new key.
 * @throws AegisError `refused` without a terminal, for a short or unprintable one, and if the two differ
 */
export async function newPassphrase(ask: Ask = askHidden): Promise<string> {
  const passphrase = await ask(`New passphrase, at least ${SHORTEST} characters: `);
  if (passphrase === null) throw noAnswer("a passphrase");
  if ([...passphrase].length < SHORTEST) {
    throw new AegisError(
      "refused",
      `a passphrase needs at least ${SHORTEST} characters; no key was created`,
      "Several words are easy to remember. Without --encrypt only the file mode protects the key.",
    );
  }
  if (/\p{Cc}/u.test(passphrase)) {
    throw new AegisError("refused", "the passphrase contains control characters; no key was created");
  }
  if ((await ask("Repeat the passphrase: ")) !== passphrase) {
    throw new AegisError("refused", "the two passphrases differ; no key was created");
  }
  return passphrase;
}

function noAnswer(what: string): AegisError {
  return new AegisError(
    "refused",
    `could not ask for ${what}: no terminal, or no answer`,
    "Run this on a terminal. A service can't ask: give it a key with systemd's LoadCredentialEncrypted=.",
  );
}
