import { describe, expect, test } from "bun:test";
import { parse } from "valibot";
import { apt } from "../src/apt.ts";
import { planningConfig } from "../src/apt-planning.ts";
import { parseSimulation } from "../src/apt-simulation.ts";
import { OperationPlan } from "../src/doc-plan.ts";
import { assertPlanningArgv } from "../src/eco-planning-argv.ts";
import { type Answer, fakePlanning, fixture } from "./apt-kit.ts";

const CONFIG = [
  'Dir::Etc::sourcelist "/tmp/apt-lab/env/sources.list";',
  'Dir::Etc::sourceparts "/tmp/apt-lab/env/parts";',
  'Dir::State::lists "/tmp/apt-lab/env/lists/";',
  'Dir::State::status "/tmp/apt-lab/env/status";',
].join("\n");
const [A, B] = ["file:/tmp/apt-lab/repoA st", "file:/tmp/apt-lab/repoB st"];
const SOURCES =
  "deb [signed-by=/tmp/apt-lab/a.gpg] file:/tmp/apt-lab/repoA st main\ndeb [trusted=yes] file:/tmp/apt-lab/repoB st main\n";

interface Case {
  /** Path of the recorded simulation, below the suite. */
  run: string;
  suite?: string;
  show?: string;
  /** Output of `apt-cache show` instead of the recording. */
  shown?: string;
  policy?: string;
  status?: string;
  simulation?: Answer;
  /** Output of apt-cache with only one source visible, by the source's line. */
  alone?: (line: string) => Answer | undefined;
  files?: Record<string, string>;
  sources?: string;
}

/** A lab host with a recorded simulation and recorded apt-cache output. */
function lab({ run, suite = "bookworm", ...more }: Case) {
  const read = (name: string) => fixture(`${suite}/${name}.txt`);
  const planning = fakePlanning({
    files: {
      "/tmp/apt-lab/env/sources.list": more.sources ?? SOURCES,
      "/tmp/apt-lab/env/status": more.status ?? read("lab-status"),
      "/tmp/apt-lab/env/lists/_tmp_apt-lab_repoA_dists_st_InRelease": fixture("keys/InRelease"),
      "/tmp/apt-lab/env/lists/_tmp_apt-lab_repoB_dists_st_Release": "Origin: RepoB\n",
      "/tmp/apt-lab/a.gpg": "binary",
      ...more.files,
    },
    answers: (command, config) => {
      if (command === "apt-config dump") return { stdout: CONFIG };
      if (command.startsWith("gpgv ")) return { stdout: fixture("keys/gpgv-good.txt") };
      if (command.startsWith("apt-get -s ")) return more.simulation ?? { stdout: read(run) };
      const alone = /sourcelist "(\/private\/.*)"/.exec(config)?.[1];
      if (alone !== undefined) return more.alone?.(String(planning.temporaries.get(alone)));
      if (command.startsWith("apt-cache show "))
        return { stdout: more.shown ?? read(more.show ?? `${run}.show`) };
      return { stdout: read(more.policy ?? `${run}.policy`) };
    },
  });
  return planning;
}

async function gather(operation: string, targets: string[], setup: Case) {
  const planning = lab(setup);
  const findings = await apt.gather(operation, apt.parseTargets(operation, targets), planning);
  for (const { command } of planning.calls) assertPlanningArgv(command.split(" "));
  // Findings are most of a plan; anything its schema refuses could never be written.
  for (const [key, schema] of Object.entries(OperationPlan.entries)) {
    if (key in findings) parse(schema, findings[key as keyof typeof findings]);
  }
  return { findings, planning, commands: planning.calls.map(({ command }) => command) };
}

const row = (e: {
  name: string;
  architecture: string;
  action: string;
  from_version: string | null;
  to_version: string | null;
}) => `${e.name}:${e.architecture} ${e.action} ${e.from_version ?? "-"} ${e.to_version ?? "-"}`;
const sha = (text: string, name: string) =>
  new RegExp(`Package: ${name.replace("+", "\\+")}\\n[^]*?SHA256: ([0-9a-f]{64})`).exec(text)?.[1];

