import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { compareDebVersions, isDebVersion } from "../src/apt-target.ts";
import type { Versioning } from "../src/eco-grammar.ts";
import { SEMVER } from "../src/eco-semver.ts";
import { nugetGrammar } from "../src/nuget-target.ts";
import { judgeVersion } from "../src/osv-range.ts";
import { toOsvRecord } from "../src/osv-record.ts";
import { entriesFor } from "../src/osv-subjects.ts";
import { pipGrammar } from "../src/pip-target.ts";

/*
 * Others' tables, whole: google/osv-scalibr's of how versions are ordered and which versions a record affects, and the versions of
 * dpkg's own test.
 */

const FIXTURES = join(import.meta.dir, "fixtures/osv-scalibr");
const HOST = {
  hostname: "h",
  machine_id_hash: "0".repeat(64),
  os_id: "debian",
  os_version: "12",
  architecture: "amd64",
};

function rows(name: string): string[] {
  const bytes = readFileSync(join(FIXTURES, name));
  const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => /^[^#/]\S* [<=>] \S+$/.test(line));
}

function versioningOf(grammar: typeof pipGrammar): Versioning {
  const ecosystem = grammar.osv(HOST);
  if (ecosystem === null) throw new Error("no ecosystem");
  return ecosystem.versioning;
}

const DEB: Versioning = { isVersion: isDebVersion, compare: compareDebVersions };
/** Pairs, how many of them name a version that ours doesn't take for one, and why that is. */
const TABLES: [string, Versioning, number, number, string][] = [
  ["debian-versions.txt", DEB, 30, 0, ""],
  ["debian-versions-generated.txt.gz", DEB, 14442, 0, ""],
  ["semver-versions.txt", SEMVER, 86, 1, "five numbers"],
  ["nuget-versions.txt", versioningOf(nugetGrammar), 35, 2, "numbers of thirty digits"],
  ["pypi-versions.txt", versioningOf(pipGrammar), 37, 11, "older than PEP 440, which pip doesn't install"],
  [
    "pypi-versions-generated.txt.gz",
    versioningOf(pipGrammar),
    12375,
    69,
    "older than PEP 440, which pip doesn't install",
  ],
];

describe("the order of versions", () => {
  for (const [name, versioning, pairs, strange, why] of TABLES) {
    test(`${name}: ${pairs} pairs${strange === 0 ? "" : `, ${strange} with what is no version here (${why})`}`, () => {
      const all = rows(name);
      const wrong: string[] = [];
      let unknown = 0;
      for (const row of all) {
        const [a = "", sign = "", b = ""] = row.split(" ");
        if (!versioning.isVersion(a) || !versioning.isVersion(b)) {
          unknown++;
          continue;
        }
        const expected = "<=>".indexOf(sign) - 1;
        const found = [Math.sign(versioning.compare(a, b)), -Math.sign(versioning.compare(b, a))];
        if (found.some((one) => one !== expected)) wrong.push(row);
      }
      expect(wrong).toEqual([]);
      expect([all.length, unknown]).toEqual([pairs, strange]);
    });
  }
});

interface Case {
  affected: object[];
  cases: [version: string, expected: boolean][];
}

/**
 * Ours counts what can't be ordered as affected, since a record that names the package must not be ignored: 2.0.0rc2 is no version of
 * npm's.
 */
const CAUTIOUS = [3, 5, 6, 7, 12, 14, 15, 16].map((i) => `${i} 2.0.0rc2: true`);

test("which versions a record affects", () => {
  const tables: Case[] = JSON.parse(readFileSync(join(FIXTURES, "is-affected.json"), "utf8"));
  const different: string[] = [];
  let count = 0;
  for (const [i, { affected, cases }] of tables.entries()) {
    const record = toOsvRecord({ id: "1", affected });
    for (const [version, expected] of cases) {
      count++;
      const subject = { package: "my-package", version, appliesTo: "new" } as const;
      const named = { names: ["my-package"], ecosystems: ["npm"], osvVersion: version };
      const entries = entriesFor(record?.affected ?? [], { ...subject, ...named });
      const found = entries.length > 0 && judgeVersion(entries, version, SEMVER).affected;
      if (found !== expected) different.push(`${i} ${version}: ${found}`);
    }
  }
  expect(different).toEqual(CAUTIOUS);
  expect([tables.length, count]).toEqual([20, 196]);
});

/** guillemj/dpkg, lib/dpkg/t/t-version.c at 0d609e2c: versions that parse, with an equal one. */
const PARSED: [string, string][] = [
  ["0", "0:0-0"],
  ["0:0", "0"],
  ["0:0-0", "0"],
  ["0:0-00", "0:00-0"],
  ["0:0.0-0.0", "0.0-0.0"],
  ["1:0", "1:0-0"],
  ["5:1", "5:1"],
  ["0:0-0-0", "0-0-0"],
  ["0:0-0-0-0", "0-0-0-0"],
  ["0:0:0-0", "0:0:0"],
  ["0:0:0:0-0", "0:0:0:0"],
  ["0:0:0-0-0", "0:0:0-0-0"],
  ["0:0-0:0-0", "0:0-0:0-0"],
  ["0:09azAZ.-+~:-0", "0:09azAZ.-+~:-0"],
  ["0:0-azAZ09.+~", "0-azAZ09.+~"],
];
/** Versions that don't, and the last four, which dpkg takes with a trailing hyphen or white space around them. */
const REFUSED = [
  ...["", "  ", "0:", "0:0 0-1", "-1:0-1", "999999999999999999999999:0-1", "a:0-0", "A:0-0", "-0", "0:-0"],
  ...["0:abc3-0", "0:0-0:0"],
  ...[..."!#@$%&/|\\<>()[]{};,_=*^'"].flatMap((c) => [`0:0${c}-0`, `0:0-${c}`]),
  ...["0:0-", "  \t0:0-1", "0:0-1\t  ", "\t  0:0-1  \t"],
];

describe("dpkg's own table", () => {
  test(`${PARSED.length} versions are ones`, () => {
    for (const [a, b] of PARSED) expect([a, isDebVersion(a), compareDebVersions(a, b)]).toEqual([a, true, 0]);
  });
  test(`${REFUSED.length} are not`, () => {
    expect(REFUSED.filter(isDebVersion)).toEqual([]);
  });
});
