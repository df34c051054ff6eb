import { createHash } from "node:crypto";
import { canonicalize } from "json-canonicalize";
import { AegisError } from "./errors.ts";

/** Anything JSON can hold. Canonicalisation accepts nothing else. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const MAX_DEPTH = 64;
/** Most values in one document: a plan of 4,000 packages has a third of it. Bounds memory, which bytes alone don't. */
const MAX_VALUES = 400_000;

/** What a tree that JSON can't hold exactly is called: by how it came. */
type Code = "invalid_document" | "not_canonical";

/**
 * RFC 8785 canonical JSON of a plain tree.
 * @throws AegisError `invalid_document` for anything a JSON text could not have held exactly: undefined, functions,
 * class instances, unsafe integers, non-finite numbers, lone surrogates, or more than 64 levels.
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
 * Parses JSON that must be exactly its own canonical form: no duplicate keys, no other spelling, no trailing bytes.
 * @throws AegisError `not_canonical`
 */
export function parseCanonical(text: string): Json {
  const value = parseJson(text, "not_canonical");
  if (canonicalJson(value) !== text) {
    throw new AegisError(
      "not_canonical",
      "the document is not byte-for-byte RFC 8785 canonical JSON",
      "Use the file as aegis wrote it: not reformatted, with nothing added at its end.",
    );
  }
  return value;
}

/**
 * Parses JSON text into a plain tree.
 * @throws AegisError with `code` when it is not JSON, or not representable exactly.
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

/** Counts what can begin a value, before anything is built: each `[`, `{` and `,`, those inside strings too. */
function countsTooMany(text: string): boolean {
  // Three bytes a value at the least, `[` and `0` and `,`: most texts need no count.
  if (text.length < 2 * MAX_VALUES) return false;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x2c || c === 0x5b || c === 0x7b) count++;
  }
  return count > MAX_VALUES;
}

/**
 * A fresh plain copy of the tree, every node checked. The copy also keeps a shared object from being mistaken for a
 * cycle by the canonicaliser. `trail` is the way to the node, for the message.
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
    // Assigned, this one name would set the prototype instead of a member.
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
