import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { inverseOf, isChecked, postCheck, snapshotOf, withoutLeftovers } from "../src/apt-outcome.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { describeDifference } from "../src/doc-result.ts";
import type { HostState } from "../src/eco-driver.ts";
import { entry, removal } from "./policy-plans.ts";

const OLD = "1.0-1 installed";
const NEW = "1.0-2 installed";
const HELLO = [entry("hello")];
const HELD = "1.0-2 installed on hold";
const HOLD = entry("hello", { action: "hold", from_version: "1.0-2" });
const GONE = [removal("hello")];

/** Differences in words: `planned` for the plan's packages, `besides` for others. */
function differences(plan: readonly TransactionEntry[], before: HostState, after: HostState): string[] {
  const { not_as_planned, changed_besides } = postCheck(plan, before, after);
  return [
    ...not_as_planned.map((d) => `planned: ${describeDifference(d)}`),
    ...changed_besides.map((d) => `besides: ${describeDifference(d)}`),
  ];
}

describe("postCheck", () => {
  const CASES: [
    name: string,
    plan: TransactionEntry[],
    before: HostState,
    after: HostState,
    expected: string[],
  ][] = [
    [
      "nothing was done",
      HELLO,
      { "hello:amd64": OLD },
      { "hello:amd64": OLD },
      ["planned: hello:amd64 is 1.0-1 installed, expected 1.0-2 installed"],
    ],
    [
      "an upgrade that changes the architecture leaves nothing behind",
      [entry("hello", { architecture: "amd64", from_version: "1.0-1" })],
      { "hello:all": OLD },
      { "hello:amd64": NEW },
      [],
    ],
    [
      "another architecture of it that goes too, at another version",
      [entry("hello", { architecture: "amd64", from_version: "1.0-1" })],
      { "hello:amd64": OLD, "hello:i386": "0.9-1 installed" },
      { "hello:amd64": NEW },
      ["besides: hello:i386 is not installed, expected 0.9-1 installed"],
    ],
    [
      "a hold that was not set",
      [HOLD],
      { "hello:amd64": NEW },
      { "hello:amd64": NEW },
      ["planned: hello:amd64 is 1.0-2 installed, expected 1.0-2 installed on hold"],
    ],
    [
      "a purge that left configuration files",
      GONE,
      { "hello:amd64": OLD },
      { "hello:amd64": "1.0-1 config-files" },
      ["planned: hello:amd64 is 1.0-1 config-files, expected not installed"],
    ],
    ["a purge of what was left", GONE, { "hello:amd64": "1.0-1 config-files" }, {}, []],
    ["a hold that was set", [HOLD], { "hello:amd64": NEW }, { "hello:amd64": HELD }, []],
    [
      "a package that was upgraded instead of put on hold",
      [HOLD],
      { "hello:amd64": NEW },
      { "hello:amd64": "1.0-3 installed on hold" },
      ["planned: hello:amd64 is 1.0-3 installed on hold, expected 1.0-2 installed on hold"],
    ],
    [
      "another package that was put on hold as well",
      [HOLD],
      { "hello:amd64": NEW, "b:amd64": NEW },
      { "hello:amd64": HELD, "b:amd64": HELD },
      ["besides: b:amd64 is 1.0-2 installed on hold, expected 1.0-2 installed"],
    ],
    [
      "an upgrade of a package on hold, which loses it",
      HELLO,
      { "hello:amd64": HELD },
      { "hello:amd64": NEW },
      [],
    ],
    [
      "an upgrade of a package on hold, which keeps it",
      HELLO,
      { "hello:amd64": OLD },
      { "hello:amd64": HELD },
      [],
    ],
    [
      "another version",
      HELLO,
      {},
      { "hello:amd64": "1.0-3 installed" },
      ["planned: hello:amd64 is 1.0-3 installed, expected 1.0-2 installed"],
    ],
    [
      "half done",
      HELLO,
      {},
      { "hello:amd64": "1.0-2 half-configured" },
      ["planned: hello:amd64 is 1.0-2 half-configured, expected 1.0-2 installed"],
    ],
    [
      "triggers are pending",
      HELLO,
      {},
      { "hello:amd64": "1.0-2 triggers-pending" },
      ["planned: hello:amd64 is 1.0-2 triggers-pending, expected 1.0-2 installed"],
    ],
    [
      "gone instead of new",
      HELLO,
      { "hello:amd64": OLD },
      {},
      ["planned: hello:amd64 is not installed, expected 1.0-2 installed"],
    ],
    [
      "another architecture instead",
      HELLO,
      {},
      { "hello:i386": NEW },
      [
        "planned: hello:amd64 is not installed, expected 1.0-2 installed",
        "besides: hello:i386 is 1.0-2 installed, expected not installed",
      ],
    ],
    [
      "not removed",
      GONE,
      { "hello:amd64": OLD },
      { "hello:amd64": OLD },
      ["planned: hello:amd64 is 1.0-1 installed, expected not installed"],
    ],
    [
      "removed by halves",
      GONE,
      { "hello:amd64": OLD },
      { "hello:amd64": "1.0-1 half-installed" },
      ["planned: hello:amd64 is 1.0-1 half-installed, expected not installed"],
    ],
    [
      "another package came",
      HELLO,
      {},
      { "hello:amd64": NEW, "x:all": "1 installed" },
      ["besides: x:all is 1 installed, expected not installed"],
    ],
    [
      "another package went",
      HELLO,
      { "x:all": "1 installed" },
      { "hello:amd64": NEW },
      ["besides: x:all is not installed, expected 1 installed"],
    ],
    [
      "another package changed",
      HELLO,
      { "x:all": "1 installed" },
      { "hello:amd64": NEW, "x:all": "2 installed" },
      ["besides: x:all is 2 installed, expected 1 installed"],
    ],
    [
      "another package broke",
      HELLO,
      { "x:all": "1 installed" },
      { "hello:amd64": NEW, "x:all": "1 unpacked" },
      ["besides: x:all is 1 unpacked, expected 1 installed"],
    ],
    [
      "another architecture of the same version went",
      HELLO,
      { "hello:amd64": OLD, "hello:i386": OLD },
      { "hello:amd64": NEW },
      ["besides: hello:i386 is not installed, expected 1.0-1 installed"],
    ],
    [
      "the old architecture stayed",
      HELLO,
      { "hello:all": "1.0-1 installed" },
      { "hello:all": "1.0-1 config-broken", "hello:amd64": NEW },
      ["besides: hello:all is 1.0-1 config-broken, expected 1.0-1 installed"],
    ],
    ["an upgrade from all to amd64", HELLO, { "hello:all": OLD }, { "hello:amd64": NEW }, []],
    [
      "as planned",
      HELLO,
      { "hello:amd64": OLD, "x:all": "1 installed" },
      { "hello:amd64": NEW, "x:all": "1 installed" },
      [],
    ],
    ["removed as planned", GONE, { "hello:amd64": OLD }, {}, []],
    [
      "something broken before is not our doing",
      HELLO,
      { "x:all": "1 unpacked" },
      { "hello:amd64": NEW, "x:all": "1 unpacked" },
      [],
    ],
    ["nothing planned, nothing done", [], { "x:all": "1 installed" }, { "x:all": "1 installed" }, []],
  ];
  for (const [name, plan, before, after, expected] of CASES)
    test(name, () => expect(differences(plan, before, after)).toEqual(expected));

  test("a package called like a method of objects", () => {
    expect(differences([entry("constructor", { architecture: "" })], {}, {})).toHaveLength(1);
    expect(differences([], {}, JSON.parse('{"__proto__:all":"1 installed"}'))).toHaveLength(1);
  });
});

