import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AegisError } from "../src/errors.ts";
import { go } from "../src/go.ts";
import { goConfig, planningVariables } from "../src/go-config.ts";
import { readGoHead, readGoPackage } from "../src/go-imports.ts";
import { dirHash, escapeGo, GoSumdb, goModHash, unescapeGo } from "../src/go-sumdb.ts";
import { isPseudoVersion, parseGoTargets, splitGoTarget } from "../src/go-target.ts";
import { makePlan } from "../src/plan.ts";
import { type FakeModule, fakeProxy, goPlanning, newDatabase, PROXY } from "./go-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

const FIXTURES = join(import.meta.dir, "fixtures/go");
const SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

describe("targets", () => {
  test.each([
    ["", "it is empty"],
    ["-x", "option"],
    ["example.com/a b@v1.0.0", "white space"],
    ["example.com/a;b@v1.0.0", "metacharacters"],
    ["example.com/$(x)@v1.0.0", "metacharacters"],
    ["example.com/a\u202e@v1.0.0", "control"],
    ["a".repeat(600), "longer than"],
    ["fmt", "host name"],
    ["Example.com/a@v1.0.0", "host name"],
    ["example.com//a@v1.0.0", "single slashes"],
    ["example.com/a/@v1.0.0", "single slashes"],
    ["example.com/../a@v1.0.0", "no element begins or ends with a dot"],
    ["example.com/.git/a@v1.0.0", "no element begins"],
    ["example.com/a./b@v1.0.0", "no element begins"],
    ["example.com/aux/b@v1.0.0", "devices"],
    ["example.com/Progra~1@v1.0.0", "devices"],
    ["example.com/...@v1.0.0", "no element begins"],
    ["example.com/a@", "no version"],
    ["example.com/a@v1.0.0@v2.0.0", "no version"],
    ["example.com/a@>=v1.0.0", "no version"],
  ])("%j is none: %s", (target, why) => {
    expect(() => parseGoTargets("get", [target])).toThrow(why);
  });

  test.each([
    ["https://example.com/a", "direct-url-denied"],
    ["https://example.com/a.git@v1.0.0", "git-source-denied"],
    ["git@example.com:a/b", "git-source-denied"],
    ["ftp://example.com/a", "url-denied"],
    ["./cmd", "local-path-denied"],
    ["/home/x/cmd", "local-path-denied"],
    ["..", "local-path-denied"],
    ["example.com/a=>example.com/b@v1.0.0", "replace-directive-denied"],
  ] as const)("%j is denied as %s", (target, signal) => {
    expect(parseGoTargets("get", [target]).denied).toEqual([{ target, signal }]);
  });

  test("two packages are two plans", () => {
    expect(() => parseGoTargets("get", ["example.com/a@v1.0.0", "example.com/b@v1.0.0"])).toThrow(
      "one package at a time",
    );
  });

  test.each([
    ["example.com/a", null, false],
    ["example.com/a@latest", "latest", false],
    ["example.com/a@main", "main", false],
    ["example.com/a@v1", "v1", false],
    ["example.com/a@v1.2", "v1.2", false],
    ["example.com/a@1.2.3", "1.2.3", false],
    ["example.com/a@v01.2.3", "v01.2.3", false],
    ["example.com/a@v1.2.3", "v1.2.3", true],
    ["example.com/a@v2.0.0+incompatible", "v2.0.0+incompatible", true],
    ["example.com/a@v0.0.0-20260707140218-77df88e508fa", "v0.0.0-20260707140218-77df88e508fa", true],
    ["github.com/A/b_c/cmd/d.e~f-g@v1.0.0-rc.1", "v1.0.0-rc.1", true],
  ])("%j: version %p, exact %p", (target, version, exact) => {
    const split = splitGoTarget(target);
    expect([split.version, split.exact]).toEqual([version, exact]);
  });

  test.each([
    ["v0.0.0-20260707140218-77df88e508fa", true],
    ["v0.0.3-0.20260707140218-77df88e508fa", true],
    ["v1.2.3-pre.0.20260707140218-77df88e508fa", true],
    ["v2.0.0-20260707140218-77df88e508fa+incompatible", true],
    ["v1.2.3", false],
    ["v1.2.3-rc.1", false],
  ])("%s stands for a commit: %p", (version, expected) => expect(isPseudoVersion(version)).toBe(expected));
});

