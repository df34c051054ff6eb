import type { NextStep } from "./cmd-next.ts";
import { NO_DATA, VULNERABILITY_WARNING } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { TABLE } from "./eco-table.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { type ArtifactTool, registries, unverifiedArtifacts } from "./policy-facts.ts";

/*
 * What a denial's reader can do: which evidence a plan lacks and where it comes from, what the policy's owner could write, and the
 * request that names the versions. Nothing here decides.
 */

export interface Remedy {
  /** Evidence that the plan lacks, each with how to get it. */
  missing: string[];
  /** Lines of the policy file with which this plan would not be denied; empty where no setting does that. */
  settings: string[];
}

const NAMED = 3;
const LOOK_UP =
  "vulnerabilities were not all looked up: type as root: aegis daemon install --feeds (or set AEGIS_OSV_DIR or AEGIS_OSV_URL), and plan again";
const LOOK_ELSEWHERE =
  "vulnerabilities of what is in it are not looked up by Aegis: have it scanned before it is used";
/** How each kind of evidence is got; null for what the ecosystem doesn't have. */
const EVIDENCE: Readonly<
  Record<ArtifactTool, { checksum: string; signature: string | null; attestation: string | null }>
> = {
  npm: {
    checksum: "name versions whose registry gives their integrity",
    signature: "npm's own registry signs every version, and a mirror may leave that out: plan from npm's own",
    attestation: "name versions that were published with provenance (npm publish --provenance)",
  },
  pip: {
    checksum: "name releases that have wheels with hashes in the index",
    signature: null,
    attestation: "name releases whose files have attestations on PyPI (PEP 740)",
  },
  go: {
    checksum:
      "leave GOSUMDB on, and plan a public module: the checksum database has no record of private ones",
    signature: null,
    attestation: null,
  },
  cargo: {
    checksum: "plan a crate whose Cargo.lock and index agree on every checksum",
    signature: null,
    attestation: null,
  },
  container: {
    checksum: "name the image by its digest",
    signature:
      "ask its publisher to sign it (cosign sign), and have the signer added to [[container.signers]] (aegis help policy-file)",
    attestation:
      "plan an image that its builder has attested, and have the builder added to [[container.signers]]",
  },
  nuget: {
    checksum: "plan from a source whose catalog gives a SHA-512",
    signature:
      "nuget.org signs every package, other sources may not: plan from one whose index names its certificates, or have an author's certificate added to [nuget] authors",
    attestation: null,
  },
  vscode: {
    checksum: "plan from a gallery that gives a SHA-256, or signs: Open VSX does both",
    signature:
      "plan it from a gallery that signs (Open VSX), or have the certificate that a signature names added to [vscode] certificates",
    attestation: null,
  },
};

/** The remedy for a plan that these rules deny. */
export function remedyFor(plan: OperationPlan, denying: readonly string[], config: PolicyConfig): Remedy {
  const { tool, denied_targets, operation } = plan;
  if (tool === "apt" || tool === "services" || denied_targets.length > 0 || operation === "rollback")
    return { missing: [], settings: [] };
  return { missing: missingEvidence(plan, tool, config), settings: settingsFor(plan, tool, denying, config) };
}

/** The same request with the versions that were found, which another plan can't answer differently. */
export function pinnedRequest({
  ecosystem,
  operation,
  targets,
  ...plan
}: OperationPlan): NextStep | undefined {
  const { mutable_reference, denied_targets, exact_targets } = plan;
  const isResolved = exact_targets.length === targets.length && denied_targets.length === 0;
  if (!mutable_reference || !isResolved || exact_targets.every((one, i) => one === targets[i]))
    return undefined;
  return { who: "you", argv: ["aegis", "plan", ecosystem, operation, ...exact_targets] };
}

function missingEvidence(plan: OperationPlan, tool: ArtifactTool, config: PolicyConfig): string[] {
  const { warnings } = plan;
  const absent = plan.raw_evidence.commands.flatMap(({ outcome, argv }) =>
    outcome === "missing" ? [argv[0]] : [],
  );
  const tools = TABLE[tool].grammar.programs.flatMap(({ name, instead, fix }) =>
    absent.includes(name) && (instead === undefined || absent.includes(instead))
      ? [`${name} is not installed, and runs such a plan: ${fix}`]
      : [],
  );
  // Planning says itself what kept it from an answer, and all other evidence comes with that.
  if (!plan.metadata_available)
    return [...warnings.filter((text) => !text.startsWith(VULNERABILITY_WARNING)), ...tools];
  const lack = (what: string, how: string | null, isKind: (kind: string) => boolean) => {
    // What is signed is the image, not each of its layers.
    const isSigned = (one: string) => tool !== "container" || plan.exact_targets.includes(one);
    const without = unverifiedArtifacts({ plan, config }, isKind).filter(isSigned);
    if (how === null || without.length === 0) return [];
    const rest = without.length - NAMED;
    const some = without.slice(0, NAMED).join(", ");
    return [`no verified ${what} of ${some}${rest > 0 ? ` and ${rest} more` : ""}: ${how}`];
  };
  const { checksum, signature, attestation } = EVIDENCE[tool];
  const hasRecords = TABLE[tool].grammar.osv(plan.host) !== null;
  const isUnknown =
    warnings.some((text) => text.startsWith(VULNERABILITY_WARNING)) ||
    plan.vulnerability_evidence.some(({ id }) => id === NO_DATA);
  return [
    ...lack("checksum", checksum, () => true),
    ...lack("signature", signature, (kind) => kind.endsWith("-signature")),
    ...lack("build attestation", attestation, (kind) => kind.endsWith("-attestation")),
    ...(isUnknown ? [hasRecords ? LOOK_UP : LOOK_ELSEWHERE] : []),
    ...tools,
  ];
}

/** Tables of the policy file with their lines, where every rule that denies can be answered by one. */
function settingsFor(
  plan: OperationPlan,
  tool: ArtifactTool,
  denying: readonly string[],
  config: PolicyConfig,
): string[] {
  const own = config[tool];
  const keysOf = (kind: string) => [
    ...new Set(
      plan.provenance_evidence.flatMap((one) =>
        one.verified && one.kind === kind && one.key !== null ? [one.key] : [],
      ),
    ),
  ];
  const list = (name: string, known: readonly string[], more: readonly string[]) =>
    more.length === 0
      ? null
      : `${name} = [${[...new Set([...known, ...more])].map((one) => JSON.stringify(one)).join(", ")}]`;
  const answers: Readonly<Record<string, () => string | null>> = {
    [`${tool}-apply`]: () => 'apply = "require_human"',
    // Answered by naming the versions, and not by a setting.
    "artifact-mutable": () => "",
    "artifact-registry": () => list("allowed_registries", own.allowed_registries, registries({ plan })),
    "cargo-build-scripts": () => "allow_build_scripts = true",
    "image-root-user": () => "allow_root_user = true",
    "nuget-signature": () => list("authors", config.nuget.authors, keysOf("nuget-author-signature")),
    "vscode-signature": () =>
      list("certificates", config.vscode.certificates, keysOf("vscode-cms-signature")) ??
      list("signing_keys", config.vscode.signing_keys, keysOf("vscode-signature")),
  };
  const lines = denying.map((id) => (Object.hasOwn(answers, id) ? (answers[id]?.() ?? null) : null));
  if (lines.includes(null)) return [];
  const written = lines.filter((line) => line !== null && line !== "");
  return written.length === 0 ? [] : [`[${tool}]`, ...written.map(String)];
}
