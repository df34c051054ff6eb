import { describe, expect, test } from "bun:test";
import { parse } from "valibot";
import { DEFAULT_APT_DIRS } from "../src/apt-dirs.ts";
import { inspectRepositories } from "../src/apt-repositories.ts";
import { readSources } from "../src/apt-sources.ts";
import { RepositoryEvidence } from "../src/operation-plan.ts";
import { assertPlanningArgv } from "../src/planning-argv.ts";
import { type Answer, fakePlanning, fixture } from "./apt-kit.ts";

const LISTS = "/var/lib/apt/lists";
const DISTRO = "/usr/share/keyrings/debian-archive-keyring.gpg";
const GOOD: Answer = { stdout: fixture("keys/gpgv-good.txt") };
const [, KEY = ""] = /VALIDSIG ([0-9A-F]{40})/.exec(GOOD.stdout ?? "") ?? [];
const NO_KEY: Answer = { stdout: fixture("keys/gpgv-no-key.txt"), status: 2 };
const IN_RELEASE = fixture("keys/InRelease");

/** One source line, its index, and the keyrings with which gpgv finds a good signature. */
async function inspect(
  line: string,
  setup: {
    files?: Record<string, string>;
    good?: string[];
    now?: string;
    gpgv?: boolean;
    answer?: Answer;
    os?: string;
  } = {},
) {
  const { files = {}, good = [], gpgv = true, answer = GOOD } = setup;
  const planning = fakePlanning({
    ...(setup.now === undefined ? {} : { now: setup.now }),
    ...(setup.os === undefined ? {} : { os: setup.os }),
    files: {
      "/etc/apt/sources.list": `${line}\n`,
      [`${LISTS}/x.example_dists_st_InRelease`]: IN_RELEASE,
      [DISTRO]: "binary",
      "/k.gpg": "binary",
      ...files,
    },
    answers: (command) => {
      if (!gpgv) return undefined;
      const used = [...command.matchAll(/--keyring (\S+)/g)].map(([, path]) => path ?? "");
      return used.some((path) => good.includes(path)) ? answer : NO_KEY;
    },
  });
  const { sources } = readSources(DEFAULT_APT_DIRS, "amd64", planning);
  const result = await inspectRepositories(sources, DEFAULT_APT_DIRS, planning);
  for (const { command } of planning.calls) assertPlanningArgv(command.split(" "));
  for (const entry of result.evidence) parse(RepositoryEvidence, entry);
  return { ...result, planning, entry: result.evidence[0] };
}

const PINNED = "deb [signed-by=/k.gpg] https://x.example st main";

