import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import fc from "fast-check";
import { parseMarker, parseRequirement } from "../src/pip-requirement.ts";
import { parseWheelName, supportedTags, tagRank } from "../src/pip-tags.ts";
import { allowedBy, comparePython, contains, isPythonVersion, parseSpecifiers } from "../src/pip-version.ts";
import { needs } from "./needs.ts";
import { ENVIRONMENT } from "./pip-kit.ts";

describe("what is no specifier", () => {
  test.each([
    ">",
    "1.0",
    "=>1",
    "==1.0.*.2",
    ">=1.*",
    "~=1",
    ">=1+local",
    "<1.0rc1.*",
    "== 1 2",
    "==1.0rc1.*",
    ">=foo",
  ])("%j", (text) => {
    expect(parseSpecifiers(text)).toBeNull();
  });
});

test.each([
  ["==1.0", "1.0.0", true],
  ["==1.0", "1.0+local", true],
  ["==1.0+other", "1.0+local", false],
  ["==1.1.*", "1.1", true],
  ["==1.0.*", "1", true],
  ["==1.1.*", "1.10", false],
  ["!=1.1.*", "1.1.3", false],
  ["~=2.2.0", "2.2", true],
  ["~=2.2", "2.9", true],
  ["~=2.2", "3.0", false],
  ["<2.0", "2.0rc1", false],
  ["<2.0rc2", "2.0rc1", true],
  ["<2.0.post1", "2.0", true],
  [">1.0", "1.0.post1", false],
  [">1.0", "1.0+local", false],
  [">1.0rc1", "1.0", true],
  [">1.0.post1", "1.0.post2", true],
  [">=1.0", "1.0.dev1", false],
  ["<=1.0", "1.0+local", true],
  ["===1.0", "1.0.0", false],
  ["==1!1.0", "1.0", false],
])("%s contains %s: %p", (specifier, version, expected) => {
  expect((parseSpecifiers(specifier) ?? []).every((one) => contains(one, version))).toBe(expected);
});

test.each([
  ["pre-releases are the last resort", ["1.0", "2.0rc1"], "", ["1.0"]],
  ["where there is nothing else", ["1.0rc1", "2.0.dev1"], "", ["1.0rc1", "2.0.dev1"]],
  ["where one is named", ["1.0", "2.0rc1"], ">=1.0rc1", ["1.0", "2.0rc1"]],
  ["where nothing else matches", ["1.0", "2.0rc1"], ">1.5", ["2.0rc1"]],
])("%s", (_, versions, specifiers, expected) => {
  const items = versions.map((version) => ({ version }));
  expect(allowedBy(items, parseSpecifiers(specifiers) ?? []).map(({ version }) => version)).toEqual(expected);
});

test.each([
  ["requests", "requests", [], null],
  ["Zope.Interface (>=5.0,<6)", "zope-interface", [], null],
  ['urllib3[brotli, socks] >= 1.21.1 ; python_version < "3.8"', "urllib3", ["brotli", "socks"], null],
  ["x@ https://example.com/x.whl", "x", [], "https://example.com/x.whl"],
  ['x @ https://example.com/x.whl ; os_name == "nt"', "x", [], "https://example.com/x.whl"],
])("%s", (text, name, extras, url) => {
  expect(parseRequirement(text)).toMatchObject({ name, extras, url });
});
test.each([
  "",
  "-x",
  "x >= ",
  "x (>=1",
  "x[a",
  "x; os_name",
  "x; unknown == '1'",
  "x; os_name == 'a' and",
  "x; (os_name == 'a'",
  "x ! 1",
  "x[a b]",
])("%j is no requirement", (text) => expect(parseRequirement(text)).toBeNull());

