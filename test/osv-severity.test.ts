import { describe, expect, test } from "bun:test";
import { toOsvRecord } from "../src/osv-record.ts";
import { cvss3BaseScore, severityOf } from "../src/osv-severity.ts";

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

describe("CVSS 3 base score", () => {
  for (const [name, metrics, score] of PUBLISHED) {
    test(`${name}: ${score}`, () => {
      expect(cvss3BaseScore(`CVSS:3.1/${metrics}`)).toBe(score);
      expect(cvss3BaseScore(`CVSS:3.0/${metrics}`)).toBe(score);
    });
  }

  test("order and further metrics do not matter", () => {
    expect(cvss3BaseScore("CVSS:3.1/A:H/I:H/C:H/S:U/UI:N/PR:N/AC:L/AV:N/E:P/RL:O")).toBe(9.8);
  });

  const METRICS = "AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
  const NONE = [
    "",
    METRICS,
    `CVSS:4.0/${METRICS}`,
    `CVSS:3.2/${METRICS}`,
    `CVSS:3.1/${METRICS}/AV:L`,
    `CVSS:3.1/${METRICS.replace("/A:H", "")}`,
    `CVSS:3.1/${METRICS.replace("AV:N", "AV:toString")}`,
    `CVSS:3.1/${METRICS.replace("AV:N", "AV:constructor")}`,
    `CVSS:3.1/${METRICS}/`,
    `CVSS:3.1/${METRICS}/E:P:H`,
  ];
  for (const text of NONE) test(`no score: ${text}`, () => expect(cvss3BaseScore(text)).toBeNull());
});

const LOW = "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N";
const CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
const NOTHING = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:N/A:N";
const V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N";
const rated = (...scores: unknown[]) => ({ severity: scores.map((score) => ({ type: "X", score })) });

const SEVERITIES: [string, object, object, string][] = [
  ["no rating", {}, {}, "unknown"],
  ["CVSS 4 alone", rated(V4), {}, "unknown"],
  ["Debian: not yet assigned", {}, { ecosystem_specific: { urgency: "not yet assigned" } }, "unknown"],
  ["a word that is none", {}, { ecosystem_specific: { severity: "toString" } }, "unknown"],
  ["a rating that is no text", {}, { ecosystem_specific: { severity: { toString: 1 } } }, "unknown"],
  ["ratings that are no list", { severity: "HIGH" }, { database_specific: [1] }, "unknown"],
  ["no impact at all", rated(NOTHING), {}, "none"],
  ["no impact, but CVSS 4 too", rated(NOTHING, V4), {}, "none"],
  ["CVSS 4 with GitHub's word", { ...rated(V4), database_specific: { severity: "MODERATE" } }, {}, "medium"],
  ["the vector is graver", { ...rated(CRITICAL), database_specific: { severity: "LOW" } }, {}, "critical"],
  ["the word is graver", { ...rated(LOW), database_specific: { severity: "HIGH" } }, {}, "high"],
  ["one of two vectors", rated(LOW, CRITICAL), {}, "critical"],
  ["beside one that is malformed", rated(7, CRITICAL, null), {}, "critical"],
  ["of the package alone", {}, rated(CRITICAL), "critical"],
  ["Ubuntu priority", rated("negligible"), {}, "low"],
  ["Ubuntu priority, older form", {}, { ecosystem_specific: { ubuntu_priority: "high" } }, "high"],
  ["Debian urgency, a guess", {}, { ecosystem_specific: { urgency: "medium**" } }, "medium"],
  ["Debian: unimportant", {}, { ecosystem_specific: { urgency: "unimportant" } }, "low"],
  [
    "Ubuntu notice",
    {},
    { database_specific: { cves_map: { cves: [rated(LOW, "medium"), rated(CRITICAL)] } } },
    "critical",
  ],
  ["malicious by id", { id: "MAL-2026-1" }, {}, "critical"],
  ["malicious by alias", { aliases: ["MAL-2026-1"] }, {}, "critical"],
];

describe("severity", () => {
  for (const [what, ofRecord, ofEntry, severity] of SEVERITIES) {
    test(what, () => {
      const record = toOsvRecord({ id: "X-1", affected: [ofEntry], ...ofRecord });
      expect(record).not.toBeNull();
      if (record !== null) expect(severityOf(record, record.affected)).toBe(severity as "low");
    });
  }
});