describe("settings", () => {
  const config = (env: Record<string, string>, files: Record<string, string> = {}) =>
    goConfig({ HOME: "/home/u", ...env }, (path) => files[path] ?? null);
  const proxiesOf = (env: Record<string, string>) => config(env).proxies.map(({ url }) => url.href);

  test.each([
    ["", ["https://proxy.golang.org/"]],
    ["direct", []],
    ["off", []],
    ["https://a.example,direct,https://b.example", ["https://a.example/"]],
    ["https://a.example|https://b.example/x/,off", ["https://a.example/", "https://b.example/x/"]],
  ])("GOPROXY=%s", (value, urls) => expect(proxiesOf({ GOPROXY: value })).toEqual(urls));

  test.each(["file:///srv/go", "ssh://a.example", "nonsense"])("GOPROXY=%s is refused", (value) => {
    expect(() => config({ GOPROXY: value })).toThrow("GOPROXY can't be used");
  });

  test("the environment wins over go's own file; GOENV names another, or none", () => {
    const files = {
      "/home/u/.config/go/env": "GOPROXY=https://file.example\nGOFLAGS=-toolexec=/tmp/x\n",
      "/other": "GOPROXY=https://other.example\n",
    };
    const first = (env: Record<string, string>) => config(env, files).proxies[0]?.url.href;
    expect(first({})).toBe("https://file.example/");
    expect(first({ GOPROXY: "https://env.example" })).toBe("https://env.example/");
    expect(first({ GOENV: "/other" })).toBe("https://other.example/");
    expect(first({ GOENV: "off" })).toBe("https://proxy.golang.org/");
  });

  test("credentials go into a header, and nowhere else", () => {
    const { proxies, shown } = config({ GOPROXY: "https://me:s%20cret@a.example" });
    expect(proxies[0]?.request.headers).toEqual({ authorization: `Basic ${btoa("me:s cret")}` });
    expect(JSON.stringify([proxies[0]?.url, shown])).not.toContain("cret");
  });

  test.each([
    ["GOPRIVATE", "*.corp.example", "git.corp.example/x/y", true],
    ["GOPRIVATE", "*.corp.example", "corp.example/x", false],
    ["GONOSUMDB", "a.example/x,b.example", "b.example/y", true],
    ["GOPRIVATE", "a.example/x", "a.example/xy", false],
    ["GOPRIVATE", "a.example/*/z", "a.example/x/z", true],
    ["GOINSECURE", "a.example", "a.example/x", false],
    ["GOPRIVATE", "[", "a.example/x", true],
  ])("%s=%s: %s is left out: %p", (key, patterns, module, expected) => {
    expect(config({ [key]: patterns }).bypass(module) !== null).toBe(expected);
  });

  test("a setting of its own takes the place of GOPRIVATE, for the database and for proxies", () => {
    const patterns = { GOPRIVATE: "a.example", GONOSUMDB: "none", GONOPROXY: "b.example" };
    const { bypass, unasked } = config(patterns);
    expect([bypass("a.example/x"), unasked("a.example/x")]).toEqual([null, null]);
    expect(unasked("b.example/x")).toBe("GONOPROXY names it (b.example)");
    expect(config({ GOPRIVATE: "a.example" }).unasked("a.example/x")).toBe("GOPRIVATE names it (a.example)");
  });

  test("after a comma the next proxy is for missing files, after a bar for everything", () => {
    const { proxies } = config({ GOPROXY: "https://a.example|https://b.example,https://c.example,direct" });
    expect(proxies.map(({ next }) => next)).toEqual(["|", ",", ","]);
  });

  test("no part of a password is shown, whatever it has in it", () => {
    const { shown } = config({ GOPROXY: "https://me:p@ss@a.example/x|https://u:q@b.example,direct" });
    expect(shown).toEqual({ GOPROXY: "https://a.example/x|https://b.example/" });
  });

  test.each(["https://a.example/?token=1", "https://a.example/#x"])("GOPROXY=%s is refused", (value) => {
    expect(() => config({ GOPROXY: value })).toThrow("has a ? or a #");
  });

  test("the go command of planning has settings of its own: no workspace, other toolchain or version control", () => {
    expect(planningVariables("http://127.0.0.1:1/x")).toEqual({
      ...{ GOPROXY: "http://127.0.0.1:1/x", GOSUMDB: "off", GOENV: "off", GOWORK: "off" },
      ...{ GOTOOLCHAIN: "local", GOVCS: "*:off", GOFLAGS: "-mod=mod", GOTELEMETRY: "off" },
    });
  });

  test.each(["nonsense", "sum.golang.org ftp://x", "a+b c d", "sum.golang.org https://u:p@x.example"])(
    "GOSUMDB=%s is refused",
    (value) => {
      expect(() => config({ GOSUMDB: value })).toThrow("GOSUMDB can't be used");
    },
  );
  test("GOSUMDB=off", () => expect(config({ GOSUMDB: "off" }).sumdb).toBeNull());
});

