import * as v from "valibot";
import { canonicalHash, parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";

/** Version written into every document. A reader accepts any 1.x and refuses another major version. */
export const SCHEMA_VERSION = "1.0";

const schemaVersion = v.pipe(v.string(), v.regex(/^1\.\d{1,4}$/, "unknown schema version"));
const text = v.pipe(v.string(), v.maxLength(64 * 1024));
const short = v.pipe(v.string(), v.maxLength(1024));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(512));
const names = v.pipe(v.array(name), v.maxLength(20_000));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a SHA-256 in lower-case hex"));
const uuid = v.pipe(
  v.string(),
  v.regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, "not a UUID"),
);
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** RFC 3339 in UTC with a literal `Z`; other offsets are refused so that text order is time order. */
const timestamp = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/, "not an RFC 3339 UTC timestamp"),
  v.check((s) => Number.isFinite(Date.parse(s)), "not a real date"),
);
const argv = v.pipe(v.array(v.pipe(v.string(), v.maxLength(4096))), v.minLength(1), v.maxLength(4096));
const base64 = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]+={0,2}$/, "not base64"), v.maxLength(256));

const TOOLS = ["apt", "npm", "pip", "container", "nuget", "vscode", "go", "cargo"] as const;
export type Tool = (typeof TOOLS)[number];

/** Every risk signal there is. Adding one is one word here. */
export const RISK_SIGNALS = [
  "requires-root",
  "network-operation",
  "no-root-required",
  "package-install",
  "package-upgrade",
  "package-removal",
  "package-downgrade",
  "package-held-back",
  "kernel-change",
  "security-sensitive",
  "metadata-unavailable",
  "metadata-command-failed",
  "lifecycle-scripts",
  "native-build-risk",
  "binary-download-risk",
  "build-backend-risk",
  "setup-py-risk",
  "native-extension-risk",
  "virtualenv-missing",
  "user-site-risk",
  "mutable-tag",
  "unknown-registry",
  "dockerhub-default",
  "unsigned-image",
  "build-targets-risk",
  "powershell-risk",
  "native-dll-risk",
  "aspnet-sensitive",
  "activation-events-risk",
  "command-activation-risk",
  "workspace-contains-risk",
  "bundled-binary-risk",
  "workspace-access-risk",
  "gosumdb-disabled",
  "checksum-db-enabled",
  "private-module-bypass",
  "mutable-version",
  "pseudo-version-risk",
  "build-rs-risk",
  "proc-macro-risk",
  "native-link-risk",
  "untrusted-repository",
  "weakly-pinned-repository",
  "vulnerability-critical",
  "vulnerability-known",
  "direct-url-denied",
  "url-denied",
  "git-source-denied",
  "local-path-denied",
  "vsix-denied",
  "requirements-file-denied",
  "replace-directive-denied",
  "embedded-command-flag-denied",
] as const;
export type RiskSignal = (typeof RISK_SIGNALS)[number];

/** What adds to the risk score: a signal, or one of three facts that have none. */
const RISK_CONTRIBUTIONS = [...RISK_SIGNALS, "deprecated", "essential-removal", "large-transaction"] as const;

export const Host = v.strictObject({
  hostname: short,
  /** HMAC-SHA256 of "aegis" under the machine id (machine-id(5)): identifies the host without revealing the id. */
  machine_id_hash: sha256,
  os_id: short,
  os_version: short,
  /** dpkg architecture, e.g. `amd64`. */
  architecture: short,
});
export type Host = v.InferOutput<typeof Host>;

/** `configure` is of a repair alone: the package is unpacked already, and dpkg finishes it. */
export const ACTIONS = ["install", "upgrade", "downgrade", "reinstall", "remove", "configure"] as const;

