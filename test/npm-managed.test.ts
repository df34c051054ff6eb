import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import type { SignedFile, TreeEntry } from "../src/eco-managed.ts";
import { npmManaged } from "../src/npm-managed.ts";
import { resolveProgram } from "../src/sys-spawn.ts";
import { compiledAegis, ManagedTest, managed, npmTarball, type TestPackage } from "./managed-kit.ts";
import { needs } from "./needs.ts";
import { install } from "./policy-plans.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const argvOf = (...targets: string[]) => [
  ...["npm", "install", "--global", "--prefix", "/var/lib/aegis/npm-global", "--ignore-scripts"],
  ...["--no-audit", "--no-fund", ...targets],
];

const APP = npmTarball(
  "app",
  "1.0.0",
  {
    bin: { app: "cli.js" },
    man: ["./app.1"],
    dependencies: { lib: "^1.0.0", "@scope/both": "*" },
    scripts: { install: "touch /tmp/ran" },
  },
  {
    "cli.js": "#!/usr/bin/env node\r\nconsole.log(require('lib'), require('@scope/both'))\n",
    "app.1": ".TH app 1\n",
    ".gitignore": "x\n",
  },
);
const LIB = npmTarball(
  "lib",
  "1.2.0",
  { main: "i.js", bin: "i.js" },
  { "i.js": "module.exports = 'lib 1'\n" },
);
const LIB2 = npmTarball("lib", "2.0.0", { main: "i.js" }, { "i.js": "module.exports = 'lib 2'\n" });
const BOTH = npmTarball(
  "@scope/both",
  "3.0.0",
  { main: "i.js", dependencies: { lib: "2.0.0" } },
  { "i.js": "module.exports = require('lib')\n" },
);
const CLOSURE = [APP, LIB, LIB2, BOTH];

managed.describe("npm with a managed directory", () => {
  const real = needs(
    resolveProgram("npm") !== null && resolveProgram("node") !== null,
    "npm, which installs here",
  );
  const aegis = compiledAegis();
  let at: ManagedTest;
  beforeEach(() => {
    at = new ManagedTest(aegis(), npmManaged);
  });
  afterEach(() => at.close());
  const run = (packages: readonly TestPackage[], ...targets: string[]) =>
    at.run(packages, argvOf(...targets), { exact_targets: targets });

  real.test("installs a closure whose command runs, and replaces it by another version", async () => {
    const first = await run(CLOSURE, "app@1.0.0");
    expect(first.result).toMatchObject({
      state: "completed",
      code: null,
      not_as_planned: [],
      changed_besides: [],
    });
    expect(first.stdout).toContain("added 4 packages");
    const command = join(at.state, "bin/app");
    expect(readlinkSync(command)).toBe(join(at.root, "bin/app"));
    const { stdout } = spawnSync(command, { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } });
    expect(stdout).toBe("lib 1 lib 2\n");
    expect(at.driver.observe()).toEqual({
      app: "1.0.0",
      "lib app": "1.2.0 2.0.0",
      "@scope/both app": "3.0.0",
    });
    const second = await run([npmTarball("app", "2.0.0", {})], "app@2.0.0");
    expect(second.result).toMatchObject({ state: "completed", code: null });
    expect(at.driver.observe()).toEqual({ app: "2.0.0" });
    expect(second.result.executables).toEqual([]);
    expect(at.leftOver()).toEqual([]);
  });

  real.test("a package that is there already stays as it is", async () => {
    await run(
      [npmTarball("other", "1.0.0", { bin: "x.js" }, { "x.js": "#!/usr/bin/env node\n" })],
      "other@1.0.0",
    );
    const { result } = await run(CLOSURE, "app@1.0.0");
    expect(result.state).toBe("completed");
    expect(at.driver.observe()).toMatchObject({ other: "1.0.0", app: "1.0.0" });
    expect((result.executables ?? []).map(({ name }) => name).sort()).toEqual(["app", "other"]);
  });

  real.test("a dependency that the plan lacks: npm fails, and the run says what it asked for", async () => {
    const { result, stderr } = await run([APP, BOTH], "app@1.0.0");
    expect(result).toMatchObject({ state: "failed", message: "npm ended with status 1" });
    expect(stderr).toContain("asked for /lib, which the plan lacks");
    expect(at.installed()).toEqual({});
  });

  real.test("an optional one that the plan lacks is left out", async () => {
    const one = npmTarball("one", "1.0.0", { optionalDependencies: { gone: "1" } });
    const { result, stderr } = await run([one], "one@1.0.0");
    expect(result.state).toBe("completed");
    expect(stderr).toContain("asked for /gone");
  });

  real.test("a package that the plan has and npm doesn't install: refused", async () => {
    const { result } = await run([npmTarball("one", "1.0.0", {}), LIB], "one@1.0.0");
    expect(result.message).toContain("isn't what was signed: lib:all is not installed, expected 1.2.0");
  });

  real.test("packages and files may be called prototype", async () => {
    const files = { prototype: "#!/usr/bin/env node\nconsole.log('ran')\n" };
    const manifest = { dependencies: { prototype: "*" }, bin: { prototype: "prototype" } };
    const closure = [npmTarball("app", "1.0.0", manifest, files), npmTarball("prototype", "1.0.0", {})];
    const { result } = await run(closure, "app@1.0.0");
    expect(result).toMatchObject({ state: "completed", code: null, not_as_planned: [] });
    const command = join(at.state, "bin/prototype");
    expect(spawnSync(command, { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } }).stdout).toBe("ran\n");
  });

  real.test("a shrinkwrap is obeyed", async () => {
    const lock = {
      name: "one",
      version: "1.0.0",
      lockfileVersion: 3,
      packages: {
        "": { name: "one", version: "1.0.0", dependencies: { lib: "*" } },
        "node_modules/lib": { version: "1.2.0" },
      },
    };
    const one = npmTarball(
      "one",
      "1.0.0",
      { dependencies: { lib: "*" } },
      { "npm-shrinkwrap.json": JSON.stringify(lock) },
    );
    const { result } = await run([one, LIB], "one@1.0.0");
    expect(result.state).toBe("completed");
    expect(at.driver.observe()).toEqual({ one: "1.0.0", "lib one": "1.2.0" });
  });
});

