import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { changedFiles, ownFiles } from "../src/exec-own-files.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "aegis-own-files-"));
  for (const path of [
    "/usr/local/bin/aegis",
    "/etc/aegis/policy.toml",
    "/etc/aegis/trusted-keys.toml",
    "/etc/systemd/system/aegis-runner@.service",
    "/etc/systemd/system/aegis-runner@.service.d/site.conf",
    "/etc/systemd/system/other.service",
  ]) {
    put(path, "ours\n");
  }
  // Like the real one, too large to be read each time.
  put("/usr/local/bin/aegis", "x".repeat(2 * 1024 * 1024));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}
const at = (path: string) => join(root, path);

describe("changes to Aegis's own files are detected", () => {
  const CASES: [what: string, act: () => void, changed: string[]][] = [
    ["another policy", () => put("/etc/aegis/policy.toml", "hers\n"), ["/etc/aegis/policy.toml"]],
    ["no keys", () => rmSync(at("/etc/aegis/trusted-keys.toml")), ["/etc/aegis/trusted-keys.toml"]],
    ["a key more", () => put("/etc/aegis/review-key", "x"), ["/etc/aegis/review-key"]],
    [
      "keys that others may write",
      () => chmodSync(at("/etc/aegis/trusted-keys.toml"), 0o666),
      ["/etc/aegis/trusted-keys.toml"],
    ],
    ["a directory that others may write", () => chmodSync(at("/etc/aegis"), 0o777), ["/etc/aegis"]],
    [
      "a link to the same text",
      () => {
        renameSync(at("/etc/aegis/policy.toml"), at("/elsewhere"));
        symlinkSync("/elsewhere", at("/etc/aegis/policy.toml"));
      },
      ["/etc/aegis/policy.toml"],
    ],
    [
      "another program of the same length",
      () => put("/usr/local/bin/aegis", "y".repeat(2 * 1024 * 1024)),
      ["/usr/local/bin/aegis"],
    ],
    [
      "a drop-in",
      () => put("/usr/lib/systemd/system/aegis-runner@.service.d/x.conf", "x"),
      [
        "/usr/lib/systemd/system/aegis-runner@.service.d",
        "/usr/lib/systemd/system/aegis-runner@.service.d/x.conf",
      ],
    ],
    [
      "a changed drop-in",
      () => put("/etc/systemd/system/aegis-runner@.service.d/site.conf", "x"),
      ["/etc/systemd/system/aegis-runner@.service.d/site.conf"],
    ],
  ];
  for (const [what, act, changed] of CASES) {
    test(what, () => {
      const before = ownFiles(root);
      act();
      expect(changedFiles(before, ownFiles(root))).toEqual(changed);
    });
  }
});

test("other files, and rewriting the same text, are no change", () => {
  const before = ownFiles(root);
  put("/etc/systemd/system/other.service", "x");
  put("/etc/aegis/policy.toml", "ours\n");
  expect(changedFiles(before, ownFiles(root))).toEqual([]);
});

test("a host without any of them has none", () => {
  expect(ownFiles(join(root, "none")).size).toBe(0);
});
