import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ParsedSources } from "../src/apt-source.ts";
import { parseOneLineSources } from "../src/apt-source-lines.ts";
import { parseDeb822Sources } from "../src/apt-source-stanzas.ts";
import { aptDirs, DEFAULT_APT_DIRS, readSources } from "../src/apt-sources.ts";
import { fakePlanning, fixture } from "./apt-kit.ts";

const binaries = ({ sources, problems }: ParsedSources) => ({
  sources: sources.filter(({ binary }) => binary),
  problems,
});
const line = (text: string) => binaries(parseOneLineSources(text, "/f.list", "amd64"));
const stanza = (text: string) => binaries(parseDeb822Sources(text, "/f.sources", "amd64"));

describe("one-line sources", () => {
  for (const text of [
    "deb http://x.example",
    "deb http://x.example stable",
    "dep http://x.example stable main",
    "deb [a=b http://x s m",
    "deb http://[x s]/ main",
    "deb http://x.example ./ main",
    "deb [a=b]http://x.example sss=1 mmm=2] http://y.example s main",
    "\u00a0deb http://x.example s main",
    "\ufeffdeb http://x.example s main",
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
    "deb http://x.example s[ main contrib]",
    "deb http://x.example s main[ contrib]",
    "deb http://x.example:abc/ s main",
    "deb http://x.example:/ s main",
    "deb http://a[b]/ s main",
    "deb http://x.example s ma\u00a0in",
    "deb http://x.example s main\u00a0",
    "deb http://x.example s ma\ufffdin",
    "deb [snapshot=20250101T000000Z] http://x.example s main",
    "deb [inrelease-path=x] http://x.example s main",
  ]) {
    test(`a problem, since apt may read it in another way: ${JSON.stringify(text)}`, () => {
      expect(line(text)).toEqual({ sources: [], problems: ["/f.list:1 can be read in two ways"] });
    });
  }
  test("a quoted URI is a problem, not nothing", () => {
    expect(line('deb [trusted=yes] "http://x.example" s main').problems).toHaveLength(1);
  });
  test("a CRLF line, an IPv6 address and a quote in a comment are fine", () => {
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
  test("options, several components, a trailing comment", () => {
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
        architectures: ["arch=amd64,i386"],
        binary: true,
      },
    ]);
  });
  for (const [option, field] of [
    ["trusted=yes", "trusted"],
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
  test("$(ARCH) is expanded", () => {
    expect(line("deb http://x.example/$(ARCH) s/$(ARCH) main").sources[0]?.id).toBe(
      "http://x.example/amd64 s/$(ARCH)",
    );
    expect(line("deb http://x.example $(ARCH)/").sources[0]?.id).toBe("http://x.example amd64/");
  });
  // apt's option names are exact; unknown ones are ignored.
  for (const option of [
    "Signed-By=/k",
    "SIGNED-BY=/k",
    "signed-by+=/k",
    "signed-by-=/k",
    "Trusted=yes",
    "trusted+=yes",
  ]) {
    test(`${option} is no option to apt`, () => {
      expect(line(`deb [${option}] http://x.example s main`)).toMatchObject({
        sources: [{ signedBy: null, trusted: false }],
        problems: [],
      });
    });
  }
  test("a # inside an unclosed bracket is not a comment", () => {
    expect(line("deb [a=b] http://x.example s main # [").problems).toEqual([]);
    expect(line("deb [lang=[ ] # ] http://x.example s main").problems).toHaveLength(1);
  });
  test("architectures are added and removed", () => {
    expect(line("deb [arch+=i386 arch-=amd64] http://x.example s main").sources[0]?.architectures).toEqual([
      "arch+=i386",
      "arch-=amd64",
    ]);
  });
});

describe("deb822 sources", () => {
  test("each URI with each suite; embedded keys; deb-src and disabled stanzas omitted", () => {
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
  test("a `.` alone on a line is an empty line of a key, but a word in any other field", () => {
    const text =
      "Types: deb\nURIs: http://x.example\nSuites: s\n .\nComponents: main\n .\nSigned-By: /k.gpg\n";
    expect(stanza(text).sources).toMatchObject([
      { id: "http://x.example s", components: ["main", "."], signedBy: "/k.gpg" },
      { id: "http://x.example ." },
    ]);
  });
  test("a no-break space is not a blank", () => {
    const text = "Types: deb\nURIs: http://x.example\nSuites: s\u00a0t\nComponents: ma\u00a0in x\n";
    expect(stanza(text).sources).toMatchObject([{ suite: "s\u00a0t", components: ["ma\u00a0in", "x"] }]);
  });
  test("CRLF lines, with stanzas between them", () => {
    const text =
      "# c\n\nTypes: deb\nURIs: http://x.example\nSuites: s\nComponents:\n main\n\nTypes: deb\nURIs: http://y.example\nSuites: ./\n";
    const both = ["http://x.example s", "http://y.example ./"];
    expect(stanza(text.replaceAll("\n", "\r\n")).sources.map(({ id }) => id)).toEqual(both);
    expect(stanza(text.replaceAll("\n", "\r\r\n")).sources.map(({ id }) => id)).toEqual(both);
  });
  test("a folded word, invalid UTF-8, a snapshot, a flat suite with components: problems", () => {
    const text = "Types: deb\nURIs: http://x.example\nSuites: s\nComponents: main\n";
    for (const more of [
      "Enabled:\n no\n",
      "Trusted: no\n yes\n",
      "X: \ufffd\n",
      "Snapshot: 20250101T000000Z\n",
    ]) {
      expect(stanza(text + more)).toEqual({ sources: [], problems: [expect.any(String)] });
    }
    expect(stanza(text.replace("s\n", "./\n")).problems).toHaveLength(1);
    expect(stanza(text.replace("deb", "deb rpm")).problems).toHaveLength(1);
    expect(stanza(`${text}Snapshot: enable\n`).problems).toEqual([]);
  });
  test("a line of blanks doesn't end a stanza: what follows counts", () => {
    const text = "Types: deb\nURIs: http://x.example\nSuites: s\nComponents: main\n \nTrusted: yes\n";
    expect(stanza(text).sources).toMatchObject([{ id: "http://x.example s", trusted: true }]);
  });
  test("a file that apt could read differently gives no source, and a problem", () => {
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
  test("both forms, in apt's order, other names ignored, duplicate sources merged", () => {
    const planning = fakePlanning({
      files: {
        "/etc/apt/sources.list": "deb http://x.example/debian s main\n",
        "/etc/apt/sources.list.d/b.sources":
          "Types: deb\nURIs: http://x.example/debian/\nSuites: s\nComponents: contrib\nTrusted: yes\n",
        "/etc/apt/sources.list.d/a.list": "deb http://a.example s main\n",
        "/etc/apt/sources.list.d/c:d.list": "deb http://c.example s main\n",
        "/etc/apt/sources.list.d/.hidden.list": "deb http://no.example s main\n",
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
  test("entries that apt merges are merged, with the first entry's URI, even a deb-src one", () => {
    const read = (...lines: string[]) =>
      readSources(
        DEFAULT_APT_DIRS,
        "amd64",
        fakePlanning({ files: { "/etc/apt/sources.list": lines.join("\n") } }),
      ).sources;
    expect(read("deb http://x.example s main", "deb https://x.example s contrib")).toMatchObject([
      { id: "http://x.example s", components: ["main", "contrib"] },
    ]);
    expect(
      read("deb-src [trusted=yes] http://x.example s main", "deb https://x.example s contrib"),
    ).toMatchObject([{ id: "http://x.example s", components: ["contrib"], trusted: true, binary: true }]);
    expect(read("deb-src http://x.example s main")).toEqual([]);
    const archs = (...options: string[]) =>
      read(...options.map((option) => `deb ${option} http://x.example s main`))[0]?.architectures;
    expect(archs("[arch=i386]", "[arch=i386]")).toEqual(["arch=i386"]);
    expect(archs("[arch=i386]", "")).toEqual([]);
  });
  test("an unreadable sources.list is a problem, a missing one isn't", () => {
    const names: string[] = [];
    const planning = { readText: () => null, list: (path: string) => (path === "/etc/apt" ? names : []) };
    expect(readSources(DEFAULT_APT_DIRS, "amd64", planning).problems).toEqual([]);
    names.push("sources.list");
    expect(readSources(DEFAULT_APT_DIRS, "amd64", planning).problems).toEqual([
      "/etc/apt/sources.list can't be read",
    ]);
  });
});

test("arbitrary text never throws, and credentials are dropped", () => {
  fc.assert(
    fc.property(fc.string(), fc.stringMatching(/^[a-z0-9]{8,12}$/), (text, secret) => {
      parseOneLineSources(text, "/f", "amd64");
      parseDeb822Sources(text, "/f", "amd64");
      const { sources } = line(`deb https://me:${secret}@x.example/debian s main`);
      expect(JSON.stringify(sources)).not.toContain(secret);
    }),
  );
});

test("an ordinary host has apt's defaults", () => {
  expect(aptDirs(fixture("bookworm/config-dump.txt"))).toEqual(DEFAULT_APT_DIRS);
});

test("an empty dump: apt's defaults", () => {
  expect(aptDirs("")).toEqual(DEFAULT_APT_DIRS);
});

test("absolute values are used as they are, relative ones resolved against their parents", () => {
  const dump = [
    'Dir "/srv/root";',
    'Dir::Etc "etc/apt";',
    'Dir::Etc::sourcelist "/tmp/one.list";',
    'Dir::Etc::sourceparts "parts.d/";',
    'Dir::State "/var/lib/apt";',
    'Dir::State::lists "lists/";',
    'Dir::State::status "/tmp/status";',
  ].join("\n");
  expect(aptDirs(dump)).toMatchObject({
    sourceList: "/tmp/one.list",
    sourceParts: "/srv/root/etc/apt/parts.d",
    lists: "/var/lib/apt/lists",
    status: "/tmp/status",
    trusted: "/etc/apt/trusted.gpg",
  });
});
