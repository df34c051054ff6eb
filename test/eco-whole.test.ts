import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { keepOldDirectories, linkWhole, readWhole } from "../src/eco-whole.ts";
import { needs } from "./needs.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/*
 * Directories that are taken whole: what counts, what doesn't, and that a copy is the same without being one.
 */

const LIMITS = { entries: 100, bytes: 1000 };
const asRoot = needs(process.getuid?.() === 0, "root, who may give files away");

let base: string;
let remove: () => void;
let whole: string;
beforeEach(() => {
  ({ path: base, remove } = temporaryDirectory());
  whole = join(base, "whole");
  fill(whole);
});
afterEach(() => remove());

function fill(directory: string): void {
  mkdirSync(join(directory, "bin"), { recursive: true });
  const at = (path: string) => join(directory, path);
  writeFileSync(at("bin/su"), "su");
  chmodSync(at("bin/su"), 0o4755);
  linkSync(at("bin/su"), at("bin/su2"));
  writeFileSync(at("file"), "text");
  symlinkSync("../../etc/passwd", at("up"));
  mkdirSync(at("empty"));
}
const digest = (directory = whole) => readWhole(directory, LIMITS).sha256;

describe("the digest of a directory", () => {
  test("is of all in it, and counts it", () => {
    expect(readWhole(whole, LIMITS)).toEqual({
      ...{ kind: "whole", sha256: expect.stringMatching(/^[0-9a-f]{64}$/), entries: 7, size: 6 },
    });
  });

  const CHANGES: [what: string, change: (at: (path: string) => string) => void][] = [
    ["a byte", (at) => writeFileSync(at("file"), "texT")],
    ["a mode", (at) => chmodSync(at("file"), 0o600)],
    ["a set-user-id bit", (at) => chmodSync(at("bin/su"), 0o755)],
    ["the mode of the directory itself", (at) => chmodSync(at(""), 0o700)],
    ["a name", (at) => renameSync(at("file"), at("File"))],
    ["a file more", (at) => writeFileSync(at("empty/x"), "")],
    ["a directory less", (at) => rmSync(at("empty"), { recursive: true })],
    ["where a link leads", (at) => replace(at("up"), (path) => symlinkSync("/etc/passwd", path))],
    ["two files in place of one with two names", (at) => split(at("bin/su"), at("bin/su2"))],
    ["a second name for a file", (at) => replace(at("up"), (path) => linkSync(at("file"), path))],
  ];
  test.each(CHANGES)("is another one after a change: %s", (_, change) => {
    const before = digest();
    change((path) => join(whole, path));
    expect(digest()).not.toBe(before);
  });

  asRoot.test("is another one with another owner", () => {
    const before = digest();
    lchownSync(join(whole, "up"), 1, 0);
    expect(digest()).not.toBe(before);
  });

  test("doesn't depend on times, on where it lies, or on names of its files elsewhere", () => {
    const before = digest();
    utimesSync(join(whole, "file"), 1, 1);
    linkSync(join(whole, "file"), join(base, "other"));
    const other = join(base, "moved");
    renameSync(whole, other);
    expect(digest(other)).toBe(before);
  });

  const TOO_MUCH: [string, Partial<typeof LIMITS>][] = [
    ["files", { entries: 6 }],
    ["bytes", { bytes: 5 }],
  ];
  test.each(TOO_MUCH)("isn't made of too many %s", (_, limits) => {
    expect(() => readWhole(whole, { ...LIMITS, ...limits })).toThrow(
      expect.objectContaining({ code: "refused" }),
    );
  });

  test("refuses a name that isn't UTF-8", () => {
    writeFileSync(Buffer.concat([Buffer.from(`${whole}/`), Buffer.from([0x61, 0xff])]), "");
    expect(digest).toThrow("whose name isn't UTF-8");
  });
});

function replace(path: string, make: (path: string) => void): void {
  rmSync(path);
  make(path);
}

function split(one: string, other: string): void {
  rmSync(other);
  writeFileSync(other, "su");
  chmodSync(other, 0o4755);
  expect(lstatSync(one).mode).toBe(lstatSync(other).mode);
}

describe("a directory from one content to the next", () => {
  test("has the same files, and the same digest", () => {
    const next = join(base, "next");
    linkWhole(whole, next);
    expect(digest(next)).toBe(digest());
    expect(statSync(join(next, "bin/su")).ino).toBe(statSync(join(whole, "bin/su")).ino);
    rmSync(whole, { recursive: true });
    expect(readWhole(next, LIMITS)).toMatchObject({ entries: 7, size: 6 });
  });

  test("stays the directory that it was, for whoever works with it; also where that was interrupted", async () => {
    const [root, previous] = [join(base, "root"), join(base, "previous")];
    mkdirSync(root);
    mkdirSync(previous);
    for (const name of ["a", "b"]) fill(join(previous, name));
    const old = ["a", "b"].map((name) => statSync(join(previous, name)).ino);
    await Bun.sleep(20); // The times of birth must differ.
    for (const name of ["a", "b"]) linkWhole(join(previous, name), join(root, name));
    keepOldDirectories(root, previous, ["a"]);
    for (let n = 0; n < 2; n++) {
      keepOldDirectories(root, previous, ["a", "b", "missing"]);
      expect(["a", "b"].map((name) => statSync(join(root, name)).ino)).toEqual(old);
      expect(digest(join(previous, "b"))).toBe(digest(join(root, "b")));
    }
  });
});
