import { canonicalJson } from "./canonical.ts";
import { type ApprovalSignature, unsigned } from "./doc.ts";
import { AegisError } from "./errors.ts";
import { verifyDocument } from "./key-sign.ts";
import { type SshKey, sshSignatureProblem } from "./key-sshsig.ts";
import { type BareKeys, bareKeys, parseTrustedKeys, type Role, type TrustedKey } from "./key-trusted-keys.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { readConfig } from "./sys-config.ts";
import { parseEnvironmentFile } from "./sys-environment-file.ts";

export type Trust = readonly TrustedKey[];

/** Files that configure a host's trusted keys. */
export interface TrustFiles {
  trustedKeys: string;
  daemonEnv: string;
}

/**
 * The keys a host trusts: trusted-keys.toml, aegisd.env, and `bare` (a daemon started by hand). With `rootOnly`, as in
 * the executor, a file writable by others than root is an error.
 * @throws AegisError `invalid_config`, `invalid_key`, `io`
 */
export function loadTrust(options: {
  rootOnly: boolean;
  bare?: BareKeys;
  files?: TrustFiles;
  /** What trusted-keys.toml is about to hold, instead of what it holds. */
  intended?: string;
}): Trust {
  const { rootOnly, bare, files = SYSTEM } = options;
  const toml = options.intended ?? readConfig(files.trustedKeys, rootOnly);
  const env = readConfig(files.daemonEnv, rootOnly);
  return mergeKeys([
    ...(toml === null ? [] : parseTrustedKeys(toml, files.trustedKeys)),
    ...(env === null ? [] : enrolledBare(env, files.daemonEnv)),
    ...(bare === undefined ? [] : bareKeys(bare)),
  ]);
}

/**
 * Whether any execution key is trusted on this host.
 * @throws AegisError as {@link loadTrust}
 */
export function trustsExecutionKey(): boolean {
  return loadTrust({ rootOnly: true }).some((key) => key.role === "execution" && !key.revoked);
}

/** Keys from aegisd.env. Although given in hex, they are the host's own, so only their fingerprints identify them. */
function enrolledBare(text: string, path: string): TrustedKey[] {
  const keys = bareKeys(keysOfEnvironment(parseEnvironmentFile(text, path)));
  return keys.map((key) => ({ ...key, given: false }));
}

/**
 * The keys a user's command trusts. If a role's keys are given by flag or by AEGIS_SIGNING_PUBLIC_KEY_HEX or
 * AEGIS_APPROVAL_PUBLIC_KEY_HEX, only these have that role, but names, dates and revocations in the host's files still
 * apply to them. Otherwise the role has the host's keys.
 * @throws AegisError as {@link loadTrust}
 */
export function userTrust(flags: BareKeys, env: Env, files: TrustFiles = SYSTEM): Trust {
  const variables = keysOfEnvironment(new Map(Object.entries(env)));
  const bare: BareKeys = {
    execution: [...flags.execution, ...variables.execution],
    approval: [...flags.approval, ...variables.approval],
  };
  const trust = loadTrust({ rootOnly: false, bare, files });
  const given = new Set(bareKeys(bare).map(({ publicKeyHex }) => publicKeyHex));
  return trust.filter(({ role, publicKeyHex }) => bare[role].length === 0 || given.has(publicKeyHex));
}

/**
 * Adds the caller's own key to a trust, under the id it signs with. What is already known of the key (role, name,
 * dates) is kept.
 * @throws AegisError `invalid_key` if another key has that id
 */
export function withOwnKey(
  trust: Trust,
  role: Role,
  own: { publicKeyHex: string; keyId: string; sshLine?: string },
): Trust {
  const isOwn = (key: TrustedKey) => key.publicKeyHex === own.publicKeyHex;
  if (trust.some((key) => key.ids.includes(own.keyId) && !isOwn(key))) {
    throw new AegisError("invalid_key", `the id ${own.keyId} belongs to another trusted key`);
  }
  const known = trust.some(isOwn)
    ? trust
    : [...trust, ...bareKeys(keysOf(role, own.sshLine ?? own.publicKeyHex))];
  return known.map((key) => (isOwn(key) ? { ...key, ids: [...key.ids, own.keyId] } : key));
}

function keysOf(role: Role, key: string): BareKeys {
  return { execution: [], approval: [], [role]: [key] };
}

function keysOfEnvironment(values: ReadonlyMap<string, string | undefined>): BareKeys {
  const keys = (name: string) => (values.get(name) ?? "").split(/[\s,;]+/).filter((key) => key !== "");
  return {
    execution: keys("AEGIS_SIGNING_PUBLIC_KEY_HEX"),
    approval: keys("AEGIS_APPROVAL_PUBLIC_KEY_HEX"),
  };
}

/**
 * Merges records of the same key: every restriction applies. Two keys with one id, two names for one key, and one key
 * in both roles (its owner could approve their own plans) are errors.
 */
