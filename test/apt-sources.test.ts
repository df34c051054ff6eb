import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DEFAULT_APT_DIRS } from "../src/apt-dirs.ts";
import { listFileName, parseDeb822Sources, parseOneLineSources, readSources } from "../src/apt-sources.ts";
import { fakePlanning } from "./apt-kit.ts";

const line = (text: string) => parseOneLineSources(text, "/f.list", "amd64");
const stanza = (text: string) => parseDeb822Sources(text, "/f.sources", "amd64");

describe("one-line sources", () => {
  for (const text of [
    "deb http://x.example",
    "deb http://x.example stable",
    "dep http://x.example stable main",
    "deb [a=b http://x s m",
  ]) {
    test(`a problem: ${text}`, () => {
      expect(line(text)).toEqual({
        sources: [],
        problems: ["/f.list:1 is not a source line that apt could read"],
      });
    });
  }
  for (const text of [
    "deb [trusted=%79es] http://x.example s main",
    'deb [trusted="yes"] http://x.example s main',
    "deb [trus\\ted=yes] http://x.example s main",
    "deb [trusted=yes] http://x.example/%41 s main",
    "deb http://x.example s ma%69n",
    "deb [trusted=yes Trusted=no] http://x.example s main",
    "deb [arch=a[b trusted=no] http://x.example s main",
    "deb [trusted] http://x.example s main",
    "deb [trusted=] http://x.example s main",
    "deb [arch=a\u00a0trusted=no] http://x.example s main",
    "deb http://x.example s main\0",
    "deb http://[x s]/ main",
  ]) {
    test(`a problem, since apt may read it in another way: ${JSON.stringify(text)}`, () => {
      expect(line(text)).toEqual({ sources: [], problems: ["/f.list:1 can be read in two ways"] });
    });
  }
  test("a quoted URI is a problem, not nothing", () => {
    expect(line('deb [trusted=yes] "http://x.example" s main').problems).toHaveLength(1);
  });
  test("a line that ends as on Windows, an IPv6 address and a quote in a comment are none", () => {
    for (const text of ["deb http://x s main\r", "deb http://[::1]/ s main", 'deb http://x s main # "%41"']) {
      expect(line(text)).toMatchObject({ sources: [{ trusted: false }], problems: [] });
    }
  });
  for (const text of [
    "",
    "# deb http://x.example stable main",
    "deb-src http://x.example stable main",
    "   ",
  ]) {
    test(`nothing: ${JSON.stringify(text)}`, () => expect(line(text)).toEqual({ sources: [], problems: [] }));
  }
  test("options, several components, a comment behind", () => {
    expect(
      line(
        "deb [arch=amd64,i386 signed-by=/k.gpg] https://user:secret@x.example/debian/ stable main contrib # note",
      ).sources,
    ).toEqual([
      {
        id: "https://x.example/debian stable",
        uri: "https://x.example/debian",
        suite: "stable",
        components: ["main", "contrib"],
        configuredIn: "/f.list:1",
        signedBy: "/k.gpg",
        trusted: false,
        allowInsecure: false,
        architectures: ["amd64", "i386"],
      },
    ]);
  });
  for (const [option, field] of [
    ["trusted=yes", "trusted"],
    ["TRUSTED=1", "trusted"],
    ["trusted=0x1", "trusted"],
    ["trusted=01", "trusted"],
    ["trusted=maybe", "trusted"],
    ["allow-weak=0x1", "allowInsecure"],
    ["allow-insecure=yes", "allowInsecure"],
    ["allow-weak=true", "allowInsecure"],
    ["allow-downgrade-to-insecure=on", "allowInsecure"],
  ] as const) {
    test(option, () =>
      expect(line(`deb [${option}] http://x.example s main`).sources[0]?.[field]).toBe(true),
    );
  }
  for (const no of ["no", "false", "0", "off", "without", "disable", "No"]) {
    test(`trusted=${no} is not trusted`, () => {
      expect(line(`deb [ trusted=${no} ] http://x.example s main`).sources[0]).toMatchObject({
        trusted: false,
      });
    });
  }
  test("a flat repository has no components", () => {
    expect(line("deb file:/srv/repo ./").sources[0]).toMatchObject({
      id: "file:/srv/repo ./",
      components: [],
    });
  });
  test("the architecture is filled in", () => {
    expect(line("deb http://x.example/$(ARCH) s/$(ARCH) main").sources[0]?.id).toBe(
      "http://x.example/amd64 s/amd64",
    );
  });
});

