import { createHash } from "node:crypto";
import { dearmor, isArmored } from "./apt-armor.ts";
import { MAX_USER_IDS, type RepositoryKey } from "./doc-repository.ts";

/*
 * One OpenPGP public key (RFC 9580; RFC 4880 for what gpgv of older systems reads): how many primary keys a file holds, and what the
 * key says of itself. Signatures are not verified here: gpgv or sqv do that, with exactly this key.
 */

/** A key's packets, as they were in the file, and what they say. */
export interface OpenPgpKey {
  bytes: Uint8Array;
  key: RepositoryKey;
}

/** Packet types (RFC 9580, 5). */
const SIGNATURE = 2;
const PRIMARY = 6;
const USER_ID = 13;
const SUBKEY = 14;
const USER_ATTRIBUTE = 17;
const SECRET: readonly number[] = [5, 7];
const ALLOWED: readonly number[] = [SIGNATURE, PRIMARY, USER_ID, SUBKEY, USER_ATTRIBUTE];

/** Signature types (RFC 9580, 5.2.1): certifications of a user id, a direct-key signature, a revocation of the key. */
const CERTIFICATIONS: readonly number[] = [0x10, 0x11, 0x12, 0x13];
const DIRECT = 0x1f;
const REVOCATION = 0x20;

/** Subpackets that name the issuer: by key id, by fingerprint, which ends in that. */
const ISSUERS: readonly number[] = [16, 33];

/** Hash algorithms that are broken (RFC 9580, 9.5). */
const BROKEN_HASHES: Readonly<Record<number, string>> = { 1: "MD5", 2: "SHA-1", 3: "RIPEMD-160" };
const CURVES: Readonly<Record<string, string>> = {
  "2a8648ce3d030107": "ECDSA P-256",
  "2b81040022": "ECDSA P-384",
  "2b81040023": "ECDSA P-521",
  "2b06010401da470f01": "Ed25519",
};
const SMALLEST_RSA = 2048;
const SMALLEST_DSA = 2048;
const SECRET_KEY = "holds a secret key, which must never leave its owner: export the public one";
/** In characters. */
const USER_ID_SHOWN = 200;

interface Packet {
  tag: number;
  body: Uint8Array;
}

interface Signature {
  type: number;
  hash: number;
  created: number;
  /** Seconds after the key's creation; null if it does not expire. */
  keyExpires: number | null;
  /** Key id of the issuer in hex; null if it names none. */
  issuer: string | null;
}

/** The one key in a file, armored or binary, or why there isn't exactly one: part of a sentence after "the key file ". */
export function readPublicKey(file: Uint8Array): OpenPgpKey | string {
  const text = new TextDecoder("latin1").decode(file);
  if (text.includes("-----BEGIN PGP PRIVATE KEY BLOCK-----")) return SECRET_KEY;
  const bytes = isArmored(text) ? dearmor(text) : file;
  if (bytes === null) return "has ASCII armor that can't be read";
  if (bytes.length === 0) return "is empty";
  const packets = readPackets(bytes);
  if (typeof packets === "string") return packets;
  if (packets.some(({ tag }) => SECRET.includes(tag))) return SECRET_KEY;
  const primaries = packets.filter(({ tag }) => tag === PRIMARY);
  if (primaries.length > 1) {
    const known = primaries.map(({ body }) => fingerprintOf(body));
    return `holds ${primaries.length} primary keys (${known.slice(0, 4).join(", ")}), and apt would accept signatures by any of them`;
  }
  const [first] = packets;
  if (first?.tag !== PRIMARY) return "does not begin with a public key";
  const foreign = packets.find(({ tag }) => !ALLOWED.includes(tag));
  if (foreign !== undefined)
    return `holds a packet of type ${foreign.tag}, which has no place in a public key`;
  if (first.body[0] !== 4)
    return `holds a key of version ${first.body[0] ?? 0}; only version 4 is read by every apt`;
  const algorithm = algorithmOf(first.body);
  if (algorithm === null) return "holds a key of an unknown algorithm";
  if (!isWhole(first.body))
    return "holds a key that isn't written as OpenPGP writes it: its fingerprint would be another to apt";
  return { bytes, key: describe(packets, first.body, algorithm) };
}

