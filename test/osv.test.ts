import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { ShownPackages } from "../src/apt-cache.ts";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { parseSimulation } from "../src/apt-simulation.ts";
import { buildTransaction } from "../src/apt-transaction.ts";
import { canonicalJson, parseJson } from "../src/canonical.ts";
import { parseDocument } from "../src/doc.ts";
import { NO_SOURCE } from "../src/osv-source.ts";
import { riskSignals } from "../src/plan-signals.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { change, FIXTURES, lines, look, planning } from "./osv-kit.ts";
import { entry } from "./policy-plans.ts";

const recorded = (os?: string) => planning({ AEGIS_OSV_DIR: FIXTURES }, os);
const npmEntry = (name: string, version: string) =>
  entry(name, { action: "install", from_version: null, to_version: version, sources: [] });

/** A directory with these files, for one test. */
async function withFiles<T>(
  files: Record<string, string>,
  use: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "aegis-osv-"));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), text);
    }
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A record for the source package `hello` of Debian 12. */
const record = (more: object = {}, affected: object = {}) =>
  JSON.stringify({
    id: "DEBIAN-CVE-2026-1",
    modified: "2026-11-20T00:00:00Z",
    severity: [{ type: "CVSS_V3", score: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" }],
    affected: [
      {
        package: { ecosystem: "Debian:12", name: "hello" },
        ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }, { fixed: "1.0-2" }] }],
        ...affected,
      },
    ],
    ...more,
  });
const HELLO = change("hello", "1.0-1", "1.0-2");
const lookIn = (files: Record<string, string>, transaction = [HELLO]) =>
  withFiles(files, (directory) => look(planning({ AEGIS_OSV_DIR: directory }), transaction));

function decide(plan: Awaited<ReturnType<typeof look>>): string[] {
  const config = parsePolicyConfig("", "test");
  const result = evaluate({ plan, planHash: "0".repeat(64), config, configHash: "0".repeat(64) });
  return result.rules.filter((rule) => rule.startsWith("vulnerability"));
}

const NO_DATA = "new hello-bin 1.0-2 no-data unknown";

