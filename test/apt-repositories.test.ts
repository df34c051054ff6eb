import { describe, expect, test } from "bun:test";
import { parse } from "valibot";
import { splitClearSigned } from "../src/apt-release.ts";
import { inspectRepositories } from "../src/apt-repositories.ts";
import { DEFAULT_APT_DIRS, readSources } from "../src/apt-sources.ts";
import { RepositoryEvidence } from "../src/doc-plan-evidence.ts";
import { assertPlanningArgv } from "../src/eco-planning-argv.ts";
import { type Answer, fakePlanning, fixture } from "./apt-kit.ts";

const LISTS = "/var/lib/apt/lists";
const DISTRO = "/usr/share/keyrings/debian-archive-keyring.gpg";
const GOOD: Answer = { stdout: fixture("keys/gpgv-good.txt") };
const [, KEY = ""] = /VALIDSIG ([0-9A-F]{40})/.exec(GOOD.stdout ?? "") ?? [];
const NO_KEY: Answer = { stdout: fixture("keys/gpgv-no-key.txt"), status: 2 };
const SQV_GOOD: Answer = { stdout: fixture("keys/sqv-good.txt") };
const SQV_NO_KEY: Answer = { stderr: fixture("keys/sqv-no-key.stderr.txt"), status: 1 };
const SQV_KEY = fixture("keys/sqv-good.txt").trim();
/** The start of a binary keyring whose bytes were decoded as text. */
const BINARY = "\ufffd\ufffd binary";
const IN_RELEASE = fixture("keys/InRelease");

/** A source line, its index, and the keyrings with which gpgv finds a good signature. */
async function inspect(
  line: string,
  setup: {
    files?: Record<string, string>;
    good?: string[];
    now?: string;
    /** The only program installed. */
    verifier?: "gpgv" | "sqv" | "none";
    answer?: Answer;
    os?: string;
  } = {},
) {
  const { files = {}, good = [], verifier = "gpgv" } = setup;
  const [known, none] = verifier === "sqv" ? [SQV_GOOD, SQV_NO_KEY] : [GOOD, NO_KEY];
  const { answer = known } = setup;
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
      if (!command.startsWith(`${verifier} `)) return undefined;
      const used = [...command.matchAll(/--keyring (\S+)/g)].map(([, path]) => path ?? "");
      return used.some((path) => good.includes(path)) ? answer : none;
    },
  });
  const { sources } = readSources(DEFAULT_APT_DIRS, "amd64", planning);
  const result = await inspectRepositories(sources, DEFAULT_APT_DIRS, planning);
  for (const { command } of planning.calls) assertPlanningArgv(command.split(" "));
  for (const entry of result.evidence) parse(RepositoryEvidence, entry);
  return { ...result, planning, entry: result.evidence[0] };
}

const PINNED = "deb [signed-by=/k.gpg] https://x.example st main";

const asWas = (change: (text: string) => string) => ({
  good: ["/k.gpg"],
  files: { [`${LISTS}/x.example_dists_st_InRelease`]: change(IN_RELEASE) },
});

