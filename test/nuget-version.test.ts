import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import * as v from "valibot";
import { nugetGrammar, splitNugetTarget } from "../src/nuget-target.ts";
import {
  isInRange,
  isNugetVersion,
  isPrerelease,
  NUGET_VERSIONS,
  needsSemver2,
  normalizedVersion,
  parseRange,
  type VersionRange,
} from "../src/nuget-version.ts";

const pair = v.tuple([v.string(), v.string()]);
const Cases = v.strictObject({
  ...{ invalid: v.array(v.string()), noRanges: v.array(v.string()) },
  ...{ normalized: v.array(pair), same: v.array(pair), less: v.array(pair) },
  ...{ ranges: v.array(pair), satisfies: v.array(pair), misses: v.array(pair) },
});
const FILE = join(import.meta.dir, "fixtures/nuget/versions.json");
const cases = v.parse(Cases, JSON.parse(readFileSync(FILE, "utf8")));
const { compare } = NUGET_VERSIONS;

/** As NuGet prints a range. */
function shown(range: VersionRange | null): string | null {
  if (range === null) return null;
  const { least, most } = range;
  const [low, high] = [least, most].map((one) => (one === null ? "" : normalizedVersion(one.version)));
  if (least?.inclusive === true && most?.inclusive === true && low === high) return `(= ${low})`;
  const parts = [
    ...(least === null ? [] : [`${least.inclusive ? ">=" : ">"} ${low}`]),
    ...(most === null ? [] : [`${most.inclusive ? "<=" : "<"} ${high}`]),
  ];
  return `(${parts.join(" && ")})`;
}

describe("NuGet's own cases", () => {
  test.each(cases.invalid)("%j is no version", (text) => {
    expect(isNugetVersion(text)).toBe(false);
    expect(normalizedVersion(text)).toBeNull();
  });
  test.each(cases.normalized)("%j is %j", (text, normal) => expect(normalizedVersion(text)).toBe(normal));
  test.each(cases.same)("%j equals %j", (a, b) => expect([compare(a, b), compare(b, a)]).toEqual([0, 0]));
  test.each(cases.less)("%j comes before %j", (a, b) => {
    expect(compare(a, b)).toBeLessThan(0);
    expect(compare(b, a)).toBeGreaterThan(0);
  });
  test.each(cases.noRanges)("%j is no range", (text) => expect(parseRange(text)).toBeNull());
  test.each(cases.ranges)("%j is %s", (text, expected) => expect(shown(parseRange(text))).toBe(expected));
  const inRange = (text: string, version: string) => {
    const range = parseRange(text);
    return range !== null && isInRange(version, range);
  };
  test.each(cases.satisfies)("%j takes %j", (text, version) => expect(inRange(text, version)).toBe(true));
  test.each(cases.misses)("%j doesn't take %j", (text, version) => {
    expect(parseRange(text)).not.toBeNull();
    expect(inRange(text, version)).toBe(false);
  });
});

describe("besides", () => {
  test.each([
    "",
    " ",
    "1.2147483648",
    "1..0",
    ".1",
    "1.",
    "v1.0",
    "1.0-",
    "1.0-a..b",
    "1.0+",
    `1.0-${"a".repeat(130)}`,
    "1\n",
  ])("%j is no version", (text) => expect(isNugetVersion(text)).toBe(false));
  test.each(["", "1.*", "[1.0", "1.0]", "[1.0,2.0,3.0]", "[[1.0]]", "(a,b)", "[1.0][2.0]"])(
    "%j is no range",
    (text) => expect(parseRange(text)).toBeNull(),
  );
  test.each([
    ["1.0.0", false, false],
    ["1.0.0-beta", true, false],
    ["1.0.0-beta.1", true, true],
    ["1.0.0+build", false, true],
  ])("%s: prerelease %p, semantic versioning 2 %p", (version, prerelease, semver2) =>
    expect([isPrerelease(version), needsSemver2(version)]).toEqual([prerelease, semver2]),
  );

  const number = fc.nat({ max: 12 });
  const label = fc.constantFrom("a", "A", "b1", "1", "10", "-", "0", "rc-1");
  const version = fc
    .tuple(fc.array(number, { minLength: 1, maxLength: 4 }), fc.array(label, { maxLength: 3 }), fc.boolean())
    .map(
      ([numbers, labels, built]) =>
        `${numbers.join(".")}${labels.length > 0 ? `-${labels.join(".")}` : ""}${built ? "+b" : ""}`,
    );
  test("the order is one, and a version equals its normal form", () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(Math.sign(compare(a, b))).toBe(-Math.sign(compare(b, a)) + 0);
        if (compare(a, b) <= 0 && compare(b, c) <= 0) expect(compare(a, c)).toBeLessThanOrEqual(0);
        expect(compare(a, normalizedVersion(a) ?? "")).toBe(0);
      }),
    );
  });
});

describe("targets", () => {
  const parse = (...targets: string[]) => nugetGrammar.parseTargets("install", targets);
  test.each([
    ["", "it is empty"],
    ["-Source", "option"],
    ["New ton", "white space"],
    ["Newton;id", "metacharacters"],
    ["Newton\u202esoft", "control"],
    ["a".repeat(101), "letters, digits"],
    ["a".repeat(300), "longer than"],
    ["_a", "letters, digits"],
    [".a", "letters, digits"],
    ["a.", "letters, digits"],
    ["a..b", "letters, digits"],
    ["a-.b", "letters, digits"],
    ["naïve", "letters, digits"],
    ["a/b", "letters, digits"],
    ["a@", "not an exact version"],
    ["a@latest", "not an exact version"],
    ["a@1.*", "metacharacters"],
    ["a@^1.0", "not an exact version"],
    ["a@v1.0", "not an exact version"],
    ["a@1.0@2.0", "not an exact version"],
    ["a@1.2.3.4.5", "not an exact version"],
  ])("%j is none: %s", (target, why) => expect(() => parse(target)).toThrow(why));

  test.each([
    ["git+https://example.com/a", "git-source-denied"],
    ["git@example.com:a/b", "git-source-denied"],
    ["https://www.nuget.org/packages/a", "direct-url-denied"],
    ["file:///srv/a", "url-denied"],
    ["./a", "local-path-denied"],
    ["/srv/a", "local-path-denied"],
    ["~/a", "local-path-denied"],
    ["a.1.0.0.nupkg", "local-path-denied"],
    ["packages.config", "requirements-file-denied"],
  ] as const)("%j is denied as %s", (target, signal) => {
    expect(parse(target).denied).toEqual([{ target, signal }]);
  });

  test("two packages are two plans", () =>
    expect(() => parse("a@1.0.0", "b@1.0.0")).toThrow("one package at a time"));
  test.each([
    ["Newtonsoft.Json", null],
    ["Newtonsoft.Json@13.0.3", "13.0.3"],
    ["a_b-C.9@1.0.0.0-RC.1+build", "1.0.0-RC.1"],
    ["a@1", "1.0.0"],
  ])("%j: version %p", (target, version) => {
    expect(splitNugetTarget(target).version).toBe(version);
    expect(nugetGrammar.isExact(target)).toBe(version !== null);
  });
});
