import { createHash } from "node:crypto";
import * as v from "valibot";
import { type Json, sha256Hex } from "./canonical.ts";
import { SCHEMA_VERSION } from "./doc.ts";
import { AegisError } from "./errors.ts";

/*
 * An audit event and the line it is written as. A line is printable ASCII, at most MAX_LINE bytes, and always ends
 *
 *     …,"previous_hash":"<64 hex>","event_hash":"<64 hex>"}
 *
 * event_hash is the SHA-256 of the line's bytes up to the comma before "event_hash". It is at a fixed distance from the
 * end, so what it covers is determined by counting, not parsing, and no text inside an event can shift it. The line's
 * bytes without the newline are also the leaf hashed by a Merkle tree over the log.
 */

export const AUDIT_KINDS = [
  "plan_created",
  "review_completed",
  "review_failed",
  "policy_evaluated",
  "plan_signed",
  "approval_signed",
  "execution_denied",
  "execution_started",
  "execution_completed",
  "execution_interrupted",
  "execution_overdue",
  "unmanaged_change",
  "repository_drift",
  "monitor_findings",
  "monitor_baseline",
  "checkpoint",
  "log_repaired",
  "log_rotated",
  "requests_refused",
  "trust_changed",
  "break_glass_used",
  "break_glass_acknowledged",
  "request_submitted",
  "request_approved",
  "request_lapsed",
  "request_rejected",
  "request_withdrawn",
  "request_expired",
  "request_applied",
  "request_denied",
] as const;
export type AuditKind = (typeof AUDIT_KINDS)[number];

/** `previous_hash` of the first event. */
export const GENESIS_HASH = "0".repeat(64);

/** Longest line in bytes, without its newline. */
export const MAX_LINE = 16 * 1024;

/** Limit on each field's bytes in the line. Together with the fixed parts they stay below MAX_LINE. */
const ROOM = { host: 300, actor: 600, id: 160, decision: 80, word: 600, argv: 5000, details: 8000 } as const;
const MAX_NESTING = 16;

/** Length of what follows the bytes covered by event_hash. */
export const HASH_TAIL = `,"event_hash":"${GENESIS_HASH}"}`.length;
const PREVIOUS_TAIL = `,"previous_hash":"${GENESIS_HASH}"`.length;
/** Length of the end of a line, which is fixed except for the two hashes. */
export const LINE_TAIL = PREVIOUS_TAIL + HASH_TAIL;

const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a SHA-256 in lower-case hex"));
const text = v.nullable(v.string());

/** An event as read back. Members that don't apply are null, never missing. */
export const AuditEvent = v.object({
  schema_version: v.pipe(v.string(), v.regex(/^1\.\d{1,4}$/, "unknown schema version")),
  sequence: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  event_id: v.string(),
  timestamp: v.string(),
  host: v.string(),
  kind: v.picklist(AUDIT_KINDS),
  /** Who did it, as far as verified; `details` has unverified claims. */
  actor: text,
  plan_id: text,
  execution_id: text,
  argv: v.nullable(v.array(v.string())),
  decision: text,
  exit_status: v.nullable(v.pipe(v.number(), v.safeInteger())),
  stdout_sha256: v.nullable(sha256),
  stderr_sha256: v.nullable(sha256),
  details: v.nullable(v.record(v.string(), v.unknown())),
  previous_hash: sha256,
  event_hash: sha256,
});
export type AuditEvent = v.InferOutput<typeof AuditEvent>;

/** The caller's part of an event; the log adds the rest. Text of any length and content is safe. */
export interface NewAuditEvent {
  kind: AuditKind;
  actor?: string | null | undefined;
  plan_id?: string | null | undefined;
  execution_id?: string | null | undefined;
  argv?: readonly string[] | null | undefined;
  decision?: string | null | undefined;
  exit_status?: number | null | undefined;
  stdout_sha256?: string | null | undefined;
  stderr_sha256?: string | null | undefined;
  details?: Readonly<Record<string, unknown>> | null | undefined;
}

/** The newest event of a log. Kept elsewhere, it later proves that nothing was cut off or rewritten. */
export interface LogHead {
  sequence: number;
  /** event_hash of the newest event. */
  hash: string;
  /** RFC 3339 UTC. */
  timestamp: string;
}

/** Fields added by the log. */
export interface Placement {
  sequence: number;
  event_id: string;
  timestamp: string;
  host: string;
  previous_hash: string;
}

/**
 * The line of an event, with newline, and the event as it will be read back: bounded, well-formed.
 * @throws AegisError `internal` for an event that could not be read back, for example with a malformed digest
 */
export function encodeLine(event: NewAuditEvent, at: Placement): { event: AuditEvent; line: string } {
  const clip = (value: string | null | undefined, room: number) =>
    value == null ? null : clipText(value, room);
  const body = encode({
    schema_version: SCHEMA_VERSION,
    sequence: at.sequence,
    event_id: at.event_id,
    timestamp: at.timestamp,
    host: clipText(at.host, ROOM.host),
    kind: event.kind,
    actor: clip(event.actor, ROOM.actor),
    plan_id: clip(event.plan_id, ROOM.id),
    execution_id: clip(event.execution_id, ROOM.id),
    argv: event.argv == null ? null : boundArgv(event.argv),
    decision: clip(event.decision, ROOM.decision),
    exit_status: event.exit_status ?? null,
    stdout_sha256: event.stdout_sha256 ?? null,
    stderr_sha256: event.stderr_sha256 ?? null,
    details: event.details == null ? null : boundDetails(event.details),
    previous_hash: at.previous_hash,
  }).slice(0, -1);
  const line = `${body},"event_hash":"${sha256Hex(body)}"}`;
  const decoded = decodeLine(Buffer.from(line, "latin1"));
  if (decoded.fault !== null) throw new AegisError("internal", `bad audit event: ${decoded.fault}`);
  return { event: decoded.event, line: `${line}\n` };
}

