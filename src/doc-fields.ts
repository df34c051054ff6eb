import * as v from "valibot";
import { UUID } from "./canonical.ts";

/* The field types shared by all documents: bounded, and exact where a grammar is known. */

export const schemaVersion = v.pipe(v.string(), v.regex(/^1\.\d{1,4}$/, "unknown schema version"));
export const text = v.pipe(v.string(), v.maxLength(64 * 1024));
export const short = v.pipe(v.string(), v.maxLength(1024));
export const name = v.pipe(v.string(), v.minLength(1), v.maxLength(512));
export const names = v.pipe(v.array(name), v.maxLength(20_000));
export const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a SHA-256 in lower-case hex"));
export const uuid = v.pipe(v.string(), v.regex(UUID, "not a UUID"));
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** RFC 3339 in UTC with a literal `Z`. Other offsets are refused so that string order is time order. */
export const timestamp = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/, "not an RFC 3339 UTC timestamp"),
  v.check((s) => Number.isFinite(Date.parse(s)), "not a real date"),
);
export const argv = v.pipe(v.array(v.pipe(v.string(), v.maxLength(4096))), v.minLength(1), v.maxLength(4096));
export const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
export const base64 = v.pipe(v.string(), v.regex(BASE64, "not base64"), v.maxLength(256));
