import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parsePolicy, ShownPackages } from "../src/apt-cache.ts";
import { fixture } from "./apt-kit.ts";

const [GOOD, EVIL] = ["a".repeat(64), "e".repeat(64)];
const head = "Package: x1\nVersion: 1\nArchitecture: all\n";
const offer = (sha256: string, size = 1) =>
  `${head}Filename: pool/x1.deb\nSize: ${size}\nSHA256: ${sha256}\n`;

describe("a version has one hash, or nothing is known about it", () => {
  const cases: [what: string, text: string][] = [
    ["two stanzas with different hashes", `${offer(GOOD)}\n${offer(EVIL)}`],
    ["two stanzas with different sizes", `${offer(GOOD)}\n${offer(GOOD, 2)}`],
    ["two stanzas, the second without a hash", `${offer(GOOD)}\n${head}Filename: pool/x1.deb\nSize: 1\n`],
    ["a hash in a second stanza that names no file", `${offer(GOOD)}\n${head}SHA256: ${EVIL}\n`],
    ["two hashes around a line of one space", `${offer(GOOD)} \n${offer(EVIL)}`],
    ["two hashes in one stanza", `${offer(GOOD)}SHA256: ${EVIL}\n`],
    ["another package's stanza can't be read", `${offer(GOOD)}\nPackage: y1\nnonsense\n`],
  ];
  for (const [what, text] of cases) {
    test(what, () => {
      const shown = new ShownPackages(text);
      expect(shown.problems).toHaveLength(1);
      expect(shown.find("x1", "all", "1")).toBeUndefined();
    });
  }
  test("the same file listed twice is fine, and so is the installed version's stanza", () => {
    const installed = `${head}Status: install ok installed\n`;
    for (const text of [
      `${offer(GOOD)}\n${offer(GOOD)}`,
      `${offer(GOOD)}\n${installed}`,
      `${installed}\n${offer(GOOD)}`,
    ]) {
      const shown = new ShownPackages(text);
      expect(shown.problems).toEqual([]);
      expect(shown.find("x1", "all", "1")?.sha256).toBe(GOOD);
    }
  });
});

describe("a package that apt and dpkg guard from removal is essential", () => {
  for (const field of ["Essential: yes", "Protected: yes", "Important: yes", "protected: YES"]) {
    test(field, () =>
      expect(new ShownPackages(`${offer(GOOD)}${field}\n`).find("x1", "all", "1")?.essential).toBe(true),
    );
  }
  for (const field of ["Essential: no", "Protected: no", "Priority: important"]) {
    test(`not with ${field}`, () =>
      expect(new ShownPackages(`${offer(GOOD)}${field}\n`).find("x1", "all", "1")?.essential).toBe(false));
  }
});

