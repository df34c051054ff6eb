import { describe, expect, test } from "bun:test";
import { NO_DATA } from "../src/doc-evidence.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { severityCounts, vulnerabilityChange, vulnerabilityText } from "../src/doc-vulnerabilities.ts";
import { entry, upgrade, vulnerability } from "./policy-plans.ts";

type Row = Partial<OperationPlan["vulnerability_evidence"][number]>;

const NEW = { package: "libssl3", version: "3.0.2", matched_version: "3.0.2", source_package: "openssl" };
const OLD: Row = { ...NEW, version: "3.0.1", matched_version: "3.0.1", applies_to: "old" };
const PLAN = upgrade({ transaction: [entry("libssl3", { from_version: "3.0.1", to_version: "3.0.2" })] });

function change(...rows: Row[]) {
  const vulnerability_evidence = rows.map((row) => vulnerability({ severity: "medium", ...NEW, ...row }));
  const { fixes, leaves, introduces, not_affected, unanswered } = vulnerabilityChange({
    ...PLAN,
    vulnerability_evidence,
  });
  const names = (list: typeof fixes) => list.map(({ package: of, name }) => `${of} ${name}`);
  return {
    ...(fixes.length === 0 ? {} : { fixes: names(fixes) }),
    ...(leaves.length === 0 ? {} : { leaves: names(leaves) }),
    ...(introduces.length === 0 ? {} : { introduces: names(introduces) }),
    ...(not_affected.length === 0 ? {} : { not_affected: names(not_affected) }),
    ...(unanswered.length === 0 ? {} : { unanswered }),
  };
}

const VEX = { status: "not_affected", justification: null, author: "Canonical Ltd." } as const;
const ONE = "openssl CVE-2026-0001";

const CASES: [string, Row[], ReturnType<typeof change>][] = [
  ["nothing known", [], {}],
  ["no data is not clean", [{ id: NO_DATA, severity: "unknown" }], { unanswered: ["libssl3"] }],
  ["only in the new version", [{}], { introduces: [ONE] }],
  ["only in the old version", [OLD], { fixes: [ONE] }],
  ["in both, as one row", [{ also_old: true }], { leaves: [ONE] }],
  ["in both, as two rows of an older plan", [{}, OLD], { leaves: [ONE] }],
  ["an `old` row about the version that comes", [{ applies_to: "old" }], { introduces: [ONE] }],
  ["the new version is named as the fix", [{ fixed_version: "3.0.2" }], {}],
  [
    "another package's CVE is another vulnerability",
    [{}, { ...OLD, source_package: "openssl1.1" }],
    { fixes: ["openssl1.1 CVE-2026-0001"], introduces: [ONE] },
  ],
  ["a package without a source", [{ source_package: undefined }], { introduces: ["libssl3 CVE-2026-0001"] }],
  [
    "Debian: the CVE's record and an advisory of it alone",
    [
      { id: "DEBIAN-CVE-2026-0001", aliases: ["CVE-2026-0001"] },
      { id: "DSA-1-1", aliases: ["CVE-2026-0001"] },
    ],
    { introduces: [ONE] },
  ],
  [
    "Debian: fixed by an advisory of two, one of which is left by another record",
    [
      { ...OLD, id: "DSA-1-1", aliases: ["CVE-2026-0001", "CVE-2026-0002"] },
      { id: "DEBIAN-CVE-2026-0002", also_old: true },
    ],
    { fixes: [ONE], leaves: ["openssl CVE-2026-0002"] },
  ],
  [
    "Ubuntu: a notice, a record of the CVE and the CVE itself",
    [{ id: "USN-1-1", aliases: ["CVE-2026-0001"] }, { id: "UBUNTU-CVE-2026-0001" }, { id: "CVE-2026-0001" }],
    { introduces: [ONE] },
  ],
  [
    "GitHub's, Go's and the CVE, of which Go's record names only GitHub's",
    [
      { id: "GO-2026-1", aliases: ["GHSA-aaaa-bbbb-cccc"] },
      { id: "GHSA-aaaa-bbbb-cccc", aliases: ["CVE-2026-0001"] },
    ],
    { introduces: [ONE] },
  ],
  [
    "without a CVE GitHub's name is the best known",
    [{ id: "PYSEC-2026-1", aliases: ["GHSA-aaaa-bbbb-cccc"] }],
    { introduces: ["openssl GHSA-aaaa-bbbb-cccc"] },
  ],
  [
    "without any other name its own",
    [{ id: "RUSTSEC-2026-0001" }, { id: "RUSTSEC-2026-0002" }],
    { introduces: ["openssl RUSTSEC-2026-0001", "openssl RUSTSEC-2026-0002"] },
  ],
  [
    "not affected, as the distribution states",
    [{ vex: { ...VEX, authentic: true } }],
    { not_affected: [ONE] },
  ],
  ["not affected, as somebody states", [{ vex: { ...VEX, authentic: false } }], { introduces: [ONE] }],
  ["a fix of what didn't affect it", [{ ...OLD, vex: { ...VEX, authentic: true } }], {}],
  [
    "one record is ruled out, another isn't",
    [{ vex: { ...VEX, authentic: true } }, { id: "DSA-1-1", aliases: ["CVE-2026-0001"] }],
    { introduces: [ONE] },
  ],
];

