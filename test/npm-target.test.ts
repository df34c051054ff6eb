import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import npa from "npm-package-arg";
import { AegisError } from "../src/errors.ts";
import { isExactVersion, parseNpmTargets, splitNpmTarget } from "../src/npm-target.ts";
import { refuses } from "./signing-kit.ts";

/*
 * Our grammar against npm's. Whatever we accept must mean the same to both; anything npm fetches from elsewhere than a
 * registry must be denied or refused.
 */

const TOO_LARGE = "9007199254740992";

describe("npm itself refuses", () => {
  for (const target of ["foo.tgz@1.2.3", "foo.tar@1.2.3", "foo.tar.gz@latest"])
    test(target, () => refuses(() => parseNpmTargets("install", [target]), "invalid_target"));
});

describe("a tag to npm, so not an exact version", () => {
  for (const version of [
    `${TOO_LARGE}.0.0`,
    `1.${TOO_LARGE}.0`,
    `1.2.${TOO_LARGE}`,
    `1.2.${TOO_LARGE}-rc.1+b`,
  ])
    test(version, () => {
      expect(npa(`x@1.2.${TOO_LARGE}`).type).toBe("tag");
      expect(isExactVersion(version)).toBe(false);
      let exact = false;
      try {
        exact = splitNpmTarget(`x@${version}`).exact;
      } catch (error) {
        expect(error).toMatchObject({ code: "invalid_target" });
      }
      expect(exact).toBe(false);
    });
  test("npm's largest safe number is an exact version", () => {
    const version = `1.2.${Number.MAX_SAFE_INTEGER}`;
    expect(splitNpmTarget(`x@${version}`)).toEqual({ name: "x", spec: version, exact: true });
    expect(isExactVersion(`1.2.3-${TOO_LARGE}`)).toBe(true);
  });
});

const number = fc.oneof(
  fc.nat(30).map(String),
  fc.constantFrom("00", "01", String(Number.MAX_SAFE_INTEGER), TOO_LARGE, "9".repeat(30)),
);
const version = fc
  .tuple(
    number,
    number,
    number,
    fc.constantFrom("", "-rc.1", "-01", "-0a", "+b", "-rc+b.2", "beta", "-", "+"),
  )
  .map(([a, b, c, rest]) => `${a}.${b}.${c}${rest}`);
const name = fc.oneof(
  fc.constantFrom(
    "x",
    "left-pad",
    "@s/x",
    "foo.tgz",
    "x.tar",
    "@s/x.tgz",
    "a/b",
    "node_modules",
    "github",
    "X",
    ".x",
    "~",
    "con",
  ),
  fc.stringMatching(/^[a-z0-9._@/-]{1,8}$/),
);
const spec = fc.oneof(
  version,
  version.map((text) => `v${text}`),
  fc.constantFrom(
    "latest",
    "^1",
    "~1.2",
    "1.x",
    "1",
    "",
    "npm:y@1.0.0",
    "npm:y",
    "file:y",
    "a/b",
    "github:a/b",
    "~",
    ".",
  ),
  fc.constantFrom(
    "git+https://h/x.git",
    "https://h/x.tgz",
    "y.tgz",
    "1.2.3.tgz",
    "C:y",
    "user@host.com:a/b",
    "*",
    "x.y.z",
  ),
  fc.stringMatching(/^[a-zA-Z0-9.+~^@:/-]{1,10}$/),
);
const target = fc.oneof(
  name,
  spec,
  fc.tuple(name, spec).map(([n, s]) => `${n}@${s}`),
  fc.tuple(name, version).map(([n, s]) => `${n}@${s}`),
);

test("property: npm reads an accepted target as the same name and version from a registry", () => {
  const seen = { exact: 0, open: 0, denied: 0, refused: 0 };
  fc.assert(
    fc.property(target, (text) => {
      let denied: number;
      try {
        denied = parseNpmTargets("install", [text]).denied.length;
      } catch (error) {
        if (!(error instanceof AegisError) || error.code !== "invalid_target") throw error;
        seen.refused++;
        return;
      }
      if (denied > 0) {
        seen.denied++;
        return;
      }
      const ours = splitNpmTarget(text);
      const theirs = npa(text, "/");
      expect({ registry: theirs.registry, name: theirs.name, spec: theirs.fetchSpec }).toEqual({
        registry: true,
        name: ours.name,
        spec: ours.spec ?? "*",
      });
      if (ours.exact) expect(theirs.type).toBe("version");
      else expect(["version", "range", "tag"]).toContain(theirs.type);
      seen[ours.exact ? "exact" : "open"]++;
    }),
    { numRuns: 20_000 },
  );
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(100);
});

test("property: targets npm fetches from elsewhere than a registry are never accepted", () => {
  fc.assert(
    fc.property(target, (text) => {
      let type: string | null = null;
      try {
        type = npa(text, "/").type;
      } catch {
        // npm itself refuses it.
      }
      if (type !== null && ["version", "range", "tag"].includes(type)) return;
      let accepted = true;
      try {
        accepted = parseNpmTargets("install", [text]).denied.length === 0;
      } catch (error) {
        if (!(error instanceof AegisError)) throw error;
        accepted = false;
      }
      expect(accepted).toBe(false);
    }),
    { numRuns: 20_000 },
  );
});