const INSTALL = ["twin", "conf-x", "downer=1:1.0", "lib.dot+"];
/** B's twin, with a hash of its own. */
const OTHER: Answer = {
  stdout: `Package: twin\nVersion: 1.0\nArchitecture: amd64\nSHA256: ${"b".repeat(64)}\n`,
};

describe("nothing is planned", () => {
  const cases: [string, string[], Case, string][] = [
    [
      "a name that apt read as a pattern",
      ["lib.do"],
      { run: "lab-pattern", show: "lab-install.show", policy: "lab-install.policy" },
      "lib.do: no package of exactly this name",
    ],
    [
      "an ambiguous virtual package",
      ["virtm"],
      {
        run: "lab-ambiguous",
        simulation: {
          stdout: fixture("bookworm/lab-ambiguous.txt"),
          stderr: fixture("bookworm/lab-ambiguous.stderr.txt"),
          status: 100,
        },
      },
      "virt-b 1.0 (= 4)",
    ],
    [
      "a virtual package with two providers in the transaction",
      ["virtm"],
      {
        run: "lab-virtual",
        simulation: { stdout: "Inst virt-a (1.0 RepoA:st [amd64])\nInst virt-b (1.0 RepoA:st [amd64])\n" },
        shown: ["virt-a", "virt-b"]
          .map(
            (n) =>
              `Package: ${n}\nVersion: 1.0\nArchitecture: amd64\nProvides: virtm\nSHA256: ${"a".repeat(64)}\n`,
          )
          .join("\n"),
      },
      "virtm: no package of exactly this name",
    ],
    [
      "a pattern that matches an installed package and a new one",
      ["o.d"],
      {
        run: "lab-virtual",
        simulation: {
          stdout: "old-y is already the newest version (1.0).\nInst virt-a (1.0 RepoA:st [amd64])\n",
        },
      },
      "o.d: no package of exactly this name",
    ],
    [
      "unmet dependencies",
      ["nginx"],
      { run: "unmet", simulation: { stdout: fixture("bookworm/unmet.txt"), status: 100 } },
      "nginx : Depends: nginx-common",
    ],
    [
      "a malformed action line",
      ["nginx"],
      {
        run: "x",
        simulation: { stdout: "Inst nginx (1.0 x:y amd64)\n" },
        show: "install-nginx.show",
        policy: "install-nginx.policy",
      },
      "can't be read",
    ],
    [
      "no apt-get",
      ["nginx"],
      { run: "x", simulation: { outcome: "missing" } },
      "apt-get -s is not installed",
    ],
    [
      "a simulation that took too long",
      ["nginx"],
      {
        run: "x",
        simulation: { outcome: "timeout", stdout: fixture("bookworm/install-nginx.txt") },
        show: "install-nginx.show",
        policy: "install-nginx.policy",
      },
      "took too long",
    ],
    [
      "another version than requested",
      ["nginx=1.0"],
      { run: "install-nginx" },
      "apt would install version 1.22.1-9+deb12u11",
    ],
    [
      "another architecture than requested",
      ["nginx:i386"],
      { run: "install-nginx" },
      "nginx:i386: no package of exactly this name",
    ],
    [
      "a target that another target removes",
      ["conf-x", "old-y"],
      { run: "lab-install" },
      "old-y: apt would remove it",
    ],
    [
      "an installed package at another version",
      ["essen=9"],
      { run: "lab-present" },
      "apt would leave version 1.0",
    ],
    [
      "a package without a hash",
      ["nginx"],
      { run: "install-nginx", show: "show-bash" },
      "no SHA-256 is known for nginx:amd64=1.22.1-9+deb12u11",
    ],
    [
      "two records of one version in apt's output",
      ["nginx"],
      {
        run: "install-nginx",
        shown: fixture("bookworm/install-nginx.show.txt").replace(
          /^SHA256: .*$/m,
          `$&\n \nSHA256: ${"e".repeat(64)}`,
        ),
        policy: "install-nginx.policy",
      },
      "apt-cache show can't be read as apt reads it",
    ],
    ["only other packages", ["old-y"], { run: "lab-virtual" }, "would change other packages"],
  ];
  for (const [what, targets, setup, message] of cases) {
    test(what, async () => {
      const { findings } = await gather("install", targets, setup);
      expect(findings).toMatchObject({
        metadata_available: false,
        nothing_to_do: false,
        transaction: [],
        exact_targets: [],
        sbom_evidence: [],
      });
      expect(findings.warnings.join("\n")).toContain(message);
    });
  }
});

