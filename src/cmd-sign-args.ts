import { AegisError } from "./errors.ts";
import type { SecretKey } from "./key.ts";
import { loadTrust, type Trust } from "./key-trust.ts";
import type { Role } from "./key-trusted-keys.ts";
import { safe } from "./terminal.ts";

/* Flags that `sign`, `sign approve` and `sign reject` share. */

/** The approver's OpenSSH key. */
export const SSH_KEY_ARG = {
  type: "string",
  valueHint: "file",
  description: "your OpenSSH key instead, also one in a security key: ssh-keygen signs with it",
} as const;

/** What these helpers need to know of a key. */
type KnownKey = Pick<SecretKey, "publicKeyHex" | "keyId" | "name">;

/** The minutes of `--expires-in-minutes`, or undefined. @throws AegisError `usage` */
export function minutesOf(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  if (!/^[1-9]\d{0,6}$/.test(given)) {
    throw new AegisError("usage", "--expires-in-minutes takes a whole number of minutes, at least 1");
  }
  return Number(given);
}

/** A request's number. @throws AegisError `usage` */
export function requestNumber(typed: string): number {
  if (/^[1-9]\d{0,14}$/.test(typed)) return Number(typed);
  const hint = "Requests: aegis sign inbox";
  throw new AegisError("usage", `a request has a number, which ${safe(typed)} is not`, hint);
}

/** Notes that a signature will expire earlier than requested. */
export function noteShorter(asked: number | undefined, most: number, note: (line: string) => void): void {
  if (asked === undefined || asked <= most) return;
  note(`note: signed for ${most} minutes, the maximum, instead of ${asked}`);
}

/** The key, with `keyId` as its id if given. @throws AegisError `invalid_key` if there is no key */
export function requireKey(
  key: SecretKey | null,
  role: Role,
  keyId: string | undefined,
  flag = "--key <file>",
): SecretKey {
  if (key === null) {
    throw new AegisError(
      "invalid_key",
      `no secret key is given, and you have no ${role} key of your own`,
      `Give ${flag}; generate one: aegis sign keygen --role ${role} --name <name>`,
    );
  }
  return keyId === undefined ? key : { ...key, keyId };
}

/**
 * Warns if this host's files know the key under other ids only: the executor looks keys up by those.
 * @throws AegisError as {@link loadTrust}
 */
export function noteOtherId(
  key: KnownKey,
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
 * The signer's name: the one given, else the trusted key's, else the one beside the key file.
 * @throws AegisError `usage`
 */
export function signerName(given: string | undefined, trust: Trust, key: KnownKey, flag: string): string {
  const trusted = trust.find(({ publicKeyHex }) => publicKeyHex === key.publicKeyHex)?.name;
  const name = given ?? trusted ?? key.name;
  if (name === undefined) throw new AegisError("usage", `who signs? Give ${flag} <name>`);
  return name;
}
