import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type ArgvForm, matchesForm, oneOrMore } from "../src/eco-argv-form.ts";

const LETTERS = /^[a-z]+$/;
const FIXED: ArgvForm = ["tool", LETTERS, "--end"];
const MANY: ArgvForm = ["tool", { many: LETTERS, max: 2 }];
const PAIRS: ArgvForm = ["tool", { pairs: ["-k", LETTERS] }, LETTERS];

const REFUSED: [form: ArgvForm, argv: string[]][] = [
  [FIXED, []],
  [FIXED, ["tool", "a"]],
  [FIXED, ["tool", "A", "--end"]],
  [FIXED, ["tool", "a", "--END"]],
  [FIXED, ["tool", "a", "--end", ""]],
  [FIXED, ["tool", "a", "--end", "a"]],
  [FIXED, ["", "tool", "a", "--end"]],
  [FIXED, ["tool", "a".repeat(1025), "--end"]],
  [["a".repeat(1025)], ["a".repeat(1025)]],
  [MANY, ["tool"]],
  [MANY, ["tool", ""]],
  [MANY, ["tool", "a", "B"]],
  [MANY, ["tool", "a", "b", "c"]],
  [MANY, ["tool", "a", "b".repeat(1025)]],
  [
    ["tool", { many: LETTERS, max: 2 }, "b"],
    ["tool", "a", "b"],
  ],
  [
    ["tool", oneOrMore(LETTERS)],
    ["tool", ...Array<string>(4001).fill("a")],
  ],
  [PAIRS, ["tool", "a"]],
  [PAIRS, ["tool", "-k", "a"]],
  [PAIRS, ["tool", "-k", "A", "a"]],
  [PAIRS, ["tool", "-k", "-k", "a"]],
  [PAIRS, ["tool", "-k", "a", "-x", "b", "c"]],
  [PAIRS, ["tool", "-k", "a", "b", "-k", "c"]],
];
const ACCEPTED: [form: ArgvForm, argv: string[]][] = [
  [FIXED, ["tool", "a", "--end"]],
  [FIXED, ["tool", "a".repeat(1024), "--end"]],
  [MANY, ["tool", "a"]],
  [MANY, ["tool", "a", "b"]],
  [
    ["tool", oneOrMore(LETTERS)],
    ["tool", ...Array<string>(4000).fill("a")],
  ],
  [PAIRS, ["tool", "-k", "a", "b"]],
  [PAIRS, ["tool", "-k", "a", "-k", "b", "c"]],
];

const shown = (words: readonly string[]) => {
  const text = JSON.stringify(words);
  return text.length <= 80 ? text : `${text.slice(0, 77)}... (${words.length} words)`;
};

describe("an argv against a form", () => {
  for (const [form, argv] of REFUSED) {
    test(`refused: ${shown(argv)}`, () => expect(matchesForm(form, argv)).toBe(false));
  }
  for (const [form, argv] of ACCEPTED) {
    test(`accepted: ${shown(argv)}`, () => expect(matchesForm(form, argv)).toBe(true));
  }
  test("one word more or less is refused", () => {
    const word = fc.string({ maxLength: 8 });
    fc.assert(
      fc.property(word, fc.nat({ max: 3 }), (extra, at) => {
        expect(matchesForm(FIXED, ["tool", "a", "--end"].toSpliced(at, 0, extra))).toBe(false);
        if (at < 3) expect(matchesForm(FIXED, ["tool", "a", "--end"].toSpliced(at, 1))).toBe(false);
      }),
    );
  });
});
