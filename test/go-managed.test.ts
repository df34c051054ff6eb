import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { Route, SignedFile, Tree } from "../src/eco-managed.ts";
import { readTree, treeReader } from "../src/eco-stage.ts";
import { go } from "../src/go.ts";
import { goManaged } from "../src/go-managed.ts";
import { makePlan } from "../src/plan.ts";
import { type FakeModule, fakeProxy, goPlanning } from "./go-kit.ts";
import { goProgram } from "./go-program.ts";
import { needs } from "./needs.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const MODULES: FakeModule[] = [
  {
    path: "tool.example/T",
    version: "v1.0.0",
    files: {
      "go.mod": "module tool.example/T\n\ngo 1.17\n\nrequire lib.example/deep v0.3.0\n",
      "cmd/t/main.go": 'package main\nimport "lib.example/deep/sub"\nfunc main() { println(sub.X) }\n',
    },
  },
  {
    path: "lib.example/deep",
    version: "v0.3.0",
    files: { "go.mod": "module lib.example/deep\n\ngo 1.17\n", "sub/s.go": "package sub\n\nconst X = 41\n" },
  },
];
const TARGET = "tool.example/T/cmd/t@v1.0.0";

let plan: OperationPlan;
let files: SignedFile[];
const scratch = temporaryDirectory();
afterAll(() => scratch.remove());

beforeAll(async () => {
  const world = fakeProxy(MODULES);
  plan = await makePlan(go, "install", [TARGET], goPlanning(MODULES, world));
  const fetched = [
    ...plan.transaction.map((one) => ({ ...one, version: one.to_version ?? "", isSupport: false })),
    ...(plan.support_files ?? []).map((one) => ({ ...one, version: "", isSupport: true })),
  ];
  files = fetched.map(({ name, version, isSupport, url = "", integrity = "", sha256, size }, i) => {
    const answer = world.answers[url];
    const bytes = typeof answer === "string" ? Buffer.from(answer) : answer;
    if (!(bytes instanceof Uint8Array)) throw new Error(`no ${url}`);
    const path = join(scratch.path, `file-${i}`);
    writeFileSync(path, bytes);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(sha256 ?? "");
    return { name, version, isSupport, url, integrity, sha256: sha256 ?? "", size: size ?? 0, path };
  });
});

const sumOf = (name: string) => files.find((one) => one.name === name && !one.isSupport)?.integrity ?? "";

describe("the closed registry", () => {
  test("has the signed files, what go asks about them, and nothing else", async () => {
    const routes = await goManaged.routes(files, "http://127.0.0.1:1");
    expect([...routes.keys()].sort()).toEqual([
      "/lib.example/deep/@latest",
      "/lib.example/deep/@v/list",
      "/lib.example/deep/@v/v0.3.0.info",
      "/lib.example/deep/@v/v0.3.0.mod",
      "/lib.example/deep/@v/v0.3.0.zip",
      "/tool.example/!t/@latest",
      "/tool.example/!t/@v/list",
      "/tool.example/!t/@v/v1.0.0.info",
      "/tool.example/!t/@v/v1.0.0.mod",
      "/tool.example/!t/@v/v1.0.0.zip",
    ]);
  });

  test("is all that the go command knows", () => {
    const places = { registry: "http://127.0.0.1:1", home: "/h", scratch: "/s" };
    expect(goManaged.settings(places, []).variables).toMatchObject({
      ...{ GOPROXY: "http://127.0.0.1:1", GOENV: "off", GOTOOLCHAIN: "local", GOVCS: "*:off", GOWORK: "off" },
      ...{ GOFLAGS: "-mod=mod -trimpath", CGO_ENABLED: "0", GOBIN: "/var/lib/aegis/go/bin" },
    });
  });
});

