import { describe, expect, test } from "bun:test";
import { apt } from "../src/apt.ts";
import { signedAptArgv } from "../src/apt-argv.ts";
import { parseSimulation } from "../src/apt-simulation.ts";
import { RUNNING_KERNEL } from "../src/doc-evidence.ts";
import { assertPlanningArgv } from "../src/eco-planning-argv.ts";
import { fakePlanning } from "./apt-kit.ts";

/*
 * Purge and autoremove. The lines of simulations are apt-get 2.4.5, 2.6.1, 2.7.14, 3.0.4 and 3.2.0's, which print the same but for
 * `Solving dependencies...` (3.2).
 */

const stanza = (name: string, status: string, ...more: string[]) =>
  `${[`Package: ${name}`, `Status: ${status}`, "Architecture: amd64", "Version: 1.0", ...more].join("\n")}\n\n`;
const STATUS = [
  stanza("nginx", "install ok installed"),
  stanza("left", "deinstall ok config-files"),
  stanza("dpkg", "install ok installed", "Essential: yes"),
  stanza("libold", "install ok installed"),
  stanza("linux-image-6.1.0-44-amd64", "install ok installed"),
  stanza("linux-image-6.1.0-49-amd64", "install ok installed"),
].join("");
const marks = (...names: string[]) =>
  names.map((name) => `Package: ${name}\nArchitecture: amd64\nAuto-Installed: 1\n\n`).join("");

async function gather(
  operation: string,
  targets: string[],
  simulated: string,
  files: Record<string, string> = {},
) {
  const planning = fakePlanning({
    files: {
      "/var/lib/dpkg/status": STATUS,
      "/proc/sys/kernel/osrelease": "6.1.0-49-amd64\n",
      "/var/lib/apt/extended_states": marks(
        "libold",
        "linux-image-6.1.0-44-amd64",
        "linux-image-6.1.0-49-amd64",
      ),
      ...files,
    },
    answers: (command) => {
      if (command.startsWith("apt-get -s "))
        return { stdout: `Reading package lists...\nSolving dependencies...\n${simulated}` };
      return { stdout: "" };
    },
  });
  const findings = await apt.gather(operation, apt.parseTargets(operation, targets), planning);
  for (const { command } of planning.calls) assertPlanningArgv(command.split(" "));
  return findings;
}
const rows = (findings: Awaited<ReturnType<typeof gather>>) =>
  findings.transaction.map(
    (e) => `${e.action} ${e.name} ${e.from_version}${e.essential ? " essential" : ""}`,
  );

describe("Purg lines", () => {
  test("of what a removal has left behind, without a version", () => {
    const { removals, unreadable } = parseSimulation(
      "Purg aa [1.0]\nPurg bb\nPurg libc6:i386\nRemv cc\nPurg dd 1.0\n",
    );
    expect(removals.map(({ name, architecture, from }) => [name, architecture, from])).toEqual([
      ["aa", null, "1.0"],
      ["bb", null, null],
      ["libc6", "i386", null],
    ]);
    expect(unreadable).toEqual(["Remv cc", "Purg dd 1.0"]);
  });
});