describe("the checksum database of sum.golang.org, as recorded from proxy.golang.org on 2026-11-30", () => {
  const MODULE = "github.com/rogpeppe/go-internal";
  const read = (path: string) => {
    try {
      return Promise.resolve(readFileSync(join(FIXTURES, "sumdb", path)));
    } catch {
      return Promise.resolve(null);
    }
  };
  /** The database where one file has one bit changed. */
  const changed = (name: string, at: number) =>
    new GoSumdb(SUM_GOLANG_ORG, async (path) => {
      const bytes = await read(path);
      return bytes === null || !path.startsWith(name)
        ? bytes
        : Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 1 : byte));
    });

  test("knows two modules, in two trees of one history", async () => {
    const db = new GoSumdb(SUM_GOLANG_ORG, read);
    const sums = await db.sums(MODULE, "v1.12.0");
    expect(sums.mod).toBe(goModHash(readFileSync(join(FIXTURES, "go-internal-v1.12.0.mod"))));
    expect(sums.zip).toBe("h1:exVL4IDcn6na9z1rAb56Vxr+CgyK3nn3O+epU5NdKM8=");
    const other = await db.sums("github.com/BurntSushi/toml", "v1.3.2");
    expect([sums.treeSize, other.treeSize]).toEqual([66_332_798, 66_398_721]);
  });

  test.each([
    ["the record's hash", "lookup/", 70, /not in the tree/],
    ["the record's number", "lookup/", 7, /not in the tree/],
    ["the tree's root", "lookup/", 245, /signature by sum.golang.org is wrong/],
    ["a tile of leaves", "tile/8/0/x082", 40, /not in the tree/],
    ["a tile at the top", "tile/8/3", 3, /not in the tree/],
  ])("one bit of %s: refused", async (_, name, at, message) => {
    await expect(changed(name, at).sums(MODULE, "v1.12.0")).rejects.toThrow(message);
  });

  test("another key: refused", async () => {
    const key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    await expect(new GoSumdb(key, read).sums(MODULE, "v1.12.0")).rejects.toThrow("none of the known keys");
  });

  test("the record of another module: refused", async () => {
    const db = new GoSumdb(SUM_GOLANG_ORG, (path) => read(path.replace("v9.9.9", "v1.12.0")));
    await expect(db.sums(MODULE, "v9.9.9")).rejects.toThrow("its record is of something else");
  });

  test("no record", async () => {
    await expect(new GoSumdb(SUM_GOLANG_ORG, read).sums("example.com/none", "v1.0.0")).rejects.toThrow(
      "has no example.com/none",
    );
  });
});

