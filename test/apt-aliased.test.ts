import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { aliasClashes, newClashes } from "../src/apt-aliased.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "aegis-aliased-"));
  mkdirSync(join(root, "usr/bin/tools"), { recursive: true });
  mkdirSync(join(root, "usr/lib"), { recursive: true });
  mkdirSync(join(root, "var/lib/dpkg/info"), { recursive: true });
  symlinkSync("usr/bin", join(root, "bin"));
  symlinkSync("/usr/lib", join(root, "lib"));
  list("coreutils", "/.", "/bin", "/bin/true", "/bin/tools", "/usr/bin/env", "/lib/so", "/sbin/init");
});
afterEach(() => rmSync(root, { recursive: true }));

const list = (name: string, ...paths: string[]) =>
  writeFileSync(join(root, `var/lib/dpkg/info/${name}.list`), `${paths.join("\n")}\n`);
const clashes = (...names: string[]) =>
  newClashes([], aliasClashes(new Set(names.length > 0 ? names : ["new"]), root));

describe("a file that another package has under its other name", () => {
  const CASES: [path: string, clash: string][] = [
    ["/usr/bin/true", "/bin/true of coreutils, which new has as /usr/bin/true"],
    ["/bin/env", "/usr/bin/env of coreutils, which new has as /bin/env"],
    ["/usr/lib/so", "/lib/so of coreutils, which new has as /usr/lib/so"],
  ];
  for (const [path, clash] of CASES) {
    test(path, () => {
      list("new", "/.", path);
      expect(clashes()).toEqual([clash]);
    });
  }
  test("of a package installed for several architectures", () => {
    list("new:amd64", "/usr/bin/true");
    expect(clashes()).toHaveLength(1);
  });
  test("of two packages of one run", () => {
    list("new", "/usr/bin/x");
    list("more", "/bin/x");
    expect(clashes("new", "more")).toEqual([
      "/bin/x of more, which new has as /usr/bin/x",
      "/usr/bin/x of new, which more has as /bin/x",
    ]);
  });
});

describe("no clash", () => {
  const CASES: [what: string, paths: string[]][] = [
    ["the same name, which dpkg itself detects", ["/bin/true"]],
    ["a directory", ["/usr/bin/tools"]],
    ["a directory that is not a link", ["/usr/sbin/init"]],
    ["a name with the same prefix", ["/usr/bin/true2", "/usr/binary/true"]],
    ["nothing", []],
  ];
  for (const [what, paths] of CASES) {
    test(what, () => {
      list("new", ...paths);
      expect(clashes()).toEqual([]);
    });
  }
  test("a package with itself, for another architecture or under both names", () => {
    list("new:amd64", "/usr/bin/x", "/bin/x");
    list("new:i386", "/bin/x");
    expect(clashes()).toEqual([]);
  });
  test("a file that is diverted", () => {
    list("new", "/usr/bin/true", "/bin/env");
    writeFileSync(
      join(root, "var/lib/dpkg/diversions"),
      "/bin/true\n/bin/true.distrib\nnew\n/bin/env\n/bin/env.distrib\nnew\n",
    );
    expect(clashes()).toEqual([]);
  });
  test("a package outside the run", () => {
    list("new", "/usr/bin/true");
    expect(clashes("other")).toEqual([]);
  });
  test("a host whose /bin is not a link, or without dpkg", () => {
    list("new", "/usr/bin/true");
    rmSync(join(root, "bin"));
    mkdirSync(join(root, "bin"));
    expect(clashes()).toEqual([]);
    expect(aliasClashes(new Set(["new"]), join(root, "none"))).toEqual([]);
  });
});

test("clashes from before the run are not new", () => {
  list("new", "/usr/bin/true");
  const before = aliasClashes(new Set(["new"]), root);
  list("new", "/usr/bin/true", "/bin/env");
  expect(newClashes(before, aliasClashes(new Set(["new"]), root))).toEqual([
    "/usr/bin/env of coreutils, which new has as /bin/env",
  ]);
});