describe("apt-cache show", () => {
  test("hash, size, source of each package", () => {
    const shown = new ShownPackages(fixture("bookworm/install-nginx.show.txt"));
    expect(shown.find("nginx-common", "all", "1.22.1-9+deb12u11")).toMatchObject({
      source: { name: "nginx", version: "1.22.1-9+deb12u11" },
      size: 115544,
    });
    expect(shown.find("nginx", "amd64", "1.22.1-9+deb12u11")).toMatchObject({
      version: "1.22.1-9+deb12u11",
      sha256: "4e2778e675c07d0f2d8d3b6f5ff84f6483ade1d82c21c910eb9a2787e1cf1b1a",
      size: 532468,
      essential: false,
      maintainer: "Debian Nginx Maintainers <pkg-nginx-maintainers@alioth-lists.debian.net>",
      provides: ["httpd", "httpd-cgi", "nginx-abi-1.22.1-7"],
    });
    for (const [name, architecture, version] of [
      ["nginx", "i386", "1.22.1-9+deb12u11"],
      ["nginx", "amd64", "1"],
      ["bash", "amd64", "1"],
      ["nginx", "amd64", null],
    ] as const) {
      expect(shown.find(name, architecture, version)).toBeUndefined();
    }
  });
  test("the installed version has no hash; essential, and a source with a version of its own", () => {
    const shown = new ShownPackages(fixture("bookworm/show-bash.txt"));
    expect(shown.find("bash", "amd64", "5.2.15-2+b8")).toMatchObject({
      ...{ sha256: null, size: null, essential: true, source: { name: "bash", version: "5.2.15-2" } },
    });
    expect(shown.find("bash", "amd64", "5.2.15-2+b13")).toMatchObject({
      ...{ essential: true, source: { name: "bash", version: "5.2.15-2" }, size: 1490652 },
    });
  });
  test("one version of two architectures", () => {
    const shown = new ShownPackages(fixture("trixie/lab-multiarch.show.txt"));
    const [amd64, i386] = ["amd64", "i386"].map((a) => shown.find("forp", a, "2.0"));
    expect(amd64?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(i386?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(amd64?.sha256).not.toBe(i386?.sha256);
  });
  test("a malformed hash or size counts as missing", () => {
    const text = `${head}SHA256: ABC\nSize: 1e9\n\nPackage: half\n`;
    expect(new ShownPackages(text).find("x1", "all", "1")).toMatchObject({
      ...{ sha256: null, size: null, source: { name: "x1", version: "1" } },
    });
  });
  test("never throws", () => {
    fc.assert(fc.property(fc.string(), (text) => void new ShownPackages(text)));
  });
});

const DEBIAN = { uri: "http://deb.debian.org/debian", place: "bookworm/main" };
const SECURITY = { uri: "http://deb.debian.org/debian-security", place: "bookworm-security/main" };

describe("apt-cache policy", () => {
  const packages = parsePolicy(fixture("bookworm/policy.txt"));
  test("every package, names with `+` too", () => {
    expect([...packages.keys()]).toEqual(["libcups2", "linux-libc-dev", "bash", "g++"]);
  });
  test("a version that two sources offer", () => {
    expect(packages.get("libcups2")?.versions.get("2.4.2-3+deb12u9")).toEqual([DEBIAN, SECURITY]);
  });
  test("a version known only to dpkg is not offered", () => {
    expect(packages.get("bash")).toMatchObject({ installed: "5.2.15-2+b8", candidate: "5.2.15-2+b13" });
    expect(packages.get("bash")?.versions.get("5.2.15-2+b8")).toEqual([]);
  });
  test("the installed version, still offered", () => {
    expect(packages.get("g++")?.versions.get("4:12.2.0-3")).toEqual([DEBIAN]);
  });
  test("a foreign architecture has its own table", () => {
    const table = parsePolicy(fixture("trixie/policy.txt"));
    expect([...table.keys()]).toEqual(["libc6:i386", "nginx"]);
    expect(table.get("libc6:i386")).toMatchObject({ installed: null, candidate: "2.41-12+deb13u4" });
  });
  test("apt 3 lists one version twice where two sources differ", () => {
    const places = parsePolicy(fixture("trixie/lab-install.policy.txt")).get("twin")?.versions.get("1.0");
    expect(places?.map(({ uri }) => uri)).toEqual(["file:/tmp/apt-lab/repoA", "file:/tmp/apt-lab/repoB"]);
  });
  for (const [file, name, version] of [
    ["ubuntu/policy-phased.txt", "language-pack-gnome-en", "1:22.04+20220721"],
    ["trixie/phased.policy.txt", "phasep", "2.0"],
  ] as const) {
    test(`a phased version is a version: ${file}`, () => {
      expect(parsePolicy(fixture(file)).get(name)?.versions.get(version)?.length).toBeGreaterThan(0);
    });
  }
  test("a flat repository", () => {
    const text =
      "twin:\n  Installed: (none)\n  Version table:\n     1.0 500\n        500 file:/srv/repo ./ Packages\n";
    expect(parsePolicy(text).get("twin")?.versions.get("1.0")).toEqual([
      { uri: "file:/srv/repo", place: "./" },
    ]);
  });
  test("an unreadable source still counts; dpkg's status doesn't", () => {
    const table =
      "twin:\n  Version table:\n *** 1.0 500\n        500 strange\n        100 /var/lib/dpkg/status\n";
    expect(parsePolicy(table).get("twin")?.versions.get("1.0")).toEqual([{ uri: "strange", place: "?" }]);
  });
  test("never throws", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("a:", "  Installed: 1", "     1 2", "        5 x:y z Packages", "?")),
        (lines) => void parsePolicy(lines.join("\n")),
      ),
    );
  });
});