test("two trees that contradict each other: refused", async () => {
  const [one, two] = [MODULES.slice(0, 2), MODULES.slice(1, 3)].map((modules) =>
    fakeProxy(modules, DATABASE),
  );
  const read = async (path: string) => {
    const from = path.startsWith("lookup/lib.example") ? two : one;
    const answer = from?.answers[`${PROXY}/sumdb/sum.example/${path}`];
    return typeof answer === "string" ? Buffer.from(answer) : answer instanceof Uint8Array ? answer : null;
  };
  const db = new GoSumdb(one?.key ?? "", read);
  await db.sums("tool.example/t", "v1.0.0");
  await expect(db.sums("lib.example/Deep", "v0.3.0")).rejects.toThrow("contradict each other");
});

describe("lookups that were answered at different times", () => {
  const bytesOf = (answer: RegistryAnswer | undefined) =>
    typeof answer === "string" ? Buffer.from(answer) : answer instanceof Uint8Array ? answer : null;
  const worldOf = (modules: readonly FakeModule[]) => {
    const { answers, key } = fakeProxy(modules, DATABASE);
    const read = (path: string) => bytesOf(answers[`${PROXY}/sumdb/sum.example/${path}`]);
    const [, note = ""] =
      /\n(go\.sum database tree\n[\s\S]+)$/.exec(String(read(lookupOf(modules[0])))) ?? [];
    return { key, read, latest: Buffer.from(note) };
  };
  const lookupOf = (one: FakeModule | undefined) => `lookup/${escapeGo(one?.path ?? "")}@${one?.version}`;
  const [first, second, third] = [1, 2, 3].map((size) => worldOf(MODULES.slice(0, size)));
  const forked = worldOf(MODULES.toReversed());

  /** Sums of the first two modules, from trees of one and of two leaves. */
  async function sums(latest: Uint8Array | null, tiles = third) {
    const asked: string[] = [];
    const db = new GoSumdb(first?.key ?? "", async (path) => {
      asked.push(path);
      if (path === "latest") return latest;
      const from = path === lookupOf(MODULES[0]) ? first : path === lookupOf(MODULES[1]) ? second : tiles;
      return from?.read(path) ?? second?.read(path) ?? first?.read(path) ?? null;
    });
    const found = await Promise.all(MODULES.slice(0, 2).map(({ path, version }) => db.sums(path, version)));
    return {
      sizes: found.map(({ treeSize }) => treeSize),
      tiles: asked.filter((path) => path.startsWith("tile")),
    };
  }

  test("are checked against the tree of now, whose tiles alone are read", async () => {
    expect(await sums(third?.latest ?? null)).toEqual({ sizes: [1, 2], tiles: ["tile/8/0/000.p/3"] });
  });

  test("a tree of now that contradicts them: refused", async () => {
    await expect(sums(forked.latest, forked)).rejects.toThrow("contradict each other");
  });

  test("a tree of now that is older than they are is extended by them", async () => {
    expect((await sums(first?.latest ?? null)).sizes).toEqual([1, 2]);
  });

  test.each([
    ["nothing", null],
    ["a page", Buffer.from("<html>")],
    ["another tree, unsigned", Buffer.from("go.sum database tree\n1\n")],
  ] as const)("%s in its place: they are checked against each other", async (_, latest) =>
    expect((await sums(latest)).sizes).toEqual([1, 2]),
  );
});

test("hashes of directories, as golang.org/x/mod/sumdb/dirhash has them", () => {
  // TestHash1 of hash_test.go: the list is sorted by name, two spaces between.
  const files = ["xyz", "abc"].map((path) => ({ path, data: Buffer.from(`data for ${path}`) }));
  expect(dirHash(files)).toBe(dirHash(files.toReversed()));
  expect(dirHash(files)).toBe("h1:EP6WfDoQTSk9klnxcjriWJOGztueJUywHNmWeq+efB8=");
});

