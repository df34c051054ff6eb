import type { Signature } from "./doc.ts";
import { AegisError } from "./errors.ts";
import { verifyDocument } from "./key-sign.ts";
import { type BareKeys, bareKeys, parseTrustedKeys, type Role, type TrustedKey } from "./key-trusted-keys.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { readConfig } from "./sys-config.ts";
import { parseEnvironmentFile } from "./sys-environment-file.ts";

export type Trust = readonly TrustedKey[];

/** Where trust is written down on a host. */
export interface TrustFiles {
  trustedKeys: string;
  daemonEnv: string;
}

/**
 * The keys that a host trusts: trusted-keys.toml and aegisd.env, and `bare` beside them (a daemon started by hand). With
 * `rootOnly`, as in the executor, a file that others than root can write is an error.
 * @throws AegisError `invalid_config`, `invalid_key`, `io`
 */
export function loadTrust(options: { rootOnly: boolean; bare?: BareKeys; files?: TrustFiles }): Trust {
  const { rootOnly, bare, files = SYSTEM } = options;
  const toml = readConfig(files.trustedKeys, rootOnly);
  const env = readConfig(files.daemonEnv, rootOnly);
  return unite([
    ...(toml === null ? [] : parseTrustedKeys(toml, files.trustedKeys)),
    ...(env === null ? [] : enrolledBare(env, files.daemonEnv)),
    ...(bare === undefined ? [] : bareKeys(bare)),
  ]);
}

/** Whether anybody's signature is believed on this host. @throws AegisError as {@link loadTrust} does */
export function trustsExecutionKey(): boolean {
  return loadTrust({ rootOnly: true }).some((key) => key.role === "execution" && !key.revoked);
}

/** The keys of aegisd.env: in hex too, but the host's own, so they answer to their fingerprints alone. */
function enrolledBare(text: string, path: string): TrustedKey[] {
  const keys = bareKeys(keysOfEnvironment(parseEnvironmentFile(text, path)));
  return keys.map((key) => ({ ...key, given: false }));
}

/**
 * The keys a user's command trusts. Where a role's keys are given by flag or by AEGIS_SIGNING_PUBLIC_KEY_HEX or
 * AEGIS_APPROVAL_PUBLIC_KEY_HEX, only these have it, but names, dates and revocations of the host's own files still bind
 * them. A role without any has the host's.
 * @throws AegisError as {@link loadTrust}
 */
export function userTrust(flags: BareKeys, env: Env, files: TrustFiles = SYSTEM): Trust {
  const variables = keysOfEnvironment(new Map(Object.entries(env)));
  const bare: BareKeys = {
    execution: [...flags.execution, ...variables.execution].map((hex) => hex.toLowerCase()),
    approval: [...flags.approval, ...variables.approval].map((hex) => hex.toLowerCase()),
  };
  const trust = loadTrust({ rootOnly: false, bare, files });
  return trust.filter(
    ({ role, publicKeyHex }) => bare[role].length === 0 || bare[role].includes(publicKeyHex),
  );
}

/**
 * Trust that also knows a key whose secret is at hand, under the id it signs with. What is known of the key already
 * (its role, name, dates) stays.
 * @throws AegisError `invalid_key` when another key has that id
 */
export function withOwnKey(trust: Trust, role: Role, own: { publicKeyHex: string; keyId: string }): Trust {
  const isOwn = (key: TrustedKey) => key.publicKeyHex === own.publicKeyHex;
  if (trust.some((key) => key.ids.includes(own.keyId) && !isOwn(key))) {
    throw new AegisError("invalid_key", `the id ${own.keyId} belongs to another trusted key`);
  }
  const known = trust.some(isOwn) ? trust : [...trust, ...bareKeys(keysOf(role, own.publicKeyHex))];
  return known.map((key) => (isOwn(key) ? { ...key, ids: [...key.ids, own.keyId] } : key));
}

function keysOf(role: Role, publicKeyHex: string): BareKeys {
  return { execution: [], approval: [], [role]: [publicKeyHex] };
}

function keysOfEnvironment(values: ReadonlyMap<string, string | undefined>): BareKeys {
  const keys = (name: string) => (values.get(name) ?? "").split(/[\s,;]+/).filter((key) => key !== "");
  return {
    execution: keys("AEGIS_SIGNING_PUBLIC_KEY_HEX"),
    approval: keys("AEGIS_APPROVAL_PUBLIC_KEY_HEX"),
  };
}

/**
 * One record a key: what restricts it anywhere restricts it everywhere. Two keys under one id, two names for one key, and
 * one key in both roles (its owner could approve their own plans) are errors.
 */
