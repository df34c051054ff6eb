import { AegisError } from "./errors.ts";
import { readSecret, type SecretKey } from "./key.ts";
import { askHidden } from "./sys-tty.ts";
import { safe } from "./terminal.ts";

/*
 * Passphrases of encrypted key files. They come from the terminal and from nowhere else: never from a flag, the environment
 * or standard input, where others, a log or a pipe could see them.
 */

const TRIES = 3;
const SHORTEST = 8;

type Ask = (question: string) => Promise<string | null>;

/**
 * The secret key for a person's command: as {@link readSecret}, and where its file is encrypted, after asking for the
 * passphrase on the terminal, three times at most.
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
    if (passphrase === null) throw nobodyToAsk(`the passphrase of ${source}`);
    const key = found.unlock(passphrase);
    if (key !== null) return key;
    if (left > 1) note("That is not the passphrase; try again.");
  }
  throw new AegisError("invalid_key", `wrong passphrase for ${source}, or the file has been changed`);
}

/**
 * A passphrase for a new key, asked for twice.
 * @throws AegisError `refused` without a terminal, for a short or unprintable one, and where the two differ
 */
export async function newPassphrase(ask: Ask = askHidden): Promise<string> {
  const passphrase = await ask(`New passphrase, at least ${SHORTEST} characters: `);
  if (passphrase === null) throw nobodyToAsk("a passphrase");
  if ([...passphrase].length < SHORTEST) {
    throw new AegisError(
      "refused",
      `a passphrase has at least ${SHORTEST} characters; no key was made`,
      "Several words are easy to remember. Without --encrypt the key file is protected by its mode alone.",
    );
  }
  if (/\p{Cc}/u.test(passphrase)) {
    throw new AegisError("refused", "the passphrase has control characters in it; no key was made");
  }
  if ((await ask("The same again: ")) !== passphrase) {
    throw new AegisError("refused", "the two passphrases differ; no key was made");
  }
  return passphrase;
}

function nobodyToAsk(what: string): AegisError {
  return new AegisError(
    "refused",
    `there is no terminal to ask for ${what}, or it was not answered`,
    "Run this on a terminal. A service can't unlock a key: give it one by systemd's LoadCredentialEncrypted=.",
  );
}
