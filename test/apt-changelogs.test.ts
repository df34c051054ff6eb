import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { entriesBetween } from "../src/apt-changelog.ts";
import { changelogsOf } from "../src/apt-changelogs.ts";
import { planChangelogs, renderChangelogs } from "../src/cmd-plan-changelog.ts";
import type { OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import { registryAccess } from "../src/plan-registry.ts";
import { fakePlanning, fixture } from "./apt-kit.ts";
import { DEBIAN, entry, npm, removal, upgrade } from "./policy-plans.ts";
import { fakeRegistry, type RegistryAnswer } from "./registry-kit.ts";
import { refuses } from "./signing-kit.ts";

const OPENSSL = fixture("changelogs/openssl.txt");
const TO = "3.0.19-1~deb12u2";

describe("the entries of a changelog", () => {
  const versions = (from: string | null, to: string) => {
    const { entries, reached } = entriesBetween(OPENSSL, from, to);
    return [reached, ...entries.map(({ version }) => version)];
  };
  test.each<[what: string, from: string | null, to: string, ...expected: (string | boolean)[]]>([
    ["newer than the old version", "3.0.18-1~deb12u2", TO, true, TO, "3.0.19-1~deb12u1"],
    ["none newer than the new one", "3.0.18-1~deb12u1", "3.0.18-1~deb12u2", true, "3.0.18-1~deb12u2"],
    ["of a new package the newest", null, TO, true, TO],
    ["nothing newer", TO, TO, true],
    ["an old version that has no entry", "3.0.18-1~deb12u2+local", TO, true, TO, "3.0.19-1~deb12u1"],
  ])("%s", (_what, from, to, ...expected) => expect(versions(from, to)).toEqual(expected));
  test("of more entries than any package has, the newest", () => {
    const text = Array.from({ length: 5000 }, (_, n) => `x (${6000 - n}) unstable; urgency=low\n`).join("");
    const { entries, reached } = entriesBetween(text, "1", "9999");
    expect([entries.length, entries[0]?.version, reached]).toEqual([1000, "6000", false]);
  });
  test("a file that doesn't go back far enough", () => {
    expect(entriesBetween(OPENSSL, "1.0", TO)).toMatchObject({ reached: false, entries: { length: 7 } });
  });
  test("what an entry says, with its CVEs and bugs", () => {
    const { entries } = entriesBetween(OPENSSL, "3.0.17-1~deb12u1", TO);
    expect(entries[0]).toMatchObject({
      ...{ version: TO, distributions: "bookworm-security", urgency: "medium" },
      by: "Sebastian Andrzej Siewior <sebastian@breakpoint.cc>",
      date: "Fri, 03 Apr 2026 14:29:32 +0200",
      cves: ["CVE-2026-28387", "CVE-2026-28389", "CVE-2026-28390", "CVE-2026-31789", "CVE-2026-31790"],
    });
    expect(entries[0]?.lines[0]).toBe('  * CVE-2026-28387 ("Potential use-after-free in DANE client code")');
    expect(entries.flatMap(({ closes }) => closes.debian)).toContain(1110254);
  });
  test.each<[words: string, debian: number[], launchpad: number[]]>([
    ["(Closes: #123, #456)", [123, 456], []],
    ["closes: bug 12", [12], []],
    ["LP: #1, #2; Closes: #3", [3], [1, 2]],
    ["closes #12, CLOSES:99", [99], []],
    ["Closes: #99999999999999999999", [], []],
  ])("%s", (words, debian, launchpad) => {
    const text = `a1 (2) x; urgency=HIGH, binary-only=yes\n\n  * ${words}\n\n -- A <a@b>  Sat, 1 Jan 2026 00:00:00 +0000\n`;
    const [one] = entriesBetween(text, "1", "2").entries;
    expect([one?.urgency, one?.closes]).toEqual(["high", { debian, launchpad }]);
  });
  test("arbitrary text never throws, and adds no version that isn't asked for", () => {
    const line = fc.constantFrom(
      ...[
        "a1 (2) x; urgency=low",
        "a1 (1) x;",
        "a1 () x;",
        "a1 (2)",
        " -- a  b",
        " -- ",
        "  * x",
        "",
        "\u001b[2J",
        "a1 (0:3) y;",
      ],
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string())), (lines) => {
        for (const { version } of entriesBetween(lines.join("\n"), "1", "2").entries)
          expect(version).toBe("2");
      }),
    );
  });
});