test.each([
  ['python_version >= "3.9"', true],
  ['python_version < "3.10"', false],
  ['python_version in "3.10 3.11"', true],
  ['sys_platform == "win32" or (os_name == "posix" and platform_machine != "arm64")', true],
  ['"linux" in sys_platform', true],
  ['sys.platform not in "linux darwin"', false],
  ['platform_release >= "5"', true],
  ["python_full_version~='3.11.0'", true],
  ['extra == "Dev_Tools"', true],
  ['implementation_name == "pypy"', false],
])("%s: %p", (marker, expected) => {
  expect(parseMarker(marker)?.({ ...ENVIRONMENT, extra: "dev-tools" })).toBe(expected);
});

const ORACLE = existsSync("/usr/lib/python3/dist-packages/pip/_vendor/packaging/tags.py");
const oracle = (code: string, input: unknown) => {
  const { stdout, stderr } = spawnSync("/usr/bin/python3", ["-c", code], {
    input: JSON.stringify(input),
    maxBuffer: 1 << 26,
  });
  if (stdout.length === 0) throw new Error(stderr.toString());
  return JSON.parse(stdout.toString());
};

needs(ORACLE, "pip of Debian's python3-pip").describe("packaging, the library of pip, says the same", () => {
  const number = fc.integer({ min: 0, max: 12 });
  const version = fc
    .record({
      release: fc.array(number, { minLength: 1, maxLength: 4 }),
      pre: fc.option(fc.tuple(fc.constantFrom("a", "b", "rc", "-alpha.", "_pre"), number)),
      post: fc.option(fc.tuple(fc.constantFrom(".post", "-", "rev"), number)),
      dev: fc.option(number),
      local: fc.option(fc.constantFrom("+a.1", "+1", "+b")),
    })
    .map(({ release, pre, post, dev, local }) =>
      [
        release.join("."),
        pre?.join("") ?? "",
        post?.join("") ?? "",
        dev === null ? "" : `.dev${dev}`,
        local ?? "",
      ].join(""),
    );
  const clause = fc
    .tuple(fc.constantFrom("==", "!=", "<=", ">=", "<", ">", "~="), version, fc.constantFrom("", "", ".*"))
    .map((parts) => parts.join(""))
    // A prefix of a pre- or post-release (`==1.0rc1.*`) is refused here, and where `~=` has one this packaging misreads it.
    .filter((text) => !/\.\*$|^~=/.test(text) || /^..?[\d.]+(?:\.\*)?$/.test(text));

  test("of order and of what a specifier contains", () => {
    const cases = fc.sample(fc.tuple(clause, version, version), { numRuns: 4000, seed: 7 });
    const code = `
import json, sys
from pip._vendor.packaging.version import Version
from pip._vendor.packaging.specifiers import Specifier, InvalidSpecifier
def one(clause, a, b):
    a, b = Version(a), Version(b)
    try: s = Specifier(clause).contains(a, prereleases=True)
    except InvalidSpecifier: s = None
    return [s, (a > b) - (a < b)]
print(json.dumps([one(*c) for c in json.load(sys.stdin)]))`;
    const expected = oracle(code, cases);
    const ours = cases.map(([text, a, b]) => {
      const [specifier] = parseSpecifiers(text) ?? [];
      return [specifier === undefined ? null : contains(specifier, a), Math.sign(comparePython(a, b))];
    });
    const different = cases.flatMap((one, i) =>
      JSON.stringify(ours[i]) === JSON.stringify(expected[i]) ? [] : [[one, ours[i], expected[i]]],
    );
    expect(different).toEqual([]);
  });

  test("of markers", () => {
    // A version against a text is left out: this packaging has an order of its own for those, later ones refuse them.
    const versions = fc.tuple(
      fc.constantFrom("python_version", "python_full_version", "implementation_version"),
      fc.constantFrom("==", "!=", "<", "<=", ">", ">=", "in", "not in"),
      fc.constantFrom("3.11", "3.9", "3.11.2", "3.12", "2.7"),
    );
    const texts = fc.tuple(
      fc.constantFrom(
        "os_name",
        "sys_platform",
        "platform_machine",
        "platform_system",
        "implementation_name",
      ),
      fc.constantFrom("==", "!=", "in", "not in"),
      fc.constantFrom("linux", "posix", "win32", "x86_64", "cpython", "Linux", ""),
    );
    const single = fc
      .tuple(fc.oneof(versions, texts), fc.boolean())
      .map(([[a, op, b], swap]) => (swap ? `"${b}" ${op} ${a}` : `${a} ${op} '${b}'`));
    const marker = fc
      .tuple(single, fc.constantFrom("and", "or"), single, fc.constantFrom("and", "or"), single)
      .map(([a, x, b, y, c]) => `${a} ${x} (${b} ${y} ${c})`);
    const cases = fc.sample(marker, { numRuns: 3000, seed: 7 });
    const code = `
import json, sys
from pip._vendor.packaging.markers import Marker
environment, cases = json.load(sys.stdin)
def one(text):
    try: return Marker(text).evaluate(environment)
    except Exception: return None
print(json.dumps([one(c) for c in cases]))`;
    const expected: (boolean | null)[] = oracle(code, [ENVIRONMENT, cases]);
    const different = cases.filter(
      (text, i) => expected[i] !== null && parseMarker(text)?.(ENVIRONMENT) !== expected[i],
    );
    expect(different).toEqual([]);
    expect(expected.filter((one) => one !== null).length).toBeGreaterThan(500);
  });

  test("of this host's tags and their order", () => {
    const code = `
import json, os, sys, platform
from pip._internal.utils.compatibility_tags import get_supported
json.load(sys.stdin)
print(json.dumps([os.confstr("CS_GNU_LIBC_VERSION").split()[1], platform.python_version(), platform.machine(), [str(t) for t in get_supported()]]))`;
    const [glibc, pythonVersion, machine, expected] = oracle(code, null);
    const architecture = { x86_64: "amd64", aarch64: "arm64" }[String(machine)] ?? "";
    const ours = [...supportedTags({ pythonVersion, implementation: "cpython", architecture, glibc }).keys()];
    expect(ours).toEqual(expected);
  });
});

