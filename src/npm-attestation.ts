import * as v from "valibot";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { purlOf } from "./eco-purl.ts";
import type { Statement, VerifiedAttestation } from "./eco-sigstore.ts";
import { AegisError } from "./errors.ts";
import type { NpmVersion } from "./npm-metadata.ts";
import type { NpmRegistry } from "./npm-registry.ts";
import type { RegistryKeys } from "./npm-signature.ts";

/*
 * What a registry attests about a version: that it published it (signed with the registry's key), and how it was built (signed by the
 * build workflow itself, with a certificate of Sigstore's). https://docs.npmjs.com/generating-provenance-statements
 */

const PUBLISHED = "https://github.com/npm/attestation/tree/main/specs/publish/v0.1";
const BUILT = /^https:\/\/slsa\.dev\/provenance\/v(?:1|0\.2)$/;
const MAX_ATTESTATIONS = 16;

const Attestations = v.looseObject({
  attestations: v.pipe(
    v.array(v.looseObject({ predicateType: v.string(), bundle: v.unknown() })),
    v.maxLength(MAX_ATTESTATIONS),
  ),
});

/** What is read of a SLSA provenance, in both versions. https://slsa.dev/spec/v1.0/provenance */
const Provenance = v.looseObject({
  builder: v.optional(v.looseObject({ id: v.string() })),
  invocation: v.optional(
    v.looseObject({ configSource: v.looseObject({ uri: v.string(), entryPoint: v.string() }) }),
  ),
  runDetails: v.optional(v.looseObject({ builder: v.looseObject({ id: v.string() }) })),
  buildDefinition: v.optional(
    v.looseObject({
      externalParameters: v.looseObject({
        workflow: v.optional(v.looseObject({ repository: v.string(), path: v.string(), ref: v.string() })),
      }),
    }),
  ),
});

/**
 * One entry per attestation of a version, verified or not; empty where the metadata names none. `sha512` is the hash of the package
 * file, in lower-case hex. `npm-attestation` says how it was built, `npm-publish-attested` only that it was published.
 * @throws AegisError `unavailable`
 */
export async function attestationsOf(
  version: NpmVersion,
  sha512: string,
  registry: NpmRegistry,
  keys: RegistryKeys,
): Promise<ProvenanceEvidence[]> {
  if (version.dist.attestations === undefined) return [];
  const subject = `${version.name}@${version.version}`;
  const unverified = (detail: string): ProvenanceEvidence => ({
    ...{ kind: "npm-attestation", subject, verified: false, key: null, detail: detail.slice(0, 4096) },
  });
  const path = `-/npm/v1/attestations/${version.name.replace("/", "%2f")}@${version.version}`;
  const answer = v.safeParse(Attestations, await registry.document(version.name, path));
  if (!answer.success)
    return [unverified("the metadata says that there are attestations, and the registry has none")];
  const { verifyAttestation } = await import("./eco-sigstore.ts");
  return answer.output.attestations.map(({ bundle }) => {
    try {
      const attestation = verifyAttestation(bundle, keys);
      const { kind, detail } = judge(attestation, version, sha512);
      return {
        kind,
        subject,
        verified: true,
        key: attestation.key.slice(0, 1024),
        detail: detail.slice(0, 4096),
      };
    } catch (error) {
      if (error instanceof AegisError && error.code === "signature_invalid") return unverified(error.message);
      throw error;
    }
  });
}

/** @throws AegisError `signature_invalid` for a good signature under something that doesn't speak of this package */
function judge({ statement, identity }: VerifiedAttestation, version: NpmVersion, sha512: string) {
  assertSubject(statement, version, sha512);
  if (statement.predicateType === PUBLISHED) {
    if (identity !== null) throw wrong("it says that a registry published it, and is not signed by one");
    return { kind: "npm-publish-attested", detail: "the registry published this file" };
  }
  if (!BUILT.test(statement.predicateType))
    throw wrong(`it is of an unknown kind, ${statement.predicateType}`);
  if (identity === null) throw wrong("it says how the package was built, and is not signed by a build");
  const { repository, workflow, builder } = buildOf(statement);
  if (identity.sourceRepository !== null && repository !== identity.sourceRepository)
    throw wrong(`it names the repository ${repository}, and was signed in ${identity.sourceRepository}`);
  return {
    kind: "npm-attestation",
    detail: [
      `built from ${repository} at ${identity.sourceRef ?? "?"} (${identity.sourceDigest ?? "?"})`,
      `by ${workflow} on ${builder}${identity.runner === null ? "" : `, ${identity.runner}`}`,
      `signed by ${identity.subject}, known to ${identity.issuer}`,
    ].join("; "),
  };
}

function assertSubject({ subject }: Statement, { name, version }: NpmVersion, sha512: string): void {
  const [, namespace = null, short = name] = /^(@[^/]+)\/(.+)$/.exec(name) ?? [];
  const purl = purlOf({ type: "npm", namespace, name: short, version, qualifiers: null });
  const named = subject.filter((one) => one.name === purl);
  if (named.length === 0) throw wrong(`it speaks of ${subject[0]?.name.slice(0, 256)}`);
  if (!named.some(({ digest }) => digest["sha512"] === sha512)) throw wrong("it speaks of another file");
}

function buildOf({ predicate }: Statement): { repository: string; workflow: string; builder: string } {
  const parsed = v.safeParse(Provenance, predicate);
  if (!parsed.success) throw wrong("it is no SLSA provenance");
  const { builder, invocation, runDetails, buildDefinition } = parsed.output;
  const workflow = buildDefinition?.externalParameters.workflow;
  const source = invocation?.configSource;
  return {
    repository: workflow?.repository ?? source?.uri.replace(/^git\+/, "").replace(/@refs\/.*$/, "") ?? "",
    workflow: workflow?.path ?? source?.entryPoint ?? "?",
    builder: runDetails?.builder.id ?? builder?.id ?? "?",
  };
}

function wrong(why: string): AegisError {
  return new AegisError("signature_invalid", `the attestation can't be used: ${why}`);
}