describe("the program that go leaves", () => {
  const tree = (programs: Record<string, Uint8Array>): Tree =>
    new Map(
      Object.entries(programs).map(([path, bytes]) => [
        path,
        { kind: "file", sha256: Bun.hash(bytes).toString(16), size: bytes.length, executable: true },
      ]),
    );
  const lines = (over: Partial<Record<"path" | "mod" | "dep" | "build" | "more", string>> = {}) => [
    over.path ?? "path\ttool.example/T/cmd/t",
    over.mod ?? `mod\ttool.example/T\tv1.0.0\t${sumOf("tool.example/T")}`,
    over.dep ?? `dep\tlib.example/deep\tv0.3.0\t${sumOf("lib.example/deep")}`,
    over.build ?? "build\tCGO_ENABLED=0",
    ...(over.more === undefined ? [] : [over.more]),
  ];
  const differences = async (stage: Record<string, Uint8Array>, before: Record<string, Uint8Array> = {}) => {
    const run = {
      ...{ plan, files, before: tree(before), stage: tree(stage) },
      ...{ read: (path: string) => stage[path] ?? Buffer.of() },
      ...{ readBefore: (path: string) => before[path] ?? Buffer.of() },
    };
    const found = await goManaged.check(run);
    return found.map(({ package: what, expected, found: now }) => `${what}: ${expected}, ${now}`);
  };
  const other = Buffer.from("another program");

  test("beside others, which stay", async () => {
    expect(await differences({ "bin/t": goProgram(lines()), "bin/o": other }, { "bin/o": other })).toEqual(
      [],
    );
    expect(await differences({ "bin/t": goProgram(lines()) }, { "bin/t": other })).toEqual([]);
  });

  test.each([
    ["none", () => ({}), /^bin\/t: a program, null$/],
    ["no program of go's", () => ({ "bin/t": other }), /built by go, another file/],
    [
      "another package",
      () => lines({ path: "path\ttool.example/T/cmd/u" }),
      /: tool\.example\/T\/cmd\/t@v1\.0\.0, tool\.example\/T\/cmd\/u@v1\.0\.0/,
    ],
    [
      "another version",
      () => lines({ mod: `mod\ttool.example/T\tv1.0.1\t${sumOf("tool.example/T")}` }),
      /v1\.0\.1 h1:/,
    ],
    [
      "other bytes of the module",
      () => lines({ mod: "mod\ttool.example/T\tv1.0.0\th1:evil=" }),
      /^bin\/t: h1:.*, tool\.example\/T v1\.0\.0 h1:evil=/,
    ],
    [
      "other bytes of a dependency",
      () => lines({ dep: "dep\tlib.example/deep\tv0.3.0\th1:evil=" }),
      /h1:evil=/,
    ],
    [
      "no hash of a dependency",
      () => lines({ dep: "dep\tlib.example/deep\tv0.3.0" }),
      /lib\.example\/deep v0\.3\.0/,
    ],
    [
      "a dependency that the plan lacks",
      () => lines({ more: "dep\tevil.example/x\tv1.0.0\th1:x=" }),
      /null, evil\.example\/x/,
    ],
    ["a replaced module", () => lines({ more: "=>\t./evil" }), /replaced modules/],
    ["C", () => lines({ build: "build\tCGO_ENABLED=1" }), /built with C/],
  ] as [string, () => string[] | Record<string, Uint8Array>, RegExp][])(
    "%s: refused",
    async (_, made, says) => {
      const stage = made();
      const found = await differences(Array.isArray(stage) ? { "bin/t": goProgram(stage) } : stage);
      expect(found.join("\n")).toMatch(says);
    },
  );

  test("anything else that changed: refused", async () => {
    const t = goProgram(lines());
    expect(await differences({ "bin/t": t, "bin/new": other })).toEqual(["bin/new: null, another file"]);
    expect(await differences({ "bin/t": t }, { "bin/old": other })).toEqual(["bin/old: as before, null"]);
    expect(await differences({ "bin/t": t, "bin/o": t }, { "bin/o": other })).toEqual([
      "bin/o: as before, another file",
    ]);
    expect(await differences({ "bin/t": t, "pkg/sumdb/x": other })).toHaveLength(1);
  });

  test.each([
    ["the same package, older", "tool.example/T/cmd/t", []],
    ["the same in another major version", "tool.example/T/v2/cmd/t", []],
    [
      "another package",
      "good.example/t",
      ["bin/t: the program of good.example/t, which is installed, the one of tool.example/T/cmd/t"],
    ],
  ])("in the place of the program of %s", async (_, path, said) => {
    const before = goProgram([`path\t${path}`, `mod\t${path.replace("/cmd/t", "")}\tv0.9.0\th1:x=`]);
    expect(await differences({ "bin/t": goProgram(lines()) }, { "bin/t": before })).toEqual(said);
  });

  test("what a root holds, by the programs themselves", () => {
    const stage = { "bin/t": goProgram(lines()), "bin/o": other };
    const read = (path: string) => (path === "bin/t" ? stage["bin/t"] : other);
    expect(goManaged.inventory(tree(stage), read)).toEqual({
      "tool.example/T": "v1.0.0",
      "lib.example/deep tool.example/T": "v0.3.0",
    });
    expect(goManaged.executables(tree(stage), read)).toEqual({ t: "bin/t", o: "bin/o" });
  });

  test.each([
    ["tool.example/t/cmd/x@v1.0.0", "x"],
    ["tool.example/yq/v4@v4.0.0", "yq"],
    ["tool.example/yq/v1@v1.0.0", "v1"],
    ["tool.example/yq/v10@v10.0.0", "yq"],
  ])("%s is %s", async (target, name) => {
    const run = { plan: { ...plan, exact_targets: [target] }, files, before: tree({}), stage: tree({}) };
    const found = await goManaged.check({ ...run, read: () => Buffer.of(), readBefore: () => Buffer.of() });
    expect(found[0]?.package).toBe(`bin/${name}`);
  });
});

