import { describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { canonicalJson } from "../src/canonical.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { vulnerabilityRows } from "../src/osv-evidence.ts";
import { toOsvRecord } from "../src/osv-record.ts";
import { statedAbout } from "../src/osv-vex.ts";
import { feedsAt, PUBLISHED, pass, withDirectory, withServer, writeIndex } from "./feeds-kit.ts";
import { change, lines, look, planning } from "./osv-kit.ts";

const OPENSSL = change("openssl", null, "3.0.11-1~deb12u1");
const NO_DATA = "new openssl-bin 3.0.11-1~deb12u1 no-data unknown";

/** The plan of a transaction on a host with this data and no settings. */
const plan = (feeds: string, transaction: TransactionEntry[] = [OPENSSL], os?: string) =>
  look({ ...planning({}, os), feeds }, transaction);
const record = (id: string, more: object = {}) =>
  JSON.stringify(
    toOsvRecord({
      id,
      modified: "2026-11-20T00:00:00Z",
      aliases: [],
      affected: [
        {
          package: { ecosystem: "Debian:12", name: "openssl" },
          ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }] }],
        },
      ],
      ...more,
    }),
  );

describe("missing data never looks like a clean result", () => {
  test("no index: said, with what to type", () =>
    withDirectory(async (directory) => {
      const { warnings, vulnerability_evidence } = await plan(directory);
      expect(vulnerability_evidence).toEqual([]);
      expect(warnings[0]).toContain(
        "this host has no vulnerability data (as root: aegis daemon install --feeds)",
      );
    }));

  const BROKEN: [what: string, make: (directory: string) => void, said: string][] = [
    ["damaged", (d) => writeFileSync(join(d, "osv-Debian.index"), "AEGISIX1"), "it is cut off"],
    ["a directory", (d) => mkdirSync(join(d, "osv-Debian.index")), "it is not a regular file"],
    [
      "of another release",
      (d) => writeIndex(d, "osv-Debian", [], { release: "13" }),
      "it was made for release 13",
    ],
    [
      "with a record that can't be read",
      (d) => writeIndex(d, "osv-Debian", [{ keys: ["openssl"], text: '{"unreadable":"x"}' }]),
      "a record about openssl can't be read",
    ],
    [
      "with a record that isn't JSON",
      (d) => writeIndex(d, "osv-Debian", [{ keys: ["openssl"], text: "{" }]),
      "a record about openssl can't be read",
    ],
    [
      "with a record nested without end",
      (d) => writeIndex(d, "osv-Debian", [{ keys: ["openssl"], text: "[".repeat(500_000) }]),
      "a record about openssl can't be read",
    ],
  ];
  test.each(BROKEN)("%s", (_, make, said) =>
    withDirectory(async (directory) => {
      make(directory);
      const found = await plan(directory);
      expect(lines(found)).toEqual([NO_DATA]);
      expect(found.warnings[0]).toContain(said);
    }),
  );

  test("only what a broken record is about is open", () =>
    withDirectory(async (directory) => {
      writeIndex(directory, "osv-Debian", [
        { keys: ["other"], text: "{" },
        { keys: ["openssl"], text: record("D-1") },
      ]);
      expect(lines(await plan(directory))).toEqual(["new openssl-bin 3.0.11-1~deb12u1 D-1 unknown"]);
    }));

  test("the index of another ecosystem is none", () =>
    withDirectory(async (directory) => {
      writeIndex(directory, "osv-npm", []);
      expect((await plan(directory)).warnings[0]).toContain("this host has no vulnerability data");
    }));
});

test("the same evidence as from the records themselves", () =>
  withServer(PUBLISHED, (address) =>
    withDirectory(async (directory) => {
      await pass(directory, feedsAt(address, "debian 12", "Debian npm").feeds);
      const transaction = [OPENSSL, change("hello", null, "1")];
      const FIXTURES = join(import.meta.dir, "fixtures/osv");
      const [own, theirs] = [
        await plan(directory, transaction),
        await look(planning({ AEGIS_OSV_DIR: FIXTURES }), transaction),
      ];
      expect(lines(own)).toEqual(lines(theirs));
      expect(lines(own)).not.toEqual([]);
      expect(own.vulnerability_evidence[0]?.data_source).toBe(join(directory, "osv-Debian.index"));
    }),
  ));

test("a record's parts about several packages are one record again", () =>
  withDirectory(async (directory) => {
    const part = (name: string) => ({
      keys: [name],
      text: record("D-1", { affected: [{ package: { ecosystem: "Debian:12", name }, ranges: [] }] }),
    });
    writeIndex(directory, "osv-Debian", [part("openssl"), part("linux")]);
    const found = await plan(directory, [OPENSSL, change("linux", null, "6.1")]);
    expect(lines(found)).toEqual([
      "new linux-bin 6.1 D-1 unknown",
      "new openssl-bin 3.0.11-1~deb12u1 D-1 unknown",
    ]);
  }));

test("what is set by hand counts before the host's data", () =>
  withDirectory(async (directory) => {
    writeIndex(directory, "osv-Debian", [{ keys: ["openssl"], text: record("D-1") }]);
    const found = await look({ ...planning({ AEGIS_OSV_DIR: "/nonexistent" }), feeds: directory }, [OPENSSL]);
    expect(lines(found)).toEqual([NO_DATA]);
  }));