describe("missing data never looks like a clean result", () => {
  const BROKEN: [string, Record<string, string>, string][] = [
    ["no file", {}, "no readable *.json files"],
    ["other files", { "all.zip": "PK", "Debian/all.zip": "PK" }, "no readable *.json files"],
    ["another ecosystem's records", { "npm/a.json": record() }, "no readable *.json files"],
    [
      "an empty directory of ours beside records",
      { "a.json": record({ id: "X-2" }, { package: null }), "Debian/x": "" },
      "Debian in it has no readable",
    ],
    ["a record cut off", { "a.json": record().slice(0, -9) }, "a.json is unreadable, too large or cut off"],
    ["an empty record", { "a.json": "" }, "a.json is unreadable"],
    ["a directory called like a record", { "a.json/x": "" }, "a.json is unreadable"],
    ["a record too large", { "a.json": record({ details: "x".repeat(9_000_000) }) }, "too large"],
    ["not JSON", { "a.json": `{"name": "hello",}` }, "a.json is not an OSV record"],
    ["no id", { "a.json": record({ id: undefined }) }, "a.json is not an OSV record"],
    ["an id with white space", { "a.json": record({ id: "CVE-1\u001b[2J" }) }, "a.json is not an OSV record"],
    ["ranges of another type", { "a.json": record({}, { ranges: "all" }) }, "a.json is not an OSV record"],
    [
      "events of another type",
      { "a.json": record({}, { ranges: [{ type: "SEMVER", events: [{ fixed: 1 }] }] }) },
      "a.json is not",
    ],
    [
      "the name hidden by an escape",
      { "a.json": record({ id: 1 }).replace('"hello"', '"hell\\u006f"') },
      "a.json is not",
    ],
  ];
  for (const [what, files, problem] of BROKEN) {
    test(what, async () => {
      const plan = await lookIn(files);
      expect(lines(plan)).toEqual([NO_DATA]);
      expect(plan.warnings).toHaveLength(1);
      expect(plan.warnings[0]).toContain(problem);
      expect(decide(plan)).toEqual(["vulnerability-grave"]);
      expect(riskSignals(plan)).not.toContain("vulnerability-known");
    });
  }

  test("a missing directory", async () => {
    const plan = await look(planning({ AEGIS_OSV_DIR: "/nonexistent/osv" }), [HELLO]);
    expect(lines(plan)).toEqual([NO_DATA]);
  });

  test("a relative directory is not read, even if it exists", async () => {
    const plan = await look(planning({ AEGIS_OSV_DIR: "test/fixtures/osv" }), [HELLO]);
    expect(lines(plan)).toEqual([NO_DATA]);
    expect(plan.warnings[0]).toContain("not an absolute path");
  });

  test("a broken record affects only the packages it names", async () => {
    const other = record({ id: "X-2" }, { package: { ecosystem: "Debian:12", name: "other" } });
    const plan = await lookIn({ "a.json": record({ id: 1 }), "b.json": other }, [
      HELLO,
      change("other", null, "1.0-1"),
      change("third", null, "1.0-1"),
    ]);
    expect(lines(plan)).toEqual([NO_DATA, "new other-bin 1.0-1 X-2 critical fixed 1.0-2"]);
  });

  test("many problems are summarised", async () => {
    const files = Array.from({ length: 50 }, (_, i) => [`${i}.json`, "{"]);
    const plan = await lookIn(Object.fromEntries(files));
    expect(plan.warnings[0]).toEndWith("; and 47 more problems.");
  });

  for (const os of ["debian", "debian sid", "linuxmint 21", "ubuntu rolling", "arch "]) {
    test(`a host that OSV has no records for: ${os}`, async () => {
      const plan = await look(recorded(os), [HELLO, change("gone", "1.0", null)]);
      expect(lines(plan)).toEqual([NO_DATA]);
      expect(plan.warnings[0]).toContain("OSV has no records for packages of");
    });
  }

  test("no source: a warning, no evidence", async () => {
    const plan = await look(planning({ AEGIS_OSV_DIR: "", AEGIS_OSV_URL: undefined }), [HELLO]);
    expect(plan.vulnerability_evidence).toEqual([]);
    expect(plan.warnings).toEqual([`Vulnerabilities: not looked up: ${NO_SOURCE}`]);
    expect(decide(plan)).toEqual([]);
  });

  test("no source, and nothing is fetched: no warning", async () => {
    const gone = change("gone", "1.0", null);
    expect((await look(planning({}), [gone])).warnings).toEqual([]);
    expect((await look(planning({}), [gone, HELLO])).warnings).toHaveLength(1);
  });

  test("nothing to change: no lookup and no warning", async () => {
    expect(await look(planning({}), [])).toMatchObject({ vulnerability_evidence: [], warnings: [] });
    expect(await look(planning({ AEGIS_OSV_DIR: "/nonexistent" }), [])).toMatchObject({ warnings: [] });
  });
});

const U = "ubuntu 22.04";
const FOUND: [string, string, ReturnType<typeof change>, string[]][] = [
  ["the fix itself", "debian 12", change("openssl", null, "3.0.13-1~deb12u1"), []],
  [
    "below the fix",
    "debian 12",
    change("openssl", null, "3.0.11-1~deb12u2"),
    ["new openssl-bin 3.0.11-1~deb12u2 DEBIAN-CVE-2023-5678 medium fixed 3.0.13-1~deb12u1"],
  ],
  [
    "fixed by the change",
    "debian 12",
    change("openssl", "3.0.11-1", "3.0.13-1~deb12u1"),
    ["old openssl-bin 3.0.11-1 DEBIAN-CVE-2023-5678 medium fixed 3.0.13-1~deb12u1"],
  ],
  [
    "removed",
    "debian 12",
    change("openssl", "3.0.11-1", null),
    ["old openssl-bin 3.0.11-1 DEBIAN-CVE-2023-5678 medium fixed 3.0.13-1~deb12u1"],
  ],
  [
    "another release's fix",
    "debian 13",
    change("openssl", null, "3.0.12-1"),
    ["new openssl-bin 3.0.12-1 DEBIAN-CVE-2023-5678 medium fixed 3.0.12-2"],
  ],
  [
    "point release",
    "debian 12.8",
    change("openssl", null, "3.0.9-1"),
    ["new openssl-bin 3.0.9-1 DEBIAN-CVE-2023-5678 medium fixed 3.0.13-1~deb12u1"],
  ],
  ["a release without this record", "debian 11", change("openssl", null, "1.1.1n-0"), []],
  [
    "a rebuild of a listed version",
    "debian 9",
    change("tzdata", null, "2021a-0+deb9u3+b1"),
    ["new tzdata-bin 2021a-0+deb9u3+b1 DLA-3051-1 unknown fixed 2021a-0+deb9u4"],
  ],
  [
    "an advisory without a rating",
    "debian 7",
    change("nginx", null, "1.2.1-2.2+wheezy2"),
    ["new nginx-bin 1.2.1-2.2+wheezy2 DSA-3029-1 unknown fixed 1.2.1-2.2+wheezy3"],
  ],
  [
    "Ubuntu LTS, the gravest of its CVEs",
    U,
    change("glibc", null, "2.35-0ubuntu3.13"),
    ["new glibc-bin 2.35-0ubuntu3.13 USN-8611-1 critical fixed 2.35-0ubuntu3.14"],
  ],
  [
    "Ubuntu's next LTS",
    "ubuntu 24.04",
    change("glibc", null, "2.39-0ubuntu8.7"),
    ["new glibc-bin 2.39-0ubuntu8.7 USN-8611-1 critical fixed 2.39-0ubuntu8.8"],
  ],
  ["Ubuntu between", "ubuntu 24.10", change("glibc", null, "2.39-0ubuntu8.7"), []],
  [
    "extended maintenance",
    "ubuntu 14.04",
    change("linux", null, "3.13.0-206.257+esm1"),
    ["new linux-bin 3.13.0-206.257+esm1 UBUNTU-CVE-2025-38094 medium"],
  ],
  ["without extended maintenance", "ubuntu 14.04", change("linux", null, "3.13.0-170.220"), []],
];

