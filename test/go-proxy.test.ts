import { describe, expect, test } from "bun:test";
import { go } from "../src/go.ts";
import { makePlan } from "../src/plan.ts";
import { type FakeModule, fakeProxy, goPlanning, newDatabase, PROXY } from "./go-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

/* Which module and version a package is found in, and from which proxy, by whose rules. */

const module = (
  path: string,
  version: string,
  goMod = "",
  files: Record<string, string> = { "cmd/t/main.go": "package main" },
): FakeModule => ({ path, version, files: { "go.mod": `module ${path}\n${goMod}`, ...files } });

const TOOL = module("tool.example/t", "v1.0.0");
const TARGET = "tool.example/t/cmd/t@v1.0.0";

function world(modules: FakeModule[], over: Record<string, RegistryAnswer> = {}) {
  const proxy = fakeProxy(modules, newDatabase("sum.example"));
  return { ...proxy, answers: { ...proxy.answers, ...over } };
}

async function planned(
  target: string,
  modules: FakeModule[],
  {
    over = {},
    env = {},
    graph = modules,
  }: { over?: Record<string, RegistryAnswer>; env?: Record<string, string>; graph?: FakeModule[] } = {},
) {
  const planning = goPlanning(graph, world(modules, over), env);
  return { planning, plan: await makePlan(go, "install", [target], planning) };
}

const reasons = async (...args: Parameters<typeof planned>) => {
  const { plan } = await planned(...args);
  expect([plan.metadata_available, plan.transaction]).toEqual([false, []]);
  return plan.warnings.join("\n");
};

describe("the module that has a package", () => {
  const inner = module("tool.example/t/cmd", "v1.0.0", "", { "other/main.go": "package main" });

  test("is the longest path that has Go files there, not the longest that is a module", async () => {
    const { plan } = await planned(TARGET, [TOOL, inner], { graph: [TOOL] });
    expect(plan.transaction.map(({ name }) => name)).toEqual(["tool.example/t"]);
  });

  test("a longer one from which the package was taken away is not passed over: it is another than the database knows", async () => {
    const whole = module("tool.example/t/cmd", "v1.0.0", "", { "t/main.go": "package main" });
    const emptied = fakeProxy([inner]).answers[`${PROXY}/tool.example/t/cmd/@v/v1.0.0.zip`] ?? "";
    const over = { [`${PROXY}/tool.example/t/cmd/@v/v1.0.0.zip`]: emptied };
    expect(await reasons(TARGET, [TOOL, whole], { over, graph: [TOOL] })).toContain(
      "the zip file of tool.example/t/cmd v1.0.0 is not the one",
    );
  });

  test("in none of them", async () => {
    await expect(planned("tool.example/t/cmd/x@v1.0.0", [TOOL, inner])).rejects.toThrow(
      "tool.example/t/cmd v1.0.0 and tool.example/t v1.0.0 has no package",
    );
  });

  test("what a proxy says of shorter paths doesn't matter; of longer ones it does", async () => {
    const info = (path: string) => `${PROXY}/${path}/@v/v1.0.0.info`;
    const forbidden = { status: 403 };
    await planned(TARGET, [TOOL], { over: { [info("tool.example")]: forbidden } });
    const refused = planned(TARGET, [TOOL], { over: { [info("tool.example/t/cmd")]: forbidden } });
    await expect(refused).rejects.toThrow(
      "answers 403 (if it wants credentials: they are taken from GOPROXY",
    );
  });

  test("an .info of another version is not the one asked for", async () => {
    const over = { [`${PROXY}/tool.example/t/@v/v1.0.0.info`]: JSON.stringify({ Version: "v0.9.0" }) };
    await expect(planned(TARGET, [TOOL], { over })).rejects.toThrow("no module proxy has");
  });
});

describe("no answer is waited for without need", () => {
  const info = (path: string) => `${PROXY}/${path}/@v/v1.0.0.info`;
  /** A world in which the answer about this address comes once `until` has come true, or never. */
  function slow(address: string, modules: FakeModule[], until: (ran: readonly string[][]) => boolean) {
    const planning = goPlanning(modules.slice(0, 1), world(modules));
    const get: typeof planning.get = async (url, request) => {
      while (url.href === address && !until(planning.ran)) await Bun.sleep(1);
      return planning.get(url, request);
    };
    return { ...planning, get };
  }
  const isListed = (ran: readonly string[][]) => ran.some(([, verb]) => verb === "list");

  test("about a shorter path: never", async () => {
    let isDone = false;
    const plan = await makePlan(
      go,
      "install",
      [TARGET],
      slow(info("tool.example"), [TOOL], () => isDone),
    );
    isDone = true;
    expect(plan.transaction.map(({ name }) => name)).toEqual(["tool.example/t"]);
  });

  test("about a longer one: the graph is made meanwhile", async () => {
    const plan = await makePlan(
      go,
      "install",
      [TARGET],
      slow(info("tool.example/t/cmd/t"), [TOOL], isListed),
    );
    expect(plan.transaction.map(({ name }) => name)).toEqual(["tool.example/t"]);
  });

  test("a longer one that turns out to have the package is planned, and every command is told", async () => {
    const own = module("tool.example/t/cmd/t", "v1.0.0", "", { "main.go": "package main" });
    const planning = slow(info("tool.example/t/cmd/t"), [own, TOOL], isListed);
    const plan = await makePlan(go, "install", [TARGET], planning);
    expect(plan.transaction.map(({ name }) => name)).toEqual(["tool.example/t/cmd/t"]);
    expect(plan.raw_evidence.commands.map(({ argv }) => argv[1])).toEqual(["env", "list", "list"]);
  });
});

