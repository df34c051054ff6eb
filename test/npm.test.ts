import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { CommandEvidence, OperationPlan } from "../src/doc-plan.ts";
import type { RiskSignal } from "../src/doc-signals.ts";
import type { Findings } from "../src/eco.ts";
import type { Planning } from "../src/eco-planning.ts";
import { AegisError } from "../src/errors.ts";
import { npm } from "../src/npm.ts";
import { npmConfig, npmSettings, registryOf } from "../src/npm-config.ts";
import { publishedAt, readNpmView } from "../src/npm-metadata.ts";
import { parseNpmTargets, splitNpmTarget } from "../src/npm-target.ts";
import { scanScript } from "../src/policy-scripts.ts";
import { HOST } from "./policy-plans.ts";
import { fakeRegistry } from "./registry-kit.ts";

/** The npmrc passed to npm. */
const npmrcOf = (config: ReadonlyMap<string, string>) =>
  npmSettings(config)("/nonexistent").files?.[".npmrc"] ?? "";

const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/npm", name), "utf8");
/** Planning that answers `npm view` from a table; everything else there is empty. */
function planningWith(
  answers: Record<string, { stdout?: string; stderr?: string; outcome?: CommandEvidence["outcome"] }>,
  files: Record<string, string> = {},
): Planning & { asked: string[][] } {
  const asked: string[][] = [];
  return {
    asked,
    now: new Date("2026-11-22T00:00:00Z"),
    env: { HOME: "/home/u" },
    host: HOST,
    async run(argv) {
      asked.push([...argv]);
      const { stdout = "", stderr = "", outcome = "ok" } = answers[argv[2] ?? ""] ?? { outcome: "failed" };
      return {
        stdout,
        stderr,
        evidence: {
          argv: [...argv],
          status: outcome === "ok" ? 0 : 1,
          outcome,
          stdout_sha256: null,
          stderr_sha256: null,
          stdout: null,
          stderr: null,
        },
      };
    },
    ...fakeRegistry({}),
    readText: (path) => files[path] ?? null,
    list: () => [],
    temporary: () => {
      throw new Error("npm needs no temporary files");
    },
  };
}

async function gather(target: string, answer: Parameters<typeof planningWith>[0][string]): Promise<Findings> {
  const planning = planningWith({ [target]: answer });
  return npm.gather("install", npm.parseTargets("install", [target]), planning);
}

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

