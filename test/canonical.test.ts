import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import * as v from "valibot";
import {
  anyKeys,
  canonicalHash,
  canonicalJson,
  isUuidPrefix,
  parseCanonical,
  parseJson,
  sha256Hex,
} from "../src/canonical.ts";
import { AegisError } from "../src/errors.ts";
import { refuses } from "./signing-kit.ts";

/** From https://github.com/cyberphone/json-canonicalization at 19d51d7fe467: see the README beside them. */
const VECTORS = join(import.meta.dir, "fixtures/rfc8785/testdata");
const vector = (...path: string[]) => readFileSync(join(VECTORS, ...path), "utf8");

describe("what JSON can't hold exactly is refused", () => {
  const shared = { a: 1 };
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const CASES: [name: string, value: unknown, says: string][] = [
    ["undefined", undefined, "$: a value of type undefined"],
    ["undefined in an object", { a: undefined }, "$.a: a value of type undefined"],
    ["a hole in an array", Object.assign([1], { length: 2 }), "$[1]: a value of type undefined"],
    ["a function", { f: () => 1 }, "$.f: a value of type function"],
    ["toJSON, which JSON.stringify would call", { toJSON: () => 1 }, "$.toJSON: a value of type function"],
    ["a symbol", [Symbol("s")], "$[0]: a value of type symbol"],
    ["a bigint", { n: 1n }, "$.n: a value of type bigint"],
    ["NaN", Number.NaN, "not finite"],
    ["Infinity", -Infinity, "not finite"],
    ["2^53", 2 ** 53, "an integer beyond 2^53"],
    ["-2^53", [-(2 ** 53)], "$[0]: an integer beyond 2^53"],
    ["1e30", 1e30, "an integer beyond 2^53"],
    ["a lone high surrogate", "a\ud83d", "a lone surrogate"],
    ["a lone low surrogate", ["\ude02"], "$[0]: a string with a lone surrogate"],
    ["a lone surrogate in a key", { "\ud800": 1 }, "a key with a lone surrogate"],
    ["a Date", new Date(0), "not a plain object"],
    ["a Map", new Map(), "not a plain object"],
    ["a class instance", new (class Thing {})(), "not a plain object"],
    ["a boxed string", Object("s"), "not a plain object"],
    ["a cycle", cycle, "deeper than 64"],
  ];
  for (const [name, value, says] of CASES)
    test(name, () => refuses(() => canonicalJson(value), "invalid_document", says));

  test("65 levels, and 20,000, without a stack overflow; 64 pass", async () => {
    const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
    expect(parseCanonical(nested(65))).toBeArray();
    for (const levels of [66, 20_000, 1_000_000]) {
      await refuses(() => parseJson(nested(levels)), "invalid_document");
      await refuses(() => parseCanonical(nested(levels)), "not_canonical");
    }
    const many = `[${"{},".repeat(450_000)}{}]`;
    await refuses(() => parseJson(many), "invalid_document", "more than 400000 values");
    await refuses(() => parseCanonical(many), "not_canonical", "more than 400000 values");
    let deep: unknown = 0;
    for (let i = 0; i < 20_000; i++) deep = { deep };
    await refuses(() => canonicalJson(deep), "invalid_document", "deeper than 64");
  });

  test("an object referenced twice is not a cycle", () => {
    expect(canonicalJson({ x: shared, y: [shared, shared] })).toBe('{"x":{"a":1},"y":[{"a":1},{"a":1}]}');
  });
});

