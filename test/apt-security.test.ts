import { describe, expect, test } from "bun:test";
import { parsePolicy } from "../src/apt-cache.ts";
import type { DpkgPackage } from "../src/apt-dpkg.ts";
import { securityRequest, withoutUnmet } from "../src/apt-security.ts";
import { parseSimulation } from "../src/apt-simulation.ts";
import type { RepositoryEvidence } from "../src/doc-plan-evidence.ts";
import { fakePlanning } from "./apt-kit.ts";
import { DEBIAN, WEAK } from "./policy-plans.ts";

const source = (
  uri: string,
  suite: string,
  change: Partial<RepositoryEvidence> = {},
): RepositoryEvidence => ({
  ...DEBIAN,
  ...{ id: `${uri} ${suite}`, uri, suite, ...change },
});
const MIRROR = "http://deb.debian.org/debian-security";
const POCKET = source(MIRROR, "bookworm-security", {
  ...{
    release_label: "Debian-Security",
    release_suite: "oldstable-security",
    release_codename: "bookworm-security",
  },
});
const UPDATES = source("http://deb.debian.org/debian", "bookworm-updates", {
  release_suite: "oldstable-updates",
});
/** A third party that calls itself what Debian's pocket calls itself. */
const LIAR = source("https://evil.example/debian-security", "bookworm-security", {
  ...{
    release_label: "Debian-Security",
    release_suite: "oldstable-security",
    release_codename: "bookworm-security",
  },
  ...{ trust: "pinned", signed_by: "/etc/apt/keyrings/evil.gpg", key_fingerprints: ["A".repeat(40)] },
});
const ESM = source("https://esm.ubuntu.com/infra/ubuntu", "jammy-infra-security", {
  ...{ release_origin: "UbuntuESM", release_label: "UbuntuESM", release_suite: "jammy-infra-security" },
  ...{
    release_codename: "jammy",
    trust: "pinned",
    signed_by: "/usr/share/keyrings/ubuntu-pro-esm-infra.gpg",
  },
});
const JAMMY = source("http://security.ubuntu.com/ubuntu", "jammy-security", {
  ...{
    release_origin: "Ubuntu",
    release_label: "Ubuntu",
    release_suite: "jammy-security",
    release_codename: "jammy",
  },
});

/** A version table as apt-cache prints it. */
const table = (
  name: string,
  ...versions: [version: string, priority: number, ...from: RepositoryEvidence[]][]
) =>
  [
    `${name}:\n  Installed: 1.0\n  Candidate: ${versions[0]?.[0]}\n  Version table:`,
    ...versions.flatMap(([version, priority, ...from]) => [
      ` ${version === "1.0" ? "***" : "   "} ${version} ${priority}`,
      ...from.map(({ uri, suite }) => `        ${priority} ${uri} ${suite}/main amd64 Packages`),
    ]),
    "        100 /var/lib/dpkg/status\n",
  ].join("\n");

const installed = (name: string, change: Partial<DpkgPackage> = {}): [string, DpkgPackage] => [
  `${name}:${change.architecture ?? "amd64"}`,
  {
    ...{ name, architecture: "amd64", version: "1.0", source: { name, version: "1.0" }, state: "installed" },
    ...{
      selection: "install",
      essential: false,
      provides: "",
      depends: "",
      multiArch: "",
      installedSize: null,
      conffiles: [],
      ...change,
    },
  },
];

async function ask(
  tables: string,
  repositories: RepositoryEvidence[],
  packages: [string, DpkgPackage][] = [installed("openssl")],
  codename: string | null = "bookworm",
) {
  const planning = fakePlanning({
    files: codename === null ? {} : { "/etc/os-release": `ID=debian\nVERSION_CODENAME=${codename}\n` },
    answers: (command) => (command.startsWith("apt-cache policy ") ? { stdout: tables } : undefined),
  });
  return securityRequest(new Map(packages), repositories, planning, "");
}

describe("no plan", () => {
  test.each<[what: string, repositories: RepositoryEvidence[], codename: string | null, why: string]>([
    [
      "a third party that calls itself Debian-Security and bookworm-security",
      [LIAR],
      "bookworm",
      "no configured source",
    ],
    [
      "a key that nothing pins",
      [{ ...WEAK, ...LIAR, trust: "weak", signed_by: null }],
      "bookworm",
      "no configured source",
    ],
    [
      "a signature that did not match",
      [{ ...POCKET, signature_verified: false }],
      "bookworm",
      "no configured source",
    ],
    ["trusted=yes", [{ ...POCKET, trusted_option: true }], "bookworm", "no configured source"],
    [
      "an expired index",
      [{ ...POCKET, trust: "untrusted", problems: ["its index has expired"] }],
      "bookworm",
      "no configured",
    ],
    ["another release's pocket", [POCKET], "trixie", "no configured source is the security pocket of trixie"],
    ["the archive's own other suite", [UPDATES], "bookworm", "no configured source"],
    [
      "Debian's label is missing",
      [{ ...POCKET, release_label: "Debian" }],
      "bookworm",
      "no configured source",
    ],
    [
      "ESM by another keyring",
      [{ ...ESM, signed_by: "/etc/apt/keyrings/esm.gpg" }],
      "jammy",
      "no configured source",
    ],
    ["no release of this host", [POCKET], null, "VERSION_CODENAME"],
  ])("%s", async (_what, repositories, codename, why) => {
    const { verb, packages, problems } = await ask(
      table("openssl", ["1.1", 500, ...repositories]),
      repositories,
      undefined,
      codename,
    );
    expect([verb, packages]).toEqual([null, []]);
    expect(problems.join()).toContain(why);
  });
});

