import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";

/*
 * The varlink wire format: JSON objects, each ending in one NUL byte, over a stream.
 * https://varlink.org/Method-Call
 */

/** Most bytes one message may have, its NUL not counted: 4 MiB of payload and a little for the envelope. */
export const MAX_MESSAGE = 4 * 1024 * 1024 + 4096;

/** A JSON object; valibot's own object schemas let arrays through. */
const object = v.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "not an object",
);
// Every optional member is nullable in the specification: null means absent.
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
/** A method call. Absent members of the message have their defaults here. */
export type Call = v.InferOutput<typeof CallSchema>;

const ReplySchema = v.pipe(
  object,
  v.strictObject({
    parameters: v.nullish(object, {}),
    continues: flag,
    error: v.nullish(v.pipe(v.string(), v.maxLength(256)), null),
  }),
);
/** One answer to a call; the last one does not continue. `error` is the full name of a varlink error. */
export type Reply = v.InferOutput<typeof ReplySchema>;

/** A varlink error that is no refusal of ours: those of org.varlink.service. `name` is the full name. */
export class VarlinkError extends Error {
  readonly parameters: Readonly<Record<string, unknown>>;

  constructor(name: string, parameters: Record<string, unknown>) {
    super(`${name} ${JSON.stringify(parameters)}`);
    this.name = name;
    this.parameters = parameters;
  }
}

/**
 * Cuts a byte stream into messages. Every byte is looked at and copied once however small the pieces are, and at most
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

  /** Bytes of the message that has begun and not ended. */
  get pending(): number {
    return this.#length;
  }

  /** Bytes of memory that it takes up. */
  get held(): number {
    return this.#buffer.length;
  }

  /**
   * The texts of the messages that `chunk` completes. Read it to its end: what stands before a fault is yielded first,
   * so the result does not depend on how the stream was cut.
   * @throws AegisError `protocol` for a message over the limit or not UTF-8, and ever after
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
    this.#failed = new AegisError("protocol", why, "Is this really an aegis socket and an aegis client?");
    return this.#failed;
  }
}

/** The bytes of one message. JSON text never holds a NUL byte, so the end is unmistakable. */
export function encodeMessage(message: object): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\0`);
}

/**
 * Reads a call strictly: the members of the specification and no others.
 * @throws AegisError `protocol`
 */
export function parseCall(text: string): Call {
  const call = parseMessage(CallSchema, text, "call");
  if (call.upgrade) throw new AegisError("protocol", "this service offers no upgrade of a connection");
  if (call.more && call.oneway)
    throw new AegisError("protocol", "a call can't ask for many replies and for none");
  return call;
}

/**
 * Reads a reply strictly.
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
    throw new AegisError("protocol", `a varlink ${what} could not be read: ${messageOf(error)}`);
  }
  const result = v.safeParse(schema, tree, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new AegisError("protocol", `not a varlink ${what}: ${v.getDotPath(issue) ?? ""} ${issue.message}`);
}
