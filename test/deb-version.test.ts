import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { compareDebVersions, isDebVersion } from "../src/deb-version.ts";

/** Older first. From python-debian's and apt's own tables, each checked with `dpkg --compare-versions`. */
const ORDERED: [string, string][] = [
  ["0", "a"],
  ["1.0", "1.1"],
  ["1.2", "1.11"],
  ["1.0-0.1", "1.1"],
  ["1.0-0.1", "1.0-1"],
  ["1.0final-5", "1.0final-5sarge1"],
  ["1.0a7-2", "1.0final-5"],
  ["0.9.2-5", "0.9.2+cvs.1.0.dev.2004.07.28-1.5"],
  ["1:500", "1:5000"],
  ["11:5000", "100:500"],
  ["1.0pre7-2", "1.0.4-2"],
  ["1.5~rc1", "1.5"],
  ["1.5~rc1", "1.5+b1"],
  ["1.5~rc1", "1.5~rc2"],
  ["1.5~dev0", "1.5~rc1"],
  ["1.0~~", "1.0~~a"],
  ["1.0~~a", "1.0~"],
  ["1.0~", "1.0"],
  ["9", "1:0"],
  ["1.0-1~bpo12+1", "1.0-1"],
  ["1.0-1", "1.0-1+b1"],
  ["1.0-1+b1", "1.0-1.1"],
  ["1.0-2", "1.0-1-1"],
  ["2.0", "2.0-0ubuntu1"],
  ["1.22.1-9+deb12u9", "1.22.1-9+deb12u11"],
  ["20230311+deb12u1", "20250419~deb12u2"],
  ["3.0.13-0ubuntu3.4", "3.0.13-0ubuntu3.15"],
  ["99999999999999999998", "99999999999999999999"],
];
const EQUAL: [string, string][] = [
  ["1.0", "1.0"],
  ["0:1.0", "1.0"],
  ["1.0", "1.00"],
  ["12.04", "12.4"],
  ["1.0-0", "1.0"],
  ["1.0-00", "1.0-0"],
  ["1:1.0-0.1", "1:1.0-0.1"],
];

describe("compareDebVersions", () => {
  for (const [older, newer] of ORDERED) {
    test(`${older} is older than ${newer}`, () => {
      expect(compareDebVersions(older, newer)).toBeLessThan(0);
      expect(compareDebVersions(newer, older)).toBeGreaterThan(0);
    });
  }
  for (const [a, b] of EQUAL) {
    test(`${a} equals ${b}`, () => {
      expect(compareDebVersions(a, b)).toBe(0);
      expect(compareDebVersions(b, a)).toBe(0);
    });
  }

  const version = fc.stringMatching(/^(?:[0-3]:)?[0-9][0-9a.+~-]{0,5}[0-9a.+~]$/);
  test("is an order: antisymmetric and transitive", () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(Math.sign(compareDebVersions(a, b))).toBe(-Math.sign(compareDebVersions(b, a)) + 0);
        const sorted = [a, b, c].sort(compareDebVersions);
        expect(compareDebVersions(sorted[0] ?? "", sorted[2] ?? "")).toBeLessThanOrEqual(0);
      }),
    );
  });
});

describe("isDebVersion", () => {
  for (const text of [
    "",
    "1*",
    "1.0 ",
    "/1.0/",
    "-1",
    "a:1",
    "1:",
    "1_0",
    "1.0-",
    "1.0\n",
    `1${"0".repeat(300)}`,
  ]) {
    test(`refuses ${JSON.stringify(text.slice(0, 20))}`, () => expect(isDebVersion(text)).toBe(false));
  }
  for (const text of ["1", "1:2.0~rc1+dfsg-1+b2", "0.4.23debian1", "20250419~deb12u2"]) {
    test(`takes ${text}`, () => expect(isDebVersion(text)).toBe(true));
  }
});