function unite(entries: readonly TrustedKey[]): Trust {
  const byKey = new Map<string, TrustedKey>();
  for (const entry of entries) {
    const known = byKey.get(entry.publicKeyHex);
    byKey.set(entry.publicKeyHex, known === undefined ? entry : combine(known, entry));
  }
  const owners = new Map<string, string>();
  for (const { ids, publicKeyHex } of byKey.values()) {
    for (const id of ids) {
      if ((owners.get(id) ?? publicKeyHex) !== publicKeyHex) {
        throw new AegisError("invalid_config", `two different trusted keys have the id ${id}`);
      }
      owners.set(id, publicKeyHex);
    }
  }
  return [...byKey.values()];
}

function combine(a: TrustedKey, b: TrustedKey): TrustedKey {
  const [fingerprint] = a.ids;
  if (a.role !== b.role) {
    throw new AegisError(
      "invalid_config",
      `key ${fingerprint} is trusted both to sign and to approve; these must be two keys of two people`,
    );
  }
  if (a.name !== null && b.name !== null && a.name !== b.name) {
    throw new AegisError("invalid_config", `key ${fingerprint} has two names: ${a.name} and ${b.name}`);
  }
  const earlier = (x: Date | null, y: Date | null) => (x === null || (y !== null && y < x) ? y : x);
  const later = (x: Date | null, y: Date | null) => (x === null || (y !== null && y > x) ? y : x);
  return {
    publicKeyHex: a.publicKeyHex,
    role: a.role,
    ids: [...new Set([...a.ids, ...b.ids])],
    name: a.name ?? b.name,
    given: a.given || b.given,
    notBefore: later(a.notBefore, b.notBefore),
    notAfter: earlier(a.notAfter, b.notAfter),
    revoked: a.revoked || b.revoked,
  };
}

/**
 * The trusted key that a document's signature is by, or claims to be by, good for `role` at the moment `at`. A key that was
 * given in hex is found by its signature, whatever id that goes by; the others by their ids, and whether the signature
 * fits is for the caller to check.
 * @throws AegisError `key_untrusted`, as {@link findKey}
 */
export function findSigner(
  trust: Trust,
  role: Role,
  document: { signature: Signature },
  at: Date,
): TrustedKey {
  const { key_id: id } = document.signature;
  const given = trust.filter((key) => key.given && key.role === role);
  const signer = given.find((key) => verifyDocument(document, key.publicKeyHex));
  if (signer !== undefined) return inForce(signer, role, id, at);
  if (given.length > 0 && !trust.some(({ ids }) => ids.includes(id))) {
    throw new AegisError(
      "key_untrusted",
      `${role} key ${id} is not trusted: it is not known here, and no key given in hex made this signature over this document`,
      `Give the signer's own public key, which is in the .pub file beside their secret: ${FLAGS[role]} <hex>`,
      { key_id: id },
    );
  }
  return findKey(trust, role, id, at);
}

const FLAGS: Readonly<Record<Role, string>> = {
  execution: "--public-key-hex",
  approval: "--approval-public-key-hex",
};

/** How a verified signature's key is called: by the id in the signature where the key answers to it, else its fingerprint. */
export function keyName({ ids }: TrustedKey, id: string): string {
  return ids.includes(id) ? id : (ids[0] ?? id);
}

/**
 * The trusted key that `id` names, good for `role` at the moment `at`.
 * @throws AegisError `key_untrusted`, saying why: unknown, of the other role, revoked, outside its dates
 */
export function findKey(trust: Trust, role: Role, id: string, at: Date): TrustedKey {
  const key = trust.find(({ ids }) => ids.includes(id));
  if (key === undefined) {
    throw new AegisError(
      "key_untrusted",
      `${role} key ${id} is not trusted: it is not known here`,
      `Enrol it in ${SYSTEM.trustedKeys} with role = "${role}", or give ${FLAGS[role]}.`,
      { key_id: id },
    );
  }
  return inForce(key, role, id, at);
}

function inForce(key: TrustedKey, role: Role, id: string, at: Date): TrustedKey {
  const problem = problemOf(key, role, at);
  if (problem === null) return key;
  throw new AegisError(
    "key_untrusted",
    `${role} key ${id} is not trusted: ${problem}`,
    "Sign with a key that is in force.",
    { key_id: id },
  );
}

function problemOf(key: TrustedKey, role: Role, at: Date): string | null {
  if (key.revoked) return "it has been revoked";
  if (key.role !== role) return `it is an ${key.role} key`;
  if (key.notBefore !== null && at < key.notBefore)
    return `it is not valid before ${key.notBefore.toISOString()}`;
  if (key.notAfter !== null && at > key.notAfter) return `it was valid until ${key.notAfter.toISOString()}`;
  return null;
}

/**
 * A key that has a name signs under that name only.
 * @throws AegisError `key_untrusted`
 */
export function checkSigner(key: TrustedKey, signer: string): void {
  if (key.name === null || key.name === signer) return;
  throw new AegisError(
    "key_untrusted",
    `the document says it was signed by ${signer}, but the key is ${key.name}'s`,
    `Sign with --signer ${key.name}.`,
  );
}
