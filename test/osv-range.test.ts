import { describe, expect, test } from "bun:test";
import { compareDebVersions, isDebVersion } from "../src/apt-target.ts";
import type { Versioning } from "../src/eco-grammar.ts";
import { SEMVER } from "../src/eco-semver.ts";
import { judgeVersion } from "../src/osv-range.ts";
import { type OsvAffected, toOsvRecord } from "../src/osv-record.ts";

const DEB: Versioning = { isVersion: isDebVersion, compare: compareDebVersions };

type Event = { introduced?: string; fixed?: string; last_affected?: string; limit?: string };

function entries(...affected: object[]): OsvAffected[] {
  const record = toOsvRecord({ id: "X-1", affected });
  if (record === null) throw new Error("not a record");
  return record.affected;
}

const range = (...events: Event[]) => ({ ranges: [{ type: "SEMVER", events }] });
const from0 = { introduced: "0" };

/** The fixed version or "" if affected; null if not affected. */
const judged = (affected: OsvAffected[], version: string, versioning: Versioning) => {
  const verdict = judgeVersion(affected, version, versioning);
  return verdict.affected ? (verdict.fixed ?? "") : verdict.fixed;
};

const SEMANTIC: [string, object[], Record<string, string | null>][] = [
  ["unfixed", [range(from0)], { "0.0.0-0": "", "1.0.0": "", "99.0.0": "" }],
  [
    "fixed",
    [range(from0, { fixed: "1.0.2" })],
    { "0.0.0-0": "1.0.2", "1.0.2-rc.1": "1.0.2", "1.0.2": null, "1.0.3": null },
  ],
  [
    "two ranges in one, as in the schema's examples",
    [range({ introduced: "1.0.0" }, { fixed: "1.0.2" }, { introduced: "3.0.0" }, { fixed: "3.2.5" })],
    { "0.9.0": null, "1.0.0": "1.0.2", "1.0.2": null, "2.0.0": null, "3.0.0": "3.2.5", "3.2.5": null },
  ],
  [
    "not in order",
    [range({ fixed: "3.2.5" }, { introduced: "3.0.0" }, { fixed: "1.0.2" }, { introduced: "1.0.0" })],
    { "1.0.1": "1.0.2", "2.0.0": null, "3.1.0": "3.2.5" },
  ],
  [
    "fixed and introduced again in one version",
    [range(from0, { fixed: "1.0.0" }, { introduced: "1.0.0" }, { fixed: "2.0.0" })],
    { "0.5.0": "1.0.0", "1.0.0": "2.0.0", "2.0.0": null },
  ],
  ["last affected", [range(from0, { last_affected: "2.1.214" })], { "2.1.214": "", "2.1.215": null }],
  ["limit", [range(from0, { limit: "2.0.0" })], { "1.0.0": "", "2.0.0": null }],
  [
    "the higher of two limits",
    [range(from0, { limit: "1.0.0" }, { limit: "2.0.0" })],
    { "1.5.0": "", "2.0.0": null },
  ],
  ["a limit of *", [range(from0, { limit: "*" })], { "99.0.0": "" }],
  ["never introduced", [range({ fixed: "1.0.0" })], { "0.1.0": null }],
  ["fixed before introduced", [range(from0, { fixed: "0" })], { "0.1.0": null, "1.0.0": null }],
  ["listed", [{ versions: ["1.0.0", "1.0.1"] }], { "1.0.0": "", "1.0.2": null }],
  [
    "listed outside its range",
    [{ ...range({ introduced: "2.0.0" }, { fixed: "3.0.0" }), versions: ["1.0.0"] }],
    { "1.0.0": "", "2.5.0": "3.0.0", "1.5.0": null },
  ],
  [
    "two entries, both fixes needed",
    [range(from0, { fixed: "1.9.0" }), range(from0, { fixed: "1.10.0" })],
    { "1.0.0": "1.10.0", "1.9.5": "1.10.0" },
  ],
  [
    "two entries, one without a fix",
    [range(from0, { fixed: "1.9.0" }), range(from0)],
    { "1.0.0": "", "2.0.0": "" },
  ],
  [
    "commits beside versions",
    [{ ranges: [{ type: "GIT", events: [from0] }], versions: ["1.0.0"] }],
    { "1.0.0": "", "2.0.0": null },
  ],
  ["undecidable: commits alone", [{ ranges: [{ type: "GIT", events: [from0] }] }], { "1.0.0": "" }],
  ["undecidable: neither range nor list", [{}], { "1.0.0": "" }],
  ["undecidable: a bound that is not a version", [range(from0, { fixed: "see notes" })], { "1.0.0": "" }],
  ["undecidable: an invalid version", [range(from0, { fixed: "1.0.0" })], { "not-a-version": "" }],
  ["about nothing", [], { "1.0.0": null }],
];

describe("the OSV schema's evaluation, semantic versions", () => {
  for (const [what, affected, versions] of SEMANTIC) {
    for (const [version, fixed] of Object.entries(versions)) {
      test(`${what}: ${version}`, () => expect(judged(entries(...affected), version, SEMVER)).toBe(fixed));
    }
  }
});

describe("Debian versions", () => {
  const CASES: [string, string, string | null][] = [
    ["3.0.13-1~deb12u1", "3.0.11-1~deb12u2", "3.0.13-1~deb12u1"],
    ["3.0.13-1~deb12u1", "3.0.13-1~deb12u1", null],
    ["3.0.13-1~deb12u1", "3.0.13-1", null],
    ["1:1.2.13.dfsg-1", "9.9", "1:1.2.13.dfsg-1"],
    ["1.9-1", "1.10-1", null],
    ["1.0-1", "0~rc1", "1.0-1"],
  ];
  for (const [fixed, version, expected] of CASES) {
    test(`${version}, fixed in ${fixed}`, () =>
      expect(judged(entries(range(from0, { fixed })), version, DEB)).toBe(expected));
  }
});
