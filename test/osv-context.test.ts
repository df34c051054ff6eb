import { describe, expect, test } from "bun:test";
import { parseEpss, parseKev, parseVex } from "../src/osv-context.ts";
import type { EpssScore, VexStatement } from "../src/osv-record.ts";

const KEV = {
  title: "CISA Catalog of Known Exploited Vulnerabilities",
  catalogVersion: "2026.11.20",
  dateReleased: "2026-11-20T19:00:14.5797Z",
  count: 2,
  vulnerabilities: [
    { cveID: "CVE-2021-44228", vendorProject: "Apache", dateAdded: "2021-12-10", dueDate: "2021-12-24" },
    { cveID: "CVE-2024-1086", vendorProject: "Linux", dateAdded: "2024-05-30" },
  ],
};

describe("CISA's catalog", () => {
  const NONE: [string, unknown][] = [
    ["not an object", []],
    ["no entry", { ...KEV, vulnerabilities: [] }],
    ["no catalog", { vulnerabilities: KEV.vulnerabilities }],
    ["entries of another shape", { ...KEV, vulnerabilities: ["CVE-2021-44228"] }],
    ["no entry that can be read", { ...KEV, vulnerabilities: [{ cveID: "all", dateAdded: "2021-12-10" }] }],
  ];
  for (const [what, tree] of NONE) test(`none: ${what}`, () => expect(parseKev(tree)).toBeNull());

  test("by CVE; malformed entries are left out", () => {
    const odd = [
      { cveID: "CVE-2024-1\u202e", dateAdded: "2024-05-30" },
      { cveID: "CVE-2024-0001", dateAdded: "30 May" },
    ];
    expect(parseKev({ ...KEV, vulnerabilities: [...KEV.vulnerabilities, ...odd] })).toEqual(
      new Map([
        ["CVE-2021-44228", "2021-12-10"],
        ["CVE-2024-1086", "2024-05-30"],
      ]),
    );
  });
});

describe("FIRST's scores", () => {
  const HEAD = "#model_version:v2026.06.15,score_date:2026-11-20T12:00:22Z\ncve,epss,percentile\n";

  test("none: another file", () => {
    expect(parseEpss("")).toBeNull();
    expect(parseEpss("cve,percentile,epss\nCVE-1999-0001,0.1,0.2\n")).toBeNull();
    expect(parseEpss("<html>cve,epss,percentile\n")).toBeNull();
  });

  test("by CVE; malformed rows are left out", () => {
    const rows = [
      "CVE-1999-0001,0.00383,0.70088",
      "CVE-1999-0002,1.5,0.1",
      "CVE-1999-0003,-0.1,0.1",
      "CVE-1999-0004,0.1",
      "CVE-1999-0005,1e-3,0.1",
      "CVE-2021-44228,0.97565,1.0\r",
      "CVE-2024-1086,1,1.00000",
    ];
    const known = new Map<string, EpssScore>([
      ["CVE-1999-0001", { score: 0.00383, percentile: 0.70088 }],
      ["CVE-2021-44228", { score: 0.97565, percentile: 1 }],
      ["CVE-2024-1086", { score: 1, percentile: 1 }],
    ]);
    expect(parseEpss(HEAD + rows.join("\n"))).toEqual(known);
    expect(parseEpss(HEAD + rows.join("\n"), new Set(["CVE-2024-1086"]))?.size).toBe(1);
  });
});

describe("VEX documents", () => {
  const statement = {
    vulnerability: {
      "@id": "https://nvd.nist.gov/vuln/detail/CVE-2025-5994",
      name: "CVE-2025-5994",
      aliases: [
        "https://www.cve.org/CVERecord?id=CVE-2025-5994",
        "https://nlnetlabs.nl/downloads/unbound/CVE-2025-5994.txt",
        "https://ubuntu.com/security/notices/USN-7666-1",
        "GHSA-35jh-r3h4-6jhm",
      ],
    },
    products: [{ "@id": "pkg:deb/ubuntu/unbound@1.22.0-1?arch=source&distro=plucky" }, { "@id": "unbound" }],
    status: "not_affected",
    justification: "vulnerable_code_not_present",
    timestamp: "2025-07-17",
  };
  const head = { "@context": "https://openvex.dev/ns/v0.2.0", author: "Canonical Ltd.", version: 3 };
  const read: VexStatement = {
    vulnerabilities: ["CVE-2025-5994", "GHSA-35jh-r3h4-6jhm"],
    products: ["pkg:deb/ubuntu/unbound@1.22.0-1?arch=source&distro=plucky"],
    status: "not_affected",
    justification: "vulnerable_code_not_present",
    author: "Canonical Ltd.",
    timestamp: "2025-07-17",
    source: "a.json",
    authentic: false,
  };

  const NONE: [string, unknown][] = [
    ["not an object", null],
    ["no context", { author: "x", statements: [statement] }],
    ["another context", { ...head, "@context": "https://cyclonedx.org", statements: [statement] }],
    ["no author", { "@context": head["@context"], statements: [statement] }],
    ["no statements", head],
  ];
  for (const [what, tree] of NONE)
    test(`none: ${what}`, () => expect(parseVex(tree, "a.json", true)).toBeNull());

  const LEFT_OUT: [string, object][] = [
    ["a status that isn't one", { ...statement, status: "fine" }],
    ["no product", { ...statement, products: [] }],
    ["no product with an address", { ...statement, products: [{ "@id": "unbound" }] }],
    ["a name that isn't one", { ...statement, vulnerability: "every vulnerability there is" }],
    ["only an advisory's alias", { ...statement, vulnerability: { aliases: ["USN-7666-1"] } }],
  ];
  for (const [what, one] of LEFT_OUT)
    test(`left out: ${what}`, () =>
      expect(parseVex({ ...head, statements: [one, statement] }, "a.json", false)).toEqual([read]));

  test("Ubuntu's, with its head in `metadata`", () => {
    expect(parseVex({ metadata: head, statements: [statement] }, "a.json", false)).toEqual([read]);
  });

  test("as version 0.0.1 had it: a name and products in words", () => {
    const old = { ...statement, vulnerability: "CVE-2025-5994", products: ["pkg:deb/ubuntu/unbound"] };
    expect(
      parseVex({ ...head, timestamp: "2025-01-01", statements: [{ ...old, timestamp: null }] }, "b", true),
    ).toEqual([
      {
        ...read,
        ...{ vulnerabilities: ["CVE-2025-5994"], products: ["pkg:deb/ubuntu/unbound"] },
        ...{ timestamp: "2025-01-01", source: "b", authentic: true },
      },
    ]);
  });
});
