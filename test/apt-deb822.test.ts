import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readStanzas } from "../src/apt-deb822.ts";

describe("a text that apt could read differently is refused as a whole", () => {
  const good = "Package: a1\nSHA256: good\n";
  const cases: [what: string, text: string, problem: string][] = [
    ["two fields with the same name", `${good}SHA256: evil\n`, "line 3 is a second field SHA256"],
    ["two fields, another case", `${good}sha256: evil\n`, "line 3 is a second field sha256"],
    ["a second field behind a line of one space", `${good} \nSHA256: evil\n`, "line 4 is a second field"],
    ["a second field behind a line of one tab", `${good}\t\nSHA256: evil\n`, "line 4 is a second field"],
    ["a space before the colon", `${good}SHA256 : evil\n`, "line 3 is not a field"],
    ["a line without a colon, which apt joins with the next", `${good}x\nSHA256: evil\n`, "line 3 is not"],
    ["a carriage return for an empty line", `${good}\r\nSHA256: evil\n`, "line 3 holds a control"],
    ["a carriage return before a field", `${good}\rSHA256: evil\n`, "line 3 holds a control"],
    ["a vertical tab, white space to apt", `${good}\vSHA256: evil\n`, "line 3 holds a control"],
    ["a form feed", `${good}\fSHA256: evil\n`, "line 3 holds a control"],
    ["NUL", "Package: a1\0\n", "line 1 holds a control"],
    ["a no-break space for an empty line", `${good}\u00a0\nSHA256: evil\n`, "line 3 is not a field"],
    ["a comment where apt allows none", `${good}#\nSHA256: evil\n`, "line 3 is not a field"],
    ["a folded line before any field", `\n ${good}`, "line 2 continues no field"],
    ["a field without a name", ": empty\n", "line 1 is not a field"],
  ];
  for (const [what, text, problem] of cases) {
    test(what, () => {
      const read = readStanzas(text);
      expect(read.stanzas).toEqual([]);
      expect(read.problem).toContain(problem);
    });
  }
});

test("separates stanzas, folds lines, ignores the case of names", () => {
  const { stanzas, problem } = readStanzas("A: 1\n more\n .\n \n last\nb:2\n\n\nC:\n d\n");
  expect(problem).toBeNull();
  expect(stanzas.map((stanza) => [...stanza])).toEqual([
    [
      ["a", "1\nmore\n.\n\nlast"],
      ["b", "2"],
    ],
    [["c", "\nd"]],
  ]);
});

test("comments, where allowed, are ignored", () => {
  const { stanzas } = readStanzas("# first\nA: 1\n# between: x\n more\n", { configuration: true });
  expect(stanzas.map((stanza) => [...stanza])).toEqual([[["a", "1\nmore"]]]);
});

test("only blanks around a value are trimmed", () => {
  const [stanza] = readStanzas("A: \t1\u00a0 \n").stanzas;
  expect(stanza?.get("a")).toBe("1\u00a0");
});

describe("properties", () => {
  test("never throws, and gives no stanzas with a problem", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const { stanzas, problem } = readStanzas(text);
        expect(problem === null || stanzas.length === 0).toBe(true);
      }),
    );
  });
  test("one stanza per block between empty lines", () => {
    const line = fc.constantFrom("A: 1", "B: 2", " x", " ", "\t", "", "A : 3", "\r", "#c", "\u00a0", "a: 4");
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const { stanzas, problem } = readStanzas(lines.join("\n"));
        const blocks = lines
          .join("\n")
          .split(/\n\n+/)
          .filter((block) => block.replaceAll("\n", "") !== "");
        if (problem === null) expect(stanzas).toHaveLength(blocks.length);
      }),
    );
  });
});