describe("install", () => {
  test("nginx, from two fresh packages", async () => {
    const { findings, commands } = await gather("install", ["nginx"], {
      run: "install-nginx",
      sources: "deb http://deb.debian.org/debian-security bookworm-security main\n",
    });
    expect(findings.transaction).toMatchObject([
      {
        name: "nginx",
        action: "install",
        origin: "Debian-Security",
        archive: "oldstable-security",
        size: 532468,
        source: "nginx",
        sources: ["http://deb.debian.org/debian-security bookworm-security"],
      },
      { name: "nginx-common", architecture: "all", action: "install", size: 115544 },
    ]);
    expect(findings).toMatchObject({
      exact_targets: ["nginx=1.22.1-9+deb12u11"],
      target_version: "1.22.1-9+deb12u11",
      command_preview: ["apt-get", "install", "-y", "nginx=1.22.1-9+deb12u11"],
      transitive_dependency_count: 1,
      sbom_evidence: [
        { purl: "pkg:deb/debian/nginx@1.22.1-9%2Bdeb12u11?arch=amd64&distro=debian-12" },
        { purl: "pkg:deb/debian/nginx-common@1.22.1-9%2Bdeb12u11?arch=all&distro=debian-12" },
      ],
      rollback_plan: { inverse: ["nginx:amd64-", "nginx-common:amd64-"], unobtainable: [] },
    });
    expect(commands.filter((c) => !c.startsWith("gpgv"))).toEqual([
      "apt-config dump",
      "apt-get -s install nginx",
      "apt-cache show nginx-common=1.22.1-9+deb12u11 nginx=1.22.1-9+deb12u11",
      "apt-cache policy nginx-common nginx",
    ]);
  });

  test("downgrade, removals by conflict, exact targets in the requested order", async () => {
    const { findings } = await gather("install", INSTALL, { run: "lab-install", alone: () => OTHER });
    expect(findings.transaction.map(row)).toEqual([
      "conf-x:amd64 install - 1.0",
      "downer:amd64 downgrade 1:2.0 1:1.0",
      "lib.dot+:amd64 install - 1.0",
      "needs-old:all remove 1 -",
      "old-y:amd64 remove 1.0 -",
      "twin:amd64 install - 1.0",
    ]);
    expect(findings.exact_targets).toEqual(["twin=1.0", "conf-x=1.0", "downer=1:1.0", "lib.dot+=1.0"]);
    expect(findings.rollback_plan.inverse).toContain("needs-old:amd64=1");
    expect(findings.rollback_plan.unobtainable).toEqual([]);
  });

  test("foreign architectures, held packages, the hash of the right architecture", async () => {
    const { findings } = await gather("install", ["heldp", "forp:i386=2.0", "only32"], {
      run: "lab-multiarch",
    });
    expect(findings.transaction.map(row)).toEqual([
      "forp:amd64 upgrade 1.0 2.0",
      "forp:i386 upgrade 1.0 2.0",
      "heldp:amd64 upgrade 1.0 2.0",
      "only32:i386 install - 1.0",
    ]);
    expect(findings.exact_targets).toEqual(["heldp=2.0", "forp:i386=2.0", "only32:i386=1.0"]);
    expect(findings.packages_held_back).toEqual(["heldp"]);
    const hashes = findings.transaction.map((e) => e.sha256);
    expect(new Set(hashes).size).toBe(4);
    expect(findings.rollback_plan.unobtainable).toEqual([
      "forp:amd64=1.0",
      "forp:i386=1.0",
      "heldp:amd64=1.0",
    ]);
  });

  test("a virtual package resolves to the provider apt chose", async () => {
    const { findings } = await gather("install", ["virtx"], {
      run: "lab-virtual",
      policy: "lab-install.policy",
    });
    expect(findings.exact_targets).toEqual(["virt-a=1.0"]);
    expect(findings.warnings.join()).toContain("virtx is a virtual package; apt chose virt-a");
  });

  test("a target already installed at its version leaves nothing to do", async () => {
    const { findings } = await gather("install", ["old-y", "essen=1.0"], {
      run: "lab-present",
      show: "lab-install.show",
      policy: "lab-install.policy",
    });
    expect(findings).toMatchObject({
      metadata_available: true,
      nothing_to_do: true,
      transaction: [],
      exact_targets: [],
    });
  });

  test("neither does an installed foreign package", async () => {
    const simulation = { stdout: "forheld:i386 is already the newest version (1.0).\n" };
    const { findings } = await gather("install", ["forheld"], { run: "lab-present", simulation });
    expect(findings).toMatchObject({ nothing_to_do: true, warnings: [] });
  });

  test("essential packages, from the installed state and from the new version", async () => {
    const status = fixture("bookworm/lab-status.txt").replace(
      "Package: old-y\n",
      "Package: old-y\nEssential: yes\n",
    );
    const { findings } = await gather("install", INSTALL, { run: "lab-install", status, alone: () => OTHER });
    expect(findings.transaction.filter((e) => e.essential).map((e) => e.name)).toEqual(["old-y"]);
    const none = fixture("bookworm/lab-status.txt").replaceAll("Essential: yes\n", "");
    const upgrade = await gather("upgrade", [], { run: "lab-upgrade", status: none });
    expect(upgrade.findings.transaction.filter((e) => e.essential).map((e) => e.name)).toEqual(["essen"]);
  });
});

