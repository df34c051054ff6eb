import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import type { Targets } from "./eco-grammar.ts";
import { HOST_SETTINGS, type Planning } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { imageAccess } from "./image-config.ts";
import { imageFactsOf, remarksOn } from "./image-facts.ts";
import { type FetchedImage, fetchImage, type ImageFile } from "./image-fetch.ts";
import { isAttestation } from "./image-manifest.ts";
import { type ImageReference, pulledReference, repositoryOf } from "./image-reference.ts";
import { ImageRepository } from "./image-registry.ts";
import { type SignatureFindings, signaturesOf } from "./image-signature.ts";
import { imageGrammar, splitImageTarget } from "./image-target.ts";
import { resolveProgram } from "./sys-spawn.ts";

type Runtime = "docker" | "podman";

/** Registries that whoever runs containers has heard of. Others are told as unknown; which may be used is the policy's to say. */
const WELL_KNOWN: readonly string[] = [
  ...["docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com", "public.ecr.aws"],
  ...[
    "registry.gitlab.com",
    "registry.access.redhat.com",
    "registry.redhat.io",
    "registry.fedoraproject.org",
  ],
];

/** docker keeps its images itself, and nothing of what a pull replaces. */
const ONLY_PULL: Ecosystem["operations"] = { pull: "some" };

/**
 * Images: `docker pull` and `podman pull` of one image, by the digest that a plan names. Everything is found out by GETs; the engine
 * is needed to run a plan only.
 */
const ENGINES: Readonly<Record<Runtime, Ecosystem>> = { docker: engine("docker"), podman: engine("podman") };
export const image: Ecosystem = ENGINES.podman;

