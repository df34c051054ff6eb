import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { nearest, parseArgs } from "../src/cmd-args.ts";
import type { ArgsSpec } from "../src/command.ts";
import { AegisError } from "../src/errors.ts";
import { refuses } from "./signing-kit.ts";

const SPEC = {
  plan: { type: "positional", required: true, description: "" },
  policy: { type: "positional", description: "" },
  out: { type: "string", description: "" },
  key: { type: "string", multiple: true, description: "" },
  level: { type: "enum", options: ["low", "high"], default: "low", description: "" },
  socket: { type: "string", default: "/run/s", description: "" },
  force: { type: "boolean", description: "" },
} as const satisfies ArgsSpec;
const LIST = {
  first: { type: "positional", required: true },
  rest: { type: "positional", multiple: true },
} as const;
const NEEDY = { out: { type: "string", required: true } } as const satisfies ArgsSpec;

const parse = (...words: string[]) => parseArgs("test", SPEC, words);

describe("refused", () => {
  const CASES: [words: string[], says: string][] = [
    [["p", "--nonsense"], "unknown flag --nonsense"],
    [["p", "--nonsense=1"], "unknown flag --nonsense"],
    [["p", "--ouT", "x"], "unknown flag --ouT; did you mean --out?"],
    [["p", "--sokcet", "x"], "unknown flag --sokcet; did you mean --socket?"],
    [["p", "--jsno"], "unknown flag --jsno; did you mean --json?"],
    [["p", "-x"], "unknown flag -x"],
    [["p", "-json"], "unknown flag -json; did you mean --json?"],
    [["p", "--h"], "unknown flag --h"],
    [["p", "---"], "unknown flag ---"],
    [["p", "--=x"], "unknown flag --"],
    [["p", "--plan", "x"], "unknown flag --plan"],
    [["p", "--constructor"], "unknown flag --constructor"],
    [["p", "--__proto__"], "unknown flag --__proto__"],
    [["p", "--__proto__=x"], "unknown flag --__proto__"],
    [["p", "--toString", "x"], "unknown flag --toString"],
    [["p", "--hasOwnProperty"], "unknown flag --hasOwnProperty"],
    [["p", "--\u202egalf"], "unknown flag --\\u{202e}galf"],
    [["p", "\u202e", "\u001b[31mred"], "unexpected word \\x1b[31mred"],
    [["p", "--out"], "--out needs a value"],
    [["p", "--out="], "--out needs a value"],
    [["p", "--out", ""], "--out needs a value"],
    [["p", "--out", "--force"], "--out needs a value"],
    [["p", "--out", "-x"], "--out needs a value"],
    [["p", "--out", "--"], "--out needs a value"],
    [["p", "--out", "-"], "--out needs a file; --json prints the document on standard output"],
    [["p", "--out=-"], "--out needs a file; --json prints the document on standard output"],
    [["p", "--out", "a", "--out", "b"], "--out is given twice"],
    [["p", "--out=a", "--out=a"], "--out is given twice"],
    [["p", "--force", "--force"], "--force is given twice"],
    [["p", "--json", "--json"], "--json is given twice"],
    [["p", "--force=true"], "--force takes no value"],
    [["p", "--json="], "--json takes no value"],
    [["p", "--level", "middle"], "--level must be one of low, high"],
    [["p", "--level=toString"], "--level must be one of low, high"],
    [["p", "--level=low", "--level=low"], "--level is given twice"],
    [["p", "q", "r"], "unexpected word r"],
    [["p", "q", ""], "unexpected word"],
    [["p", "--", "q", "--force"], "unexpected word --force"],
    [[], "<plan> is missing"],
    [["--"], "<plan> is missing"],
    [["--force"], "<plan> is missing"],
    [[""], "<plan> is empty"],
    [["p", ""], "<policy> is empty"],
  ];
  for (const [words, says] of CASES)
    test(JSON.stringify(words), () => refuses(() => parse(...words), "usage", says));

  test("an empty word among many", () =>
    refuses(() => parseArgs("t", LIST, ["a", "b", "", "c"]), "usage", "<rest> is empty"));
  test("a required flag left out", () =>
    refuses(() => parseArgs("t", NEEDY, []), "usage", "--out is missing"));
  test("the hint names the command", () => {
    try {
      parseArgs("sign keygen", SPEC, ["--x"]);
      throw new Error("not refused");
    } catch (error) {
      expect(error instanceof AegisError ? error.hint : error).toBe("Type: aegis sign keygen --help");
    }
  });
});

