import { type JsonSchema, toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import { AuditEvent } from "./audit-event.ts";
import { SCHEMA_NAMES, type SchemaName } from "./cmd-table.ts";
import { AiReview, Approval, ControlProof, ExecutionPlan, PolicyResult } from "./doc.ts";
import { OperationPlan } from "./doc-plan.ts";
import { Rejection, RequestSummary } from "./doc-request.ts";
import { ResultSchema } from "./doc-result.ts";
import { EncryptedKeyFile, KeyFile, PublicKeyFile } from "./key-file.ts";
import { TrustedKeysFile } from "./key-trusted-keys.ts";
import { PlanPage, PlanSummary } from "./plan-summary.ts";
import { PolicyConfig } from "./policy-config.ts";

/*
 * JSON Schemas (draft 2020-12) of the documents, made from the schemas that Aegis itself checks them with. What JSON Schema can't say
 * is named: in `$comment` at its place, and all together in the `$comment` of the whole.
 */

/** Of a TOML file the schema is that of the tree it stands for. */
const SCHEMAS: Readonly<Record<SchemaName, v.GenericSchema>> = {
  "operation-plan": OperationPlan,
  "plan-summary": PlanSummary,
  "plan-page": PlanPage,
  "ai-review": AiReview,
  "policy-result": PolicyResult,
  approval: Approval,
  "control-proof": ControlProof,
  "execution-plan": ExecutionPlan,
  "execution-result": ResultSchema,
  request: RequestSummary,
  rejection: Rejection,
  "audit-event": AuditEvent,
  "policy-file": PolicyConfig,
  "trusted-keys": TrustedKeysFile,
  "key-file": KeyFile,
  "encrypted-key-file": EncryptedKeyFile,
  "public-key-file": PublicKeyFile,
};

/** What holds for every document and no schema says. */
const ALWAYS =
  "Lengths are counted in UTF-16 code units, which JSON Schema counts in characters. A list in place of an object is refused here, while Aegis takes it for an object with the keys 0, 1 and so on. Signatures, hashes and whether two documents belong together are checked apart from this.";

/** What is checked of some documents apart from their schema. */
const BESIDES: Readonly<Partial<Record<SchemaName, string>>> = {
  "audit-event": "A line is at most 16 KiB of printable ASCII; its hash covers the bytes before event_hash.",
  "trusted-keys":
    "Each entry has one of public_key_hex (lower-case hex of a point of the curve that is not of small order) and ssh_public_key (for approvals only; verify_required with a security key only); no placeholders; no key in two roles, no id twice. Times are TOML's, with an offset.",
  "key-file": "The public key must belong to the secret.",
  "encrypted-key-file": "The public key must belong to the secret.",
};

/**
 * The JSON Schema of a document. Where a value is normalised before it is checked further, JSON Schema sees the value as it was written:
 * what is checked after that is named only.
 */
function jsonSchemaOf(name: SchemaName): JsonSchema {
  const unsaid = new Map<string, number>();
  const remark = (text: string): string => {
    unsaid.set(text, (unsaid.get(text) ?? 0) + 1);
    return `not expressed here: ${text}`;
  };
  const schema = toJsonSchema(SCHEMAS[name], {
    target: "draft-2020-12",
    overrideAction({ valibotAction, jsonSchema, errors }) {
      const schema: Noted = jsonSchema;
      const normalises = valibotAction.kind === "transformation";
      const before = schema[BEFORE];
      if (errors === undefined && before === undefined) return undefined;
      const rule = normalises ? "the value is normalised first" : ruleOf(valibotAction);
      const $comment = also(schema.$comment, remark(rule));
      if (before !== undefined) return noted({ ...before, [BEFORE]: before, $comment });
      return noted({ ...schema, ...(normalises ? { [BEFORE]: schema } : {}), $comment });
    },
  });
  const listed = [...unsaid].map(([text, places]) => (places === 1 ? text : `${text} (${places} places)`));
  const plain: JsonSchema = JSON.parse(
    JSON.stringify(schema, (key, value) => (key === BEFORE ? undefined : value)),
  );
  const { $schema, ...rest } = plain;
  return {
    ...($schema === undefined ? {} : { $schema }),
    $id: `urn:aegis:schema:${name}`,
    title: SCHEMA_NAMES[name],
    $comment: [
      ALWAYS,
      ...(BESIDES[name] === undefined ? [] : [BESIDES[name]]),
      ...(listed.length === 0 ? [] : [`Not expressed here: ${listed.join("; ")}.`]),
    ].join(" "),
    ...rest,
  };
}

/** Key of a schema as it was before its value was normalised. Taken out at the end. */
const BEFORE = "~before";
type Noted = JsonSchema & { [BEFORE]?: JsonSchema };

/** The same object, as a plain JSON Schema. */
function noted(schema: Noted): JsonSchema {
  return schema;
}

/** Every schema by name. */
export function allJsonSchemas(): Record<string, JsonSchema> {
  return Object.fromEntries(
    Object.keys(SCHEMAS)
      .filter((name): name is SchemaName => Object.hasOwn(SCHEMAS, name))
      .map((name) => [name, jsonSchemaOf(name)]),
  );
}

function also(before: string | undefined, text: string): string {
  return before === undefined ? text : `${before}; ${text}`;
}

/** What a check says of values that break it, else what kind of check it is. */
function ruleOf(action: { type: string }): string {
  const message = "message" in action && typeof action.message === "string" ? action.message : null;
  return message === null
    ? `a ${action.type.replaceAll("_", " ")}`
    : `${action.type.replaceAll("_", " ")} "${message}"`;
}