describe("two sources, one version", () => {
  for (const suite of ["bookworm", "trixie"]) {
    test(`${suite}: other bytes are found by asking each source alone`, async () => {
      const asked: string[] = [];
      const { findings, planning } = await gather("install", INSTALL, {
        run: "lab-install",
        suite,
        alone: (line) => {
          asked.push(line.trim());
          return line.includes("repoB") ? OTHER : { stdout: fixture(`${suite}/lab-install.show.txt`) };
        },
      });
      expect(asked.sort()).toEqual([
        "Types: deb\nURIs: file:/tmp/apt-lab/repoA/\nSuites: st\nComponents: main",
        "Types: deb\nURIs: file:/tmp/apt-lab/repoB/\nSuites: st\nComponents: main",
      ]);
      const own = sha(fixture(`${suite}/lab-install.show.txt`), "twin");
      expect(findings.provenance_evidence[0]).toEqual({
        kind: "apt-source-conflict",
        subject: "twin:amd64=1.0",
        verified: false,
        key: null,
        detail: `${A}: ${own}; ${B}: ${"b".repeat(64)}`,
      });
      expect(
        findings.provenance_evidence.find((p) => p.kind === "apt-chain" && p.subject === "twin:amd64=1.0")
          ?.verified,
      ).toBe(false);
      const configs = planning.calls.filter((c) => c.config?.includes("one-source")).map((c) => c.config);
      expect(configs).toHaveLength(2);
      for (const config of configs) {
        expect(config).toContain('Dir::Etc::sourceparts "-";');
        expect(config).toContain('Dir::Cache::pkgcache "";');
      }
    });
  }
  test("the same bytes are no conflict", async () => {
    const alone = () => ({ stdout: fixture("trixie/lab-install.show.txt") });
    const { findings } = await gather("install", INSTALL, { run: "lab-install", suite: "trixie", alone });
    expect(findings.provenance_evidence.filter((p) => p.kind === "apt-source-conflict")).toEqual([]);
  });
  test("a source without output is a conflict", async () => {
    const alone = (line: string) =>
      line.includes("repoB") ? undefined : { stdout: fixture("trixie/lab-install.show.txt") };
    const { findings } = await gather("install", INSTALL, { run: "lab-install", suite: "trixie", alone });
    expect(findings.provenance_evidence[0]).toMatchObject({ kind: "apt-source-conflict", verified: false });
  });
  test("a source with an ambiguous record is a conflict", async () => {
    const text = fixture("trixie/lab-install.show.txt");
    const alone = (line: string) => ({
      stdout: line.includes("repoB") ? text.replaceAll(/^SHA256: .*$/gm, "$&\n \nSHA256: evil") : text,
    });
    const { findings } = await gather("install", INSTALL, { run: "lab-install", suite: "trixie", alone });
    expect(findings.provenance_evidence[0]).toMatchObject({ kind: "apt-source-conflict", verified: false });
  });
  test("sources that agree with each other but not with the plan: a conflict", async () => {
    const { findings } = await gather("install", INSTALL, { run: "lab-install", alone: () => OTHER });
    expect(findings.provenance_evidence[0]).toMatchObject({ kind: "apt-source-conflict", verified: false });
  });
  test("an unconfigured source is named, and nothing is verified with it", async () => {
    const { findings } = await gather("install", ["nginx"], {
      run: "install-nginx",
      sources: "deb http://deb.debian.org/debian bookworm main\n",
    });
    expect(findings.transaction[0]?.sources).toEqual([
      "http://deb.debian.org/debian-security bookworm-security/main",
    ]);
    expect(findings.provenance_evidence.every((p) => !p.verified)).toBe(true);
  });
  test("no source answers: a conflict too", async () => {
    const { findings } = await gather("install", INSTALL, { run: "lab-install", alone: () => undefined });
    expect(findings.provenance_evidence[0]).toMatchObject({ kind: "apt-source-conflict", verified: false });
  });
  test("apt's own warning is enough", async () => {
    const simulation = {
      stdout: fixture("bookworm/lab-install.txt"),
      stderr: fixture("bookworm/lab-install.stderr.txt"),
    };
    const alone = () => ({ stdout: fixture("bookworm/lab-install.show.txt") });
    const { findings } = await gather("install", INSTALL, { run: "lab-install", simulation, alone });
    expect(findings.provenance_evidence[0]).toMatchObject({
      kind: "apt-source-conflict",
      subject: "twin:amd64=1.0",
    });
  });
});

