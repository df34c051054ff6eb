import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { readToml, tomlProblems } from "../src/sys-toml.ts";

const Schema = v.strictObject({
  a: v.optional(
    v.strictObject({
      n: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
      list: v.optional(v.array(v.strictObject({ uri: v.string(), x: v.optional(v.string()) }))),
    }),
  ),
  key: v.optional(v.array(v.strictObject({ id: v.string(), role: v.optional(v.string()) }))),
});

/** The one mistake in a text as line:column message. */
const problems = (text: string) =>
  tomlProblems(text, Schema).map(({ line, column, message }) => `${line}:${column} ${message}`);

describe("a mistake has its place", () => {
  test.each<[string, string, string[]]>([
    ["none", "[a]\nn = 1\n", []],
    ["nothing", "", []],
    ["no value", "[a]\nn =\n", ["2:4 "]],
    ["no TOML at all", "x", ["1:1 "]],
    ["an unknown key", "[a]\n# n\n  m = 1", ["3:3 a.m: unknown key"]],
    ["a quoted one", '[a]\n"m m" = 1', ["2:2 a.m m: unknown key"]],
    ["a dotted one", "a.m = 1", ["1:3 a.m: unknown key"]],
    ["in an inline table", "\na = { n = 1, m = 2 }", ["2:14 a.m: unknown key"]],
    ["an unknown table", "[a]\nn = 1\n[b]\nn = 1", ["3:2 b: unknown key"]],
    ["a wrong value", '[a]\n\nn = "1"', ['3:1 a.n: "1" is not a number']],
    ["a bound", "[a]\nn = 0", ["2:1 a.n: it must be at least 1, and is 0"]],
    [
      "a missing key is where its table begins",
      '[[key]]\nid = "x"\n[[key]]\nrole = "y"',
      ["3:3 key, entry 2, id: missing"],
    ],
    [
      "on a later line of the statement",
      '[a]\nlist = [\n  { uri = "x" },\n  { uri = "y", z = 1 },\n]',
      ["4:16 a.list, entry 2, z: unknown key"],
    ],
    [
      "several alike on one statement: where that begins",
      '[a]\nlist = [\n  { uri = "x" },\n  { uri = 1 },\n]',
      ["2:1 a.list, entry 2, uri: 1 is not a text in quotes"],
    ],
    [
      "text that looks like it doesn't count",
      '[[key]]\nid = """\nm = 1\n"""\nm = 1',
      ["5:1 key, entry 1, m: unknown key"],
    ],
    ["__proto__", "[a]\n__proto__ = 1", ["2:1 a.__proto__: unknown key"]],
    ["constructor", "constructor = 1", ["1:1 constructor: unknown key"]],
    [
      "all at once, in their order",
      "[b]\n[a]\nm = 1\nn = 0\n",
      ["1:2 b: unknown key", "3:1 a.m: unknown key", "4:1 a.n: it must"],
    ],
    [
      "every unknown key of one table, and a wrong value beside them",
      "[a]\nm = 1\nn = 0\no = 2\n",
      ["2:1 a.m: unknown key; known keys: n, list", "3:1 a.n: it must", "4:1 a.o: unknown key; known keys"],
    ],
    ["every unknown table", "[b]\n[c]\n", ["1:2 b: unknown key", "2:2 c: unknown key"]],
    ["lines that end like Windows'", "[a]\r\nm = 1\r\n", ["2:1 a.m: unknown key"]],
  ])("%s", (_, text, expected) => {
    const found = problems(text);
    expect(found.map((one, n) => one.slice(0, expected[n]?.length))).toEqual(expected);
  });
});

test("whatever the text, there is a mistake exactly where reading it fails, and each place is in the text", () => {
  const line = fc.constantFrom(
    ...[
      "[a]",
      "[b]",
      "[[key]]",
      "n = 1",
      "n = 0",
      "m = 1",
      'id = "x"',
      "id = 1",
      "list = [",
      "]",
      '{ uri = "x" },',
    ],
    ...['"""', 'role = """', "# m = 1", "", "[key]", "a.n = 2", "x"],
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 14 }), (lines) => {
      const text = lines.join("\n");
      const found = tomlProblems(text, Schema);
      expect(found.length > 0).toBe(readToml(text, Schema).problem !== null);
      for (const { line, column } of found) {
        expect(line).toBeGreaterThan(0);
        expect(line).toBeLessThanOrEqual(Math.max(1, lines.length));
        expect(column).toBeGreaterThan(0);
      }
    }),
    { numRuns: 500 },
  );
});

test("an unknown key anywhere is found where it was put", () => {
  const good = [
    "[a]",
    "n = 1",
    "list = [",
    '  { uri = "x" },',
    "]",
    "",
    "[[key]]",
    'id = "x"',
    "# role",
    "[[key]]",
    'id = """',
    "y",
    '"""',
    "",
  ];
  /** Lines before which a statement may stand. */
  const places = [1, 2, 5, 6, 7, 8, 9, 10, 13];
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.nat(3), (at, indent) => {
      const text = good.toSpliced(at, 0, `${" ".repeat(indent)}unheard_of = 1`).join("\n");
      expect(tomlProblems(text, Schema)).toMatchObject([{ line: at + 1, column: indent + 1 }]);
    }),
  );
});

test("a long file is no burden", () => {
  const text = `${'[[key]]\nid = "x"\n'.repeat(5000)}m = 1\n`;
  const started = performance.now();
  expect(problems(text)[0]).toStartWith("10001:1 key, entry 5000, m: unknown key");
  expect(performance.now() - started).toBeLessThan(20_000);
});
