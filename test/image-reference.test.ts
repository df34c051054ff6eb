import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { normalizeReference, parseReference, pulledReference, repositoryOf } from "../src/image-reference.ts";
import { imageGrammar, splitImageTarget } from "../src/image-target.ts";

/*
 * The tables of distribution/reference's own tests, read out of its Go files. Its tests of functions that have no counterpart here
 * (familiar names, patterns, sorting, putting references together) are left out.
 */

type Case = Record<string, string>;

function goTest(file: string, name: string): string {
  const text = readFileSync(join(import.meta.dir, "fixtures/image/reference", file), "utf8");
  const [, after = ""] = text.split(`func ${name}(`);
  // A whole line that is a comment may hold a case that was taken out.
  return (after.split("\nfunc ")[0] ?? "").replace(/^\s*\/\/.*$/gm, "");
}

/** One part of a Go string: in quotes, or repeated. */
const PART = String.raw`(?:strings\.Repeat\("[^"]*", \d+\)|"[^"]*")`;
const FIELD = new RegExp(
  String.raw`(\w+):\s*(?://[^\n]*\n\s*)?(${PART}(?: \+ ${PART})*|[A-Za-z][\w.]*)`,
  "g",
);

function goText(expression: string): string {
  if (!expression.includes('"')) return expression;
  const parts = [...expression.matchAll(/(?:Repeat\()?"([^"]*)"(?:, (\d+))?/g)];
  return parts.map(([, text = "", times = "1"]) => text.repeat(Number(times))).join("");
}

/** The cases of a table: each between braces of its own, with named fields. */
function table(file: string, name: string): Case[] {
  return [...goTest(file, name).matchAll(/\n\t\t\{\n([\s\S]*?)\n\t\t\},/g)].map(([, body = ""]) =>
    Object.fromEntries([...body.matchAll(FIELD)].map(([, key = "", value = ""]) => [key, goText(value)])),
  );
}

/** The strings of a list. */
function list(file: string, test: string, variable: string): string[] {
  const [, body = ""] =
    new RegExp(String.raw`${variable} := \[\]string\{([\s\S]*?)\n\t\}`).exec(goTest(file, test)) ?? [];
  return [...body.matchAll(/"([^"]*)"/g)].map(([, text = ""]) => text);
}

const code = (of: () => unknown) => {
  try {
    of();
    return "";
  } catch (error) {
    return error instanceof Error && "code" in error ? error.code : error;
  }
};

describe("distribution/reference's own cases", () => {
  const parse = table("reference_test.go", "TestReferenceParse");
  const names = table("reference_test.go", "TestDomainAndPath");
  const docker = table("normalize_test.go", "TestParseDockerRef");
  const split = table("normalize_test.go", "TestNormalizedSplitHostname");
  const info = table("normalize_test.go", "TestParseRepositoryInfo");
  const any = table("normalize_test.go", "TestParseAnyReference");
  const named = table("reference_test.go", "TestParseNamed");
  const domains = table("regexp_test.go", "TestDomainRegexp");
  const full = table("regexp_test.go", "TestFullNameRegexp");
  const references = table("regexp_test.go", "TestReferenceRegexp");
  const lists = ["TestValidateReferenceName", "TestValidateRemoteName"].map((test) =>
    ["valid", "invalid"].map((kind) =>
      ["RepoNames", "RepositoryNames"].flatMap((of) => list("normalize_test.go", test, `${kind}${of}`)),
    ),
  );

  test("are all there", () => {
    const tables = { parse, names, docker, split, info, any, named, domains, full, references };
    const counts = Object.fromEntries(Object.entries(tables).map(([key, cases]) => [key, cases.length]));
    expect(counts).toEqual({
      ...{ parse: 47, names: 6, docker: 11, split: 11, info: 20, any: 14, named: 8 },
      ...{ domains: 30, full: 63, references: 12 },
    });
    expect(lists.map((kinds) => kinds.map(({ length }) => length))).toEqual([
      [27, 14],
      [8, 13],
    ]);
  });

  test.each(parse.map((one) => [one.input ?? "", one] as const))("parse %s", (input, one) => {
    if (one.err !== undefined) expect(code(() => parseReference(input))).toBe("invalid_target");
    else {
      const parts = parseReference(input);
      expect(parts.domain === "" ? parts.path : repositoryOf(parts)).toBe(one.repository ?? "");
      expect(parts).toMatchObject({
        domain: one.domain ?? "",
        tag: one.tag ?? null,
        digest: one.digest ?? null,
      });
    }
  });
  test.each(names.map((one) => [one.input ?? "", one] as const))("domain and path of %s", (input, one) =>
    expect(parseReference(input)).toMatchObject({ domain: one.domain ?? "", path: one.path ?? "" }),
  );
  test.each(docker.map((one) => [one.input ?? "", one.expected ?? ""]))("pulled: %s", (input, expected) => {
    expect(pulledReference(normalizeReference(input))).toBe(expected);
    expect(code(() => parseReference(expected))).toBe("");
  });
  test.each(split.map((one) => [one.input ?? "", one] as const))("normalised: %s", (input, one) =>
    expect(normalizeReference(input)).toMatchObject({ domain: one.domain ?? "", path: one.path ?? "" }),
  );
  for (const one of info) {
    for (const field of ["FamiliarName", "FullName", "AmbiguousName"]) {
      const input = one[field] ?? "";
      if (input === "") continue;
      test(`${field} ${input}`, () => {
        const reference = normalizeReference(input);
        expect(repositoryOf(reference)).toBe(one.FullName ?? "");
        expect(reference).toMatchObject({ domain: one.Domain ?? "", path: one.RemoteName ?? "" });
      });
    }
  }
  test.each(any.map((one) => [one.Reference ?? "", one.Equivalent ?? ""]))("any: %s", (input, equivalent) => {
    // An id or a digest alone names no registry: those are refused here.
    if (equivalent.startsWith("sha256:"))
      expect(code(() => normalizeReference(input))).toBe("invalid_target");
    else {
      const { tag, digest, ...parts } = normalizeReference(input);
      expect(
        `${repositoryOf(parts)}${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`,
      ).toBe(equivalent);
    }
  });
  test.each(named.map((one) => [one.input ?? "", one.err === undefined] as const))(
    "canonical: %s",
    (input, isCanonical) => expect(repositoryOf(normalizeReference(input)) === input).toBe(isCanonical),
  );
  test.each(domains.map((one) => [one.input ?? "", one.match === "true"] as const))(
    "domain %s",
    (input, isDomain) => {
      const found = () => parseReference(`${input}/x`).domain;
      expect(code(found) === "" && found() === input).toBe(isDomain);
    },
  );
  test.each(full.map((one) => [one.input ?? "", one.match === "true"] as const))(
    "name %s",
    (input, isName) => {
      const isParsed = code(() => parseReference(input)) === "";
      // Its expression of names knows no tag, ours reads one.
      expect(isParsed && parseReference(input).tag === null).toBe(isName);
    },
  );
  test.each(references.map((one) => [one.input ?? "", one.match === "true"] as const))(
    "reference %s",
    (input, isReference) => expect(code(() => parseReference(input)) === "").toBe(isReference),
  );
  const [validity = [], remote = []] = lists;
  test.each([...(validity[0] ?? []), ...(remote[0] ?? [])])("valid: %s", (input) =>
    expect(code(() => normalizeReference(input))).toBe(""),
  );
  test.each([...(validity[1] ?? []), ...(remote[1] ?? [])])("invalid: %s", (input) =>
    expect(code(() => normalizeReference(input))).toBe("invalid_target"),
  );
});

test("what is normalised stays as it is", () => {
  const label = fc.stringMatching(/^[a-z0-9]{1,6}$/);
  const domain = fc.constantFrom("", "localhost/", "ghcr.io/", "x:5000/", "docker.io/", "index.docker.io/");
  const end = fc.constantFrom(
    "",
    ":latest",
    ":Tag_1.2-3",
    `@sha256:${"a".repeat(64)}`,
    `:1@sha256:${"0".repeat(64)}`,
  );
  fc.assert(
    fc.property(domain, fc.array(label, { minLength: 1, maxLength: 4 }), end, (registry, path, rest) => {
      fc.pre(!(registry === "" && path.length === 1 && /^[a-f0-9]{64}$/.test(path[0] ?? "")));
      const once = pulledReference(normalizeReference(`${registry}${path.join("/")}${rest}`));
      expect(pulledReference(normalizeReference(once))).toBe(once);
      expect(normalizeReference(once).isQualified).toBe(true);
    }),
  );
});

test("any text is a reference or refused", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-zA-Z0-9._:/@\-[\]]{0,300}$/)), (text) => {
      expect(["", "invalid_target"]).toContain(code(() => splitImageTarget(text)) as string);
    }),
  );
});

