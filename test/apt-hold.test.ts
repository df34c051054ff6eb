import { describe, expect, test } from "bun:test";
import { apt } from "../src/apt.ts";
import { signedAptArgv } from "../src/apt-argv.ts";
import { canonicalJson } from "../src/canonical.ts";
import { fakePlanning } from "./apt-kit.ts";

const stanza = (name: string, status: string, architecture = "amd64") =>
  `Package: ${name}\nStatus: ${status}\nArchitecture: ${architecture}\nVersion: 1.0\n\n`;

const STATUS = [
  stanza("nginx", "install ok installed"),
  stanza("held", "hold ok installed"),
  stanza("data", "install ok installed", "all"),
  stanza("libc6", "install ok installed"),
  stanza("libc6", "install ok installed", "i386"),
  stanza("wine32", "install ok installed", "i386"),
  stanza("gone", "deinstall ok config-files"),
  stanza("broken", "install ok half-configured"),
  "Package: never\nStatus: hold ok not-installed\nArchitecture: amd64\n\n",
].join("");

const RUN = "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50";

async function gather(operation: string, targets: readonly string[], files: Record<string, string> = {}) {
  const planning = fakePlanning({
    files: { "/var/lib/dpkg/status": STATUS, ...files },
    answers: { "apt-config dump": {} },
  });
  const findings = await apt.gather(operation, apt.parseTargets(operation, targets), planning);
  expect(planning.calls.map(({ command }) => command)).toEqual(["apt-config dump"]);
  return findings;
}

describe("no plan", () => {
  test.each([
    ["unknown", "nosuch"],
    ["a pattern that fits an installed one", "ngin."],
    ["only its configuration is left", "gone"],
    ["on hold, but not installed", "never"],
    ["installed for another architecture", "nginx:i386"],
  ])("%s", async (_what, target) => {
    await expect(gather("hold", [target])).rejects.toMatchObject({ code: "not_found" });
    await expect(gather("unhold", ["held", target])).rejects.toMatchObject({ code: "not_found" });
  });

  test.each([
    ["a version", ["nginx=1.0"]],
    ["a removal's operator", ["nginx-"]],
    ["an option", ["--file=/etc/shadow"]],
  ])("%s is no target", (_what, targets) => {
    expect(() => apt.parseTargets("hold", targets)).toThrow(
      expect.objectContaining({ code: "invalid_target" }),
    );
  });

  test("of a half-configured package, which dpkg would still change", async () => {
    const { metadata_available, nothing_to_do, warnings, transaction } = await gather("hold", ["broken"]);
    expect([metadata_available, nothing_to_do, transaction]).toEqual([false, false, []]);
    expect(warnings[0]).toBe("broken is half-configured: finish it first with `aegis plan apt repair`");
  });
});

describe("argv and transaction", () => {
  test.each<[operation: string, targets: string[], exact: string[], rows: string[]]>([
    ["hold", ["nginx"], ["nginx"], ["hold nginx:amd64 1.0"]],
    ["hold", ["data"], ["data"], ["hold data:all 1.0"]],
    ["hold", ["nginx", "nginx:amd64"], ["nginx"], ["hold nginx:amd64 1.0"]],
    ["hold", ["libc6:i386"], ["libc6:i386"], ["hold libc6:i386 1.0"]],
    // Without an architecture apt-mark would mark wine32:amd64, which isn't installed.
    ["hold", ["wine32"], ["wine32:i386"], ["hold wine32:i386 1.0"]],
    ["unhold", ["held"], ["held"], ["unhold held:amd64 1.0"]],
  ])("%s %p", async (operation, targets, exact, rows) => {
    const found = await gather(operation, targets);
    expect(found.exact_targets).toEqual(exact);
    expect(found.transaction.map((e) => `${e.action} ${e.name}:${e.architecture} ${e.to_version}`)).toEqual(
      rows,
    );
    expect(found.command_preview).toEqual(["apt-mark", operation, ...exact]);
    expect(signedAptArgv({ ...found, operation })).toEqual(found.command_preview);
    expect(found.metadata_available).toBe(true);
  });

  test("what is so already is left out, and nothing may be left", async () => {
    const done = await gather("hold", ["held"]);
    expect([done.nothing_to_do, done.transaction, done.warnings]).toEqual([
      true,
      [],
      ["held is on hold already"],
    ]);
    const both = await gather("hold", ["held", "nginx"]);
    expect(both.exact_targets).toEqual(["nginx"]);
    expect((await gather("unhold", ["nginx"])).warnings).toEqual(["nginx is not on hold"]);
  });

  test("another architecture of the same name stays as it is, which is said", async () => {
    const { warnings } = await gather("hold", ["libc6"]);
    expect(warnings).toEqual([
      "libc6 only, not i386: name those with their architecture",
      "No upgrade changes a package on hold, a security update neither: libc6",
    ]);
  });
});

describe("undoing it", () => {
  const record = (held: boolean, ...names: string[]) => ({
    [`/var/lib/aegis/results/${RUN}.json`]: canonicalJson({
      ...{
        schema_version: "1.0",
        execution_plan_id: RUN,
        plan_id: RUN,
        argv: ["apt-mark"],
        state: "completed",
      },
      ...{ exit_status: 0, code: null, message: null, started_at: "x", ended_at: "2026-11-30T12:00:00Z" },
      ...{ submitted_by_uid: 0, not_as_planned: [], changed_besides: [] },
      inverse: names.map((name) => ({
        package: name,
        architecture: "amd64",
        before: "1.0",
        left: "1.0",
        held,
      })),
    }),
  });

  test.each<[what: string, held: boolean, names: string[], argv: string[] | null]>([
    ["a hold is taken off", false, ["held"], ["apt-mark", "unhold", "held"]],
    ["an unhold is set again", true, ["nginx"], ["apt-mark", "hold", "nginx"]],
    ["what has been changed back is left alone", false, ["nginx"], null],
    ["what has been removed has no hold", false, ["held", "gone"], ["apt-mark", "unhold", "held"]],
  ])("%s", async (_what, held, names, argv) => {
    const found = await gather("rollback", [RUN], record(held, ...names));
    expect(found.nothing_to_do).toBe(argv === null);
    if (argv === null) return;
    expect(found.command_preview).toEqual(argv);
    expect(signedAptArgv({ ...found, operation: "rollback" })).toEqual(argv);
  });
});
