import * as v from "valibot";
import { DECISIONS } from "./doc.ts";
import { imageKeyProblem } from "./key-image.ts";
import { publicKeyProblem } from "./key-sign.ts";

/*
 * The types of the policy file's values. Each says in its message what a value must be.
 */

const MAX_MINUTES = 24 * 60;

export const decision = v.picklist(DECISIONS);
export const minutes = (fallback: number) =>
  v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_MINUTES)), fallback);
export const days = v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3650)), 0);
export const flag = (fallback: boolean) => v.optional(v.boolean(), fallback);
export const list = <S extends v.GenericSchema>(item: S) =>
  v.optional(v.pipe(v.array(item), v.maxLength(1000)), []);

/** An OpenPGP v4 or v5 fingerprint, with or without gpg's spaces; normalised to upper-case hex. */
export const fingerprint = v.pipe(
  v.string(),
  v.transform((s) => s.replaceAll(" ", "").toUpperCase()),
  v.regex(/^(?:[0-9A-F]{40}|[0-9A-F]{64})$/, "not a full OpenPGP key fingerprint"),
);
/** A certificate's SHA-256 fingerprint, with or without openssl's colons; normalised to lower-case hex. */
export const certificate = v.pipe(
  v.string(),
  v.transform((text) => text.replaceAll(":", "").toLowerCase()),
  v.regex(/^[0-9a-f]{64}$/, "not the SHA-256 fingerprint of a certificate"),
);
export const uri = v.pipe(v.string(), v.regex(/^[a-z][a-z0-9+.-]*:[\x21-\x7e]+$/, "not a repository URI"));
export const packagePattern = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9+.-]*\*?$/, "not a package name, or one that ends in *"),
);
export const unitPattern = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z0-9_:][A-Za-z0-9:_.@-]*(?:\.(?:service|socket)|\*)$/,
    "not a unit such as nginx.service, or one that ends in *",
  ),
);
export const registry = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9.-]+(?::\d{1,5})?$/, "not a host name, or host:port"),
);

const imagePattern = v.pipe(
  v.string(),
  v.regex(
    /^[a-z0-9][a-z0-9._:-]*\/(?:[a-z0-9][a-z0-9._/-]*\*?|\*)$/,
    "not registry/name, or one that ends in *",
  ),
);
const signerPattern = v.pipe(
  v.string(),
  v.regex(/^[\x21-\x29\x2b-\x7e]+\*?$/, "not a name, or one that ends in *"),
);

/** Ed25519 public keys. As strict as trusted-keys.toml, since a key in two spellings would count as two keys. */
export const publicKeys = v.pipe(
  v.array(
    v.pipe(
      v.string(),
      v.check(
        (hex) => publicKeyProblem(hex) === null,
        ({ input }) => `not a public key: ${publicKeyProblem(input)}`,
      ),
    ),
  ),
  v.maxLength(16),
  v.check((keys) => new Set(keys).size === keys.length, "a key is listed twice"),
);

/** Who may sign which images: a key, or an identity of the Sigstore that this host trusts. */
export const imageSigner = v.pipe(
  v.strictObject({
    images: v.pipe(v.array(imagePattern), v.minLength(1), v.maxLength(100)),
    public_key: v.optional(
      v.pipe(
        v.string(),
        v.check(
          (pem) => imageKeyProblem(pem) === null,
          ({ input }) => `not a signer's key: ${imageKeyProblem(input)}`,
        ),
      ),
    ),
    issuer: v.optional(v.pipe(v.string(), v.regex(/^https:\/\/[\x21-\x7e]+$/, "not an https address"))),
    subject: v.optional(signerPattern),
    source_repository: v.optional(signerPattern),
  }),
  v.check(
    ({ public_key: key, issuer, subject, source_repository: source }) =>
      key === undefined
        ? issuer !== undefined && subject !== undefined
        : issuer === undefined && subject === undefined && source === undefined,
    "give public_key, or issuer and subject (and source_repository)",
  ),
);

/** Settings of an ecosystem other than apt. `apply` is the decision about pinned and verified artifacts. */
export const ofArtifacts = (apply: v.InferOutput<typeof decision>, registries: string[]) => ({
  apply: v.optional(decision, apply),
  minimum_age_days: days,
  allowed_registries: v.optional(v.pipe(v.array(registry), v.maxLength(1000)), registries),
  require_provenance: flag(false),
});
export const artifacts = (...defaults: Parameters<typeof ofArtifacts>) =>
  v.optional(v.strictObject(ofArtifacts(...defaults)), {});
