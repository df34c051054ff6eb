import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { ARCHIVE_LIMITS, archivePath } from "../src/eco-archive.ts";
import { readTar, readTarGz } from "../src/eco-tar.ts";
import { readZip } from "../src/eco-zip.ts";
import { AegisError } from "../src/errors.ts";
import { END, pax, tar, tarEntry, zip } from "./archive-kit.ts";
import { needs } from "./needs.ts";

const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString();
const NUL = Buffer.alloc(1);

describe("tar: refused", () => {
  const cases: [string, () => Uint8Array, RegExp][] = [
    ["no end", () => tarEntry("a", "x"), /no end/],
    ["nothing at all", () => new Uint8Array(), /no end/],
    ["cut within a file", () => tarEntry("a", "x".repeat(600)).subarray(0, 900), /ends within a file/],
    ["something behind the end", () => Buffer.concat([END, tarEntry("a", "x"), END]), /follows its end/],
    [
      "one zero block between entries",
      () => Buffer.concat([tarEntry("a"), Buffer.alloc(512), tarEntry("b"), END]),
      /follows its end/,
    ],
    ["climbs out", () => tar(tarEntry("package/../../etc/passwd", "x")), /no plain path/],
    ["absolute", () => tar(tarEntry("/etc/passwd", "x")), /absolute path/],
    ["drive letter", () => tar(tarEntry("C:/x", "x")), /absolute path/],
    ["backslash", () => tar(tarEntry("a\\..\\b", "x")), /characters/],
    ["control character", () => tar(tarEntry("a\x1b[2Jb", "x")), /characters/],
    ["symbolic link", () => tar(tarEntry("a", "", { type: "2", link: "/etc" })), /symbolic link/],
    ["hard link", () => tar(tarEntry("a", "", { type: "1", link: "b" })), /hard link/],
    ["device", () => tar(tarEntry("a", "", { type: "3" })), /device/],
    ["pipe", () => tar(tarEntry("a", "", { type: "6" })), /pipe/],
    ["sparse file", () => tar(tarEntry("a", "", { type: "S" })), /no regular file/],
    ["long link name", () => tar(tarEntry("././@LongLink", "x\0", { type: "K" })), /no regular file/],
    ["twice", () => tar(tarEntry("a", "1"), tarEntry("a", "2")), /twice/],
    [
      "twice, once executable",
      () => tar(tarEntry("a", "1"), tarEntry("a", "1", { mode: "0000755" })),
      /twice/,
    ],
    ["twice, once with ./", () => tar(tarEntry("a", "1"), tarEntry("./a", "2")), /twice/],
    ["differs by case", () => tar(tarEntry("a/B", "1"), tarEntry("a/b", "2")), /differ by case/],
    [
      "differs by composition",
      () => tar(tarEntry("\u00e9", "1"), tarEntry("e\u0301", "2")),
      /differ by case/,
    ],
    ["file and directory", () => tar(tarEntry("a", "1"), tarEntry("a/b", "2")), /file and a directory/],
    ["directory and file", () => tar(tarEntry("a/b", "1"), tarEntry("a", "2")), /file and a directory/],
    ["a file called like a directory", () => tar(tarEntry("a/", "1")), /called like a directory/],
    ["wrong checksum", () => tar(tarEntry("a", "1", { sum: 1 })), /checksum/],
    ["old format", () => tar(tarEntry("a", "1", { magic: "\0\0\0\0\0\0\0\0" })), /older format/],
    ["size in binary", () => tar(tarEntry("a", "1", { size: "\x80\0\0\0\0\0\0\0\0\0\x01" })), /number/],
    ["negative size", () => tar(tarEntry("a", "1", { size: "-0000000001" })), /number/],
    ["pax says another size", () => tar(pax(["size", "2"]), tarEntry("a", "1")), /two sizes/],
    [
      "pax says a size twice",
      () => tar(pax(["size", "1"], ["size", "1"]), tarEntry("a", "1")),
      /sets "size"/,
    ],
    ["a size that is none", () => tar(pax(["size", "1 "]), tarEntry("a", "1")), /malformed/],
    [
      "two pax headers, one of which says the size",
      () => tar(pax(["size", "1"]), pax(["path", "b"]), tarEntry("a", "1")),
      /two paths or sizes/,
    ],
    ["twice, once with a dot within", () => tar(tarEntry("a/b", "1"), tarEntry("a/./b", "2")), /twice/],
    ["pax sets a link", () => tar(pax(["linkpath", "x"]), tarEntry("a", "1")), /sets "linkpath"/],
    ["pax gives two paths", () => tar(pax(["path", "b"], ["path", "c"]), tarEntry("a", "1")), /sets "path"/],
    [
      "two pax headers give two paths",
      () => tar(pax(["path", "b"]), pax(["path", "c"]), tarEntry("a", "1")),
      /two paths/,
    ],
    ["pax path climbs out", () => tar(pax(["path", "../b"]), tarEntry("a", "1")), /no plain path/],
    ["pax path with NUL", () => tar(pax(["path", "b\0c"]), tarEntry("a", "1")), /characters/],
    [
      "a malformed pax record",
      () => tar(tarEntry("x", "99 path=b\n", { type: "x" }), tarEntry("a", "1")),
      /malformed/,
    ],
    ["ends behind a pax header", () => tar(pax(["path", "b"])), /extension header/],
    ["not UTF-8", () => tar(tarEntry("a\xff".replace("\xff", "b"), "1").fill(0xff, 1, 2)), /checksum|UTF-8/],
    ["too many entries", () => tar(...Array.from({ length: 11 }, (_, i) => tarEntry(`f${i}`))), /entries/],
  ];
  test.each(cases)("%s", (_, make, message) => {
    expect(() => readTar(make(), { ...ARCHIVE_LIMITS, maxEntries: 10 })).toThrow(message);
  });

  test("ten gigabytes of zeros, packed well", () => {
    // gzip of 64 MiB of zeros is 64 kB; members follow one another, so the same 64 kB stand for any size.
    const member = gzipSync(Buffer.alloc(64 * 1024 * 1024), { level: 9 });
    const bomb = Buffer.concat(Array.from({ length: 160 }, () => member));
    expect(() => readTarGz(bomb)).toThrow(/far too much/);
  });

  test("a file of zeros is packed too well from 16 MiB on", () => {
    const zeros = (mebibytes: number) => gzipSync(tar(tarEntry("a", "\0".repeat(mebibytes << 20))));
    expect(readTarGz(zeros(15))).toHaveLength(1);
    expect(() => readTarGz(zeros(17))).toThrow(/far too much/);
  });

  test("no gzip, and bytes behind it", () => {
    expect(() => readTarGz(Buffer.from("PK"))).toThrow(/no gzip file/);
    expect(() => readTarGz(Buffer.concat([gzipSync(tar(tarEntry("a"))), Buffer.from("x")]))).toThrow(
      /no gzip file/,
    );
  });
});

