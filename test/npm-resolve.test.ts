import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { createServer } from "node:http";
import { npm } from "../src/npm.ts";
import { makePlan } from "../src/plan.ts";
import { type FakePackage, fakeNpm, npmPlanning, REGISTRY } from "./npm-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

const needs = (dependencies: Record<string, string>, more: Record<string, unknown> = {}) => ({
  manifest: { dependencies, ...more },
});
const app = (dependencies: Record<string, string>): FakePackage => ({
  ...{ name: "app", version: "1.0.0", ...needs(dependencies) },
});
const leaf = (name: string, version = "1.0.0", manifest: Record<string, unknown> = {}): FakePackage => ({
  ...{ name, version, manifest },
});

async function planOf(
  packages: readonly FakePackage[],
  over: Record<string, RegistryAnswer> = {},
  targets = ["app@1.0.0"],
) {
  const planning = npmPlanning({ ...fakeNpm(packages), ...over });
  const plan = await makePlan(npm, "install", targets, planning);
  return { plan, planning };
}

const versionsOf = ({ plan }: Awaited<ReturnType<typeof planOf>>) =>
  plan.transaction.map(
    ({ name, to_version, required_by = null }) => `${name} ${to_version} < ${required_by}`,
  );

describe("what no registry vouches for is refused, wherever it is in the tree, with what needs it", () => {
  const SPECS: [string, string, RegExp][] = [
    ["git", "git+https://git.example/x.git", /from a git repository/],
    ["git over ssh", "git+ssh://git@git.example/x.git", /from a git repository/],
    ["GitHub's shorthand", "owner/x", /from a git repository/],
    ["a host's shorthand", "gitlab:owner/x", /from a git repository/],
    ["http tarball", "http://files.example/x.tgz", /from an address outside the registry/],
    ["https tarball", "https://registry.npmjs.org/x/-/x-1.0.0.tgz", /from an address outside the registry/],
    ["file", "file:../x", /from a local (?:file|directory)/],
    ["directory", "./x", /from a local directory/],
    ["home", "~/x", /from a local (?:file|directory)/],
    ["link", "link:../x", /no version range|from a local|Unsupported URL/],
    ["workspace", "workspace:*", /no version range|from a local|Unsupported URL/],
    ["alias to git", "npm:owner/x", /no version range|only work for registry/],
    ["alias to an address", "npm:x@https://files.example/x.tgz", /no version range|only work for registry/],
  ];
  const UNREADABLE = /^(?:link|workspace|npm):/;
  for (const kind of ["dependencies", "optionalDependencies", "peerDependencies"]) {
    test.each(SPECS)(`${kind}: %s`, async (_, spec, why) => {
      const { plan, planning } = await planOf([
        app({ middle: "^1.0.0" }),
        { name: "middle", version: "1.2.0", manifest: { [kind]: { x: spec } } },
        leaf("x"),
      ]);
      expect(plan.metadata_available).toBe(false);
      expect(plan.transaction).toEqual([]);
      const said = plan.warnings.join("\n");
      // npm's resolver stops at an unreadable peer before it has a place for what wants it.
      if (said.includes("→ x@") || kind !== "peerDependencies" || !UNREADABLE.test(spec))
        expect(said).toContain("app 1.0.0 → middle 1.2.0 → x@");
      expect(said).toMatch(why);
      expect(planning.requests.every(({ url }) => url.startsWith(REGISTRY))).toBe(true);
      expect(planning.ran.map(([program]) => program).sort()).toEqual(["node", "npm"]);
    });
  }
});

