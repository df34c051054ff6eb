import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { loadPolicyConfig, parsePolicyConfig } from "../src/policy-config.ts";

/** RFC 8032 §7.1, test 1. */
const KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

function refusal(run: () => unknown): AegisError {
  try {
    run();
  } catch (error) {
    if (error instanceof AegisError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("a policy file is refused, naming the key", () => {
  const cases: readonly [toml: string, named: string][] = [
    ["[apt]\nallow_removal = true", "apt.allow_removal: unknown key; known keys: allow_removals, allow_"],
    ["[atp]\nallow_removals = true", "atp: unknown key; known keys: apt, npm, "],
    ["allow_removals = true", "allow_removals: unknown key"],
    ["[constructor]", "constructor: unknown key"],
    ["[__proto__]\nallow = true", "__proto__: unknown key"],
    ["[apt.__proto__]\nallow_removals = true", "apt.__proto__: unknown key"],
    ["apt = true", "apt: true is not a table"],
    ['[apt]\nallow_removals = "true"', "apt.allow_removals: "],
    ["[apt]\nallow_removals = 1", "apt.allow_removals: 1 is not true or false"],
    ['[apt]\ninstall = "yes"', 'apt.install: "yes" is not one of "allow", '],
    ["[requests]\nhours = 0", "requests.hours: "],
    ["[requests]\nhours = 169", "requests.hours: "],
    ['[approvals]\nsame_user = "yes"', "approvals.same_user: "],
    ['[apt]\nsensitive_packages = "sudo"', "apt.sensitive_packages: "],
    ['[apt]\nsensitive_packages = ["a", "B c"]', "apt.sensitive_packages, entry 2: "],
    ['[apt]\nsensitive_packages = ["a*b"]', "apt.sensitive_packages, entry 1: "],
    ['[apt]\ntrusted_origins = ["Debian"]', "apt.trusted_origins, entry 1: "],
    [
      '[[apt.trusted_origins]]\nuri = "https://x.example/"',
      "apt.trusted_origins, entry 1, fingerprint: missing",
    ],
    [
      '[[apt.trusted_origins]]\nuri = "https://x/"\nfingerprint = "DEADBEEF"',
      "apt.trusted_origins, entry 1, fingerprint: ",
    ],
    [
      `[[apt.trusted_origins]]\nuri = "x"\nfingerprint = "${"A".repeat(40)}"`,
      "apt.trusted_origins, entry 1, uri: ",
    ],
    ["[container]\nsigners = [{}]", "container.signers, entry 1, images: missing"],
    [
      '[container]\nsigners = [{ images = [], issuer = "https://x", subject = "a" }]',
      "container.signers, entry 1, images: ",
    ],
    [
      '[container]\nsigners = [{ images = ["*"], issuer = "https://x", subject = "a" }]',
      "container.signers, entry 1, images, entry 1: not registry/name",
    ],
    [
      '[container]\nsigners = [{ images = ["a/*/b"], issuer = "https://x", subject = "a" }]',
      "container.signers, entry 1, images, entry 1: not registry/name",
    ],
    [
      '[container]\nsigners = [{ images = ["a/b"] }]',
      "container.signers, entry 1: give public_key, or issuer and subject",
    ],
    [
      '[container]\nsigners = [{ images = ["a/b"], issuer = "https://x" }]',
      "container.signers, entry 1: give public_key, or issuer",
    ],
    [
      '[container]\nsigners = [{ images = ["a/b"], issuer = "x", subject = "a" }]',
      "container.signers, entry 1, issuer: not an https address",
    ],
    [
      '[container]\nsigners = [{ images = ["a/b"], issuer = "https://x", subject = "*@b" }]',
      "container.signers, entry 1, subject: not a name",
    ],
    [
      '[container]\nsigners = [{ images = ["a/b"], public_key = "x" }]',
      "container.signers, entry 1, public_key: not a signer's key: give it in PEM",
    ],
    ["[freshness]\nplan_minutes = 1441", "freshness.plan_minutes: "],
    ["[freshness]\nexecution_minutes = 1441", "freshness.execution_minutes: "],
    ["[freshness]\nplan_minutes = 0", "freshness.plan_minutes: it must be at least 1, and is 0"],
    ["[freshness]\nplan_minutes = 1.5", "freshness.plan_minutes: "],
    ["[approvals]\nrequired = 0", "approvals.required: it must be at least 1, and is 0"],
    ['[vulnerability]\ndeny = "never"', "vulnerability.deny: "],
    ['[review]\nrequired = "yes"', "review.required: "],
    ["[review]\npublic_key = []", "review.public_key: unknown key; known keys: required, public_keys"],
    ['[review]\npublic_keys = "x"', "review.public_keys: "],
    ["[review]\npublic_keys = [1]", "review.public_keys, entry 1: "],
    ["[vscode]\nsigning_keys = [1]", "vscode.signing_keys, entry 1: "],
    [`[vscode]\nsigning_keys = ["${KEY.toUpperCase()}"]`, "vscode.signing_keys, entry 1: not a public key"],
    [
      `[review]\npublic_keys = ["${KEY.toUpperCase()}"]`,
      "review.public_keys, entry 1: not a public key: it is not 64 lower",
    ],
    [
      `[review]\npublic_keys = ["${KEY}00"]`,
      "review.public_keys, entry 1: not a public key: it is not 64 lower",
    ],
    [
      `[review]\npublic_keys = ["${"00".repeat(32)}"]`,
      "review.public_keys, entry 1: not a public key: it is a point of small",
    ],
    [
      `[review]\npublic_keys = ["${KEY}", "${"ff".repeat(32)}"]`,
      "review.public_keys, entry 2: not a public key: it is not a",
    ],
    [`[review]\npublic_keys = ["${KEY}", "${KEY}"]`, "review.public_keys: a key is listed twice"],
    ["[npm]\nminimum_age_days = -1", "npm.minimum_age_days: it must be at least 0, and is -1"],
    ["[npm]\nminimum_age_days = 36500", "npm.minimum_age_days: it must be at most 3650, and is 36500"],
    ["[npm]\nminimum_age_days = 0.5", "npm.minimum_age_days: 0.5 is not a whole number"],
    ["[npm]\nminimum_age_days = inf", "npm.minimum_age_days: Infinity is not a whole number"],
    ["[approvals]\nrequired = 17", "approvals.required: it must be at most 16, and is 17"],
    [
      "[container]\nsigners = [{images = []}]",
      "container.signers, entry 1, images: it must have at least 1 entries, and has 0",
    ],
    ['[npm]\nallowed_registries = ["https://registry.npmjs.org/"]', "npm.allowed_registries, entry 1: "],
    ["[apt]\n[apt]", "line 2, column 2: this name has been used before"],
    [
      "[apt]\nallow_removals = false\nallow_removals = true",
      "line 3, column 1: this name has been used before",
    ],
    ['apt.install = "deny"\n[apt]', "line 2, column 2: this name has been used before"],
    [
      "apt = { allow_removals = true, allow_removals = false }",
      "line 1, column 32: this name has been used before",
    ],
    ["[[apt]]\n[apt]", "line 2, column 2: this name has been used before"],
    ["[apt", "line 1, column 2: not a name: a setting is written name = value, a table [name]"],
    ["[apt\ninstall", "line 1, column 5: not a name: a setting is written"],
    ["[apt]\ninstall: deny", "line 2, column 8: not a name: a setting is written"],
    ['[apt]\n= "deny"', "line 2, column 1: not a name: a setting is written"],
    ["[apt]\n\ninstall = allow\n[npm]\n", "line 3, column 11: not a value: a text needs quotes"],
    [`[apt]\nsensitive_packages = [\n  "a",\n[npm]\napply = "deny"\n`, "line 4, column 2: not a value: "],
    ["[freshness]\nplan_minutes = 9007199254740993", "line 2, column 16: a number this large can't be kept"],
    ["[freshness]\nplan_minutes = 0x1fffffffffffffffff", "line 2, column 16: a number this large"],
    ["[freshness]\nplan_minutes = 2026-02-30T00:00:00Z", "line 2, column 16: there is no such date or time"],
    ["[freshness]\nplan_minutes = 2026-02-28", "freshness.plan_minutes: "],
    ["[freshness]\nplan_minutes = nan", "freshness.plan_minutes: "],
    [`x = ${"[".repeat(20)}`, "line 1, column 21: document contains excessively nested structures"],
    [`${"a.".repeat(20_000)}a = 1`, "a: unknown key"],
    ["[apt]\r\ninstall =\r\n", "line 2, column 10: not a value"],
    [`${"# a comment\n".repeat(5000)}[apt]\ninstall = "deny`, "line 5002, column 11: unfinished string"],
    ["__proto__.allow = true", "__proto__: unknown key"],
    ["apt = { __proto__ = 1 }", "apt.__proto__: unknown key"],
    ["apt.constructor.prototype.allow_removals = true", "apt.constructor: unknown key"],
  ];
  for (const [toml, named] of cases) {
    test(toml.slice(0, 100).replaceAll("\n", " ⏎ "), () => {
      const error = refusal(() => parsePolicyConfig(toml, "policy.toml"));
      expect(error.code).toBe("invalid_config");
      expect(error.message).toContain(`policy.toml can't be used: ${named}`);
      // `aegis policy rules` would say the same.
      expect(error.hint).toBe("Correct the file; nothing is decided until then.");
    });
  }
  test("bytes that are not UTF-8", () => {
    expect(refusal(() => parsePolicyConfig(new Uint8Array([0xff, 0xfe]), "f")).code).toBe("invalid_config");
  });
  test("any text either parses or is invalid_config", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        try {
          parsePolicyConfig(text, "f");
        } catch (error) {
          if (!(error instanceof AegisError) || error.code !== "invalid_config") throw error;
        }
      }),
    );
  });
});