const source = (name: string, from: string | null, to: string, change: Partial<TransactionEntry> = {}) =>
  entry(name, {
    ...{ action: from === null ? "install" : "upgrade", from_version: from, to_version: to },
    from_source: from === null ? null : { name, version: from },
    to_source: { name, version: to },
    ...change,
  });
const IN_RELEASE = (changelogs: string) =>
  `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\n${changelogs === "" ? "" : `Changelogs: ${changelogs}\n`}-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----\n`;
const LIST = "/var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_InRelease";

interface Setup {
  entries?: TransactionEntry[];
  evidence?: Partial<OperationPlan["repository_evidence"][number]>;
  changelogs?: string;
  settings?: string;
  answers?: Record<string, RegistryAnswer>;
}

async function ask({
  entries = [source("openssl", "3.0.18-1~deb12u2", TO)],
  evidence = {},
  changelogs = "",
  settings = "",
  answers = {},
}: Setup) {
  const registry = fakeRegistry(answers);
  const planning = {
    ...fakePlanning({
      answers: { "apt-config dump": { stdout: settings } },
      files: { [LIST]: IN_RELEASE(changelogs) },
    }),
    ...registry,
  };
  const plan = upgrade({ transaction: entries, repository_evidence: [{ ...DEBIAN, ...evidence }] });
  const found = await changelogsOf(plan, entries, planning);
  return { found, asked: registry.requests.map(({ url }) => url) };
}

const KNOWN =
  "https://metadata.ftp-master.debian.org/changelogs/main/o/openssl/openssl_3.0.19-1%7edeb12u2_changelog";

describe("where an archive has its changelogs, as apt finds it", () => {
  test.each<[what: string, setup: Setup, asked: string[]]>([
    [
      "the Release file says so",
      { changelogs: "https://c.example/x/@CHANGEPATH@/cl" },
      ["https://c.example/x/main/o/openssl/openssl_3.0.19-1%7edeb12u2/cl"],
    ],
    [
      "not if its signature isn't verified",
      { changelogs: "https://c.example/@CHANGEPATH@", evidence: { signature_verified: false } },
      [KNOWN],
    ],
    ["it says that there are none", { changelogs: "no" }, []],
    ["without the mark it is no place", { changelogs: "https://c.example/x" }, []],
    ["Debian's own place", {}, [KNOWN]],
    [
      "Ubuntu's",
      { evidence: { release_origin: "Ubuntu", release_label: "Ubuntu" } },
      ["https://changelogs.ubuntu.com/changelogs/pool/main/o/openssl/openssl_3.0.19-1%7edeb12u2/changelog"],
    ],
    ["nobody knows it", { evidence: { release_origin: "Other", release_label: null } }, []],
    [
      "a setting overrides the Release file",
      {
        changelogs: "https://c.example/@CHANGEPATH@",
        settings: 'Acquire::Changelogs::URI::Override::Origin::Debian "no";',
      },
      [],
    ],
    [
      "a setting for what says nothing",
      {
        evidence: { release_origin: "Other" },
        settings: 'Acquire::Changelogs::URI::Origin::Other "https://o.example/@CHANGEPATH@";',
      },
      ["https://o.example/main/o/openssl/openssl_3.0.19-1%7edeb12u2"],
    ],
    [
      "apt's http for its own places is https",
      {
        settings:
          'Acquire::Changelogs::URI::Origin::Debian "http://metadata.ftp-master.debian.org/changelogs/@CHANGEPATH@_changelog";',
      },
      [KNOWN],
    ],
    ["plain http elsewhere is not asked", { changelogs: "http://c.example/@CHANGEPATH@" }, []],
    ["nor this machine, for an archive elsewhere", { changelogs: "http://127.0.0.1:1/@CHANGEPATH@" }, []],
    [
      "each component until one has it",
      { evidence: { components: ["main", "non-free"] } },
      [KNOWN, KNOWN.replace("/main/", "/non-free/")],
    ],
    [
      "lib packages have a longer prefix; no epoch, and what is encoded",
      { entries: [source("libx+y", "1", "2:3+z")], changelogs: "https://c.example/@CHANGEPATH@" },
      ["https://c.example/main/libx/libx%2By/libx%2By_3%2Bz"],
    ],
    [
      "a source that is none",
      { entries: [source("x", "1", "2", { to_source: { name: "../x", version: "2" } })] },
      [],
    ],
    ["built again", { entries: [source("x1", "2", "2", { to_version: "2+b1" })] }, []],
    ["removals have none", { entries: [removal("x1")] }, []],
  ])("%s", async (_what, setup, asked) => expect((await ask(setup)).asked).toEqual(asked));
});

