import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { AegisError } from "../src/errors.ts";
import {
  asTyped,
  createFileExclusive,
  ensureDir,
  readFileLimited,
  rootOnlyProblem,
  typedPath,
  writeFileAtomic,
} from "../src/sys-files.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const IS_ROOT = process.getuid?.() === 0;
const { path: dir, remove } = temporaryDirectory();
afterAll(remove);
const modeOf = (path: string) => statSync(path).mode & 0o7777;

describe("writeFileAtomic fails", () => {
  test("on a directory: nothing changes, no temporary file is left", async () => {
    const target = join(dir, "taken");
    mkdirSync(join(target, "inside"), { recursive: true });
    await refuses(() => writeFileAtomic(target, "new"), "io", `can't write ${target}`);
    expect(readdirSync(target)).toEqual(["inside"]);
    expect(readdirSync(dir)).toEqual(["taken"]);
  });

  test("without a directory: in words, with the path once", async () => {
    const path = join(dir, "no/file");
    const exactly = (text: string) => new RegExp(`^${RegExp.escape(text)}$`);
    const says = exactly(`can't write ${path}: no such file or directory`);
    expect(await refuses(() => writeFileAtomic(path, "new"), "io", says)).toContain(join(dir, "no"));
    await refuses(() => typedPath(() => writeFileAtomic(path, "new")), "usage", says);
    // Errors not caused by the path stay faults.
    const fault = new AegisError("io", "x", "", { errno: "ENOSPC" });
    expect(asTyped(fault)).toBe(fault);
    await refuses(
      () => ensureDir("/dev/null/x"),
      "io",
      exactly("can't create the directory /dev/null/x: a part of that path is a file, not a directory"),
    );
  });
  test("for a name that is too long", () =>
    refuses(() => writeFileAtomic(join(dir, "x".repeat(300)), "new"), "io"));

  needs(IS_ROOT, "root").test("on a full disk: the old content stays complete", () => {
    // A one-page tmpfs in its own mount namespace.
    const script = `mount -t tmpfs -o size=8k tmpfs ${dir} && cd ${dir} && printf old > file && head -c 4096 /dev/zero > filler
      "$0" -e 'const { writeFileAtomic } = await import("${join(import.meta.dir, "../src/sys-files.ts")}");
        try { writeFileAtomic("${dir}/file", "n".repeat(5000)); console.log("written"); } catch (e) { console.log(e.code, e.message); }'
      cat file; echo; ls -A`;
    const { stdout } = spawnSync("unshare", ["-m", "sh", "-c", script, process.execPath], {
      encoding: "utf8",
    });
    const [said, content, ...names] = stdout.trim().split("\n");
    expect(said).toBe(`io can't write ${dir}/file: no space left on the file system`);
    expect([content, names]).toEqual(["old", ["file", "filler"]]);
  });
});

test("writeFileAtomic replaces the file, or a link rather than its target; the mode is exact", () => {
  const old = process.umask(0o077);
  try {
    const [file, link] = [join(dir, "file"), join(dir, "link")];
    writeFileSync(file, "old", { mode: 0o666 });
    symlinkSync(file, link);
    writeFileAtomic(link, "through the link", 0o644);
    expect([readFileSync(file, "utf8"), readFileSync(link, "utf8"), modeOf(link)]).toEqual([
      "old",
      "through the link",
      0o644,
    ]);
    writeFileAtomic(file, new Uint8Array([0, 255]));
    expect([[...readFileSync(file)], modeOf(file)]).toEqual([[0, 255], 0o600]);
    writeFileAtomic(file, "");
    expect(readFileSync(file, "utf8")).toBe("");
  } finally {
    process.umask(old);
  }
});

test("createFileExclusive creates a file once", async () => {
  const file = join(dir, "once");
  expect([createFileExclusive(file, "first"), createFileExclusive(file, "second")]).toEqual([true, false]);
  expect([readFileSync(file, "utf8"), modeOf(file)]).toEqual(["first", 0o600]);
  symlinkSync(join(dir, "elsewhere"), join(dir, "dangling"));
  expect(createFileExclusive(join(dir, "dangling"), "x")).toBe(false);
  expect(existsSync(join(dir, "elsewhere"))).toBe(false);
  await refuses(() => createFileExclusive(join(dir, "no/file"), "x"), "io");
});

