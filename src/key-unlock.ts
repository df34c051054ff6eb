import { AegisError } from "./errors.ts";
import { readSecret, type SecretKey } from "./key.ts";
import { askHidden } from "./sys-tty.ts";
import { safe } from "./terminal.ts";

/*
 * Passphrases of encrypted key files. They are read only from the terminal, never from a flag, the environment or
 * standard input, which others, a log or a pipe could see.
 */

const TRIES = 3;
const SHORTEST = 8;

type Ask = (question: string) => Promise<string | null>;

/**
 * The secret key for an interactive command: like {@link readSecret}, but asks for the passphrase of an encrypted file
 * on the terminal, at most three times.
 * @throws AegisError `refused` without a terminal, `invalid_key` after the last wrong passphrase, and as readSecret
 */
export async function unlockSecret(
  ...[purpose, given, env, note, ask = askHidden]: [...Parameters<typeof readSecret>, ask?: Ask]
): Promise<SecretKey | null> {
  const found = readSecret(purpose, given, env, note);
  if (found === null || !("unlock" in found)) return found;
  const source = safe(found.source);
  for (let left = TRIES; left > 0; left--) {
    const passphrase = await ask(`Passphrase of ${source}: `);
    if (passphrase === null) throw noAnswer(`the passphrase of ${source}`);
    const key = found.unlock(passphrase);
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
