import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
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

/** Who signed the images, where it is nobody whom the policy names for them; empty where somebody did. */
export function unsignedImages(f: Facts): string[] {
  return signersBesides(f, "image-signature", "no signature was found");
}

/** Who signed the provenance of the images' builds, where it is nobody whom the policy names for them. */
export function unattestedImages(f: Facts): string[] {
  return signersBesides(f, "image-attestation", "no signed provenance was found");
}

/** The images whose process starts as root, or that don't say. */
export function rootImages({ plan }: Facts): string[] {
  const { image, exact_targets, targets } = plan;
  if (image !== undefined && !image.starts_as_root) return [];
  return exact_targets.length > 0 ? exact_targets : targets;
}

function signersBesides({ plan, config }: Facts, kind: string, none: string): string[] {
  const { exact_targets, targets, provenance_evidence } = plan;
  return (exact_targets.length > 0 ? exact_targets : targets).flatMap((image) => {
    const found = provenance_evidence.filter((one) => one.kind === kind && one.subject === image);
    const signers = config.container.signers.filter(({ images }) =>
      images.some((one) => matches(one, repositoryName(image))),
    );
    if (found.some((one) => signers.some((signer) => isBy(signer, one)))) return [];
    const who = found.flatMap(signedBy);
    return who.length === 0 ? [none] : who;
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

/** Who signed, for somebody who wonders why it doesn't count: short texts, as a reason's items are cut; empty where nothing was signed. */
function signedBy({ verified, identity, signed }: ProvenanceEvidence): string[] {
  if (!verified || identity === undefined)
    return signed === undefined ? [] : ["signed by a key that is not among them"];
  const { subject, issuer, source_repository: source } = identity;
  return [`signed by ${subject}`, `known to ${issuer}`, ...(source === null ? [] : [`run for ${source}`])];
}

/** `pattern` may end in `*`. */
function matches(pattern: string, text: string): boolean {
  return pattern.endsWith("*") ? text.startsWith(pattern.slice(0, -1)) : text === pattern;
}

/** `docker.io/library/debian`, without its digest. */
function repositoryName(image: string): string {
  return image.replace(/[@].*$/, "");
}