test.each([
  ["flask-3.0.0-py3-none-any.whl", "flask", "3.0.0", 1],
  ["six-1.16.0-py2.py3-none-any.whl", "six", "1.16.0", 2],
  ["x_y-1.0_post1-1b-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "x_y", "1.0-post1", 2],
])("%s", (filename, name, version, tags) => {
  const parsed = parseWheelName(filename);
  expect([parsed?.name, parsed?.version, parsed?.tags.length]).toEqual([name, version, tags]);
});
test.each([
  "x.whl",
  "x-1.0.tar.gz",
  "x-1.0-py3-none.whl",
  "x-1.0-b-py3-none-any.whl",
  "../x-1.0-py3-none-any.whl",
  "-1.0-py3-none-any.whl",
])("%s is no wheel", (filename) => expect(parseWheelName(filename)).toBeNull());

test("an unknown glibc or machine takes wheels for any alone", () => {
  const host = { pythonVersion: "3.11.2", implementation: "cpython", architecture: "amd64", glibc: null };
  const rank = (filename: string, over = {}) =>
    tagRank(parseWheelName(filename) ?? { tags: [] }, supportedTags({ ...host, ...over }));
  expect(rank("x-1-py3-none-any.whl")).not.toBeNull();
  expect(rank("x-1-cp311-cp311-manylinux_2_17_x86_64.whl")).toBeNull();
  expect(rank("x-1-cp311-cp311-linux_x86_64.whl", { architecture: "strange", glibc: "2.36" })).toBeNull();
});
test("versions are versions in all their spellings", () => {
  expect(["1.0", "v1.0", "1.0-1", "1!2.0a1.post2.dev3+x.1"].every(isPythonVersion)).toBe(true);
  expect(["", "1.0.", "latest", "1.0 ", "1".repeat(200)].some(isPythonVersion)).toBe(false);
});
