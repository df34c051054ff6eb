import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { RiskSignal } from "../src/doc-signals.ts";
import { AegisError } from "../src/errors.ts";
import { npm } from "../src/npm.ts";
import { parseNpmTargets, splitNpmTarget } from "../src/npm-target.ts";
import { NO_SOURCE } from "../src/osv-source.ts";
import { makePlan } from "../src/plan.ts";
import { type FakePackage, fakeNpm, npmPlanning, REGISTRY, sha512, tarballOf } from "./npm-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

const REFUSED = [
  "",
  "-g",
  "--registry=http://evil",
  "lodash --registry=x",
  "lodash\n",
  "lodash;id",
  "$(id)",
  "`id`",
  "a|b",
  "a>b",
  "a*",
  "lodash@>=1",
  "lodash@1 || 2",
  "lodash@",
  "@",
  "@scope",
  "Lodash",
  "_private",
  "node_modules",
  "favicon.ico",
  "a".repeat(215),
  "x".repeat(600),
  "na\u0000me",
  "na\u202eme",
  "naïve",
  "lodash@1.2.3?x=y",
  "lodash@1.2.3#x",
  "lodash@@1",
  "a%2fb",
  "@scope/-x",
  "@-scope/x",
];

const DENIED: [string, RiskSignal][] = [
  ["https://example.com/x.tgz", "url-denied"],
  ["http://example.com/x", "url-denied"],
  ["ftp://example.com/x.tgz", "url-denied"],
  ["x@https://example.com/x.tgz", "direct-url-denied"],
  ["@a/x@https://example.com/x.tgz", "direct-url-denied"],
  ["x@npm:lodash@4.17.21", "direct-url-denied"],
  ["npm:lodash@4.17.21", "url-denied"],
  ["git+https://github.com/a/b.git", "git-source-denied"],
  ["git+ssh://git@github.com/a/b.git", "git-source-denied"],
  ["git://github.com/a/b.git#main", "git-source-denied"],
  ["https://github.com/a/b.git", "git-source-denied"],
  ["git@github.com:a/b.git", "git-source-denied"],
  ["ssh://git@github.com/a/b", "git-source-denied"],
  ["github:a/b", "git-source-denied"],
  ["gitlab:a/b", "git-source-denied"],
  ["bitbucket:a/b", "git-source-denied"],
  ["gist:0123456789", "git-source-denied"],
  ["a/b", "git-source-denied"],
  ["a/b#semver:1", "git-source-denied"],
  ["x@a/b", "git-source-denied"],
  ["x@1.2.3/..", "git-source-denied"],
  ["x@github:a/b", "git-source-denied"],
  ["@s/x@github:a/b", "git-source-denied"],
  ["x@git+https://github.com/a/b.git", "git-source-denied"],
  ["file:../x", "local-path-denied"],
  ["x@file:../x", "local-path-denied"],
  ["@s/x@file:x.tgz", "local-path-denied"],
  ["x@./y", "local-path-denied"],
  [".", "local-path-denied"],
  ["..", "local-path-denied"],
  ["./x", "local-path-denied"],
  ["../x", "local-path-denied"],
  ["/opt/x", "local-path-denied"],
  ["~/x", "local-path-denied"],
  ["x.tgz", "local-path-denied"],
  ["x-1.2.3.tar.gz", "local-path-denied"],
  ["workspace:x", "local-path-denied"],
  // Directories to npm.
  ["@/name", "local-path-denied"],
  ["@scope/", "local-path-denied"],
  [".hidden", "local-path-denied"],
];