describe("not to be trusted", () => {
  const cases: [string, string, Parameters<typeof inspect>[1], string][] = [
    [
      "trusted=yes",
      "deb [trusted=yes signed-by=/k.gpg] https://x.example st main",
      { good: ["/k.gpg"] },
      "trusted=yes",
    ],
    [
      "trusted=yes on the distribution's own",
      `deb [trusted=yes signed-by=${DISTRO}] https://x.example st main`,
      { good: [DISTRO] },
      "trusted=yes",
    ],
    [
      "allow-insecure",
      "deb [allow-insecure=yes signed-by=/k.gpg] https://x.example st main",
      { good: ["/k.gpg"] },
      "allow-insecure",
    ],
    ["signed by another key", PINNED, {}, "no good signature"],
    [
      "signed by the distribution's key, but pinned to another",
      PINNED,
      { good: [DISTRO] },
      "no good signature",
    ],
    [
      "a bad signature",
      PINNED,
      { good: ["/k.gpg"], answer: { stdout: fixture("keys/gpgv-bad.txt"), status: 1 } },
      "no good signature",
    ],
    [
      "an expired key",
      PINNED,
      { good: ["/k.gpg"], answer: { stdout: fixture("keys/gpgv-expired-key.txt") } },
      "no good signature",
    ],
    [
      "text around the signed part",
      PINNED,
      { good: ["/k.gpg"], files: { [`${LISTS}/x.example_dists_st_InRelease`]: `x\n${IN_RELEASE}` } },
      "not signed",
    ],
    ["expired", PINNED, { good: ["/k.gpg"], now: "2026-12-21T12:00:01Z" }, "expired"],
    [
      "the distribution's own, expired",
      `deb [signed-by=${DISTRO}] http://x.example st main`,
      { good: [DISTRO], now: "2027-01-01T00:00:00Z" },
      "expired",
    ],
    [
      "no index",
      "deb [signed-by=/k.gpg] https://y.example st main",
      { good: ["/k.gpg"] },
      "no index on disk",
    ],
    [
      "a Release without signature",
      "deb [signed-by=/k.gpg] https://y.example st main",
      { good: ["/k.gpg"], files: { [`${LISTS}/y.example_dists_st_Release`]: "Origin: y\n" } },
      "not signed",
    ],
    [
      "an index whose fields can be read in two ways",
      PINNED,
      {
        good: ["/k.gpg"],
        files: {
          [`${LISTS}/x.example_dists_st_InRelease`]: IN_RELEASE.replace(/^Origin: .*$/m, "$&\n \n$&"),
        },
      },
      "can't be read as apt reads it",
    ],
    ["a missing keyring", "deb [signed-by=/none.gpg] https://x.example st main", {}, "can't be read"],
    [
      "a keyring path that gpgv can't be given",
      "",
      {
        files: {
          "/k\u0001.gpg": "binary",
          // A line of sources.list may not hold the character at all.
          "/etc/apt/sources.list.d/x.sources":
            "Types: deb\nURIs: https://x.example\nSuites: st\nComponents: main\nSigned-By: /k\u0001.gpg\n",
        },
        good: ["/k\u0001.gpg"],
      },
      "can't be read",
    ],
    [
      "a malformed armored keyring",
      "deb [signed-by=/k.asc] https://x.example st main",
      { files: { "/k.asc": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n" } },
      "malformed",
    ],
    [
      "a Signed-By that is no key",
      "deb [signed-by=k.gpg] https://x.example st main",
      { good: ["/k.gpg"] },
      "neither a keyring nor a fingerprint",
    ],
    [
      "another fingerprint",
      `deb [signed-by=${"A".repeat(40)}] https://x.example st main`,
      { good: ["/etc/apt/trusted.gpg.d/a.gpg"], files: { "/etc/apt/trusted.gpg.d/a.gpg": "binary" } },
      "no good signature",
    ],
    ["no gpgv", PINNED, { good: ["/k.gpg"], gpgv: false }, "without gpgv"],
    ["a strange transport", "deb [signed-by=/k.gpg] ftp://x.example st main", { good: ["/k.gpg"] }, ""],
  ];
  for (const [what, line, setup, problem] of cases) {
    test(what, async () => {
      const { entry } = await inspect(line, setup);
      expect(entry?.trust).toBe("untrusted");
      expect(entry?.problems.join("; ")).toContain(problem);
    });
  }
  for (const uri of ["file:/srv/repo", "copy:/srv/repo", "cdrom:[Disk]/"]) {
    test(`${uri}, even signed by the distribution`, async () => {
      const file = uri === "cdrom:[Disk]/" ? "%5bDisk%5d_dists_st_InRelease" : "_srv_repo_dists_st_InRelease";
      const line = `deb [signed-by=${DISTRO}] ${uri} st main`;
      const { entry } = await inspect(line, { good: [DISTRO], files: { [`${LISTS}/${file}`]: IN_RELEASE } });
      expect(entry).toMatchObject({ trust: "untrusted", signature_verified: true });
    });
  }
});

describe("trusted, more or less", () => {
  test("the distribution's own keyring", async () => {
    const { entry, planning } = await inspect(`deb [signed-by=${DISTRO}] http://x.example st main`, {
      good: [DISTRO],
    });
    expect(entry).toMatchObject({
      trust: "distribution",
      problems: [],
      signed_by: DISTRO,
      key_fingerprints: [KEY],
    });
    expect(entry?.release_origin).toBe("RepoA");
    expect(planning.calls.map(({ command }) => command)).toEqual([
      `gpgv --status-fd 1 --keyring ${DISTRO} ${LISTS}/x.example_dists_st_InRelease`,
    ]);
  });
  test("the distribution's own under its second name: one gpgv run", async () => {
    const pgp = DISTRO.replace(".gpg", ".pgp");
    const setup = { good: [DISTRO, pgp], files: { [pgp]: "binary" } };
    const { entry, planning } = await inspect(`deb [signed-by=${DISTRO}] http://x.example st main`, setup);
    expect(entry?.trust).toBe("distribution");
    expect(planning.calls).toHaveLength(1);
  });
  test("the distribution's own without Signed-By, as on older hosts", async () => {
    const trusted = "/etc/apt/trusted.gpg.d/debian.gpg";
    const { entry } = await inspect("deb http://x.example st main", {
      good: [DISTRO, trusted],
      files: { [trusted]: "binary" },
    });
    expect(entry).toMatchObject({ trust: "distribution", signed_by: null });
  });
  test("another distribution's keyring is a third party's", async () => {
    const { entry } = await inspect(`deb [signed-by=${DISTRO}] http://x.example st main`, {
      good: [DISTRO],
      os: "ubuntu",
    });
    expect(entry?.trust).toBe("pinned");
  });
  test("a third party with its own key", async () => {
    const { entry } = await inspect(PINNED, { good: ["/k.gpg"] });
    expect(entry).toMatchObject({ trust: "pinned", signature_verified: true, problems: [] });
  });
  test("a third party without Signed-By, whose key signs for every source", async () => {
    const trusted = "/etc/apt/trusted.gpg.d/x.asc";
    const { entry, planning } = await inspect("deb https://x.example st main", {
      good: ["/private/1-keyring.gpg"],
      files: { [trusted]: fixture("keys/a.asc") },
    });
    expect(entry?.trust).toBe("weak");
    const binary = Buffer.from(fixture("keys/a.gpg.base64"), "base64");
    expect(Buffer.from(planning.temporaries.get("/private/1-keyring.gpg") ?? "").equals(binary)).toBe(true);
  });
  test("a keyring path with `..` in it", async () => {
    const { entry } = await inspect("deb [signed-by=/usr/../k.gpg] https://x.example st main", {
      good: ["/k.gpg"],
    });
    expect(entry?.trust).toBe("pinned");
  });
  test("a fingerprint among the trusted keys", async () => {
    const { entry } = await inspect(`deb [signed-by=${KEY.toLowerCase()}] https://x.example st main`, {
      good: ["/etc/apt/trusted.gpg"],
      files: { "/etc/apt/trusted.gpg": "binary" },
    });
    expect(entry?.trust).toBe("pinned");
  });
  test("an embedded key", async () => {
    const key = fixture("keys/a.asc")
      .trim()
      .split("\n")
      .map((l) => ` ${l === "" ? "." : l}`)
      .join("\n");
    const { entry } = await inspect("# none", {
      good: ["/private/1-keyring.gpg"],
      files: {
        "/etc/apt/sources.list.d/x.sources": `Types: deb\nURIs: https://x.example\nSuites: st\nComponents: main\nSigned-By:\n${key}\n`,
      },
    });
    expect(entry).toMatchObject({ trust: "pinned", signed_by: "embedded" });
  });
  test("a detached signature", async () => {
    const { entry, planning } = await inspect("deb [signed-by=/k.gpg] https://y.example st main", {
      good: ["/k.gpg"],
      files: {
        [`${LISTS}/y.example_dists_st_Release`]: "Origin: y\n",
        [`${LISTS}/y.example_dists_st_Release.gpg`]: "x",
      },
    });
    expect(entry).toMatchObject({ trust: "pinned", release_origin: "y" });
    expect(
      planning.calls.some(({ command }) =>
        command.endsWith("_Release.gpg /var/lib/apt/lists/y.example_dists_st_Release"),
      ),
    ).toBe(true);
  });
});

test("what a Release file calls itself changes no trust", async () => {
  const claims = IN_RELEASE.replace("Origin: RepoA", "Origin: Debian").replace(
    "Label: RepoA",
    "Label: Debian",
  );
  const { entry } = await inspect(PINNED, { files: { [`${LISTS}/x.example_dists_st_InRelease`]: claims } });
  expect(entry).toMatchObject({ release_origin: "Debian", trust: "untrusted" });
});

test("without gpgv the plan says which package to install", async () => {
  const { warnings } = await inspect(PINNED, { gpgv: false });
  expect(warnings.join()).toContain("apt-get install gpgv");
});
