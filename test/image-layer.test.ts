import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { LAYER_LIMITS, type LayerLimits, LayerParser, readLayer } from "../src/image-layer.ts";
import { type LayerEntry, numberField } from "../src/image-layer-entry.ts";
import { END, pax, tar, tarEntry } from "./archive-kit.ts";
import { needs } from "./needs.ts";

/** Entries of a tar archive that arrives in pieces of at most `piece` bytes. */
function parse(bytes: Uint8Array, piece = bytes.length, limits: LayerLimits = LAYER_LIMITS): LayerEntry[] {
  const entries: LayerEntry[] = [];
  const parser = new LayerParser((entry) => entries.push(entry), limits);
  for (let at = 0; at < bytes.length; at += piece) parser.push(bytes.subarray(at, at + piece));
  parser.end();
  return entries;
}

/** An entry in one line: what differs from a root's 0644 of 1970 without content. */
function line(entry: LayerEntry): string {
  const { kind, path, mode, uid, gid, size, mtime, target, device, xattrs } = entry;
  return [
    ...[kind, path, ...(target === null ? [] : [`-> ${target}`]), mode.toString(8), `${uid}:${gid}`],
    ...(kind === "file" ? [String(size)] : []),
    ...(mtime === 0n ? [] : [`@${mtime}`]),
    ...(device === null ? [] : [device.join(":")]),
    ...[...xattrs].map(([name, value]) => `${name}=${Buffer.from(value).toString("latin1")}`),
  ].join(" ");
}

const DIRECTORY = { type: "5", mode: "0000755" };
const whiteout = (path: string, over = {}) => tar(tarEntry(path, "", over));

