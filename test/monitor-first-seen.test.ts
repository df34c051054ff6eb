import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FirstSeen, keyOf } from "../src/apt-first-seen.ts";
import { sha256Hex } from "../src/canonical.ts";
import type { RepositoryEvidence } from "../src/doc-plan-evidence.ts";
import { recordFirstSeen } from "../src/monitor-first-seen.ts";
import { needs } from "./needs.ts";
import { DEBIAN } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";

const BASE = "example.org_debian_dists_st";
const SOURCE = { ...DEBIAN, id: "http://example.org/debian st" };
const PINNED: RepositoryEvidence = { ...SOURCE, trust: "pinned" };
const dated = (release_date: string): RepositoryEvidence => ({ ...SOURCE, release_date });
const hash = (name: string) => sha256Hex(name);
const file = (name: string) => `${name}:all=1 ${hash(name)}`;

needs(process.getuid?.() === 0, "root").describe("the record of first sightings", () => {
  let root: string;
  let lists: string;
  let path: string;
  beforeAll(() => {
    root = mkdtempSync("/root/aegis-first-seen-");
  });
  afterAll(() => rmSync(root, { recursive: true }));
  beforeEach(() => {
    lists = mkdtempSync(join(root, "lists-"));
    path = join(lists, "record");
  });
  const offer = (...names: string[]) => offerText(textOf(...names));
  const textOf = (...names: string[]) =>
    names
      .map((name) => `Package: ${name}\nArchitecture: all\nSize: 1\nSHA256: ${hash(name)}\nVersion: 1\n`)
      .join("\n");
  /** An index, and its Release file. */
  const offerText = (text: string) => {
    writeFileSync(join(lists, `${BASE}_main_binary-amd64_Packages`), text);
    const release = `SHA256:\n ${sha256Hex(text)} ${text.length} main/binary-amd64/Packages\n`;
    writeFileSync(
      join(lists, `${BASE}_InRelease`),
      `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n${release}-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n`,
    );
  };
  const look = async (at: string, source = PINNED, more: { hasRun?: boolean; max?: number } = {}) =>
    (await recordFirstSeen(lists, [source], { now: new Date(at), hasRun: false, path, ...more }))?.message ??
    null;
  const dayOf = (name: string) =>
    new FirstSeen(existsSync(path) ? readFileSync(path, "utf8") : null).dayOf(file(name));

  test("a file keeps its day, and a new one gets that of the look", async () => {
    offer("a", "b");
    expect(await look("2026-11-20T10:00:00Z")).toBeNull();
    offer("b", "c");
    expect(await look("2026-11-28T10:00:00Z")).toBeNull();
    expect(["a", "b", "c", "d"].map(dayOf)).toEqual(["2026-11-20", "2026-11-20", "2026-11-28", null]);
    expect(statSync(path).mode & 0o777).toBe(0o644);
  });

  test("where nothing changed nothing is written", async () => {
    offer("a");
    await look("2026-11-20T10:00:00Z");
    const before = statSync(path).ino;
    await look("2026-11-28T10:00:00Z");
    expect(statSync(path).ino).toBe(before);
  });

  const OLD = "Fri, 02 Jan 2026 00:00:00 UTC";
  test.each<[what: string, source: RepositoryEvidence, day: string | null]>([
    ["the distribution's: as old as its index", dated(OLD), "2026-01-02"],
    ["another's: today, whatever it says", { ...dated(OLD), trust: "pinned" }, "2026-11-20"],
    ["the distribution's, from the future: today", dated("Fri, 20 Nov 2027 00:00:00 UTC"), "2026-11-20"],
    ["an untrusted source's: not recorded", { ...dated(OLD), trust: "untrusted" }, null],
    ["unverified: not recorded", { ...dated(OLD), signature_verified: false }, null],
  ])("on the first look: %s", async (_what, source, day) => {
    offer("a");
    await look("2026-11-20T10:00:00Z", source);
    expect(dayOf("a")).toBe(day);
  });

  test("a clock set back makes nothing older; far back, nothing is recorded, and people are told", async () => {
    offer("a");
    await look("2026-11-20T10:00:00Z");
    offer("a", "b");
    await look("2026-11-19T23:00:00Z");
    expect(dayOf("b")).toBe("2026-11-20");
    offer("a", "b", "c");
    expect(await look("2020-01-01T00:00:00Z")).toContain("a clock is or was wrong");
    expect(dayOf("c")).toBeNull();
  });

  test.each([
    ["lost", () => rmSync(path)],
    ["damaged", () => writeFileSync(path, "aegis-first-seen 2\n")],
    ["cut off", () => writeFileSync(path, readFileSync(path, "utf8").slice(0, -3))],
  ])("a record that was %s: what it knew is new, and people are told", async (_what, lose) => {
    offer("a");
    await look("2026-11-20T10:00:00Z");
    lose();
    expect(dayOf("a")).toBeNull();
    expect(await look("2026-11-28T10:00:00Z", PINNED, { hasRun: true })).toContain("was missing or damaged");
    expect(dayOf("a")).toBe("2026-11-28");
  });

  test("an index that its Release file doesn't name, or that others can write: nothing is recorded", async () => {
    offer("a");
    const index = join(lists, `${BASE}_main_binary-amd64_Packages`);
    writeFileSync(index, `Package: evil\nSHA256: ${hash("evil")}\n`);
    await refuses(() => look("2026-11-20T10:00:00Z"), "refused");
    offer("a");
    chownSync(index, 65534, 0);
    await refuses(() => look("2026-11-20T10:00:00Z"), "refused");
    expect(existsSync(path)).toBe(false);
  });

  test.each<[what: string, text: string]>([
    ["under another name", `Package: b\nArchitecture: all\nVersion: 1\nSHA256: ${hash("a")}\n`],
    ["as another version", `Package: a\nArchitecture: all\nVersion: 2\nSHA256: ${hash("a")}\n`],
    ["for another architecture", `Package: a\nArchitecture: amd64\nVersion: 1\nSHA256: ${hash("a")}\n`],
    [
      "under another name, which apt takes as the last",
      `Package: a\npackage: b\nArchitecture: all\nVersion: 1\nSHA256: ${hash("a")}\n`,
    ],
    [
      "in a stanza that is too long",
      `Package: b\nDescription: ${"x".repeat(2 << 20)}\nPackage: a\nArchitecture: all\nVersion: 1\nSHA256: ${hash("a")}\n`,
    ],
    ["without a name", `SHA256: ${hash("a")}\n`],
  ])("a file that was listed before %s is new", async (_what, text) => {
    offerText(`${text}\n${textOf("z")}`);
    await look("2026-11-01T10:00:00Z");
    expect([dayOf("a"), dayOf("z")]).toEqual([null, "2026-11-01"]);
    offer("a");
    await look("2026-11-28T10:00:00Z");
    expect(dayOf("a")).toBe("2026-11-28");
  });

  test("bounded: what isn't offered goes first, then the youngest", async () => {
    offer("a", "b");
    await look("2026-11-20T10:00:00Z", PINNED, { max: 2 });
    offer("b", "c");
    expect(await look("2026-11-21T10:00:00Z", PINNED, { max: 2 })).toBeNull();
    expect(["a", "b", "c"].map(dayOf)).toEqual([null, "2026-11-20", "2026-11-21"]);
    offer("b", "c", "d");
    expect(await look("2026-11-22T10:00:00Z", PINNED, { max: 2 })).toContain("more than the 2");
    expect(["b", "c", "d"].map(dayOf)).toEqual(["2026-11-20", "2026-11-21", null]);
  });

  test("many pieces: every hash, none in another field", async () => {
    const names = Array.from({ length: 20_000 }, (_, n) => `p${n}`);
    offer(...names);
    await look("2026-11-20T10:00:00Z");
    const record = new FirstSeen(readFileSync(path, "utf8"));
    expect(names.filter((name) => record.dayOf(file(name)) === null)).toEqual([]);
    expect(readFileSync(path, "utf8").split("\n")).toHaveLength(names.length + 2);
  });
});

describe("a record's text", () => {
  const head = `aegis-first-seen 2 2026-11-30T00:00:00.000Z ${"a".repeat(64)}\n`;
  const line = `${keyOf(file("a"))} 2026-11-01\n`;
  test.each([
    ["none", null, null],
    ["empty", "", null],
    ["no head", line, null],
    ["another version", head.replace(" 2 ", " 1 ") + line, null],
    ["a line too short", head + line.slice(1), null],
    ["a line that is none", `${head}${"x".repeat(43)}\n`, null],
    ["whole", head + line, "2026-11-01"],
  ])("%s", (_what, text, day) => expect(new FirstSeen(text).dayOf(file("a"))).toBe(day));
});
