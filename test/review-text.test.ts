import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { commaList, fitLines, listed, quote, quoteEnds, word, wordList } from "../src/review-text.ts";

describe("escaped text", () => {
  const cases: readonly [what: string, text: string, shown: string][] = [
    ["a quotation mark ends nothing", 'a" b', '"a\\" b"'],
    ["an outside backslash is none of ours", "\\cut{5} \\n", '"\\x5ccut{5} \\x5cn"'],
    ["lines", "a\nb\r\tc", '"a\\nb\\r\\tc"'],
    ["a tag", "</evidence>", '"\\x3c/evidence>"'],
    ["ChatML", "<|im_end|>", '"\\x3c|im_end|>"'],
    ["Mistral", "[/INST] </s>", '"\\x5b/INST] \\x3c/s>"'],
    ["a fence", "```json", '"\\x60\\x60\\x60json"'],
    ["a thinking switch", "x /no_think /THINK /nothink", '"x \\x2fno_think \\x2fTHINK \\x2fnothink"'],
    ["control characters are counted", "a\u001b\u0000b", '"a\\hidden{2}b"'],
    ["zero-width and bidirectional", "a\u200b\u202e\u2066b", '"a\\hidden{3}b"'],
    ["tag characters, one each", "a\u{e0041}\u{e0042}", '"a\\hidden{2}"'],
    ["line ends within hidden characters", "\u200b\n\u200b", '"\\hidden{1}\\n\\hidden{1}"'],
    ["fillers and variation selectors", "\u3164\ufe0f\u{e0100}", '"\\hidden{3}"'],
    ["half a character", "\ud800", '"\\hidden{1}"'],
    ["a homoglyph", "p\u0430ypal", '"p\\u{430}ypal"'],
    ["full width", "\uff1c\uff5c", '"\\u{ff1c}\\u{ff5c}"'],
    ["beyond the first plane", "\u{1f600}", '"\\u{1f600}"'],
    [
      "ordinary ASCII is left",
      "curl -s https://x/y | sh && (a; b) > c 2>&1 # {}",
      '"curl -s https://x/y | sh && (a; b) > c 2>&1 # {}"',
    ],
  ];
  for (const [what, text, shown] of cases) test(what, () => expect(quote(text, 200)).toBe(shown));
});

describe("only plain words are unquoted", () => {
  const cases: readonly [text: string, shown: string][] = [
    ["two words", '"two words"'],
    ["", '""'],
    ["a\nb", '"a\\nb"'],
    ["/no_think", '"\\x2fno_think"'],
    ["a/think", '"a\\x2fthink"'],
    ["\\x", '"\\x5cx"'],
    ["n\u0261inx", '"n\\u{261}inx"'],
    ["a".repeat(13), `"${"a".repeat(12)}\\cut{1}"`],
    ["libc6:i386", "libc6:i386"],
    ["1:2.0-1~b1", "1:2.0-1~b1"],
    ["@a/b@1.0", "@a/b@1.0"],
    ["--yes", "--yes"],
  ];
  for (const [text, shown] of cases) test(JSON.stringify(text), () => expect(word(text, 12)).toBe(shown));
});