describe("refused", () => {
  const cases: [string, () => Uint8Array, RegExp][] = [
    ["nothing at all", () => new Uint8Array(), /no end/],
    ["no end", () => tarEntry("a"), /no end/],
    ["cut within a file", () => tarEntry("a", "x".repeat(600)).subarray(0, 900), /ends within a file/],
    ["cut within a header", () => tarEntry("a").subarray(0, 300), /no end/],
    ["cut within the end", () => tar(tarEntry("a")).subarray(0, -1), /no end/],
    ["something behind the end", () => Buffer.concat([END, tarEntry("a"), END]), /follows its end/],
    ["a wrong checksum", () => tar(tarEntry("a", "", { sum: 1 })), /checksum/],
    ["an older format", () => tar(tarEntry("a", "", { magic: "\0\0\0\0\0\0\0\0" })), /older format/],
    ["star's format", () => tar(tarEntry("a", "", { fields: { 508: "tar\0" } })), /between two others/],
    [
      "GNU's with a prefix",
      () => tar(tarEntry("a", "", { magic: "ustar  \0", prefix: "b" })),
      /between two others/,
    ],
    ["climbs out", () => tar(tarEntry("a/../../b")), /no plain path/],
    ["climbs, and stays within", () => tar(tarEntry("a/../b")), /no plain path/],
    ["NUL in a pax path", () => tar(pax(["path", "a\0b"]), tarEntry("a")), /set path twice, or to nothing/],
    ["an empty pax path", () => tar(pax(["path", ""]), tarEntry("a")), /set path twice, or to nothing/],
    ["no name", () => tar(tarEntry("")), /not a path/],
    ["a name that stands for broken UTF-8", () => tar(tarEntry("a\uFFFD")), /not a path/],
    ["not UTF-8", () => tar(tarEntry("", "", { fields: { 0: "\xff" } })), /not UTF-8/],
    ["a long name", () => tar(pax(["path", "n".repeat(256)]), tarEntry("a")), /too long/],
    ["a long path", () => tar(pax(["path", "n/".repeat(2001)]), tarEntry("a")), /called like a directory/],
    [
      "a long path of directories",
      () => tar(pax(["path", "n/".repeat(2001)]), tarEntry("a", "", DIRECTORY)),
      /too long/,
    ],
    ["a file called like a directory", () => tar(tarEntry("a/")), /called like a directory/],
    ["a file called like one by a dot", () => tar(tarEntry("a/.")), /called like a directory/],
    ["a file as the root", () => tar(tarEntry("///.//", "", { type: "2", link: "x" })), /place of the root/],
    ["a directory with content", () => tar(tarEntry("a", "x", DIRECTORY)), /directory with content/],
    [
      "a hard link with content",
      () => tar(tarEntry("a", "x", { type: "1", link: "b" })),
      /hard link with content/,
    ],
    ["a hard link to nothing", () => tar(tarEntry("a", "", { type: "1" })), /not a path/],
    ["a hard link to the root", () => tar(tarEntry("a", "", { type: "1", link: "/" })), /invalid target/],
    [
      "a hard link that climbs",
      () => tar(tarEntry("a", "", { type: "1", link: "../../etc/passwd" })),
      /no plain path/,
    ],
    ["a symlink to nothing", () => tar(tarEntry("a", "", { type: "2" })), /invalid target/],
    ["a sparse file", () => tar(tarEntry("a", "", { type: "S" })), /sparse/],
    [
      "a sparse file in pax's way",
      () => tar(pax(["GNU.sparse.major", "1"]), tarEntry("a")),
      /sets "GNU.sparse.major"/,
    ],
    ["a contiguous file", () => tar(tarEntry("a", "", { type: "7" })), /contiguous/],
    ["a global header", () => tar(tarEntry("a", "", { type: "g" })), /global/],
    ["an unknown type", () => tar(tarEntry("a", "", { type: "Z" })), /nothing unpacks/],
    ["two pax headers", () => tar(pax(["uid", "1"]), pax(["gid", "1"]), tarEntry("a")), /of one kind/],
    [
      "a path in pax's and in GNU's way",
      () => tar(pax(["path", "b"]), tarEntry("x", "c", { type: "L" }), tarEntry("a")),
      /set path twice/,
    ],
    ["one record twice", () => tar(pax(["uid", "1"], ["uid", "2"]), tarEntry("a")), /set uid twice/],
    ["an unknown record", () => tar(pax(["owner", "1"]), tarEntry("a")), /sets "owner"/],
    ["a malformed record", () => tar(tarEntry("x", "9 uid=0\n", { type: "x" }), tarEntry("a")), /malformed/],
    [
      "a record without a value",
      () => tar(tarEntry("x", "6 uid\n", { type: "x" }), tarEntry("a")),
      /malformed/,
    ],
    ["an end behind a pax header", () => tar(pax(["path", "b"])), /extension header/],
    [
      "a pax header of a megabyte and a byte",
      () => tar(tarEntry("x", "", { type: "x", size: "00004000001" })),
      /oversized/,
    ],
    ["pax says another size", () => tar(pax(["size", "2"]), tarEntry("a", "1")), /two sizes/],
    [
      "a negative size",
      () => tar(tarEntry("a", "", { size: `\xff${"\xff".repeat(11)}`, fields: { 124: "\xff".repeat(12) } })),
      /negative/,
    ],
    ["a size that is none", () => tar(tarEntry("a", "", { size: "9" })), /invalid number/],
    ["a user that is none", () => tar(pax(["uid", "-1"]), tarEntry("a")), /user or group/],
    ["the user that means no change", () => tar(pax(["uid", "4294967295"]), tarEntry("a")), /user or group/],
    ["a time that is none", () => tar(pax(["mtime", "1e9"]), tarEntry("a")), /invalid time/],
    ["a time that is too far", () => tar(pax(["mtime", "99999999999"]), tarEntry("a")), /time that no file/],
    [
      "a device's number that is too high",
      () => tar(tarEntry("a", "", { type: "3", fields: { 329: "0010000\0" } })),
      /device numbers/,
    ],
    [
      "an attribute twice",
      () => tar(pax(["SCHILY.xattr.user.a", "1"], ["SCHILY.xattr.user.a", "2"]), tarEntry("a")),
      /twice/,
    ],
    [
      "an attribute without a name",
      () => tar(pax(["SCHILY.xattr.", "1"]), tarEntry("a")),
      /no file can have/,
    ],
    [
      "an attribute of 64 KiB and a byte",
      () => tar(pax(["SCHILY.xattr.user.a", "x".repeat(65_537)]), tarEntry("a")),
      /no file can have/,
    ],
    ["a whiteout of nothing", () => whiteout("a/.wh."), /mark of a removal/],
    ["a whiteout of .", () => whiteout("a/.wh.."), /mark of a removal/],
    ["a whiteout of ..", () => whiteout("a/.wh..."), /mark of a removal/],
    ["a whiteout that is a directory", () => whiteout(".wh.a", DIRECTORY), /mark of a removal/],
    ["a whiteout that is a link", () => whiteout(".wh.a", { type: "1", link: "b" }), /mark of a removal/],
    ["a whiteout with content", () => tar(tarEntry(".wh.a", "x")), /mark of a removal/],
    ["a directory of AUFS", () => whiteout(".wh..wh.plnk/a"), /mark of a removal/],
    ["another mark of AUFS", () => whiteout(".wh..wh.aufs"), /mark of a removal/],
    ["something in a whiteout", () => whiteout(".wh.a/b"), /mark of a removal/],
  ];
  test.each(cases)("%s", (_, make, message) => {
    expect(() => parse(make())).toThrow(message);
    expect(() => parse(make(), 7)).toThrow(message);
  });

  test("too many entries, and too many bytes", () => {
    const many = tar(...Array.from({ length: 11 }, (_, i) => tarEntry(`f${i}`)));
    expect(() => parse(many, 512, { ...LAYER_LIMITS, maxEntries: 10 })).toThrow("more than 10 entries");
    expect(() => parse(many, 512, { ...LAYER_LIMITS, maxBytes: 4096 })).toThrow("more than 4096 bytes");
  });
});