describe("records of Debian and Ubuntu", () => {
  for (const [what, os, item, evidence] of FOUND) {
    test(what, async () => {
      const plan = await look(recorded(os), [item]);
      expect(lines(plan)).toEqual(evidence);
      expect(plan.warnings.filter((warning) => !warning.includes("days old"))).toEqual([]);
    });
  }

  test("evidence has all the record's data", async () => {
    const plan = await look(recorded(), [change("openssl", null, "3.0.11-1")]);
    expect(plan.vulnerability_evidence).toEqual([
      {
        package: "openssl-bin",
        version: "3.0.11-1",
        matched_version: "3.0.11-1",
        applies_to: "new",
        id: "DEBIAN-CVE-2023-5678",
        aliases: ["CVE-2023-5678"],
        severity: "medium",
        fixed_version: "3.0.13-1~deb12u1",
        data_source: FIXTURES,
        data_age_days: 11,
        source_package: "openssl",
      },
    ]);
  });

  test("a binary package's name alone doesn't match, except if its source is unknown", async () => {
    const named = (source: string | null) => [entry("openssl", { source, to_version: "3.0.1-1" })];
    expect(lines(await look(recorded(), named("openssl-other")))).toEqual([]);
    expect(lines(await look(recorded(), named(null)))).toEqual([
      "both openssl 3.0.1-1 DEBIAN-CVE-2023-5678 medium fixed 3.0.13-1~deb12u1",
    ]);
  });

  const signed = record({}, { package: { ecosystem: "Debian:12", name: "linux" } });
  for (const source of ["linux-signed-amd64", "linux-signed", "linux"]) {
    test(`the kernel's record is found for ${source}`, async () => {
      expect(lines(await lookIn({ "a.json": signed }, [change(source, null, "1.0-1")]))).toHaveLength(1);
    });
  }

  test("a binary-only rebuild has the version it was built from", async () => {
    const listed = record({}, { ranges: [], versions: ["1.0-1"] });
    const found = async (version: string) =>
      lines(await lookIn({ "a.json": listed }, [change("hello", null, version)])).length;
    expect([await found("1.0-1+b12"), await found("1.0-1+b"), await found("1.0-1+x1")]).toEqual([1, 0, 0]);
  });

  /** Planning's result from apt's output about a package, from a simulation line to the transaction. */
  const planned = (simulated: string, shown: string, status = "") =>
    buildTransaction(parseSimulation(simulated), {
      shown: new ShownPackages(shown),
      policy: new Map(),
      installed: parseDpkgStatus(status),
      repositories: [],
      native: "amd64",
      kept: [],
    });
  const libbpf = (version: string, more = "") =>
    `Package: libbpf1\nSource: libbpf (${version.replace("1:", "")})\nVersion: ${version}\nArchitecture: amd64\n${more}`;
  const inLibbpf = record(
    {},
    {
      package: { ecosystem: "Debian:12", name: "libbpf" },
      ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }, { fixed: "1.1.2-0+deb12u2" }] }],
    },
  );

  test("a binary of another version than its source: the record counts in source versions", async () => {
    const [u1, u2] = ["1:1.1.2-0+deb12u1", "1:1.1.2-0+deb12u2"];
    const install = (version: string) =>
      planned(`Inst libbpf1 (${version} Debian:12.11/stable [amd64])`, libbpf(version, "Filename: x.deb\n"));
    const plan = await lookIn({ "a.json": inLibbpf }, install(u1));
    expect(lines(plan)).toEqual([`new libbpf1 ${u1} DEBIAN-CVE-2026-1 critical fixed 1.1.2-0+deb12u2`]);
    expect(plan.vulnerability_evidence[0]?.matched_version).toBe("1.1.2-0+deb12u1");
    expect(plan.transaction[0]).toMatchObject({
      from_source: null,
      to_source: { name: "libbpf", version: "1.1.2-0+deb12u1" },
    });
    expect(decide(plan)).toEqual(["vulnerability-denied", "vulnerability-grave"]);
    expect(lines(await lookIn({ "a.json": inLibbpf }, install(u2)))).toEqual([]);
  });

  test("the installed version's source comes from dpkg", async () => {
    const [u1, u2] = ["1:1.1.2-0+deb12u1", "1:1.1.2-0+deb12u2"];
    const status = libbpf(u1, "Status: install ok installed\n");
    const upgrade = planned(`Inst libbpf1 [${u1}] (${u2} Debian:12.11/stable [amd64])`, libbpf(u2), status);
    const removal = planned(`Remv libbpf1 [${u1}]`, "", status);
    for (const transaction of [upgrade, removal]) {
      const plan = await lookIn({ "a.json": inLibbpf }, transaction);
      expect(lines(plan)).toEqual([`old libbpf1 ${u1} DEBIAN-CVE-2026-1 critical fixed 1.1.2-0+deb12u2`]);
    }
  });

  test("a binary version that only looks like the fix is not mistaken for it", async () => {
    // Its source, 1.0-1, is older than the fix 1.0-2; the binary's version is 1.0-2.
    const shown =
      "Package: hh\nSource: hello (1.0-1)\nVersion: 1.0-2\nArchitecture: amd64\nFilename: x.deb\n";
    const plan = await lookIn({ "a.json": record() }, planned("Inst hh (1.0-2 D:12/stable [amd64])", shown));
    expect(lines(plan)).toEqual(["new hh 1.0-2 DEBIAN-CVE-2026-1 critical fixed 1.0-2"]);
    expect(decide(plan)).toEqual(["vulnerability-denied", "vulnerability-grave"]);
    expect(riskSignals(plan)).toContain("vulnerability-known");
  });

  test("the signed kernel's source has its own version, unrelated to linux", async () => {
    const kernel = (version: string) =>
      planned(
        `Inst kk (${version} D:12/stable [amd64])`,
        `Package: kk\nSource: linux-signed-amd64 (${version.replace("-", "+")})\nVersion: ${version}\nArchitecture: amd64\n`,
      );
    const fixed = record(
      {},
      {
        package: { ecosystem: "Debian:12", name: "linux" },
        ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }, { fixed: "6.1.192-4" }] }],
      },
    );
    expect(lines(await lookIn({ "a.json": fixed }, kernel("6.1.192-3")))).toHaveLength(1);
    expect(lines(await lookIn({ "a.json": fixed }, kernel("6.1.192-4")))).toEqual([]);
  });

  test("architectures and packages of one source version share one evidence entry", async () => {
    const both = ["amd64", "i386"].map((architecture) => ({ ...HELLO, architecture, to_version: "1.0-1" }));
    const sibling = { ...HELLO, name: "libhello1", to_version: "1.0-1" };
    expect(lines(await lookIn({ "a.json": record() }, [...both, sibling]))).toEqual([
      "both hello-bin 1.0-1 DEBIAN-CVE-2026-1 critical fixed 1.0-2",
    ]);
  });

  test("records that are withdrawn, replaced, or of another ecosystem don't count", async () => {
    const item = [change("hello", null, "1.0-1")];
    expect(lines(await lookIn({ "a.json": record({ withdrawn: "2026-01-01T00:00:00Z" }) }, item))).toEqual(
      [],
    );
    const of = (ecosystem: string) => record({}, { package: { ecosystem, name: "hello" } });
    for (const other of ["Debian:11", "Debian:1", "Ubuntu:12", "npm", "Debian:12:x"]) {
      expect(lines(await lookIn({ "a.json": of(other) }, item))).toEqual([]);
    }
    for (const ours of ["Debian", "Debian:12"]) {
      expect(lines(await lookIn({ "a.json": of(ours) }, item))).toHaveLength(1);
    }
    const older = record({ modified: "2020-01-01T00:00:00Z" });
    const newer = record({ withdrawn: "2026-01-01T00:00:00Z" });
    expect(lines(await lookIn({ "a.json": newer, "b.json": older }, item))).toEqual([]);
    expect(lines(await lookIn({ "a.json": older, "b.json": newer }, item))).toEqual([]);
  });

  test("extended maintenance is judged by its own entry, else by the plain one", async () => {
    const affected = (ecosystem: string, fixed: string[]) => ({
      package: { ecosystem, name: "hello" },
      ranges: [
        { type: "ECOSYSTEM", events: [{ introduced: "0" }, ...fixed.map((version) => ({ fixed: version }))] },
      ],
    });
    const pro = affected("Ubuntu:Pro:22.04:LTS", ["1.0-1ubuntu1+esm1"]);
    const plain = affected("Ubuntu:22.04:LTS", []);
    const item = [change("hello", "1.0-1ubuntu1", "1.0-1ubuntu1+esm1")];
    const found = async (...entries: object[]) =>
      withFiles({ "a.json": record({ affected: entries }) }, async (directory) =>
        lines(await look(planning({ AEGIS_OSV_DIR: directory }, U), item)).map((line) => line.split(" ")[0]),
      );
    expect(await found(plain, pro)).toEqual(["old"]);
    expect(await found(plain)).toEqual(["both"]);
  });

  test("old data causes a warning", async () => {
    const plan = await lookIn({ "a.json": record({ modified: "2026-10-01T00:00:00Z" }) });
    expect(plan.warnings).toEqual([
      expect.stringMatching(/^Vulnerabilities: The vulnerability data in \S+ is 52 days old\.$/),
    ]);
  });

  test("packages from elsewhere cause a warning", async () => {
    const outside = ["a", "b", "c", "d"].map((name) => ({
      ...change(name, null, "1"),
      sources: ["https://x y"],
    }));
    const plan = await lookIn({ "a.json": record() }, [HELLO, ...outside, change("gone", "1", null)]);
    expect(plan.warnings).toEqual([
      "Vulnerabilities: 4 packages from outside the distribution (a-bin, b-bin, c-bin, …): OSV's records do not cover them.",
    ]);
  });
});

