import * as v from "valibot";
import { canonicalHash, type Json, parseJson } from "./canonical.ts";
import {
  argv,
  BASE64,
  base64,
  count,
  name,
  names,
  schemaVersion,
  sha256,
  short,
  text,
  timestamp,
  uuid,
} from "./doc-fields.ts";
import { OperationPlan } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";

/** Version written into every document. Readers accept any 1.x and refuse other major versions. */
export const SCHEMA_VERSION = "1.0";

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

/** An OpenSSH key's signature (PROTOCOL.sshsig), without armor: what a security key makes. For approvals only. */
const SshSignature = v.strictObject({
  algorithm: v.literal("sshsig"),
  key_id: name,
  signature: v.pipe(v.string(), v.regex(BASE64, "not base64"), v.maxLength(1024)),
});
export const ApprovalSignature = v.variant("algorithm", [Signature, SshSignature]);
export type ApprovalSignature = v.InferOutput<typeof ApprovalSignature>;

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
  /** The reviewer daemon's signature; omitted in an unsigned review. */
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
  /** Number of distinct approval keys required with "human approval". */
  approvals_required: count,
  rules: v.pipe(v.array(short), v.maxLength(256)),
  policy_version: short,
  evaluator_hash: sha256,
  policy_config_hash: sha256,
  ai_review_hash: v.nullable(sha256),
  evidence_fresh_until: timestamp,
});
export type PolicyResult = v.InferOutput<typeof PolicyResult>;

const snapshotId = v.pipe(v.string(), v.minLength(1), v.maxLength(256));

export const Approval = v.strictObject({
  schema_version: schemaVersion,
  approval_id: uuid,
  signer: name,
  role: v.literal("approver"),
  reason: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)),
  approved_at: timestamp,
  expires_at: timestamp,
  plan_hash: sha256,
  /** The plan's and decision's substance (exec-substance.ts): the approval also counts for a later plan with the same one. */
  substance_hash: v.exactOptional(sha256),
  /** Snapshots that nothing looks up and the approver vouches for, by the ids that `aegis sign --snapshot-id` takes. */
  accepted_snapshots: v.exactOptional(v.pipe(v.array(snapshotId), v.minLength(1), v.maxLength(16))),
  signature: ApprovalSignature,
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
  value: snapshotId,
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

/** Fields common to all signed plans, enough to check the signature of a 0.2.x plan, never to run one. */
export const LegacyExecutionPlan = v.looseObject({
  execution_plan_id: short,
  operation_plan: v.looseObject({ plan_id: short }),
  expires_at: short,
  signature: v.looseObject({ algorithm: v.literal("ed25519"), key_id: short, signature: base64 }),
});

/** Names of the documents in messages and tables. */
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
 * Checks a parsed JSON tree against the schema of `kind`. `source` names the document in messages.
 * @throws AegisError `invalid_document` with the path of the first wrong, missing or unknown field, or with the kind of
 * document it actually is
 */
export function parseDocument<K extends DocumentKind>(
  kind: K,
  value: unknown,
  source = "this",
): DocumentOf<K> {
  const result = v.safeParse(SCHEMAS[kind], value, { abortEarly: true });
  if (result.success) return result.output as DocumentOf<K>;
  const other = kindOf(value);
  if (other !== null && other !== kind) {
    throw new AegisError(
      "invalid_document",
      `${source} is ${withArticle(other)}, but ${withArticle(kind)} is needed here`,
      MADE_BY[kind],
      { kind: other },
    );
  }
  const issue = result.issues[0];
  const path = v.getDotPath(issue) ?? "(document)";
  throw new AegisError(
    "invalid_document",
    `${source} is not a valid ${DOCUMENT_NAMES[kind]}: ${path}: ${problemOf(issue)}`,
    "Create the document again with aegis; don't edit it by hand.",
    { path },
  );
}

function withArticle(kind: DocumentKind): string {
  const name = DOCUMENT_NAMES[kind];
  return `${/^[aeiou]/.test(name) ? "an" : "a"} ${name}`;
}

const MADE_BY: Readonly<Record<DocumentKind, string>> = {
  plan: "Operation plans are written by `aegis plan`.",
  review: "Reviews are written by `aegis review`.",
  policy: "Policy results are written by `aegis policy`.",
  approval: "Approvals are written by `aegis sign approve`.",
  execution: "Execution plans are written by `aegis sign`.",
};

/** A distinctive field per kind. Order matters: an execution plan also has the fields of other kinds. */
const DISTINCTIVE_FIELDS: readonly [DocumentKind, string][] = [
  ["execution", "execution_plan_id"],
  ["approval", "approval_id"],
  ["policy", "evidence_fresh_until"],
  ["review", "prompt_hash"],
  ["plan", "command_preview"],
];

/** The kind of document a tree looks like, or null. For messages only. */
function kindOf(value: unknown): DocumentKind | null {
  if (typeof value !== "object" || value === null) return null;
  return DISTINCTIVE_FIELDS.find(([, field]) => Object.hasOwn(value, field))?.[0] ?? null;
}

/** valibot's issue in terms of fields. */
function problemOf(issue: v.BaseIssue<unknown>): string {
  if (issue.type !== "strict_object") return issue.message;
  if (issue.expected === "never") return "unknown field";
  return issue.received === "undefined" ? "it is missing" : issue.message;
}

/** A document with the SHA-256 of the tree as read. */
export interface Hashed<T> {
  document: T;
  hash: string;
}

/**
 * Parses JSON text as a document of `kind` and hashes the tree as read. `source` names the document in messages.
 * @throws AegisError `invalid_document`
 */
export function readDocument<K extends DocumentKind>(
  kind: K,
  text: string,
  source?: string,
): Hashed<DocumentOf<K>> {
  let tree: Json;
  try {
    tree = parseJson(text);
  } catch (error) {
    if (!(error instanceof AegisError) || source === undefined) throw error;
    const hint = error.hint || MADE_BY[kind];
    throw new AegisError(error.code, `${source}: ${error.message}`, hint, error.details);
  }
  return { document: parseDocument(kind, tree, source), hash: canonicalHash(tree) };
}

/** The document without its `signature`: what is signed. */
export function unsigned<T extends { signature: unknown }>(document: T): Omit<T, "signature"> {
  const { signature: _, ...rest } = document;
  return rest;
}
