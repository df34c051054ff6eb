import { describe, expect, test } from "bun:test";
import { apt } from "../src/apt.ts";
import { fakePlanning } from "./apt-kit.ts";

const stanza = (name: string, state: string, version = "1.0", architecture = "amd64") =>
  `Package: ${name}\nStatus: ${state}\nArchitecture: ${architecture}\nVersion: ${version}\n\n`;

async function repair(status: string | null, journal: Record<string, string> = {}, audit: object = {}) {
  const updates = Object.entries(journal).map(([name, text]) => [`/var/lib/dpkg/updates/${name}`, text]);
  const planning = fakePlanning({
    files: {
      ...(status === null ? {} : { "/var/lib/dpkg/status": status }),
      ...Object.fromEntries(updates),
    },
    answers: { "dpkg --audit": { stdout: "", ...audit } },
  });
  const findings = await apt.gather("repair", apt.parseTargets("repair", []), planning);
  expect(planning.calls.map(({ command }) => command)).toEqual(["dpkg --audit"]);
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
    ["when dpkg is not there", "", { outcome: "missing" }, "dpkg --audit is not installed"],
  ])("%s", async (_what, status, audit, warning) => {
    const { metadata_available, nothing_to_do, warnings } = await repair(status, {}, audit);
    expect([metadata_available, nothing_to_do]).toEqual([false, false]);
    expect(warnings).toContain(warning);
  });
});

test("nothing is half-done", async () => {
  const status = stanza("a", "install ok installed") + stanza("b", "deinstall ok config-files");
  expect(await repair(status)).toMatchObject({ nothing_to_do: true, rows: [], warnings: [] });
});

test("what dpkg would finish is configured, sorted; what it would pass over is said", async () => {
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

test("dpkg's journal counts over its status file, in its order, and is itself something to do", async () => {
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
