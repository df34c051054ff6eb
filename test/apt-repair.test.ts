import { describe, expect, test } from "bun:test";
import { apt } from "../src/apt.ts";
import { fakePlanning } from "./apt-kit.ts";

const stanza = (name: string, state: string, version = "1.0", architecture = "amd64", ...more: string[]) =>
  `${[`Package: ${name}`, `Status: ${state}`, `Architecture: ${architecture}`, `Version: ${version}`, ...more].join("\n")}\n\n`;
/** dpkg 1.21's error for an ordinary user when a package is unfinished. */
const NOT_ROOT = {
  status: 2,
  stderr:
    "dpkg: error: unable to check lock file for dpkg database directory /var/lib/dpkg: Permission denied\n",
};

async function repair(status: string | null, journal: Record<string, string> = {}, audit: object = {}) {
  const updates = Object.entries(journal).map(([name, text]) => [`/var/lib/dpkg/updates/${name}`, text]);
  const planning = fakePlanning({
    files: {
      ...(status === null ? {} : { "/var/lib/dpkg/status": status }),
      ...Object.fromEntries(updates),
    },
    answers: { "dpkg --version": {}, "dpkg --audit": { stdout: "", ...audit } },
  });
  const findings = await apt.gather("repair", apt.parseTargets("repair", []), planning);
  expect(planning.calls.map(({ command }) => command)).toEqual(["dpkg --version", "dpkg --audit"]);
  expect(findings.command_preview).toEqual(["dpkg", "--configure", "-a"]);
  return {
    ...findings,
    rows: findings.transaction.map((e) => `${e.action} ${e.name}:${e.architecture} ${e.from_version}`),
  };
}

describe("nothing can be planned", () => {
  test.each([
    ["without dpkg's status", null, {}, "/var/lib/dpkg/status can't be read"],
    ["when dpkg --audit fails", "", { status: 2 }, "dpkg --audit failed"],
    [
      "when it fails for another reason than the lock",
      "",
      { status: 2, stderr: "dpkg: error: parsing file\n" },
      "dpkg --audit failed",
    ],
    ["when dpkg is missing", "", { outcome: "missing" }, "dpkg --audit is not installed"],
  ])("%s", async (_what, status, audit, warning) => {
    const { metadata_available, nothing_to_do, warnings } = await repair(status, {}, audit);
    expect([metadata_available, nothing_to_do]).toEqual([false, false]);
    expect(warnings).toContain(warning);
  });
});

test("an ordinary user, for whom dpkg --audit fails, gets the same plan as root", async () => {
  const status =
    stanza("a", "install ok unpacked", "1.0", "all", "Depends: nobody-has-this") +
    stanza("b", "install ok half-configured");
  const { raw_evidence: _root, ...root } = await repair(status, {}, { stdout: "half-done: a" });
  const { raw_evidence, ...user } = await repair(status, {}, NOT_ROOT);
  expect(user.metadata_available).toBe(true);
  expect(user).toEqual(root);
  // A failed command would be denied by policy, and shown to the model; with no command at all, the evidence would be
  // missing.
  expect(raw_evidence.commands).toMatchObject([{ argv: ["dpkg", "--version"], outcome: "ok" }]);
});

