import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parsePolicy } from "../src/apt-policy.ts";
import { fixture } from "./apt-kit.ts";

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
  test("a version that only dpkg knows is offered by nobody", () => {
    expect(packages.get("bash")).toMatchObject({ installed: "5.2.15-2+b8", candidate: "5.2.15-2+b13" });
    expect(packages.get("bash")?.versions.get("5.2.15-2+b8")).toEqual([]);
  });
  test("the installed version, offered still", () => {
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
  test("a place that can't be read is still a place; what is installed is none", () => {
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