describe("npm", () => {
  const found = async (name: string, version: string) =>
    lines(await look(recorded(), [npmEntry(name, version)], "npm"));
  const CASES: [string, string, string[]][] = [
    ["lodash", "4.17.21", []],
    ["lodash", "4.17.21-rc.1", ["new lodash 4.17.21-rc.1 GHSA-35jh-r3h4-6jhm high fixed 4.17.21"]],
    ["lodash", "4.9.0", ["new lodash 4.9.0 GHSA-35jh-r3h4-6jhm high fixed 4.17.21"]],
    ["lodash-es", "4.17.20", ["new lodash-es 4.17.20 GHSA-35jh-r3h4-6jhm high fixed 4.17.21"]],
    ["lodash-other", "4.17.20", []],
    ["elliptic", "6.5.3", ["new elliptic 6.5.3 GHSA-r9p9-mrjm-926w medium fixed 6.5.4"]],
    ["openssl", "3.0.9", []],
  ];
  for (const [name, version, evidence] of CASES) {
    test(`${name}@${version}`, async () => expect(await found(name, version)).toEqual(evidence));
  }
  for (const name of ["constructor", "__proto__", "toString", "hasOwnProperty"]) {
    test(`a package called ${name}`, async () => expect(await found(name, "1.0.0")).toEqual([]));
  }

  test("a scoped name, its slash escaped", async () => {
    const text = record({}, { package: { ecosystem: "npm", name: "@a/b" }, ranges: [], versions: ["1.0.0"] });
    await withFiles({ "npm/a.json": text.replace("@a/b", "@a\\/b") }, async (directory) => {
      const plan = await look(planning({ AEGIS_OSV_DIR: directory }), [npmEntry("@a/b", "1.0.0")], "npm");
      expect(lines(plan)).toEqual(["new @a/b 1.0.0 DEBIAN-CVE-2026-1 critical"]);
    });
  });
});