/** ASCII armor with a checksum (RFC 4880, 6), always the same for the same bytes. */
export function armorKey(bytes: Uint8Array): string[] {
  const body =
    Buffer.from(bytes)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  const checksum = Buffer.from(crc24(bytes).toString(16).padStart(6, "0"), "hex").toString("base64");
  return [
    "-----BEGIN PGP PUBLIC KEY BLOCK-----",
    "",
    ...body,
    `=${checksum}`,
    "-----END PGP PUBLIC KEY BLOCK-----",
  ];
}

function describe(packets: readonly Packet[], primary: Uint8Array, algorithm: Algorithm): RepositoryKey {
  const fingerprint = fingerprintOf(primary);
  const created = uint(primary, 1, 4);
  const own = ownSignatures(packets, fingerprint.slice(-16));
  const certifying = own.filter(({ type }) => CERTIFICATIONS.includes(type) || type === DIRECT);
  const newest = certifying.toSorted((a, b) => b.created - a.created)[0];
  const expires = newest?.keyExpires ?? null;
  const broken = newest === undefined ? undefined : BROKEN_HASHES[newest.hash];
  const weak = [
    ...(algorithm.weak === null ? [] : [algorithm.weak]),
    ...(broken === undefined ? [] : [`it vouches for itself with ${broken} only`]),
    ...(newest === undefined ? ["it has no signature by itself"] : []),
  ];
  return {
    fingerprint,
    algorithm: algorithm.name,
    created_at: dateOf(created),
    expires_at: expires === null ? null : dateOf(created + expires),
    revoked: own.some(({ type }) => type === REVOCATION),
    user_ids: packets
      .filter(({ tag }) => tag === USER_ID)
      .slice(0, MAX_USER_IDS)
      .map(({ body }) =>
        new TextDecoder().decode(body).toWellFormed().slice(0, USER_ID_SHOWN).toWellFormed(),
      ),
    ...(weak.length === 0 ? {} : { weak }),
  };
}

/** The signatures on the primary key and its user ids, by the key itself. Those after a subkey are about that. */
function ownSignatures(packets: readonly Packet[], keyId: string): Signature[] {
  const found: Signature[] = [];
  for (const { tag, body } of packets) {
    if (tag === SUBKEY) break;
    if (tag !== SIGNATURE) continue;
    const signature = readSignature(body);
    if (signature !== null && (signature.issuer ?? keyId) === keyId) found.push(signature);
  }
  return found;
}

/** The packets of a file, or what is wrong with it (RFC 9580, 4.2). A partial or indeterminate length is refused. */
function readPackets(bytes: Uint8Array): Packet[] | string {
  const packets: Packet[] = [];
  let at = 0;
  while (at < bytes.length) {
    const head = bytes[at] ?? 0;
    if ((head & 0x80) === 0) return "is not an OpenPGP key";
    const isNew = (head & 0x40) !== 0;
    const tag = isNew ? head & 0x3f : (head >> 2) & 0x0f;
    const size = isNew ? newLength(bytes, at + 1) : oldLength(bytes, at + 1, head & 0x03);
    if (size === null || size.start + size.length > bytes.length) return "is cut off, or not an OpenPGP key";
    packets.push({ tag, body: bytes.subarray(size.start, size.start + size.length) });
    at = size.start + size.length;
  }
  return packets;
}

interface Extent {
  start: number;
  length: number;
}

function newLength(bytes: Uint8Array, at: number): Extent | null {
  const first = bytes[at] ?? 0xe0;
  if (first < 192) return { start: at + 1, length: first };
  if (first < 224) return { start: at + 2, length: ((first - 192) << 8) + (bytes[at + 1] ?? 0) + 192 };
  return first === 255 ? { start: at + 5, length: uint(bytes, at + 1, 4) } : null;
}

function oldLength(bytes: Uint8Array, at: number, kind: number): Extent | null {
  const octets = [1, 2, 4][kind];
  return octets === undefined ? null : { start: at + octets, length: uint(bytes, at, octets) };
}

/** The parts of a version 4 signature (RFC 9580, 5.2.3); null for another version or a malformed one. */
function readSignature(body: Uint8Array): Signature | null {
  if (body[0] !== 4) return null;
  const hashed = uint(body, 4, 2);
  const unhashed = uint(body, 6 + hashed, 2);
  const parts = [
    ...subpackets(body.subarray(6, 6 + hashed)),
    ...subpackets(body.subarray(8 + hashed, 8 + hashed + unhashed)).filter(({ type }) =>
      ISSUERS.includes(type),
    ),
  ];
  const find = (...types: number[]) => parts.find(({ type }) => types.includes(type))?.data;
  const [created, expires, issuer] = [find(2), find(9), find(...ISSUERS)];
  return {
    type: body[1] ?? 0,
    hash: body[3] ?? 0,
    created: created === undefined ? 0 : uint(created, 0, 4),
    // Zero means that it never expires.
    keyExpires: (expires === undefined ? 0 : uint(expires, 0, 4)) || null,
    issuer: issuer === undefined ? null : hex(issuer.subarray(-8)),
  };
}