describe("untrusted", () => {
  const cases: [string, string, Parameters<typeof inspect>[1], string][] = [
    [
      "an index of another suite",
      PINNED,
      asWas((text) => text.replace(/^(Suite|Codename): st$/gm, "$1: sid")),
      "its index is of suite sid, not of st",
    ],
    [
      "an index of another suite with a codename",
      PINNED,
      asWas((text) =>
        text.replace("Suite: st", "Suite: oldstable").replace("Codename: st", "Codename: buster"),
      ),
      "its index is of suite oldstable (buster), not of st",
    ],
    [
      "an index that names no suite",
      PINNED,
      asWas((text) => text.replace(/^(Suite|Codename): st\n/gm, "")),
      "its index is of no suite, not of st",
    ],
    [
      "an index dated in the future",
      PINNED,
      asWas((text) => text.replace("Sat, 21 Nov 2026 12", "Sun, 22 Nov 2026 12")),
      "dated in the future",
    ],
    [
      "trusted=yes",
      "deb [trusted=yes signed-by=/k.gpg] https://x.example st main",
      { good: ["/k.gpg"] },
      "trusted=yes",
    ],
    [
      "trusted=yes on the distribution's source",
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
      "an index with ambiguous fields",
      PINNED,
      {
        good: ["/k.gpg"],
        files: {
          [`${LISTS}/x.example_dists_st_InRelease`]: IN_RELEASE.replace(/^Origin: .*$/m, "$&\n \n$&"),
        },
      },
      "can't be read as apt reads it",
    ],
    [
      "two keyrings separated by a no-break space, one path to apt",
      "",
      {
        files: {
          "/etc/apt/sources.list.d/x.sources":
            "Types: deb\nURIs: https://x.example\nSuites: st\nComponents: main\nSigned-By: /k.gpg\u00a0/k.gpg\n",
        },
        good: ["/k.gpg"],
      },
      "can't be read",
    ],
    ["a missing keyring", "deb [signed-by=/none.gpg] https://x.example st main", {}, "can't be read"],
    [
      "a keyring path that can't be passed to gpgv",
      "",
      {
        files: {
          "/k\u0001.gpg": "binary",
          // A line of sources.list can't contain the character at all.
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
      "a Signed-By that is not a key",
      "deb [signed-by=k.gpg] https://x.example st main",
      { good: ["/k.gpg"] },
      "neither a keyring nor a fingerprint",
    ],
    [
      "another fingerprint",
      `deb [signed-by=${"A".repeat(40)}] https://x.example st main`,
      { good: ["/etc/apt/trusted.gpg.d/a.gpg"], files: { "/etc/apt/trusted.gpg.d/a.gpg": BINARY } },
      "no good signature",
    ],
    ["neither gpgv nor sqv", PINNED, { good: ["/k.gpg"], verifier: "none" }, "without gpgv or sqv"],
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
      const file = uri === "cdrom:[Disk]/" ? "Disk_dists_st_InRelease" : "_srv_repo_dists_st_InRelease";
      const line = `deb [signed-by=${DISTRO}] ${uri} st main`;
      const { entry } = await inspect(line, { good: [DISTRO], files: { [`${LISTS}/${file}`]: IN_RELEASE } });
      expect(entry).toMatchObject({ trust: "untrusted", signature_verified: true });
    });
  }
});

describe("a source whose address names a moment, its index of 21 November expired since 21 December", () => {
  const LATER = "2027-06-01T00:00:00Z";
  const at = (moment: string, { scheme = "https", host = "snap.example", key = DISTRO } = {}) => ({
    line: `deb [signed-by=${key} check-valid-until=no] ${scheme}://${host}/archive/debian/${moment} st main`,
    files: { [`${LISTS}/${host}_archive_debian_${moment}_dists_st_InRelease`]: IN_RELEASE },
  });
  type Where = ReturnType<typeof at>;
  const look = async ({ line, files }: Where, more: Parameters<typeof inspect>[1] = {}) => {
    const { entry, warnings } = await inspect(line, { files, good: [DISTRO], now: LATER, ...more });
    return { trust: entry?.trust, problems: entry?.problems.join("; "), snapshot: entry?.snapshot, warnings };
  };

  test("counts as of that moment, and the plan says so", async () => {
    expect(await look(at("20261122T000000Z"))).toEqual({
      trust: "snapshot",
      problems: "",
      snapshot: { service: "snap.example", as_of: "2026-11-22T00:00:00.000Z" },
      warnings: [
        expect.stringContaining("20261122T000000Z st is as of 2026-11-22: what was published since"),
      ],
    });
  });
  test("over plain http on this machine, with its port", async () => {
    const here = await look(at("20261122T000000Z", { scheme: "http", host: "127.0.0.1:8080" }));
    expect([here.trust, here.snapshot?.service]).toEqual(["snapshot", "127.0.0.1:8080"]);
  });
  test("while the index is valid it is the distribution's", async () => {
    const now = { now: "2026-12-01T00:00:00Z" };
    expect((await look(at("20261122T000000Z"), now)).trust).toBe("distribution");
  });
  test.each<[what: string, where: Where, more: Parameters<typeof inspect>[1], problem: string]>([
    ["over plain http", at("20261122T000000Z", { scheme: "http" }), {}, "has expired"],
    ["an address without a moment", at("latest"), {}, "has expired"],
    ["a moment of no day", at("20260230T000000Z"), {}, "has expired"],
    ["a month that isn't", at("20261322T000000Z"), {}, "has expired"],
    ["a moment that is cut off", at("20261122T0000Z"), {}, "has expired"],
    ["still to come", at("20270701T000000Z"), {}, "still to come"],
    ["an index younger than the moment", at("20261120T000000Z"), {}, "younger than the moment"],
    [
      "an index that had expired by then: a frozen archive",
      at("20270101T000000Z"),
      {},
      "had expired already",
    ],
    ["another key", at("20261122T000000Z", { key: "/k.gpg" }), { good: ["/k.gpg"] }, "has expired"],
    ["no good signature", at("20261122T000000Z"), { good: [] }, "no good signature"],
  ])("not %s", async (_what, where, more, problem) => {
    expect(await look(where, more)).toMatchObject({
      trust: "untrusted",
      problems: expect.stringContaining(problem),
    });
  });
});