test("what could not be had is said of each package", async () => {
  const { found } = await ask({
    entries: [
      source("openssl", "3.0.18-1~deb12u2", TO),
      source("gone", "1", "2"),
      source("bad", "1", "2"),
      source("x1", "2", "2"),
    ],
    answers: {
      [KNOWN]: OPENSSL,
      [KNOWN.replace("/o/openssl/openssl_3.0.19-1%7edeb12u2", "/b/bad/bad_2")]: "<html>",
    },
  });
  expect(found.map(({ source, problem, entries }) => [source, entries.length, problem])).toEqual([
    ["openssl", 2, null],
    ["gone", 0, "metadata.ftp-master.debian.org answered with status 404"],
    ["bad", 0, "it has no entry of 2"],
    ["x1", 0, "built again from the same source"],
  ]);
});

describe("on the screen", () => {
  const TERMINAL = { interactive: true, colour: false, width: 80 };
  test("from a server that is real: entries behind a bar, marked and escaped, with the bugs that they close", async () => {
    const text = `a1 (2) stable; urgency=high\n\n  * Fix CVE-2026-1234\u001b[2J (Closes: #1; LP: #2)\n\tdeep\n\n -- A <a@b>  Sat, 01 Jan 2026 00:00:00 +0000\n\na1 (1) stable; urgency=low\n\n  * old\n`;
    using server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: ({ url }) =>
        url.endsWith("/main/a/a1/a1_2_cl") ? new Response(text) : new Response("", { status: 404 }),
    });
    const uri = `http://127.0.0.1:${server.port}/debian`;
    const list = `/var/lib/apt/lists/127.0.0.1:${server.port}_debian_dists_bookworm_InRelease`;
    const plan = upgrade({
      transaction: [source("a1", "1", "2", { sources: ["mine"] })],
      repository_evidence: [{ ...DEBIAN, id: "mine", uri }],
    });
    const open = () => ({
      ...fakePlanning({
        answers: { "apt-config dump": { stdout: "" } },
        files: { [list]: IN_RELEASE(`http://127.0.0.1:${server.port}/@CHANGEPATH@_cl`) },
      }),
      ...registryAccess("/nonexistent"),
      close: () => {},
    });
    const found = await planChangelogs(plan, undefined, {}, open);
    expect(renderChangelogs(found, TERMINAL).split("\n")).toEqual([
      "Changelog of a1 1 → 2",
      "  2  stable  urgency high  Sat, 01 Jan 2026 00:00:00 +0000  A <a@b>",
      "  names CVE-2026-1234",
      "  closes Debian bug 1, Launchpad bug 2",
      "│   * Fix CVE-2026-1234\\x1b[2J (Closes: #1; LP: #2)",
      "│   deep",
    ]);
    expect(renderChangelogs(found, { ...TERMINAL, colour: true })).toContain("\u001b[33m* Fix CVE-2026-1234");
  });
  test("another ecosystem's plan, and a package that isn't in the plan, are refused", async () => {
    await refuses(() => planChangelogs(npm(), undefined, {}), "usage", "--changelog is for plans of apt");
    await refuses(
      () => planChangelogs(upgrade(), "other", {}),
      "usage",
      "the plan brings no new version of other",
    );
  });
});