describe("a version that is no exact one", () => {
  const all = ["v1.0.0", "v1.1.0", "v1.2.0-rc.1", "v2.0.0+incompatible"].map((version) =>
    module("tool.example/t", version),
  );
  const base = `${PROXY}/tool.example/t`;
  const branch = "v1.1.1-0.20260707140218-77df88e508fa";

  test.each([
    ["", "v1.1.0"],
    ["@latest", "v1.1.0"],
    ["@v1.0", "v1.0.0"],
    ["@v1", "v1.1.0"],
    ["@v2", "v2.0.0+incompatible"],
    ["@main", branch],
  ])("%j is %s", async (query, version) => {
    const named = module("tool.example/t", version);
    const over = { [`${base}/@v/main.info`]: JSON.stringify({ Version: branch }) };
    const modules = all.some((one) => one.version === version) ? all : [...all, named];
    const { plan } = await planned(`tool.example/t/cmd/t${query}`, modules, { over, graph: [named] });
    expect(plan.exact_targets).toEqual([`tool.example/t/cmd/t@${version}`]);
    expect(plan.mutable_reference).toBe(true);
    expect(plan.warnings[0]).toContain(`tool.example/t/cmd/t@${version} is what`);
  });

  test("a retracted version is passed over; one without tags is the proxy's latest", async () => {
    const retracting = module("tool.example/t", "v1.1.0", "retract v1.1.0 // Broken.\n");
    const { plan } = await planned("tool.example/t/cmd/t", [TOOL, retracting], { graph: [TOOL] });
    expect(plan.exact_targets).toEqual([TARGET]);
    const pseudo = module("tool.example/t", "v0.0.0-20260707140218-77df88e508fa");
    const over = {
      [`${base}/@v/list`]: "",
      [`${base}/@latest`]: JSON.stringify({ Version: pseudo.version }),
    };
    const { plan: other } = await planned("tool.example/t/cmd/t", [pseudo], { over });
    expect(other.exact_targets).toEqual([`tool.example/t/cmd/t@${pseudo.version}`]);
    expect(other.risk_signals).toContain("pseudo-version-risk");
  });
});

describe("what authors say against a version is told", () => {
  test.each([
    ["retract v1.0.0 // Broken.\n", "tool.example/t v1.0.0 was retracted by its authors: Broken."],
    ["", null],
  ])("%j", async (goMod, advice) => {
    const newer = module("tool.example/t", "v1.1.0", goMod);
    const { plan } = await planned(TARGET, [TOOL, newer], { graph: [TOOL] });
    expect(plan.deprecated).toBe(advice);
  });

  test("deprecated", async () => {
    const newer = { ...TOOL, version: "v1.1.0" };
    newer.files = { ...newer.files, "go.mod": "// Deprecated: use x.\nmodule tool.example/t\n" };
    const { plan } = await planned(TARGET, [TOOL, newer], { graph: [TOOL] });
    expect(plan.deprecated).toBe("tool.example/t is deprecated: use x.");
  });
});

describe("what go install would refuse is refused in planning", () => {
  test("replace and exclude", async () => {
    const replacing = module("tool.example/t", "v1.0.0", "replace a.example => ./a\n");
    expect(await reasons(TARGET, [replacing])).toContain("replace directive (a.example => ./a)");
  });

  test("a library", async () => {
    const library = module("tool.example/t", "v1.0.0", "", { "cmd/t/t.go": "package t" });
    expect(await reasons(TARGET, [library])).toContain("tool.example/t/cmd/t is a library");
  });

  test("a graph that takes another version of the module", async () => {
    const newer = module("tool.example/t", "v1.1.0");
    expect(await reasons(TARGET, [TOOL, newer], { graph: [newer] })).toContain(
      "what it needs asks for tool.example/t v1.1.0, so go install refuses v1.0.0",
    );
  });

  test("imports that no module has, and packages that are nothing without C, are told", async () => {
    const tool = module("tool.example/t", "v1.0.0", "", {
      "cmd/t/main.go": 'package main\nimport ("none.example/x"; "tool.example/t/c")',
      "c/c.go": 'package c\nimport "C"',
    });
    const { plan } = await planned(TARGET, [tool]);
    expect(plan.warnings.slice(0, 3)).toEqual([
      "tool.example/t has packages that use C; they are built without it.",
      "tool.example/t/c has nothing but files that use C: go install may fail without them.",
      "No module has none.example/x (needed by tool.example/t/cmd/t): go install may fail.",
    ]);
  });
});