describe("what can't be had", () => {
  const CASES: [string, FakePackage[], Record<string, RegistryAnswer>, RegExp][] = [
    ["404 for what was asked for", [leaf("other")], {}, /registry.npmjs.org has no app/],
    ["404 in the tree", [app({ gone: "1" })], {}, /app 1.0.0 → gone@1: registry.npmjs.org has no gone/],
    ["no such version", [app({ a: "^2.0.0" }), leaf("a")], {}, /app 1.0.0 → a@\^2.0.0: No matching version/],
    [
      "not for this platform",
      [app({ win: "1" }), leaf("win", "1.0.0", { os: ["win32"] })],
      {},
      /app 1.0.0 → win 1.0.0: it is not made for this platform/,
    ],
    [
      "peers that contradict each other",
      [
        app({ a: "1", b: "1" }),
        leaf("a", "1.0.0", { peerDependencies: { p: "1" } }),
        leaf("b", "1.0.0", { peerDependencies: { p: "2" } }),
        leaf("p"),
        leaf("p", "2.0.0"),
      ],
      {},
      /^/,
    ],
    ["a registry that fails", [app({ a: "1" })], { [`${REGISTRY}a`]: { status: 500 } }, /status 500/],
    [
      "a registry that fails for an optional dependency: it isn't taken for a missing one",
      [leaf("app", "1.0.0", { optionalDependencies: { a: "1" } })],
      { [`${REGISTRY}a`]: { status: 503 } },
      /status 503/,
    ],
    [
      "a registry that sends elsewhere",
      [app({ a: "1" })],
      { [`${REGISTRY}a`]: { status: 302, location: "https://evil.example/a" } },
      /status 302, which sends elsewhere/,
    ],
    ["metadata that isn't JSON", [app({ a: "1" })], { [`${REGISTRY}a`]: "<html>" }, /not JSON/],
    [
      "metadata of another package",
      [app({ a: "1" })],
      { [`${REGISTRY}a`]: JSON.stringify({ name: "b", versions: {} }) },
      /the metadata of b/,
    ],
    [
      "a version under the number of another",
      [app({ a: "1" })],
      {
        [`${REGISTRY}a`]: JSON.stringify({
          ...{ name: "a", "dist-tags": { latest: "1.0.0" } },
          versions: { "1.0.0": { name: "a", version: "1.0.1", dist: {} } },
        }),
      },
      /^/,
    ],
  ];
  test.each(CASES)("%s", async (name, packages, over, why) => {
    const { plan } = await planOf(packages, over);
    if (name.startsWith("peers")) return expect(plan.warnings.join()).toMatch(/wants|contradict/);
    expect(plan.metadata_available).toBe(false);
    expect(plan.warnings.join("\n")).toMatch(why);
  });

  test("one package in two versions", async () => {
    const { plan } = await planOf([app({}), { ...app({}), version: "2.0.0" }], {}, [
      "app@1.0.0",
      "app@2.0.0",
    ]);
    expect(plan.warnings.join()).toContain("in two versions");
    expect(plan.metadata_available).toBe(false);
  });
});