describe("read", () => {
  test("every kind, with all that a header says of it", () => {
    const archive = tar(
      tarEntry("./", "", DIRECTORY),
      tarEntry("/", "", { ...DIRECTORY, mode: "0000700" }),
      tarEntry("tmp/", "", { type: "5", mode: "0001777" }),
      tarEntry("/ko-app//./x", "ko", { mode: "0104755" }),
      tarEntry("old", "", { type: "\0" }),
      tarEntry("abs", "", { type: "2", link: "/etc/../shadow", mode: "0000777" }),
      tarEntry("hard", "", { type: "1", link: "./ko-app/x" }),
      tarEntry("null", "", { type: "3", fields: { 329: "0000001\0", 337: "0000003\0" } }),
      tarEntry("disk", "", {
        type: "4",
        fields: { 329: "\x80\0\0\0\0\0\x0f\xff", 337: "\x80\0\0\0\0\x0f\xff\xff" },
      }),
      tarEntry("fifo", "", { type: "6" }),
      tarEntry("etc/.wh.zero"),
      tarEntry("home/.wh..wh..opq"),
      tarEntry(".wh..wh..opq"),
      tarEntry("odd \n\x1b[2J\\ \u{1F600}"),
    );
    const lines = [
      "directory  700 0:0",
      "directory tmp 1777 0:0",
      "file ko-app/x 4755 0:0 2",
      "file old 644 0:0 0",
      "symlink abs -> /etc/../shadow 777 0:0",
      "hard link hard -> ko-app/x 644 0:0",
      "character device null 644 0:0 1:3",
      "block device disk 644 0:0 4095:1048575",
      "fifo fifo 644 0:0",
      "whiteout etc/zero 644 0:0",
      "opaque home 644 0:0",
      "opaque  644 0:0",
      "file odd \n\x1b[2J\\ \u{1F600} 644 0:0 0",
    ];
    expect(parse(archive).map(line)).toEqual(lines);
    for (const piece of [1, 511, 512, 513]) expect(parse(archive, piece).map(line)).toEqual(lines);
  });

  test("pax: owners, times before 1970 and in nanoseconds, long names, attributes of any bytes", () => {
    const long = `${"d".repeat(200)}/${"f".repeat(200)}`;
    const archive = tar(
      pax(["uid", "65534"], ["gid", "65534"], ["mtime", "-1.5"], ["path", long]),
      tarEntry("short", "x"),
      pax(["mtime", "1700000000.1234567899"], ["linkpath", `/${long}`], ["uname", "me"]),
      tarEntry("link", "", { type: "2" }),
      pax(["SCHILY.xattr.user.a", "1\n\0=2"], ["size", "3"], ["LIBARCHIVE.creationtime", "1"]),
      tarEntry("x", "abc"),
      tarEntry("next", "", { fields: { 136: "\xff".repeat(12) } }),
    );
    expect(parse(archive).map(line)).toEqual([
      `file ${long} 644 65534:65534 1 @-1500000000`,
      `symlink link -> /${long} 644 0:0 @1700000000123456789`,
      "file x 644 0:0 3 user.a=1\n\0=2",
      "file next 644 0:0 0 @-1000000000",
    ]);
  });

  test("a size in a pax header alone, as Python writes one above 8 GiB", () => {
    const body = Buffer.concat([Buffer.from("abc"), Buffer.alloc(509)]);
    const archive = Buffer.concat([pax(["size", "3"]), tarEntry("x"), body, END]);
    expect(parse(archive).map(line)).toEqual(["file x 644 0:0 3"]);
  });

  test("numbers in GNU's binary form, against BigInt's own two's complement", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.integer({ min: 9, max: 12 }), (value, length) => {
        const bits = BigInt.asUintN(8 * length, BigInt(value))
          .toString(16)
          .padStart(2 * length, "0");
        const field = Buffer.from(bits, "hex");
        field[0] = (field[0] ?? 0) | 0x80;
        expect(numberField(field, 0, length)).toBe(value);
      }),
    );
  });
});

