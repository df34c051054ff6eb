import { describe, expect, test } from "bun:test";
import { apt } from "../src/apt.ts";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { rollbackRequest } from "../src/apt-rollback.ts";
import { canonicalJson } from "../src/canonical.ts";
import type { Result, Undo } from "../src/doc-result.ts";
import { assertPlanningArgv } from "../src/eco-planning-argv.ts";
import { fakePlanning } from "./apt-kit.ts";

const ID = "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50";
const PATH = `/var/lib/aegis/results/${ID}.json`;

const record = (inverse: Undo[] | null, change: Partial<Result> = {}): string =>
  canonicalJson({
    schema_version: "1.0",
    execution_plan_id: ID,
    plan_id: "11111111-2222-4333-8444-555555555555",
    argv: ["apt-get", "upgrade"],
    state: "completed",
    exit_status: 0,
    code: null,
    message: null,
    started_at: "2026-01-02T03:10:00.000Z",
    ended_at: "2026-01-02T03:10:05.000Z",
    submitted_by_uid: 0,
    not_as_planned: [],
    changed_besides: [],
    inverse,
    ...change,
  });
const undo = (name: string, before: string | null, left: string | null, architecture = "amd64"): Undo => ({
  package: name,
  architecture,
  before,
  left,
});
const stanza = (name: string, version: string, state = "install ok installed", architecture = "amd64") =>
  `Package: ${name}\nStatus: ${state}\nArchitecture: ${architecture}\nVersion: ${version}\n`;
const offered = (name: string, ...versions: string[]) =>
  [
    `${name}:`,
    "  Installed: 9",
    "  Candidate: 9",
    "  Version table:",
    ...versions.flatMap((version) => [
      `     ${version} 500`,
      "        500 http://deb.debian.org/debian bookworm/main amd64 Packages",
    ]),
    " *** 9 100",
    "        100 /var/lib/dpkg/status",
  ].join("\n");

async function request(text: string | null, status: string[], policy: string[] = []) {
  const planning = fakePlanning({
    files: text === null ? {} : { [PATH]: text },
    answers: () => ({ stdout: policy.join("\n") }),
  });
  const result = await rollbackRequest(ID, parseDpkgStatus(status.join("\n")), planning, "");
  for (const { command } of planning.calls) assertPlanningArgv(command.split(" "));
  return { ...result, asked: planning.calls.map(({ command }) => command) };
}

describe("nothing is requested", () => {
  const CASES: [what: string, text: string | null, problem: string][] = [
    ["an unknown execution", null, "can't read an outcome of execution"],
    ["one that still runs", record(null, { state: "running" }), "still running"],
    ["one of a version that recorded no inverse", record(null), "no record of how to undo it"],
    ["a truncated record", record([]).slice(0, 100), "is malformed"],
    [
      "a copy of another execution's record",
      record([], { execution_plan_id: "22222222-2222-4333-8444-555555555555" }),
      "belongs to another execution",
    ],
    ["a record with an extra field", record([]).replace("{", '{"also":1,'), "is malformed"],
  ];
  for (const [what, text, problem] of CASES) {
    test(what, async () => {
      const { problems, verb, packages } = await request(text, []);
      expect([problems, verb, packages]).toEqual([[expect.stringContaining(problem)], null, []]);
    });
  }

  test("if one of two old versions is unavailable: it is named, and the rest is not planned", async () => {
    const { problems } = await request(
      record([undo("aa", "1", "2"), undo("bb", "1", "2")]),
      [stanza("aa", "2"), stanza("bb", "2")],
      [offered("aa", "1"), offered("bb", "1.5")],
    );
    expect(problems).toEqual([expect.stringMatching(/^bb=1 is no longer available/)]);
  });
  test("if only dpkg itself knows the old version", async () => {
    const { problems } = await request(record([undo("aa", "9", null)]), [], [offered("aa")]);
    expect(problems).toEqual([expect.stringMatching(/^aa=9 is no longer available/)]);
  });
  test("if already undone, or if nothing was changed", async () => {
    const done = await request(record([undo("aa", "1", "2"), undo("bb", null, "1")]), [stanza("aa", "1")]);
    expect([done.verb, done.problems, done.evidence]).toEqual([null, [], []]);
    const nothing = await request(record([]), []);
    expect([nothing.verb, nothing.warnings]).toEqual([null, [expect.stringContaining("nothing to undo")]]);
  });
  test("a package with only configuration files left counts as removed", async () => {
    const { verb } = await request(record([undo("bb", null, "1")]), [
      stanza("bb", "1", "deinstall ok config-files"),
    ]);
    expect(verb).toBeNull();
  });
});

