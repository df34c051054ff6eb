import * as v from "valibot";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { Planning } from "./eco-planning.ts";
import type { VerifiedAttestation } from "./eco-sigstore.ts";
import { AegisError } from "./errors.ts";
import type { PipConfig } from "./pip-config.ts";
import { indexRequest, type Project, type Wheel } from "./pip-index.ts";
import { leadsHome } from "./sys-fetch.ts";

/*
 * What an index attests about a wheel: that a workflow known to it published the file, signed by the workflow with a certificate of
 * Sigstore's (PEP 740). https://docs.pypi.org/attestations/, https://docs.pypi.org/api/integrity/
 */

const PUBLISHED = "https://docs.pypi.org/attestations/publish/v1";
const BUILT = "https://slsa.dev/provenance/v1";
const MAX_BUNDLES = 16;
const MAX_PROVENANCE = 4 * 1024 * 1024;

const Attestation = v.looseObject({
  version: v.literal(1),
  verification_material: v.looseObject({
    certificate: v.string(),
    transparency_entries: v.pipe(v.array(v.unknown()), v.minLength(1), v.maxLength(8)),
  }),
  envelope: v.looseObject({ statement: v.string(), signature: v.string() }),
});
const Publisher = v.looseObject({
  kind: v.string(),
  repository: v.optional(v.string()),
  workflow: v.optional(v.string()),
  workflow_filepath: v.optional(v.string()),
  email: v.optional(v.string()),
});
type Publisher = v.InferOutput<typeof Publisher>;
type Identity = NonNullable<VerifiedAttestation["identity"]>;
const Provenance = v.looseObject({
  version: v.literal(1),
  attestation_bundles: v.pipe(
    v.array(
      v.looseObject({
        publisher: Publisher,
        attestations: v.pipe(v.array(Attestation), v.minLength(1), v.maxLength(MAX_BUNDLES)),
      }),
    ),
    v.maxLength(MAX_BUNDLES),
  ),
});

export interface WheelProvenance {
  /** One entry for each attestation, verified or not. */
  evidence: ProvenanceEvidence[];
  /** What this version lacks of what it claims, or of what earlier ones had; null where nothing. */
  downgrade: string | null;
}

/**
 * The attestations of a wheel, verified against its bytes' hash. An index that knows none answers 404; one that doesn't say where they
 * are is asked at PyPI's address for them.
 * @throws AegisError `unavailable`
 */
export async function wheelProvenance(
  wheel: Wheel,
  project: Project,
  config: PipConfig,
  planning: Planning,
): Promise<WheelProvenance> {
  const answer = wheel.provenance === null ? null : await ask(wheel, config, planning);
  if (answer === null) return { evidence: [], downgrade: hadBefore(wheel, project) };
  const evidence = await entriesOf(answer, wheel);
  const isGood = evidence.length > 0 && evidence.every(({ verified }) => verified);
  return { evidence, downgrade: isGood ? null : "its attestations can't be verified" };
}

/** The document; null where the index has none. */
async function ask(wheel: Wheel, config: PipConfig, planning: Planning): Promise<Uint8Array | null> {
  const { name, version, filename, provenance } = wheel;
  const url = provenance ?? new URL(`/integrity/${name}/${version}/${filename}/provenance`, config.index);
  if (leadsHome(config.index, url))
    throw new AegisError(
      "refused",
      `the index has the attestations of ${filename} on this machine, where it is not itself`,
      "Don't install it: tell the index's administrator.",
    );
  const { headers, ...request } = indexRequest(url, config);
  const accept = "application/vnd.pypi.integrity.v1+json";
  const { status, bytes } = await planning.get(url, {
    ...request,
    headers: { ...headers, accept },
    maxBytes: MAX_PROVENANCE,
  });
  if (status === 200) return bytes;
  // Where the index names the address, there is a document; elsewhere any refusal only says that this index has none.
  if (provenance === undefined) return null;
  throw new AegisError(
    "unavailable",
    `${url.host} doesn't give the attestations of ${filename}: status ${status}`,
  );
}

