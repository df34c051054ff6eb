import { describe, expect, test } from "bun:test";
import Ajv2020 from "ajv/dist/2020";
import fc from "fast-check";
import * as v from "valibot";
import { AuditEvent, encodeLine, GENESIS_HASH } from "../src/audit-event.ts";
import { canonicalHash } from "../src/canonical.ts";
import { allJsonSchemas } from "../src/cmd-schema.ts";
import { SCHEMA_NAMES, type SchemaName } from "../src/cmd-table.ts";
import { AiReview, Approval, ControlProof, ExecutionPlan, PolicyResult } from "../src/doc.ts";
import { OperationPlan } from "../src/doc-plan.ts";
import { Rejection, RequestSummary } from "../src/doc-request.ts";
import { ResultSchema } from "../src/doc-result.ts";
import { encryptSeed } from "../src/key-encryption.ts";
import { EncryptedKeyFile, generateKey, KeyFile, PublicKeyFile } from "../src/key-file.ts";
import { TrustedKeysFile } from "../src/key-trusted-keys.ts";
import { PlanPage, PlanSummary, planPage, planSummary } from "../src/plan-summary.ts";
import { evaluate } from "../src/policy.ts";
import { PolicyConfig } from "../src/policy-config.ts";
import { install, removal, review, upgrade } from "./policy-plans.ts";
import { approvalOf, configOf, execution, snapshot } from "./signing-kit.ts";

/*
 * The printed JSON Schemas against Aegis's own, judged by an independent validator: whatever a document of the tests or a change of one
 * is to the one, it is to the other, except for what the schema itself names as not expressed.
 */

const ajv = new Ajv2020({ strict: true, strictTypes: false, allErrors: false });
const SCHEMAS = allJsonSchemas();
const validators = Object.fromEntries(
  Object.entries(SCHEMAS).map(([name, schema]) => [name, ajv.compile(JSON.parse(JSON.stringify(schema)))]),
);

const plans = [install(), upgrade({ transaction: [removal("nginx")], warnings: ["x"] })];
const plan = install();
const hash = canonicalHash(plan);
const { config, hash: configHash } = configOf();
const decided = evaluate({ plan, planHash: hash, config, configHash });
const { secret_key_hex: secret, ...publicPart } = generateKey();
const event = encodeLine(
  { kind: "trust_changed", actor: "root", argv: ["x"], details: { message: "m", n: 1 } },
  {
    sequence: 1,
    event_id: plan.plan_id,
    timestamp: "2026-11-30T00:00:00.000Z",
    host: "h",
    previous_hash: GENESIS_HASH,
  },
).event;
const result = {
  ...{
    schema_version: "1.0",
    execution_plan_id: plan.plan_id,
    plan_id: plan.plan_id,
    tool: "apt",
    argv: ["apt-get"],
  },
  ...{ state: "completed", exit_status: 0, code: null, message: null, actor: "ops", turn_at: null },
  ...{ started_at: "2026-11-30T00:00:00Z", ended_at: null, submitted_by_uid: 0, not_as_planned: [] },
  ...{
    changed_besides: [{ package: "a", architecture: "amd64", expected: null, found: "1" }],
    inverse: null,
  },
};
const request = {
  ...{
    number: 1,
    revision: 1,
    state: "open",
    submitted_at: "2026-11-30T00:00:00Z",
    expires_at: "2026-12-01T00:00:00Z",
  },
  ...{
    uid: 1000,
    user: null,
    reason: "web",
    tool: "apt",
    ecosystem: "apt",
    operation: "install",
    targets: ["nginx"],
  },
  ...{
    targets_left_out: 0,
    asked_plan_hash: hash,
    plan_id: plan.plan_id,
    plan_hash: hash,
    planned_at: plan.created_at,
  },
  ...{
    decision: "require_human",
    required_controls: ["human approval"],
    risk_score: 1,
    installed: 1,
    upgraded: 0,
  },
  ...{ removed: 0, downgraded: 0, approvals: [], approvals_required: 1, end: null },
};
const rejection = {
  ...{ schema_version: "1.0", rejection_id: plan.plan_id, signer: "alice", role: "approver", request: 1 },
  ...{
    request_hash: hash,
    reason: "no",
    rejected_at: "2026-11-30T00:00:00Z",
    signature: approvalOf(plan).signature,
  },
};