export type Decoded = { event: AuditEvent; fault: null } | { event: null; fault: string };

/** Parses a line without its newline and checks it against its own hash. `fault` is the problem. */
export function decodeLine(line: Buffer): Decoded {
  if (line.length > MAX_LINE) return fault(`longer than ${MAX_LINE} bytes`);
  const { body, event_hash } = splitLine(line);
  if (event_hash === null) return fault("not in the format of an audit log line");
  if (event_hash !== sha256Hex(body)) return fault("event_hash does not match the line's bytes");
  let tree: unknown;
  try {
    tree = JSON.parse(line.toString("latin1"));
  } catch {
    return fault("not JSON");
  }
  const parsed = v.safeParse(AuditEvent, tree, { abortEarly: true });
  if (parsed.success) return { event: parsed.output, fault: null };
  return fault(`${v.getDotPath(parsed.issues[0]) ?? "(event)"}: ${parsed.issues[0].message}`);
}

function fault(reason: string): Decoded {
  return { event: null, fault: reason };
}

/** The bytes covered by event_hash, and the two hashes; null if the line has another format. */
export function splitLine(line: Buffer): {
  body: Buffer;
  previous_hash: string | null;
  event_hash: string | null;
} {
  const tail = /^,"previous_hash":"([0-9a-f]{64})","event_hash":"([0-9a-f]{64})"\}$/.exec(
    line.toString("latin1", Math.max(0, line.length - LINE_TAIL)),
  );
  return {
    body: line.subarray(0, Math.max(0, line.length - HASH_TAIL)),
    previous_hash: tail?.[1] ?? null,
    event_hash: tail?.[2] ?? null,
  };
}

/** JSON in printable ASCII: safe on a terminal, and one byte per character. */
function encode(value: Json): string {
  return JSON.stringify(value).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** `text` made well-formed and cut to `room` bytes in the line; a cut text states its original length. */
function clipText(text: string, room: number): string {
  const full = text.toWellFormed();
  if (full.length <= room && encode(full).length <= room) return full;
  const marker = `... [cut, ${full.length} characters]`;
  let left = room - marker.length - 2;
  let kept = "";
  for (const character of full) {
    left -= encode(character).length - 2;
    if (left < 0) break;
    kept += character;
  }
  return kept + marker;
}

/** An argv cut to its limit. Words that don't fit are replaced by their number and the digest of the complete argv. */
function boundArgv(argv: readonly string[]): string[] {
  const words = argv.map((word) => clipText(word, ROOM.word));
  if (encode(words).length <= ROOM.argv) return words;
  let left = ROOM.argv - 128;
  const kept: string[] = [];
  for (const word of words) {
    left -= encode(word).length + 1;
    if (left < 0) break;
    kept.push(word);
  }
  const digest = createHash("sha256");
  for (const [n, word] of argv.entries())
    digest.update(`${n === 0 ? "[" : ","}${encode(word.toWellFormed())}`);
  const all = digest.update("]").digest("hex");
  return [...kept, `... [${words.length - kept.length} more words, sha256 of all ${all}]`];
}

/**
 * Details cut to their limit. The largest members are replaced first, each by its size and digest, so that a long list
 * doesn't crowd out the error code.
 */
function boundDetails(details: Readonly<Record<string, unknown>>): { [key: string]: Json } {
  const tree = plainObject(details, 0);
  let size = encode(tree).length;
  if (size <= ROOM.details) return tree;
  const digestOfAll = digestOf(tree);
  const bySize = Object.keys(tree).sort(
    (a, b) => encode(tree[b] ?? null).length - encode(tree[a] ?? null).length,
  );
  for (const key of bySize) {
    const value = tree[key] ?? null;
    const digest = digestOf(value);
    size += encode(digest).length - encode(value).length;
    tree[key] = digest;
    if (size <= ROOM.details) return tree;
  }
  return digestOfAll;
}

function digestOf(value: Json): { omitted_bytes: number; omitted_sha256: string } {
  const encoded = encode(value);
  return { omitted_bytes: encoded.length, omitted_sha256: sha256Hex(encoded) };
}

/** Any value as plain JSON. Nothing is refused: an event is recorded whatever was passed. */
function plainValue(value: unknown, depth: number): Json {
  if (value === null || typeof value === "boolean") return value;
  if (typeof value === "string") return value.toWellFormed();
  if (typeof value === "number") {
    return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))
      ? value
      : String(value);
  }
  if (typeof value !== "object") return String(value);
  if (depth >= MAX_NESTING) return "[nested too deeply]";
  if (Array.isArray(value)) return value.map((item) => plainValue(item, depth + 1));
  return plainObject(value, depth + 1);
}

function plainObject(value: object, depth: number): { [key: string]: Json } {
  const copy: { [key: string]: Json } = Object.create(null);
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) copy[key.toWellFormed()] = plainValue(item, depth);
  }
  return copy;
}