test.each(["ghcr.io/*", "ghcr.io/org/*", "ghcr.io/org/app", "localhost:5000/a__b", "docker.io/library/deb*"])(
  "a signer may be named for %s",
  (pattern) => {
    const signer = `{ images = ["${pattern}"], issuer = "https://x.example", subject = "a@b" }`;
    const { container } = parsePolicyConfig(`[container]\nsigners = [${signer}]`, "policy.toml");
    expect(container.signers[0]?.images).toEqual([pattern]);
  },
);

test("missing settings have their defaults", () => {
  const config = parsePolicyConfig("[apt]\nallow_removals = true", "f");
  expect(config.apt).toMatchObject({
    allow_removals: true,
    allow_downgrades: false,
    install: "require_human",
    upgrade: "allow_with_snapshot",
    update: "allow",
    trusted_origins: [],
    sensitive_packages: [],
  });
  expect(config.npm.apply).toBe("deny");
  expect(config.freshness).toEqual({ plan_minutes: 60, execution_minutes: 30 });
  expect(config.approvals.required).toBe(1);
  expect(config.vulnerability.deny).toBe("critical");
  expect(config.review).toEqual({ required: false, public_keys: [] });
  expect(config.snapshot.accept_declared).toBe(false);
});

test("a fingerprint as gpg prints it is accepted", () => {
  const spaced = "4CB5 0190 207B 4758 A3F7  3A79 6ED0 E7B8 2643 E131".toLowerCase();
  const toml = `[[apt.trusted_origins]]\nuri = "https://x.example/debian"\nfingerprint = "${spaced}"`;
  expect(parsePolicyConfig(toml, "f").apt.trusted_origins[0]?.fingerprint).toBe(
    "4CB50190207B4758A3F73A796ED0E7B82643E131",
  );
});