describe("which version", () => {
  test.each<[what: string, tables: string, repositories: RepositoryEvidence[], packages: string[]]>([
    [
      "the pocket's",
      table("openssl", ["1.1", 500, POCKET], ["1.0", 500, UPDATES]),
      [POCKET, UPDATES],
      ["openssl=1.1"],
    ],
    [
      "the pocket's, though apt would take a newer one from elsewhere",
      table(
        "openssl",
        ["1.3", 500, UPDATES],
        ["1.2", 500, POCKET],
        ["1.1", 500, POCKET],
        ["1.0", 500, UPDATES],
      ),
      [POCKET, UPDATES],
      ["openssl=1.2"],
    ],
    [
      "none: only others have a newer one",
      table("openssl", ["1.3", 500, UPDATES], ["1.0", 500, POCKET]),
      [POCKET, UPDATES],
      [],
    ],
    [
      "none: the liar's beside the pocket",
      table("openssl", ["9.9", 500, LIAR], ["1.0", 500, POCKET]),
      [POCKET, LIAR],
      [],
    ],
    [
      "none: the pocket's is older",
      table("openssl", ["1.0", 500, UPDATES], ["0.9", 500, POCKET]),
      [POCKET, UPDATES],
      [],
    ],
  ])("%s", async (_what, tables, repositories, packages) => {
    expect((await ask(tables, repositories)).packages).toEqual(packages);
  });

  test("Ubuntu's, and its extended maintenance", async () => {
    const tables = table("openssl", ["1.2", 510, ESM], ["1.1", 500, JAMMY]);
    expect((await ask(tables, [JAMMY, ESM], undefined, "jammy")).packages).toEqual(["openssl=1.2"]);
    expect((await ask(tables, [JAMMY], undefined, "jammy")).packages).toEqual(["openssl=1.1"]);
  });

  test("of a foreign architecture by its full name; what isn't installed isn't asked for", async () => {
    const tables = `${table("libssl3", ["1.1", 500, POCKET])}${table("libssl3:i386", ["1.1", 500, POCKET])}`;
    const both = [
      installed("libssl3"),
      installed("libssl3", { architecture: "i386" }),
      installed("gone", { state: "config-files" }),
    ];
    expect((await ask(tables, [POCKET], both)).packages).toEqual(["libssl3=1.1", "libssl3:i386=1.1"]);
  });
});

describe("kept back, and why", () => {
  test.each<[what: string, tables: string, change: Partial<DpkgPackage>, why: string]>([
    ["on hold", table("openssl", ["1.1", 500, POCKET]), { selection: "hold" }, "it is on hold"],
    ["forbidden", table("openssl", ["1.1", -1, POCKET]), {}, "apt's preferences give it priority -1"],
    ["not on its own", table("openssl", ["1.1", 50, POCKET]), {}, "apt's preferences give it priority 50"],
    [
      "pinned to another",
      table("openssl", ["1.1", 500, POCKET], ["1.0", 1001, UPDATES]),
      {},
      "apt's preferences prefer 1.0 (priority 1001, not 500)",
    ],
  ])("%s", async (_what, tables, change, why) => {
    const { verb, warnings } = await ask(tables, [POCKET, UPDATES], [installed("openssl", change)]);
    expect([verb, warnings]).toEqual([null, [`openssl=1.1 is not installed: ${why}`]]);
  });

  test("more than one command line takes: the rest is said", async () => {
    const names = Array.from({ length: 2001 }, (_, n) => `p${String(n).padStart(4, "0")}`);
    const tables = names.map((name) => table(name, ["1.1", 500, POCKET])).join("");
    const found = await ask(
      tables,
      [POCKET],
      names.map((name) => installed(name)),
    );
    expect(found.packages.length).toBe(2000);
    expect(found.warnings).toEqual([
      "1 more packages have security upgrades: plan the same again once this has been applied",
    ]);
  });

  test("what apt can't install together with what stays is left out, with apt's words", () => {
    // apt-get 2.6.1
    const text = `The following packages have unmet dependencies:
 libfoo-dev : Depends: libfoo (= 1.3) but 1.2 is to be installed
E: Unable to correct problems, you have held broken packages.
`;
    const request = {
      ...{ verb: ["install", "--only-upgrade"], packages: ["libfoo=1.2", "openssl=1.1"], evidence: [] },
      ...{ commands: [], problems: [], warnings: [] },
    };
    const evidence = { argv: ["apt-get"], status: 100, outcome: "failed" as const };
    const output = {
      ...{ stdout: text, stderr: "" },
      evidence: { ...evidence, stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null },
    };
    const fewer = withoutUnmet(request, output, parseSimulation(text));
    expect(fewer?.packages).toEqual(["openssl=1.1"]);
    // A failed command among the plan's would have policy deny it.
    expect(fewer?.commands).toEqual([]);
    expect(fewer?.warnings.join()).toContain(
      "libfoo=1.2 is not installed: libfoo-dev : Depends: libfoo (= 1.3)",
    );
    expect(withoutUnmet({ ...request, packages: ["libfoo=1.2"] }, output, parseSimulation(text))).toBeNull();
    expect(withoutUnmet({ ...request, verb: ["install"] }, output, parseSimulation(text))).toBeNull();
  });
});

test("version tables with priorities", () => {
  const [found] = parsePolicy(table("openssl", ["1.1", -10, POCKET], ["1.0", 1001, UPDATES])).values();
  expect([...(found?.priorities ?? [])]).toEqual([
    ["1.1", -10],
    ["1.0", 1001],
  ]);
});