describe("purge", () => {
  test.each([
    ["a version", ["nginx=1.0"]],
    ["a removal's operator", ["nginx-"]],
    ["nothing at all", ["nginx*"]],
  ])("%s is no target", (_what, targets) => {
    expect(() => apt.parseTargets("purge", targets)).toThrow(
      expect.objectContaining({ code: "invalid_target" }),
    );
  });

  test("says what is lost for good, and signs the names", async () => {
    const found = await gather("purge", ["nginx"], "Purg nginx [1.0]\n");
    expect(rows(found)).toEqual(["remove nginx 1.0"]);
    expect(signedAptArgv({ ...found, operation: "purge" })).toEqual(["apt-get", "purge", "-y", "nginx"]);
    expect(found.warnings.join()).toContain("What a purge deletes is lost");
    expect(found.rollback_plan.inverse).toEqual(["nginx:amd64=1.0"]);
    expect(found.rollback_plan.notes.join()).toContain("What a purge deletes is lost");
  });

  test("what a removal has left can be purged; nothing can bring it back", async () => {
    const found = await gather("purge", ["left"], "Purg left\n");
    expect(rows(found)).toEqual(["remove left 1.0"]);
    expect(found.exact_targets).toEqual(["left"]);
    expect(found.rollback_plan.inverse).toEqual([]);
  });

  test.each<[what: string, targets: string[], simulated: string, why: string]>([
    ["a virtual name, which apt ignores", ["www-server"], "", "www-server is not installed"],
    [
      "a pattern beside another",
      ["ngin.", "left"],
      "Purg nginx [1.0]\nPurg left\n",
      "no package of exactly this name",
    ],
    ["apt leaves it", ["left"], "", "apt would leave it installed"],
  ])("%s", async (_what, targets, simulated, why) => {
    const found = await gather("purge", targets, simulated);
    expect(found.warnings.join("\n")).toContain(why);
    expect(found.exact_targets).toEqual([]);
  });

  test.each([["dpkg"], ["dpkg:amd64"]])(
    "an essential package is one in the transaction: %s",
    async (target) => {
      expect(rows(await gather("purge", [target], "Purg dpkg [1.0]\n"))).toEqual([
        "remove dpkg 1.0 essential",
      ]);
    },
  );
});

describe("autoremove", () => {
  test("what nobody installed by name, and which kernels stay", async () => {
    const found = await gather(
      "autoremove",
      [],
      "Remv libold [1.0]\nRemv linux-image-6.1.0-44-amd64 [1.0]\n",
    );
    expect(rows(found)).toEqual(["remove libold 1.0", "remove linux-image-6.1.0-44-amd64 1.0"]);
    expect(signedAptArgv({ ...found, operation: "autoremove" })).toEqual(["apt-get", "autoremove", "-y"]);
    expect(found.warnings).toContain("kernels that stay: linux-image-6.1.0-49-amd64 (running)");
    expect(found.metadata_available).toBe(true);
    expect(found.rollback_plan.notes.join()).toContain("count as installed by hand");
  });

  test.each<[what: string, simulated: string, files: Record<string, string>, why: string]>([
    [
      "takes what somebody installed by name",
      "Remv nginx [1.0]\n",
      {},
      "would remove nginx, which isn't marked",
    ],
    ["no marks", "Remv libold [1.0]\n", { "/var/lib/apt/extended_states": "" }, "would remove libold"],
    ["unreadable marks", "Remv libold [1.0]\n", { "/var/lib/apt/extended_states": "x\n" }, "can't be read"],
  ])("no plan: %s", async (_what, simulated, files, why) => {
    const found = await gather("autoremove", [], simulated, files);
    expect(found.metadata_available).toBe(false);
    expect(found.warnings.join("\n")).toContain(why);
  });

  test("nothing to do", async () => {
    expect((await gather("autoremove", [], "")).nothing_to_do).toBe(true);
  });
});

describe("the running kernel", () => {
  test.each<[operation: string, targets: string[], simulated: string, evidence: string[]]>([
    ["autoremove", [], "Remv linux-image-6.1.0-49-amd64 [1.0]\n", ["linux-image-6.1.0-49-amd64:amd64"]],
    ["full-upgrade", [], "Remv linux-image-6.1.0-49-amd64 [1.0]\n", ["linux-image-6.1.0-49-amd64:amd64"]],
    [
      "purge",
      ["linux-image-6.1.0-49-amd64"],
      "Purg linux-image-6.1.0-49-amd64 [1.0]\n",
      ["linux-image-6.1.0-49-amd64:amd64"],
    ],
    ["remove", ["linux-image-6.1.0-44-amd64"], "Remv linux-image-6.1.0-44-amd64 [1.0]\n", []],
  ])("%s %p", async (operation, targets, simulated, evidence) => {
    const found = await gather(operation, targets, simulated);
    const kernels = found.provenance_evidence.filter(({ kind }) => kind === RUNNING_KERNEL);
    expect(kernels.map(({ subject }) => subject)).toEqual(evidence);
  });
});
