import { AegisError } from "./errors.ts";
import type { SecretKey } from "./key.ts";
import { loadTrust, type Trust } from "./key-trust.ts";
import { safe } from "./terminal.ts";

/** What `sign` and `sign approve` make of the flags they share. */

/** Whole minutes from `--expires-in-minutes`, or undefined. @throws AegisError `usage` */
export function minutesOf(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  if (!/^[1-9]\d{0,6}$/.test(given)) {
    throw new AegisError("usage", "--expires-in-minutes takes a whole number of minutes, at least 1");
  }
  return Number(given);
}

/** Says that a signature lasts less long than was asked for. */
export function noteShorter(asked: number | undefined, most: number, note: (line: string) => void): void {
  if (asked === undefined || asked <= most) return;
  note(`note: signed for ${most} minutes, the most that is allowed, and not for ${asked}`);
}

/** The loaded key under the id it signs with. @throws AegisError `invalid_key` where none was found */
export function requireKey(key: SecretKey | null, keyId: string | undefined, flag: string): SecretKey {
  if (key === null) {
    throw new AegisError(
      "invalid_key",
      "no secret key is given",
      `Give ${flag}; make one: aegis sign keygen --out <file>`,
    );
  }
  return keyId === undefined ? key : { ...key, keyId };
}

/**
 * Warns about an id given for a key that the host's files know by others: its executor looks keys up by these alone.
 * @throws AegisError as {@link loadTrust}
 */
export function noteOtherId(
  key: SecretKey,
  flag: string,
  note: (line: string) => void,
  host: Trust = loadTrust({ rootOnly: false }),
): void {
  const known = host.find(({ publicKeyHex }) => publicKeyHex === key.publicKeyHex);
  if (known === undefined || known.ids.includes(key.keyId)) return;
  const ids = known.ids.map(safe);
  note(
    `warning: this host knows the key as ${ids.join(" or ")}; its executor will refuse it as ${safe(key.keyId)}. Sign with ${flag} ${ids.at(-1)}.`,
  );
}

/**
 * Who signs: as given, else the name of the trusted key. A key that has a name signs under no other.
 * @throws AegisError `usage`
 */
export function signerName(given: string | undefined, trust: Trust, key: SecretKey, flag: string): string {
  const name = given ?? trust.find(({ publicKeyHex }) => publicKeyHex === key.publicKeyHex)?.name;
  if (name === undefined || name === null) throw new AegisError("usage", `who signs? Give ${flag} <name>`);
  return name;
}