test("ensureDir creates private directories and leaves an existing one as it is", () => {
  ensureDir(join(dir, "a/b"));
  expect([modeOf(join(dir, "a")), modeOf(join(dir, "a/b"))]).toEqual([0o700, 0o700]);
  chmodSync(join(dir, "a/b"), 0o750);
  ensureDir(join(dir, "a/b"));
  expect(modeOf(join(dir, "a/b"))).toBe(0o750);
});

describe("readFileLimited", () => {
  beforeAll(() => {
    writeFileSync(join(dir, "ten"), "0123456789");
    symlinkSync(join(dir, "ten"), join(dir, "to-ten"));
    expect(spawnSync("mkfifo", [join(dir, "fifo")]).status).toBe(0);
  });
  test("a missing file", () => refuses(() => readFileLimited(join(dir, "none"), 10), "not_found"));
  test("a directory", () =>
    refuses(() => readFileLimited(dir, 10), "invalid_document", "not a regular file"));
  test("a FIFO without a writer, without blocking", () =>
    refuses(() => readFileLimited(join(dir, "fifo"), 10), "invalid_document", "not a regular file"));
  test("an endless device", () =>
    refuses(() => readFileLimited("/dev/zero", 10), "invalid_document", "not a regular file"));
  test("one byte too many", () =>
    refuses(() => readFileLimited(join(dir, "ten"), 9), "invalid_document", "larger than 9 bytes"));
  // Files of proc(5) report size 0 whatever they hold.
  test("a file that reports size 0 but isn't empty", () =>
    refuses(() => readFileLimited("/proc/self/status", 100), "invalid_document", "larger than 100 bytes"));

  test("reads up to the limit, also through a link", () => {
    expect(readFileLimited(join(dir, "ten"), 10).toString()).toBe("0123456789");
    expect(readFileLimited(join(dir, "to-ten"), 100).toString()).toBe("0123456789");
    appendFileSync(join(dir, "big"), Buffer.alloc(3_000_000, 1));
    expect(readFileLimited(join(dir, "big"), 3_000_000)).toHaveLength(3_000_000);
  });
});

needs(IS_ROOT, "root").describe("rootOnlyProblem", () => {
  let root: string;
  beforeAll(() => {
    // Not in /tmp, which everyone can write.
    root = mkdtempSync("/root/aegis-files-");
    const put = (path: string, mode: number, uid = 0, gid = 0) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), "");
      chmodSync(join(root, path), mode);
      chownSync(join(root, path), uid, gid);
    };
    put("good", 0o644);
    put("secret", 0o600);
    put("setgid", 0o2755, 0, 65534);
    put("group", 0o664);
    put("world", 0o646);
    put("foreign", 0o644, 65534);
    put("opendir/file", 0o644);
    chmodSync(join(root, "opendir"), 0o777);
    put("sticky/file", 0o644);
    chmodSync(join(root, "sticky"), 0o1777);
    put("foreigndir/deep/file", 0o644);
    chownSync(join(root, "foreigndir"), 65534, 0);
    symlinkSync("good", join(root, "link"));
    symlinkSync("opendir", join(root, "linkdir"));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const CASES: [path: string, problem: string | null][] = [
    ["group", "/group can be written by others than root"],
    ["world", "/world can be written by others than root"],
    ["foreign", "/foreign does not belong to root"],
    ["opendir/file", "/opendir can be written by others than root"],
    ["sticky/file", "/sticky can be written by others than root"],
    ["foreigndir/deep/file", "/foreigndir does not belong to root"],
    ["link", "/link is a symbolic link"],
    ["linkdir/file", "/linkdir is a symbolic link"],
    ["none", "/none: no such file or directory"],
    ["good", null],
    ["secret", null],
    ["setgid", null],
    [".", null],
  ];
  for (const [path, problem] of CASES) {
    test(path, () => {
      const found = rootOnlyProblem(join(root, path));
      if (problem === null) expect(found).toBeNull();
      else expect(found).toStartWith(root + problem);
    });
  }
  test("a relative path, and one in /tmp", () => {
    expect(rootOnlyProblem("good")).toBe("good is not an absolute path");
    expect(rootOnlyProblem("")).toContain("not an absolute path");
    expect(rootOnlyProblem(dir)).toContain("can be written by others");
    expect(rootOnlyProblem("/")).toBeNull();
  });
});