describe("the published vectors", () => {
  // 1E30 in values.json is an integer that a double represents only by chance; our documents never hold one.
  const REFUSED: Readonly<Record<string, string>> = {
    "values.json": "$.numbers[1]: an integer beyond 2^53",
  };
  const names = readdirSync(join(VECTORS, "input"));
  test("are complete", () => {
    expect(names.sort()).toEqual(
      ["arrays", "french", "structures", "unicode", "values", "weird"].map((name) => `${name}.json`),
    );
  });
  for (const name of names) {
    const says = REFUSED[name];
    test(name, async () => {
      const [input, output] = [vector("input", name), vector("output", name)];
      const hex = vector("outhex", name.replace(".json", ".txt")).replace(/\s/g, "");
      expect(Buffer.from(output).toString("hex")).toBe(hex);
      if (says !== undefined) {
        await refuses(() => parseJson(input), "invalid_document", says);
        const smaller = (text: string, number: string) => text.replace(number, "1");
        expect(canonicalJson(parseJson(smaller(input, "1E30")))).toBe(smaller(output, "1e+30"));
        return;
      }
      expect(canonicalJson(parseJson(input))).toBe(output);
      expect(parseCanonical(output)).toEqual(parseJson(input));
      expect(canonicalHash(parseJson(input))).toBe(sha256Hex(output));
      if (input !== output) await refuses(() => parseCanonical(input), "not_canonical", "byte-for-byte");
    });
  }

  /**
   * The file of ES6 numbers, generated as testdata/README.md describes; we accept all of them except those refused
   * here.
   */
  function es6Lines(count: number): { text: string; ours: number } {
    const fixed = [...vector("README.md").matchAll(/0x([0-9a-f]{16})n[,\s]/g)].map(([, hex]) => `${hex}`);
    // The last match is the algorithm's own start of the serial numbers.
    const start = BigInt(`0x${fixed.pop()}`);
    const serial = Array.from({ length: 2000 }, (_, i) => (start + BigInt(i)).toString(16).padStart(16, "0"));
    const numbers = [...fixed, ...serial].map((hex) => Buffer.from(hex, "hex").readDoubleBE());
    for (let block = Buffer.alloc(32); numbers.length < count; ) {
      block = createHash("sha256").update(block).digest();
      for (let at = 0; at < 32; at += 8) {
        const number = block.readDoubleLE(at);
        if (number !== 0 && Number.isFinite(number)) numbers.push(number);
      }
    }
    const bits = Buffer.alloc(8);
    let ours = 0;
    const lines = numbers.slice(0, count).map((number) => {
      bits.writeDoubleBE(number);
      const beyond = Number.isInteger(number) && !Number.isSafeInteger(number);
      if (!beyond) ours++;
      return `${bits.readBigUInt64BE().toString(16)},${beyond ? String(number) : canonicalJson(number)}\n`;
    });
    return { text: lines.join(""), ours };
  }

  const SUMS = [...vector("README.md").matchAll(/\| ([0-9a-f]{64}) \| (\d+) +\| (\d+)/g)];
  test("six sums of the ES6 numbers are published", () => expect(SUMS).toHaveLength(6));
  for (const [, sum = "", count = "", size = ""] of SUMS.slice(0, 3))
    test(`the first ${count} ES6 numbers`, () => {
      const { text, ours } = es6Lines(Number(count));
      expect({ size: text.length, sum: sha256Hex(text) }).toEqual({ size: Number(size), sum });
      expect(ours).toBeGreaterThan(Number(count) / 2);
    });

  // RFC 8785, appendix B. "refused": not finite, or an integer beyond 2^53.
  const NUMBERS: [bits: string, expected: string][] = [
    ["7fffffffffffffff", "refused"],
    ["7ff0000000000000", "refused"],
    ["4340000000000000", "refused"],
    ["c340000000000000", "refused"],
    ["4430000000000000", "refused"],
    ["44b52d02c7e14af5", "refused"],
    ["44b52d02c7e14af6", "refused"],
    ["44b52d02c7e14af7", "refused"],
    ["444b1ae4d6e2ef4e", "refused"],
    ["444b1ae4d6e2ef4f", "refused"],
    ["444b1ae4d6e2ef50", "refused"],
    ["7fefffffffffffff", "refused"],
    ["ffefffffffffffff", "refused"],
    ["0000000000000000", "0"],
    ["8000000000000000", "0"],
    ["0000000000000001", "5e-324"],
    ["8000000000000001", "-5e-324"],
    ["3eb0c6f7a0b5ed8c", "9.999999999999997e-7"],
    ["3eb0c6f7a0b5ed8d", "0.000001"],
    ["41b3de4355555553", "333333333.3333332"],
    ["41b3de4355555554", "333333333.33333325"],
    ["41b3de4355555555", "333333333.3333333"],
    ["41b3de4355555556", "333333333.3333334"],
    ["41b3de4355555557", "333333333.33333343"],
    ["becbf647612f3696", "-0.0000033333333333333333"],
    ["43143ff3c1cb0959", "1424953923781206.2"],
  ];
  for (const [bits, expected] of NUMBERS) {
    test(`number ${bits}`, async () => {
      const number = Buffer.from(bits, "hex").readDoubleBE();
      if (expected === "refused") await refuses(() => canonicalJson(number), "invalid_document");
      else expect(canonicalJson(number)).toBe(expected);
    });
  }
});

