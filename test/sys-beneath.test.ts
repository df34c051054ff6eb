import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  deviceNumber,
  linkTarget,
  listNames,
  makeDevice,
  openBeneath,
  removeXattr,
  reopen,
  setMode,
  setOwner,
  setTime,
  setXattr,
  xattrsOf,
} from "../src/sys-beneath.ts";
import { needs } from "./needs.ts";

let scratch = "";
let root = -1;
const at = (path: string) => join(scratch, "root", path);

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "aegis-beneath-"));
  mkdirSync(at("dir/below"), { recursive: true });
  writeFileSync(at("dir/file"), "text");
  writeFileSync(join(scratch, "outside"), "outside");
  symlinkSync("dir", at("link"));
  symlinkSync("../outside", at("out"));
  symlinkSync("/proc/self/root", at("magic"));
  root = openSync(at(""), constants.O_RDONLY);
});
afterAll(() => {
  closeSync(root);
  rmSync(scratch, { recursive: true, force: true });
});

/** Runs `use` with a descriptor of what is at a path. */
function withFd<T>(path: string, use: (fd: number) => T): T {
  const fd = openBeneath(root, path);
  if (fd === null) throw new Error(`nothing at ${path}`);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

test.each([
  "..",
  "../outside",
  "dir/../../outside",
  "/etc/passwd",
  "link/file",
  "magic/etc/passwd",
  "dir/file/x",
  "none",
])("%s is not reached", (path) => expect(openBeneath(root, path)).toBeNull());

test("a link is opened and not followed; its target and times are its own", () => {
  withFd("out", (fd) => {
    expect(fstatSync(fd).isSymbolicLink()).toBe(true);
    expect(linkTarget(fd).toString()).toBe("../outside");
    const before = statSync(join(scratch, "outside"), { bigint: true }).mtimeNs;
    setTime(fd, -1_500_000_001n);
    expect(lstatSync(at("out"), { bigint: true }).mtimeNs).toBe(-1_500_000_001n);
    expect(statSync(join(scratch, "outside"), { bigint: true }).mtimeNs).toBe(before);
  });
});

test("names of a directory, more than one read gives, without . and ..", () => {
  const names = Array.from({ length: 3000 }, (_, n) => `${n}-${"n".repeat(200)}`);
  for (const name of [...names, "...", ".x"]) writeFileSync(at(`dir/below/${name}`), "");
  const found = withFd("dir/below", (fd) => [...listNames(fd)].map(String));
  expect(found.sort()).toEqual([...names, "...", ".x"].sort());
});

test("content by a descriptor that was opened by path", () => {
  withFd("dir/file", (fd) => {
    const file = reopen(fd);
    expect(fstatSync(file).ino).toBe(fstatSync(fd).ino);
    closeSync(file);
    setMode(fd, 0o601);
    expect(statSync(at("dir/file")).mode & 0o7777).toBe(0o601);
  });
});

test("attributes are set, read and taken away; one without a value is one", () => {
  withFd("dir/file", (fd) => {
    setXattr(fd, "user.a", Buffer.from([0, 1, 255]));
    setXattr(fd, "user.empty", new Uint8Array());
    expect([...xattrsOf(fd)].filter(([name]) => name.startsWith("user.")).sort()).toEqual([
      ["user.a", Buffer.from([0, 1, 255])],
      ["user.empty", Buffer.alloc(0)],
    ]);
    removeXattr(fd, "user.a");
    expect([...xattrsOf(fd).keys()].filter((name) => name.startsWith("user."))).toEqual(["user.empty"]);
    expect(() => removeXattr(fd, "user.a")).toThrow("removing the attribute user.a failed (errno 61)");
  });
});

needs(process.getuid?.() === 0, "root").describe("root", () => {
  test("a link's owner and attributes are its own", () => {
    const before = lstatSync(join(scratch, "outside")).uid;
    withFd("out", (fd) => {
      setOwner(fd, 12, 34);
      setXattr(fd, "trusted.a", Buffer.from("x"));
      expect(xattrsOf(fd).get("trusted.a")?.toString()).toBe("x");
    });
    expect([lstatSync(at("out")).uid, lstatSync(at("out")).gid]).toEqual([12, 34]);
    expect(statSync(join(scratch, "outside")).uid).toBe(before);
  });

  test.each([
    [1, 3],
    [259, 0x12345],
    [0xfff, 0xfffff],
    [0, 0],
  ] as const)("device %d:%d", (major, minor) => {
    withFd("", (fd) => makeDevice(fd, `d${major}`, "block device", [major, minor]));
    const stat = lstatSync(at(`d${major}`), { bigint: true });
    expect([stat.isBlockDevice(), stat.rdev, stat.mode & 0o7777n]).toEqual([
      true,
      deviceNumber([major, minor]),
      0n,
    ]);
    // The kernel's own words for it.
    expect(Bun.spawnSync(["/usr/bin/stat", "-c", "%t:%T", at(`d${major}`)]).stdout.toString()).toBe(
      `${major.toString(16)}:${minor.toString(16)}\n`,
    );
    expect(() => withFd("", (fd) => makeDevice(fd, `d${major}`, "block device", [1, 1]))).toThrow("errno 17");
  });
});
