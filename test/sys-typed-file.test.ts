import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { writeTyped } from "../src/sys-typed-file.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const IS_ROOT = process.getuid?.() === 0;
const { path: dir, remove } = temporaryDirectory();
afterAll(remove);

describe("a path that was typed, where something else than a file is", () => {
  const CASES: [what: string, make: (path: string) => unknown, says: string][] = [
    ["a directory", (path) => mkdirSync(path), "a directory"],
    ["a FIFO", (path) => spawnSync("mkfifo", [path]), "a device, pipe or socket"],
    ["a link to a device", (path) => symlinkSync("/dev/null", path), "a device, pipe or socket"],
    ["a link like /dev/stdout", (path) => symlinkSync("/proc/self/fd/1", path), "a link to an open file"],
  ];
  for (const [n, [what, make, says]] of CASES.entries()) {
    test(`${what} is not replaced`, async () => {
      const path = join(dir, `typed-${n}`);
      make(path);
      const before = lstatSync(path).ino;
      await refuses(() => writeTyped(path, "new"), "usage", `it is ${says}`);
      expect(lstatSync(path).ino).toBe(before);
    });
  }
  needs(IS_ROOT, "root, who may make devices").test("a device is not replaced", async () => {
    const path = join(dir, "null");
    spawnSync("mknod", ["-m", "666", path, "c", "1", "3"]);
    await refuses(() => writeTyped(path, "new"), "usage", "it is a device");
    expect(lstatSync(path).isCharacterDevice()).toBe(true);
  });
  test("a file is, and a link to one is", () => {
    const [file, link] = [join(dir, "typed-file"), join(dir, "typed-link")];
    writeTyped(file, "old");
    symlinkSync(file, link);
    writeTyped(link, "new");
    expect([file, link].map((path) => readFileSync(path, "utf8"))).toEqual(["old", "new"]);
  });
});
