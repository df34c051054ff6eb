import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { cvssBaseScore } from "../src/osv-cvss.ts";

describe("no score", () => {
  const V2 = "AV:N/AC:L/Au:N/C:C/I:C/A:C";
  const V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
  const V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H";
  const CASES = [
    "",
    "high",
    "10.0",
    V3.slice(9),
    V3.replace("3.1", "3.2"),
    V3.replace("3.1", "4.0"),
    V3.replace("3.1", "2.0"),
    V4.replace("4.0", "4.1"),
    V4.replace("4.0", "3.1"),
    V4.replace("CVSS", "cvss"),
    `CVSS:2.0/${V2}`,
    `(${V2})`,
    ` ${V2}`,
    `${V2}\n`,
    `${V2}/AV:L`,
    `${V2}/AV:N`,
    `${V2}/`,
    `/${V2}`,
    V2.replace("/A:C", ""),
    V2.replace("/A:C", "/A:ND"),
    V2.replace("/A:C", "/A:H"),
    V2.replace("Au:N", "au:N"),
    `${V3}/AV:L`,
    `${V3}/E:P:H`,
    `${V3}/E:Q`,
    `${V3}/XX:P`,
    V3.replace("/A:H", ""),
    V3.replace("/A:H", "/A:X"),
    V3.replace("AV:N", "AV:toString"),
    V3.replace("AV:N", "constructor:N"),
    V3.replace("AV:N", "Attack Vector:N"),
    `${V4}/SA:N`,
    V4.replace("/SA:H", ""),
    V4.replace("/AT:N", ""),
    V4.replace("AV:N", "AV:X"),
    // Safety is only a value of the modified metric.
    V4.replace("SI:H", "SI:S"),
  ];
  for (const text of CASES) test(JSON.stringify(text), () => expect(cvssBaseScore(text)).toBeNull());
  test("10,000 metrics", () => expect(cvssBaseScore(`${V2}${"/A:C".repeat(10_000)}`)).toBeNull());
});

/** From FIRST's "CVSS v3.1 Examples", with the scores given there. */
const PUBLISHED: [string, string, number][] = [
  ["CVE-2013-1937", "AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1],
  ["CVE-2013-0375", "AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4],
  ["CVE-2014-3566", "AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1],
  ["CVE-2012-1516", "AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9],
  ["CVE-2009-0783", "AV:L/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:L", 4.2],
  ["CVE-2012-0384", "AV:N/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 8.8],
  ["CVE-2015-1098", "AV:L/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H", 7.8],
  ["CVE-2014-0160", "AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5],
  ["CVE-2014-6271", "AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8],
  ["CVE-2008-1447", "AV:N/AC:H/PR:N/UI:N/S:C/C:N/I:H/A:N", 6.8],
  ["CVE-2014-2005", "AV:P/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 6.8],
  ["CVE-2010-0467", "AV:N/AC:L/PR:N/UI:N/S:C/C:L/I:N/A:N", 5.8],
  ["CVE-2012-1342", "AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:L/A:N", 5.8],
  ["CVE-2013-6014", "AV:A/AC:L/PR:N/UI:N/S:C/C:H/I:N/A:H", 9.3],
  ["CVE-2014-9253", "AV:N/AC:L/PR:L/UI:R/S:C/C:L/I:L/A:N", 5.4],
  ["CVE-2011-1265", "AV:A/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 8.8],
  ["CVE-2014-2019", "AV:P/AC:L/PR:N/UI:N/S:U/C:N/I:H/A:N", 4.6],
  ["nothing", "AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:N/A:N", 0],
  ["highest", "AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10],
];

describe("FIRST's examples of CVSS 3", () => {
  for (const [name, metrics, score] of PUBLISHED) {
    test(`${name}: ${score}`, () => {
      expect(cvssBaseScore(`CVSS:3.1/${metrics}`)).toBe(score);
      expect(cvssBaseScore(`CVSS:3.0/${metrics}`)).toBe(score);
    });
  }

  test("order and further metrics do not matter", () => {
    expect(cvssBaseScore("CVSS:3.1/A:H/I:H/C:H/S:U/UI:N/PR:N/AC:L/AV:N/E:P/RL:O")).toBe(9.8);
  });
});

/** See the README beside the vectors. */
const VECTORS = join(import.meta.dir, "fixtures/cvss");

describe("vectors of another implementation", () => {
  for (const file of readdirSync(VECTORS).filter((name) => name.endsWith(".txt"))) {
    test(file, () => {
      const lines = readFileSync(join(VECTORS, file), "utf8").trimEnd().split("\n");
      expect(lines.length).toBeGreaterThan(100);
      const differing = lines.filter((line) => {
        const [vector = "", score = ""] = line.split(" ");
        return cvssBaseScore(vector) !== Number(score);
      });
      expect(differing).toEqual([]);
    });
  }
});