describe("truncated text says how much is missing", () => {
  test("the end", () => expect(quote("abcdef", 4)).toBe('"abcd\\cut{2}"'));
  test("never inside an escape", () => expect(quote("ab\u0430cd", 5)).toBe('"ab\\cut{3}"'));
  test("never inside a character", () =>
    expect(quote(`${"a".repeat(9)}\u{1f600}`, 10)).toBe(`"${"a".repeat(9)}\\cut{2}"`));
  test("the middle", () => expect(quoteEnds("abcdefghijkl", 9)).toBe('"abcdef\\cut{3}jkl"'));
  test("the two ends don't overlap", () =>
    expect(quoteEnds(`${"\u200b".repeat(25)}abcdef`, 30)).toBe('"\\hidden{25}abcdef"'));
  test("not a text that fits", () => expect(quoteEnds("abc", 3)).toBe('"abc"'));
  test("a list", () => {
    expect(commaList(["alpha", "beta", "gamma"], 18)).toBe("alpha, beta and 1 more");
    expect(wordList(["alpha", "beta", "gamma"], 16, " ")).toEqual({ text: "alpha beta and 1 more", left: 1 });
  });
  test("an empty list", () => expect(commaList([], 20)).toBe("none"));
  test("a list of one long word shows its beginning", () =>
    expect(commaList(["a".repeat(600)], 100)).toStartWith(`"${"a".repeat(50)}\\cut{550}"`));
  test("lines", () => {
    const items = Array.from({ length: 20 }, (_, i) => `- item ${i}`);
    const { lines, omitted } = listed(items, (item) => item, 110, "item");
    expect(lines).toEqual(["- item 0", "- item 1", "- item 2", "- NOT SHOWN: 17 more items"]);
    expect(omitted).toEqual(["17 more items"]);
  });
  test("stops at the first line that does not fit", () => {
    let made = 0;
    fitLines(Array.from({ length: 20_000 }), () => `line ${made++}`, 40);
    expect(made).toBeLessThan(10);
  });
});

/** The text that a quotation stands for, where nothing is hidden or cut. */
function unquoted(shown: string): string {
  const known: Readonly<Record<string, string>> = { "\\n": "\n", "\\r": "\r", "\\t": "\t", '\\"': '"' };
  return shown.slice(1, -1).replace(/\\x([0-9a-f]{2})|\\u\{([0-9a-f]+)\}|\\./g, (all, x, u) => {
    return known[all] ?? String.fromCodePoint(Number.parseInt(x ?? u, 16));
  });
}

describe("properties", () => {
  const atoms = [
    "<",
    "[",
    "`",
    '"',
    "\\",
    "\n",
    "\u200b",
    "\u{e0041}",
    "\u0430",
    "/think",
    "a",
    " ",
    "}",
    "\ud83d",
  ];
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 80 }),
    fc.array(fc.constantFrom(...atoms), { maxLength: 60 }).map((list) => list.join("")),
  );
  const ONE_LINE =
    /^"(?:[ !#-;=-Z\]^_a-~]|\\[nrt"]|\\x[0-9a-f]{2}|\\u\{[0-9a-f]+\}|\\(?:hidden|cut)\{\d+\})*"$/;
  test("a quotation is one bounded line that its text can't escape from", () => {
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 100 }), (one, max) => {
        for (const shown of [quote(one, max), quoteEnds(one, max)]) {
          expect(shown).toMatch(ONE_LINE);
          expect(shown).not.toMatch(/\/(?:no_?)?think/i);
          expect(shown.length).toBeLessThanOrEqual(max + 2 + "\\cut{}".length + String(one.length).length);
        }
      }),
      { numRuns: 1000 },
    );
  });
  test("both ends come from the text and don't overlap, and the gap is counted", () => {
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 60 }), (one, max) => {
        const [first = "", missing = "", last = ""] = quoteEnds(one, max)
          .slice(1, -1)
          .split(/\\cut\{(\d+)\}/);
        if (missing === "") return;
        const lengths = [first, last].map((part) =>
          unquoted(`"${part.replace(/\\hidden\{(\d+)\}/g, (_, n) => "-".repeat(Number(n)))}"`),
        );
        const sum = lengths.reduce((n, part) => n + [...part].length, 0);
        // A hidden character may be two code units, of which the mark counts one.
        expect(sum + Number(missing)).toBeLessThanOrEqual(one.length);
        if (!/\p{Cs}|[^\0-\uffff]/u.test(one)) expect(sum + Number(missing)).toBe(one.length);
      }),
      { numRuns: 1000 },
    );
  });
  test("text that is neither hidden nor truncated can be read back", () => {
    fc.assert(
      fc.property(text, (one) => {
        const shown = quote(one, 2000);
        fc.pre(!/\\hidden/.test(shown));
        expect(unquoted(shown)).toBe(one);
      }),
    );
  });
});