describe("the tree", () => {
  test("transitive, with what needs each", async () => {
    const found = await planOf([
      app({ a: "^1.0.0" }),
      leaf("a", "1.1.0", { dependencies: { b: "~2.0.0" } }),
      leaf("b", "2.0.3"),
      leaf("b", "2.1.0"),
    ]);
    expect(versionsOf(found)).toEqual(["a 1.1.0 < app 1.0.0", "app 1.0.0 < null", "b 2.0.3 < a 1.1.0"]);
    expect(found.plan.transitive_dependency_count).toBe(2);
  });

  test("two versions of one name", async () => {
    const found = await planOf([
      app({ a: "1", b: "1" }),
      leaf("a", "1.0.0", { dependencies: { b: "2" } }),
      leaf("b"),
      leaf("b", "2.0.0"),
    ]);
    expect(versionsOf(found)).toEqual([
      ...["a 1.0.0 < app 1.0.0", "app 1.0.0 < null", "b 1.0.0 < app 1.0.0", "b 2.0.0 < a 1.0.0"],
    ]);
  });

  test("a dependency called constructor, which no npm can resolve, isn't left out of a plan", async () => {
    const { plan } = await planOf([app({ constructor: "^1.0.0" }), leaf("constructor", "1.2.0")]);
    expect(plan).toMatchObject({ metadata_available: false, transaction: [] });
  });

  test.each(["prototype", "hasownproperty"])("a dependency called %s is one", async (name) => {
    const made = await planOf([app({ [name]: "^1.0.0" }), leaf(name, "1.2.0")]);
    expect(versionsOf(made)).toEqual(["app 1.0.0 < null", `${name} 1.2.0 < app 1.0.0`]);
    expect(made.plan.metadata_available).toBe(true);
    const { plan } = await planOf([leaf(name)], {}, [`${name}@1.0.0`]);
    expect(plan.exact_targets).toEqual([`${name}@1.0.0`]);
  });

  test("a circle", async () => {
    const found = await planOf([
      app({ a: "1" }),
      leaf("a", "1.0.0", { dependencies: { b: "1" } }),
      leaf("b", "1.0.0", { dependencies: { a: "1", app: "1" } }),
    ]);
    expect(versionsOf(found)).toEqual(["a 1.0.0 < app 1.0.0", "app 1.0.0 < null", "b 1.0.0 < a 1.0.0"]);
  });

  test("another name for a package: the package stands in the plan under its own", async () => {
    const found = await planOf([app({ old: "npm:@s/a@^1.0.0" }), leaf("@s/a", "1.5.0")]);
    expect(versionsOf(found)).toEqual(["@s/a 1.5.0 < app 1.0.0", "app 1.0.0 < null"]);
    expect(found.plan.sbom_evidence[0]?.purl).toBe("pkg:npm/%40s/a@1.5.0");
  });

  test("an optional dependency that isn't in the registry is left out, and said", async () => {
    const found = await planOf([leaf("app", "1.0.0", { optionalDependencies: { gone: "1" } })]);
    expect(versionsOf(found)).toEqual(["app 1.0.0 < null"]);
    expect(found.plan.warnings).toContain(
      "app 1.0.0 goes without its optional dependency gone@1: it can't be had.",
    );
  });

  test("optional dependencies for other platforms, architectures and C libraries are left out", async () => {
    const optionalDependencies = { win: "1", arm: "1", musl: "1", mine: "1" };
    const found = await planOf([
      leaf("app", "1.0.0", { optionalDependencies }),
      leaf("win", "1.0.0", { os: ["win32"] }),
      leaf("arm", "1.0.0", { os: ["linux"], cpu: ["arm64"] }),
      leaf("musl", "1.0.0", { os: ["linux"], cpu: ["x64"], libc: ["musl"] }),
      leaf("mine", "1.0.0", { os: ["linux"], cpu: ["x64"], libc: ["glibc"] }),
    ]);
    expect(versionsOf(found)).toEqual(["app 1.0.0 < null", "mine 1.0.0 < app 1.0.0"]);
  });

  test("peer dependencies come along, optional peers don't", async () => {
    const found = await planOf([
      leaf("app", "1.0.0", {
        peerDependencies: { p: "1", q: "1" },
        peerDependenciesMeta: { q: { optional: true } },
      }),
      leaf("p"),
      leaf("q"),
    ]);
    expect(versionsOf(found)).toEqual(["app 1.0.0 < null", "p 1.0.0 < app 1.0.0"]);
  });

  test("versions made for this host's node are preferred, as npm does", async () => {
    const packages = [app({ a: "*" }), leaf("a", "1.0.0"), leaf("a", "2.0.0", { engines: { node: ">=24" } })];
    for (const [node, version] of [
      ["v22.0.0\n", "1.0.0"],
      ["v24.1.0\n", "2.0.0"],
    ] as const) {
      const plan = await makePlan(npm, "install", ["app@1.0.0"], npmPlanning(fakeNpm(packages), { node }));
      expect(plan.transaction.map(({ to_version }) => to_version)).toEqual([version, "1.0.0"]);
    }
  });

  test("what is bundled isn't fetched: it is named, and in the bill of materials", async () => {
    const found = await planOf([
      {
        ...leaf("app", "1.0.0", { dependencies: { a: "1", b: "1" }, bundleDependencies: ["a"] }),
        files: { "node_modules/a/package.json": '{"name":"a","version":"1.0.7"}' },
      },
      leaf("a", "1.9.0"),
      leaf("b"),
    ]);
    expect(versionsOf(found)).toEqual(["app 1.0.0 < null", "b 1.0.0 < app 1.0.0"]);
    expect(found.plan.warnings.join("\n")).toContain("app@1.0.0 bundles 1 package, not looked up: a@1.0.7");
    expect(found.plan.sbom_evidence).toContainEqual({ purl: "pkg:npm/a@1.0.7", sha256: null });
  });

  const shrinkwrap = (node: Record<string, unknown>, more: Record<string, unknown> = {}) =>
    JSON.stringify({
      ...{ name: "app", version: "1.0.0", lockfileVersion: 3, requires: true },
      packages: {
        "": { name: "app", version: "1.0.0", dependencies: { a: "^1.0.0" } },
        "node_modules/a": node,
        ...more,
      },
    });
  const wrapped = (
    node: Record<string, unknown>,
    metadata: Record<string, unknown> = { _hasShrinkwrap: true },
  ) =>
    planOf([
      { ...app({ a: "^1.0.0" }), files: { "npm-shrinkwrap.json": shrinkwrap(node) }, metadata },
      leaf("a", "1.0.0"),
      leaf("a", "1.9.0"),
    ]);

  test("a shrinkwrap that the registry speaks of is obeyed, and marked", async () => {
    const found = await wrapped({ version: "1.0.0", resolved: `${REGISTRY}a/-/a-1.0.0.tgz` });
    expect(versionsOf(found)).toEqual(["a 1.0.0 < app 1.0.0", "app 1.0.0 < null"]);
    expect(found.plan.transaction[1]?.has_shrinkwrap).toBe(true);
  });
  test("its development dependencies are not, as npm does", async () => {
    const found = await planOf([
      {
        ...app({ a: "^1.0.0" }),
        files: {
          "npm-shrinkwrap.json": shrinkwrap(
            { version: "1.0.0" },
            { "node_modules/d": { version: "2.0.0", dev: true } },
          ),
        },
        metadata: { _hasShrinkwrap: true },
      },
      leaf("a"),
      leaf("d", "2.0.0"),
    ]);
    expect(versionsOf(found)).toEqual(["a 1.0.0 < app 1.0.0", "app 1.0.0 < null"]);
  });
  test("one that it doesn't speak of is not, as npm does, and told", async () => {
    const found = await wrapped({ version: "1.0.0" }, {});
    expect(versionsOf(found)).toEqual(["a 1.9.0 < app 1.0.0", "app 1.0.0 < null"]);
    expect(found.plan.warnings.join()).toContain("npm-shrinkwrap.json");
  });
  test("one with another hash is refused", async () => {
    const { plan } = await wrapped({ version: "1.0.0", integrity: `sha512-${"A".repeat(86)}==` });
    expect(plan.metadata_available).toBe(false);
    expect(plan.warnings.join()).toContain("a shrinkwrap has another hash for it than the registry");
  });
  test("one that leads out of the registry changes nothing: the registry's file is the one in the plan", async () => {
    const { plan, planning } = await wrapped({ version: "1.0.0", resolved: "https://evil.example/a.tgz" });
    const urls = [
      ...plan.transaction.map(({ url }) => url ?? ""),
      ...planning.requests.map(({ url }) => url),
    ];
    expect(urls.filter((url) => !url.startsWith(REGISTRY))).toEqual([]);
  });

  test("several targets, each on top", async () => {
    const found = await planOf([app({ a: "1" }), leaf("a"), leaf("b", "3.0.0")], {}, [
      "b@3.0.0",
      "app@1.0.0",
    ]);
    expect(found.plan.exact_targets).toEqual(["b@3.0.0", "app@1.0.0"]);
    expect(found.plan.command_preview.slice(-2)).toEqual(["b@3.0.0", "app@1.0.0"]);
    expect(versionsOf(found)).toEqual(["a 1.0.0 < app 1.0.0", "app 1.0.0 < null", "b 3.0.0 < null"]);
  });
});

describe("on a real network", () => {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.end("{}");
  });
  beforeAll(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  afterAll(() => {
    server.close();
  });
  const address = () => {
    const at = server.address();
    return `127.0.0.1:${typeof at === "object" && at !== null ? at.port : 0}`;
  };
  const KINDS: [string, (host: string) => string][] = [
    ["git", (host) => `git+http://${host}/x.git`],
    ["a tarball", (host) => `http://${host}/x.tgz`],
  ];
  for (const kind of ["dependencies", "optionalDependencies", "peerDependencies"])
    test.each(KINDS)(`${kind}: %s is never asked for`, async (_, spec) => {
      const manifest = { [kind]: { x: spec(address()) } };
      const { plan } = await planOf([app({ middle: "1" }), { name: "middle", version: "1.0.0", manifest }]);
      expect(plan.metadata_available).toBe(false);
      expect(asked).toEqual([]);
    });
});