describe("tar: read", () => {
  test("files, in order, with the execute bit; directories and harmless pax records make none", () => {
    const archive = tar(
      tarEntry("package", "", { type: "5" }),
      pax(["mtime", "1.5"], ["path", "package/./long"], ["size", "3"]),
      tarEntry("short", "one", { mode: "0000755" }),
      tarEntry("last", "two", { prefix: "package/deep" }),
    );
    const files = readTar(archive);
    expect(files.map(({ path, executable, data }) => [path, executable, text(data)])).toEqual([
      ["package/long", true, "one"],
      ["package/deep/last", false, "two"],
    ]);
  });

  test("a file that is in it twice, byte for byte, as pnpm packs some", () => {
    const files = readTar(tar(tarEntry("a/./b", "1"), tarEntry("a/b", "1")));
    expect(files.map(({ path }) => path)).toEqual(["a/b"]);
  });

  test("a long path of which the header has a part that ends in a slash (tikv-jemalloc-sys 0.7.1)", () => {
    const path = `${"d".repeat(99)}/f`;
    const entry = tarEntry(path.slice(0, 100), "1");
    const long = tarEntry("././@LongLink", `${path}\0`, { type: "L" });
    expect(readTar(tar(long, entry)).map((file) => file.path)).toEqual([path]);
    expect(() => readTar(tar(tarEntry("././@LongLink", "a/\0", { type: "L" }), entry))).toThrow(
      "called like a directory",
    );
  });

  test("a long path of which the header has a part that ends within a character", () => {
    const path = `${"d".repeat(99)}é/f`;
    const entry = tarEntry("", "1", { fields: { 0: Buffer.from(path).subarray(0, 100).toString("latin1") } });
    const long = tarEntry("././@LongLink", `${path}\0`, { type: "L" });
    expect(readTar(tar(long, entry)).map((file) => file.path)).toEqual([path]);
  });

  test("what GNU tar writes in its three formats, long names among it", () => {
    const directory = mkdtempSync(join(tmpdir(), "aegis-archive-"));
    const deep = "d".repeat(90);
    mkdirSync(join(directory, "in", deep), { recursive: true });
    const names = ["in/a", `in/${deep}/${"f".repeat(120)}`, "in/ä"];
    for (const name of names) writeFileSync(join(directory, name), name);
    for (const format of ["ustar", "gnu", "pax"]) {
      const { exitCode } = Bun.spawnSync(["tar", `--format=${format}`, "-czf", "x.tgz", "in"], {
        cwd: directory,
      });
      // ustar can't hold a last part above 100 bytes.
      if (format === "ustar" && exitCode !== 0) continue;
      const files = readTarGz(readFileSync(join(directory, "x.tgz")));
      expect(files.map(({ path, data }) => [path, text(data)]).sort()).toEqual(
        names.map((n) => [n, n]).sort(),
      );
    }
    rmSync(directory, { recursive: true });
  });
});

