import type { OperationPlan } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { orExecution, parseSingleTarget, targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";
import { type ImageReference, normalizeReference } from "./image-reference.ts";

/*
 * What may be asked of an image registry: one image, by name, tag or digest. Stricter than the grammar of references: no IPv6
 * address (its brackets are shell metacharacters), no registry in upper case, and SHA-256 digests only.
 */

/** A package's name in a plan. */
const MAX_TARGET = 512;
const MAX_PORT = 65535;

/** Kinds of evidence about an image. `image-attestation` is what the policy's require_provenance asks for. */
export const SIGNATURE_KINDS = {
  signature: "image-signature",
  slsa: "image-attestation",
  other: "image-statement",
} as const;
const SIGNATURES: readonly string[] = Object.values(SIGNATURE_KINDS);

/** Podman's other places for images: containers-transports(5). */
const TRANSPORTS = "containers-storage|dir|docker-archive|docker-daemon|oci|oci-archive|ostree|sif|tarball";

const SOURCES: readonly [RegExp, RiskSignal][] = [
  [/^(?:git:|git\+|ssh:)|^[A-Za-z0-9._-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+:/, "git-source-denied"],
  [/^https?:/i, "direct-url-denied"],
  [/^[A-Za-z][A-Za-z0-9+.-]*:\/\//, "url-denied"],
  [new RegExp(`^(?:${TRANSPORTS}):`), "local-path-denied"],
  [/^(?:\.{1,2}(?:\/|$)|\/|~\/)|\.tar(?:\.[a-z0-9]+)?$/, "local-path-denied"],
];

/**
 * Sorts a target into what a registry can answer and what is always denied.
 * @throws AegisError `invalid_target`
 */
function parseImageTargets(_operation: string, given: readonly string[]): Targets {
  return parseSingleTarget(given, {
    targetType: "image",
    problemOf: (target) => targetProblem(target, MAX_TARGET),
    sources: SOURCES,
    split: splitImageTarget,
    invalid,
    single: "images are pulled one at a time; plan it by itself",
  });
}

/**
 * A target as a complete reference.
 * @throws AegisError `invalid_target`
 */
export function splitImageTarget(target: string): ImageReference {
  const reference = normalizeReference(target);
  const { domain, digest } = reference;
  if (domain !== domain.toLowerCase()) throw invalid(target, "write the registry in lower case");
  if (Number(/:(\d+)$/.exec(domain)?.[1] ?? 1) > MAX_PORT) throw invalid(target, "there is no such port");
  if (digest !== null && !digest.startsWith("sha256:"))
    throw invalid(target, "only SHA-256 digests are supported");
  return reference;
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target)} can't be an image: ${reason}`,
    "Name one image as its registry does: docker.io/library/debian@sha256:<digest>, or debian:12 to find the digest.",
  );
}

/** The longest part of a signature's description that shows in a refusal, in characters. */
const MAX_SHOWN = 300;

/** Signatures come and go beside an image without changing it. */
function signedAbout({ provenance_evidence }: Pick<OperationPlan, "provenance_evidence">) {
  const signatures = provenance_evidence.filter(({ kind }) => SIGNATURES.includes(kind));
  return {
    what: "what is signed about the image",
    items: signatures.map(({ detail }) => detail.slice(0, MAX_SHOWN).toWellFormed()),
  };
}

/** What the words of container engines mean: see {@link Grammar}. */
export const imageGrammar: Grammar = {
  tool: "container",
  operations: { pull: "some", rollback: "some" },
  parseTargets: orExecution(parseImageTargets),
  forms: { all: ["image", "image:tag", "image@sha256:digest"], exact: "registry/image@sha256:digest" },
  signals: ["unknown-registry", "dockerhub-default", "unsigned-image"],
  isExact: (target) => splitImageTarget(target).digest !== null,
  osv: () => null,
  claims: {
    hostFacts: (plan) => [signedAbout(plan)],
    mayDiffer: { fields: [], ofRepositories: [], warnings: [] },
  },
  programs: [
    {
      name: "podman",
      instead: "docker",
      level: "warn",
      without: "images can be planned and not pulled",
      fix: "Install podman or docker.io if you want to pull images.",
    },
  ],
};