const GO = Bun.which("go");

describe.skipIf(!needs(GO !== null, "a go command: what it really does with the closed registry"))(
  "the real go",
  () => {
    const asked: string[] = [];
    let tries = 0;
    /** `go install` from a closed registry on loopback, into a directory of the test. */
    async function install(change: (path: string, route: Route) => Uint8Array | null = () => null) {
      const routes = await goManaged.routes(files, "");
      const server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const pathname = decodeURIComponent(new URL(request.url).pathname);
          asked.push(pathname);
          const route = routes.get(pathname);
          if (route === undefined) return new Response(null, { status: 404 });
          const changed = change(pathname, route);
          return new Response(
            changed === null
              ? "file" in route
                ? readFileSync(route.file)
                : route.body
              : Buffer.from(changed),
          );
        },
      });
      const own = join(scratch.path, `try-${++tries}`);
      const root = join(own, "root");
      const home = join(own, "home");
      for (const path of [root, home, join(own, "scratch")]) mkdirSync(path, { recursive: true });
      const places = { registry: `http://127.0.0.1:${server.port}`, home, scratch: join(own, "scratch") };
      const { variables } = goManaged.settings(places, []);
      const env = {
        ...variables,
        HOME: home,
        PATH: dirname(GO ?? ""),
        GOPATH: root,
        GOBIN: join(root, "bin"),
      };
      // One build cache for all: the standard library is compiled once.
      const cache = { GOCACHE: join(scratch.path, "gocache") };
      const child = spawn(GO ?? "", go.signedArgv(plan).slice(1), { cwd: home, env: { ...env, ...cache } });
      const stderr: Buffer[] = [];
      child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
      const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
      await server.stop(true);
      return { status, stderr: Buffer.concat(stderr).toString(), root };
    }

    test("installs what was signed, and the check agrees", async () => {
      const { status, stderr, root } = await install();
      expect([status, stderr.replace(/^go: downloading .*\n/gm, "")]).toEqual([0, ""]);
      const stage = readTree(root, process.getuid?.() ?? 0);
      const read = treeReader(root, stage);
      expect([...stage.keys()]).toEqual(["bin/t"]);
      const run = { plan, files, before: new Map(), stage, read, readBefore: read };
      expect(await goManaged.check(run)).toEqual([]);
      expect(goManaged.inventory(stage, read)).toEqual({
        "tool.example/T": "v1.0.0",
        "lib.example/deep tool.example/T": "v0.3.0",
      });
    }, 600_000);

    test("a file that the registry changes gives a program that is refused", async () => {
      const evil = fakeProxy([
        {
          ...MODULES[1],
          files: { ...MODULES[1]?.files, "sub/s.go": "package sub\n\nconst X = 666\n" },
        } as FakeModule,
      ]);
      const { status, root } = await install((path) => {
        const answer = path.endsWith("deep/@v/v0.3.0.zip")
          ? evil.answers[`https://proxy.example${path}`]
          : null;
        return answer instanceof Uint8Array ? answer : null;
      });
      expect(status).toBe(0);
      const stage = readTree(root, process.getuid?.() ?? 0);
      const read = treeReader(root, stage);
      const found = await goManaged.check({ plan, files, before: new Map(), stage, read, readBefore: read });
      expect(found.map(({ found: now }) => now).join()).toContain("lib.example/deep v0.3.0 h1:");
    }, 600_000);
  },
);