test("old data is said", () =>
  withDirectory(async (directory) => {
    writeIndex(directory, "osv-Debian", [{ keys: ["openssl"], text: record("D-1") }], {
      newest: "2026-11-01T00:00:00Z",
    });
    expect((await plan(directory)).warnings.join()).toContain("is 21 days old");
  }));

test("catalog, scores and statements that can't be used are said, and make nothing look clean", () =>
  withDirectory(async (directory) => {
    writeIndex(directory, "osv-Debian", [{ keys: ["openssl"], text: record("CVE-2026-0001") }]);
    for (const [feed, text] of [
      ["kev", "CVE-2026-0001,soon"],
      ["epss", "CVE-2026-0001,7,0"],
      ["vex", "[{}]"],
    ] as const)
      writeIndex(directory, feed, [{ keys: ["CVE-2026-0001"], text }]);
    const found = await plan(directory);
    expect(lines(found)).toEqual(["new openssl-bin 3.0.11-1~deb12u1 CVE-2026-0001 unknown"]);
    expect(found.warnings.filter((one) => one.includes("could not be used"))).toHaveLength(3);
    rmSync(join(directory, "kev.index"));
    expect((await plan(directory)).warnings.filter((one) => one.includes("could not be used"))).toHaveLength(
      2,
    );
  }));

test("a statement with half a character in it makes no plan that can't be hashed", () =>
  withDirectory(async (directory) => {
    const about = (over: object) => ({
      ...{ vulnerabilities: ["CVE-2026-0001"], products: ["pkg:deb/ubuntu/openssl@3.0?arch=source"] },
      ...{ status: "affected", justification: "\ud800", author: "\udc00", timestamp: null, ...over },
    });
    const affected = [{ package: { ecosystem: "Ubuntu:24.04:LTS", name: "openssl" } }];
    const text = record("CVE-2026-0001", { affected });
    writeIndex(directory, "osv-Ubuntu", [{ keys: ["openssl"], text }], { release: "24.04" });
    writeIndex(directory, "vex", [{ keys: ["CVE-2026-0001"], text: JSON.stringify([about({})]) }]);
    const found = await plan(directory, [change("openssl", null, "3.0")], "ubuntu 24.04");
    expect(found.vulnerability_evidence[0]?.vex).toMatchObject({ justification: "\ufffd", author: "\ufffd" });
    canonicalJson(found.vulnerability_evidence);
  }));

/** A list and how often one of its elements was read. */
function counted<T>(items: T[]): { items: T[]; reads: () => number } {
  let reads = 0;
  const count = (_: T[], key: string | symbol) => {
    if (typeof key === "string" && /^\d+$/.test(key)) reads++;
  };
  const proxy = new Proxy(items, {
    get(target, key, receiver) {
      count(target, key);
      return Reflect.get(target, key, receiver);
    },
  });
  return { items: proxy, reads: () => reads };
}

const SUBJECTS = Array.from({ length: 100 }, (_, n) => ({
  ...{ package: `p${n}`, version: "1", appliesTo: "new" as const, osvVersion: "1" },
  ...{ names: [`p${n}`], ecosystems: ["Ubuntu:24.04:LTS"] },
}));
const UBUNTU = { purl: "deb/ubuntu", versioning: { isVersion: () => true, compare: () => 0 } };

test("the work of a look-up doesn't multiply: an entry is read once, not once for each package of the plan", async () => {
  const read = toOsvRecord({
    id: "U-1",
    affected: SUBJECTS.map(({ package: name }) => ({ package: { ecosystem: "Ubuntu:24.04:LTS", name } })),
  });
  const { items, reads } = counted(read?.affected ?? []);
  const records = read === null ? [] : [{ ...read, affected: items }];
  const data = { records, problems: [], ageDays: 0 };
  const { evidence } = await vulnerabilityRows(SUBJECTS, data, UBUNTU as never, "x");
  expect(evidence).toHaveLength(100);
  expect(reads()).toBeLessThan(1000);
});

test("nor that of VEX: a statement is read once for a package, not once for each of its records", () => {
  const [subject] = SUBJECTS;
  const { items, reads } = counted(["CVE-2026-0001"]);
  const statement = {
    ...{ vulnerabilities: items, products: ["pkg:deb/ubuntu/p0@1"], status: "affected" as const },
    ...{ justification: null, author: "x", timestamp: null, source: "x", authentic: true },
  };
  const stated = statedAbout([statement], SUBJECTS, UBUNTU as never);
  for (let n = 0; n < 100; n++)
    if (subject !== undefined) stated(subject, [n === 0 ? "CVE-2026-0001" : `CVE-2027-${1000 + n}`]);
  expect(reads()).toBeLessThan(10);
});

test("property: whatever a hostile account writes, planning ends with evidence or says so", () =>
  withDirectory((directory) =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(
            fc.constantFrom("osv-Debian", "kev", "epss", "vex"),
            fc.oneof(fc.json(), fc.string({ minLength: 1 }), fc.constant(record("CVE-2026-0001"))),
          ),
          { minLength: 1, maxLength: 12 },
        ),
        async (rows) => {
          for (const feed of ["osv-Debian", "kev", "epss", "vex"]) {
            const records = rows
              .filter(([of]) => of === feed)
              .map(([, text]) => ({ keys: ["openssl", "CVE-2026-0001"], text }));
            writeIndex(directory, feed, records);
          }
          const { warnings, vulnerability_evidence } = await plan(directory);
          const osv = rows.some(([feed]) => feed === "osv-Debian");
          if (osv) expect(warnings.length + vulnerability_evidence.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 50 },
    ),
  ));
