import { createHash } from "node:crypto";
import { AegisError } from "./errors.ts";
import { publicKeyProblem, verifyBytes } from "./key-sign.ts";

/*
 * Signatures of OpenSSH keys (PROTOCOL.sshsig), by ssh-ed25519 and by sk-ssh-ed25519@openssh.com, whose secret is in a FIDO2
 * token (PROTOCOL.u2f). ssh-keygen makes them. Stricter than OpenSSH: one encoding of a signature, an empty `reserved` field,
 * 64 bytes exactly, and no flag of a token that isn't understood.
 */

/** The domain of our signatures: what was signed for files, git or a login is never an approval. */
export const SSHSIG_NAMESPACE = "approval@aegis";

const PLAIN = "ssh-ed25519";
const TOKEN = "sk-ssh-ed25519@openssh.com";
const MAGIC = Buffer.from("SSHSIG");
const VERSION = 1;
const HASHES = ["sha512", "sha256"] as const;

/**
 * What the token states it did (FIDO2, authenticator data): somebody touched it; it checked a PIN or a fingerprint. No other
 * bit may be set: 0x08 and 0x10 mean a key that can be copied to other devices, 0x40 and 0x80 data that SSH doesn't sign.
 */
const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;

/** An OpenSSH public key. */
export interface SshKey {
  /** The Ed25519 key itself, as everywhere else: the same key in another form is the same key. */
  publicKeyHex: string;
  /** The application it was made for, `ssh:` by default; null for a key that is not in a token. */
  application: string | null;
  /** Its encoding on the wire, the middle part of a .pub file. */
  blob: Buffer;
  /** As `ssh-keygen -l` prints it: SHA256: and 43 characters. */
  fingerprint: string;
}

/** Why something is not a valid key or signature; becomes an AegisError or a refusal where it is used. */
class Malformed extends Error {}

/**
 * Parses the line of a .pub file: type, base64, and a comment if any. Options, as in authorized_keys, are refused.
 * @throws AegisError `invalid_key`
 */
export function parseSshKey(line: string): SshKey {
  const [, type = "", base64 = ""] = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: [^\r\n]*)?\n?$/.exec(line) ?? [];
  try {
    if (base64 === "") throw new Malformed("it is not the one line of a .pub file");
    if (type !== PLAIN && type !== TOKEN) throw new Malformed(`${type} is neither ${PLAIN} nor ${TOKEN}`);
    const key = readKey(fromBase64(base64));
    if ((key.application === null ? PLAIN : TOKEN) !== type) throw new Malformed("it names two types");
    return key;
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new AegisError(
      "invalid_key",
      `SSH public key ${JSON.stringify(line.slice(0, 64))}: ${error.message}`,
      "Make one that can be used: ssh-keygen -t ed25519-sk (in a security key), or -t ed25519",
    );
  }
}

/**
 * The signature's bytes from the armored form that ssh-keygen writes.
 * @throws AegisError `signature_invalid`
 */
export function dearmorSshSignature(text: string): Buffer {
  const [, body = ""] =
    /^-----BEGIN SSH SIGNATURE-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END SSH SIGNATURE-----\n?$/.exec(
      text,
    ) ?? [];
  try {
    if (body === "") throw new Malformed("it is not one armored SSH signature");
    return fromBase64(body.replaceAll("\n", ""));
  } catch (error) {
    if (error instanceof Malformed)
      throw new AegisError("signature_invalid", `SSH signature: ${error.message}`);
    throw error;
  }
}

/** Whether a text is the file of an OpenSSH secret key without a passphrase (PROTOCOL.key): who reads it can sign. */
export function isOpenSshSecret(text: string): boolean {
  const [, body = ""] = /^-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END/.exec(text) ?? [];
  const magic = Buffer.from("openssh-key-v1\0");
  const bytes = Buffer.from(body, "base64");
  if (!bytes.subarray(0, magic.length).equals(magic)) return false;
  try {
    return new Reader(bytes.subarray(magic.length)).text() === "none";
  } catch {
    return false;
  }
}

/** The key in a signature, in hex; null if the signature is malformed. Who signed is proved by {@link sshSignatureProblem} only. */
export function sshSignatureKey(blob: Buffer): string | null {
  try {
    return readSignature(blob).key.publicKeyHex;
  } catch (error) {
    if (error instanceof Malformed) return null;
    throw error;
  }
}

/**
 * Why `blob` is not a signature of `message` by `key` in our namespace; null if it is. A token must state that it was touched
 * and, with `verifyRequired`, that it checked a PIN or a fingerprint. Its counter is signed but compared with nothing, as in
 * OpenSSH: tokens may leave it at 0, and an approval is used only once anyway (exec-used.ts).
 */
