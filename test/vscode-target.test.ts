import { describe, expect, test } from "bun:test";
import { isExtensionVersion, splitExtensionTarget, vscodeGrammar } from "../src/vscode-target.ts";

const parse = (...targets: string[]) => vscodeGrammar.parseTargets("install", targets);

describe("refused", () => {
  const CASES: [string, string][] = [
    ["", "it is empty"],
    ["x", "publisher.name"],
    ["a.", "publisher.name"],
    [".b", "publisher.name"],
    ["a.b.c", "publisher.name"],
    ["-a.b", "read as an option"],
    ["a.-b", "publisher.name"],
    ["a_c.b", "publisher.name"],
    ["a/b", "publisher.name"],
    ["é.b", "publisher.name"],
    ["a b.c", "white space"],
    ["a.b\n", "white space"],
    ["a.b;id", "shell metacharacters"],
    ["$(id).b", "shell metacharacters"],
    [`${"a".repeat(101)}.b`, "publisher.name"],
    ["a".repeat(300), "longer than"],
    ["a.b@", "not an exact version"],
    ["a.b@prerelease", "not an exact version"],
    ["a.b@latest", "not an exact version"],
    ["a.b@1", "not an exact version"],
    ["a.b@1.2", "not an exact version"],
    ["a.b@^1.2.3", "not an exact version"],
    ["a.b@01.2.3", "not an exact version"],
    ["a.b@1.2.3@4", "not an exact version"],
    ["a.b@1.2.3-", "not an exact version"],
    ["a.b@1.2.3+4", "not an exact version"],
    ["a.b@1.2.3/../x", "not an exact version"],
  ];
  test.each(CASES)("%p: %s", (target, why) => {
    expect(() => parse(target)).toThrow(why);
  });
  test("a second one", () => {
    expect(() => parse("a.b", "c.d")).toThrow("installs one extension");
  });
});

describe("always denied", () => {
  const CASES: [string, string][] = [
    ["./x.vsix", "vsix-denied"],
    ["/tmp/a.b-1.0.0.vsix", "vsix-denied"],
    ["x.VSIX", "vsix-denied"],
    ["https://open-vsx.org/api/a/b/1.0.0/file/a.b-1.0.0.vsix", "vsix-denied"],
    ["https://open-vsx.org/extension/a/b", "direct-url-denied"],
    ["git@github.com:a/b", "git-source-denied"],
    ["git+https://x.example/a", "git-source-denied"],
    ["vscode:extension/a.b", "url-denied"],
    ["../a", "local-path-denied"],
    ["~/a", "local-path-denied"],
  ];
  test.each(CASES)("%s: %s", (target, signal) => {
    expect(parse(target).denied).toEqual([{ target, signal: signal as "vsix-denied" }]);
  });
});

test("case doesn't matter in an id, and a plan has one spelling", () => {
  expect(parse("RedHat.Java@1.2.3")).toEqual({
    targets: ["redhat.java@1.2.3"],
    denied: [],
    targetType: "extension",
  });
  expect(splitExtensionTarget("ms-VSCode.cpptools")).toEqual({ id: "ms-vscode.cpptools", version: null });
  expect([vscodeGrammar.isExact("a.b"), vscodeGrammar.isExact("a.b@1.0.0-next.1")]).toEqual([false, true]);
});

test("versions are those of package.json", () => {
  expect(["1.2.3", "2024.7.11511013", "0.0.0", "1.2.3-rc.1", "1.2.3-5"].map(isExtensionVersion)).toEqual(
    Array(5).fill(true),
  );
  expect(["1.2", "v1.2.3", "1.2.3.4", "1.2.3--", `1.2.${"3".repeat(100)}`].map(isExtensionVersion)).toEqual(
    Array(5).fill(false),
  );
});
