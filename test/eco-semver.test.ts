import { expect, test } from "bun:test";
import { SEMVER } from "../src/eco-semver.ts";

const { compare: compareSemver, isVersion: isSemver } = SEMVER;

test("invalid versions", () => {
  for (const text of [
    "",
    "x",
    "1.2.3.4",
    "1..2",
    "1.0.0-",
    "1.0.0-a..b",
    "^1.2.3",
    "1.0.0 ",
    `1.${"0".repeat(300)}`,
  ]) {
    expect([text, isSemver(text)]).toEqual([text, false]);
  }
});

/** Each list is in ascending order; the first two are those of semver.org's section 11. */
const ASCENDING = [
  ["1.0.0", "2.0.0", "2.1.0", "2.1.1"],
  [
    ...["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"],
    ...["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"],
  ],
  ["0.0.0-0", "0.0.0", "0.0.1-a", "0.0.1"],
  ["1.9.0", "1.10.0"],
  ["1.0.0-2", "1.0.0-10", "1.0.0-1a"],
  ["1.0.0-A", "1.0.0-a"],
  ["9007199254740992.0.0", "9007199254740993.0.0"],
];

for (const versions of ASCENDING) {
  test(versions.join(" < "), () => {
    for (const [i, a] of versions.entries()) {
      expect(isSemver(a)).toBe(true);
      for (const [j, b] of versions.entries()) expect(Math.sign(compareSemver(a, b))).toBe(Math.sign(i - j));
    }
  });
}

test("build metadata and missing numbers are ignored", () => {
  expect(compareSemver("1.0.0+a", "1.0.0+b")).toBe(0);
  expect(compareSemver("1.0.0-x+a", "1.0.0-x")).toBe(0);
  expect(compareSemver("2", "2.0.0")).toBe(0);
});
