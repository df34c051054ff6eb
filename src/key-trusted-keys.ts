import * as v from "valibot";
import { AegisError } from "./errors.ts";
import { checkPublicKey, keyId } from "./key-sign.ts";
import { readToml } from "./sys-toml.ts";

export type Role = "execution" | "approval";

/** A public key with everything known about it, merged from all sources. */
export interface TrustedKey {
  publicKeyHex: string;
  role: Role;
  /** Every id of the key, including its fingerprint. */
  ids: readonly string[];
  /** Owner's name; null if only the bare key is known. */
  name: string | null;
  /**
   * Given in hex by the user who typed the command or started the daemon. They chose the key, so its signatures may
   * carry any key id. Keys from the host's files must match by id.
   */
  given: boolean;
  notBefore: Date | null;
  notAfter: Date | null;
  revoked: boolean;
}

/** Public keys in hex, as flags and variables give them. */
export type BareKeys = Readonly<Record<Role, readonly string[]>>;

/** An RFC 3339 time: a TOML date with an offset, or a UTC string. */
const date = v.pipe(
  v.unknown(),
  v.transform((value) => (value instanceof Temporal.ZonedDateTime ? value.toInstant().toString() : value)),
  v.check(
    (value) => typeof value === "string" && RFC3339_UTC.test(value),
    "not an RFC 3339 date and time with its offset",
  ),
  v.transform((value) => instantOf(String(value))),
  v.check((value) => Number.isFinite(value.getTime()), "not a real date"),
);
const RFC3339_UTC = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/;

/** An invalid Date for a day that doesn't exist: `new Date` alone turns 30 February into 2 March. */
function instantOf(text: string): Date {
  try {
    return new Date(Temporal.Instant.from(text).epochMilliseconds);
  } catch {
    return new Date(Number.NaN);
  }
}

const TrustedKeysFile = v.strictObject({
  key: v.optional(
    v.pipe(
      v.array(
        v.strictObject({
          id: v.pipe(v.string(), v.minLength(1), v.maxLength(512)),
          name: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(512))),
          public_key_hex: v.string(),
          role: v.picklist(["execution", "approval"]),
          not_before: v.optional(date),
          not_after: v.optional(date),
          revoked: v.optional(v.boolean(), false),
        }),
      ),
      v.maxLength(1000),
    ),
    [],
  ),
});

/** Parses trusted-keys.toml. @throws AegisError `invalid_config`, `invalid_key` */
export function parseTrustedKeys(text: string, source: string): TrustedKey[] {
  const { settings, problem } = readToml(text, TrustedKeysFile);
  if (problem !== null) {
    const hint = "Correct the file as root; until then no signature is trusted.";
    throw new AegisError("invalid_config", `${source}: ${problem}`, hint);
  }
  return settings.key.map((entry, n) => {
    if (isPlaceholder(entry.id) || isPlaceholder(entry.name ?? "")) {
      throw new AegisError(
        "invalid_config",
        `${source}: key, entry ${n + 1}: ${entry.name ?? entry.id} is a placeholder, not a name`,
        'As root, fill in the name its owner signs with, for example: name = "ops@example"',
      );
    }
    checkPublicKey(entry.public_key_hex);
    return {
      publicKeyHex: entry.public_key_hex,
      role: entry.role,
      ids: [keyId(entry.public_key_hex), entry.id],
      name: entry.name ?? null,
      given: false,
      notBefore: entry.not_before ?? null,
      notAfter: entry.not_after ?? null,
      revoked: entry.revoked,
    };
  });
}

/** Placeholders in the output of keygen and in the example file. */
function isPlaceholder(text: string): boolean {
  return /^\s*(?:<.*>|…|\.\.\.)\s*$/.test(text);
}

/** Keys given in hex, about which nothing else is known. @throws AegisError `invalid_key` */
export function bareKeys(bare: BareKeys): TrustedKey[] {
  return (["execution", "approval"] as const).flatMap((role) =>
    bare[role].map((given) => {
      const publicKeyHex = given.toLowerCase();
      checkPublicKey(publicKeyHex);
      const ids = [keyId(publicKeyHex)];
      const known = { publicKeyHex, role, ids, name: null, given: true };
      return { ...known, notBefore: null, notAfter: null, revoked: false };
    }),
  );
}
