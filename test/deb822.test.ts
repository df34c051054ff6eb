import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseStanzas } from "../src/deb822.ts";

test("separates stanzas, folds lines, skips comments, ignores the case of names", () => {
  const [a, b, ...rest] = parseStanzas("A: 1\n# note\n more\n .\n last\nb:2\n\n\nC:\n d\n");
  expect([...(a ?? [])]).toEqual([
    ["a", "1\nmore\n\nlast"],
    ["b", "2"],
  ]);
  expect([...(b ?? [])]).toEqual([["c", "\nd"]]);
  expect(rest).toEqual([]);
});

test("a folded line without a field is nothing", () => {
  expect(parseStanzas(" folded\nno colon\n: empty\n")).toEqual([]);
});

test("never throws", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void parseStanzas(text)));
});