describe("the source of the policy", () => {
  // Root's own directory: the executor's check looks at every directory above the file, and /tmp is everybody's.
  let dir = "";
  let etc = "";
  let env: Record<string, string> = {};
  const write = (path: string, minutes: number) => {
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, `[freshness]\nplan_minutes = ${minutes}\n`, { mode: 0o644 });
    return path;
  };
  beforeAll(() => {
    dir = mkdtempSync(join(process.getuid?.() === 0 ? "/root" : "/tmp", "aegis-policy-config-"));
    etc = join(dir, "etc/policy.toml");
    env = { HOME: dir, XDG_CONFIG_HOME: join(dir, "config") };
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  test("in order: built-in, system, user, variable", () => {
    const options = { systemPath: etc };
    expect(loadPolicyConfig(env, options).source).toBe("built-in");
    write(etc, 11);
    expect(loadPolicyConfig(env, options)).toMatchObject({
      source: etc,
      config: { freshness: { plan_minutes: 11 } },
    });
    const user = write(join(dir, "config/aegis/policy.toml"), 12);
    expect(loadPolicyConfig(env, options)).toMatchObject({
      source: user,
      config: { freshness: { plan_minutes: 12 } },
    });
    const named = write(join(dir, "named.toml"), 13);
    const loaded = loadPolicyConfig({ ...env, AEGIS_POLICY_CONFIG: named }, options);
    expect(loaded).toMatchObject({ source: named, config: { freshness: { plan_minutes: 13 } } });
  });

  test("a named file that does not exist is an error, without a fallback", () => {
    const error = refusal(() => loadPolicyConfig({ ...env, AEGIS_POLICY_CONFIG: join(dir, "none.toml") }));
    expect(error.code).toBe("not_found");
  });

  test("the hash covers the settings in force, not their spelling", () => {
    const hash = (text: string) => {
      const path = join(dir, "hash.toml");
      writeFileSync(path, text);
      return loadPolicyConfig({ AEGIS_POLICY_CONFIG: path }).hash;
    };
    const builtIn = loadPolicyConfig({ HOME: dir }, { systemPath: join(dir, "none") }).hash;
    expect(hash("# nothing\n")).toBe(builtIn);
    expect(hash('[npm]\napply = "deny"\n[apt]\nallow_removals = false')).toBe(builtIn);
    expect(hash("[apt]\nallow_removals = true")).not.toBe(builtIn);
    expect(hash("[approvals]\nsame_user = true")).not.toBe(builtIn);
    // How long requests wait decides nothing: another time must not end those that wait.
    expect(hash("[requests]\nhours = 48")).toBe(builtIn);
  });

  test.if(process.getuid?.() === 0)("the executor obeys only a system file that is root's alone", () => {
    const options = { system: true, systemPath: etc };
    const hostile = { ...env, AEGIS_POLICY_CONFIG: join(dir, "named.toml") };
    write(etc, 21);
    expect(loadPolicyConfig(hostile, options)).toMatchObject({ config: { freshness: { plan_minutes: 21 } } });
    for (const mode of [0o666, 0o664]) {
      chmodSync(etc, mode);
      expect(refusal(() => loadPolicyConfig(hostile, options)).code).toBe("invalid_config");
    }
    chmodSync(etc, 0o644);
    chmodSync(join(dir, "etc"), 0o777);
    expect(refusal(() => loadPolicyConfig(hostile, options)).code).toBe("invalid_config");
    chmodSync(join(dir, "etc"), 0o755);
    const link = join(dir, "link.toml");
    symlinkSync(etc, link);
    expect(refusal(() => loadPolicyConfig(hostile, { system: true, systemPath: link })).code).toBe(
      "invalid_config",
    );
    rmSync(etc);
    expect(loadPolicyConfig(hostile, options).source).toBe("built-in");
  });
});