/** Aegis's own schema of each document, and good ones. */
const DOCUMENTS: Readonly<Record<SchemaName, { schema: v.GenericSchema; good: readonly unknown[] }>> = {
  "operation-plan": { schema: OperationPlan, good: plans },
  "plan-summary": {
    schema: PlanSummary,
    good: plans.map((one) => planSummary(one, hash, one === plans[0] ? decided : null)),
  },
  "plan-page": { schema: PlanPage, good: plans.map((one) => planPage(one, hash, 1)) },
  "ai-review": { schema: AiReview, good: [review()] },
  "policy-result": { schema: PolicyResult, good: [decided] },
  approval: { schema: Approval, good: [approvalOf(plan)] },
  "control-proof": { schema: ControlProof, good: [snapshot()] },
  "execution-plan": { schema: ExecutionPlan, good: [await execution()] },
  "execution-result": { schema: ResultSchema, good: [result] },
  request: { schema: RequestSummary, good: [request] },
  rejection: { schema: Rejection, good: [rejection] },
  "audit-event": { schema: AuditEvent, good: [event] },
  "policy-file": {
    schema: PolicyConfig,
    good: [
      {},
      {
        apt: { install: "allow", trusted_origins: [{ uri: "https://x/", fingerprint: "a".repeat(40) }] },
        npm: { minimum_age_days: 3 },
      },
    ],
  },
  "trusted-keys": {
    schema: TrustedKeysFile,
    good: [
      {},
      {
        key: [
          { id: "x", name: "n", public_key_hex: "ab", role: "approval", not_after: "2026-11-30T00:00:00Z" },
        ],
      },
    ],
  },
  "key-file": { schema: KeyFile, good: [{ ...publicPart, secret_key_hex: secret }] },
  "encrypted-key-file": {
    schema: EncryptedKeyFile,
    good: [{ ...publicPart, encryption: encryptSeed(Buffer.from(secret, "hex"), "four words and a hat") }],
  },
  "public-key-file": {
    schema: PublicKeyFile,
    good: [publicPart, { ...publicPart, name: "a", role: "approval" }],
  },
};
const NAMES = Object.keys(SCHEMA_NAMES).filter((name): name is SchemaName =>
  Object.hasOwn(SCHEMA_NAMES, name),
);

/** Why Aegis refuses a value, except for the checks that the JSON Schema names as not expressed; none for a good one. */
function expressed(name: SchemaName, value: unknown): string[] {
  const { issues = [] } = v.safeParse(DOCUMENTS[name].schema, value);
  return issues
    .filter(({ type, message }) => type !== "check" && !String(SCHEMAS[name]?.$comment).includes(message))
    .map(({ message }) => message);
}

const clone = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
type Tree = Record<string, unknown>;
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null;

/** Every object and array in a value. */
function nodes(value: unknown): Tree[] {
  return isTree(value) ? [value, ...Object.values(value).flatMap(nodes)] : [];
}

const WRONG = [null, true, -1, 1.5, 2 ** 53, "", "x", "\u0000", "x".repeat(70_000), [], [null], {}, { x: 1 }];

describe.each(NAMES)("%s", (name) => {
  const { good } = DOCUMENTS[name];
  const validate = validators[name];
  test("has a schema, which names itself and what it can't say", () => {
    const { $schema, $id, title, $comment } = SCHEMAS[name] ?? {};
    expect({ $schema, $id, title }).toEqual({
      $schema: "https://json-schema.org/draft/2020-12/schema",
      $id: `urn:aegis:schema:${name}`,
      title: SCHEMA_NAMES[name],
    });
    expect($comment).toContain("Signatures, hashes and whether");
    expect(JSON.stringify(SCHEMAS[name])).not.toContain("~before");
  });
  test("good documents are good to both", () => {
    for (const document of good) {
      expect(expressed(name, document)).toEqual([]);
      validate?.(clone(document));
      expect(validate?.errors ?? null).toBeNull();
    }
  });
  test("each field left out, wrong, or unknown: the same verdict", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...good),
        fc.nat(),
        fc.nat(),
        fc.constantFrom("drop", "add", ...WRONG),
        (document, at, which, how) => {
          const changed = clone(document);
          const all = nodes(changed);
          const node = all[at % all.length];
          const keys = Object.keys(node ?? {});
          const key = keys[which % keys.length];
          if (node === undefined) return;
          if (how === "add" && !Array.isArray(node)) node["unheard_of"] = 1;
          else if (key === undefined || how === "add") return;
          else if (how === "drop") delete node[key];
          // Named in every schema: Aegis takes a list for an object.
          else if (Array.isArray(how) && isTree(node[key]) && !Array.isArray(node[key])) return;
          else node[key] = how;
          const plain = clone(changed);
          expect([validate?.(plain), plain]).toEqual([expressed(name, plain).length === 0, plain]);
        },
      ),
      { numRuns: 400 },
    );
  });
});

/** What the checks in a schema say that are functions, which JSON Schema can't hold; `null` for one that says it by a function. */
function checksIn(schema: unknown, seen = new Set<unknown>()): (string | null)[] {
  if (!isTree(schema) || seen.has(schema)) return [];
  seen.add(schema);
  const own =
    schema["type"] === "check" ? [typeof schema["message"] === "string" ? schema["message"] : null] : [];
  const inner = ["entries", "item", "wrapped", "pipe", "options", "key", "value", "rest"].map(
    (name) => schema[name],
  );
  return [
    ...own,
    ...inner
      .flatMap((part) => (isTree(part) ? [part, ...Object.values(part)] : []))
      .flatMap((part) => checksIn(part, seen)),
  ];
}

test.each(NAMES)("every check of %s that is a function is named", (name) => {
  const checks = checksIn(DOCUMENTS[name].schema);
  const comment = String(SCHEMAS[name]?.$comment);
  expect(checks.filter((text) => !comment.includes(text === null ? "a check" : text))).toEqual([]);
  expect(comment.includes("Not expressed here")).toBe(checks.length > 0);
});

test("what is not expressed is named with the number of its places", () => {
  expect(String(SCHEMAS["execution-plan"]?.$comment)).toEndWith(
    'Not expressed here: check "not a real date" (19 places).',
  );
  expect(checksIn(OperationPlan).length).toBeGreaterThan(0);
});