describe("npm view", () => {
  const HARMLESS: [string, string][] = [
    ["lodash", "lodash@4.18.1"],
    ["left-pad", "left-pad@1.3.0"],
    ["express", "express@5.3.0"],
    ["chalk", "chalk@6.0.1"],
    ["@types/node", "@types/node@26.6.6"],
  ];
  for (const [target, exact] of HARMLESS) {
    test(`${target}: exact version, integrity, no scripts, nothing obfuscated`, async () => {
      const stdout = fixture(`${target.replace("@", "").replace("/", "-")}.json`);
      const findings = await gather(target, { stdout });
      expect(findings).toMatchObject({
        exact_targets: [exact],
        metadata_available: true,
        scripts: [],
        signature_or_checksum_status: "checksum-only",
        mutable_reference: true,
        source_registry: "https://registry.npmjs.org/",
      });
      expect(findings.scripts.some(({ body }) => scanScript(body).obfuscated)).toBe(false);
      expect(findings.provenance_evidence).toMatchObject([
        { kind: "npm-integrity", subject: exact, verified: false },
      ]);
      expect(findings.published_at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    });
  }

  test("notices on standard error don't affect the data", async () => {
    const stdout = fixture("lodash.json");
    const noisy = await gather("lodash", { stdout, stderr: fixture("notice.stderr") });
    expect(noisy).toEqual(await gather("lodash", { stdout }));
    expect(noisy.target_version).toBe("4.18.1");
  });

  test("the complete findings for an exact version", async () => {
    const findings = await gather("lodash@4.17.20", { stdout: fixture("lodash@4.17.20.json") });
    expect(findings).toMatchObject({
      exact_targets: ["lodash@4.17.20"],
      target_version: "4.17.20",
      mutable_reference: false,
      transitive_dependency_count: 0,
      publisher_or_maintainer: "John-David Dalton <john.david.dalton@gmail.com>",
      nothing_to_do: false,
      warnings: [],
      transaction: [
        {
          name: "lodash",
          architecture: "all",
          action: "install",
          from_version: null,
          to_version: "4.17.20",
          origin: "registry.npmjs.org",
          sha256: null,
        },
      ],
      sbom_evidence: [{ purl: "pkg:npm/lodash@4.17.20", sha256: null }],
      rollback_plan: { inverse: ["lodash:all-"] },
    });
    expect(findings.command_preview).toEqual([
      ...["npm", "install", "--global", "--prefix", "/var/lib/aegis/npm-global"],
      ...["--ignore-scripts", "--no-audit", "--no-fund", "lodash@4.17.20"],
    ]);
  });

  test("a scope is escaped in the purl", async () => {
    const { sbom_evidence } = await gather("@types/node", { stdout: fixture("types-node.json") });
    expect(sbom_evidence[0]?.purl).toBe("pkg:npm/%40types/node@26.6.6");
  });

  test("install scripts and platform binaries are found (esbuild)", async () => {
    const findings = await gather("esbuild", { stdout: fixture("esbuild.json") });
    expect(findings).toMatchObject({
      scripts: [{ package: "esbuild", name: "postinstall", body: "node install.js" }],
      binary_artifact_risk: true,
      native_code_risk: false,
    });
  });
  test("install scripts are found and judged harmless (core-js)", async () => {
    const { scripts } = await gather("core-js", { stdout: fixture("core-js.json") });
    expect(scripts).toMatchObject([{ name: "postinstall" }]);
    expect(scanScript(scripts[0]?.body ?? "")).toEqual({ downloadAndExecute: false, obfuscated: false });
  });
  test("native code is found (bcrypt)", async () => {
    const findings = await gather("bcrypt", { stdout: fixture("bcrypt.json") });
    expect(findings).toMatchObject({ native_code_risk: true, scripts: [{ name: "install" }] });
  });
  test("development scripts are not lifecycle scripts", async () => {
    expect((await gather("express", { stdout: fixture("express.json") })).scripts).toEqual([]);
  });

  test("an unordered answer to a range: the highest version is used, and the reference is still mutable", async () => {
    const findings = await gather("express@^4.0.0", { stdout: fixture("express-range.json") });
    expect(findings).toMatchObject({ exact_targets: ["express@4.22.3"], mutable_reference: true });
    expect(findings.command_preview.at(-1)).toBe("express@4.22.3");
  });

  const BROKEN: [string, Parameters<typeof planningWith>[0][string], string][] = [
    ["npm missing", { outcome: "missing" }, "not installed"],
    ["time limit", { outcome: "timeout" }, "in time"],
    ["too much", { outcome: "truncated", stdout: fixture("lodash.json") }, "too large"],
    [
      "not found",
      { outcome: "failed", stdout: fixture("not-found.json"), stderr: fixture("not-found.stderr") },
      "Not Found",
    ],
    [
      "no such version",
      { outcome: "failed", stdout: fixture("no-version.json") },
      "No match found for version ^99",
    ],
    ["empty", { stdout: "" }, "not JSON"],
    ["notice before the JSON", { stdout: `npm notice\n${fixture("lodash.json")}` }, "not JSON"],
    ["another package", { stdout: fixture("chalk.json") }, "no version of this package"],
    ["failed with good data", { outcome: "failed", stdout: fixture("lodash.json") }, "npm view failed"],
    ["no dist", { stdout: '{"name":"lodash","version":"1.0.0"}' }, "not package metadata (field dist)"],
    [
      "version is a range",
      { stdout: '{"name":"lodash","version":"^1.0.0","dist":{}}' },
      "not package metadata (field version)",
    ],
    ["lone surrogate", { stdout: '{"name":"lodash","version":"1.0.0","dist":{},"x":"\\ud800"}' }, "not JSON"],
    [
      "endless script",
      {
        stdout: JSON.stringify({
          name: "lodash",
          version: "1.0.0",
          dist: {},
          scripts: { install: "x".repeat(70_000) },
        }),
      },
      "longer than",
    ],
  ];
  for (const [name, answer, why] of BROKEN) {
    test(`${name}: no metadata, nothing to sign, and a reason`, async () => {
      const findings = await gather("lodash", answer);
      expect(findings).toMatchObject({
        metadata_available: false,
        exact_targets: [],
        transaction: [],
        target_version: null,
      });
      expect(findings.warnings.join(" ")).toContain(why);
    });
  }
  test("a version other than the requested one is not an answer", async () => {
    const findings = await gather("lodash@4.17.21", { stdout: fixture("lodash@4.17.20.json") });
    expect(findings.metadata_available).toBe(false);
  });
  test("one failing target leaves the plan without metadata, and the preview as requested", async () => {
    const planning = planningWith({ "lodash@4.17.20": { stdout: fixture("lodash@4.17.20.json") } });
    const findings = await npm.gather(
      "install",
      npm.parseTargets("install", ["lodash@4.17.20", "chalk"]),
      planning,
    );
    expect(findings).toMatchObject({ metadata_available: false, exact_targets: ["lodash@4.17.20"] });
    expect(findings.command_preview.slice(-2)).toEqual(["lodash@4.17.20", "chalk"]);
    expect(planning.asked).toEqual([
      ["npm", "view", "lodash@4.17.20", "--json"],
      ["npm", "view", "chalk", "--json"],
    ]);
  });
  test("any text gives a version or a reason", () => {
    const target = splitNpmTarget("lodash");
    fc.assert(fc.property(fc.json(), (text) => expect(typeof readNpmView(text, target)).toBe("string")));
  });
});

/** A real version, signed with the registry's key of 2025. */
const SIGNED = {
  name: "@anthropic-ai/claude-code",
  version: "2.1.97",
  time: { "2.1.97": "2026-04-08T00:00:00.000Z" },
  dist: {
    integrity:
      "sha512-8lKM/rFctBl+82bQ+0g0Lkbt9tJU/zYKAjWisNUq436/386n/VZQbnyjnibGkyqqB6mrX/3ub/cpFlpCu4FXLg==",
    tarball: "https://registry.npmjs.org/@anthropic-ai/claude-code/-/claude-code-2.1.97.tgz",
    signatures: [
      {
        keyid: "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U",
        sig: "MEUCICG6rML8JBFMxvrHFFDhofBztC5mvsOLqHbO7G4bdU4MAiEA/TuR+/HzSBvE2e/5XokcLHWOLaw604eahZ4Hy+IFTew=",
      },
    ],
  },
};
const signedAs = (change: (version: typeof SIGNED) => void) => {
  const version = structuredClone(SIGNED);
  change(version);
  return gather(version.name, { stdout: JSON.stringify(version) });
};
const firstSignature = (version: typeof SIGNED) => version.dist.signatures[0] ?? { keyid: "", sig: "" };

describe("registry signatures", () => {
  const BAD: [string, (version: typeof SIGNED) => void, string][] = [
    [
      "another version",
      (v) => {
        v.version = "2.1.98";
      },
      "wrong",
    ],
    [
      "another integrity",
      (v) => {
        v.dist.integrity = v.dist.integrity.replace("8lKM", "8lKN");
      },
      "wrong",
    ],
    [
      "an unknown key",
      (v) => {
        firstSignature(v).keyid = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kz0";
      },
      "not one of",
    ],
    [
      "the expired key",
      (v) => {
        firstSignature(v).keyid = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA";
      },
      "expired",
    ],
    [
      "garbage",
      (v) => {
        firstSignature(v).sig = "AAAA";
      },
      "wrong",
    ],
  ];
  for (const [name, change, why] of BAD) {
    test(`not verified: ${name}`, async () => {
      const findings = await signedAs(change);
      expect(findings.provenance_evidence.every(({ verified }) => !verified)).toBe(true);
      expect(findings.provenance_evidence.map(({ detail }) => detail).join()).toContain(why);
      expect(findings.signature_or_checksum_status).toBe("signature-unverified");
    });
  }
  test("verified: the registry's signature, and with it the integrity", async () => {
    const findings = await signedAs(() => undefined);
    const key = SIGNED.dist.signatures[0]?.keyid ?? "";
    expect(findings.signature_or_checksum_status).toBe("signature-verified");
    expect(findings.provenance_evidence).toMatchObject([
      { kind: "npm-integrity", verified: true, key, subject: "@anthropic-ai/claude-code@2.1.97" },
      { kind: "npm-registry-signature", verified: true, key },
    ]);
  });
  test("an attestation is recorded as unverified", async () => {
    const findings = await signedAs((v) => {
      Object.assign(v.dist, { attestations: { url: "https://registry.npmjs.org/-/npm/v1/attestations/x" } });
    });
    expect(findings.provenance_evidence.at(-1)).toMatchObject({ kind: "npm-attestation", verified: false });
  });
});

describe("fields the registry may omit or write differently", () => {
  const minimal = { name: "lodash", version: "1.0.0", dist: {} };
  const CASES: [string, object, object][] = [
    [
      "no integrity",
      {},
      { signature_or_checksum_status: "missing", published_at: null, publisher_or_maintainer: null },
    ],
    ["deprecated", { deprecated: "use y" }, { deprecated: "use y" }],
    ["deprecated: false", { deprecated: false }, { deprecated: null }],
    [
      "maintainers as text",
      { maintainers: ["a <a@b>", "c <c@d>"] },
      { publisher_or_maintainer: "a <a@b>, c <c@d>" },
    ],
    [
      "maintainers as objects",
      { maintainers: [{ name: "a", email: "a@b" }] },
      { publisher_or_maintainer: "a <a@b>" },
    ],
    ["one maintainer", { maintainers: "a <a@b>" }, { publisher_or_maintainer: "a <a@b>" }],
    [
      "gypfile",
      { gypfile: true },
      {
        build_hooks_detected: true,
        native_code_risk: true,
        scripts: [{ package: "lodash", name: "install", body: "node-gyp rebuild" }],
      },
    ],
    [
      "an install script that is not shown",
      { hasInstallScript: true },
      { scripts: [{ package: "lodash", name: "install" }] },
    ],
    ["a binary field", { binary: { module_name: "x" } }, { binary_artifact_risk: true }],
    [
      "dependencies",
      { dependencies: { a: "1", b: "1" }, optionalDependencies: { b: "1" } },
      { transitive_dependency_count: 2 },
    ],
    [
      "tarball elsewhere",
      { dist: { tarball: "https://evil.example.com/x.tgz" } },
      { transaction: [{ origin: "evil.example.com" }] },
    ],
    [
      "integrity in SHA-256",
      { dist: { integrity: "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" } },
      { transaction: [{ sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }] },
    ],
  ];
  for (const [name, change, expected] of CASES) {
    test(name, async () => {
      const findings = await gather("lodash", { stdout: JSON.stringify({ ...minimal, ...change }) });
      expect(findings).toMatchObject({ metadata_available: true, ...expected });
    });
  }
  test("latest wins inside a range, a deprecated version loses", () => {
    const target = splitNpmTarget("lodash@^1");
    const range = (latest: string, deprecated: string) =>
      JSON.stringify(
        ["1.0.0", "1.2.0", "1.10.0"].map((version) => ({
          ...minimal,
          version,
          "dist-tags": { latest },
          ...(version === deprecated ? { deprecated: "no" } : {}),
        })),
      );
    expect(readNpmView(range("1.2.0", ""), target)).toMatchObject({ version: "1.2.0" });
    expect(readNpmView(range("2.0.0", ""), target)).toMatchObject({ version: "1.10.0" });
    expect(readNpmView(range("2.0.0", "1.10.0"), target)).toMatchObject({ version: "1.2.0" });
  });
  test("times with an offset become UTC", () => {
    const version = readNpmView(
      JSON.stringify({ ...minimal, time: { "1.0.0": "2026-04-01T23:16:03.299000+02:00" } }),
      splitNpmTarget("lodash"),
    );
    expect(typeof version === "string" ? version : publishedAt(version)).toBe("2026-04-01T21:16:03.299Z");
  });
});

describe("registry settings", () => {
  const read = (files: Record<string, string>) => (path: string) => files[path] ?? null;
  test("global, then the user's, then the environment", () => {
    const files = read({
      "/etc/npmrc": "registry=https://global.example.com\ncafile=/etc/ca.pem\n",
      "/home/u/.npmrc": `; a comment\n registry = https://user.example.com \n@a:registry=\${A_REGISTRY}\n@b:registry=\${UNSET}\n`,
    });
    const env = { HOME: "/home/u", A_REGISTRY: "https://a.example.com", HTTPS_PROXY: "http://proxy:3128" };
    const config = npmConfig(env, files);
    expect(Object.fromEntries(config)).toEqual({
      registry: "https://user.example.com/",
      cafile: "/etc/ca.pem",
      "@a:registry": "https://a.example.com/",
      "https-proxy": "http://proxy:3128",
    });
    expect(registryOf(config, "@a/x")).toBe("https://a.example.com/");
    expect(registryOf(config, "@b/x")).toBe("https://user.example.com/");
    const override = npmConfig({ ...env, NPM_CONFIG_REGISTRY: "https://env.example.com" }, files);
    expect(registryOf(override, "x")).toBe("https://env.example.com/");
  });
  const DROPPED = [
    "//registry.example.com/:_authToken=secret",
    "_auth=secret",
    "script-shell=/tmp/evil",
    "node-options=--require /tmp/evil.js",
    "git=/tmp/evil",
    "prefix=/tmp/evil",
    "globalconfig=/tmp/evil",
    "ignore-scripts=false",
    "registry=file:///evil",
    "registry=not a url evil",
  ];
  for (const line of DROPPED) {
    test(`left out: ${line}`, () => {
      const text = npmrcOf(npmConfig({ HOME: "/h" }, read({ "/h/.npmrc": `${line}\n` })));
      expect(text).not.toMatch(/secret|evil|scripts=false/);
    });
  }
  test("credentials in a URL are removed", () => {
    expect(
      npmrcOf(npmConfig({ NPM_CONFIG_REGISTRY: "https://u:secret@r.example.com/" }, read({}))),
    ).toContain("registry=https://r.example.com/\n");
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