test("capital letters are escaped, and come back", () => {
  expect(escapeGo("github.com/BurntSushi/toml")).toBe("github.com/!burnt!sushi/toml");
  expect(unescapeGo(escapeGo("github.com/BurntSushi/toml"))).toBe("github.com/BurntSushi/toml");
});

const BUILD = { architecture: "amd64", release: null };

describe("imports", () => {
  test.each([
    ['package a\nimport "x.example/b"\n', ["x.example/b"]],
    [
      '// import "no"\n/* package b */ package a; import ("x.example/b"; . "x.example/c"; _ `x.example/d`)\nimport e "e"',
      ["x.example/b", "x.example/c", "x.example/d", "e"],
    ],
    ['package a\nimport "C"\nimport "b.example/x"\nvar s = "import \\"no\\""', ["C", "b.example/x"]],
    ['package a\nfunc f() {}\nimport "late.example/x"', []],
    ["package a", []],
    ["", []],
    ["\u0000\ufffd", []],
  ])("%j", (text, imports) => expect(readGoHead(text).imports).toEqual(imports));

  const files = (named: Record<string, string>) =>
    Object.entries(named).map(([name, text]) => ({ name, data: Buffer.from(text) }));
  const imported = (name: string, constraint = "") => {
    const text = `${constraint}package a\nimport "x.example/y"\n`;
    return readGoPackage(files({ "a.go": "package a", [name]: text }), BUILD)?.imports.length === 1;
  };
  test.each([
    ["b.go", "", true],
    ["b_linux.go", "", true],
    ["b_amd64.go", "", true],
    ["b_linux_amd64.go", "", true],
    ["b_windows.go", "", false],
    ["b_arm64.go", "", false],
    ["b_darwin_amd64.go", "", false],
    ["b_test.go", "", false],
    ["_b.go", "", false],
    [".b.go", "", false],
    ["windows.go", "", true],
    ["b.go", "//go:build windows\n\n", false],
    ["b.go", "// Copyright\n\n//go:build !linux\n\n", false],
    ["b.go", "//go:build (linux || windows) && amd64 && !cgo\n\n", true],
    ["b.go", "//go:build linux && (arm64 || !gc)\n\n", false],
    ["b.go", "//go:build go1.18 && !ignore\n\n", true],
    ["b.go", "//go:build !go1.21\n\n", true],
    ["b.go", "//go:build !go1.21 && windows\n\n", false],
    ["b.go", "//go:build !(go1.21 || linux)\n\n", false],
    ["b.go", "//go:build cgo\n\n", false],
    ["b.go", "//go:build linux\r\n\r\n", true],
    ["b.go", "// +build ignore\n\n", false],
    ["b.go", "// +build linux,amd64 windows\n\n", true],
    ["b.go", "// +build linux,!amd64 windows\n\n", false],
    ["b.go", "// +build linux\n// +build !amd64\n\n", false],
    ["b.go", "// +build windows\n//go:build linux\n\n", true],
    ["b.go", "//go:build ignore\n\n", false],
  ])("%s with %j is part of the build: %p", (name, constraint, expected) => {
    expect(imported(name, constraint)).toBe(expected);
  });
  test("constraints on a release that is known: certain; otherwise looked at, and not certain", () => {
    const source = (n: number, name: string) =>
      `//go:build go1.${n}\n\npackage a\nimport "x.example/${name}"`;
    const named = files({
      "a.go": source(18, "old"),
      "b.go": source(21, "new"),
      "c.go": source(99, "future"),
    });
    const read = (release: number | null) => {
      const found = readGoPackage(named, { architecture: "amd64", release });
      return [found?.imports, found?.certain];
    };
    expect(read(19)).toEqual([["x.example/old"], ["x.example/old"]]);
    expect(read(null)).toEqual([["x.example/future", "x.example/new", "x.example/old"], []]);
  });

  test("no Go file, no package; assembly and objects are told", () => {
    expect(readGoPackage(files({ "README.md": "x", "a_test.go": "package a" }), BUILD)).toBeNull();
    const native = files({ "a.go": 'package a\nimport "C"', "a_amd64.s": "", "b.syso": "", "c_arm64.s": "" });
    expect(readGoPackage(native, BUILD)).toEqual({
      ...{
        imports: ["C"],
        certain: ["C"],
        native: ["a_amd64.s", "b.syso"],
        buildable: false,
        isCommand: false,
      },
    });
  });
});