/** One package that the operation changes. Absent facts are null, never left out. */
export const TransactionEntry = v.strictObject({
  name,
  architecture: short,
  action: v.picklist(ACTIONS),
  from_version: v.nullable(short),
  to_version: v.nullable(short),
  /** apt: the archive's Origin/Label; npm: the registry host. Null for removals. */
  origin: v.nullable(short),
  /** apt: the suite or archive, e.g. `bookworm-security`. Null where the ecosystem has none. */
  archive: v.nullable(short),
  sha256: v.nullable(sha256),
  /** Bytes to download. */
  size: v.nullable(count),
  /** apt `Essential: yes` of the installed or the new version, or `Protected: yes` of the installed one. */
  essential: v.boolean(),
  /** Source package, where it is known. */
  source: v.nullable(short),
  /** Where this version is offered: `id`s of repository_evidence; anything else is a source nothing is known of. */
  sources: v.pipe(v.array(short), v.maxLength(256)),
});
export type TransactionEntry = v.InferOutput<typeof TransactionEntry>;

/** Whether a package file is fetched and unpacked for an entry. */
export function isFetched({ action }: Pick<TransactionEntry, "action">): boolean {
  return action !== "remove" && action !== "configure";
}

const REPOSITORY_TRUST = ["distribution", "pinned", "weak", "untrusted"] as const;
export const RepositoryEvidence = v.strictObject({
  /** Stable id inside the plan: `<uri> <suite>`. */
  id: short,
  uri: short,
  suite: short,
  components: names,
  /** File and stanza or line that configures it. */
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
  /** True only when gpgv accepted the InRelease with the keyring that this source is bound to. */
  signature_verified: v.boolean(),
  /** Primary key fingerprints that made a good signature. */
  key_fingerprints: v.pipe(v.array(short), v.maxLength(32)),
  trust: v.picklist(REPOSITORY_TRUST),
  /** Why it is not trusted, one short phrase each. */
  problems: v.pipe(v.array(short), v.maxLength(32)),
});
export type RepositoryEvidence = v.InferOutput<typeof RepositoryEvidence>;

export const SEVERITIES = ["unknown", "none", "low", "medium", "high", "critical"] as const;
export const VulnerabilityEvidence = v.strictObject({
  package: name,
  version: short,
  /** Whether `version` is what is installed now or what would be installed. */
  applies_to: v.picklist(["old", "new"]),
  id: short,
  aliases: v.pipe(v.array(short), v.maxLength(256)),
  severity: v.picklist(SEVERITIES),
  fixed_version: v.nullable(short),
  /** Where the record came from. */
  data_source: short,
  data_age_days: v.nullable(count),
});

export const ProvenanceEvidence = v.strictObject({
  kind: short,
  subject: short,
  verified: v.boolean(),
  /** Key id or fingerprint, null where none is involved. */
  key: v.nullable(short),
  detail: text,
});
export type ProvenanceEvidence = v.InferOutput<typeof ProvenanceEvidence>;

const SbomEvidence = v.strictObject({ purl: short, sha256: v.nullable(sha256) });

/** A script that the package manager would run, or that the package carries for it. */
const ScriptEvidence = v.strictObject({ package: name, name: short, body: text });

/** One command that planning ran. Output beyond the cap stands only as its digest. */
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

/** A target that policy must deny, with the signal that says why. */
export const DeniedTarget = v.strictObject({ target: short, signal: v.picklist(RISK_SIGNALS) });
export type DeniedTarget = v.InferOutput<typeof DeniedTarget>;