test("a snapshot has packages with only configuration files left, for purges alone", () => {
  const recorded = readFileSync(join(import.meta.dir, "fixtures/apt-hook/dpkg-status.txt"), "utf8");
  const snapshot = snapshotOf(parseDpkgStatus(recorded));
  expect(snapshot["conffile-owner:all"]).toBe("1.1 config-files");
  expect(withoutLeftovers(snapshot)["conffile-owner:all"]).toBeUndefined();
  expect(snapshot).toMatchObject({
    "dpkg:amd64": "1.21.22 installed",
    "libmulti:i386": "1.0 installed",
    "openssh-aegis:all": "1.0 installed on hold",
    "postinst-fails:all": "1.0 half-configured",
  });
});

describe("the inverse of a run", () => {
  const HALF = "1.0-2 half-configured";
  const added = entry("hello", { action: "install", from_version: null });
  const CASES: [
    name: string,
    plan: TransactionEntry[],
    before: HostState,
    after: HostState,
    expected: string[],
  ][] = [
    ["nothing was done", HELLO, { "hello:amd64": OLD }, { "hello:amd64": OLD }, []],
    ["an upgrade", HELLO, { "hello:amd64": OLD }, { "hello:amd64": NEW }, ["hello:amd64 1.0-1 <- 1.0-2"]],
    [
      "one that stopped halfway",
      HELLO,
      { "hello:amd64": OLD },
      { "hello:amd64": HALF },
      ["hello:amd64 1.0-1 <- 1.0-2"],
    ],
    ["an install", [added], {}, { "hello:amd64": NEW }, ["hello:amd64 - <- 1.0-2"]],
    ["an install that failed", [added], {}, { "hello:amd64": HALF }, ["hello:amd64 - <- 1.0-2"]],
    ["a removal", GONE, { "hello:amd64": OLD }, {}, ["hello:amd64 1.0-1 <- -"]],
    [
      "an unplanned version",
      HELLO,
      { "hello:amd64": OLD },
      { "hello:amd64": "3 installed" },
      ["hello:amd64 1.0-1 <- 3"],
    ],
    [
      "a package is configured",
      [entry("hello", { action: "configure" })],
      { "hello:amd64": HALF },
      { "hello:amd64": NEW },
      [],
    ],
    [
      "changes outside the plan are not included",
      HELLO,
      { "hello:amd64": OLD, "x:all": OLD },
      { "hello:amd64": NEW },
      ["hello:amd64 1.0-1 <- 1.0-2"],
    ],
    [
      "nor is another architecture of it",
      HELLO,
      { "hello:amd64": OLD, "hello:i386": OLD },
      { "hello:amd64": NEW },
      ["hello:amd64 1.0-1 <- 1.0-2"],
    ],
    [
      "the old architecture of a package is",
      [entry("hello")],
      { "hello:all": OLD },
      { "hello:amd64": NEW },
      ["hello:all 1.0-1 <- -", "hello:amd64 - <- 1.0-2"],
    ],
    [
      "of several, those that were reached, sorted",
      [entry("b"), entry("a"), entry("c")],
      { "a:amd64": OLD, "b:amd64": OLD, "c:amd64": OLD },
      { "a:amd64": NEW, "b:amd64": NEW, "c:amd64": OLD },
      ["a:amd64 1.0-1 <- 1.0-2", "b:amd64 1.0-1 <- 1.0-2"],
    ],
  ];
  for (const [name, plan, before, after, expected] of CASES) {
    test(name, () => {
      const undo = inverseOf(plan, before, after);
      expect(
        undo.map((u) => `${u.package}:${u.architecture} ${u.before ?? "-"} <- ${u.left ?? "-"}`),
      ).toEqual(expected);
    });
  }
});

test("the hook must have seen every apt run that changes something, but no repair", () => {
  expect(isChecked(["apt-get", "upgrade"], HELLO)).toBe(true);
  expect(isChecked(["apt-get", "remove", "-y", "hello"], GONE)).toBe(true);
  expect(isChecked(["apt-get", "update"], [])).toBe(false);
  expect(isChecked(["dpkg", "--configure", "-a"], HELLO)).toBe(false);
});