describe("upgrade", () => {
  const setup: Case = { run: "lab-upgrade", suite: "trixie" };
  test("held, kept back and phased packages", async () => {
    const { findings } = await gather("upgrade", [], setup);
    expect(findings.packages_held_back).toEqual(["forheld:i386", "heldp", "keptp", "phasep"]);
    expect(findings.warnings.join("\n")).toContain("phased update: phasep");
  });
  test("a hold that apt doesn't mention is known from dpkg", async () => {
    const { findings } = await gather("upgrade", [], {
      ...setup,
      simulation: { stdout: "Calculating upgrade...\n" },
    });
    expect(findings.packages_held_back).toEqual(["forheld:i386", "heldp"]);
    expect(findings).toMatchObject({ nothing_to_do: true, exact_targets: [] });
  });
  test("an interrupted dpkg is a warning, not a failure", async () => {
    const status = `${fixture("bookworm/lab-status.txt")}\nPackage: halfway\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 1.0\n`;
    const { findings } = await gather("install", ["solo"], {
      run: "lab-broken",
      show: "lab-broken",
      policy: "lab-broken",
      status,
      files: { "/tmp/apt-lab/env/updates/0001": "" },
      simulation: { stdout: fixture("bookworm/lab-broken.txt").replace(/^Inst.*\n/m, "") },
    });
    expect(findings.warnings.join("\n")).toContain(
      "dpkg was interrupted earlier (halfway:amd64 is half-configured; solo:all would be configured as well; halfway:amd64 would be configured as well; 1 not fully installed or removed; dpkg has unmerged updates)",
    );
  });
  test("136 packages of a real host: all upgrades, none lost", async () => {
    const text = fixture("bookworm/upgrade.txt");
    const show = parseSimulation(text)
      .installations.map(
        (i) =>
          `Package: ${i.name}\nVersion: ${i.to}\nArchitecture: ${i.architecture}\nSHA256: ${"a".repeat(64)}\nSize: 1\n`,
      )
      .join("\n");
    const planning = fakePlanning({
      answers: (command) =>
        command.startsWith("apt-get")
          ? { stdout: text }
          : command.startsWith("apt-cache show")
            ? { stdout: show }
            : { stdout: "" },
    });
    const findings = await apt.gather("upgrade", apt.parseTargets("upgrade", []), planning);
    expect(findings.transaction).toHaveLength(136);
    expect(findings.transaction.filter((e) => e.action !== "upgrade")).toEqual([]);
    expect(findings.transaction.map((e) => e.name)).toEqual(findings.transaction.map((e) => e.name).sort());
  });
});

