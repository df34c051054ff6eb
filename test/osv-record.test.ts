import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { toOsvRecord, toStoredRecord } from "../src/osv-record.ts";
import { FIXTURES } from "./osv-kit.ts";

const RECORDED = readdirSync(FIXTURES, { recursive: true })
  .map(String)
  .filter((name) => name.endsWith(".json"))
  .map((name): unknown => JSON.parse(readFileSync(join(FIXTURES, name), "utf8")));
/** As an index keeps it. */
const kept = (tree: unknown): unknown => JSON.parse(JSON.stringify(toOsvRecord(tree)));

describe("a stored record is held to what a record is held to", () => {
  const BROKEN: [string, object][] = [
    ["no id", { id: undefined }],
    ["an id with white space", { id: "CVE-1 " }],
    ["a number as a date", { modified: 1 }],
    ["no aliases", { aliases: undefined }],
    ["an alias that isn't one", { aliases: ["a b"] }],
    ["a rating that isn't one", { severity: [{}] }],
    ["affected, not a list", { affected: {} }],
    [
      "a package without a name",
      { affected: [{ package: { ecosystem: "npm" }, severity: [], ranges: [], versions: [] }] },
    ],
    ["ranges, not a list", { affected: [{ severity: [], ranges: {}, versions: [] }] }],
    [
      "an event of another type",
      { affected: [{ severity: [], ranges: [{ type: "SEMVER", events: [{ fixed: 1 }] }], versions: [] }] },
    ],
    ["a version too long", { affected: [{ severity: [], ranges: [], versions: ["1".repeat(513)] }] }],
    ["too many versions", { affected: [{ severity: [], ranges: [], versions: Array(50_001).fill("1") }] }],
  ];
  test.each(BROKEN)("%s", (_, over) => {
    const whole = kept(RECORDED[0]);
    expect(toStoredRecord({ ...(whole as object), ...over })).toBeNull();
  });
  test("no object", () => expect([null, 1, "x", []].map(toStoredRecord)).toEqual([null, null, null, null]));

  test("every recorded one passes, and is the same", () => {
    expect(RECORDED.length).toBeGreaterThan(8);
    for (const tree of RECORDED) expect(toStoredRecord(kept(tree))).toEqual(toOsvRecord(tree));
  });

  test("property: whatever passes is a record with the same fields", () => {
    const replaced = fc.oneof(fc.json(), fc.constantFrom("null", "[]", "{}", "1", '"x"', "[[]]", "[{}]"));
    fc.assert(
      fc.property(fc.constantFrom(...RECORDED), fc.nat(), replaced, (tree, seed, text) => {
        const record = kept(tree);
        const places = paths(record);
        const path = places[seed % places.length] ?? [];
        const changed: unknown = put(record, path, JSON.parse(text));
        const stored = toStoredRecord(changed);
        if (stored !== null) expect(stored).toMatchObject(kept(changed) as object);
      }),
      { numRuns: 2000 },
    );
  });
});

type Path = (string | number)[];

function paths(tree: unknown): Path[] {
  if (typeof tree !== "object" || tree === null) return [[]];
  return [[], ...Object.entries(tree).flatMap(([key, one]) => paths(one).map((path) => [key, ...path]))];
}

function put(tree: unknown, [key, ...rest]: Path, value: unknown): unknown {
  if (key === undefined || typeof tree !== "object" || tree === null) return value;
  const changed = put((tree as Record<string, unknown>)[key], rest, value);
  if (Array.isArray(tree)) return tree.map((one, i) => (String(i) === key ? changed : one));
  return { ...tree, [key]: changed };
}