describe("files", () => {
  const directory = mkdtempSync(join(tmpdir(), "aegis-layer-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "layer");
  const body = "text".repeat(100_000);
  const archive = tar(tarEntry("a", body), tarEntry("b", "", DIRECTORY));
  const digest = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");
  const read = async (bytes: Uint8Array, limits = LAYER_LIMITS) => {
    writeFileSync(path, bytes);
    const entries: LayerEntry[] = [];
    return { entries, ...(await readLayer(path, (entry) => entries.push(entry), limits)) };
  };
  const half = Math.floor(archive.length / 2);
  const parts = [archive.subarray(0, half), archive.subarray(half)];
  const forms: [string, Uint8Array][] = [
    ["plain", archive],
    ["gzip", gzipSync(archive)],
    ["gzip in two members, as eStargz has them", Buffer.concat(parts.map((part) => gzipSync(part)))],
    ["zstd", zstdCompressSync(archive)],
    [
      "zstd in two frames, as zstd:chunked has them",
      Buffer.concat(parts.map((part) => zstdCompressSync(part))),
    ],
  ];
  test.each(forms)("%s: the same entries, content and diff id", async (_, bytes) => {
    const { entries, diffId, bytes: length } = await read(bytes);
    expect(entries.map(line)).toEqual([`file a 644 0:0 ${body.length}`, "directory b 755 0:0"]);
    expect(entries[0]?.sha256).toBe(digest(body));
    expect([diffId, length]).toEqual([`sha256:${digest(archive)}`, archive.length]);
  });

  test.each(forms.slice(1))("%s: cut anywhere, it is refused", async (_, bytes) => {
    for (const end of [10, bytes.length >> 1, bytes.length - 1]) {
      const error = await read(bytes.subarray(0, end)).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(AegisError);
    }
  });

  test("a bomb: ten gigabytes of zeros end at a gigabyte", async () => {
    const zeros = gzipSync(Buffer.alloc(64 << 20), { level: 9 });
    const head = gzipSync(tarEntry("a", "", { size: "77777777777" }));
    const bomb = Buffer.concat([head, ...Array.from({ length: 160 }, () => zeros)]);
    const limits = { ...LAYER_LIMITS, maxRatio: 10 };
    await expect(read(bomb, limits)).rejects.toThrow("unpacks to more than 1073741824 bytes");
  });

  test("what `take` throws ends the reading, and a missing file is an error of its own", async () => {
    writeFileSync(path, archive);
    const stop = new AegisError("refused", "enough");
    const taken = readLayer(path, () => {
      throw stop;
    });
    await expect(taken).rejects.toBe(stop);
    await expect(readLayer(join(directory, "none"), () => {})).rejects.toThrow("can't be read");
  });

  test("bzip2 is no layer", async () => {
    await expect(read(Buffer.from(`BZh9${"x".repeat(600)}`))).rejects.toThrow("invalid number");
  });
});

describe("Go's own archives (fixtures/tar)", () => {
  const DEEP = "longname/".repeat(15);
  const NUMBERS = Array.from({ length: 100 }, (_, i) => i + 1).join("");
  const cases: [string, string[] | RegExp][] = [
    ["file-and-dir.tar", ["file small.txt 0 0:0 5", "directory dir 0 0:0"]],
    ["gnu-incremental.tar", /kind that nothing unpacks/],
    ["gnu-long-nul.tar", ["file 0123456789 644 1000:1000 0 @1486082191000000000"]],
    ["gnu-multi-hdrs.tar", /two extension headers/],
    ["gnu-nil-sparse-data.tar", /sparse file/],
    ["gnu-nil-sparse-hole.tar", /sparse file/],
    ["gnu-not-utf8.tar", /not UTF-8/],
    ["gnu-sparse-big.tar.base64", /sparse file/],
    ["gnu-utf8.tar", [`file ${"☺☻☹".repeat(18)} 644 1000:1000 0`]],
    [
      "gnu.tar",
      [
        "file small.txt 640 73025:5000 5 @1244428340000000000",
        "file small2.txt 640 73025:5000 11 @1244436044000000000",
      ],
    ],
    [
      "hardlink.tar",
      [
        "file file.txt 644 1000:100 15 @1425484303000000000",
        "hard link hard.txt -> file.txt 644 1000:100 @1425484303000000000",
      ],
    ],
    ["hdr-only.tar", /directory with content/],
    ["invalid-go17.tar", /between two others/],
    ["issue10968.tar", /invalid number/],
    ["issue11169.tar", /invalid number/],
    ["issue12435.tar", /checksum/],
    ["neg-size.tar.base64", /older format/],
    ["nil-uid.tar", /no end/],
    ["pax-bad-hdr-file.tar", /malformed/],
    ["pax-bad-mtime-file.tar", /invalid time/],
    ["pax-global-records.tar", /global pax header/],
    ["pax-multi-hdrs.tar", /two extension headers/],
    ["pax-nil-sparse-data.tar", /GNU.sparse.major/],
    ["pax-nil-sparse-hole.tar", /GNU.sparse.major/],
    ["pax-nul-path.tar", /set path twice, or to nothing/],
    ["pax-nul-xattrs.tar", /no file can have/],
    ["pax-path-hdr.tar", /no end/],
    ["pax-pos-size-file.tar", /malformed/],
    ["pax-records.tar", ["file file 0 0:0 0"]],
    ["pax-sparse-big.tar.base64", /GNU.sparse.major/],
    [
      "pax.tar",
      [
        `file a/${NUMBERS} 664 1000:1000 7 @1350244992023960108`,
        `symlink a/b -> ${NUMBERS} 777 1000:1000 @1350266320910238425`,
      ],
    ],
    ["sparse-formats.tar", /sparse file/],
    ["star.tar", /between two others/],
    ["trailing-slash.tar", [`directory ${"123456789/".repeat(30).slice(0, -1)} 0 0:0`]],
    ["ustar-file-devs.tar", ["file file 644 0:0 0"]],
    ["ustar-file-reg.tar", /no end/],
    ["ustar.tar", [`file ${DEEP}file.txt 644 501:20 6 @1360135598000000000`]],
    ["v7.tar", /older format/],
    ["writer-big-long.tar.base64", /ends within a file/],
    ["writer-big.tar", /ends within a file/],
    [
      "writer.tar",
      [
        "file small.txt 640 73025:5000 5 @1246508266000000000",
        "file small2.txt 640 73025:5000 11 @1245217492000000000",
        "symlink link.txt -> small.txt 777 1000:1000 @1314603082000000000",
      ],
    ],
    [
      "xattrs.tar",
      [
        "file small.txt 644 1000:10 5 @1386065770448252320 user.key=value user.key2=value2 security.selinux=unconfined_u:object_r:default_t:s0\0",
        "file small2.txt 644 1000:10 11 @1386065770449252304 security.selinux=unconfined_u:object_r:default_t:s0\0",
      ],
    ],
  ];
  const FIXTURES = join(import.meta.dir, "fixtures/tar");
  const bytesOf = (name: string) => {
    const bytes = readFileSync(join(FIXTURES, name));
    return name.endsWith(".base64") ? Buffer.from(bytes.toString(), "base64") : bytes;
  };
  const run = (bytes: Uint8Array, expected: string[] | RegExp) => {
    if (expected instanceof RegExp) expect(() => parse(bytes)).toThrow(expected);
    else expect(parse(bytes).map(line)).toEqual(expected);
  };
  test.each(cases)("%s", (name, expected) => run(bytesOf(name), expected));

  const BZIP2 = "/usr/bin/bzip2";
  needs(existsSync(BZIP2), "bzip2, for two archives of Go's").test.each([
    ["gnu-sparse-many-zeros.tar.bz2", /GNU.sparse.major/],
    ["pax-bad-hdr-large.tar.bz2", /oversized extension/],
  ] as [string, RegExp][])("%s", (name, expected) => {
    const { stdout } = spawnSync(BZIP2, ["-dc", join(FIXTURES, name)], { maxBuffer: 1 << 28 });
    run(stdout, expected);
  });
});

describe("property", () => {
  const sound = tar(
    pax(["path", "p"], ["uid", "1000"], ["SCHILY.xattr.user.a", "1"]),
    tarEntry("a", "text".repeat(200)),
    tarEntry("d", "", DIRECTORY),
    tarEntry("l", "", { type: "1", link: "p" }),
    tarEntry("d/.wh.x"),
  );
  const outcome = (bytes: Uint8Array, piece: number) => {
    try {
      return parse(bytes, piece).map(line);
    } catch (error) {
      if (!(error instanceof AegisError) || error.code !== "refused") throw error;
      return error.message;
    }
  };
  const changes = fc.array(fc.tuple(fc.nat(sound.length - 1), fc.nat(255)), { maxLength: 4 });
  const mended = fc.boolean();

  test("changed bytes end in plain paths or in a refusal, however they arrive", () => {
    fc.assert(
      fc.property(changes, mended, fc.integer({ min: 1, max: 2000 }), (list, mend, piece) => {
        const bytes = Buffer.from(sound);
        for (const [at, value] of list) bytes[at] = value;
        // Most changes break a checksum; half of the runs get past that.
        if (mend) mendSums(bytes);
        const whole = outcome(bytes, bytes.length);
        expect(outcome(bytes, piece)).toEqual(whole);
        if (typeof whole === "string") return;
        for (const { path } of parse(bytes))
          for (const part of path.split("/")) expect(["..", "."]).not.toContain(part);
      }),
      { numRuns: 2000 },
    );
  });

  function mendSums(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += 512) {
      const block = bytes.subarray(at, at + 512);
      if (block.subarray(257, 262).toString("latin1") !== "ustar") continue;
      block.write("        ", 148);
      const sum = block.reduce((a, b) => a + b, 0);
      block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    }
  }

  const name = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 30 })
    .map((text) => `n${text.replaceAll(/[/\0\uFFFD]/g, "_")}`);
  const entry = fc.record({
    path: fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/")),
    body: fc.string({ maxLength: 1500 }),
    mode: fc.nat(0o7777),
    uid: fc.nat(65_535),
    mtime: fc.integer({ min: -(2 ** 31), max: 2 ** 32 }),
    xattr: fc.option(fc.string({ minLength: 1, maxLength: 40 })),
  });
  test("what is written is read: paths, modes, owners, times, content and attributes", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 8 }), fc.integer({ min: 1, max: 3000 }), (list, piece) => {
        const blocks = list.flatMap(({ path, body, mode, uid, mtime, xattr }) => {
          const records: [string, string][] = [
            ["path", path],
            ["uid", `${uid}`],
            ["mtime", `${mtime}`],
          ];
          if (xattr !== null) records.push(["SCHILY.xattr.user.x", xattr]);
          return [pax(...records), tarEntry("x", body, { mode: mode.toString(8).padStart(7, "0") })];
        });
        const found = parse(tar(...blocks), piece);
        const seen = found.map(({ path, mode, uid, mtime, sha256, xattrs }) => {
          const value = xattrs.get("user.x");
          return {
            path,
            mode,
            uid,
            mtime,
            xattr: value === undefined ? null : Buffer.from(value).toString(),
            sha256,
          };
        });
        expect(seen).toEqual(
          list.map(({ path, body, mode, uid, mtime, xattr }) => ({
            ...{ path, mode, uid, mtime: BigInt(mtime) * 1_000_000_000n, xattr },
            sha256: createHash("sha256").update(body).digest("hex"),
          })),
        );
      }),
      { numRuns: 300 },
    );
  });
});
