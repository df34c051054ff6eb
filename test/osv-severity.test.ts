import { describe, expect, test } from "bun:test";
import { toOsvRecord } from "../src/osv-record.ts";
import { severityOf } from "../src/osv-severity.ts";

const LOW = "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N";
const CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
const NOTHING = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:N/A:N";
const V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N";
const V4_LOW = "CVSS:4.0/AV:P/AC:H/AT:P/PR:H/UI:A/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N";
const V2 = "AV:N/AC:L/Au:N/C:C/I:C/A:C";
const V2_HIGH = "AV:N/AC:L/Au:N/C:P/I:P/A:P";
const BROKEN = "CVSS:4.0/AV:N/AC:L";
const rated = (...scores: unknown[]) => ({ severity: scores.map((score) => ({ type: "X", score })) });

const SEVERITIES: [string, object, object, string][] = [
  ["no rating", {}, {}, "unknown"],
  ["CVSS 4 alone", rated(V4), {}, "critical"],
  ["CVSS 4, 10.0", rated(V4.replaceAll(":N/SI:N/SA:N", ":H/SI:H/SA:H")), {}, "critical"],
  ["CVSS 4, low", rated(V4_LOW), {}, "low"],
  [
    "CVSS 4, 10.0, unexploited",
    rated(`${V4.replaceAll(":N/SI:N/SA:N", ":H/SI:H/SA:H")}/E:U`),
    {},
    "critical",
  ],
  ["CVSS 2, 10.0", rated(V2), {}, "critical"],
  ["CVSS 2, 7.5", rated(V2_HIGH), {}, "high"],
  ["CVSS 2 higher than CVSS 3", rated(LOW, V2), {}, "critical"],
  ["CVSS 4 higher than CVSS 3", rated(LOW, V4), {}, "critical"],
  ["CVSS 3 higher than CVSS 4", rated(V4_LOW, CRITICAL), {}, "critical"],
  ["malformed alone", rated(BROKEN), {}, "unknown"],
  ["malformed beside no impact", rated(BROKEN, NOTHING), {}, "unknown"],
  ["malformed beside low", rated(BROKEN, LOW), {}, "low"],
  ["malformed beside critical", rated(CRITICAL, BROKEN), {}, "critical"],
  ["Debian: not yet assigned", {}, { ecosystem_specific: { urgency: "not yet assigned" } }, "unknown"],
  ["an unknown word", {}, { ecosystem_specific: { severity: "toString" } }, "unknown"],
  ["a rating that is not text", {}, { ecosystem_specific: { severity: { toString: 1 } } }, "unknown"],
  ["ratings that are not a list", { severity: "HIGH" }, { database_specific: [1] }, "unknown"],
  ["no impact at all", rated(NOTHING), {}, "none"],
  ["no impact, but CVSS 4 too", rated(NOTHING, V4), {}, "critical"],
  [
    "CVSS 4 with GitHub's word",
    { ...rated(V4_LOW), database_specific: { severity: "MODERATE" } },
    {},
    "medium",
  ],
  ["a more severe vector", { ...rated(CRITICAL), database_specific: { severity: "LOW" } }, {}, "critical"],
  ["a more severe word", { ...rated(LOW), database_specific: { severity: "HIGH" } }, {}, "high"],
  ["one of two vectors", rated(LOW, CRITICAL), {}, "critical"],
  ["beside one that is malformed", rated(7, CRITICAL, null), {}, "critical"],
  ["of the package alone", {}, rated(CRITICAL), "critical"],
  ["Ubuntu priority", rated("negligible"), {}, "low"],
  ["Ubuntu priority, older form", {}, { ecosystem_specific: { ubuntu_priority: "high" } }, "high"],
  ["Debian urgency, a guess", {}, { ecosystem_specific: { urgency: "medium**" } }, "medium"],
  ["Debian: unimportant", {}, { ecosystem_specific: { urgency: "unimportant" } }, "low"],
  [
    "Debian: unimportant, though critical upstream",
    rated(CRITICAL),
    { ecosystem_specific: { urgency: "unimportant" } },
    "low",
  ],
  [
    "Debian: end of life, which says nothing of the vulnerability",
    rated(CRITICAL),
    { ecosystem_specific: { urgency: "end-of-life" } },
    "critical",
  ],
  ["Debian: end of life, and no score", {}, { ecosystem_specific: { urgency: "end-of-life" } }, "unknown"],
  ["Ubuntu priority beside a graver score", rated(CRITICAL, "low"), {}, "critical"],
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
