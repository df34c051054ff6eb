import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";

/*
 * The varlink wire format: JSON objects, each ending in one NUL byte, over a stream.
 * https://varlink.org/Method-Call
 */

/** Size limit of one message in bytes, without its NUL: 4 MiB of payload plus the envelope. */
export const MAX_MESSAGE = 4 * 1024 * 1024 + 4096;

/** Size limit of one reply: the documents of a request come back with what was added since, its approvals. */
export const MAX_REPLY = MAX_MESSAGE + 1024 * 1024;

/** A JSON object; valibot's object schemas accept arrays. */
const object = v.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "not an object",
);
// In the specification every optional member is nullable; null means absent.
const flag = v.nullish(v.boolean(), false);
const CallSchema = v.pipe(
  object,
  v.strictObject({
    method: v.pipe(v.string(), v.maxLength(256)),
    parameters: v.nullish(object, {}),
    more: flag,
    oneway: flag,
    upgrade: flag,
  }),
);
/** A method call; absent members have their defaults. */
export type Call = v.InferOutput<typeof CallSchema>;

const ReplySchema = v.pipe(
  object,
  v.strictObject({
    parameters: v.nullish(object, {}),
    continues: flag,
    error: v.nullish(v.pipe(v.string(), v.maxLength(256)), null),
  }),
);
/** A reply to a call; the last one does not continue. `error` is the full name of a varlink error. */
export type Reply = v.InferOutput<typeof ReplySchema>;

/** A varlink error other than our Refused: those of org.varlink.service. `name` is the full name. */
export class VarlinkError extends Error {
  readonly parameters: Readonly<Record<string, unknown>>;

  constructor(name: string, parameters: Record<string, unknown>) {
    super(`${name} ${JSON.stringify(parameters)}`);
    this.name = name;
    this.parameters = parameters;
  }
}

/**
 * Splits a byte stream into messages. Every byte is scanned and copied once, however small the pieces, and at most
 * `limit` bytes are kept.
 */
export class MessageDecoder {
  readonly #limit: number;
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;
  #failed: AegisError | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes of the incomplete message. */
  get pending(): number {
    return this.#length;
  }

  /** Bytes of memory in use. */
  get held(): number {
    return this.#buffer.length;
  }

  /**
   * The texts of the messages completed by `chunk`. Consume it fully: messages before a fault are yielded first, so the
   * result does not depend on how the stream was split.
   * @throws AegisError `protocol` for a message over the limit or not UTF-8, and on every later call
   */
  *push(chunk: Uint8Array): Generator<string> {
    if (this.#failed !== null) throw this.#failed;
    for (let start = 0; ; ) {
      const end = chunk.indexOf(0, start);
      this.#append(chunk.subarray(start, end === -1 ? chunk.length : end));
      if (end === -1) return;
      yield this.#take();
      start = end + 1;
    }
  }

  #append(piece: Uint8Array): void {
    const length = this.#length + piece.length;
    if (length > this.#limit) throw this.#fail(`a message is larger than ${this.#limit} bytes`);
    if (length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(
        Math.min(this.#limit, Math.max(length, this.#buffer.length * 2, 4096)),
      );
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(piece, this.#length);
    this.#length = length;
  }

  #take(): string {
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw this.#fail("a message is not UTF-8");
    }
  }

  #fail(why: string): AegisError {
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    this.#failed = new AegisError(
      "protocol",
      why,
      "Check that both ends are aegis: the socket's path, and the client.",
    );
    return this.#failed;
  }
}

/** The bytes of one message. JSON text never contains a NUL byte, so the end is unambiguous. */
export function encodeMessage(message: object): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\0`);
}

/**
 * Parses a call strictly: only the members in the specification.
 * @throws AegisError `protocol`
 */
export function parseCall(text: string): Call {
  const call = parseMessage(CallSchema, text, "call");
  if (call.upgrade) throw new AegisError("protocol", "this service does not support upgrading a connection");
  if (call.more && call.oneway) throw new AegisError("protocol", "a call can't have both more and oneway");
  return call;
}

/**
 * Parses a reply strictly.
 * @throws AegisError `protocol`
 */
export function parseReply(text: string): Reply {
  return parseMessage(ReplySchema, text, "reply");
}

function parseMessage<S extends v.GenericSchema>(schema: S, text: string, what: string): v.InferOutput<S> {
  let tree: unknown;
  try {
    tree = parseJson(text);
  } catch (error) {
    throw new AegisError("protocol", `can't parse a varlink ${what}: ${messageOf(error)}`);
  }
  const result = v.safeParse(schema, tree, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new AegisError("protocol", `not a varlink ${what}: ${v.getDotPath(issue) ?? ""} ${issue.message}`);
}
