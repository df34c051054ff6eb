import { createHash, createPublicKey, verify } from "node:crypto";
import { AegisError } from "./errors.ts";

/*
 * Signed notes: a text and Ed25519 signatures by named keys. C2SP signed-note, golang.org/x/mod/sumdb/note.
 */

/** A key that can vouch for notes. */
export interface NoteKey {
  name: string;
  /** The key's short id: the first 4 bytes of SHA-256 over name and key, in hex. */
  id: string;
  /** 32 bytes. */
  key: Uint8Array;
}

const ED25519 = 1;
const MAX_NOTE = 1_000_000;
const MAX_SIGNATURES = 100;
/** DER SubjectPublicKeyInfo of an Ed25519 key, without its 32 bytes (RFC 8410). */
const SPKI = Buffer.from("302a300506032b6570032100", "hex");

/**
 * A verifier key as it is written in configuration: `<name>+<id>+<base64 of algorithm and key>`.
 * @throws AegisError `invalid_key`
 */
export function parseNoteKey(text: string): NoteKey {
  const [, name = "", id = "", encoded = ""] =
    /^([^\s+\p{C}]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/u.exec(text) ?? [];
  const bytes = Buffer.from(encoded, "base64");
  const isKey = bytes.length === 33 && bytes[0] === ED25519 && bytes.toString("base64") === encoded;
  if (!isKey || keyId(name, bytes) !== id)
    throw new AegisError("invalid_key", "this is no key for signed notes: <name>+<id>+<key>");
  return { name, id, key: bytes.subarray(1) };
}

/** The key's id by its name and `bytes`, which begin with the algorithm. */
function keyId(name: string, bytes: Uint8Array): string {
  return createHash("sha256").update(`${name}\n`).update(bytes).digest("hex").slice(0, 8);
}

/**
 * The text of a signed note, its last newline included, once one of `keys` vouches for it. Signatures by other keys are ignored;
 * a wrong one by a known key refuses the note.
 * @throws AegisError `signature_invalid`
 */
export function openNote(note: string, keys: readonly NoteKey[]): string {
  const split = note.lastIndexOf("\n\n");
  const text = note.slice(0, split + 1);
  const lines = note.slice(split + 2).split("\n");
  const malformed =
    split < 0 || note.length > MAX_NOTE || lines.pop() !== "" || lines.length > MAX_SIGNATURES;
  if (malformed || /[\p{Cs}\uFFFD]|[^\P{Cc}\n]/u.test(note)) throw invalid("it is no signed note");
  const good = new Set<string>();
  const seen = new Set<string>();
  for (const line of lines) {
    const [, name = "", encoded = ""] = /^— ([^\s+\p{C}]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line) ?? [];
    const bytes = Buffer.from(encoded, "base64");
    if (bytes.length < 5 || bytes.toString("base64") !== encoded)
      throw invalid("one of its signatures is malformed");
    const id = bytes.subarray(0, 4).toString("hex");
    const known = keys.find((key) => key.name === name && key.id === id);
    if (known === undefined || seen.has(`${name}+${id}`)) continue;
    seen.add(`${name}+${id}`);
    if (!isSignature(known, text, bytes.subarray(4))) throw invalid(`the signature by ${name} is wrong`);
    good.add(`${name}+${id}`);
  }
  if (good.size === 0) throw invalid("none of the known keys has signed it");
  return text;
}

function isSignature({ key }: NoteKey, text: string, signature: Uint8Array): boolean {
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI, key]), format: "der", type: "spki" });
  return signature.length === 64 && verify(null, Buffer.from(text), publicKey, signature);
}

function invalid(why: string): AegisError {
  return new AegisError("signature_invalid", `the signed note can't be believed: ${why}`);
}