describe("update", () => {
  const MAIN = "Types: deb\nURIs: http://x.example\nSuites: s\nComponents: main\n";
  const unreadable: [file: string, text: string][] = [
    ["x.list", "deb [trusted=%79es] http://x.example s main\n"],
    ["x.list", 'deb [trusted="yes"] http://x.example s main\n'],
    ["x.list", 'deb [trusted=yes] "http://x.example" s main\n'],
    ["x.sources", `${MAIN}\rTrusted: yes\n`],
    ["x.sources", `${MAIN}Trusted: no\nTrusted: yes\n`],
  ];
  test.each(unreadable)(
    "a source that apt may read in another way: no metadata; %s %j",
    async (file, text) => {
      const planning = fakePlanning({ files: { [`/etc/apt/sources.list.d/${file}`]: text } });
      const findings = await apt.gather("update", apt.parseTargets("update", []), planning);
      expect(findings).toMatchObject({ metadata_available: false, repository_evidence: [] });
      expect(findings.warnings.join()).toContain(`/etc/apt/sources.list.d/${file}`);
    },
  );
  test("runs at most gpgv, and lists the sources", async () => {
    const planning = fakePlanning({
      files: { "/etc/apt/sources.list": "deb [trusted=yes] http://x.example s main\n" },
    });
    const findings = await apt.gather("update", apt.parseTargets("update", []), planning);
    expect(planning.calls).toEqual([]);
    expect(findings).toMatchObject({
      metadata_available: true,
      nothing_to_do: false,
      mutates_system: true,
      requires_root: true,
      transaction: [],
      command_preview: ["apt-get", "update"],
      repository_evidence: [{ id: "http://x.example s", trust: "untrusted" }],
    });
  });
  test("takes no target", () => {
    expect(() => apt.parseTargets("update", ["nginx"])).toThrow(
      expect.objectContaining({ code: "invalid_target" }),
    );
  });
});

test("every apt call but the one that reads the host's settings runs with them, frozen", async () => {
  const { planning } = await gather("install", INSTALL, { run: "lab-install", alone: () => OTHER });
  const [first, ...rest] = planning.calls.filter(({ command }) => !command.startsWith("gpgv "));
  expect(first).toEqual({ command: "apt-config dump", config: undefined });
  for (const { config } of rest) expect(config).toStartWith(planningConfig(CONFIG));
  const own = lab({ run: "lab-install" });
  own.aptCache = "/own/p.bin";
  await apt.gather("install", apt.parseTargets("install", INSTALL), own);
  const [, ...others] = own.calls.filter(({ command }) => !command.startsWith("gpgv "));
  for (const { config } of others) expect(config).toStartWith(planningConfig(CONFIG, "/own/p.bin"));
});