const ACCEPTED: [string, { name: string; spec: string | null; exact: boolean }][] = [
  ["lodash", { name: "lodash", spec: null, exact: false }],
  ["left-pad", { name: "left-pad", spec: null, exact: false }],
  ["@types/node", { name: "@types/node", spec: null, exact: false }],
  ["lodash@4.17.21", { name: "lodash", spec: "4.17.21", exact: true }],
  ["@types/node@22.0.0", { name: "@types/node", spec: "22.0.0", exact: true }],
  ["x@1.0.0-rc.1", { name: "x", spec: "1.0.0-rc.1", exact: true }],
  ["x@1.0.0-rc.1+build.5", { name: "x", spec: "1.0.0-rc.1+build.5", exact: true }],
  ["x@01.0.0", { name: "x", spec: "01.0.0", exact: false }],
  ["x@1", { name: "x", spec: "1", exact: false }],
  ["x@1.x", { name: "x", spec: "1.x", exact: false }],
  ["x@^1", { name: "x", spec: "^1", exact: false }],
  ["x@~1.2.3", { name: "x", spec: "~1.2.3", exact: false }],
  ["x@latest", { name: "x", spec: "latest", exact: false }],
  ["x@next-11", { name: "x", spec: "next-11", exact: false }],
  ["x@v1.2.3", { name: "x", spec: "v1.2.3", exact: false }],
  ["http", { name: "http", spec: null, exact: false }],
  ["lodash.merge", { name: "lodash.merge", spec: null, exact: false }],
];

describe("targets", () => {
  for (const target of REFUSED) {
    test(`refused: ${JSON.stringify(target.slice(0, 40))}`, () => {
      let thrown: unknown;
      try {
        parseNpmTargets("install", [target]);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(AegisError);
      expect(thrown).toMatchObject({ code: "invalid_target" });
    });
  }
  for (const [target, signal] of DENIED) {
    test(`denied: ${target}`, () => {
      expect(parseNpmTargets("install", [target])).toEqual({
        targets: [target],
        denied: [{ target, signal }],
        targetType: "package",
      });
    });
  }
  for (const [target, parts] of ACCEPTED) {
    test(`accepted: ${target}`, () => {
      expect(parseNpmTargets("install", [target])).toEqual({
        targets: [target],
        denied: [],
        targetType: "package",
      });
      expect(splitNpmTarget(target)).toEqual(parts);
    });
  }
  test("order is kept, duplicates are removed", () => {
    expect(parseNpmTargets("install", ["b", "a", "b", "./x", "./x"])).toMatchObject({
      targets: ["b", "a", "./x"],
      denied: [{ target: "./x" }],
    });
  });
  test("an accepted target can only mean one package from a registry", () => {
    const piece = fc.constantFrom(
      "@",
      "/",
      ":",
      "-",
      ".",
      "_",
      "a",
      "b1",
      "1.2.3",
      "^",
      "~",
      "+",
      "git",
      "file",
      "//",
      " ",
      "\n",
      "$",
    );
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 8 }).map((parts) => parts.join("")),
        (target) => {
          let denied: unknown[];
          try {
            denied = parseNpmTargets("install", [target]).denied;
          } catch (error) {
            expect(error).toBeInstanceOf(AegisError);
            return;
          }
          if (denied.length > 0) return;
          const { name, spec } = splitNpmTarget(target);
          expect(name.length).toBeLessThanOrEqual(214);
          expect(spec === null ? name : `${name}@${spec}`).toBe(target);
          expect(target).toMatch(
            /^(@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*(@[\^~]?[0-9A-Za-z][0-9A-Za-z.+_-]*)?$/,
          );
        },
      ),
      { numRuns: 2000 },
    );
  });
});

const LIB: FakePackage = {
  name: "lib",
  version: "1.2.3",
  manifest: { license: "MIT", bin: { lib: "cli.js" } },
  metadata: { maintainers: [{ name: "a", email: "a@b" }] },
};
const FILE = `${REGISTRY}lib/-/lib-1.2.3.tgz`;

async function planOf(
  one: FakePackage = LIB,
  host: Parameters<typeof npmPlanning>[1] = {},
  over: Record<string, RegistryAnswer> = {},
  target = `${one.name}@${one.version}`,
) {
  const planning = npmPlanning({ ...fakeNpm([one]), ...over }, host);
  return { planning, plan: await makePlan(npm, "install", [target], planning) };
}

