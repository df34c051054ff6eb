import { describe, expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { cargo } from "../src/cargo.ts";
import { cargoConfig } from "../src/cargo-config.ts";
import { CargoIndex, type CrateEntry } from "../src/cargo-index.ts";
import { makePlan } from "../src/plan.ts";
import { pax, tar, tarEntry } from "./archive-kit.ts";
import {
  CRATES_IO,
  cargoPlanning,
  crateFile,
  type FakeCrate,
  type FakeDependency,
  FILES,
  fakeCrates,
  fileUrl,
  INDEX,
  indexUrl,
  manifestOf,
  sha256,
} from "./cargo-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

const MAIN = { "src/main.rs": "fn main() {}" };
const dep = (name: string, over: Partial<FakeDependency> = {}): FakeDependency => ({
  name,
  version: "1.0.0",
  ...over,
});
const lib = (name: string, over: Partial<FakeCrate> = {}): FakeCrate => ({
  name,
  version: "1.0.0",
  files: { "src/lib.rs": "" },
  ...over,
});
const tool = (dependencies: FakeDependency[], over: Partial<FakeCrate> = {}): FakeCrate => ({
  name: "tool",
  version: "1.0.0",
  dependencies,
  files: MAIN,
  ...over,
});

type Host = Parameters<typeof cargoPlanning>[1];
const planOf = (answers: Record<string, RegistryAnswer>, host: Host = {}, target = "tool@1.0.0") =>
  makePlan(cargo, "install", [target], cargoPlanning(answers, host));
const namesOf = (plan: Awaited<ReturnType<typeof planOf>>) =>
  plan.transaction.map(({ name, to_version }) => `${name} ${to_version}`);

/** What a plan warns of besides data that no test has. */
const saidBy = ({ warnings }: Awaited<ReturnType<typeof planOf>>) =>
  warnings.filter((text) => !text.startsWith("Vulnerabilities: not looked up"));

const ENTRY: CrateEntry = {
  ...{ name: "a", version: "1.0.0", checksum: "0".repeat(64), isYanked: false, publishedAt: null },
  ...{ dependencies: [], features: new Map() },
};
const OURS = {
  "/home/u/.cargo/config.toml": `[source.crates-io]\nreplace-with = "ours"\n[registries.ours]\nindex = "sparse+${INDEX}/"\n`,
};

/** A plan that says why it knows nothing. */
async function refusedFor(answers: Record<string, RegistryAnswer>, why: string | RegExp, host: Host = {}) {
  const plan = await planOf(answers, host);
  expect(plan.metadata_available).toBe(false);
  expect(plan.transaction).toEqual([]);
  expect(plan.warnings.join("\n")).toMatch(why);
  expect(() => cargo.signedArgv(plan)).toThrow("no exact version");
}

describe("the lock file decides", () => {
  const two = [tool([dep("a")]), lib("a")];

  test("without one: refused, since cargo would take what is newest", () =>
    refusedFor(
      fakeCrates(two, () => null),
      "has no Cargo.lock: cargo would take whatever is newest",
    ));

  const changed: [string, (lock: string) => string, string | RegExp][] = [
    ["no TOML", () => "= [", /Cargo.lock can't be read: line 1/],
    [
      "a format of the future",
      (lock) => lock.replace("version = 3", "version = 5"),
      "format 5, which isn't known",
    ],
    [
      "without the crate itself",
      (lock) => lock.replace('name = "tool"', 'name = "tools"'),
      "does not list tool 1.0.0 itself",
    ],
    [
      "without a line for what the crate needs",
      (lock) => lock.replace('["a"]', "[]"),
      "does not name a, which tool 1.0.0 needs",
    ],
    [
      "another version than it has",
      (lock) => lock.replace('["a"]', '["a 2.0.0"]'),
      /does not say which "a 2.0.0" is meant/,
    ],
    [
      "a git repository",
      (lock) => lock.replace(CRATES_IO, "git+https://x.example/a#abc"),
      "needs a 1.0.0 from a git repository",
    ],
    [
      "another registry",
      (lock) => lock.replace(CRATES_IO, "registry+https://x.example/"),
      "needs a 1.0.0 from another registry",
    ],
    [
      "a directory",
      (lock) => lock.replace(`source = "${CRATES_IO}"\n`, ""),
      "needs a 1.0.0 from a directory",
    ],
    [
      "another checksum than the index",
      (lock) => lock.replace(/checksum = "../, 'checksum = "00'),
      "another file of a 1.0.0 than the Cargo.lock",
    ],
    ["no checksum", (lock) => lock.replace(/checksum = .*\n/, ""), "another file of a 1.0.0"],
    [
      "a version that is a path",
      (lock) => lock.replaceAll('name = "a"\nversion = "1.0.0"', 'name = "a"\nversion = "../../x"'),
      "which is no crate",
    ],
  ];
  test.each(changed)("%s: refused", async (_, change, why) => {
    const lock = (text: string) => {
      const other = change(text);
      expect(other).not.toBe(text);
      return other;
    };
    await refusedFor(fakeCrates(two, lock), why);
  });

  test("a git dependency deep in the tree is found, with who needs it", () =>
    refusedFor(
      fakeCrates(
        [
          tool([dep("a")]),
          lib("a", { dependencies: [dep("b")] }),
          lib("b", { dependencies: [dep("c")] }),
          lib("c"),
        ],
        (lock) =>
          lock.replace(
            /(name = "c"\nversion = "1.0.0"\nsource = )"[^"]*"/,
            '$1"git+https://x.example/c?rev=1#1"',
          ),
      ),
      "b 1.0.0 needs c 1.0.0 from a git repository",
    ));

  test("two packages of one name and version, from two places: refused", () =>
    refusedFor(
      fakeCrates(
        two,
        (lock) =>
          `${lock}\n[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "git+https://x.example/a#1"\n`,
      ),
      /does not say which "a" is meant/,
    ));

  /** The lock file of `two` in older and newer words. */
  const formats: [string, (lock: string) => string][] = [
    [
      "1: names in full, checksums apart",
      (lock) =>
        `${lock
          .replace("version = 3\n", "")
          .replace('["a"]', `["a 1.0.0 (${CRATES_IO})"]`)
          .replace(/checksum = .*\n/, "")}
[metadata]
"checksum a 1.0.0 (${CRATES_IO})" = "${/checksum = "(.*)"/.exec(lock)?.[1]}"
`,
    ],
    ["1: the crate in a table of its own", (lock) => lock.replace("[[package]]", "[root]")],
    ["2: no number", (lock) => lock.replace("version = 3\n", "")],
    ["3", (lock) => lock],
    ["4", (lock) => lock.replace("version = 3", "version = 4")],
    ["the sparse name of crates.io", (lock) => lock.replace(CRATES_IO, "sparse+https://index.crates.io/")],
  ];
  test.each(formats)("format %s", async (_, change) => {
    expect(namesOf(await planOf(fakeCrates(two, change)))).toEqual(["a 1.0.0", "tool 1.0.0"]);
  });

  test("packages that only tests need, from wherever, are left alone", async () => {
    const crates = [tool([dep("a"), dep("t", { kind: "dev" })]), lib("a"), lib("t")];
    const lock = (text: string) =>
      text.replace(/(name = "t"\nversion = "1.0.0"\nsource = )"[^"]*"/, '$1"git+https://x.example/t#1"');
    expect(namesOf(await planOf(fakeCrates(crates, lock)))).toEqual(["a 1.0.0", "tool 1.0.0"]);
  });
});

describe("which crates of the lock file", () => {
  const closure = async (crates: FakeCrate[]) => namesOf(await planOf(fakeCrates(crates)));

  test("optional ones only where a default feature switches them on, by each of its spellings", async () => {
    const optional = { optional: true };
    const root = tool(
      ["a", "b", "c", "d", "e", "off"].map((name) => dep(name, optional)),
      {
        features: { default: ["a", "more", "c/std", "d?/std"], more: ["dep:b"], other: ["off"] },
      },
    );
    expect(await closure([root, ...["a", "b", "c", "d", "e", "off"].map((name) => lib(name))])).toEqual([
      // As in cargo's resolver, `d?/std` counts like `d/std`.
      ...["a 1.0.0", "b 1.0.0", "c 1.0.0", "d 1.0.0", "tool 1.0.0"],
    ]);
  });

  test("x?/y switches the dependency x on, as cargo's resolver does, and not the feature x", async () => {
    const optional = { optional: true };
    const root = tool([dep("x", optional), dep("z")], {
      features: { default: ["x?/y"], x: ["dep:x", "z/extra"] },
    });
    const z = lib("z", { dependencies: [dep("w", optional)], features: { extra: ["dep:w"] } });
    expect(await closure([root, lib("x"), z, lib("w")])).toEqual(["tool 1.0.0", "x 1.0.0", "z 1.0.0"]);
    root.features = { default: ["x/y"], x: ["dep:x", "z/extra"] };
    expect(await closure([root, lib("x"), z, lib("w")])).toContain("w 1.0.0");
  });

  test.each(["constructor", "prototype", "toString"])(
    "a feature called %s counts like any other (derive_more 2.0.1)",
    async (name) => {
      const root = tool([dep("a", { features: [name] })]);
      const a = lib("a", { dependencies: [dep("b", { optional: true })], features: { [name]: ["dep:b"] } });
      expect(await closure([root, a, lib("b")])).toEqual(["a 1.0.0", "b 1.0.0", "tool 1.0.0"]);
    },
  );

  test("features that others ask for count, whoever asks first", async () => {
    const z = lib("z", { dependencies: [dep("late", { optional: true })], features: { x: ["dep:late"] } });
    const crates = [
      tool([dep("z", { default_features: false }), dep("a")]),
      lib("a", { dependencies: [dep("z", { features: ["x"] })] }),
      z,
      lib("late"),
    ];
    expect(await closure(crates)).toEqual(["a 1.0.0", "late 1.0.0", "tool 1.0.0", "z 1.0.0"]);
  });

  test("default features are switched off by default-features = false alone", async () => {
    const on = (default_features: boolean) => [
      tool([dep("a", { default_features })]),
      lib("a", { dependencies: [dep("b", { optional: true })], features: { default: ["b"] } }),
      lib("b"),
    ];
    expect(await closure(on(true))).toContain("b 1.0.0");
    expect(await closure(on(false))).not.toContain("b 1.0.0");
  });

  test("those of other systems are not built, but the features that they ask for count, as for cargo", async () => {
    const crates = [
      tool([dep("w", { target: "cfg(windows)" }), dep("a", { default_features: false })]),
      lib("w", { dependencies: [dep("a", { features: ["extra"] }), dep("winapi")] }),
      lib("a", { dependencies: [dep("b", { optional: true })], features: { extra: ["dep:b"] } }),
      lib("b"),
      lib("winapi"),
    ];
    expect(await closure(crates)).toEqual(["a 1.0.0", "b 1.0.0", "tool 1.0.0"]);
  });

  test("build dependencies, renamed ones, and two versions of one name", async () => {
    const crates = [
      tool([
        dep("cc", { kind: "build" }),
        dep("old", { package: "rand" }),
        dep("new", { package: "rand", version: "2.0.0" }),
      ]),
      lib("cc"),
      lib("rand"),
      lib("rand", { version: "2.0.0", dependencies: [dep("core")] }),
      lib("core"),
    ];
    expect(await closure(crates)).toEqual([
      "cc 1.0.0",
      "core 1.0.0",
      "rand 1.0.0",
      "rand 2.0.0",
      "tool 1.0.0",
    ]);
  });

  test("crates that need each other for tests are no endless tree", async () => {
    const crates = [
      tool([dep("a")]),
      lib("a", { dependencies: [dep("b")] }),
      lib("b", { dependencies: [dep("a")] }),
    ];
    expect(await closure(crates)).toEqual(["a 1.0.0", "b 1.0.0", "tool 1.0.0"]);
  });
});

describe("the registry", () => {
  const two = [tool([dep("a")]), lib("a")];
  const good = fakeCrates(two);
  const flipped = Uint8Array.from(crateFile(lib("a")), (byte, i) => (i === 40 ? byte ^ 1 : byte));

  const refusals: [string, Record<string, RegistryAnswer>, string | RegExp][] = [
    ["a file with one bit changed", { [fileUrl("a", "1.0.0")]: flipped }, "another file"],
    ["a file that isn't there", { [fileUrl("a", "1.0.0")]: { status: 404 } }, "status 404"],
    [
      "a file that is elsewhere",
      { [fileUrl("a", "1.0.0")]: { status: 302, location: "https://evil.example" } },
      "status 302",
    ],
    ["a crate that it doesn't know", { [indexUrl("a")]: { status: 404 } }, "the registry has no crate a"],
    ["a version that it doesn't know", { [indexUrl("a")]: "\n" }, "the registry has no a 1.0.0"],
    [
      "an index that is elsewhere",
      { [indexUrl("a")]: { status: 301, location: "https://evil.example" } },
      "sends elsewhere, which is not followed",
    ],
    ["an index that fails", { [indexUrl("a")]: { status: 503 } }, "answers 503"],
    ["a line that is no JSON", { [indexUrl("a")]: '{"vers":"1.0.0"' }, "has no a 1.0.0"],
    [
      "a line without a checksum",
      { [indexUrl("a")]: '{"name":"a","vers":"1.0.0","cksum":"x","deps":[]}' },
      "has no a 1.0.0",
    ],
    [
      "an entry of another crate",
      { [indexUrl("a")]: String(good[indexUrl("a")]).replace('"name":"a"', '"name":"b"') },
      "is of another crate",
    ],
    [
      "two entries of one version",
      { [indexUrl("a")]: String(good[indexUrl("a")]).repeat(2) },
      "two entries for a 1.0.0",
    ],
    ["no config.json", { [`${INDEX}/config.json`]: { status: 404 } }, "names no download address"],
    ["a config.json of something else", { [`${INDEX}/config.json`]: "[]" }, "names no download address"],
    [
      "a download address that is none",
      { [`${INDEX}/config.json`]: '{"dl":"file:///srv"}' },
      "download address is none",
    ],
    [
      "a download address with a password",
      { [`${INDEX}/config.json`]: '{"dl":"https://u:p@x.example"}' },
      "holds a password",
    ],
    [
      "a download address on this machine, by a registry elsewhere",
      { [`${INDEX}/config.json`]: '{"dl":"http://127.0.0.1:2375/containers/{crate}"}' },
      "download address is on this machine",
    ],
  ];
  test.each(refusals)("%s: refused", (_, over, why) => refusedFor({ ...good, ...over }, why));

  test.each([
    [
      "the crate itself isn't known",
      { [indexUrl("tool")]: { status: 404 } },
      "the registry has no crate tool",
    ],
    ["nor its version", { [indexUrl("tool")]: "" }, "the registry has no tool 1.0.0"],
  ])("%s: an error, no plan", async (_, over, why) => {
    await expect(planOf({ ...good, ...over })).rejects.toThrow(why);
  });

  test.each([
    ["{crate}/{crate}-{version}.crate", "Abc/Abc-1.0.0.crate"],
    ["{prefix}/{lowerprefix}/x", "3/A/3/a/x"],
    ["{sha256-checksum}", "0".repeat(64)],
    ["plain", "plain/Abc/1.0.0/download"],
    ["plain/", "plain/Abc/1.0.0/download"],
    ["{unknown}", "%7Bunknown%7D/Abc/1.0.0/download"],
  ])("the template %s", async (template, path) => {
    const planning = cargoPlanning({
      [`${INDEX}/config.json`]: JSON.stringify({ dl: `${FILES}/${template}` }),
    });
    const index = new CargoIndex(cargoConfig(planning.env, planning.readText), planning);
    await expect(index.file({ ...ENTRY, name: "Abc" })).rejects.toThrow("404");
    expect(planning.requests.at(-1)?.url).toBe(`${FILES}/${path}`);
  });

  test.each([
    ["an open registry's files elsewhere", FILES, false, undefined],
    ["a private registry's files elsewhere", FILES, true, "secret"],
    ["the same, in the clear", "http://files.example", true, undefined],
    ["files beside the index", INDEX, false, "secret"],
  ])("the token and %s", async (_, dl, isPrivate, header) => {
    const files = { "/home/u/.cargo/credentials.toml": '[registries.ours]\ntoken = "secret"', ...OURS };
    const planning = cargoPlanning(
      { [`${INDEX}/config.json`]: JSON.stringify({ dl, "auth-required": isPrivate }) },
      { files },
    );
    const index = new CargoIndex(cargoConfig(planning.env, planning.readText), planning);
    await expect(index.file(ENTRY)).rejects.toThrow("404");
    expect(planning.requests.map(({ headers }) => headers.authorization)).toEqual(["secret", header]);
  });

  test("withdrawn: the crate itself is refused, one that the lock file names is said", async () => {
    const yanked = { entry: { yanked: true } };
    await refusedFor(fakeCrates([tool([], yanked)]), "tool@1.0.0 has been withdrawn");
    const plan = await planOf(fakeCrates([tool([dep("a")]), lib("a", yanked)]));
    expect(plan.metadata_available).toBe(true);
    expect(plan.warnings.join()).toContain("a 1.0.0 has been withdrawn");
  });

  test("the index says less than the manifest, or more: refused", async () => {
    const line = (crate: FakeCrate, deps: unknown[]) => ({ ...crate, entry: { deps } });
    const a = lib("a", { dependencies: [dep("b")] });
    await refusedFor(
      fakeCrates([tool([dep("a")]), line(a, []), lib("b")]),
      "don't agree whether b 1.0.0 is needed",
    );
    const more = [{ name: "b", req: "1", kind: "normal" }];
    const lock = (text: string) => text.replace(/(name = "a"[^[]*dependencies = )\[\]/, '$1["b"]');
    await refusedFor(
      fakeCrates([tool([dep("a")]), line(lib("a"), more), lib("b")], lock),
      "don't agree whether b 1.0.0",
    );
  });

  test("without a version: the newest that is neither withdrawn nor a pre-release, named in the plan", async () => {
    const versions = ["1.9.0", "1.10.0", "2.0.0-rc.1", "3.0.0"].map((version) => {
      const crate = tool([], {
        version,
        entry: { yanked: version === "3.0.0", pubtime: "2026-01-02T03:04:05Z" },
      });
      return fakeCrates([crate]);
    });
    const lines = versions.map((one) => one[indexUrl("tool")]).join("");
    const plan = await planOf({ ...Object.assign({}, ...versions), [indexUrl("tool")]: lines }, {}, "tool");
    expect(plan).toMatchObject({
      exact_targets: ["tool@1.10.0"],
      mutable_reference: true,
      published_at: "2026-01-02T03:04:05.000Z",
    });
    expect(plan.warnings[0]).toContain("tool@1.10.0 is the newest version today");
  });
});

describe("a plan", () => {
  test("has every crate with its address, hashes, licence and who needs it, and cargo's argv", async () => {
    const plan = await planOf(
      fakeCrates([tool([dep("a")]), lib("a", { entry: { pubtime: "2025-01-01T00:00:00Z" } })]),
    );
    const sum = sha256(crateFile(lib("a")));
    expect(plan.transaction[0]).toMatchObject({
      ...{
        name: "a",
        to_version: "1.0.0",
        sha256: sum,
        integrity: `sha256:${sum}`,
        purl: "pkg:cargo/a@1.0.0",
      },
      ...{
        url: fileUrl("a", "1.0.0"),
        license: "MIT",
        required_by: "tool 1.0.0",
        published_at: "2025-01-01T00:00:00.000Z",
      },
    });
    expect(plan.provenance_evidence.map(({ kind, subject, verified }) => [kind, subject, verified])).toEqual([
      ["crates-cksum", "tool@1.0.0", true],
      ["crates-cksum", "a@1.0.0", true],
    ]);
    expect(plan.raw_evidence.commands.map(({ argv }) => argv)).toEqual([["cargo", "--version"]]);
    expect(plan).toMatchObject({
      build_hooks_detected: false,
      native_code_risk: false,
      scripts: [],
    });
    const argv = ["cargo", "install", "--locked", "--root", "/var/lib/aegis/cargo", "tool@1.0.0"];
    expect(cargo.signedArgv(plan)).toEqual(argv);
    expect(plan.command_preview).toEqual(argv);
  });

  test("without cargo it is made, and says so", async () => {
    const plan = await planOf(fakeCrates([tool([])]), { hasCargo: false });
    expect(plan.metadata_available).toBe(true);
    expect(plan.warnings).toContain("cargo is not installed: the plan can't be run here.");
    expect(plan.raw_evidence.commands.map(({ outcome }) => outcome)).toEqual(["missing"]);
  });

  test.each([
    ["1.97", true],
    ["1.95.1", true],
    ["1.95", false],
    ["1.95.0", false],
    ["nonsense", false],
  ])("it states that it needs Rust %s and cargo is 1.95.0: said %p", async (needed, isSaid) => {
    const plan = await planOf(fakeCrates([tool([], { stated: `rust-version = "${needed}"` })]));
    expect(saidBy(plan)).toEqual(
      isSaid ? [`It needs Rust ${needed}, and cargo here is 1.95.0: the plan can't be run here.`] : [],
    );
  });

  test("what runs while it is built is named: build scripts with their text, macros, libraries linked, machine code", async () => {
    const crates = [
      tool([dep("a"), dep("m"), dep("n"), dep("o")], {
        files: { ...MAIN, "build.rs": "fn main() { /* root */ }" },
      }),
      lib("a", { stated: 'build = "./x/../own.rs"', files: { "own.rs": "fn main() { /* a */ }" } }),
      lib("m", { more: "[lib]\nproc-macro = true" }),
      lib("n", {
        stated: 'build = "none.rs"\nlinks = "z"',
        files: { "x/lib.a": "!<arch>\n", "tests/t.so": "\x7fELF" },
      }),
      lib("o", { stated: "build = false", files: { "build.rs": "no" } }),
    ];
    const plan = await planOf(fakeCrates(crates));
    expect(plan.scripts).toEqual([
      { package: "tool", name: "build.rs", body: "fn main() { /* root */ }" },
      { package: "a", name: "own.rs", body: "fn main() { /* a */ }" },
      { package: "n", name: "none.rs", body: "(its manifest names one that isn't there)" },
    ]);
    expect(plan).toMatchObject({
      build_hooks_detected: true,
      native_code_risk: true,
      binary_artifact_risk: true,
    });
    expect(plan.risk_signals).toEqual(
      expect.arrayContaining(["build-rs-risk", "proc-macro-risk", "native-link-risk"]),
    );
    expect(saidBy(plan)).toEqual([
      "Procedural macros run while it is built: m 1.0.0.",
      "n 1.0.0 links z.",
      "n 1.0.0 carries machine code: x/lib.a (static library).",
    ]);
  });

  test("build scripts beyond every measure are cut, and that is said", async () => {
    const names = Array.from({ length: 20 }, (_, n) => `big${n}`);
    const crates = [
      tool(names.map((name) => dep(name))),
      ...names.map((name) => lib(name, { files: { "build.rs": "x".repeat(70_000) } })),
    ];
    const plan = await planOf(fakeCrates(crates));
    expect(plan.scripts.reduce((n, { body }) => n + body.length, 0)).toBe(1024 * 1024);
    expect(plan.warnings).toContain(
      "The build scripts are too long for the plan: not all of their text is in it.",
    );
  });

  test("no command, or only one whose features are off: there is nothing to install", async () => {
    const bin = '[[bin]]\nname = "x"\npath = "src/main.rs"\nrequired-features = ["big"]';
    const off = { more: bin, features: { big: [] } };
    for (const crate of [tool([], { files: { "src/lib.rs": "" } }), tool([], off)]) {
      const plan = await planOf(fakeCrates([crate]));
      expect(plan.metadata_available).toBe(false);
      expect(plan.warnings).toContain("tool@1.0.0 has no command: there is nothing to install.");
    }
    const on = tool([], { ...off, features: { default: ["big"], big: [] } });
    expect((await planOf(fakeCrates([on]))).metadata_available).toBe(true);
  });

  test.each([
    ["src/main.rs", "", ["tool"]],
    ["src/main.rs", '[[bin]]\nname = "fd"\npath = "src/main.rs"', ["fd"]],
    ["src/main.rs", '[[bin]]\nname = "fd"\npath = "./src/main.rs"', ["fd"]],
    ["src/bin/two.rs", '[[bin]]\nname = "fd"\npath = "src/main.rs"', ["fd", "two"]],
    ["src/bin/two/main.rs", "", ["two"]],
    ["src/bin/two/other.rs", '[[bin]]\nname = "fd"\npath = "x.rs"', ["fd"]],
  ])("%s with %j: commands %p", async (path, more, commands) => {
    const answers = fakeCrates([tool([], { more, files: { [path]: "" } })]);
    const plan = await planOf(answers, { commands: ["fd", "tool", "two"] });
    expect(saidBy(plan)).toEqual(
      commands.map((name) => `tool@1.0.0 installs ${name}, which is the name of a command of this system.`),
    );
  });
});

describe("archives", () => {
  const entry = (path: string, over: Parameters<typeof tarEntry>[2] = {}) =>
    tarEntry(`a-1.0.0/${path}`, "", over);
  const manifest = tarEntry("a-1.0.0/Cargo.toml", manifestOf(lib("a")));
  const tricks: [string, Buffer[], string | RegExp][] = [
    ["a path that climbs", [manifest, entry("../../x")], "no plain path"],
    ["a path beside its directory", [manifest, tarEntry("b-1.0.0/x")], "not below a-1.0.0/"],
    ["an absolute path", [manifest, tarEntry("/etc/x")], "absolute path"],
    ["a symbolic link", [manifest, entry("l", { type: "2", link: "/etc/passwd" })], "a symbolic link"],
    ["a hard link", [manifest, entry("l", { type: "1", link: "a-1.0.0/Cargo.toml" })], "a hard link"],
    ["a device", [manifest, entry("d", { type: "3" })], "a device"],
    ["a pax header that moves a file", [manifest, pax(["path", "../x"]), entry("y")], "no plain path"],
    ["one file twice, with two contents", [manifest, entry("Cargo.toml")], "is in it twice"],
    ["two manifests by case", [manifest, entry("cargo.TOML")], "differ by case alone"],
    ["no manifest", [entry("x")], "has no Cargo.toml"],
    ["a manifest that is no TOML", [tarEntry("a-1.0.0/Cargo.toml", "[")], "Cargo.toml can't be read"],
    [
      "another crate's manifest",
      [tarEntry("a-1.0.0/Cargo.toml", manifestOf(lib("b")))],
      "Cargo.toml is of b 1.0.0",
    ],
    [
      "another version's manifest",
      [tarEntry("a-1.0.0/Cargo.toml", manifestOf(lib("a", { version: "2.0.0" })))],
      "Cargo.toml is of a 2.0.0",
    ],
  ];
  test.each(tricks)("%s: refused", (_, archive, why) =>
    refusedFor(fakeCrates([tool([dep("a")]), lib("a", { archive })]), why),
  );

  test("gigabytes of zeros, and no archive at all", async () => {
    const zeros = gzipSync(Buffer.alloc(130 * 1024 * 1024));
    for (const [file, why] of [
      [zeros, "unpacks to far too much"],
      [Buffer.from("x"), "no gzip file"],
      [gzipSync(tar().subarray(0, 100)), "it has no end"],
    ] as const) {
      const a = lib("a", { entry: { cksum: sha256(file) } });
      const lock = (text: string) => text.replace(/checksum = ".*"/, `checksum = "${sha256(file)}"`);
      await refusedFor({ ...fakeCrates([tool([dep("a")]), a], lock), [fileUrl("a", "1.0.0")]: file }, why);
    }
  });
});

test("only the configured index and its files are asked for", async () => {
  const planning = cargoPlanning(fakeCrates([tool([dep("a")]), lib("a")]));
  await makePlan(cargo, "install", ["tool@1.0.0"], planning);
  expect(new Set(planning.requests.map(({ url }) => new URL(url).origin))).toEqual(new Set([INDEX, FILES]));
});
