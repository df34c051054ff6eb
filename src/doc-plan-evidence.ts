import * as v from "valibot";
import { argv, base64, count, name, names, sha256, short, text, timestamp } from "./doc-fields.ts";

/* What a plan rests on: sources, vulnerabilities, provenance, the commands that were run. */

/** What a source can be worth, the best first. `snapshot`: the distribution's as of a day, whose index has expired since. */
export const REPOSITORY_TRUST = ["distribution", "pinned", "snapshot", "weak", "untrusted"] as const;
export const RepositoryEvidence = v.strictObject({
  /** Id within the plan: `<uri> <suite>`. */
  id: short,
  uri: short,
  suite: short,
  components: names,
  /** File and stanza or line of its configuration. */
  configured_in: short,
  /** Keyring path, fingerprint list, `embedded`, or null. */
  signed_by: v.nullable(short),
  trusted_option: v.boolean(),
  allow_insecure: v.boolean(),
  transport: short,
  release_origin: v.nullable(short),
  release_label: v.nullable(short),
  release_suite: v.nullable(short),
  release_codename: v.nullable(short),
  release_date: v.nullable(short),
  release_valid_until: v.nullable(short),
  release_sha256: v.nullable(sha256),
  /** True only if gpgv or sqv accepted the InRelease file with the keyring configured for this source. */
  signature_verified: v.boolean(),
  /** Fingerprints of the primary keys with a good signature. */
  key_fingerprints: v.pipe(v.array(short), v.maxLength(32)),
  trust: v.picklist(REPOSITORY_TRUST),
  /** Its address names a moment of an archive: the service, `host` or `host:port`, and the moment. */
  snapshot: v.optional(v.strictObject({ service: short, as_of: timestamp })),
  /** Reasons against trust, one short phrase each. */
  problems: v.pipe(v.array(short), v.maxLength(32)),
});
export type RepositoryEvidence = v.InferOutput<typeof RepositoryEvidence>;

export const SEVERITIES = ["unknown", "none", "low", "medium", "high", "critical"] as const;
export type Severity = (typeof SEVERITIES)[number];
/** OpenVEX 0.2.0, "Status Labels". */
export const VEX_STATUSES = ["not_affected", "affected", "fixed", "under_investigation"] as const;
export type VexStatus = (typeof VEX_STATUSES)[number];
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
export const VulnerabilityEvidence = v.strictObject({
  package: name,
  version: short,
  /** The version compared with the record: the source package's for apt. Null if there was no record. */
  matched_version: v.nullable(short),
  /** Whether `version` is the installed one or the one to be installed. */
  applies_to: v.picklist(["old", "new"]),
  id: short,
  aliases: v.pipe(v.array(short), v.maxLength(256)),
  severity: v.picklist(SEVERITIES),
  /** In the numbering of `matched_version`. */
  fixed_version: v.nullable(short),
  /** Origin of the record. */
  data_source: short,
  data_age_days: v.nullable(count),
  /** What the record calls the package, where that isn't its own name: the source package. */
  source_package: v.optional(name),
  /** Whether the old version has the same vulnerability. Only in records of the new one, which then stand for both. */
  also_old: v.optional(v.literal(true)),
  /** The first of its CVEs that CISA listed as exploited, and the day. Omitted if none is listed, or no list was there. */
  known_exploited: v.optional(
    v.strictObject({
      cve: short,
      since: v.pipe(v.string(), v.regex(/^\d{4}-\d{2}-\d{2}$/, "not a date")),
    }),
  ),
  /** EPSS of its likeliest CVE: how likely it is exploited within 30 days, and the share of CVEs that score the same or less. */
  epss: v.optional(v.strictObject({ cve: short, score: share, percentile: share })),
  /** What the package's builder, or somebody else, states about this version. */
  vex: v.optional(
    v.strictObject({
      status: v.picklist(VEX_STATUSES),
      justification: v.nullable(short),
      author: short,
      /** Whether the statement came from the distribution's own host. Others are only shown. */
      authentic: v.boolean(),
    }),
  ),
});
export type VulnerabilityEvidence = v.InferOutput<typeof VulnerabilityEvidence>;

export const ProvenanceEvidence = v.strictObject({
  kind: short,
  subject: short,
  verified: v.boolean(),
  /** Key id or fingerprint; null if no key is involved. */
  key: v.nullable(short),
  detail: text,
  /** Who signed, by a certificate that was verified: whoever issued the identity, and whose it is. */
  identity: v.optional(
    v.strictObject({ issuer: short, subject: short, source_repository: v.nullable(short) }),
  ),
  /** A signature by a bare key, which only the policy can know: what was signed, and the signature, both in base64. */
  signed: v.optional(v.strictObject({ payload: v.pipe(text, v.base64()), signature: base64 })),
});
export type ProvenanceEvidence = v.InferOutput<typeof ProvenanceEvidence>;

export const SbomEvidence = v.strictObject({ purl: short, sha256: v.nullable(sha256) });

/** A command run by planning. Output beyond the limit is recorded only as a digest. */
export const CommandEvidence = v.strictObject({
  argv,
  status: v.nullable(v.pipe(v.number(), v.safeInteger())),
  /** `ok`, `failed`, `timeout`, `truncated` or `missing` (program not found). */
  outcome: v.picklist(["ok", "failed", "timeout", "truncated", "missing"]),
  stdout_sha256: v.nullable(sha256),
  stderr_sha256: v.nullable(sha256),
  stdout: v.nullable(v.string()),
  stderr: v.nullable(v.string()),
});
export type CommandEvidence = v.InferOutput<typeof CommandEvidence>;