describe("targets", () => {
  const DIGEST = `sha256:${"a".repeat(64)}`;
  const parse = (...targets: string[]) => imageGrammar.parseTargets("pull", targets);

  test.each([
    ["-x", "read as an option"],
    ["", "it is empty"],
    ["a b", "white space"],
    ["a;reboot", "shell metacharacters"],
    ["[::1]:5000/a", "shell metacharacters"],
    ["a".repeat(513), "longer than 512"],
    ["Ghcr.io/a/b", "in lower case"],
    ["ghcr.io:65536/a/b", "no such port"],
    ["ghcr.io/a/B", "must be lower-case"],
    [`a@sha512:${"a".repeat(128)}`, "only SHA-256"],
    [`a@sha256:${"A".repeat(64)}`, "64 lower-case hex digits"],
    ["a:b:c", "isn't [registry/]name[:tag][@digest]"],
    ["a".repeat(64), "it is an image's id"],
    ["a@latest", "isn't [registry/]name[:tag][@digest]"],
  ])("invalid: %s", (target, why) => {
    expect(() => parse(target)).toThrow(why);
  });
  test("two are refused", () => expect(() => parse("a", "b")).toThrow("one at a time"));

  test.each([
    ["https://ghcr.io/a/b", "direct-url-denied"],
    ["docker://ghcr.io/a/b", "url-denied"],
    ["oci:/var/x", "local-path-denied"],
    ["docker-archive:x.tar", "local-path-denied"],
    ["containers-storage:x", "local-path-denied"],
    ["dir:x", "local-path-denied"],
    ["./image", "local-path-denied"],
    ["/srv/image.tar.gz", "local-path-denied"],
    ["image.tar", "local-path-denied"],
    ["git@github.com:a/b", "git-source-denied"],
  ] as const)("denied: %s", (target, signal) =>
    expect(parse(target)).toEqual({ targets: [target], denied: [{ target, signal }], targetType: "image" }),
  );

  test.each([
    ["debian", false],
    ["debian:12", false],
    ["ghcr.io/a/b:latest", false],
    [`debian@${DIGEST}`, true],
    [`debian:12@${DIGEST}`, true],
    [`localhost:5000/a@${DIGEST}`, true],
  ])("%s names one image: %p", (target, isExact) => {
    expect(parse(target).denied).toEqual([]);
    expect(imageGrammar.isExact(target)).toBe(isExact);
  });
});
