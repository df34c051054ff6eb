import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { encodeMessage, MessageDecoder, parseCall, parseReply, VarlinkError } from "../src/wire.ts";
import { errorReply, readCall, replyError } from "../src/wire-executor.ts";
import { EXECUTOR_IDL, REVIEWER_IDL, SERVICE_IDL } from "../src/wire-idl.ts";

/** Everything decoded from a stream given in pieces, with a fault last. */
function decode(pieces: readonly Uint8Array[], limit: number): string[] {
  const decoder = new MessageDecoder(limit);
  const out: string[] = [];
  try {
    for (const piece of pieces) for (const text of decoder.push(piece)) out.push(`message ${text}`);
    out.push(`pending ${decoder.pending}`);
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    out.push(`${error.code} ${error.message}`);
  }
  return out;
}

/** `bytes` split at the given offsets, in any order and possibly out of range. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => Math.min(place, bytes.length)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

const stream = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.array(fc.constantFrom(0, 0, 65, 0xc3, 0xa4, 0xff), { maxLength: 200 }).map((a) => new Uint8Array(a)),
);

describe("framing", () => {
  test("property: a stream decodes the same however it is split", () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.nat(200), { maxLength: 20 }),
        fc.integer({ min: 1, max: 64 }),
        (bytes, places, limit) => {
          expect(decode(cut(bytes, places), limit)).toEqual(decode([bytes], limit));
        },
      ),
    );
  });

  test("property: encoding round-trips", () => {
    fc.assert(
      fc.property(fc.array(fc.dictionary(fc.string(), fc.jsonValue())), (objects) => {
        const bytes = Buffer.concat(objects.map(encodeMessage));
        const texts = [...new MessageDecoder(1 << 20).push(bytes)];
        expect(texts.map((text) => JSON.parse(text))).toEqual(JSON.parse(JSON.stringify(objects)));
      }),
    );
  });

  test("a message at the limit passes; one more byte is refused and nothing is read after it", () => {
    const decoder = new MessageDecoder(4);
    expect([...decoder.push(Buffer.from("abcd\0"))]).toEqual(["abcd"]);
    expect(() => [...decoder.push(Buffer.from("abcde"))]).toThrow("larger than 4 bytes");
    expect(() => [...decoder.push(Buffer.from("ok\0"))]).toThrow("larger than 4 bytes");
  });

  test("four million pieces of one byte are copied a bounded number of times", () => {
    const size = 4_000_000;
    let copied = 0;
    const set = Uint8Array.prototype.set;
    Uint8Array.prototype.set = function (source, offset) {
      copied += source.length;
      set.call(this, source, offset);
    };
    try {
      const decoder = new MessageDecoder(size);
      const byte = Buffer.from("x");
      for (let i = 0; i < size; i++) for (const _ of decoder.push(byte)) throw new Error("no end was sent");
      expect(decoder.pending).toBe(size);
    } finally {
      Uint8Array.prototype.set = set;
    }
    expect(copied).toBeGreaterThanOrEqual(size);
    expect(copied).toBeLessThan(4 * size);
  });
});

describe("messages", () => {
  const BAD_CALLS: [string, string][] = [
    ["empty", ""],
    ["not JSON", "{"],
    ["not an object", "[]"],
    ["null", "null"],
    ["a byte order mark", '\ufeff{"method":"a.B"}'],
    ["no method", "{}"],
    ["method not a string", '{"method":1}'],
    ["an overlong method", JSON.stringify({ method: "a".repeat(257) })],
    ["parameters not an object", '{"method":"a.B","parameters":[]}'],
    ["more not a boolean", '{"method":"a.B","more":1}'],
    ["an unknown member", '{"method":"a.B","uid":0}'],
    ["__proto__", '{"method":"a.B","__proto__":{"more":true}}'],
    ["upgrade", '{"method":"a.B","upgrade":true}'],
    ["more and oneway", '{"method":"a.B","more":true,"oneway":true}'],
    ["too deep", `{"method":"a.B","parameters":{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}}`],
    ["a lone surrogate", '{"method":"a.B","parameters":{"a":"\\ud800"}}'],
  ];
  test.each(BAD_CALLS)("a call is refused: %s", (_, text) => {
    expect(() => parseCall(text)).toThrow(expect.objectContaining({ code: "protocol" }));
  });

  test.each([
    '{"method":"a.B"}',
    '{"method":"a.B","parameters":null,"more":null,"oneway":null,"upgrade":null}',
  ])("absent and null members have their defaults: %s", (text) => {
    expect({ ...parseCall(text) }).toEqual({
      method: "a.B",
      parameters: {},
      more: false,
      oneway: false,
      upgrade: false,
    });
  });

  test.each(["[]", '{"continues":1}', '{"error":1}', '{"parameters":1}', '{"x":1}', "nonsense"])(
    "a reply is refused: %s",
    (text) => {
      expect(() => parseReply(text)).toThrow(expect.objectContaining({ code: "protocol" }));
    },
  );

  test("property: no text throws anything but an AegisError", () => {
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      fc.record({ method: fc.string(), parameters: fc.jsonValue() }).map((o) => JSON.stringify(o)),
    );
    fc.assert(
      fc.property(text, (message) => {
        for (const parse of [
          (t: string) => readCall(parseCall(t)),
          (t: string) => replyError(parseReply(t)),
        ]) {
          try {
            parse(message);
          } catch (error) {
            expect(error instanceof AegisError || error instanceof VarlinkError).toBe(true);
          }
        }
      }),
    );
  });
});

describe("calls of the interfaces", () => {
  const ask = (method: string, parameters: object = {}) =>
    readCall(parseCall(JSON.stringify({ method, parameters })));
  const BAD: [string, object, string, object][] = [
    ["nothing", {}, "InterfaceNotFound", { interface: "" }],
    ["org.example.X", {}, "InterfaceNotFound", { interface: "org.example" }],
    ["io.aegis.Executor.Nope", {}, "MethodNotFound", { method: "Nope" }],
    ["io.aegis.Executor.constructor", {}, "MethodNotFound", { method: "constructor" }],
    ["org.varlink.service.Nope", {}, "MethodNotFound", { method: "Nope" }],
    ["org.varlink.service.GetInfo", { x: 1 }, "InvalidParameter", { parameter: "x" }],
    ["org.varlink.service.GetInterfaceDescription", {}, "InvalidParameter", { parameter: "interface" }],
    [
      "org.varlink.service.GetInterfaceDescription",
      { interface: "a.b" },
      "InterfaceNotFound",
      { interface: "a.b" },
    ],
    ["io.aegis.Executor.Apply", {}, "InvalidParameter", { parameter: "plan" }],
    ["io.aegis.Executor.Apply", { plan: {} }, "InvalidParameter", { parameter: "plan" }],
    ["io.aegis.Executor.Apply", { plan: "", root: true }, "InvalidParameter", { parameter: "root" }],
    [
      "io.aegis.Executor.Apply",
      { plan: "", caller: { uid: 0 } },
      "InvalidParameter",
      { parameter: "caller.gid" },
    ],
    ["io.aegis.Executor.Watch", { execution_id: "../x" }, "InvalidParameter", { parameter: "execution_id" }],
    ["io.aegis.Executor.Report", { refusals: [] }, "InvalidParameter", { parameter: "refusals" }],
  ];
  test.each(BAD)("%s %j: %s", (method, parameters, name, expected) => {
    try {
      ask(method, parameters);
    } catch (error) {
      expect<unknown>(errorReply(error)).toEqual({
        error: `org.varlink.service.${name}`,
        parameters: expected,
      });
      return;
    }
    throw new Error("it was accepted");
  });

  test("GetInfo names both interfaces", () => {
    expect(ask("org.varlink.service.GetInfo")).toMatchObject({
      answer: { product: "aegis", interfaces: ["org.varlink.service", "io.aegis.Executor"] },
    });
  });

  test("an unknown code is kept as a detail", () => {
    const parameters = { code: "newer", message: "m", hint: "h", details: {} };
    const error = replyError(parseReply(JSON.stringify({ error: "io.aegis.Executor.Refused", parameters })));
    expect(error).toMatchObject({ code: "protocol", message: "m", hint: "h", details: { code: "newer" } });
  });

  test("an internal error reveals no details", () => {
    expect(JSON.stringify(errorReply(new TypeError("secret path")))).not.toContain("secret");
  });
});

describe("interface definitions", () => {
  test.each([
    ["io.aegis.Executor", EXECUTOR_IDL],
    ["io.aegis.Reviewer", REVIEWER_IDL],
    ["org.varlink.service", SERVICE_IDL],
  ])("%s fits the grammar of varlink.org/Interface-Definition", (name, text) => {
    expect(parseIdl(text)).toMatchObject({ name });
  });

  test("the executor has the members that the README and the clients use", () => {
    const { members } = parseIdl(EXECUTOR_IDL);
    expect(members).toEqual([
      "type Caller",
      "type Outcome",
      "type Event",
      "type Refusal",
      "type Documents",
      "type RequestEvent",
      "type RequestChange",
      "method Apply",
      "method Watch",
      "method Status",
      "method Submit",
      "method Requests",
      "method Decide",
      "method Withdraw",
      "method WatchRequests",
      "method Report",
      "error Refused",
    ]);
  });

  test("the reviewer has the members that its clients use", () => {
    const { members } = parseIdl(REVIEWER_IDL);
    expect(members).toEqual(["type Event", "method Review", "method Status", "error Refused"]);
  });

  test.each([
    ["a missing interface line", "method A() -> ()"],
    ["an unknown type", "interface a.b\nmethod A(x: number) -> ()"],
    ["a trailing comma", "interface a.b\nmethod A(x: int,) -> ()"],
    ["a lower-case method", "interface a.b\nmethod a() -> ()"],
    ["a doubled option", "interface a.b\nmethod A(x: ??int) -> ()"],
    ["an undeclared type", "interface a.b\nmethod A(x: B) -> ()"],
  ])("the grammar check refuses %s", (_, text) => {
    expect(() => parseIdl(text)).toThrow();
  });
});

/** A recursive-descent parser of the interface definition grammar; throws on a syntax error. */
function parseIdl(text: string): { name: string; members: string[] } {
  const tokens = text.replace(/#.*$/gm, "").match(/->|\[\]|\[string\]|[A-Za-z0-9_.-]+|\S/g) ?? [];
  const used = new Set<string>();
  let at = 0;
  const take = (pattern: RegExp): string => {
    const token = tokens[at] ?? "";
    if (!pattern.test(token)) throw new Error(`"${token}" where ${pattern} should be`);
    at++;
    return token;
  };
  const is = (token: string) => tokens[at] === token && ++at > 0;
  const type = (nullable = true): void => {
    if (nullable && is("?")) type(false);
    else if (is("[]") || is("[string]")) type();
    else if (tokens[at] === "(") struct(true);
    else named();
  };
  const named = (): void => {
    const word = take(/^(bool|int|float|string|object|[A-Z][A-Za-z0-9]*)$/);
    if (/^[A-Z]/.test(word)) used.add(word);
  };
  const struct = (orEnum = false): void => {
    take(/^\($/);
    if (is(")")) return;
    let fields = 0;
    let names = 0;
    do {
      take(/^[A-Za-z](_?[A-Za-z0-9])*$/);
      if (is(":")) {
        fields++;
        type();
      } else names++;
    } while (is(","));
    take(/^\)$/);
    if (names > 0 && (fields > 0 || !orEnum)) throw new Error("a name without a type");
  };
  take(/^interface$/);
  const name = take(/^[A-Za-z](-*[A-Za-z0-9])*(\.[A-Za-z0-9](-*[A-Za-z0-9])*)+$/);
  const members: string[] = [];
  while (at < tokens.length) {
    const keyword = take(/^(type|method|error)$/);
    members.push(`${keyword} ${take(/^[A-Z][A-Za-z0-9]*$/)}`);
    struct(keyword === "type");
    if (keyword === "method") {
      take(/^->$/);
      struct();
    }
  }
  for (const word of used) if (!members.includes(`type ${word}`)) throw new Error(`${word} is not declared`);
  return { name, members };
}
