import { describe, expect, test } from "bun:test";
import type { ResolveWorld } from "../src/pip-criteria.ts";
import type { Wheel } from "../src/pip-index.ts";
import { newestFirst, parseRequirement } from "../src/pip-requirement.ts";
import { resolvePip } from "../src/pip-resolve.ts";
import { parseSpecifiers } from "../src/pip-version.ts";
import { ENVIRONMENT } from "./pip-kit.ts";

/** `name version` → what it requires. */
type Table = Readonly<Record<string, readonly string[]>>;

function world(table: Table): ResolveWorld & { asked: string[] } {
  const wheels = Object.keys(table).map((key): Wheel => {
    const [name = "", version = "", yanked] = key.split(" ");
    return {
      ...{
        name,
        version,
        filename: key,
        url: new URL("https://x.example"),
        sha256: key,
        metadataSha256: null,
      },
      ...{ yanked: yanked === undefined ? null : "withdrawn", publishedAt: null, provenance: null },
    };
  });
  const asked: string[] = [];
  return {
    asked,
    unusable: new Map(),
    project: async (name) => {
      const own = newestFirst(wheels.filter((one) => one.name === name));
      return { name, wheels: own, others: [], found: own.length > 0 };
    },
    requirements: async ({ filename }, extras) => {
      asked.push(filename);
      const all = (table[filename] ?? []).flatMap((text) => parseRequirement(text) ?? []);
      return all.filter(
        (one) => one.applies(ENVIRONMENT, extras) && (extras.length === 0 || !one.applies(ENVIRONMENT, [])),
      );
    },
  };
}

const resolve = async (table: Table, ...asked: string[]) => {
  const wanted = asked.map((text) => {
    const [name = ""] = /^[a-z-]+/.exec(text) ?? [];
    return { name, specifiers: parseSpecifiers(text.slice(name.length)) ?? [] };
  });
  const found = await resolvePip(wanted, world(table));
  return found
    .map(
      ({ wheel, requiredBy }) =>
        `${wheel.name} ${wheel.version}${requiredBy === null ? "" : ` < ${requiredBy.name}`}`,
    )
    .sort();
};

describe("nothing fits, and the way down to the trouble is told", () => {
  test.each([
    ["an unknown name", { "a 1": ["b"] }, ["a"], /b \(a 1\)\. The index has no b/],
    [
      "deep down",
      { "a 1": ["b"], "b 1": ["c"], "c 1": ["d>2"], "d 1": [] },
      ["a"],
      /d>2 \(a 1 → b 1 → c 1\)\. The newest d for this host is 1/,
    ],
    [
      "two that contradict each other",
      { "a 1": ["c<2"], "b 1": ["c>=2"], "c 1": [], "c 2": [] },
      ["a", "b"],
      /c<2 \(a 1\).*c>=2 \(b 1\)/,
    ],
    ["what was asked for", { "a 1": [] }, ["a==2"], /a==2 \(asked for\)/],
    [
      "an extra's own",
      { "a 1": ["b[x]"], "b 1": ['c>1; extra == "x"'], "c 1": [] },
      ["a"],
      /c>1 \(a 1 → b 1\)/,
    ],
    ["only withdrawn ones", { "a 1": ["b"], "b 1 yanked": [] }, ["a"], /no versions fit together: b \(a 1\)/],
  ] as [string, Table, string[], RegExp][])("%s", async (_, table, asked, why) => {
    await expect(resolve(table, ...asked)).rejects.toThrow(why);
  });
  test("a search that never ends is ended", async () => {
    // Every version of each project contradicts every version of the next but one.
    const table: Record<string, string[]> = {};
    for (let p = 0; p < 12; p++)
      for (let v = 0; v < 40; v++)
        table[`p${"abcdefghijkl"[p]} ${v}`] = p === 11 ? ["gone"] : [`p${"abcdefghijkl"[p + 1]}`];
    await expect(resolve(table, "pa")).rejects.toThrow(/no versions fit together|needs more than/);
  });
});

test.each([
  ["the newest", { "a 1": [], "a 2": [] }, ["a"], ["a 2"]],
  ["what was named", { "a 1": [], "a 2": [] }, ["a==1"], ["a 1"]],
  [
    "a bound that is found later",
    { "a 1": ["c"], "b 1": ["c<2"], "c 1": [], "c 2": ["d"], "d 1": [] },
    ["a", "b"],
    ["a 1", "b 1", "c 1 < a"],
  ],
  [
    "back to an older version",
    { "a 2": ["c>=2"], "a 1": ["c"], "b 1": ["c<2"], "c 1": [], "c 2": [] },
    ["a", "b"],
    ["a 1", "b 1", "c 1 < a"],
  ],
  ["past a version whose needs nobody has", { "a 2": ["gone"], "a 1": [] }, ["a"], ["a 1"]],
  ["a circle", { "a 1": ["b"], "b 1": ["a"] }, ["a"], ["a 1", "b 1 < a"]],
  [
    "an extra, at the version of its project",
    { "a 1": ["b[x]", "b<2"], "b 1": ['c; extra == "x"'], "b 2": ['d; extra == "x"'], "c 1": [], "d 1": [] },
    ["a"],
    ["a 1", "b 1 < a", "c 1 < b"],
  ],
  ["an extra that nobody offers", { "a 1": ["b[none]"], "b 1": [] }, ["a"], ["a 1", "b 1 < a"]],
  ["not what a marker leaves out", { "a 1": ['b; sys_platform == "win32"'] }, ["a"], ["a 1"]],
  [
    "no pre-release unless it is named",
    { "a 1": ["b>=1"], "b 1": [], "b 2rc1": [] },
    ["a"],
    ["a 1", "b 1 < a"],
  ],
  [
    "a pre-release that is named",
    { "a 1": ["b>=2rc1"], "b 1": [], "b 2rc1": [] },
    ["a"],
    ["a 1", "b 2rc1 < a"],
  ],
  ["no withdrawn version", { "a 1": ["b"], "b 1": [], "b 2 yanked": [] }, ["a"], ["a 1", "b 1 < a"]],
  [
    "a withdrawn version that alone is asked for",
    { "a 1": ["b==2"], "b 1": [], "b 2 yanked": [] },
    ["a"],
    ["a 1", "b 2 < a"],
  ],
  [
    "nothing of a pin that was replaced",
    { "a 1": ["c", "z"], "c 2": ["d"], "c 1": [], "d 1": [], "z 1": ["c<2"] },
    ["a"],
    ["a 1", "c 1 < a", "z 1 < a"],
  ],
] as [string, Table, string[], string[]][])("%s", async (_, table, asked, expected) => {
  expect(await resolve(table, ...asked)).toEqual(expected);
});