describe("modules that the go command looks into, and takes nothing from", () => {
  const tool = module("tool.example/t", "v1.0.0", "", {
    "cmd/t/main.go": 'package main\nimport "lib.example/a/b"',
  });
  const outer = module("lib.example/a", "v1.0.0", "", { "other/x.go": "package other" });
  const inner = module("lib.example/a/b", "v1.0.0", "", { "b.go": "package b" });

  test("are support files, beside every go.mod", async () => {
    const { plan } = await planned(TARGET, [tool, outer, inner]);
    expect(plan.transaction.map(({ name }) => name)).toEqual(["lib.example/a/b", "tool.example/t"]);
    expect(plan.support_files?.map(({ name }) => name)).toEqual([
      "lib.example/a v1.0.0/go.mod",
      "lib.example/a v1.0.0/zip",
      "lib.example/a/b v1.0.0/go.mod",
      "tool.example/t v1.0.0/go.mod",
    ]);
    expect(plan.provenance_evidence.every(({ verified }) => verified)).toBe(true);
  });

  test("if nothing vouches for one of them, it doesn't for what was chosen with it", async () => {
    const { plan } = await planned(TARGET, [tool, outer, inner], { env: { GONOSUMDB: "lib.example/*" } });
    expect(plan.provenance_evidence.map(({ verified }) => verified)).toEqual([false, false, false]);
    const { plan: other } = await planned(TARGET, [tool, inner, module("unused.example/u", "v1.0.0")], {
      env: { GONOSUMDB: "unused.example/u" },
    });
    expect(
      other.provenance_evidence.map(({ verified, detail }) => [verified, detail.split(", ")[1]]),
    ).toEqual([
      [false, "chosen with modules that nothing vouches for"],
      [false, "chosen with modules that nothing vouches for"],
    ]);
    expect(other.signature_or_checksum_status).toBe("unverified");
  });
});

describe("proxies", () => {
  const SECOND = "https://second.example";
  const second = Object.fromEntries(
    Object.entries(world([TOOL]).answers).map(([url, answer]) => [url.replace(PROXY, SECOND), answer]),
  );
  const failing = Object.fromEntries(
    Object.keys(world([TOOL]).answers)
      .filter((url) => url.includes("/@v/"))
      .map((url) => [url, { status: 500 }]),
  );

  test("a failing one: the next is asked after a bar, and not after a comma", async () => {
    const over = { ...second, ...failing };
    const { plan } = await planned(TARGET, [TOOL], { over, env: { GOPROXY: `${PROXY}|${SECOND}` } });
    expect(plan.transaction[0]?.url).toBe(`${SECOND}/tool.example/t/@v/v1.0.0.zip`);
    await expect(planned(TARGET, [TOOL], { over, env: { GOPROXY: `${PROXY},${SECOND}` } })).rejects.toThrow(
      "proxy.example answers 500",
    );
  });

  test("the go command asks planning's relay: credentials are sent with every request, and shown nowhere", async () => {
    const { planning, plan } = await planned(TARGET, [TOOL], {
      env: { GOPROXY: PROXY.replace("//", "//me:s3cret@") },
    });
    const authorization = `Basic ${btoa("me:s3cret")}`;
    const ofModules = planning.requests.filter(({ url }) => url.includes("/@v/"));
    expect(ofModules.map(({ headers }) => headers.authorization)).toEqual(ofModules.map(() => authorization));
    expect(planning.given.at(-1)?.variables.GOPROXY).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{48}$/);
    expect(JSON.stringify([plan, planning.ran, planning.given])).not.toMatch(/s3cret|bWU6czNjcmV0/);
    const mods = ofModules.filter(({ url }) => url.endsWith(".mod"));
    expect(mods).toHaveLength(1);
  });

  test("private modules: no proxy learns their names", async () => {
    const secret = module("git.corp.example/secret", "v1.0.0");
    const env = { GOPRIVATE: "*.corp.example" };
    expect(await reasons(TARGET, [TOOL, secret], { env })).toContain(
      "a private module, which proxies aren't asked for: GOPRIVATE names it (*.corp.example)",
    );
    const planning = goPlanning([secret], world([secret]), env);
    await expect(makePlan(go, "install", ["git.corp.example/secret/cmd/t@v1.0.0"], planning)).rejects.toThrow(
      "GOPRIVATE names it (*.corp.example), so proxies aren't asked",
    );
    expect(planning.requests.filter(({ url }) => url.includes("secret"))).toEqual([]);
  });
});