describe("the policy", () => {
  const critical = { "a.json": record() };
  test("a critical one in the new version denies", async () => {
    expect(decide(await lookIn(critical, [change("hello", null, "1.0-1")]))).toContain(
      "vulnerability-denied",
    );
  });
  test("but not if the new version is the fix", async () => {
    const plan = await lookIn(critical);
    expect(lines(plan)).toEqual(["old hello-bin 1.0-1 DEBIAN-CVE-2026-1 critical fixed 1.0-2"]);
    expect(decide(plan)).toEqual([]);
  });

  test("if there are too many, the most severe of the new version are kept", async () => {
    const files: Record<string, string> = {};
    for (let i = 0; i < 2100; i++)
      files[`a${i}.json`] = record({ id: `A-${i}`, severity: [{ score: "low" }] });
    const plan = await lookIn({ ...files, "z.json": record({ id: "Z-1" }) }, [
      change("hello", "1.0-0", "1.0-1"),
    ]);
    expect(plan.vulnerability_evidence).toHaveLength(2000);
    expect(plan.vulnerability_evidence[0]).toMatchObject({
      id: "Z-1",
      applies_to: "new",
      severity: "critical",
    });
    expect(plan.warnings).toEqual([
      "Vulnerabilities: 2101 records apply; the plan leaves out 101 records, the least severe: 101 of what the old versions have too (101 low).",
    ]);
  });
});

