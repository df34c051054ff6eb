import * as v from "valibot";
import { count, name, sha256, short, text, timestamp } from "./doc-fields.ts";

/*
 * A package repository that a plan adds, replaces or removes: one file below /etc/apt/sources.list.d, to the byte.
 */

/** The file's largest size, in characters; `text` has the same limit. */
export const MAX_REPOSITORY_FILE = 64 * 1024;
/** User ids of a key that are kept. */
export const MAX_USER_IDS = 16;

/** What an OpenPGP key says of itself. Only the fingerprint follows from its bytes; nobody has checked its own signatures. */
export const RepositoryKey = v.strictObject({
  /** Of the primary key: 40 digits of upper-case hex. */
  fingerprint: v.pipe(v.string(), v.regex(/^[0-9A-F]{40}$/)),
  /** `RSA 4096`, `Ed25519`. */
  algorithm: short,
  created_at: timestamp,
  expires_at: v.nullable(timestamp),
  revoked: v.boolean(),
  user_ids: v.pipe(v.array(short), v.maxLength(MAX_USER_IDS)),
  /** Why newer verifiers may refuse it. Omitted if there is no reason. */
  weak: v.optional(v.pipe(v.array(short), v.minLength(1), v.maxLength(8))),
});
export type RepositoryKey = v.InferOutput<typeof RepositoryKey>;

/** What a source that would be added offers, by its indexes as they were when it was planned. */
export const RepositoryOffer = v.strictObject({
  /** `<uri> <suite>` */
  source: short,
  packages: count,
  /** Whether an upgrade takes versions from it by itself (apt_preferences(5), `NotAutomatic`). */
  automatic: v.boolean(),
  /** Newer versions of packages that are installed. */
  newer: v.pipe(v.array(v.strictObject({ package: name, from: short, to: short })), v.maxLength(200)),
  newer_left_out: count,
});
export type RepositoryOffer = v.InferOutput<typeof RepositoryOffer>;

export const ConfiguredRepository = v.strictObject({
  /** The file's name without `.sources`. */
  name,
  path: short,
  /** The file now; null if there is none. */
  before: v.nullable(text),
  /** The file afterwards; null if it is removed. */
  after: v.nullable(text),
  before_sha256: v.nullable(sha256),
  after_sha256: v.nullable(sha256),
  /** The key in `after`; null without one. */
  key: v.nullable(RepositoryKey),
  /** The key in `before`; null if it has none, or is not a file as Aegis writes them. */
  previous_key: v.nullable(RepositoryKey),
});
export type ConfiguredRepository = v.InferOutput<typeof ConfiguredRepository>;

/** A fingerprint in groups of four, as gpg prints it. */
export function groupedFingerprint(fingerprint: string): string {
  return (fingerprint.match(/.{1,4}/g) ?? []).join(" ");
}