function subpackets(bytes: Uint8Array): { type: number; data: Uint8Array }[] {
  const found: { type: number; data: Uint8Array }[] = [];
  let at = 0;
  while (at < bytes.length) {
    const first = bytes[at] ?? 0;
    const long = first === 255;
    const wide = first >= 192 && !long;
    const length = long
      ? uint(bytes, at + 1, 4)
      : wide
        ? ((first - 192) << 8) + (bytes[at + 1] ?? 0) + 192
        : first;
    const start = at + (long ? 5 : wide ? 2 : 1);
    if (length === 0 || start + length > bytes.length) break;
    found.push({ type: (bytes[start] ?? 0) & 0x7f, data: bytes.subarray(start + 1, start + length) });
    at = start + length;
  }
  return found;
}

interface Algorithm {
  name: string;
  weak: string | null;
}

/** The algorithm of a version 4 key (RFC 9580, 9.1), with its size or curve. */
function algorithmOf(body: Uint8Array): Algorithm | null {
  const algorithm = body[5] ?? 0;
  const bits = uint(body, 6, 2);
  const sized = (kind: string, smallest: number) => ({
    name: `${kind} ${bits}`,
    weak: bits < smallest ? `${kind} of ${bits} bits is too short` : null,
  });
  if (algorithm === 1 || algorithm === 3) return sized("RSA", SMALLEST_RSA);
  if (algorithm === 17) return sized("DSA", SMALLEST_DSA);
  if (algorithm === 27) return { name: "Ed25519", weak: null };
  if (algorithm !== 19 && algorithm !== 22) return null;
  const oid = hex(body.subarray(7, 7 + (body[6] ?? 0))).toLowerCase();
  const name = Object.hasOwn(CURVES, oid) ? CURVES[oid] : undefined;
  return name === undefined ? null : { name, weak: null };
}

/** How many integers the public part of an algorithm has, and whether a curve's identifier comes before them (RFC 9580, 5.5.5). */
const INTEGERS: Readonly<Record<number, number>> = { 1: 2, 3: 2, 17: 4, 19: 1, 22: 1 };
const WITH_CURVE: readonly number[] = [19, 22];
/** A key of Ed25519 without integers. */
const ED25519 = 27;

/**
 * Whether a key's packet ends with its last integer, and each is written with its own length (RFC 9580, 3.2). gpgv ignores what comes
 * behind them, and computes the fingerprint of what it has read: another than that of the packet.
 */
function isWhole(body: Uint8Array): boolean {
  const algorithm = body[5] ?? 0;
  if (algorithm === ED25519) return body.length === 6 + 32;
  let at = WITH_CURVE.includes(algorithm) ? 7 + (body[6] ?? 0) : 6;
  for (let n = 0; n < (INTEGERS[algorithm] ?? 0); n++) {
    const bits = uint(body, at, 2);
    const top = body[at + 2] ?? 0;
    if (bits === 0 || 32 - Math.clz32(top) !== ((bits - 1) % 8) + 1) return false;
    at += 2 + Math.ceil(bits / 8);
  }
  return at === body.length;
}

/** Of a version 4 key (RFC 9580, 5.5.4.2). */
function fingerprintOf(body: Uint8Array): string {
  const head = Buffer.from([0x99, (body.length >> 8) & 0xff, body.length & 0xff]);
  return createHash("sha1").update(head).update(body).digest("hex").toUpperCase();
}

function crc24(bytes: Uint8Array): number {
  let crc = 0xb704ce;
  for (const byte of bytes) {
    crc ^= byte << 16;
    for (let bit = 0; bit < 8; bit++) {
      crc <<= 1;
      if ((crc & 0x1000000) !== 0) crc ^= 0x1864cfb;
    }
  }
  return crc & 0xffffff;
}

function uint(bytes: Uint8Array, at: number, octets: number): number {
  let value = 0;
  for (let n = 0; n < octets; n++) value = value * 256 + (bytes[at + n] ?? 0);
  return value;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex").toUpperCase();
}

function dateOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
