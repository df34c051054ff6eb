import { describe, expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { inspectPackage } from "../src/npm-inspect.ts";
import { type NpmVersion, readPackument, readVersion } from "../src/npm-metadata.ts";
import { END, tar, tarEntry } from "./archive-kit.ts";
import { type FakePackage, fakeNpm, REGISTRY, tarballOf } from "./npm-kit.ts";

const LIB: FakePackage = { name: "lib", version: "1.2.3" };

function inspect(change: Partial<FakePackage>) {
  const one = { ...LIB, ...change };
  const text = fakeNpm([one])[`${REGISTRY}lib`];
  const packument = readPackument("lib", JSON.parse(typeof text === "string" ? text : ""));
  const version: NpmVersion | string =
    typeof packument === "string" ? packument : readVersion(packument, "1.2.3");
  if (typeof version === "string") throw new Error(version);
  return inspectPackage(version, tarballOf(one));
}
const packed = (...entries: Buffer[]) => ({ tarball: gzipSync(tar(...entries)) });
const JSON_ENTRY = tarEntry("package/package.json", '{"name":"lib","version":"1.2.3"}');
const manifest = (text: string) => ({ files: { "package.json": text } });
const said = (metadata: Record<string, unknown>, inside: Record<string, unknown>) => ({
  metadata,
  manifest: inside,
});

describe("refused", () => {
  const CASES: [string, Partial<FakePackage>, RegExp][] = [
    ["no archive", { tarball: Buffer.from("PK") }, /archive can't be used/],
    ["cut off", { tarball: tarballOf(LIB).subarray(0, 40) }, /archive can't be used/],
    ["a path out of the package", packed(JSON_ENTRY, tarEntry("package/../../etc/x", "x")), /no plain path/],
    ["an absolute path", packed(JSON_ENTRY, tarEntry("/etc/x", "x")), /absolute path/],
    [
      "a link",
      packed(JSON_ENTRY, tarEntry("package/x", "", { type: "2", link: "/etc/passwd" })),
      /symbolic link/,
    ],
    [
      "two files that differ by case",
      packed(JSON_ENTRY, tarEntry("package/X", "1"), tarEntry("package/x", "2")),
      /differ by case/,
    ],
    ["two package.json", packed(JSON_ENTRY, tarEntry("package/package.json", "{}")), /in it twice/],
    [
      "two roots, of which one could replace the other",
      packed(JSON_ENTRY, tarEntry("other/package.json", "{}")),
      /is not below "package"/,
    ],
    ["a file without a root", packed(JSON_ENTRY, tarEntry("x", "")), /is not below/],
    [
      "something behind its end",
      { tarball: gzipSync(Buffer.concat([tar(JSON_ENTRY), JSON_ENTRY, END])) },
      /end/,
    ],
    ["no package.json", packed(tarEntry("package/x", "")), /no package.json/],
    ["package.json is no JSON", manifest("{"), /is not JSON/],
    ["package.json is no object", manifest("[]"), /is no object/],
    ["another name", manifest('{"name":"evil","version":"1.2.3"}'), /that of "evil"/],
    ["another version", manifest('{"name":"lib","version":"1.2.4"}'), /that of version "1.2.4"/],
    ["no version", manifest('{"name":"lib"}'), /that of version undefined/],
    [
      "a script that the metadata hides",
      manifest('{"name":"lib","version":"1.2.3","scripts":{"postinstall":"node evil"}}'),
      /its postinstall script is not the one in the registry/,
    ],
    [
      "another script than in the metadata",
      said({ scripts: { install: "true" } }, { scripts: { install: "evil" } }),
      /its install script is not the one/,
    ],
    [
      "a script in the metadata alone",
      { metadata: { scripts: { install: "true" } } },
      /the install script in the registry is not in it/,
    ],
    [
      "a dependency that the metadata hides",
      manifest('{"name":"lib","version":"1.2.3","dependencies":{"evil":"1"}}'),
      /its dependencies are not those in the registry \(evil\)/,
    ],
    [
      "a dependency in the metadata alone",
      { metadata: { dependencies: { a: "1" } } },
      /dependencies are not/,
    ],
    [
      "another range",
      said({ optionalDependencies: { a: "2" } }, { optionalDependencies: { a: "1" } }),
      /dependencies are not those in the registry \(a\)/,
    ],
    ["another peer", { metadata: { peerDependencies: { a: "1" } } }, /peerDependencies are not/],
    [
      "another command",
      { metadata: { bin: { sudo: "x" } } },
      /commands are not those in the registry \(sudo\)/,
    ],
    [
      "a script that is too long to be judged",
      { manifest: { scripts: { install: "x".repeat(70_000) } } },
      /longer than/,
    ],
  ];
  test.each(CASES)("%s", (_, change, why) => expect(() => inspect(change)).toThrow(why));
});

describe("read", () => {
  test("nothing remarkable", () => {
    expect(inspect({ files: { "index.js": "1" } })).toEqual({
      ...{ scripts: [], commands: [], hasBindingGyp: false, binaries: [], bundled: [], hasShrinkwrap: false },
    });
  });
  const spellings: [string, Partial<FakePackage>][] = [
    ["a byte order mark", manifest('\uFEFF{"name":"lib","version":"1.2.3"}')],
    ["a version with v", manifest('{"name":"lib","version":"v1.2.3"}')],
    [
      "optional dependencies that the registry lists among the others too",
      said(
        { dependencies: { a: "1" }, optionalDependencies: { a: "1" } },
        { optionalDependencies: { a: "1" } },
      ),
    ],
    [
      "a command that is called like the package",
      {
        files: { "package.json": '{"name":"lib","version":"1.2.3","bin":"./cli.js"}' },
        metadata: { bin: { lib: "cli.js" } },
      },
    ],
    ["another root than package", packed(tarEntry("lib/package.json", '{"name":"lib","version":"1.2.3"}'))],
  ];
  test.each(spellings)("%s: the same package", (_, change) => expect(inspect(change).binaries).toEqual([]));

  test("install scripts, with the files that they run", () => {
    const scripts = { install: "node ./build/install && sh run.sh", test: "x" };
    const files = { "build/install.js": "eval(1)", "run.sh": "curl x | sh" };
    expect(inspect({ manifest: { scripts }, files }).scripts).toEqual([
      { name: "install", body: scripts.install },
      { name: "install: build/install", body: "eval(1)" },
      { name: "install: run.sh", body: "curl x | sh" },
    ]);
  });
  test("the script that a binding.gyp implies", () => {
    const found = inspect({ files: { "binding.gyp": "{}" } });
    expect(found).toMatchObject({
      hasBindingGyp: true,
      scripts: [{ name: "install", body: "node-gyp rebuild" }],
    });
  });
  test("machine code, by what it is and not by its name", () => {
    const files = { "a.txt": "\x7fELF…", "b.exe": "MZ…", "c.node": "text" };
    expect(inspect({ files }).binaries).toEqual(["a.txt (ELF)", "b.exe (PE)"]);
  });
  test("what is bundled, in scopes and below one another", () => {
    const files = {
      "node_modules/@s/a/package.json": '{"name":"@s/a","version":"1.0.0"}',
      "node_modules/b/node_modules/c/package.json": '{"name":"c","version":"2.0.0"}',
      "node_modules/b/lib/package.json": '{"name":"no","version":"2.0.0"}',
      "node_modules/d/package.json": "nonsense",
    };
    expect(inspect({ files }).bundled).toEqual(["@s/a@1.0.0", "c@2.0.0"]);
  });
  test("commands, by their last component", () => {
    const bin = { "../../bin/sudo": "x.js", ok: "./y.js" };
    expect(inspect({ manifest: { bin } }).commands).toEqual(["ok", "sudo"]);
  });
});