const MODULES: FakeModule[] = [
  {
    path: "tool.example/t",
    version: "v1.0.0",
    files: {
      "go.mod": "module tool.example/t\n",
      "cmd/t/main.go":
        'package main\nimport ("fmt"; "lib.example/Deep/sub")\nfunc main() { fmt.Println(sub.X) }',
    },
  },
  {
    path: "unused.example/u",
    version: "v1.0.0",
    files: { "go.mod": "module unused.example/u\n", "u.go": "package u" },
  },
  {
    path: "lib.example/Deep",
    version: "v0.3.0",
    files: { "go.mod": "module lib.example/Deep\n", "sub/s.go": "package sub\nconst X = 1" },
  },
];
const DATABASE = newDatabase("sum.example");

const TARGET = "tool.example/t/cmd/t@v1.0.0";

describe("a plan", () => {
  const world = fakeProxy(MODULES);
  const planOf = (
    over: Record<string, RegistryAnswer> = {},
    env: Record<string, string> = {},
    target = TARGET,
    outcome: "ok" | "missing" | "failed" = "ok",
  ) =>
    makePlan(
      go,
      "get",
      [target],
      goPlanning(MODULES, { ...world, answers: { ...world.answers, ...over } }, env, outcome),
    );
  const lib = `${PROXY}/lib.example/!deep/@v/v0.3.0`;

  test("has every module of the build and no other, each with its hashes, and every go.mod of the graph", async () => {
    const plan = await planOf();
    expect(plan.metadata_available).toBe(true);
    expect(plan.transaction.map((e) => [e.name, e.to_version, e.integrity, e.required_by])).toEqual([
      ["lib.example/Deep", "v0.3.0", expect.stringMatching(/^h1:/), "tool.example/t v1.0.0"],
      ["tool.example/t", "v1.0.0", expect.stringMatching(/^h1:/), undefined],
    ]);
    expect(plan.support_files?.map(({ name }) => name)).toEqual([
      "lib.example/Deep v0.3.0/go.mod",
      "tool.example/t v1.0.0/go.mod",
      "unused.example/u v1.0.0/go.mod",
    ]);
    expect(plan.provenance_evidence.every(({ kind, verified }) => kind === "go-sumdb" && verified)).toBe(
      true,
    );
    expect(plan.risk_signals).toContain("checksum-db-enabled");
    expect(go.signedArgv(plan)).toEqual(["go", "install", TARGET]);
  });

  test("is the same when the log has grown meanwhile", async () => {
    const grown = fakeProxy(
      [...MODULES, { path: "later.example/x", version: "v1.0.0", files: {} }],
      DATABASE,
    );
    const first = fakeProxy(MODULES, DATABASE);
    const [before, after] = await Promise.all(
      [first, grown].map((one) => makePlan(go, "get", [TARGET], goPlanning(MODULES, one))),
    );
    expect(after?.provenance_evidence).toEqual(before?.provenance_evidence ?? []);
    expect(after?.transaction).toEqual(before?.transaction ?? []);
  });

  test("without a version: the newest is named, and can't be signed as it was asked for", async () => {
    const plan = await planOf({}, {}, "tool.example/t/cmd/t");
    expect(plan.exact_targets).toEqual([TARGET]);
    expect(plan.mutable_reference).toBe(true);
    expect(plan.warnings[0]).toContain(`${TARGET} is what latest stands for today`);
  });

  const refusals: [string, Record<string, RegistryAnswer>, RegExp][] = [
    [
      "a zip that was changed",
      {
        [`${lib}.zip`]:
          fakeProxy([{ ...MODULES[2], files: { "sub/s.go": "package sub // evil" } } as FakeModule]).answers[
            `${lib}.zip`
          ] ?? "",
      },
      /zip file of lib.example\/Deep v0.3.0 is not the one/,
    ],
    [
      "a go.mod that was changed",
      { [`${lib}.mod`]: "module lib.example/Deep\nrequire evil.example/x v1.0.0\n" },
      /go.mod of lib.example\/Deep v0.3.0 is not the one/,
    ],
    ["a zip that isn't there", { [`${lib}.zip`]: { status: 404 } }, /no module proxy has the zip file/],
    [
      "a proxy that sends elsewhere",
      { [`${lib}.zip`]: { status: 302, location: "https://evil.example" } },
      /sends elsewhere, which is not followed/,
    ],
    [
      "a zip that is none",
      { [`${lib}.zip`]: "PK" },
      /lib\.example\/Deep v0\.3\.0: the archive can't be used/,
    ],
    [
      "a lookup that fails",
      { [`${world.sumdb}/lookup/lib.example/!deep@v0.3.0`]: { status: 404 } },
      /checksum database has no lib.example\/Deep/,
    ],
    [
      "a database that some other key signs",
      {
        [`${world.sumdb}/lookup/lib.example/!deep@v0.3.0`]:
          fakeProxy(MODULES).answers[`${world.sumdb}/lookup/lib.example/!deep@v0.3.0`] ?? "",
      },
      /none of the known keys/,
    ],
  ];
  test.each(refusals)("%s: nothing is known, and the reason is said", async (_, over, why) => {
    const plan = await planOf(over);
    expect(plan.metadata_available).toBe(false);
    expect(plan.transaction).toEqual([]);
    expect(plan.warnings.join("\n")).toMatch(why);
    expect(() => go.signedArgv(plan)).toThrow("no exact Go version");
  });

  test.each([
    ["GOSUMDB", "off", "gosumdb-disabled"],
    ["GONOSUMDB", "lib.example", "private-module-bypass"],
    ["GOPRIVATE", "*.example/Deep", "private-module-bypass", { GONOPROXY: "none" }],
  ] as [string, string, string, Record<string, string>?][])(
    "%s=%s: planned, unverified, and said",
    async (key, value, signal, more = {}) => {
      const plan = await planOf({}, { [key]: value, ...more });
      expect(plan.risk_signals).toContain(signal as never);
      expect(plan.risk_signals).not.toContain("checksum-db-enabled");
      expect(
        plan.provenance_evidence.find(({ subject }) => subject === "lib.example/Deep@v0.3.0")?.verified,
      ).toBe(false);
    },
  );

  test.each([
    ["missing", /go is not installed/],
    ["failed", /module lookup disabled/],
  ] as const)("go is %s", async (outcome, why) => {
    const plan = await planOf({}, {}, TARGET, outcome);
    expect(plan.metadata_available).toBe(false);
    expect(plan.warnings.join("\n")).toMatch(why);
    expect(plan.raw_evidence.commands.map(({ argv }) => argv.slice(0, 2))).toEqual([
      ["go", "env"],
      ["go", "list"],
    ]);
  });

  test("a module without this package, and one that no proxy has", async () => {
    await expect(planOf({}, {}, "tool.example/t/cmd/none@v1.0.0")).rejects.toThrow("has no package");
    await expect(planOf({}, {}, "none.example/x@v1.0.0")).rejects.toThrow(AegisError);
  });

  test("GOPROXY=direct: version control is never used", async () => {
    const plan = await planOf({}, { GOPROXY: "direct" });
    expect(plan.warnings.join()).toContain("version control is never used");
  });
});