describe("what a transaction does about vulnerabilities", () => {
  for (const [what, rows, expected] of CASES) test(what, () => expect(change(...rows)).toEqual(expected));

  test("the worst first: exploited, then by severity, then by EPSS; the unrated last unless EPSS says otherwise", () => {
    const epss = (n: number, score: number) => ({
      epss: { cve: `CVE-2026-000${n}`, score, percentile: 0.9 },
    });
    const rows: Row[] = [
      { id: "CVE-2026-0001", severity: "unknown" },
      { id: "CVE-2026-0002", severity: "low" },
      { id: "CVE-2026-0003", severity: "unknown", ...epss(3, 0.4) },
      { id: "CVE-2026-0004", severity: "high", ...epss(4, 0.01) },
      { id: "CVE-2026-0005", severity: "high", ...epss(5, 0.5) },
      { id: "CVE-2026-0006", severity: "critical" },
      {
        id: "CVE-2026-0007",
        severity: "medium",
        known_exploited: { cve: "CVE-2026-0007", since: "2026-01-02" },
      },
    ];
    const order = change(...rows).introduces?.map((name) => Number(name.at(-1)));
    expect(order).toEqual([7, 6, 5, 3, 4, 2, 1]);
  });

  test("an advisory's worst rating, exploitation and score are not those of each of its CVEs", () => {
    const [first, second] = vulnerabilityChange({
      ...PLAN,
      vulnerability_evidence: [
        vulnerability({
          ...{ ...NEW, id: "USN-1-1", aliases: ["CVE-2026-0001", "CVE-2026-0002"], severity: "critical" },
          known_exploited: { cve: "CVE-2026-0002", since: "2026-01-02" },
          epss: { cve: "CVE-2026-0002", score: 0.9, percentile: 0.99 },
        }),
        vulnerability({ ...NEW, id: "UBUNTU-CVE-2026-0001", severity: "low" }),
      ],
    }).introduces;
    expect(first).toMatchObject({ name: "CVE-2026-0002", severity: "critical", epss: 0.9 });
    expect(first?.known_exploited).toBe("2026-01-02");
    expect(second).toMatchObject({ name: "CVE-2026-0001", severity: "low" });
    expect(second).not.toHaveProperty("known_exploited");
    expect(second).not.toHaveProperty("epss");
    expect(second?.also).toEqual(["USN-1-1", "UBUNTU-CVE-2026-0001"]);
  });

  const CISA = { known_exploited: { cve: "CVE-2026-0002", since: "2026-01-02" } };
  const HIDDEN: [what: string, rows: Row[]][] = [
    ["which isn't among its record's names", [{ id: "CVE-2026-0001", ...CISA }]],
    ["whose record is known by GitHub's name", [{ id: "GHSA-aaaa-bbbb-cccc", ...CISA }]],
    [
      "which another record calls by another name",
      [
        { id: "CVE-2026-0002", aliases: ["GHSA-aaaa-bbbb-cccc"], ...CISA },
        { id: "CVE-2026-0001", aliases: ["GHSA-aaaa-bbbb-cccc"] },
      ],
    ],
    [
      "of an advisory, which others call by another name",
      [
        { id: "USN-1-1", aliases: ["CVE-2026-0002", "CVE-2026-0003"], ...CISA },
        { id: "CVE-2026-0002", aliases: ["GHSA-aaaa-bbbb-cccc"] },
        { id: "CVE-2026-0001", aliases: ["GHSA-aaaa-bbbb-cccc"] },
      ],
    ],
  ];
  test.each(HIDDEN)("exploitation of a CVE %s is told", (_, rows) => {
    const evidence = rows.map((row) => vulnerability({ ...NEW, ...row }));
    const { introduces } = vulnerabilityChange({ ...PLAN, vulnerability_evidence: evidence });
    expect(introduces.filter((one) => one.known_exploited === "2026-01-02")).toHaveLength(1);
  });

  test("in words", () => {
    const one = { name: "CVE-2026-0001", severity: "unknown", fixed_version: null } as const;
    expect(vulnerabilityText(one)).toBe("CVE-2026-0001 (not rated)");
    expect(
      vulnerabilityText({
        ...{ ...one, severity: "high", known_exploited: "2026-01-02", epss: 0.944, fixed_version: "2" },
        vex: { ...VEX, authentic: false },
      }),
    ).toBe(
      "CVE-2026-0001 (exploited, listed by CISA on 2026-01-02, high, EPSS 94%, not affected, says Canonical Ltd., fixed in 2)",
    );
    expect(severityCounts([one, { ...one, severity: "high", known_exploited: "2026-01-02" }, one])).toBe(
      "1 exploited, 1 high, 2 not rated",
    );
    expect(severityCounts([])).toBe("");
  });
});