describe("deb822 sources", () => {
  test("each URI with each suite; embedded keys; deb-src and disabled stanzas left out", () => {
    const { sources, problems } = stanza(
      [
        "# Debian",
        "Types: deb deb-src",
        "URIs: http://a.example/debian http://b.example/debian/",
        "Suites: bookworm bookworm-updates",
        "Components: main contrib",
        "Signed-By:",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " mDMEZ",
        " -----END PGP PUBLIC KEY BLOCK-----",
        "",
        "Types: deb-src",
        "URIs: http://c.example",
        "Suites: x",
        "Components: main",
        "",
        "Enabled: no",
        "Types: deb",
        "URIs: http://d.example",
        "Suites: x",
        "Components: main",
        "",
        "types: deb",
        "uris: https://e.example",
        "suites: ./",
        "trusted: yes",
        "allow-insecure: yes",
      ].join("\n"),
    );
    expect(problems).toEqual([]);
    expect(sources.map((s) => s.id)).toEqual([
      "http://a.example/debian bookworm",
      "http://a.example/debian bookworm-updates",
      "http://b.example/debian bookworm",
      "http://b.example/debian bookworm-updates",
      "https://e.example ./",
    ]);
    expect(sources[0]?.signedBy).toBe(
      "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----",
    );
    expect(sources[4]).toMatchObject({ trusted: true, allowInsecure: true, components: [] });
  });
  test("a line of blanks ends no stanza: what stands behind it counts", () => {
    const text = "Types: deb\nURIs: http://x.example\nSuites: s\nComponents: main\n \nTrusted: yes\n";
    expect(stanza(text).sources).toMatchObject([{ id: "http://x.example s", trusted: true }]);
  });
  test("a file that apt would read in another way gives no source, and says so", () => {
    const text = "Types: deb\nURIs: http://x.example\nSuites: s\nComponents: main\n";
    for (const more of [
      "Trusted : yes\n",
      "\rTrusted: yes\n",
      "Suites: t\n",
      "Trusted: no\nTrusted: yes\n",
    ]) {
      const { sources, problems } = stanza(text + more);
      expect(sources).toEqual([]);
      expect(problems.join()).toContain("can't be read as apt reads it");
    }
  });
  test("a stanza without suites is a problem, not nothing", () => {
    expect(stanza("Types: deb\nURIs: http://x.example\n").problems).toHaveLength(1);
  });
});

describe("files", () => {
  test("both forms, in apt's order, other names passed over, one source configured twice joined", () => {
    const planning = fakePlanning({
      files: {
        "/etc/apt/sources.list": "deb http://x.example/debian s main\n",
        "/etc/apt/sources.list.d/b.sources":
          "Types: deb\nURIs: http://x.example/debian/\nSuites: s\nComponents: contrib\nTrusted: yes\n",
        "/etc/apt/sources.list.d/a.list": "deb http://a.example s main\n",
        "/etc/apt/sources.list.d/c:d.list": "deb http://c.example s main\n",
        "/etc/apt/sources.list.d/old.list.save": "deb http://no.example s main\n",
        "/etc/apt/sources.list.d/old.list.disabled": "deb http://no.example s main\n",
      },
    });
    const { sources, problems } = readSources(DEFAULT_APT_DIRS, "amd64", planning);
    expect(problems).toEqual([]);
    expect(sources.map((s) => s.id)).toEqual([
      "http://x.example/debian s",
      "http://a.example s",
      "http://c.example s",
    ]);
    expect(sources[0]).toMatchObject({ components: ["main", "contrib"], trusted: true });
  });
  test("a sources.list that is there but can't be read is a problem, one that is missing is none", () => {
    const names: string[] = [];
    const planning = { readText: () => null, list: (path: string) => (path === "/etc/apt" ? names : []) };
    expect(readSources(DEFAULT_APT_DIRS, "amd64", planning).problems).toEqual([]);
    names.push("sources.list");
    expect(readSources(DEFAULT_APT_DIRS, "amd64", planning).problems).toEqual([
      "/etc/apt/sources.list can't be read",
    ]);
  });
});

/** Names that apt gave to real files. */
describe("listFileName", () => {
  for (const [uri, suite, file, name] of [
    [
      "http://deb.debian.org/debian",
      "bookworm",
      "InRelease",
      "deb.debian.org_debian_dists_bookworm_InRelease",
    ],
    [
      "http://deb.debian.org/debian-security",
      "bookworm-security",
      "InRelease",
      "deb.debian.org_debian-security_dists_bookworm-security_InRelease",
    ],
    ["file:/tmp/apt-lab/repoB", "st", "Release", "_tmp_apt-lab_repoB_dists_st_Release"],
    ["file:/tmp/apt-exp/repoB", "./", "Packages", "_tmp_apt-exp_repoB_._Packages"],
    ["https://x.example:8443/a_b/~me", "s", "InRelease", "x.example:8443_a%5fb_%7eme_dists_s_InRelease"],
    ["https://x.example/é", "/", "Release", "x.example_%c3%a9_Release"],
  ] as const) {
    test(name, () => expect(listFileName({ uri, suite }, file)).toBe(name));
  }
});

test("arbitrary text never throws, and no credentials come out", () => {
  fc.assert(
    fc.property(fc.string(), fc.stringMatching(/^[a-z0-9]{8,12}$/), (text, secret) => {
      parseOneLineSources(text, "/f", "amd64");
      parseDeb822Sources(text, "/f", "amd64");
      const { sources } = line(`deb https://me:${secret}@x.example/debian s main`);
      expect(JSON.stringify(sources)).not.toContain(secret);
    }),
  );
});