export const OperationPlan = v.strictObject({
  schema_version: schemaVersion,
  plan_id: uuid,
  created_at: timestamp,
  tool: v.picklist(TOOLS),
  operation: short,
  ecosystem: short,
  target_type: short,
  target: text,
  targets: names,
  exact_targets: names,
  target_version: v.nullable(short),
  source_registry: v.nullable(short),
  host: Host,
  metadata_available: v.boolean(),
  command_preview: argv,
  mutates_system: v.boolean(),
  requires_root: v.boolean(),
  network_access: v.boolean(),
  /** True when the host is already as asked for: there is nothing to sign. */
  nothing_to_do: v.boolean(),
  transaction: v.pipe(v.array(TransactionEntry), v.maxLength(20_000)),
  packages_installed: names,
  packages_upgraded: names,
  packages_removed: names,
  packages_downgraded: names,
  packages_held_back: names,
  denied_targets: v.pipe(v.array(DeniedTarget), v.maxLength(256)),
  scripts_detected: v.boolean(),
  scripts: v.pipe(v.array(ScriptEvidence), v.maxLength(256)),
  build_hooks_detected: v.boolean(),
  native_code_risk: v.boolean(),
  binary_artifact_risk: v.boolean(),
  signature_or_checksum_status: short,
  mutable_reference: v.boolean(),
  publisher_or_maintainer: v.nullable(text),
  /** RFC 3339 publication time of the exact version, where the ecosystem tells. */
  published_at: v.nullable(timestamp),
  deprecated: v.nullable(text),
  transitive_dependency_count: v.nullable(count),
  risk_signals: v.array(v.picklist(RISK_SIGNALS)),
  warnings: v.pipe(v.array(text), v.maxLength(1000)),
  repository_evidence: v.pipe(v.array(RepositoryEvidence), v.maxLength(1000)),
  vulnerability_evidence: v.pipe(v.array(VulnerabilityEvidence), v.maxLength(20_000)),
  provenance_evidence: v.pipe(v.array(ProvenanceEvidence), v.maxLength(20_000)),
  sbom_evidence: v.pipe(v.array(SbomEvidence), v.maxLength(20_000)),
  rollback_plan: v.strictObject({
    /** The exact inverse, one `name:arch=version` or `name:arch-` (to be removed) each. */
    inverse: names,
    /** Entries of `inverse` whose old version no configured source offers any more. */
    unobtainable: names,
    notes: v.pipe(v.array(text), v.maxLength(64)),
  }),
  risk_score: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(100)),
  risk_contributions: v.pipe(
    v.array(
      v.strictObject({
        name: v.picklist(RISK_CONTRIBUTIONS, "unknown name"),
        points: v.pipe(v.number(), v.safeInteger()),
      }),
    ),
    v.maxLength(64),
  ),
  raw_evidence: v.strictObject({ commands: v.pipe(v.array(CommandEvidence), v.maxLength(1000)) }),
});
export type OperationPlan = v.InferOutput<typeof OperationPlan>;

export const DECISIONS = ["allow", "allow_with_snapshot", "require_human", "deny"] as const;
export type Decision = (typeof DECISIONS)[number];
export const CONTROLS = ["human approval", "system snapshot"] as const;
export type Control = (typeof CONTROLS)[number];

export const Signature = v.strictObject({
  algorithm: v.literal("ed25519"),
  key_id: name,
  signature: base64,
});
export type Signature = v.InferOutput<typeof Signature>;

const level = v.picklist(["low", "medium", "high"]);
export const AiReview = v.strictObject({
  schema_version: schemaVersion,
  plan_id: uuid,
  plan_hash: sha256,
  model: short,
  prompt_hash: sha256,
  created_at: timestamp,
  risk: v.picklist(["low", "medium", "high", "deny"]),
  summary: text,
  supply_chain_risk: level,
  privilege_risk: level,
  persistence_risk: level,
  availability_risk: level,
  rollback_difficulty: v.picklist(["easy", "moderate", "hard"]),
  red_flags: v.pipe(v.array(text), v.maxLength(256)),
  required_controls: v.pipe(v.array(text), v.maxLength(64)),
  recommendation: v.picklist(["auto_approve", "approve_with_snapshot", "require_human", "deny"]),
  /** The reviewer daemon's. Left out of a review that nobody signed. */
  signature: v.exactOptional(Signature),
});
export type AiReview = v.InferOutput<typeof AiReview>;

export const PolicyResult = v.strictObject({
  schema_version: schemaVersion,
  plan_id: uuid,
  plan_hash: sha256,
  decision: v.picklist(DECISIONS),
  reasons: v.pipe(v.array(text), v.maxLength(4096)),
  required_controls: v.pipe(v.array(v.picklist(CONTROLS)), v.maxLength(CONTROLS.length)),
  /** Distinct approval keys needed when "human approval" is required. */
  approvals_required: count,
  rules: v.pipe(v.array(short), v.maxLength(256)),
  policy_version: short,
  evaluator_hash: sha256,
  policy_config_hash: sha256,
  ai_review_hash: v.nullable(sha256),
  evidence_fresh_until: timestamp,
});
export type PolicyResult = v.InferOutput<typeof PolicyResult>;

