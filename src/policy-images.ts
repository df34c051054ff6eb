import type { ProvenanceEvidence } from "./doc-plan.ts";
import { isSignedByKey } from "./key-image.ts";
import type { PolicyConfig } from "./policy-config.ts";
import type { Facts } from "./policy-rule.ts";

/*
 * Questions about images. Planning knows whether Sigstore vouches for an identity; whose signature counts, and which keys, is the
 * policy's to say: so signatures by keys are verified here.
 */

type Signer = PolicyConfig["container"]["signers"][number];

/** Whether the plan is about an image. */
export function isOfImage({ plan }: Facts): boolean {
  return plan.tool === "container";
}

/** The images that nobody has signed whom the policy names for them, each with who did. */
export function unsignedImages(f: Facts): string[] {
  return without(f, "image-signature", "no signature was found");
}

/** The images without a build's provenance by somebody whom the policy names for them. */
export function unattestedImages(f: Facts): string[] {
  return without(f, "image-attestation", "no signed provenance was found");
}

/** The images whose process starts as root, or that don't say. */
export function rootImages({ plan }: Facts): string[] {
  const { image, exact_targets, targets } = plan;
  if (image !== undefined && !image.starts_as_root) return [];
  return exact_targets.length > 0 ? exact_targets : targets;
}

function without({ plan, config }: Facts, kind: string, none: string): string[] {
  const { exact_targets, targets, provenance_evidence } = plan;
  return (exact_targets.length > 0 ? exact_targets : targets).flatMap((image) => {
    const found = provenance_evidence.filter((one) => one.kind === kind && one.subject === image);
    const signers = config.container.signers.filter(({ images }) =>
      images.some((one) => matches(one, repositoryName(image))),
    );
    if (found.some((one) => signers.some((signer) => isBy(signer, one)))) return [];
    const who = found.map(signedBy).filter((text) => text !== null);
    return [`${image} (${who.length === 0 ? none : who.join("; ")})`];
  });
}

function isBy(signer: Signer, { verified, identity, signed }: ProvenanceEvidence): boolean {
  const { public_key, issuer, subject, source_repository: source } = signer;
  if (public_key !== undefined)
    return (
      signed !== undefined &&
      isSignedByKey(public_key, Buffer.from(signed.payload, "base64"), signed.signature)
    );
  if (!verified || identity === undefined || subject === undefined || identity.issuer !== issuer)
    return false;
  return (
    matches(subject, identity.subject) &&
    (source === undefined || matches(source, identity.source_repository ?? ""))
  );
}

/** Who signed, for somebody who wonders why it doesn't count; null where nothing was signed. */
function signedBy({ verified, identity, signed }: ProvenanceEvidence): string | null {
  if (verified && identity !== undefined) return `signed by ${identity.subject}, known to ${identity.issuer}`;
  return signed === undefined ? null : "signed by a key that is not among them";
}

/** `pattern` may end in `*`. */
function matches(pattern: string, text: string): boolean {
  return pattern.endsWith("*") ? text.startsWith(pattern.slice(0, -1)) : text === pattern;
}

/** `docker.io/library/debian`, without its digest. */
function repositoryName(image: string): string {
  return image.replace(/[@].*$/, "");
}
