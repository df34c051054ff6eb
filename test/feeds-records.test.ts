import { describe, expect, test } from "bun:test";
import { compareDebVersions, isDebVersion } from "../src/apt-target.ts";
import { osvEntries, vexEntries, type Wanted } from "../src/feeds-records.ts";

const versioning = { isVersion: isDebVersion, compare: compareDebVersions };
const debian = (release: string | null): Wanted => ({ ecosystem: { base: "Debian", versioning }, release });
const ubuntu: Wanted = { ecosystem: { base: "Ubuntu", versioning }, release: "24.04" };

const affected = (ecosystem: string, name: string, more: object = {}) => ({
  package: { ecosystem, name },
  ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }, { fixed: "2" }] }],
  ...more,
});
const record = (affected: unknown, more: object = {}) =>
  Buffer.from(JSON.stringify({ id: "X-1", modified: "2026-11-20T00:00:00Z", affected, ...more }));
/** The packages of a record's parts, each with what its part has. */
const parts = (data: Buffer, wanted: Wanted) =>
  osvEntries(data, wanted).entries.map(({ keys, text }) => {
    const part = JSON.parse(text);
    return [
      ...keys,
      ...(part.affected ?? []).map((one: { package: { ecosystem: string } }) => one.package.ecosystem),
    ];
  });

describe("of a record is kept", () => {
  const KEPT: [what: string, wanted: Wanted, ecosystems: string[], kept: string[]][] = [
    ["the host's release", debian("12"), ["Debian:11", "Debian:12", "Debian:120"], ["Debian:12"]],
    ["what has no release", debian("12"), ["Debian"], ["Debian"]],
    [
      "every release, where the host's counts for nothing",
      debian(null),
      ["Debian:11", "Debian"],
      ["Debian:11", "Debian"],
    ],
    [
      "extended maintenance, too",
      ubuntu,
      ["Ubuntu:22.04:LTS", "Ubuntu:24.04:LTS", "Ubuntu:Pro:24.04:LTS", "Debian:24.04"],
      ["Ubuntu:24.04:LTS", "Ubuntu:Pro:24.04:LTS"],
    ],
    ["nothing of others", debian("12"), ["npm", "Ubuntu:12", "Debianoid:12"], []],
  ];
  test.each(KEPT)("%s", (_, wanted, ecosystems, kept) => {
    const data = record(ecosystems.map((one) => affected(one, "hello")));
    expect(parts(data, wanted)).toEqual(kept.length === 0 ? [] : [["hello", ...kept]]);
  });

  test("a list of versions whole, where comparing all of them would take hours", () => {
    let compared = 0;
    const compare = (a: string, b: string) => {
      compared++;
      return compareDebVersions(a, b);
    };
    const versions = Array.from({ length: 2000 }, (_, n) => `1.${n}`);
    const events = Array.from({ length: 1000 }, (_, n) => ({ introduced: `1.${n}` }));
    const data = record([
      affected("Debian:12", "hello", { versions, ranges: [{ type: "ECOSYSTEM", events }] }),
    ]);
    const wanted = { ...debian("12"), ecosystem: { base: "Debian", versioning: { ...versioning, compare } } };
    const [entry] = osvEntries(data, wanted).entries;
    expect(JSON.parse(entry?.text ?? "{}").affected[0].versions).toEqual(versions);
    expect(compared).toBe(0);
  });

  test("one part for each package", () => {
    const data = record([
      affected("Debian:12", "linux"),
      affected("Debian:12", "linux-6.1"),
      affected("Debian:12", "linux"),
    ]);
    expect(parts(data, debian("12"))).toEqual([
      ["linux", "Debian:12", "Debian:12"],
      ["linux-6.1", "Debian:12"],
    ]);
  });

  test("no withdrawn record, and none without packages", () => {
    expect(
      parts(record([affected("Debian:12", "a")], { withdrawn: "2026-11-21T00:00:00Z" }), debian("12")),
    ).toEqual([]);
    expect(parts(record(null), debian(null))).toEqual([]);
    expect(parts(record([{ ranges: [] }]), debian(null))).toEqual([]);
  });

  test("of the listed versions those outside the ranges", () => {
    const versions = ["1", "1.5", "2", "3", "not a version!"];
    const list = (more: object) => {
      const [part] = osvEntries(
        record([affected("Debian:12", "a", { versions, ...more })]),
        debian("12"),
      ).entries;
      return JSON.parse(part?.text ?? "").affected[0].versions;
    };
    expect(list({})).toEqual(["2", "3"]);
    expect(list({ ranges: [{ type: "GIT", events: [{ introduced: "0" }] }] })).toEqual(versions);
    expect(list({ ranges: [] })).toEqual(versions);
  });

  test("of the databases' own fields the ratings", () => {
    const rated = { urgency: "low", binaries: ["a"], cvss: 7, text: "x".repeat(65), nested: {} };
    const cves = [{ id: "CVE-1", severity: [{ type: "CVSS_V3", score: "CVSS:3.1/AV:N" }], note: "x" }];
    const data = record([affected("Debian:12", "a", { ecosystem_specific: rated })], {
      database_specific: { cves_map: { ecosystem: "Ubuntu", cves } },
    });
    const part = JSON.parse(osvEntries(data, debian("12")).entries[0]?.text ?? "");
    expect(part.affected[0].ecosystem_specific).toEqual({ urgency: "low", cvss: 7 });
    expect(part.database_specific).toEqual({
      cves_map: { cves: [{ severity: [{ score: "CVSS:3.1/AV:N" }] }] },
    });
  });
});

