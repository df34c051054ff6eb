import { afterAll, describe, expect, test } from "bun:test";
import { appendFileSync, chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { Lines, Tail } from "../src/tail.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path, remove } = temporaryDirectory();
afterAll(remove);

describe("Tail", () => {
  test("what has come since the last look, at most as much as asked for", () => {
    const file = join(path, "growing");
    const tail = new Tail(file);
    expect(tail.read()).toHaveLength(0);
    appendFileSync(file, "abcdef");
    expect(tail.read(4).toString()).toBe("abcd");
    expect(tail.read(4).toString()).toBe("ef");
    expect(tail.read()).toHaveLength(0);
    appendFileSync(file, "g");
    expect(tail.read().toString()).toBe("g");
  });
  test("what can't be read is an error, not silence", () => {
    mkdirSync(join(path, "directory"));
    chmodSync(join(path, "directory"), 0o700);
    expect(() => new Tail(join(path, "directory")).read()).toThrow("EISDIR");
    appendFileSync(join(path, "file"), "");
    expect(() => new Tail(join(path, "file/below")).read()).toThrow("ENOTDIR");
  });
});

describe("Lines", () => {
  const CASES: [pieces: string[], expected: string[]][] = [
    [[""], []],
    [["a"], []],
    [["a\n"], ["a"]],
    [["a", "b\nc"], ["ab"]],
    [
      ["a\nb\n", "\n"],
      ["a", "b", ""],
    ],
    [["a\r\n"], ["a\r"]],
  ];
  for (const [pieces, expected] of CASES) {
    test(JSON.stringify(pieces), () => {
      const lines = new Lines();
      expect(pieces.flatMap((piece) => lines.push(piece))).toEqual(expected);
    });
  }
  test("a line without an end does not grow for ever", () => {
    const lines = new Lines();
    for (let i = 0; i < 10; i++) expect(lines.push("x".repeat(50_000))).toEqual([]);
    expect(lines.push("\n")).toEqual(["x".repeat(64 * 1024)]);
  });
  test("property: the cuts between pieces change nothing", () => {
    const piece = fc.string({ unit: fc.constantFrom("a", "b", "\n") });
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const lines = new Lines();
        expect(pieces.flatMap((one) => lines.push(one))).toEqual(pieces.join("").split("\n").slice(0, -1));
      }),
    );
  });
});