describe("hostile records", () => {
  /** Replacements for a part of a valid record. */
  const evil = fc.oneof(
    fc.jsonValue({ maxDepth: 4 }),
    fc.constantFrom("__proto__", "constructor", "\ud800", "x".repeat(600), "", "0", "*", -0, 1e308, null),
    fc.constantFrom([], {}, [null], [[]], { __proto__: null, toString: 1 }),
  );
  const path = fc.array(fc.nat(6), { minLength: 1, maxLength: 7 });

  /** Replaces the part at a path of positions, or adds it under a new key. */
  function spoil(tree: unknown, [step = 0, ...rest]: number[], value: unknown): unknown {
    if (tree === null || typeof tree !== "object") return value;
    const keys = Object.keys(tree);
    const key = keys[step] ?? "__proto__";
    const inner = rest.length === 0 ? value : spoil(Reflect.get(tree, key), rest, value);
    if (Array.isArray(tree)) return tree.toSpliced(Number.isInteger(Number(key)) ? Number(key) : 0, 1, inner);
    return Object.fromEntries([...Object.entries(tree).filter(([name]) => name !== key), [key, inner]]);
  }

  test("never make planning fail, and give a valid plan", async () => {
    const spoiled = fc.array(fc.tuple(path, evil), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(spoiled, async (changes) => {
        let tree: unknown = JSON.parse(record({ aliases: ["CVE-1"], upstream: [], withdrawn: null }));
        for (const [where, value] of changes) tree = spoil(tree, where, value);
        const world = planning({ AEGIS_OSV_DIR: "/osv" });
        const plan = await look({ ...world, list: () => ["a.json"], readText: () => JSON.stringify(tree) }, [
          change("hello", "1.0-0", "1.0-1"),
        ]);
        parseDocument("plan", parseJson(canonicalJson(plan)));
      }),
      { numRuns: 2000 },
    );
  });

  test("any text at all", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((text) => `${text} {"name":"hello"}`),
        ),
        async (text) => {
          const world = planning({ AEGIS_OSV_DIR: "/osv" });
          const plan = await look({ ...world, list: () => ["a.json"], readText: () => text }, [HELLO]);
          parseDocument("plan", parseJson(canonicalJson(plan)));
        },
      ),
    );
  });

  test("a deeply nested record", async () => {
    const deep = `${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`;
    for (const key of ["database_specific", "aliases", "credits"]) {
      const text = record().replace(/^\{/, `{"${key}":${deep},`);
      expect(lines(await lookIn({ "a.json": text }))).toHaveLength(1);
    }
  });
});
