import { createHash } from "node:crypto";
import { publicKeyOf, signBytes } from "../src/key-sign.ts";

/*
 * A security key in software, after PROTOCOL.u2f and PROTOCOL.sshsig: signs with whatever fields a test asks for, also those
 * that neither ssh-keygen nor a real token would write. Without an application it is a plain ssh-ed25519 key.
 */

export interface Forgery {
  magic: string;
  version: number;
  keyType: string;
  publicKey: Uint8Array;
  application: string | null;
  namespace: string;
  reserved: string;
  hash: string;
  algorithm: string;
  flags: number;
  counter: number;
  /** Added after the fields of the key, of the inner signature, and of the whole. */
  afterKey: string;
  afterSignature: string;
  after: string;
  /** Changes the 64 bytes of the signature. */
  bend(signature: Buffer): Buffer;
}

export const string = (bytes: string | Uint8Array): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.from(bytes).length);
  return Buffer.concat([length, Buffer.from(bytes)]);
};
const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();

/** A signature's bytes. The fields that are signed are signed as forged, so that only the field itself can be refused. */
export function sshSign(seed: Uint8Array, message: Uint8Array, change: Partial<Forgery> = {}): Buffer {
  const application = change.application === undefined ? "ssh:" : change.application;
  const type = application === null ? "ssh-ed25519" : "sk-ssh-ed25519@openssh.com";
  const forged: Forgery = {
    magic: "SSHSIG",
    version: 1,
    keyType: type,
    publicKey: Buffer.from(publicKeyOf(seed), "hex"),
    namespace: "approval@aegis",
    reserved: "",
    hash: "sha512",
    algorithm: type,
    flags: 1,
    counter: 7,
    afterKey: "",
    afterSignature: "",
    after: "",
    bend: (signature) => signature,
    ...change,
    application,
  };
  const isHash = ["sha256", "sha512", "sha1"].includes(forged.hash);
  const digest = isHash ? createHash(forged.hash).update(message).digest() : Buffer.alloc(64);
  const signed = Buffer.concat([
    Buffer.from(forged.magic),
    ...[forged.namespace, forged.reserved, forged.hash].map(string),
    string(digest),
  ]);
  const state = Buffer.concat([Buffer.from([forged.flags]), uint32(forged.counter)]);
  const toSign =
    application === null ? signed : Buffer.concat([sha256(Buffer.from(application)), state, sha256(signed)]);
  const signature = forged.bend(Buffer.from(signBytes(seed, toSign)));
  return Buffer.concat([
    Buffer.from(forged.magic),
    uint32(forged.version),
    string(sshKeyBlob(forged)),
    ...[forged.namespace, forged.reserved, forged.hash].map(string),
    string(
      Buffer.concat([
        string(forged.algorithm),
        string(signature),
        application === null ? Buffer.alloc(0) : state,
        Buffer.from(forged.afterSignature),
      ]),
    ),
    Buffer.from(forged.after),
  ]);
}

function sshKeyBlob(forged: Pick<Forgery, "keyType" | "publicKey" | "application" | "afterKey">): Buffer {
  const { keyType, publicKey, application, afterKey } = forged;
  const rest = application === null ? Buffer.alloc(0) : string(application);
  return Buffer.concat([string(keyType), string(publicKey), rest, Buffer.from(afterKey)]);
}

/** The line of its .pub file; `change` makes it one that must be refused. */
export function sshPublicKey(seed: Uint8Array, change: Partial<Forgery> & { line?: string } = {}): string {
  const application = change.application === undefined ? "ssh:" : change.application;
  const keyType = change.keyType ?? (application === null ? "ssh-ed25519" : "sk-ssh-ed25519@openssh.com");
  const publicKey = change.publicKey ?? Buffer.from(publicKeyOf(seed), "hex");
  const blob = sshKeyBlob({ keyType, publicKey, application, afterKey: change.afterKey ?? "" });
  return `${change.line ?? keyType} ${blob.toString("base64")}`;
}

export const armored = (blob: Buffer): string =>
  `-----BEGIN SSH SIGNATURE-----\n${blob.toString("base64").replace(/.{1,70}/g, "$&\n")}-----END SSH SIGNATURE-----\n`;
