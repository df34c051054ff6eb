import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { parseDpkgStatus, readDpkgStatus } from "../src/apt-dpkg.ts";

const RECORDED = readFileSync(join(import.meta.dir, "fixtures/apt-hook/dpkg-status.txt"), "utf8");
const stanza = (...lines: string[]) => `${lines.join("\n")}\n\n`;
const HELLO = ["Package: hello", "Status: install ok installed", "Architecture: amd64", "Version: 1.0"];

test("a recorded status: multi-arch, held, half-configured, configuration files alone, essential", () => {
  const packages = parseDpkgStatus(RECORDED);
  const shown = [...packages].map(
    ([key, p]) => `${key} ${p.version} ${p.selection} ${p.state}${p.essential ? " essential" : ""}`,
  );
  expect(shown).toEqual([
    "bystander:all 1.0 install installed",
    "conffile-owner:all 1.1 deinstall config-files",
    "dpkg:amd64 1.21.22 install installed essential",
    "hello-aegis:all 1.2 install installed",
    "libc6:amd64 2.36-9+deb12u14 install installed",
    "libmulti:i386 1.0 install installed",
    "openssh-aegis:all 1.0 hold installed",
    "phased:all 2.0 install installed",
    "postinst-fails:all 1.0 install half-configured",
    "tzdata:all 2025b-0+deb12u2 install installed",
  ]);
});

describe("what may not be removed", () => {
  for (const [field, expected] of [
    ["Essential: yes", true],
    ["Protected: yes", true],
    ["Important: yes", true],
    ["Essential: no", false],
    ["Priority: important", false],
  ] as const) {
    test(field, () =>
      expect(parseDpkgStatus(stanza(...HELLO, field)).get("hello:amd64")?.essential).toBe(expected),
    );
  }
});

describe("dpkg's journal", () => {
  const files: Record<string, string> = { "/d/status": stanza(...HELLO) };
  const read = (journal: Record<string, string>) => {
    for (const [name, text] of Object.entries(journal)) files[`/d/updates/${name}`] = text;
    return readDpkgStatus("/d/status", {
      readText: (path) => files[path] ?? null,
      list: () => Object.keys(journal),
    });
  };
  test("later entries win; one may say that a package was removed", () => {
    const unpacked = stanza(...HELLO.with(1, "Status: install ok unpacked"));
    const gone = stanza(...HELLO.with(1, "Status: deinstall ok not-installed"));
    expect(read({ "0001": gone, "0000": unpacked, "tmp.i": unpacked })).toEqual({
      packages: new Map(),
      journal: ["0000", "0001"],
    });
    expect(read({ "0000": unpacked })?.packages.get("hello:amd64")?.state).toBe("unpacked");
  });
  test("an unreadable part makes the whole unknown", () => {
    let looks = 0;
    const list = () => {
      looks++;
      return ["0000"];
    };
    const readText = (path: string) => (path === "/d/status" ? stanza(...HELLO) : null);
    expect(readDpkgStatus("/d/status", { readText, list })).toBeNull();
    expect(looks).toBeLessThan(10);
  });
  test("merged by a running dpkg meanwhile: read again", () => {
    const unpacked = stanza(...HELLO.with(1, "Status: install ok unpacked"));
    let merged = false;
    const found = readDpkgStatus("/d/status", {
      list: () => (merged ? [] : ["0000"]),
      readText(path) {
        if (path === "/d/status") return merged ? unpacked : stanza(...HELLO);
        merged = true;
        return null;
      },
    });
    expect(found?.journal).toEqual([]);
    expect(found?.packages.get("hello:amd64")?.state).toBe("unpacked");
  });
  test("without a status file nothing is known", () => {
    expect(readDpkgStatus("/e/status", { readText: () => null, list: () => ["0000"] })).toBeNull();
  });
});

describe("stanzas", () => {
  const CASES: [name: string, text: string, expected: string[]][] = [
    ["nothing", "", []],
    ["blank lines alone", "\n\n\n", []],
    ["without a status", stanza("Package: hello", "Architecture: amd64"), []],
    ["without a name", stanza(...HELLO.slice(1)), []],
    ["without an architecture", stanza(...HELLO.filter((line) => !line.startsWith("Arch"))), []],
    ["not installed", stanza(...HELLO.with(1, "Status: unknown ok not-installed")), []],
    [
      "a field's name inside a description",
      stanza(...HELLO, "Description: x", " Status: install ok half-installed", "\tVersion: 9"),
      ["hello:amd64 1.0 installed"],
    ],
    [
      "other spelling of field names",
      stanza(...HELLO.map((line) => line.replace(/^\w+/, (name) => name.toUpperCase()))),
      ["hello:amd64 1.0 installed"],
    ],
    [
      "an epoch in the version",
      stanza(...HELLO.with(3, "Version: 1:1.0~rc1-1+b2")),
      ["hello:amd64 1:1.0~rc1-1+b2 installed"],
    ],
    [
      "no version, unpacked never",
      stanza(...HELLO.slice(0, 3).with(1, "Status: install reinstreq half-installed")),
      ["hello:amd64  half-installed"],
    ],
    [
      "states between",
      stanza(...HELLO.with(1, "Status: install ok triggers-pending")),
      ["hello:amd64 1.0 triggers-pending"],
    ],
    [
      "two architectures",
      stanza(...HELLO) + stanza(...HELLO.with(2, "Architecture: i386")),
      ["hello:amd64 1.0 installed", "hello:i386 1.0 installed"],
    ],
    [
      "no newline at the end, many blank lines between",
      `${stanza(...HELLO)}\n\n${stanza(...HELLO.with(0, "Package: b")).trim()}`,
      ["hello:amd64 1.0 installed", "b:amd64 1.0 installed"],
    ],
    [
      "a package called like a method of objects",
      stanza(...HELLO.with(0, "Package: constructor")),
      ["constructor:amd64 1.0 installed"],
    ],
  ];
  for (const [name, text, expected] of CASES) {
    test(name, () =>
      expect([...parseDpkgStatus(text)].map(([key, p]) => `${key} ${p.version} ${p.state}`)).toEqual(
        expected,
      ),
    );
  }
  test("property: any text is read", () => {
    const line = fc.oneof(fc.string(), fc.constantFrom("", ...HELLO, ":", " :", "Status:", "Status: x"));
    fc.assert(fc.property(fc.array(line), (lines) => void parseDpkgStatus(lines.join("\n"))));
  });
});
