import { describe, expect, test } from "bun:test";
import { feedSettings } from "../src/feeds-settings.ts";

const DEBIAN = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n';
const UBUNTU = 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n';

/** `name address`, one for each feed. */
function settings(env: Record<string, string>, release = DEBIAN, programs: readonly string[] = []) {
  const read = (path: string) => (path === "/etc/os-release" ? release : null);
  return feedSettings(env, read, (name) => programs.includes(name));
}
const feeds = (...given: Parameters<typeof settings>) =>
  settings(...given).feeds.map(({ name, url }) => `${name} ${url.href}`);
const names = (...given: Parameters<typeof settings>) => settings(...given).feeds.map(({ name }) => name);

describe("refused", () => {
  const WRONG: [what: string, env: Record<string, string>, said: string][] = [
    [
      "plain HTTP",
      { AEGIS_FEEDS_KEV: "http://mirror.example/kev.json" },
      "AEGIS_FEEDS_KEV is not an https: address",
    ],
    ["a file", { AEGIS_FEEDS_OSV: "file:///srv/osv" }, "AEGIS_FEEDS_OSV is not an https: address"],
    ["no address", { AEGIS_FEEDS_EPSS: "mirror" }, "AEGIS_FEEDS_EPSS is not an https: address"],
    [
      "credentials",
      { AEGIS_FEEDS_KEV: "https://u:p@mirror.example/" },
      "AEGIS_FEEDS_KEV has credentials in it",
    ],
    [
      "an ecosystem that there isn't",
      { AEGIS_FEEDS_ECOSYSTEMS: "npm Maven" },
      'AEGIS_FEEDS_ECOSYSTEMS names "Maven"',
    ],
    ["another distribution's", { AEGIS_FEEDS_ECOSYSTEMS: "Ubuntu" }, 'AEGIS_FEEDS_ECOSYSTEMS names "Ubuntu"'],
    ["a proxy that isn't one", { AEGIS_FEEDS_PROXY: "proxy:3128" }, "AEGIS_FEEDS_PROXY is not an address"],
  ];
  test.each(WRONG)("%s", (_, env, said) => expect(() => settings(env)).toThrow(said));
});

test("the publishers' own, by the host's distribution and programs", () => {
  expect(feeds({})).toEqual([
    "kev https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
    "epss https://epss.empiricalsecurity.com/epss_scores-current.csv.gz",
    "osv-Debian https://osv-vulnerabilities.storage.googleapis.com/Debian/all.zip",
  ]);
  const all = ["npm", "pip3", "go", "cargo", "nuget", "code-server"];
  expect(names({}, UBUNTU, all).sort()).toEqual(
    [
      "epss",
      "kev",
      "osv-Go",
      "osv-NuGet",
      "osv-PyPI",
      "osv-Ubuntu",
      "osv-VSCode",
      "osv-crates.io",
      "osv-npm",
      "vex",
    ].sort(),
  );
});

test("mirrors, and what is switched off", () => {
  const env = {
    AEGIS_FEEDS_OSV: "https://mirror.example/osv/",
    AEGIS_FEEDS_KEV: "off",
    AEGIS_FEEDS_EPSS: "http://127.0.0.1:8080/e",
  };
  expect(feeds(env)).toEqual([
    "epss http://127.0.0.1:8080/e",
    "osv-Debian https://mirror.example/osv/Debian/all.zip",
  ]);
  expect(names({ AEGIS_FEEDS_OSV: "off", AEGIS_FEEDS_VEX: "off" }, UBUNTU)).toEqual(["kev", "epss"]);
  expect(names({ AEGIS_FEEDS_ECOSYSTEMS: "npm, crates.io" })).toEqual([
    "kev",
    "epss",
    "osv-crates.io",
    "osv-npm",
  ]);
  expect(settings({ AEGIS_FEEDS_PROXY: "http://proxy.example:3128" }).proxy).toBe(
    "http://proxy.example:3128",
  );
});

test("the records are those of the host's release", () => {
  const wanted = (release: string) =>
    settings({}, release).feeds.map((feed) =>
      feed.kind === "osv"
        ? feed.wanted.release
        : feed.kind === "vex"
          ? `${feed.release} ${feed.codename}`
          : "",
    );
  expect(wanted(DEBIAN)).toEqual(["", "", "12"]);
  expect(wanted(UBUNTU)).toEqual(["", "", "24.04", "24.04 noble"]);
  expect(wanted('ID=debian\nVERSION_ID="12.5"\n')).toEqual(["", "", "12"]);
  // Debian's unstable has no number, and OSV nothing of it; others have nothing at all.
  expect(names({}, "ID=debian\n")).toEqual(["kev", "epss"]);
  expect(names({}, 'ID=fedora\nVERSION_ID="41"\n')).toEqual(["kev", "epss"]);
});
