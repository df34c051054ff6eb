import { createHash } from "node:crypto";
import type { TransactionEntry } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { SEMVER } from "./eco-semver.ts";
import { attestationsOf } from "./npm-attestation.ts";
import type { NpmVersion, Packument } from "./npm-metadata.ts";
import { publishedAt } from "./npm-metadata.ts";
import { digestOf, type NpmRegistry } from "./npm-registry.ts";
import type { ResolvedPackage } from "./npm-resolve.ts";
import { brokenSignature, type RegistryKeys, registrySignatures } from "./npm-signature.ts";

/*
 * What vouches for a package file, and what earlier versions had that this one has not.
 */

/**
 * The evidence for a package whose file has been fetched and has the hash in its metadata.
 * @throws AegisError `unavailable`
 */
export async function provenanceOf(
  { version, packument }: ResolvedPackage,
  bytes: Uint8Array,
  registry: NpmRegistry,
  keys: RegistryKeys,
): Promise<ProvenanceEvidence[]> {
  const subject = `${version.name}@${version.version}`;
  const signatures = registrySignatures(version, publishedAt(packument, version.version), keys);
  const sha512 = createHash("sha512").update(bytes).digest("hex");
  const digest = digestOf(version);
  const isStrong = digest !== null && digest.algorithm !== "sha1";
  const integrity: ProvenanceEvidence = {
    kind: "npm-integrity",
    subject,
    verified: isStrong,
    key: signatures.find(({ verified }) => verified)?.key ?? null,
    detail: isStrong
      ? `the file has the hash in its metadata: ${(version.dist.integrity ?? "").slice(0, 1024)}`
      : digest === null
        ? "the registry states no hash"
        : `the registry states only a SHA-1, which can be forged: ${digest.hex}`,
  };
  return [integrity, ...signatures, ...(await attestationsOf(version, sha512, registry, keys))];
}

type TrustFacts = Pick<TransactionEntry, "trust_downgrade" | "publisher_since">;

/**
 * Why a version deserves less trust than it asks for or than earlier ones had, and since when its publisher publishes the package.
 * `evidence` is that of {@link provenanceOf}.
 */
export function trustFacts(
  { version, packument }: ResolvedPackage,
  evidence: readonly ProvenanceEvidence[],
  keys: RegistryKeys,
): TrustFacts {
  const earlier = earlierVersions(version, packument);
  const had = (has: (one: Published) => boolean) => earlier.find(has)?.version;
  const [attested, signed] = [had(isAttested), had(isSigned)];
  const unproven = evidence.find(({ kind, verified }) => kind === "npm-attestation" && !verified);
  const broken = brokenSignature(version, publishedAt(packument, version.version), keys);
  const reasons = [
    ...(broken === null ? [] : [`its registry signature does not count: ${broken}`]),
    ...(unproven === undefined ? [] : [unproven.detail]),
    ...(attested !== undefined && !isAttested(version) ? [`${attested} was published with provenance`] : []),
    ...(signed !== undefined && !isSigned(version) ? [`${signed} was signed by the registry`] : []),
  ];
  const since = publisherSince(version, earlier, packument);
  return {
    ...(reasons.length === 0 ? {} : { trust_downgrade: reasons.join("; ").slice(0, 1024) }),
    ...(since === null ? {} : { publisher_since: since }),
  };
}

/** What is read of the other versions of a package. */
interface Published {
  version: string;
  dist?: unknown;
  _npmUser?: unknown;
}

/** Versions published before this one, the newest first: by time, or where the registry tells none by version. */
function earlierVersions({ version }: NpmVersion, packument: Packument): Published[] {
  const own = publishedAt(packument, version);
  const isEarlier = (other: string) => {
    const time = publishedAt(packument, other);
    if (own !== null && time !== null) return time < own;
    return SEMVER.isVersion(other) && SEMVER.compare(other, version) < 0;
  };
  const order = (a: string, b: string) => {
    const [x, y] = [publishedAt(packument, a), publishedAt(packument, b)];
    if (x !== null && y !== null && x !== y) return x < y ? 1 : -1;
    return SEMVER.isVersion(a) && SEMVER.isVersion(b) ? SEMVER.compare(b, a) : 0;
  };
  return Object.keys(packument.versions)
    .filter((other) => other !== version && isEarlier(other))
    .sort(order)
    .map((other) => ({ ...packument.versions[other], version: other }));
}

/** The first publication by whoever published this version, or null if nobody else published before, or the registry doesn't tell. */
function publisherSince(
  version: NpmVersion,
  earlier: readonly Published[],
  packument: Packument,
): string | null {
  const publisher = userOf(version);
  const own = publishedAt(packument, version.version);
  const others = earlier.map(userOf).filter((user) => user !== null && user !== publisher);
  if (publisher === null || own === null || others.length === 0) return null;
  const oldest = earlier.findLast((one) => userOf(one) === publisher);
  return oldest === undefined ? own : publishedAt(packument, oldest.version);
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null
    ? Object.entries(value).find(([key]) => key === name)?.[1]
    : undefined;
}

function userOf({ _npmUser }: Pick<NpmVersion, "_npmUser"> | Published): string | null {
  const name = typeof _npmUser === "string" ? _npmUser.replace(/\s*<.*$/, "") : field(_npmUser, "name");
  return typeof name === "string" && name !== "" ? name : null;
}

function isAttested({ dist }: { dist?: unknown }): boolean {
  return field(dist, "attestations") !== undefined;
}

function isSigned({ dist }: { dist?: unknown }): boolean {
  const signatures = field(dist, "signatures");
  return Array.isArray(signatures) && signatures.length > 0;
}