describe("an index is of the suite by one of its names", () => {
  for (const [named, suite, codename] of [
    ["st", "st", "x"],
    ["st", "x", "st"],
    ["st/updates", "x", "st"],
    ["./", "x", "x"],
    ["/", "x", "x"],
  ]) {
    test(`${named}: ${suite}, ${codename}`, async () => {
      const index = IN_RELEASE.replace("Suite: st", `Suite: ${suite}`).replace(
        "Codename: st",
        `Codename: ${codename}`,
      );
      const components = named?.endsWith("/") ? "" : "main";
      const line = `deb [signed-by=/k.gpg] https://x.example ${named} ${components}`;
      const file =
        named === "/"
          ? "x.example_InRelease"
          : named === "./"
            ? "x.example_._InRelease"
            : `x.example_dists_${named?.replace("/", "_")}_InRelease`;
      const { entry } = await inspect(line, { good: ["/k.gpg"], files: { [`${LISTS}/${file}`]: index } });
      expect(entry).toMatchObject({ trust: "pinned", problems: [] });
    });
  }
});

describe("levels of trust", () => {
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
      files: { [trusted]: BINARY },
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
      files: { "/etc/apt/trusted.gpg": BINARY },
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
        [`${LISTS}/y.example_dists_st_Release`]: "Origin: y\nSuite: st\n",
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

test("a Release file's own claims don't affect trust", async () => {
  const claims = IN_RELEASE.replace("Origin: RepoA", "Origin: Debian").replace(
    "Label: RepoA",
    "Label: Debian",
  );
  const { entry } = await inspect(PINNED, { files: { [`${LISTS}/x.example_dists_st_InRelease`]: claims } });
  expect(entry).toMatchObject({ release_origin: "Debian", trust: "untrusted" });
});

test("with neither, the plan names the package to install and the missing tool", async () => {
  const { warnings, commands } = await inspect(PINNED, { verifier: "none" });
  expect(warnings.join()).toContain("apt-get install gpgv");
  expect(new Set(commands.map(({ argv, outcome }) => `${argv[0]} ${outcome}`))).toEqual(
    new Set(["gpgv missing", "sqv missing"]),
  );
});

describe("with sqv and without gpgv", () => {
  const sqv = { verifier: "sqv" } as const;
  const refused: [string, string, Parameters<typeof inspect>[1]][] = [
    ["a key that isn't in the keyring", PINNED, {}],
    ["a changed text", PINNED, { answer: { status: 1, stderr: fixture("keys/sqv-bad.stderr.txt") } }],
    ["SHA-1", PINNED, { answer: { status: 1, stderr: fixture("keys/sqv-sha1.stderr.txt") } }],
    ["RSA of 1024 bits", PINNED, { answer: { status: 1, stderr: fixture("keys/sqv-rsa1024.stderr.txt") } }],
    ["fingerprints before a failure", PINNED, { answer: { ...SQV_GOOD, status: 1 } }],
    ["fingerprints before a timeout", PINNED, { answer: { ...SQV_GOOD, status: null, outcome: "timeout" } }],
    ["nothing said", PINNED, { answer: { stdout: "" } }],
    [
      "words that are not fingerprints",
      PINNED,
      { answer: { stdout: `${SQV_KEY.toLowerCase()}\n ${SQV_KEY}\n` } },
    ],
    ["another fingerprint", `deb [signed-by=/k.gpg,${"A".repeat(40)}] https://x.example st main`, {}],
    // sqv reports the certificate, and apt compares that with the configured fingerprint.
    ["bound to one subkey", `deb [signed-by=/k.gpg,${SQV_KEY}!] https://x.example st main`, {}],
  ];
  for (const [what, line, setup] of refused) {
    test(`not verified: ${what}`, async () => {
      const good = what.startsWith("a key that") ? [] : ["/k.gpg"];
      const { entry } = await inspect(line, { ...sqv, good, ...setup });
      expect(entry).toMatchObject({ trust: "untrusted", signature_verified: false, key_fingerprints: [] });
      expect(entry?.problems).toEqual(["no good signature by a key it is bound to"]);
    });
  }

  test("the distribution's own: the text verified is the text used", async () => {
    const { entry, planning, commands, warnings } = await inspect(
      `deb [signed-by=${DISTRO}] http://x.example st main`,
      { ...sqv, good: [DISTRO] },
    );
    expect(entry).toMatchObject({ trust: "distribution", problems: [], key_fingerprints: [SQV_KEY] });
    const [signature = "", text = ""] = planning.temporaries.keys();
    expect(commands.map(({ argv }) => argv.join(" "))).toEqual([
      `sqv --keyring ${DISTRO} ${signature} ${text}`,
    ]);
    expect(signature).toContain("signature-of-x.example_dists_st_InRelease");
    const parts = splitClearSigned(IN_RELEASE);
    expect([...planning.temporaries.values()]).toEqual([parts?.signatures ?? "", parts?.text ?? ""]);
    expect(warnings).toEqual([]);
  });
  test("a pinned key, by fingerprint too", async () => {
    for (const more of ["", `,${SQV_KEY}`, `,${SQV_KEY.toLowerCase()}`, `,${"A".repeat(40)},${SQV_KEY}`]) {
      const line = `deb [signed-by=/k.gpg${more}] https://x.example st main`;
      const { entry } = await inspect(line, { ...sqv, good: ["/k.gpg"] });
      expect(entry).toMatchObject({ trust: "pinned", key_fingerprints: [SQV_KEY] });
    }
  });
  test("one of three signers is known: that one counts", async () => {
    const answer = {
      stdout: fixture("keys/sqv-one-of-three.txt"),
      stderr: fixture("keys/sqv-one-of-three.stderr.txt"),
    };
    const { entry } = await inspect(PINNED, { ...sqv, good: ["/k.gpg"], answer });
    expect(entry?.key_fingerprints).toEqual(["41587F7DB8C774BCCF131416762F67A0B2C39DE4"]);
  });
  test("Release and Release.gpg are passed unchanged", async () => {
    const at = `${LISTS}/x.example_dists_st_Release`;
    const files = {
      [`${LISTS}/x.example_dists_st_InRelease`]: "",
      [at]: "Origin: a\n",
      [`${at}.gpg`]: "signature",
    };
    const planning = fakePlanning({
      files: { ...files, "/etc/apt/sources.list": PINNED, "/k.gpg": BINARY },
      answers: (command) => (command.startsWith("sqv ") ? SQV_GOOD : undefined),
    });
    const { sources } = readSources(DEFAULT_APT_DIRS, "amd64", planning);
    const inRelease = {
      ...planning,
      readText: (path: string) => (path.endsWith("InRelease") ? null : planning.readText(path)),
    };
    const { commands } = await inspectRepositories(sources, DEFAULT_APT_DIRS, inRelease);
    expect(commands.map(({ argv }) => argv.join(" "))).toEqual([`sqv --keyring /k.gpg ${at}.gpg ${at}`]);
  });
  test("among the default keyrings, a file of another format is ignored, as in apt", async () => {
    const parts = "/etc/apt/trusted.gpg.d";
    const { planning } = await inspect("deb https://x.example st main", {
      ...sqv,
      files: {
        [`${parts}/a.gpg`]: BINARY,
        [`${parts}/b.gpg`]: "\0\0\0 KBXf",
        [`${parts}/c.gpg`]: fixture("keys/a.asc"),
        [`${parts}/d.asc`]: fixture("keys/a.asc"),
        [`${parts}/e.asc`]: BINARY,
        [`${parts}/f.gpg`]: "",
        [`${parts}/.g.gpg`]: BINARY,
        [`${parts}/h:i.gpg`]: BINARY,
      },
    });
    const [first = ""] = planning.calls
      .filter(({ command }) => command.startsWith("sqv "))
      .map((c) => c.command);
    expect(first.match(/--keyring \S+/g)).toEqual([
      `--keyring ${parts}/a.gpg`,
      expect.stringContaining("keyring.gpg"),
      `--keyring ${parts}/h:i.gpg`,
    ]);
  });
});