describe("a stage that npm left", () => {
  const { path: directory, remove } = temporaryDirectory();
  afterAll(remove);
  const signed = (one: TestPackage): SignedFile => {
    const path = join(directory, `${one.name.replace("/", "+")}-${one.version}.tgz`);
    writeFileSync(path, one.bytes);
    const bytes = Buffer.from(one.bytes);
    return {
      ...{ name: one.name, version: one.version ?? "", isSupport: false, url: "", integrity: "" },
      sha256: sha256Hex(bytes),
      size: bytes.length,
      path,
    };
  };
  const text = JSON.stringify({ name: "lib", version: "1.2.0", main: "i.js", bin: "i.js" });
  const file = (body: string): TreeEntry => ({
    kind: "file",
    sha256: sha256Hex(body),
    size: body.length,
    executable: false,
  });
  const D = "lib/node_modules/lib";
  const GOOD: [string, TreeEntry][] = [
    [`${D}/package.json`, file(text)],
    [`${D}/i.js`, file("module.exports = 'lib 1'\n")],
  ];
  const OTHER: [string, TreeEntry] = ["lib/node_modules/other/package.json", file("{}")];
  const check = (stage: [string, TreeEntry][], before: [string, TreeEntry][] = [OTHER]) =>
    npmManaged.check({
      ...{ plan: { ...install(), exact_targets: ["lib@1.2.0"] }, files: [signed(LIB)] },
      ...{ before: new Map(before), stage: new Map(stage) },
      read: () => Buffer.from("{}"),
      readBefore: () => Buffer.from("{}"),
    });

  const CASES: [what: string, stage: [string, TreeEntry][], named: string[]][] = [
    ["as signed", [...GOOD, OTHER], []],
    ["an empty directory", [...GOOD, OTHER, ["bin", { kind: "directory" }]], []],
    ["other bytes", [GOOD[0] ?? OTHER, [`${D}/i.js`, file("evil")], OTHER], [`${D}/i.js`]],
    ["a file more", [...GOOD, OTHER, [`${D}/evil.js`, file("evil")]], [`${D}/evil.js`]],
    ["a file less", [GOOD[0] ?? OTHER, OTHER], [`${D}/i.js`]],
    [
      "a package more",
      [...GOOD, OTHER, ["lib/node_modules/evil/package.json", file("{}")]],
      ["lib/node_modules/evil/package.json"],
    ],
    ["another package changed", [...GOOD, [OTHER[0], file("evil")]], [OTHER[0]]],
    ["another package gone", [...GOOD], [OTHER[0]]],
    [
      "a hidden lock that is none",
      [...GOOD, OTHER, [`${D}/node_modules/.package-lock.json`, file("x")]],
      [`${D}/node_modules/.package-lock.json`],
    ],
    [
      "a command that it doesn't have",
      [...GOOD, OTHER, ["bin/ls", { kind: "link", target: "../lib/node_modules/other/package.json" }]],
      ["bin/ls"],
    ],
    [
      "a command under another name",
      [...GOOD, OTHER, ["bin/ls", { kind: "link", target: "../lib/node_modules/lib/i.js" }]],
      ["bin/ls"],
    ],
    [
      "a command that a package has within itself, under another name",
      [...GOOD, OTHER, [`${D}/node_modules/.bin/ls`, { kind: "link", target: "../../i.js" }]],
      [`${D}/node_modules/.bin/ls`],
    ],
    [
      "its command",
      [...GOOD, OTHER, ["bin/lib", { kind: "link", target: "../lib/node_modules/lib/i.js" }]],
      [],
    ],
    [
      "its command, with another of its files",
      [...GOOD, OTHER, ["bin/lib", { kind: "link", target: "../lib/node_modules/lib/package.json" }]],
      ["bin/lib"],
    ],
    ["a file among the commands", [...GOOD, OTHER, ["bin/lib", file("x")]], ["bin/lib"]],
    [
      "a link elsewhere",
      [...GOOD, OTHER, ["lib/link", { kind: "link", target: "node_modules/lib/i.js" }]],
      ["lib/link"],
    ],
    ["its directory as a link", [OTHER, [D, { kind: "link", target: "other" }]], ["lib", D]],
  ];
  test("its command in the place of another package's", async () => {
    const command = (target: string): [string, TreeEntry] => ["bin/lib", { kind: "link", target }];
    const before = [OTHER, command("../lib/node_modules/other/package.json")];
    const found = await check([...GOOD, OTHER, command("../lib/node_modules/lib/i.js")], before);
    expect(found.map((one) => one.package)).toEqual(["bin/lib"]);
  });
  for (const [what, stage, named] of CASES) {
    test(what, async () => {
      const found = await check(stage);
      expect([...new Set(found.map((one) => one.package))].sort()).toEqual(named.sort());
    });
  }
});
