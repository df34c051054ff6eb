import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bringKept, findKept, keepPackages, keptFiles } from "../src/apt-kept.ts";
import { sha256Hex } from "../src/canonical.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { parseResult, type Result } from "../src/doc-result.ts";
import { fakePlanning } from "./apt-kit.ts";
import { needs } from "./needs.ts";
import { entry, removal } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";

const KEPT = "/var/cache/aegis/kept";
const bytesOf = (name: string, version: string) => `${name} ${version}`.padEnd(1000, ".");
const made = (name: string, version: string): TransactionEntry =>
  entry(name, { to_version: version, sha256: sha256Hex(bytesOf(name, version)), size: 1000 });
const undoing = (name: string, before: string): Result =>
  parseResult(
    JSON.stringify({
      ...{ schema_version: "1.0", execution_plan_id: "x", plan_id: "y", argv: [], state: "completed" },
      ...{ exit_status: 0, code: null, message: null, started_at: "", ended_at: "", submitted_by_uid: 0 },
      ...{ not_as_planned: [], changed_besides: [] },
      inverse: [{ package: name, architecture: "amd64", before, left: "9" }],
    }),
  );

needs(process.getuid?.() === 0, "root").describe("keeping package files", () => {
  let root: string;
  let directory: string;
  let archives: string;
  let clock = 1_700_000_000;
  beforeAll(() => {
    root = mkdtempSync("/root/aegis-kept-");
  });
  afterAll(() => rmSync(root, { recursive: true }));
  beforeEach(() => {
    [directory, archives] = ["kept-", "archives-"].map((name) => mkdtempSync(join(root, name))) as [
      string,
      string,
    ];
  });
  /** A run that installed these; each later than those before. */
  const ran = (
    packages: readonly (readonly [name: string, version: string])[],
    more: Partial<Parameters<typeof keepPackages>[2]> = {},
  ) => {
    for (const [name, version] of packages)
      writeFileSync(join(archives, `${name}_${version}_amd64.deb`), bytesOf(name, version));
    const entries = packages.map(([name, version]) => made(name, version));
    const how = { recent: [], installed: new Map(), limit: 1e6, directory, ...more };
    const problem = keepPackages(entries, archives, how);
    for (const name of readdirSync(archives)) rmSync(join(archives, name));
    for (const [name, version] of packages)
      for (const file of readdirSync(directory))
        if (file.startsWith(`${name}_${version}_`)) utimesSync(join(directory, file), clock, clock++);
    return problem;
  };
  const kept = () =>
    readdirSync(directory)
      .map((name) => name.split("_").slice(0, 2).join(" "))
      .sort();

  test("files of the transaction, by their bytes; no others, and nothing of a removal", () => {
    writeFileSync(join(archives, "evil_1_amd64.deb"), "evil");
    writeFileSync(join(archives, "b_1_amd64.deb"), "not what was signed");
    writeFileSync(join(archives, "a_1_amd64.deb"), bytesOf("a", "1"));
    const how = { recent: [], installed: new Map(), limit: 1e6, directory };
    expect(keepPackages([made("a", "1"), made("b", "1"), removal("c")], archives, how)).toBeNull();
    expect(kept()).toEqual(["a 1"]);
    expect(keepPackages([made("a", "1")], archives, how)).toBeNull();
    expect(kept()).toEqual(["a 1"]);
  });

  test("without room the oldest go, then what is installed, never what undoes the newest executions", () => {
    ran([["a", "1"]], { limit: 3000 });
    ran([["b", "1"]], { limit: 3000 });
    ran([["c", "1"]], { limit: 3000 });
    const recent = [undoing("a", "1")];
    expect(ran([["d", "1"]], { limit: 3000, recent })).toBeNull();
    expect(kept()).toEqual(["a 1", "c 1", "d 1"]);
    expect(ran([["e", "1"]], { limit: 3000, recent, installed: new Map([["c:amd64", "1"]]) })).toBeNull();
    expect(kept()).toEqual(["a 1", "c 1", "e 1"]);
    expect(ran([["f", "1"]], { limit: 1000, recent })).toBeNull();
    expect(kept()).toEqual(["a 1"]);
    expect(ran([["g", "1"]], { limit: 999, recent })).toContain("more than the 0 MiB");
    expect(kept()).toEqual(["a 1"]);
  });

  test("0 keeps none; a directory that isn't there is told, not thrown", () => {
    expect(ran([["a", "1"]], { limit: 0 })).toBeNull();
    expect(kept()).toEqual([]);
    expect(ran([["a", "1"]], { directory: join(root, "none") })).toContain("package files were not kept");
  });

  test("the limit is the setting of aegisd.env, and a wrong one is told", () => {
    const settings = join(root, "aegisd.env");
    const keep = (text: string) => {
      writeFileSync(settings, text, { mode: 0o644 });
      writeFileSync(join(archives, "a_1_amd64.deb"), bytesOf("a", "1"));
      return keepPackages([made("a", "1")], archives, {
        recent: [],
        installed: new Map(),
        settings,
        directory,
      });
    };
    expect(keep("AEGIS_KEPT_MIB=0\n")).toBeNull();
    expect(kept()).toEqual([]);
    expect(keep("AEGIS_KEPT_MIB=2G\n")).toContain("AEGIS_KEPT_MIB is not a number of MiB: 2G");
    expect(keep("AEGIS_KEPT_MIB=1\n")).toBeNull();
    expect(kept()).toEqual(["a 1"]);
  });

  test("bringing them: a copy with the signed bytes, or nothing", async () => {
    ran([["a", "1"]]);
    const to = join(archives, "own");
    mkdirSync(to);
    const wanted = { ...made("a", "1"), sources: [KEPT] };
    expect(bringKept([wanted, made("b", "1")], to, directory)).toEqual([join(to, "a_amd64.deb")]);
    const [file = ""] = readdirSync(directory);
    writeFileSync(join(directory, file), "evil");
    await refuses(() => bringKept([wanted], to, directory), "evidence_mismatch");
    rmSync(join(directory, file));
    await refuses(() => bringKept([wanted], to, directory), "not_found");
  });
});

describe("finding a kept version", () => {
  const text = bytesOf("a", "1:1");
  const at = (version: string, hash = sha256Hex(text)) => `${KEPT}/a_${version}_amd64.${hash}.deb`;
  const find = (files: Record<string, string>) => {
    const planning = fakePlanning({ files });
    const wanted = { name: "a", version: "1:1", architecture: "amd64" };
    return findKept(wanted, keptFiles(planning), planning);
  };

  test("by name, version and architecture, with its size", () =>
    expect(find({ [at("1%3a1")]: text })).toMatchObject({ sha256: sha256Hex(text), size: text.length }));

  test.each<[what: string, files: Record<string, string>, says: string]>([
    ["none", {}, "it isn't kept"],
    ["another version", { [at("1")]: text }, "it isn't kept"],
    ["another architecture", { [at("1%3a1").replace("amd64", "i386")]: text }, "it isn't kept"],
    ["a name without a digest", { [`${KEPT}/a_1%3a1_amd64.deb`]: text }, "it isn't kept"],
    ["a digest that is too short", { [at("1%3a1", "abc")]: text }, "it isn't kept"],
    ["other bytes", { [at("1%3a1")]: "evil" }, "has been changed since"],
    [
      "two of one version",
      { [at("1%3a1")]: text, [at("1%3a1", sha256Hex("x"))]: "x" },
      "two different contents",
    ],
  ])("%s", (_what, files, says) => expect(find(files)).toContain(says));
});