export function sshSignatureProblem(
  blob: Buffer,
  message: Uint8Array,
  key: SshKey,
  verifyRequired: boolean,
  namespace = SSHSIG_NAMESPACE,
): string | null {
  try {
    const found = readSignature(blob);
    if (!found.key.blob.equals(key.blob)) return "it was made by another key";
    if (found.namespace !== namespace) return `it was made for ${JSON.stringify(found.namespace)}`;
    const digest = createHash(found.hash).update(message).digest();
    const signed = Buffer.concat([
      MAGIC,
      ...[Buffer.from(namespace), Buffer.alloc(0), Buffer.from(found.hash), digest].map(lengthFirst),
    ]);
    const { token, signature } = found;
    if (token !== null) {
      if ((token.flags & ~(USER_PRESENT | USER_VERIFIED)) !== 0) {
        return `the token's flags are 0x${token.flags.toString(16)}, of which only 0x1 and 0x4 are allowed`;
      }
      if ((token.flags & USER_PRESENT) === 0) return "nobody touched the security key";
      if (verifyRequired && (token.flags & USER_VERIFIED) === 0) {
        return "the security key checked neither a PIN nor a fingerprint, which its entry requires";
      }
    } else if (verifyRequired) return "its key is not in a security key";
    const bytes = token === null ? signed : tokenMessage(found.key.application ?? "", token, signed);
    return verifyBytes(key.publicKeyHex, bytes, signature) ? null : "its signature is not valid";
  } catch (error) {
    if (error instanceof Malformed) return `it is malformed: ${error.message}`;
    throw error;
  }
}

/** What a token signs (PROTOCOL.u2f, SSH U2F signatures). */
function tokenMessage(
  application: string,
  token: { flags: number; counter: number },
  message: Buffer,
): Buffer {
  const state = Buffer.alloc(5);
  state.writeUInt8(token.flags, 0);
  state.writeUInt32BE(token.counter, 1);
  return Buffer.concat([sha256(Buffer.from(application)), state, sha256(message)]);
}

interface SshSignature {
  key: SshKey;
  namespace: string;
  hash: (typeof HASHES)[number];
  signature: Buffer;
  /** Null for a key that is not in a token. */
  token: { flags: number; counter: number } | null;
}

function readSignature(blob: Buffer): SshSignature {
  const outer = new Reader(blob);
  if (!outer.bytes(MAGIC.length).equals(MAGIC)) throw new Malformed("it does not begin with SSHSIG");
  const version = outer.uint32();
  if (version !== VERSION) throw new Malformed(`its version is ${version}`);
  const key = readKey(outer.string());
  const namespace = outer.text();
  if (outer.string().length > 0) throw new Malformed("its reserved field is not empty");
  const name = outer.text();
  const hash = HASHES.find((one) => one === name);
  if (hash === undefined) throw new Malformed(`its hash algorithm is ${JSON.stringify(name)}`);
  const inner = new Reader(outer.string());
  outer.end();
  const algorithm = inner.text();
  if (algorithm !== (key.application === null ? PLAIN : TOKEN)) {
    throw new Malformed(`its algorithm is ${JSON.stringify(algorithm)}, which is not its key's`);
  }
  const signature = inner.string();
  if (signature.length !== 64)
    throw new Malformed(`an Ed25519 signature has 64 bytes, not ${signature.length}`);
  const token = key.application === null ? null : { flags: inner.uint8(), counter: inner.uint32() };
  inner.end();
  return { key, namespace, hash, signature, token };
}

function readKey(blob: Buffer): SshKey {
  const reader = new Reader(blob);
  const type = reader.text();
  if (type !== PLAIN && type !== TOKEN) throw new Malformed(`its key's type is ${JSON.stringify(type)}`);
  const publicKeyHex = reader.string().toString("hex");
  const problem = publicKeyProblem(publicKeyHex);
  if (problem !== null) throw new Malformed(`its key can't be trusted: ${problem}`);
  const application = type === TOKEN ? reader.text() : null;
  reader.end();
  // A key of a website (WebAuthn) has the site's name: what the site lets it sign is nothing that its owner read here.
  if (application !== null && !/^ssh:[\x21-\x7e]{0,64}$/.test(application)) {
    throw new Malformed(`its key was made for ${JSON.stringify(application)}, not for ssh:`);
  }
  const fingerprint = `SHA256:${sha256(blob).toString("base64").replace(/=+$/, "")}`;
  return { publicKeyHex, application, blob, fingerprint };
}

/** Reads the fields of SSH's wire format (RFC 4251 §5) in order. A length beyond the end is an error. */
class Reader {
  readonly #from: Buffer;
  #at = 0;

  constructor(from: Buffer) {
    this.#from = from;
  }

  bytes(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#from.length) throw new Malformed("it is cut short");
    const found = this.#from.subarray(this.#at, end);
    this.#at = end;
    return found;
  }

  uint8(): number {
    return this.bytes(1).readUInt8();
  }

  uint32(): number {
    return this.bytes(4).readUInt32BE();
  }

  string(): Buffer {
    return this.bytes(this.uint32());
  }

  /** A string of printable ASCII: names of types, hashes and namespaces are nothing else. */
  text(): string {
    const text = this.string().toString("latin1");
    if (!/^[\x20-\x7e]{1,128}$/.test(text))
      throw new Malformed("one of its names is empty, long or not ASCII");
    return text;
  }

  end(): void {
    if (this.#at !== this.#from.length) throw new Malformed("it goes on after its end");
  }
}

/** Canonical base64 only: another spelling would be another document with the same meaning. */
function fromBase64(text: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw new Malformed("it is not canonical base64");
  return bytes;
}

function lengthFirst(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