function engine(runtime: Runtime): Ecosystem {
  const ecosystem: Ecosystem = {
    ...imageGrammar,
    ...(runtime === "docker" ? { operations: ONLY_PULL } : {}),
    name: runtime,
    // `container` leaves the engine open: the one that is installed, podman where both or neither are.
    named: (name) => ENGINES[name === "docker" || name === "podman" ? name : (installed() ?? "podman")],
    gather: (_operation, targets, planning) => gather(runtime, targets, planning),
    check: () => Promise.resolve([]),
    driver: async ([program]) => {
      if (program === "docker") return (await import("./image-docker.ts")).dockerDriver();
      const [{ managedDriver }, { podmanManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./image-podman.ts"),
      ]);
      return managedDriver(podmanManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const [target] = plan.exact_targets;
      const { ecosystem } = plan;
      const isOne = target !== undefined && plan.exact_targets.length === 1 && plan.metadata_available;
      if (!isOne || !imageGrammar.isExact(target) || (ecosystem !== "docker" && ecosystem !== "podman")) {
        throw new AegisError(
          "invalid_document",
          "the plan has no image with a digest, or no engine, to sign",
          "Plan again with the digest: aegis plan podman pull <image>@sha256:<digest>",
        );
      }
      return pullArgv(ecosystem, target);
    },
  };
  const store = async () => (await import("./image-podman.ts")).podmanManaged.store;
  return withRollback(ecosystem, { root: "podman", purl: purlOfImage, store });
}

function installed(): Runtime | undefined {
  return (["podman", "docker"] as const).find((name) => resolveProgram(name) !== null);
}

function pullArgv(runtime: Runtime, target: string): string[] {
  if (runtime === "docker") return ["docker", "pull", target];
  const places = ["--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"];
  return ["podman", ...places, "pull", target];
}

async function gather(runtime: Runtime, { targets }: Targets, planning: Planning): Promise<Findings> {
  const [target = ""] = targets;
  const reference = splitImageTarget(target);
  const name = repositoryOf(reference);
  const { evidence } = await planning.run([runtime, "--version"], { settings: HOST_SETTINGS });
  const base: Findings = {
    ...emptyFindings(pullArgv(runtime, pulledReference(reference))),
    source_registry: reference.domain,
    mutable_reference: reference.digest === null,
    // Known without anybody's answer; what else is in the plan says whether the image is.
    exact_targets: reference.digest === null ? [] : [`${name}@${reference.digest}`],
    raw_evidence: { commands: [evidence] },
  };
  try {
    const access = imageAccess(reference, planning);
    const repository = new ImageRepository(reference, access, planning);
    const found = await fetchImage(reference, repository, planning.host.architecture);
    const pinned = `${name}@${found.top.digest}`;
    const digests = [found.top.digest, found.manifest.digest];
    const signatures = await signaturesOf(pinned, name, digests, repository);
    const remarks = [
      ...requestRemarks(reference, pinned),
      ...engineRemarks(runtime, evidence.outcome === "missing"),
      ...access.notes,
    ];
    const described = describe(reference, found, {
      runtime,
      remarks,
      signatures,
      architecture: planning.host.architecture,
    });
    return { ...base, ...described, command_preview: pullArgv(runtime, pinned) };
  } catch (error) {
    if (!(error instanceof AegisError) || ["internal", "not_found"].includes(error.code)) throw error;
    const hint = error.code === "unavailable" && error.hint !== "" ? ` ${error.hint}` : "";
    return { ...base, warnings: [`${pulledReference(reference)}: ${error.message}.${hint}`.slice(0, 4096)] };
  }
}

/** What there is to know of who runs the plan. */
function engineRemarks(runtime: Runtime, isMissing: boolean): string[] {
  if (runtime === "podman") return isMissing ? ["podman is not installed: the plan can't be run here."] : [];
  return [
    "docker's engine fetches the image itself, by its own settings and network: the digest is what protects.",
    ...(isMissing ? ["docker is not installed: the plan can't be run here."] : []),
  ];
}

function requestRemarks({ isQualified, digest, tag, domain }: ImageReference, pinned: string): string[] {
  return [
    ...(digest === null
      ? [`The tag ${tag ?? "latest"} stands for ${pinned} today; name the digest to keep it.`]
      : tag === null
        ? []
        : [`The digest decides: whether the tag ${tag} still stands for it is not looked at.`]),
    ...(isQualified ? [] : ["The name has no registry: it is Docker Hub's (docker.io)."]),
    ...(WELL_KNOWN.includes(domain) ? [] : [`${domain} is none of the well-known registries.`]),
  ];
}

interface Described {
  runtime: Runtime;
  remarks: readonly string[];
  signatures: SignatureFindings;
  architecture: string;
}

function describe(reference: ImageReference, found: FetchedImage, described: Described): Partial<Findings> {
  const { runtime, remarks, signatures, architecture } = described;
  const name = repositoryOf(reference);
  const pinned = `${name}@${found.top.digest}`;
  const transaction = entriesOf(reference, found, architecture);
  const facts = imageFactsOf(found.config);
  const statements = found.index?.manifests.filter(isAttestation) ?? [];
  // A statement about an image is no signature of it.
  const isSigned = signatures.evidence.some(
    ({ kind, verified, signed }) => kind === "image-signature" && (verified || signed !== undefined),
  );
  const signals: RiskSignal[] = [];
  if (!WELL_KNOWN.includes(reference.domain)) signals.push("unknown-registry");
  if (!reference.isQualified) signals.push("dockerhub-default");
  if (!isSigned) signals.push("unsigned-image");
  const [top] = transaction;
  return {
    exact_targets: [pinned],
    target_version: found.top.digest,
    metadata_available: true,
    transaction,
    sbom_evidence: top?.purl === undefined ? [] : [{ purl: top.purl, sha256: top.sha256 }],
    transitive_dependency_count: transaction.length - 1,
    // An image is nothing but binaries, which the policy's default for images knows.
    signature_or_checksum_status: signatures.evidence.some(({ verified }) => verified)
      ? "signature-verified"
      : "checksum-verified",
    image: facts,
    warnings: [
      ...remarks,
      ...remarksOn(facts),
      ...(found.strangePlatform === null
        ? []
        : [`Its configuration says ${found.strangePlatform}, and the index another platform.`]),
      ...(isSigned ? [] : ["No signature of it was found, by cosign's tags or among its referrers."]),
      ...(statements.length === 0
        ? []
        : [
            `Its index carries statements of BuildKit's (${statements.length}). They are unsigned: whoever pushed the image could write anything.`,
          ]),
      ...signatures.evidence.map(signatureRemark),
      ...signatures.unreadable.map((text) => `A signature can't be read: ${text}.`),
    ].map((text) => text.slice(0, 4096).toWellFormed()),
    provenance_evidence: [
      ...found.files.map((file) => digestEvidence(name, file)),
      ...signatures.evidence,
      ...statements.map(({ digest }) => buildkitEvidence(pinned, digest)),
    ],
    rollback_plan:
      runtime === "podman"
        ? CONTENT_KEPT
        : {
            inverse: [],
            unobtainable: [],
            notes: [
              "An image that was pulled runs nothing until somebody starts it, and can be removed again.",
            ],
          },
    signals,
  };
}

/** What a person is told of a signature or statement. */
function signatureRemark({ kind, verified, signed, detail }: ProvenanceEvidence): string {
  const what =
    kind === "image-signature"
      ? "A signature"
      : kind === "image-attestation"
        ? "A build's provenance"
        : "A statement";
  if (verified) return `${what} of it is verified: ${detail}.`;
  return signed === undefined
    ? `${what} of it doesn't count: ${detail}.`
    : `${what} of it is there: ${detail}.`;
}

/** Index, manifest, configuration and layers, each a file with its digest. */
function entriesOf(reference: ImageReference, found: FetchedImage, architecture: string): TransactionEntry[] {
  const name = repositoryOf(reference);
  const purl = purlOfImage(name, found.top.digest);
  return found.files.map(({ digest, size, mediaType, url, parent }, at) => ({
    ...{ name, architecture, action: "install", from_version: null, to_version: digest },
    ...{
      origin: reference.domain,
      archive: null,
      sha256: digest.replace("sha256:", ""),
      size,
      essential: false,
    },
    ...{ source: null, from_source: null, to_source: null, sources: [] },
    ...{ url: url.href, integrity: digest, media_type: mediaType.slice(0, 1024) },
    ...(at === 0 ? { purl } : {}),
    ...(parent === null ? {} : { required_by: `${name} ${parent}` }),
  }));
}

/** That a digest follows from the one that was asked for. */
function purlOfImage(name: string, version: string): string {
  return purlOf({
    ...{ type: "oci", namespace: null, name: name.slice(name.lastIndexOf("/") + 1), version },
    qualifiers: { repository_url: name },
  });
}

function digestEvidence(name: string, { digest, mediaType, parent, isRead }: ImageFile): ProvenanceEvidence {
  const named = parent === null ? "what was asked for" : `named by ${parent}`;
  const how = isRead
    ? "its bytes were compared with this digest"
    : "its bytes were not fetched for the plan: they are compared with this digest when the image is pulled";
  return {
    ...{ kind: "image-digest", subject: `${name}@${digest}`, verified: true, key: null },
    detail: `${mediaType.slice(0, 1024)}, ${named}: ${how}`,
  };
}

function buildkitEvidence(subject: string, digest: string): ProvenanceEvidence {
  return {
    ...{ kind: "buildkit-attestation", subject, verified: false, key: null },
    detail: `${digest}: a statement by whoever pushed the image, unsigned`,
  };
}