describe("zip: refused", () => {
  const one = { name: "a", body: "text" };
  const cases: [string, () => Uint8Array, RegExp][] = [
    ["empty", () => new Uint8Array(), /no zip file/],
    ["a comment, which may hide a second end", () => zip([one], { comment: "x" }), /comment/],
    ["bytes behind the directory", () => zip([one], { behind: "x" }), /behind its directory|shorter/],
    ["fewer entries than it has", () => zip([one, { name: "b" }], { count: 1 }), /shorter than it says/],
    ["more entries than it has", () => zip([one], { count: 2 }), /directory/],
    ["climbs out", () => zip([{ name: "../a" }]), /no plain path/],
    ["absolute", () => zip([{ name: "/a" }]), /absolute/],
    ["backslash", () => zip([{ name: "..\\a" }]), /characters/],
    ["NUL in a name", () => zip([{ name: `a${NUL}.py` }]), /characters/],
    ["twice", () => zip([one, { ...one, body: "other" }]), /twice/],
    ["differs by case", () => zip([one, { name: "A" }]), /differ by case/],
    [
      "another name in the local header",
      () => zip([{ ...one, localName: "b" }]),
      /one thing in the directory/,
    ],
    [
      "another length in the local header",
      () => zip([{ ...one, localSize: 3 }]),
      /one thing in the directory/,
    ],
    ["other flags in the local header", () => zip([{ ...one, localFlags: 0 }]), /one thing in the directory/],
    ["encrypted", () => zip([{ ...one, flags: 1 }]), /encrypted/],
    ["another method", () => zip([{ ...one, method: 12 }]), /isn't deflate/],
    ["longer than it says", () => zip([{ ...one, size: 3, localSize: 3 }]), /damaged/],
    ["shorter than it says", () => zip([{ ...one, size: 5, localSize: 5 }]), /damaged/],
    ["wrong checksum", () => zip([{ ...one, crc: 1 }]), /damaged/],
    ["a descriptor that lies", () => zip([{ ...one, descriptor: "wrong" }]), /descriptor/],
    ["symbolic link", () => zip([{ ...one, mode: 0o120777 }]), /link or a device/],
    ["a directory with a file's mode", () => zip([{ name: "d/", mode: 0o100644 }]), /file and a directory/],
    ["something between entries", () => zip([one, { name: "b", before: "hidden" }]), /hides/],
    ["something before the first", () => zip([{ ...one, before: "MZ" }]), /hides/],
    ["a name in another encoding", () => zip([{ name: "ä", flags: 0 }]), /unknown encoding/],
    ["a bomb", () => zip([{ name: "a", body: "\0".repeat(64 * 1024 * 1024) }]), /far too much/],
  ];
  test.each(cases)("%s", (_, make, message) => expect(() => readZip(make())).toThrow(message));
});

describe("zip: read", () => {
  test("stored and deflated, with and without descriptors, executables, directories", () => {
    const files = readZip(
      zip([
        { name: "d/", body: "", method: 0, mode: 0o040755 },
        { name: "d/run", body: "#!", mode: 0o100755 },
        { name: "stored", body: "as it is", method: 0 },
        { name: "signed", body: "s", descriptor: "signed" },
        { name: "plain", body: "p", descriptor: "plain" },
      ]),
    );
    expect(files.map(({ path, executable, data }) => [path, executable, text(data)])).toEqual([
      ["d/run", true, "#!"],
      ["stored", false, "as it is"],
      ["signed", false, "s"],
      ["plain", false, "p"],
    ]);
  });

  needs(existsSync("/usr/bin/python3"), "/usr/bin/python3").test("what Python's zipfile writes", () => {
    const directory = mkdtempSync(join(tmpdir(), "aegis-archive-"));
    const script = `import zipfile
with zipfile.ZipFile("x.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("a/b.py", "print()\\n" * 100)
    z.writestr("ä", "x")`;
    const { exitCode } = Bun.spawnSync(["/usr/bin/python3", "-c", script], { cwd: directory });
    expect(exitCode).toBe(0);
    const files = readZip(readFileSync(join(directory, "x.zip")));
    expect(files.map(({ path, data }) => [path, data.length])).toEqual([
      ["a/b.py", 800],
      ["ä", 1],
    ]);
    rmSync(directory, { recursive: true });
  });
});

describe("any bytes", () => {
  const sound = [zip([{ name: "a", body: "text" }]), tar(tarEntry("a", "text"))] as const;
  test("end in files or in a refusal", () => {
    const mutated = fc.tuple(
      fc.constantFrom(0, 1),
      fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 4 }),
    );
    fc.assert(
      fc.property(mutated, ([which, changes]) => {
        const bytes = Buffer.from(sound[which === 0 ? 0 : 1]);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        try {
          for (const { path } of which === 0 ? readZip(bytes) : readTar(bytes))
            expect(archivePath(path)).toBe(path);
        } catch (error) {
          if (!(error instanceof AegisError) || error.code !== "refused") throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });
});
