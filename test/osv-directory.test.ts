import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { change, lines, look, planning } from "./osv-kit.ts";

/*
 * What a directory has beside OSV's records.
 */

const RECORD = JSON.stringify({
  id: "DEBIAN-CVE-2026-0001",
  modified: "2026-11-20T00:00:00Z",
  upstream: ["CVE-2026-0001"],
  affected: [
    {
      package: { ecosystem: "Debian:12", name: "hello" },
      ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }] }],
    },
  ],
});
const KEV = JSON.stringify({
  catalogVersion: "2026.11.20",
  vulnerabilities: [{ cveID: "CVE-2026-0001", dateAdded: "2026-11-01" }],
});
const EPSS =
  "#model_version:v2026.06.15\ncve,epss,percentile\nCVE-2026-0001,0.5,0.98\nCVE-2026-0002,0.1,0.9\n";
const vex = (product = "pkg:deb/debian/hello@1.0-1?arch=source", more = {}) =>
  JSON.stringify({
    ...{ "@context": "https://openvex.dev/ns/v0.2.0", author: "Somebody" },
    statements: [
      {
        ...{ vulnerability: { name: "CVE-2026-0001" }, products: [{ "@id": product }] },
        ...{ status: "not_affected", justification: "vulnerable_code_not_present" },
        ...more,
      },
    ],
  });

async function lookIn(files: Record<string, string | Uint8Array>) {
  const directory = mkdtempSync(join(tmpdir(), "aegis-osv-"));
  try {
    for (const [name, data] of Object.entries({ "Debian/a.json": RECORD, ...files })) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), data);
    }
    return await look(planning({ AEGIS_OSV_DIR: directory }), [change("hello", null, "1.0-1")]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("CISA's catalog in a directory", () => {
  test("one that can't be read leaves all versions open", async () => {
    const plan = await lookIn({
      "known_exploited_vulnerabilities.json": `{"catalogVersion": "x", "hello": 1}`,
    });
    expect(lines(plan)).toContain("new hello-bin 1.0-1 no-data unknown");
    expect(plan.warnings.join()).toContain("is not a catalog of exploited vulnerabilities");
  });
  test("a cut-off one does too", async () => {
    const plan = await lookIn({ "kev.json": KEV.slice(0, -2) });
    expect(lines(plan)).toContain("new hello-bin 1.0-1 no-data unknown");
  });
  test("under any name, by content", async () => {
    const plan = await lookIn({ "kev.json": KEV });
    expect(plan.vulnerability_evidence).toHaveLength(1);
    expect(plan.vulnerability_evidence[0]?.known_exploited).toEqual({
      cve: "CVE-2026-0001",
      since: "2026-11-01",
    });
    expect(plan.warnings).toEqual([]);
  });
});

describe("EPSS scores in a directory", () => {
  const CASES: [string, Record<string, string | Uint8Array>, number | undefined][] = [
    ["as FIRST's file", { "epss_scores-2026-11-20.csv": EPSS }, 0.5],
    ["compressed", { "epss_scores-current.csv.gz": gzipSync(EPSS) }, 0.5],
    [
      "the newest of two",
      { "epss_scores-2026-11-19.csv": EPSS.replace("0.5", "0.7"), "epss_scores-2026-11-20.csv": EPSS },
      0.5,
    ],
    ["under another name", { "scores.csv": EPSS }, undefined],
  ];
  for (const [what, files, score] of CASES) {
    test(what, async () => {
      const plan = await lookIn(files);
      expect(plan.vulnerability_evidence[0]?.epss?.score).toBe(score);
      expect(plan.warnings).toEqual([]);
    });
  }
  for (const [what, data] of [
    ["not compressed", EPSS],
    ["cut off", gzipSync(EPSS).subarray(0, 20)],
    ["another file", gzipSync("a,b,c\n")],
  ] as const) {
    test(`told if it can't be read: ${what}`, async () => {
      const plan = await lookIn({ "epss_scores-current.csv.gz": data });
      expect(plan.vulnerability_evidence[0]?.epss).toBeUndefined();
      expect(plan.warnings).toEqual([
        "Vulnerabilities: epss_scores-current.csv.gz could not be read as EPSS scores.",
      ]);
    });
  }
});

describe("VEX documents in a directory", () => {
  const stated = async (files: Record<string, string>) =>
    (await lookIn(files)).vulnerability_evidence[0]?.vex;

  const NOT: [string, Record<string, string>][] = [
    ["another version", { "a.openvex.json": vex("pkg:deb/debian/hello@1.0-2?arch=source") }],
    ["any version", { "a.openvex.json": vex("pkg:deb/debian/hello?arch=source") }],
    ["a binary package", { "a.openvex.json": vex("pkg:deb/debian/hello@1.0-1?arch=amd64") }],
    ["another distribution", { "a.openvex.json": vex("pkg:deb/ubuntu/hello@1.0-1?arch=source") }],
    ["another package", { "a.openvex.json": vex("pkg:deb/debian/hello2@1.0-1?arch=source") }],
    ["another vulnerability", { "a.openvex.json": vex(undefined, { vulnerability: "CVE-2026-0002" }) }],
    [
      "an advisory by its alias",
      { "a.openvex.json": vex(undefined, { vulnerability: { aliases: ["USN-1-1"] } }) },
    ],
  ];
  for (const [what, files] of NOT)
    test(`not about it: ${what}`, async () => expect(await stated(files)).toBeUndefined());

  const SHOWN = {
    status: "not_affected",
    justification: "vulnerable_code_not_present",
    author: "Somebody",
    authentic: false,
  } as const;
  const ABOUT: [string, Record<string, string>][] = [
    ["directly in it", { "a.openvex.json": vex() }],
    ["as Ubuntu's archive has them", { "vex/cve/2026/CVE-2026-0001.json": vex() }],
    ["escaped", { "a.openvex.json": vex("pkg:deb/debian/hello@1%2E0%2d1?arch=source&distro=bookworm") }],
  ];
  for (const [what, files] of ABOUT)
    test(`shown, and no more than that: ${what}`, async () => expect(await stated(files)).toEqual(SHOWN));

  test("of two statements the newer counts, of two equally old the less hopeful", async () => {
    const older = { status: "affected", timestamp: "2026-01-01" };
    const newer = { timestamp: "2026-01-02" };
    expect(await stated({ "a.json": vex(undefined, newer), "b.json": vex(undefined, older) })).toEqual(SHOWN);
    expect(
      (await stated({ "a.json": vex(), "b.json": vex(undefined, { status: "affected" }) }))?.status,
    ).toBe("affected");
  });

  test("one that can't be read is told of", async () => {
    const plan = await lookIn({ "vex/a.json": vex().replace('"author"', '"writer"'), "vex/b.json": "{" });
    expect(plan.vulnerability_evidence).toHaveLength(1);
    expect(plan.warnings).toEqual([
      "Vulnerabilities: vex/a.json is not an OpenVEX document.",
      "Vulnerabilities: vex/b.json is unreadable, too large or cut off.",
    ]);
  });
});