function mergeKeys(entries: readonly TrustedKey[]): Trust {
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
      `key ${fingerprint} is trusted both to sign and to approve; use two keys of two people`,
    );
  }
  if (a.name !== null && b.name !== null && a.name !== b.name) {
    throw new AegisError("invalid_config", `key ${fingerprint} has two names: ${a.name} and ${b.name}`);
  }
  if (!isSameForm(a.ssh, b.ssh)) {
    throw new AegisError(
      "invalid_config",
      `key ${fingerprint} is trusted in two forms, once as ${formOf(a.ssh)} and once as ${formOf(b.ssh)}`,
    );
  }
  const earlier = (x: Date | null, y: Date | null) => (x === null || (y !== null && y < x) ? y : x);
  const later = (x: Date | null, y: Date | null) => (x === null || (y !== null && y > x) ? y : x);
  const verifyRequired = a.ssh?.verifyRequired === true || b.ssh?.verifyRequired === true;
  return {
    publicKeyHex: a.publicKeyHex,
    ssh: a.ssh === null ? null : { ...a.ssh, verifyRequired },
    role: a.role,
    ids: [...new Set([...a.ids, ...b.ids])],
    name: a.name ?? b.name,
    given: a.given || b.given,
    notBefore: later(a.notBefore, b.notBefore),
    notAfter: earlier(a.notAfter, b.notAfter),
    revoked: a.revoked || b.revoked,
    breakGlass: a.breakGlass || b.breakGlass,
  };
}

function isSameForm(a: SshKey | null, b: SshKey | null): boolean {
  return a === null || b === null ? a === b : a.blob.equals(b.blob);
}

function formOf(ssh: SshKey | null): string {
  if (ssh === null) return "public_key_hex";
  return ssh.application === null ? "an SSH key" : `an SSH key for ${ssh.application}`;
}

/**
 * Why this key did not make the document's signature; null if it did. A key signs in its own form only: an OpenSSH key makes
 * SSHSIG signatures, for which touch and PIN are checked, and every other key plain Ed25519 ones.
 */
export function signatureProblem(
  document: { signature: ApprovalSignature },
  { publicKeyHex, ssh }: Pick<TrustedKey, "publicKeyHex" | "ssh">,
): string | null {
  const { algorithm, signature } = document.signature;
  if (algorithm !== "sshsig") {
    if (ssh !== null) return `it is an ${algorithm} signature, but its key is an SSH key`;
    return verifyDocument(document, publicKeyHex) ? null : "its signature is not valid";
  }
  if (ssh === null) return "it is an SSH signature, but its key is not trusted as an SSH key";
  const blob = Buffer.from(signature, "base64");
  if (blob.toString("base64") !== signature) return "its signature is not canonical base64";
  return sshSignatureProblem(blob, Buffer.from(canonicalJson(unsigned(document))), ssh, ssh.verifyRequired);
}

/**
 * The trusted key that made, or claims to have made, a document's signature, valid for `role` at time `at`. A key given
 * in hex is found by verifying with it, whatever id the signature names; other keys are found by id, and the caller
 * must verify the signature.
 * @throws AegisError `key_untrusted`, as {@link findKey}
 */
export function findSigner(
  trust: Trust,
  role: Role,
  document: { signature: ApprovalSignature },
  at: Date,
): TrustedKey {
  const { key_id: id } = document.signature;
  const given = trust.filter((key) => key.given && key.role === role);
  const signer = given.find((key) => signatureProblem(document, key) === null);
  if (signer !== undefined) return validKey(signer, role, id, at);
  if (given.length > 0 && !trust.some(({ ids }) => ids.includes(id))) {
    throw new AegisError(
      "key_untrusted",
      `${role} key ${id} is not trusted: it is unknown here, and no key given in hex made this document's signature`,
      `Give the signer's public key, from the .pub file beside their secret key: ${FLAGS[role]} <hex>`,
      { key_id: id },
    );
  }
  return findKey(trust, role, id, at);
}

const FLAGS: Readonly<Record<Role, string>> = {
  execution: "--public-key-hex",
  approval: "--approval-public-key-hex",
};

/** The name for a verified signature's key: the id in the signature if the key has it, else its fingerprint. */
export function keyName({ ids }: TrustedKey, id: string): string {
  return ids.includes(id) ? id : (ids[0] ?? id);
}

/**
 * The trusted key with this id, valid for `role` at time `at`.
 * @throws AegisError `key_untrusted` with the reason: unknown, other role, revoked, outside its dates
 */
export function findKey(trust: Trust, role: Role, id: string, at: Date): TrustedKey {
  const key = trust.find(({ ids }) => ids.includes(id));
  if (key === undefined) {
    throw new AegisError(
      "key_untrusted",
      `${role} key ${id} is not trusted: it is unknown here`,
      `Enrol it in ${SYSTEM.trustedKeys} with role = "${role}", or give ${FLAGS[role]}.`,
      { key_id: id },
    );
  }
  return validKey(key, role, id, at);
}

function validKey(key: TrustedKey, role: Role, id: string, at: Date): TrustedKey {
  const problem = problemOf(key, role, at);
  if (problem === null) return key;
  throw new AegisError(
    "key_untrusted",
    `${role} key ${id} is not trusted: ${problem}`,
    "Sign with a key that is valid now.",
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
 * A named key may only sign under its name.
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