describe("a plan", () => {
  test("in whole", async () => {
    const { plan, planning } = await planOf();
    const bytes = tarballOf(LIB);
    expect(plan).toMatchObject({
      exact_targets: ["lib@1.2.3"],
      target_version: "1.2.3",
      source_registry: REGISTRY,
      metadata_available: true,
      mutable_reference: false,
      signature_or_checksum_status: "checksum-verified",
      publisher_or_maintainer: "a <a@b>",
      published_at: "2026-01-02T03:04:05.000Z",
      deprecated: null,
      transitive_dependency_count: 0,
      scripts: [],
      warnings: [`Vulnerabilities: not looked up: ${NO_SOURCE}`],
    });
    expect(plan.transaction).toEqual([
      {
        ...{ name: "lib", architecture: "all", action: "install", from_version: null, to_version: "1.2.3" },
        ...{ origin: "registry.npmjs.org", archive: null, essential: false, source: null },
        ...{ from_source: null, to_source: null, sources: [] },
        sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
        size: bytes.length,
        url: FILE,
        integrity: `sha512-${Buffer.from(sha512(bytes), "hex").toString("base64")}`,
        ...{ purl: "pkg:npm/lib@1.2.3", license: "MIT", published_at: "2026-01-02T03:04:05.000Z" },
      },
    ]);
    expect(plan.provenance_evidence).toMatchObject([
      { kind: "npm-integrity", subject: "lib@1.2.3", verified: true, key: null },
    ]);
    expect(plan.command_preview).toEqual([
      ...["npm", "install", "--global", "--prefix", "/var/lib/aegis/npm-global"],
      ...["--ignore-scripts", "--no-audit", "--no-fund", "lib@1.2.3"],
    ]);
    expect(planning.ran).toEqual([
      ["node", "--version"],
      ["npm", "view", "lib@1.2.3", "--json"],
    ]);
    expect(npm.signedArgv(plan)).toEqual(plan.command_preview);
  });

  test("without a version: what it means today is named, and can't be signed as it was asked for", async () => {
    const { plan } = await planOf(LIB, {}, {}, "lib");
    expect(plan).toMatchObject({ exact_targets: ["lib@1.2.3"], mutable_reference: true });
    expect(plan.warnings[0]).toBe("lib@1.2.3 is what this means today; name the version to keep it.");
  });

  test("twice the same, except for its id", async () => {
    const [a, b] = [await planOf(), await planOf()];
    expect({ ...a.plan, plan_id: "" }).toEqual({ ...b.plan, plan_id: "" });
  });

  const at = (tarball: string): FakePackage => ({ ...LIB, dist: { tarball } });
  const REFUSALS: [string, FakePackage, Record<string, RegistryAnswer>, RegExp][] = [
    [
      "another file than the metadata says",
      LIB,
      { [FILE]: tarballOf({ ...LIB, files: { x: "evil" } }) },
      /lib 1.2.3: another file/,
    ],
    ["no file", LIB, { [FILE]: { status: 404 } }, /status 404/],
    ["another host", at("https://evil.example/lib.tgz"), {}, /at https:\/\/evil.example, which is not its/],
    ["plain HTTP", at(FILE.replace("https", "http")), {}, /at http:\/\/registry.npmjs.org, which is not/],
    ["another port", at("https://registry.npmjs.org:8443/lib.tgz"), {}, /:8443, which is not its registry/],
    ["a password", at("https://u:p@registry.npmjs.org/lib.tgz"), {}, /which is not its registry/],
    ["no address", at("lib.tgz"), {}, /no address of a package file/],
  ];
  test.each(REFUSALS)("%s: nothing is known, and the reason is said", async (_, one, over, why) => {
    const { plan } = await planOf(one, {}, over);
    expect(plan.metadata_available).toBe(false);
    expect(plan.transaction).toEqual([]);
    expect(plan.warnings.join("\n")).toMatch(why);
    expect(() => npm.signedArgv(plan)).toThrow("no exact npm version");
  });

  test("only a SHA-1: planned, unverified, and said", async () => {
    const shasum = new Bun.CryptoHasher("sha1").update(tarballOf(LIB)).digest("hex");
    const { plan } = await planOf({ ...LIB, dist: { integrity: undefined, shasum } });
    expect(plan.signature_or_checksum_status).toBe("unverified");
    expect(plan.provenance_evidence).toMatchObject([{ kind: "npm-integrity", verified: false }]);
    expect(plan.warnings.join()).toContain("only a SHA-1, which can be forged");
    expect(plan.transaction[0]?.integrity).toStartWith("sha1-");
  });

  const answer = (version: string, dist: object) => JSON.stringify({ name: "lib", version, dist });
  const VIEWS: [string, Parameters<typeof npmPlanning>[1], RegExp | null][] = [
    ["nonsense", { npm: { stdout: "npm notice" } }, /npm's answer is not JSON/],
    ["no metadata", { npm: { stdout: "[1]" } }, /not package metadata/],
    ["another version", { npm: { stdout: answer("1.0.0", {}) } }, /has no lib@1.2.3/],
    [
      "another hash",
      { npm: { stdout: answer("1.2.3", { integrity: `sha512-${"A".repeat(86)}==` }) } },
      /npm sees another hash/,
    ],
    ["npm is missing: a warning", { npm: { outcome: "missing" } }, null],
  ];
  test.each(VIEWS)("npm view: %s", async (_, host, why) => {
    const { plan } = await planOf(LIB, host);
    expect(plan.metadata_available).toBe(why === null);
    expect(plan.warnings.join()).toMatch(why ?? /npm is not installed/);
  });

  test("a command that the system has is said", async () => {
    const { plan } = await planOf(LIB, { lists: { "/usr/bin": ["ls", "lib"] } });
    expect(plan.warnings[0]).toBe("lib brings a command that this system has: /usr/bin/lib.");
  });

  test("deprecated, and no time of publication", async () => {
    const { plan } = await planOf({ ...LIB, time: null, metadata: { deprecated: "use y" } });
    expect(plan).toMatchObject({ deprecated: "use y", published_at: null });
    expect(plan.warnings.slice(0, 2)).toEqual([
      "lib@1.2.3 is deprecated: use y",
      "lib@1.2.3: the registry does not tell when it was published.",
    ]);
  });
});

describe("a registry of one's own", () => {
  const OWN = "https://npm.example/own/";
  const env = { NPM_CONFIG_REGISTRY: OWN, NPM_TOKEN: "s3cret" };
  const files = { "/home/u/.npmrc": `//npm.example/own/:_authToken=\${NPM_TOKEN}\n` };
  const planThere = async (dist: Record<string, unknown> = {}) => {
    const planning = npmPlanning(fakeNpm([{ ...LIB, dist }], OWN), { env, files });
    return { planning, plan: await makePlan(npm, "install", ["lib@1.2.3"], planning) };
  };
  const THERE = { tarball: `${OWN}lib/-/lib-1.2.3.tgz` };
  test("gets the credentials; npm, the plan and its messages don't", async () => {
    const { plan, planning } = await planThere(THERE);
    expect(plan.metadata_available).toBe(true);
    const sent = planning.requests.map(({ headers }) => headers["authorization"]);
    expect(sent).toEqual(["Bearer s3cret", "Bearer s3cret"]);
    expect(planning.ran).toEqual([["node", "--version"]]);
    expect(plan.warnings[0]).toBe("npm was not asked about lib@1.2.3: its registry wants a login.");
    expect(JSON.stringify(plan)).not.toContain("s3cret");
  });
  test("takes the place of the public one in addresses, as npm does", async () => {
    const { plan } = await planThere({ tarball: FILE });
    expect(plan.transaction[0]?.url).toBe(THERE.tarball);
  });
  test("its credentials never go to another host, nor into a message about it", async () => {
    const { plan, planning } = await planThere({ tarball: "https://evil.example/lib.tgz" });
    expect(plan.warnings.join()).toContain("which is not its registry https://npm.example");
    expect(planning.requests.every(({ url }) => url.startsWith(OWN))).toBe(true);
    expect(JSON.stringify(plan)).not.toContain("s3cret");
  });
});

describe("signed argv", () => {
  test("exact versions only", () => {
    const plan = (exact_targets: string[]) => ({ exact_targets }) as OperationPlan;
    for (const targets of [[], ["lodash"], ["lodash@latest"], ["lodash@^1"], ["lodash@1.0.0", "chalk"]]) {
      expect(() => npm.signedArgv(plan(targets))).toThrow("no exact npm version");
    }
    expect(() => npm.signedArgv(plan(["--global"]))).toThrow("can't be an npm package");
    expect(npm.signedArgv(plan(["lodash@4.17.20"])).slice(-2)).toEqual(["--no-fund", "lodash@4.17.20"]);
  });
});
