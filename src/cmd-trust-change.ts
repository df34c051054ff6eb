import { lstatSync } from "node:fs";
import type { NewAuditEvent } from "./audit-event.ts";
import { sha256Hex } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import { loadTrust, type Trust, type TrustFiles } from "./key-trust.ts";
import { withChange, withEntry } from "./key-trust-text.ts";
import { parseTrustedKeys, type TrustedKey } from "./key-trusted-keys.ts";
import { loginUid } from "./sys-account.ts";
import { readConfig } from "./sys-config.ts";
import { withFileLock } from "./sys-file-lock.ts";
import { writeFileAtomic } from "./sys-files.ts";

/* A change of the trusted keys: checked, logged, and written in one piece. */

export const CHANGES = ["add", "revoke", "rotate", "expire"] as const;
export type Change = (typeof CHANGES)[number];

export const HELP = "Type: aegis sign trust --help";

/** The files that a change reads and writes. */
export interface TrustFilesHost {
  files: TrustFiles;
  /** A lock file in a directory of root's. */
  lock: string;
  /** Whether the files must be writable by root alone. */
  rootOnly: boolean;
  /** Creates the executor's directories where they are missing, the lock's and the log's among them. */
  prepare(): void;
  /** Appends to the production log. */
  record(event: NewAuditEvent): void;
}

export interface Planned {
  /** Id of the key to change. */
  id: string | null;
  entry: { text: string; key: TrustedKey } | null;
  until: Date | null;
  reason: string | null;
}

/** Longest wait for another change of the keys, in milliseconds. */
const LOCK_MS = 10_000;

interface Changed {
  /** The changed key as it is now. */
  old: TrustedKey | null;
  added: TrustedKey | null;
  trust: Trust;
}

/**
 * Makes the change. Logged before the file is replaced, so that no key becomes trusted without an event; if replacing it fails, a
 * second event says so.
 */
export function changeTrust(action: Change, planned: Planned, host: TrustFilesHost, now: Date): Changed {
  host.prepare();
  return withFileLock(host.lock, () => change(action, planned, host, now), LOCK_MS);
}

function change(
  action: Change,
  { id, entry, until, reason }: Planned,
  host: TrustFilesHost,
  now: Date,
): Changed {
  const path = host.files.trustedKeys;
  const before = readConfig(path, host.rootOnly) ?? "";
  const keys = parseTrustedKeys(before, path);
  let after = before;
  let old: TrustedKey | null = null;
  if (id !== null) {
    const n = indexOf(keys, id, path);
    old = keys[n] ?? null;
    if (old?.revoked === true) throw new AegisError("refused", `key ${id} is revoked already`, HELP);
    const stamp = now.toISOString().slice(0, 10);
    const remark = reason === null ? "" : `${stamp}: ${reason}`;
    // Rotating doesn't prolong a key that ends sooner anyway.
    const endsSooner =
      action === "rotate" && old?.notAfter != null && until !== null && old.notAfter <= until;
    if (action === "revoke") after = withChange(before, n, { revoked: true }, remark, path);
    else if (until !== null && !endsSooner) after = withChange(before, n, { notAfter: until }, remark, path);
    old = parseTrustedKeys(after, path)[n] ?? null;
  }
  if (entry !== null) {
    assertFits(entry.key, old, keys);
    after = withEntry(after, entry, path);
  }
  // Also against the keys in aegisd.env: one id twice, one key in both roles.
  const trust = loadTrust({ rootOnly: host.rootOnly, files: host.files, intended: after });
  const event = changeEvent(action, { old, entry, reason }, before, after);
  host.record(event);
  try {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    writeFileAtomic(path, after, stat === undefined ? 0o644 : stat.mode & 0o777, stat?.gid ?? 0);
  } catch (error) {
    host.record({ ...event, decision: "failed", details: { ...event.details, failed: messageOf(error) } });
    throw error;
  }
  return { old, added: entry?.key ?? null, trust };
}

function indexOf(keys: readonly TrustedKey[], id: string, path: string): number {
  const found = keys.flatMap((key, n) => (key.ids.includes(id) ? [n] : []));
  const [n] = found;
  if (n !== undefined && found.length === 1) return n;
  throw new AegisError(
    "not_found",
    `${path} has ${n === undefined ? "no key" : `${found.length} entries`} with the id ${id}`,
    "See the ids: aegis sign trust list",
  );
}

/**
 * Checks a new key against those that are there, and against the one that it replaces.
 * @throws AegisError `exists`, `usage`
 */
function assertFits(added: TrustedKey, old: TrustedKey | null, keys: readonly TrustedKey[]): void {
  const same = keys.find(
    ({ publicKeyHex, ids }) =>
      publicKeyHex === added.publicKeyHex || ids.some((id) => added.ids.includes(id)),
  );
  if (same !== undefined) {
    const how = same.revoked
      ? "is in the file and revoked: a revoked key never comes back"
      : "is trusted already";
    throw new AegisError("exists", `key ${added.ids[0]} ${how}`, "Make a new one: aegis sign keygen --help");
  }
  const isAnother =
    old !== null &&
    (old.role !== added.role ||
      old.breakGlass !== added.breakGlass ||
      (old.name !== null && old.name !== added.name));
  if (isAnother) {
    const [is, was] = [added, old].map(
      ({ role, name, breakGlass }) => `${name ?? "nobody"}'s ${breakGlass ? "break-glass" : role} key`,
    );
    throw new AegisError(
      "usage",
      `the new key is ${is}, the old one ${was}: a rotation changes neither owner nor role`,
      "Use add and revoke.",
    );
  }
}

function changeEvent(
  action: Change,
  { old, entry, reason }: Pick<Planned, "entry" | "reason"> & { old: TrustedKey | null },
  before: string,
  after: string,
): NewAuditEvent {
  const about = (key: TrustedKey) => ({
    ...{ id: key.ids.at(-1), name: key.name, role: key.role },
    ...(key.breakGlass ? { break_glass: true } : {}),
  });
  const named = (key: TrustedKey) => `${key.role} key ${key.ids.at(-1)} of ${key.name ?? "nobody named"}`;
  const what = [
    ...(old === null
      ? []
      : [`${action === "revoke" ? "revoked" : `good until ${old.notAfter?.toISOString()}`}: ${named(old)}`]),
    ...(entry === null ? [] : [`added: ${named(entry.key)}`]),
  ];
  return {
    kind: "trust_changed",
    actor: "root",
    details: {
      message: what.join("; "),
      change: action,
      ...(old === null ? {} : { key: about(old) }),
      ...(entry === null ? {} : { added: { ...about(entry.key), public_key_hex: entry.key.publicKeyHex } }),
      ...(old?.notAfter == null ? {} : { not_after: old.notAfter.toISOString() }),
      reason,
      login_uid: loginUid(),
      trusted_keys_sha256_before: sha256Hex(before),
      trusted_keys_sha256: sha256Hex(after),
    },
  };
}
