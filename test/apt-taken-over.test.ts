import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { ShownPackages } from "../src/apt-cache.ts";
import { parseControl } from "../src/apt-control.ts";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { unpinnable } from "../src/apt-evidence.ts";
import { checkTakenOver } from "../src/apt-hook-files.ts";
import { parseSimulation } from "../src/apt-simulation.ts";
import { buildTransaction } from "../src/apt-transaction.ts";
import { TransactionEntry } from "../src/doc-plan.ts";
import { refuses } from "./signing-kit.ts";

const stanza = (name: string, version: string, more = "") =>
  `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\n${more}`;
const state = (name: string, version: string, status = "install ok installed") =>
  stanza(name, version, `Status: ${status}\nProvides: virtual-${name}\n`);
/** `app` is upgraded and `old` removed; the others stay. */
const INSTALLED = parseDpkgStatus(
  [
    state("coreutils", "9.1-1"),
    state("half", "1.0", "install ok half-configured"),
    state("gone", "1.0", "deinstall ok config-files"),
    state("old", "1.0"),
    state("app", "1.0"),
  ].join("\n"),
);
const SIMULATED = parseSimulation(
  [
    "Remv old [1.0]",
    "Inst app [1.0] (2.0 Site:1/stable [amd64])",
    "Inst new (1.0 Site:1/stable [amd64])",
  ].join("\n"),
);

/** The transaction if the index has these Replaces for `new`. */
function planned(replaces: string): TransactionEntry[] {
  const file = `Filename: x.deb\nSize: 1\nSHA256: ${"a".repeat(64)}\n`;
  const said = replaces === "" ? "" : `Replaces: ${replaces}\n`;
  return buildTransaction(SIMULATED, {
    shown: new ShownPackages(`${stanza("new", "1.0", file + said)}\n${stanza("app", "2.0", file)}`),
    policy: new Map(),
    installed: INSTALLED,
    repositories: [],
    native: "amd64",
    kept: [],
  });
}
const takesOver = (replaces: string) => planned(replaces).find(({ name }) => name === "new")?.takes_over;
/** The hook's check of the .deb of `new` if the index has `said`. */
const hook = (replaces: string, said: string) =>
  checkTakenOver(
    [
      parseControl(stanza("new", "1.0", `Replaces: ${replaces}\n`), "new.deb"),
      parseControl(stanza("app", "2.0"), "app.deb"),
    ],
    planned(said),
    INSTALLED,
  );

describe("Replaces matching packages present afterwards", () => {
  const TAKEN: [replaces: string, names: string[]][] = [
    ["coreutils", ["coreutils"]],
    ["coreutils (<< 9.2)", ["coreutils"]],
    ["coreutils (= 9.1-1)", ["coreutils"]],
    ["coreutils:any", ["coreutils"]],
    ["coreutils:amd64", ["coreutils"]],
    ["coreutils (<< 8), coreutils (>= 9)", ["coreutils"]],
    ["half", ["half"]],
    ["app", ["app"]],
    ["app (>= 2.0)", ["app"]],
    ["nothing, half, coreutils, half", ["coreutils", "half"]],
  ];
  for (const [replaces, names] of TAKEN) {
    test(`${replaces}: in the index it stands in the plan, hidden from it the .deb is refused`, () => {
      expect(takesOver(replaces)).toEqual(names);
      expect(hook(replaces, replaces)).toBeUndefined();
      refuses(() => hook(replaces, ""), "hook_refused", `new takes over files of ${names[0]}`);
    });
  }
  test("one more than in the index", () => {
    refuses(() => hook("coreutils, half", "coreutils"), "hook_refused", "files of half");
    refuses(() => hook("coreutils", "coreutils (<< 9)"), "hook_refused", "files of coreutils");
  });
  test("one less than in the index is harmless", () => {
    expect(hook("half", "coreutils, half")).toBeUndefined();
  });
});

describe("Replaces that takes nothing over", () => {
  const NONE = [
    "coreutils (<< 9.1-1)",
    "coreutils:i386",
    "virtual-coreutils",
    "gone",
    "old",
    "new",
    "app (<< 2.0)",
    "nothing",
  ];
  for (const replaces of NONE) {
    test(replaces, () => {
      expect(planned(replaces).every((entry) => !("takes_over" in entry))).toBe(true);
      expect(hook(replaces, "")).toBeUndefined();
    });
  }
});

test("a package without a hash or size is never planned: the hook would refuse it", () => {
  const requested = { exact: ["new=1.0"], chosen: [], problems: [], warnings: [] };
  const lacking = (change: Partial<TransactionEntry>) =>
    unpinnable(
      planned("").map((entry) => ({ ...entry, ...change })),
      "install",
      requested,
    );
  expect(lacking({})).toEqual([]);
  expect(lacking({ size: null })).toEqual([
    "no size is known for app:amd64=2.0",
    "no size is known for new:amd64=1.0",
  ]);
  expect(lacking({ sha256: null })[0]).toBe("no SHA-256 is known for app:amd64=2.0");
});

test("a package that replaces more than a plan can name is never planned", () => {
  const names = Array.from({ length: 257 }, (_, i) => `p${i}`);
  const [entry] = planned("coreutils").filter(({ name }) => name === "new");
  const taking = entry === undefined ? [] : [{ ...entry, takes_over: names }];
  const requested = { exact: ["new=1.0"], chosen: [], problems: [], warnings: [] };
  expect(unpinnable(taking, "install", requested)).toEqual([
    "new takes over files of more packages than a plan can name",
  ]);
  expect(v.safeParse(v.array(TransactionEntry), taking).success).toBe(false);
  expect(v.safeParse(v.array(TransactionEntry), planned("coreutils")).success).toBe(true);
});