describe("parseCanonical refuses", () => {
  const CASES: [name: string, text: string][] = [
    ["nothing", ""],
    ["not JSON", "hello"],
    ["a duplicate key", '{"a":1,"a":1}'],
    ["a duplicate key with another value first", '{"a":2,"a":1}'],
    ["keys out of order", '{"b":1,"a":1}'],
    ["keys in code point order, where UTF-16 order differs", '{"\ufb33":1,"\u{1f602}":1}'],
    ["a needless escape", '"\\u0061"'],
    ["an escaped slash", '"\\/"'],
    ["an upper-case escape", '"\\u001F"'],
    ["a number spelled 1.0", "1.0"],
    ["a number spelled 1e0", "1e0"],
    ["-0", "-0"],
    ["a number that rounds", "0.10000000000000001"],
    ["an integer that rounds", "9007199254740993"],
    ["a lone surrogate", '"\\ud800"'],
    ["a space", '{"a": 1}'],
    ["a leading space", " 1"],
    ["a trailing newline", "1\n"],
    ["trailing bytes", "{}{}"],
    ["a trailing NUL", "{}\0"],
    ["a byte order mark", "\ufeff{}"],
    ["nesting of 70", `${"[".repeat(70)}${"]".repeat(70)}`],
  ];
  for (const [name, text] of CASES) test(name, () => refuses(() => parseCanonical(text), "not_canonical"));
});

test("names of Object.prototype are ordinary keys", () => {
  const text = '{"__proto__":{"constructor":1},"constructor":2,"hasOwnProperty":3,"toString":4}';
  const tree = parseCanonical(text);
  expect(canonicalJson(tree)).toBe(text);
  expect(Object.keys(tree ?? {})).toEqual(["__proto__", "constructor", "hasOwnProperty", "toString"]);
});

test("property: a JSON tree parses to the same value in any spelling", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.integer({ min: 0, max: 4 }), (value, spaces) => {
      const spelled = JSON.stringify(value, null, spaces);
      let text: string;
      try {
        text = canonicalJson(parseJson(spelled));
      } catch (error) {
        // The only JSON values refused: numbers and strings that don't survive a round trip.
        if (!(error instanceof AegisError) || error.code !== "invalid_document") throw error;
        expect(spelled).toMatch(/\d{16}|e\+|[\ud800-\udfff]|\\ud[89a-f]/);
        return;
      }
      expect(JSON.parse(text)).toEqual(JSON.parse(spelled));
      expect(canonicalJson(parseCanonical(text))).toBe(text);
    }),
  );
});

test("property: any text gives a tree or an AegisError", () => {
  const pieces = fc.constantFrom(
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "1",
    "-",
    "e",
    "\\u",
    "d800",
    "null",
    " ",
    "\0",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(pieces).map((words) => words.join("")),
      ),
      (text) => {
        for (const parse of [() => parseJson(text), () => parseCanonical(text)]) {
          try {
            parse();
          } catch (error) {
            if (!(error instanceof AegisError)) throw error;
          }
        }
      },
    ),
  );
});

describe("the beginning of a UUID", () => {
  const ID = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
  const CASES: [text: string, least: number | undefined, is: boolean][] = [
    ["", 0, true],
    ["", 1, false],
    ["0b7b4a3", undefined, false],
    ["0b7b4a3e7", undefined, false],
    ["0b7b-a3e", undefined, false],
    ["0B7B4A3E", undefined, false],
    [`${ID}0`, undefined, false],
    ["0", 1, true],
    ["0b7b4a3e", undefined, true],
    ["0b7b4a3e-", undefined, true],
    [ID, undefined, true],
  ];
  for (const [text, least, is] of CASES)
    test(`${JSON.stringify(text)}, at least ${least ?? "8"}: ${is}`, () =>
      expect(isUuidPrefix(text, least)).toBe(is));
});

test.each(["constructor", "prototype", "__proto__", "toString", "x"])("a table with the name %s", (name) => {
  const table: unknown = JSON.parse(`{"${name}":"1"}`);
  expect(Object.entries(v.parse(anyKeys(v.string()), table))).toEqual([[name, "1"]]);
  expect(v.is(anyKeys(v.number()), table)).toBe(false);
});

test.each([null, "x", 1, ["x"]])("no table: %j", (value) =>
  expect(v.is(anyKeys(v.string()), value)).toBe(false),
);
