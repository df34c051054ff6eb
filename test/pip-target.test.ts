import { describe, expect, test } from "bun:test";
import { parsePipTargets, pipGrammar, splitPipTarget } from "../src/pip-target.ts";

describe("no target", () => {
  test.each([
    ["", "it is empty"],
    ["-x", "option"],
    ["--index-url=https://evil.example", "option"],
    ["a b", "white space"],
    ["flask\u202e", "control"],
    ["a".repeat(600), "longer than"],
    ["flask;x", "metacharacters"],
    ["flask==$(x)", "metacharacters"],
    ["flask==1!2.0", "metacharacters"],
    ["fl*sk", "metacharacters"],
    ["flask>=3", "a range is no exact version"],
    ["flask>=3,<4", "a range is no exact version"],
    ["flask~=3.0", "a range is no exact version"],
    ["flask!=3.0", "a range is no exact version"],
    ["flask==3.*", "a range is no exact version"],
    ["flask=3.0", "a range is no exact version"],
    ["flask===3.0", "=== compares texts"],
    ["flask[async]==3.0", "extras can't be carried"],
    ["_flask", "a name has letters"],
    ["flask-", "a name has letters"],
    ["fläsk", "a name has letters"],
    ["@flask", "a name has letters"],
    ["flask@3.0", "a name has letters"],
    ["flask==", "is no version"],
    ["flask==latest", "is no version"],
    ["flask==3.0==4", "is no version"],
    ["==3.0", "a name has letters"],
  ])("%j: %s", (target, why) => {
    expect(() => parsePipTargets("install", [target])).toThrow(why);
  });
  test("one project twice, in two versions", () => {
    expect(() => parsePipTargets("install", ["Flask==1.0", "flask==2.0"])).toThrow(
      "asks for the same project",
    );
  });
});

describe("always denied", () => {
  test.each([
    ["-r requirements.txt", "requirements-file-denied"],
    ["-rx", "requirements-file-denied"],
    ["--requirement=x", "requirements-file-denied"],
    ["requirements.txt", "requirements-file-denied"],
    ["dev/requirements.in", "requirements-file-denied"],
    ["pylock.toml", "requirements-file-denied"],
    ["-e .", "local-path-denied"],
    [".", "local-path-denied"],
    ["..", "local-path-denied"],
    ["./flask", "local-path-denied"],
    ["/srv/flask", "local-path-denied"],
    ["~/flask", "local-path-denied"],
    ["dir/flask", "local-path-denied"],
    ["flask-3.0-py3-none-any.whl", "local-path-denied"],
    ["flask-3.0.tar.gz", "local-path-denied"],
    ["flask.zip", "local-path-denied"],
    ["file:///srv/flask", "local-path-denied"],
    ["flask @ file:///srv/flask", "local-path-denied"],
    ["https://example.com/flask.whl", "direct-url-denied"],
    ["flask @ https://example.com/flask.whl", "direct-url-denied"],
    ["flask[async]@https://example.com/flask.whl", "direct-url-denied"],
    ["git+https://example.com/flask", "git-source-denied"],
    ["flask@git+ssh://git@example.com/flask", "git-source-denied"],
    ["hg+https://example.com/flask", "git-source-denied"],
    ["https://example.com/flask.git", "git-source-denied"],
    ["git@example.com:a/b", "git-source-denied"],
    ["ftp://example.com/flask", "url-denied"],
  ] as const)("%j: %s", (target, signal) => {
    expect(parsePipTargets("install", [target]).denied).toEqual([{ target, signal }]);
  });
});

test.each([
  ["flask", "flask", null],
  ["Flask==3.0.0", "flask==3.0.0", "3.0.0"],
  ["Zope.Interface==5.0", "zope-interface==5.0", "5.0"],
  ["a__b.-c==1.0rc1", "a-b-c==1.0rc1", "1.0rc1"],
  ["x==1.0.post1", "x==1.0.post1", "1.0.post1"],
  ["x==1.0+local.1", "x==1.0+local.1", "1.0+local.1"],
  ["x==2024.1", "x==2024.1", "2024.1"],
])("%s is %s", (target, normal, version) => {
  expect(parsePipTargets("install", [target, target])).toEqual({
    targets: [normal],
    denied: [],
    targetType: "package",
  });
  expect(parsePipTargets("install", [normal]).targets).toEqual([normal]);
  expect(splitPipTarget(normal).version).toBe(version);
  expect(pipGrammar.isExact(normal)).toBe(version !== null);
});
