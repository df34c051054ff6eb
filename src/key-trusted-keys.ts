import * as v from "valibot";
import { AegisError } from "./errors.ts";
import { checkPublicKey, keyId } from "./key-sign.ts";
import { parseSshKey, type SshKey } from "./key-sshsig.ts";
import { readToml } from "./sys-toml.ts";

export type Role = "execution" | "approval";

/** A public key with everything known about it, merged from all sources. */
export interface TrustedKey {
  publicKeyHex: string;
  /** For a key of OpenSSH, which signs as PROTOCOL.sshsig says and in no other way; null for our own keys. */
  ssh: (SshKey & { verifyRequired: boolean }) | null;
  role: Role;
  /** Every id of the key, the fingerprint first: of an OpenSSH key as `ssh-keygen -l` prints it. */
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
  /** An approval key that is sealed away for emergencies: each use is an event of its own, and stays shown until it is acknowledged. */
  breakGlass: boolean;
}

/** Public keys as flags and variables give them: in hex, and an approver's also as the line of an OpenSSH .pub file. */
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

export const TrustedKeysFile = v.strictObject({
  key: v.optional(
    v.pipe(
      v.array(
        v.strictObject({
          id: v.pipe(v.string(), v.minLength(1), v.maxLength(512)),
          name: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(512))),
          public_key_hex: v.optional(v.string()),
          ssh_public_key: v.optional(v.string()),
          verify_required: v.optional(v.boolean(), false),
          role: v.picklist(["execution", "approval"]),
          not_before: v.optional(date),
          not_after: v.optional(date),
          revoked: v.optional(v.boolean(), false),
          break_glass: v.optional(v.boolean(), false),
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
    const { ids, ...key } = keyOf(entry, `${source}: key, entry ${n + 1}`);
    return {
      ...key,
      role: entry.role,
      ids: [...ids, entry.id],
      name: entry.name ?? null,
      given: false,
      notBefore: entry.not_before ?? null,
      notAfter: entry.not_after ?? null,
      revoked: entry.revoked,
      breakGlass: entry.break_glass,
    };
  });
}

type Entry = v.InferOutput<typeof TrustedKeysFile>["key"][number];

/** The key of an entry, given in one of the two forms, and its fingerprints. @throws AegisError `invalid_config`, `invalid_key` */
function keyOf(entry: Entry, where: string): Pick<TrustedKey, "publicKeyHex" | "ssh" | "ids"> {
  const { public_key_hex: hex, ssh_public_key: line, verify_required: verifyRequired, role } = entry;
  const problem =
    (hex === undefined) === (line === undefined)
      ? "give public_key_hex or ssh_public_key, and not both"
      : line !== undefined && role !== "approval"
        ? "an SSH key approves and never signs execution plans: role must be approval"
        : entry.break_glass && role !== "approval"
          ? "break_glass is for keys that approve: role must be approval"
          : null;
  if (problem !== null) throw new AegisError("invalid_config", `${where}: ${problem}`);
  const key = line === undefined ? hexKey(hex ?? "") : sshKey(line, verifyRequired);
  if (!verifyRequired || typeof key.ssh?.application === "string") return key;
  const why = "verify_required needs a key in a security key: sk-ssh-ed25519@openssh.com";
  throw new AegisError("invalid_config", `${where}: ${why}`);
}

function hexKey(publicKeyHex: string): Pick<TrustedKey, "publicKeyHex" | "ssh" | "ids"> {
  checkPublicKey(publicKeyHex);
  return { publicKeyHex, ssh: null, ids: [keyId(publicKeyHex)] };
}

function sshKey(line: string, verifyRequired: boolean): Pick<TrustedKey, "publicKeyHex" | "ssh" | "ids"> {
  const ssh = parseSshKey(line);
  const { publicKeyHex, fingerprint } = ssh;
  return { publicKeyHex, ssh: { ...ssh, verifyRequired }, ids: [fingerprint, keyId(publicKeyHex)] };
}

/** Placeholders in the output of keygen and in the example file. */
function isPlaceholder(text: string): boolean {
  return /^\s*(?:<.*>|…|\.\.\.)\s*$/.test(text);
}

/** Keys about which nothing else is known. @throws AegisError `invalid_key` */
export function bareKeys(bare: BareKeys): TrustedKey[] {
  return (["execution", "approval"] as const).flatMap((role) =>
    bare[role].map((given) => {
      const key =
        role === "approval" && given.includes(" ") ? sshKey(given, false) : hexKey(given.toLowerCase());
      return {
        ...key,
        role,
        name: null,
        given: true,
        notBefore: null,
        notAfter: null,
        revoked: false,
        breakGlass: false,
      };
    }),
  );
}

/** Days before its end in which a key is reported as expiring. */
const EXPIRING_DAYS = 30;

/** How a key stands at a time, without regard to its role. */
export function keyState(
  { revoked, notBefore, notAfter }: TrustedKey,
  at: Date,
): "revoked" | "not yet valid" | "expired" | "expiring" | "valid" {
  if (revoked) return "revoked";
  if (notBefore !== null && at < notBefore) return "not yet valid";
  if (notAfter === null) return "valid";
  if (at > notAfter) return "expired";
  return notAfter.getTime() - at.getTime() < EXPIRING_DAYS * 86_400_000 ? "expiring" : "valid";
}

/**
 * Keys that expire soon or have expired, and whose owner has no other key of that role that is good for longer. A key that was
 * replaced, or that nobody needs and is revoked, is none of them.
 */
export function keysToReplace(keys: readonly TrustedKey[], at: Date): TrustedKey[] {
  return keys.filter((key) => {
    const state = keyState(key, at);
    if (state !== "expired" && state !== "expiring") return false;
    return !keys.some((other) => isSuccessor(other, key));
  });
}

function isSuccessor(other: TrustedKey, { role, name, notAfter }: TrustedKey): boolean {
  if (other.revoked || other.role !== role || other.name === null || other.name !== name) return false;
  return other.notAfter === null || (notAfter !== null && other.notAfter > notAfter);
}
