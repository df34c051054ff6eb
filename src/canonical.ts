import { createHash } from "node:crypto";
import { canonicalize } from "json-canonicalize";
import * as v from "valibot";
import { AegisError } from "./errors.ts";

/** Any JSON value, the only input canonicalisation accepts. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A UUID in its one canonical form, lower case (RFC 9562, section 4). Every id of a document or an execution is one. */
export const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const MAX_DEPTH = 64;
/** Limit on values per document; a plan of 4,000 packages has a third of it. The byte limit alone does not bound memory. */
const MAX_VALUES = 400_000;

/** Error code for a tree JSON can't represent exactly; depends on where the tree came from. */
type Code = "invalid_document" | "not_canonical";

/**
 * Schema of an object whose keys are names that others chose. valibot's `record` leaves out `__proto__`, `prototype` and
 * `constructor`, which are packages and files too.
 */
export const anyKeys = <S extends v.GenericSchema>(schema: S) =>
  v.pipe(
    v.custom<Readonly<Record<string, v.InferInput<S>>>>(isTable, "not an object"),
    v.transform((table) => new Map<unknown, unknown>(Object.entries(table))),
    v.map(v.string(), schema),
    v.transform((table): Record<string, v.InferOutput<S>> => Object.fromEntries(table)),
  );

function isTable(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a text is a {@link UUID} or its first characters, at least `least` of them: 8 are enough to name a document. */
export function isUuidPrefix(text: string, least = 8): boolean {
  const form = "########-####-####-####-############".slice(0, text.length);
  return text.length >= least && text.replace(/[0-9a-f]/g, "#") === form;
}

/**
 * RFC 8785 canonical JSON of a plain tree.
 * @throws AegisError `invalid_document` for anything JSON can't represent exactly: undefined, functions, class
 * instances, unsafe integers, non-finite numbers, lone surrogates, or more than 64 levels.
 */
export function canonicalJson(value: unknown): string {
  return canonicalize(plain(value, "invalid_document", []));
}

/** SHA-256, as 64 lower-case hex digits, of the canonical JSON of `value`. */
export function canonicalHash(value: unknown): string {
  return sha256Hex(canonicalJson(value));
}

/** SHA-256 as 64 lower-case hex digits. Strings are hashed as UTF-8. */
export function sha256Hex(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/**
 * Parses JSON that must be in canonical form: no duplicate keys, no other spelling, no trailing bytes.
 * @throws AegisError `not_canonical`
 */
export function parseCanonical(text: string): Json {
  const value = parseJson(text, "not_canonical");
  if (canonicalJson(value) !== text) {
    throw new AegisError(
      "not_canonical",
      "the document is not byte-for-byte RFC 8785 canonical JSON",
      "Use the file exactly as aegis wrote it: don't reformat it or append to it.",
    );
  }
  return value;
}

/**
 * Parses JSON text into a plain tree.
 * @throws AegisError with `code` for text that is not JSON or can't be represented exactly
 */
export function parseJson(text: string, code: Code = "invalid_document"): Json {
  if (countsTooMany(text)) throw new AegisError(code, `more than ${MAX_VALUES} values in one document`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new AegisError(code, "not valid JSON");
  }
  return plain(value, code, []);
}

/** Upper bound on the values, before anything is allocated: counts `[`, `{` and `,`, including those inside strings. */
function countsTooMany(text: string): boolean {
  // Each counted character comes with at least one more, so shorter texts need no count.
  if (text.length < 2 * MAX_VALUES) return false;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x2c || c === 0x5b || c === 0x7b) count++;
  }
  return count > MAX_VALUES;
}

/**
 * A checked copy of the tree. Copying also keeps an object referenced twice from looking like a cycle to the
 * canonicaliser. `trail` is the path to the node, for the message.
 */
function plain(value: unknown, code: Code, trail: (string | number)[]): Json {
  const notPlain = (why: string) => new AegisError(code, `${pathOf(trail)}: ${why} can't be hashed`);
  if (trail.length > MAX_DEPTH) throw notPlain(`nested deeper than ${MAX_DEPTH} levels`);
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      if (!value.isWellFormed()) throw notPlain("a string with a lone surrogate");
      return value;
    case "number":
      if (!Number.isFinite(value)) throw notPlain("a number that is not finite");
      if (Number.isInteger(value) && !Number.isSafeInteger(value)) throw notPlain("an integer beyond 2^53");
      return value;
    case "object":
      break;
    default:
      throw notPlain(`a value of type ${typeof value}`);
  }
  if (value === null) return null;
  if (Array.isArray(value)) return Array.from(value, (item, i) => below(item, code, trail, i));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) throw notPlain("not a plain object");
  const copy: { [key: string]: Json } = {};
  for (const [key, item] of Object.entries(value)) {
    if (!key.isWellFormed()) throw notPlain("a key with a lone surrogate");
    const checked = below(item, code, trail, key);
    // Plain assignment would set the prototype.
    if (key === "__proto__") Object.defineProperty(copy, key, { value: checked, enumerable: true });
    else copy[key] = checked;
  }
  return copy;
}

function below(value: unknown, code: Code, trail: (string | number)[], step: string | number): Json {
  trail.push(step);
  const checked = plain(value, code, trail);
  trail.pop();
  return checked;
}

/** `$.a.b[3]` */
function pathOf(trail: readonly (string | number)[]): string {
  return `$${trail.map((step) => (typeof step === "number" ? `[${step}]` : `.${step}`)).join("")}`;
}

/** Compares by code unit: the same order on every host and in every locale. */
export function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