describe("what is requested", () => {
  test("versions first; the remaining removals are announced, and already in the evidence", async () => {
    const { verb, packages, warnings, evidence, asked } = await request(
      record([undo("aa", "1", "2"), undo("extra", null, "1", "all")]),
      [stanza("aa", "2"), stanza("extra", "1", "install ok installed", "all")],
      [offered("aa", "1")],
    );
    expect([verb, packages]).toEqual([["install", "--allow-downgrades"], ["aa=1"]]);
    expect(warnings).toEqual([expect.stringMatching(/plan the same rollback again.*extra$/)]);
    expect(evidence.map(({ kind, subject, verified }) => [kind, subject, verified])).toEqual([
      ["apt-recorded-inverse", "aa:amd64=1", true],
      ["apt-recorded-inverse", "extra:all-", true],
    ]);
    expect(asked).toEqual(["apt-cache policy aa"]);
  });
  test("then the removals", async () => {
    const { verb, packages, asked } = await request(
      record([undo("aa", "1", "2"), undo("extra", null, "1"), undo("lib", null, "1", "i386")]),
      [stanza("aa", "1"), stanza("extra", "1"), stanza("lib", "1", "install ok installed", "i386")],
    );
    expect([verb, packages, asked]).toEqual([["remove"], ["extra", "lib:i386"], []]);
  });
  test("a package that changed architecture is restored with the old one", async () => {
    const { packages, evidence } = await request(
      record([undo("aa", "1", null, "all"), undo("aa", null, "2")]),
      [stanza("aa", "2")],
      [offered("aa", "1")],
    );
    expect(packages).toEqual(["aa=1"]);
    expect(evidence.map(({ subject }) => subject)).toEqual(["aa:all=1", "aa:amd64-"]);
  });
  test.each([
    ["upgraded further", undo("aa", "1", "2"), [stanza("aa", "3")], "left it 2, now it is 3"],
    ["removed", undo("aa", "1", "2"), [], "left it 2, now it is not installed"],
    ["installed again", undo("aa", "1", null), [stanza("aa", "3")], "left it not installed, now it is 3"],
    ["half-done", undo("aa", "1", "2"), [stanza("aa", "3", "install ok unpacked")], "now it is 3"],
  ])("what was %s since is said, and undone all the same", async (_what, one, status, said) => {
    const { packages, warnings } = await request(record([one]), status, [offered("aa", "1")]);
    expect([packages, warnings]).toEqual([["aa=1"], [expect.stringContaining(said)]]);
  });
});

test("without a simulation, the findings say so", async () => {
  const gather = (text: string) => {
    const files = { [PATH]: text, "/var/lib/dpkg/status": "" };
    const planning = fakePlanning({ files, answers: { "apt-config dump": { stdout: "" } } });
    return apt.gather("rollback", apt.parseTargets("rollback", [ID]), planning);
  };
  expect(await gather(record([]))).toMatchObject({ metadata_available: true, nothing_to_do: true });
  expect(await gather("{}")).toMatchObject({
    metadata_available: false,
    nothing_to_do: false,
    command_preview: ["apt-get", "remove", "-y"],
  });
});