test("a record that names packages and can't be read stays under their names", () => {
  const data = record([affected("Debian:12", "a"), affected("Debian:12", "b")], { id: "not an id" });
  expect(osvEntries(data, debian("12")).entries).toEqual([
    { keys: ["a"], text: '{"unreadable":"Debian"}' },
    { keys: ["b"], text: '{"unreadable":"Debian"}' },
  ]);
});

describe("what may be about anything is refused", () => {
  const BROKEN: [string, string][] = [
    ["no JSON", '{"Debian:12'],
    ["no object", '["Debian:12"]'],
    ["no list", '{"affected":"Debian:12"}'],
    ["a package without a name", '{"affected":[{"package":{"ecosystem":"Debian:12"}}]}'],
    ["an empty name", '{"affected":[{"package":{"ecosystem":"Debian:12","name":""}}]}'],
  ];
  test.each(BROKEN)("%s", (_, text) => {
    expect(() => osvEntries(Buffer.from(text), debian("12"))).toThrow();
  });
});

test("VEX: other releases and binary packages are left out", () => {
  const products = [
    "a@1?arch=source&distro=noble",
    "a@1?arch=source&distro=esm-apps/noble",
    "a@1?arch=amd64&distro=noble",
    "a@1?arch=source&distro=jammy",
    "a@1",
  ];
  const statement = {
    vulnerability: { name: "CVE-2026-0001" },
    status: "fixed",
    timestamp: "no date",
    products: products.map((p) => ({ "@id": `pkg:deb/ubuntu/${p}` })),
  };
  const document = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    author: "Canonical Ltd.",
    statements: [statement],
  };
  const { entries, date } = vexEntries(Buffer.from(JSON.stringify(document)), "noble");
  expect(
    entries.map(({ keys, text }) => [keys, JSON.parse(text)[0].products, JSON.parse(text)[0].timestamp]),
  ).toEqual([[["CVE-2026-0001"], products.slice(0, 2).map((p) => `pkg:deb/ubuntu/${p}`), null]]);
  expect(date).toBeNaN();
  expect(vexEntries(Buffer.from(JSON.stringify(document)), "trusty").entries).toEqual([]);
});