describe("a name unknown to apt", () => {
  const said = (...lines: string[]) => ({ status: 100, stderr: lines.map((line) => `${line}\n`).join("") });
  const ask = (operation: string, targets: string[], simulation: Answer) =>
    gather(operation, targets, { run: "lab-present", shown: "", policy: "lab-present", simulation });
  const LOCATE = "E: Unable to locate package nosuchpkg";

  describe("with another error: a plan, for policy to deny", () => {
    const CASES: [what: string, targets: string[], lines: string[]][] = [
      ["another error", ["nosuchpkg"], [LOCATE, "E: Malformed entry 1 in list file /x (URI)"]],
      [
        "a version that is not there",
        ["nosuchpkg", "old-y=9"],
        [LOCATE, "E: Version '9' for 'old-y' was not found"],
      ],
      ["a name not requested", ["other"], [LOCATE]],
      ["no candidate", ["nosuchpkg"], ["E: Package 'nosuchpkg' has no installation candidate"]],
      ["a longer line", ["nosuchpkg"], [`${LOCATE} today`]],
      ["a warning of that name", ["nosuchpkg"], [LOCATE.replace("E:", "W:"), "E: Broken"]],
      ["no word of it", ["nosuchpkg"], []],
    ];
    for (const [what, targets, lines] of CASES)
      test(what, async () => {
        const { findings } = await ask("install", targets, said(...lines));
        expect(findings.metadata_available).toBe(false);
        expect(findings.warnings).toContain("apt-get -s failed");
      });
    test("apt ended well all the same", async () => {
      const { findings } = await ask("install", ["old-y"], { stdout: "", stderr: `${LOCATE}\n` });
      expect(findings.metadata_available).toBe(true);
    });
  });

  describe("no plan", () => {
    const CASES: [what: string, operation: string, targets: string[], lines: string[], names: string][] = [
      ["install", "install", ["nosuchpkg"], [LOCATE], "nosuchpkg"],
      ["remove", "remove", ["nosuchpkg"], [LOCATE], "nosuchpkg"],
      ["beside one that is there", "install", ["old-y", "nosuchpkg"], [LOCATE], "nosuchpkg"],
      ["with a version", "install", ["nosuchpkg=1.0"], [LOCATE], "nosuchpkg"],
      ["of an architecture", "install", ["xx:i386"], ["E: Unable to locate package xx:i386"], "xx:i386"],
      [
        "that looks like a pattern",
        "install",
        ["a.b", "nosuchpkg"],
        [
          "W: Target Packages is configured multiple times",
          LOCATE,
          "E: Unable to locate package a.b",
          "E: Couldn't find any package by glob 'a.b'",
          "E: Couldn't find any package by regex 'a.b'",
        ],
        "nosuchpkg, a.b",
      ],
    ];
    for (const [what, operation, targets, lines, names] of CASES)
      test(what, () =>
        expect(ask(operation, targets, said(...lines))).rejects.toMatchObject({
          code: "not_found",
          message: `apt doesn't know the package ${names}`,
          hint: expect.stringContaining("aegis plan apt update"),
        }),
      );
  });
});

describe("an unfinished package", () => {
  const status = `${fixture("bookworm/lab-status.txt")}\nPackage: halfway\nStatus: install ok half-configured\nArchitecture: all\nVersion: 1.0\n`;
  const remove = async (targets: string[], more = "") => {
    const stdout = `1 not fully installed or removed.\n${targets.map((name) => `Remv ${name} [1.0]\n`).join("")}${more}`;
    const { findings } = await gather("remove", targets, {
      run: "lab-present",
      shown: "",
      policy: "lab-present",
      status,
      simulation: { stdout },
    });
    return findings.warnings.filter((warning) => warning.startsWith("dpkg was interrupted"));
  };
  test("blocks others", async () =>
    expect(await remove(["old-y"])).toEqual([
      expect.stringContaining("(halfway:all is half-configured; 1 not fully installed or removed)"),
    ]));
  test("and its own removal, if there is another", async () =>
    expect(await remove(["halfway"], "Conf old-y (1.0 [amd64])\n")).toEqual([
      expect.stringContaining("(old-y:amd64 would be configured as well)"),
    ]));
  test("doesn't block its own removal", async () => expect(await remove(["halfway"])).toEqual([]));
});

describe("a host whose settings can't be used", () => {
  const cases: [what: string, dump: Answer | undefined, warning: string][] = [
    ["no apt-config", undefined, "apt-config dump is not installed"],
    ["apt-config fails", { status: 100 }, "apt-config dump failed"],
    ["settings for apt-get alone", { stdout: 'Binary::apt-get::APT::Get::Purge "1";\n' }, "Binary::apt-get"],
    ["a setting with a quotation mark", { stdout: 'APT::Foo "a"b";\n' }, "can't be reproduced exactly"],
  ];
  for (const [what, dump, warning] of cases) {
    test(what, async () => {
      const planning = fakePlanning({ answers: (command) => (command === "apt-config dump" ? dump : {}) });
      const findings = await apt.gather("install", apt.parseTargets("install", ["nginx"]), planning);
      expect(findings).toMatchObject({ metadata_available: false, transaction: [] });
      expect(findings.warnings.join("\n")).toContain(warning);
      expect(planning.calls).toHaveLength(1);
    });
  }
});

test("the same answers give the same findings", async () => {
  const once = async () =>
    (await gather("install", INSTALL, { run: "lab-install", alone: () => OTHER })).findings;
  expect(await once()).toEqual(await once());
});