describe("packages that configuring can't fix are listed, with what to do", () => {
  const half = (name: string, depends: string, ...more: string[]) =>
    stanza(name, "install ok unpacked", "1.0", "amd64", `Depends: ${depends}`, ...more);
  const there = (name: string, ...more: string[]) =>
    stanza(name, "install ok installed", "2.0", "amd64", ...more);
  const unmet = (name: string, text: string) => `${name}:amd64 can't be configured; missing: ${text}`;
  test.each<[what: string, status: string, warnings: string[]]>([
    ["not there", half("a", "lib (>= 1), there") + there("there"), [unmet("a", "lib (>= 1)")]],
    ["too old", half("a", "lib (>> 2.0)") + there("lib"), [unmet("a", "lib (>> 2.0)")]],
    ["too new", half("a", "lib (<< 2.0)") + there("lib"), [unmet("a", "lib (<< 2.0)")]],
    ["no alternative", half("a", "x | lib (= 1)") + there("lib"), [unmet("a", "x | lib (= 1)")]],
    ["before unpacking", half("a", "b", "Pre-Depends: x") + there("b"), [unmet("a", "x")]],
    [
      "configuration files alone",
      half("a", "lib") + stanza("lib", "deinstall ok config-files"),
      [unmet("a", "lib")],
    ],
    ["half gone", half("a", "lib") + stanza("lib", "deinstall ok half-configured"), [unmet("a", "lib")]],
    [
      "provided without a version",
      half("a", "virtual (>= 1)") + there("lib", "Provides: virtual"),
      [unmet("a", "virtual (>= 1)")],
    ],
    [
      "another architecture",
      half("a", "lib") + stanza("lib", "install ok installed", "1", "i386", "Multi-Arch: same"),
      [unmet("a", "lib")],
    ],
    ["of a named architecture", half("a", "lib:i386") + there("lib"), [unmet("a", "lib:i386")]],
    ["what can't be read", half("a", "lib (about 3)") + there("lib"), [unmet("a", "lib (about 3)")]],
    [
      "what itself can't be configured",
      half("a", "b") + half("b", "c") + half("c", "missing"),
      [unmet("c", "missing"), unmet("b", "c"), unmet("a", "b")],
    ],
  ])("unmet: %s", async (_what, status, expected) => {
    const { warnings, metadata_available } = await repair(status);
    expect(metadata_available).toBe(true);
    const unfinished = warnings.filter((warning) => !warning.includes("does not fix"));
    expect(unfinished.slice(0, -1)).toEqual(expected);
    expect(unfinished.at(-1)).toContain("What to do (this repair fixes nothing): aegis plan apt remove a");
  });
  test.each<[what: string, status: string]>([
    ["there", half("a", "lib") + there("lib")],
    ["the version", half("a", "lib (>= 1.9), lib (<< 3)") + there("lib")],
    ["an alternative", half("a", "x | y (>= 5) | lib") + there("lib")],
    ["waiting for triggers", half("a", "lib") + stanza("lib", "install ok triggers-awaited")],
    ["configured by the same repair", half("a", "lib") + stanza("lib", "install ok unpacked")],
    ["each other", half("a", "b") + half("b", "a")],
    ["provided", half("a", "virtual") + there("lib", "Provides: other, virtual")],
    ["provided with a version", half("a", "virtual (>= 1)") + there("lib", "Provides: virtual (= 1.5)")],
    ["foreign", half("a", "lib") + stanza("lib", "install ok installed", "1", "i386", "Multi-Arch: foreign")],
    ["any", half("a", "lib:any") + stanza("lib", "install ok installed", "1", "i386", "Multi-Arch: allowed")],
    ["of architecture all", half("a", "lib") + stanza("lib", "install ok installed", "1", "all")],
    ["nothing", half("a", "")],
  ])("met: %s", async (_what, status) => expect((await repair(status)).warnings).toEqual([]));
  test("the others are still configured, and come first", async () => {
    const foreign = stanza("f", "install ok unpacked", "1", "i386", "Depends: missing");
    const { rows, warnings } = await repair(half("b", "missing") + half("a", "") + foreign);
    expect(rows).toEqual(["configure a:amd64 1.0", "configure b:amd64 1.0", "configure f:i386 1"]);
    expect(warnings.at(-1)).toContain(
      "after this repair has configured the others: aegis plan apt remove b f:i386;",
    );
  });
  test("a journal's Depends override the status file's", async () => {
    const { warnings } = await repair(half("a", "missing"), { "0000": half("a", "") });
    expect(warnings).toEqual(["dpkg merges its journal first"]);
  });
});

test("nothing is unfinished", async () => {
  const status = stanza("a", "install ok installed") + stanza("b", "deinstall ok config-files");
  expect(await repair(status)).toMatchObject({ nothing_to_do: true, rows: [], warnings: [] });
});

test("packages dpkg would finish are configured, sorted; those it would skip are listed", async () => {
  const { rows, warnings, nothing_to_do } = await repair(
    [
      stanza("z", "install ok unpacked"),
      stanza("held", "hold ok half-configured", "2"),
      stanza("a", "install ok triggers-pending", "1", "all"),
      stanza("a-b", "install ok triggers-awaited", "1", "i386"),
      stanza("broken", "install reinstreq half-installed"),
      stanza("going", "deinstall ok half-configured"),
      stanza("fine", "install ok installed"),
    ].join(""),
  );
  expect(rows).toEqual([
    "configure a:all 1",
    "configure a-b:i386 1",
    "configure held:amd64 2",
    "configure z:amd64 1.0",
  ]);
  expect(warnings).toEqual([
    expect.stringContaining("broken:amd64 is half-installed"),
    expect.stringContaining("going:amd64 is half-configured"),
  ]);
  expect(nothing_to_do).toBe(false);
});

test("dpkg's journal overrides its status file, in order, and is itself something to merge", async () => {
  const { rows, nothing_to_do, warnings } = await repair(
    stanza("a", "install ok unpacked") + stanza("b", "install ok installed"),
    {
      "0000": stanza("b", "install ok unpacked", "2.0"),
      "0001": stanza("a", "install ok installed"),
      "0002": stanza("b", "install ok half-configured", "2.0"),
      "tmp.i": stanza("a", "install ok unpacked"),
    },
  );
  expect(rows).toEqual(["configure b:amd64 2.0"]);
  expect(nothing_to_do).toBe(false);
  expect(warnings).toEqual(["dpkg merges its journal first"]);
  expect(await repair("", { "0000": stanza("a", "install ok installed") })).toMatchObject({
    rows: [],
    nothing_to_do: false,
  });
});