describe("accepted", () => {
  const DEFAULTS = {
    plan: "p",
    policy: undefined,
    out: undefined,
    key: [],
    level: "low",
    socket: "/run/s",
    force: false,
  };
  const CASES: [words: string[], change: Partial<ReturnType<typeof parse>["values"]>][] = [
    [["p"], {}],
    [["-"], { plan: "-" }],
    [["p", "-"], { policy: "-" }],
    [["--", "p"], {}],
    [["--", "--force", "--"], { plan: "--force", policy: "--" }],
    [["--socket", "-", "p"], { socket: "-" }],
    [["--out=-x", "p"], { out: "-x" }],
    [["--out=a=b=c", "p"], { out: "a=b=c" }],
    [["--out=--json", "p"], { out: "--json" }],
    [["p", "--force", "q"], { policy: "q", force: true }],
    [["--key", "a", "p", "--key=b"], { key: ["a", "b"] }],
    [["--level=high", "p"], { level: "high" }],
    [["p", "--socket", "/x"], { socket: "/x" }],
    [["constructor", "__proto__"], { plan: "constructor", policy: "__proto__" }],
  ];
  for (const [words, change] of CASES) {
    test(JSON.stringify(words), () => {
      expect(parse(...words)).toEqual({ values: { ...DEFAULTS, ...change }, json: false, help: false });
    });
  }

  test("--json and --help in any position", () => {
    expect(parse("p", "--json")).toMatchObject({ json: true, help: false });
    expect(parse("--help")).toMatchObject({ json: false, help: true });
    expect(parse("a", "b", "c", "-h")).toMatchObject({ help: true });
    expect(parse("p", "--", "--json")).toMatchObject({ json: false, values: { policy: "--json" } });
  });
  test("a last positional takes the rest", () => {
    expect(parseArgs("t", LIST, ["a", "b", "c"]).values).toEqual({ first: "a", rest: ["b", "c"] });
    expect(parseArgs("t", LIST, ["a"]).values).toEqual({ first: "a", rest: [] });
  });
});

describe("nearest", () => {
  const CASES: [word: string, expected: string | null][] = [
    ["plan", "plan"],
    ["plna", "plan"],
    ["polciy", "policy"],
    ["aplly", "apply"],
    ["nginx", null],
    ["", null],
    ["constructor", null],
    ["p".repeat(1_000_000), null],
  ];
  for (const [word, expected] of CASES)
    test(word.slice(0, 20), () => expect(nearest(word, ["plan", "policy", "apply"])).toBe(expected));
});

test("property: a usage error, or exactly the declared values", () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom(
      "--",
      "-",
      "-h",
      "",
      "--out",
      "--force",
      "--level",
      "--json",
      "--help",
      "--key=x",
      "__proto__",
    ),
    fc.constantFrom(...Object.getOwnPropertyNames(Object.prototype)).map((name) => `--${name}`),
    fc.tuple(fc.constantFrom(...Object.keys(SPEC)), fc.string()).map(([name, value]) => `--${name}=${value}`),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (words) => {
      try {
        const { values } = parse(...words);
        expect(Object.keys(values)).toEqual(Object.keys(SPEC));
        expect(Object.getPrototypeOf(values)).toBe(Object.prototype);
        expect(["low", "high"]).toContain(values.level);
        for (const value of [values.plan, values.policy, values.out, ...values.key])
          if (value !== undefined) expect(words.some((typed) => typed.endsWith(value))).toBe(true);
      } catch (error) {
        if (!(error instanceof AegisError) || error.code !== "usage") throw error;
      }
    }),
    { numRuns: 2000 },
  );
});