export const Approval = v.strictObject({
  schema_version: schemaVersion,
  approval_id: uuid,
  signer: name,
  role: v.literal("approver"),
  reason: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)),
  approved_at: timestamp,
  expires_at: timestamp,
  plan_hash: sha256,
  signature: Signature,
});
export type Approval = v.InferOutput<typeof Approval>;

const PROOF_TYPES = [
  "snapshot-id",
  "btrfs-snapshot",
  "zfs-snapshot",
  "lvm-snapshot",
  "snapper-snapshot",
] as const;
export const ControlProof = v.strictObject({
  control: v.picklist(CONTROLS),
  proof_type: v.picklist(PROOF_TYPES),
  value: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
  created_at: timestamp,
  expires_at: timestamp,
});
export type ControlProof = v.InferOutput<typeof ControlProof>;

export const ExecutionPlan = v.strictObject({
  schema_version: schemaVersion,
  execution_plan_id: uuid,
  operation_plan_id: uuid,
  policy_decision: v.picklist(DECISIONS),
  policy_version: short,
  evaluator_hash: sha256,
  policy_config_hash: sha256,
  argv,
  exact_targets: names,
  required_preflight_checks: names,
  required_controls: v.pipe(v.array(v.picklist(CONTROLS)), v.maxLength(CONTROLS.length)),
  rollback_plan: OperationPlan.entries.rollback_plan,
  signer_identity: name,
  created_at: timestamp,
  expires_at: timestamp,
  approvals: v.pipe(v.array(Approval), v.maxLength(16)),
  operation_plan_hash: sha256,
  policy_result_hash: sha256,
  operation_plan: OperationPlan,
  policy_result: PolicyResult,
  control_proofs: v.pipe(v.array(ControlProof), v.maxLength(16)),
  ai_review_hash: v.nullable(sha256),
  ai_review: v.nullable(AiReview),
  signature: Signature,
});
export type ExecutionPlan = v.InferOutput<typeof ExecutionPlan>;

/** What every signed plan of this family has; enough to check the signature of a 0.2.x plan, never to run one. */
export const LegacyExecutionPlan = v.looseObject({
  execution_plan_id: short,
  operation_plan: v.looseObject({ plan_id: short }),
  expires_at: short,
  signature: v.looseObject({ algorithm: v.literal("ed25519"), key_id: short, signature: base64 }),
});

/** What a name in a message or table stands for. */
export const DOCUMENT_NAMES = {
  plan: "operation plan",
  review: "review",
  policy: "policy result",
  approval: "approval",
  execution: "execution plan",
} as const;
export type DocumentKind = keyof typeof DOCUMENT_NAMES;

const SCHEMAS = {
  plan: OperationPlan,
  review: AiReview,
  policy: PolicyResult,
  approval: Approval,
  execution: ExecutionPlan,
} as const;

type DocumentOf<K extends DocumentKind> = v.InferOutput<(typeof SCHEMAS)[K]>;

/**
 * Checks a parsed JSON tree against the schema of `kind`.
 * @throws AegisError `invalid_document` with the path of the first field that is wrong, missing or unknown.
 */
export function parseDocument<K extends DocumentKind>(kind: K, value: unknown): DocumentOf<K> {
  const result = v.safeParse(SCHEMAS[kind], value, { abortEarly: true });
  if (result.success) return result.output as DocumentOf<K>;
  const issue = result.issues[0];
  const path = v.getDotPath(issue) ?? "(document)";
  throw new AegisError(
    "invalid_document",
    `this is not a valid ${DOCUMENT_NAMES[kind]}: ${path}: ${issue.message}`,
    "Make the document again with aegis; don't edit it by hand.",
    { path },
  );
}

/** A document with the SHA-256 over the tree as it was read. */
export interface Hashed<T> {
  document: T;
  hash: string;
}

/** Parses JSON text as a document of `kind` and hashes the tree as read. */
export function readDocument<K extends DocumentKind>(kind: K, text: string): Hashed<DocumentOf<K>> {
  const tree = parseJson(text);
  return { document: parseDocument(kind, tree), hash: canonicalHash(tree) };
}

/** The document without its `signature`: what a signature is made over. */
export function unsigned<T extends { signature: unknown }>(document: T): Omit<T, "signature"> {
  const { signature: _, ...rest } = document;
  return rest;
}