async function entriesOf(document: Uint8Array, wheel: Wheel): Promise<ProvenanceEvidence[]> {
  const parsed = v.safeParse(Provenance, readJson(document));
  if (!parsed.success) return [unverified(wheel, "the index's document of attestations has another form")];
  const bundles = parsed.output.attestation_bundles;
  if (bundles.length === 0) return [unverified(wheel, "the index's document has no attestations")];
  const { verifyAttestation } = await import("./eco-sigstore.ts");
  return bundles.flatMap(({ publisher, attestations }) =>
    attestations.map((one) => {
      try {
        const attestation = verifyAttestation(bundleOf(one));
        return {
          ...{ kind: "pypi-attestation", subject: subjectOf(wheel), verified: true },
          key: attestation.key.slice(0, 1024),
          detail: judge(attestation, publisher, wheel).slice(0, 4096),
        };
      } catch (error) {
        if (error instanceof AegisError && error.code === "signature_invalid")
          return unverified(wheel, error.message);
        throw error;
      }
    }),
  );
}

function readJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return null;
  }
}

/** An attestation in the form that Sigstore's libraries read. https://peps.python.org/pep-0740/#attestation-objects */
function bundleOf({ verification_material, envelope }: v.InferOutput<typeof Attestation>): object {
  return {
    mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
    verificationMaterial: {
      certificate: { rawBytes: verification_material.certificate },
      tlogEntries: verification_material.transparency_entries,
    },
    dsseEnvelope: {
      payload: envelope.statement,
      payloadType: "application/vnd.in-toto+json",
      signatures: [{ sig: envelope.signature, keyid: "" }],
    },
  };
}

/** @throws AegisError `signature_invalid` for a good signature under something that doesn't speak of this wheel, or by somebody else */
function judge({ statement, identity }: VerifiedAttestation, publisher: Publisher, wheel: Wheel): string {
  const { subject, predicateType } = statement;
  const [only, second] = subject;
  if (only === undefined || second !== undefined) throw wrong("it speaks of more than one file");
  if (only.name !== wheel.filename) throw wrong(`it speaks of ${JSON.stringify(only.name.slice(0, 256))}`);
  if (only.digest["sha256"] !== wheel.sha256) throw wrong("it speaks of another file of this name");
  if (predicateType !== PUBLISHED && predicateType !== BUILT)
    throw wrong(`it is of an unknown kind, ${predicateType}`);
  if (identity === null) throw wrong("it has no certificate");
  if (!isBy(publisher, identity))
    throw wrong(`it was signed by ${identity.subject}, and not by the publisher that the index names`);
  const source = identity.sourceRepository ?? identity.subject;
  const at = identity.sourceRef === null ? "" : ` at ${identity.sourceRef} (${identity.sourceDigest ?? "?"})`;
  return `${predicateType === BUILT ? "built" : "published"} from ${source}${at}; signed by ${identity.subject}, known to ${identity.issuer}`;
}

/** Whether a certificate is that of a publisher. https://docs.pypi.org/trusted-publishers/ */
function isBy(publisher: Publisher, { subject, issuer, sourceRepository }: Identity): boolean {
  const { kind, repository = "", workflow = "", workflow_filepath = "", email } = publisher;
  switch (kind) {
    case "GitHub":
      return (
        issuer === "https://token.actions.githubusercontent.com" &&
        sourceRepository?.toLowerCase() === `https://github.com/${repository}`.toLowerCase() &&
        workflow !== "" &&
        subject.startsWith(`${sourceRepository}/.github/workflows/${workflow}@`)
      );
    case "GitLab":
      return (
        issuer === "https://gitlab.com" &&
        sourceRepository?.toLowerCase() === `https://gitlab.com/${repository}`.toLowerCase() &&
        workflow_filepath !== "" &&
        subject.startsWith(`${sourceRepository}//${workflow_filepath}@`)
      );
    case "Google":
      return issuer === "https://accounts.google.com" && email !== undefined && subject === email;
    default:
      return false;
  }
}

/** Whether an earlier version came with attestations, by the index's own page. */
function hadBefore({ version }: Wheel, { wheels }: Project): string | null {
  const at = wheels.findIndex((one) => one.version === version);
  const before = wheels.slice(at + 1).find(({ provenance }) => provenance instanceof URL);
  return before === undefined ? null : `${before.version} came with attestations, and this version without`;
}

function subjectOf({ name, version }: Wheel): string {
  return `${name}==${version}`;
}

function unverified(wheel: Wheel, detail: string): ProvenanceEvidence {
  return {
    kind: "pypi-attestation",
    subject: subjectOf(wheel),
    verified: false,
    key: null,
    detail: detail.slice(0, 4096),
  };
}

function wrong(why: string): AegisError {
  return new AegisError("signature_invalid", `the attestation can't be used: ${why}`);
}
