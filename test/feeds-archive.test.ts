import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { hash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { type FeedLimits, readFeedFile, readFeedTar, readFeedZip } from "../src/feeds-archive.ts";
import { tar, tarEntry, zip } from "./archive-kit.ts";
import { withDirectory, zip64 } from "./feeds-kit.ts";

const LIMITS: FeedLimits = { packed: 1e6, unpacked: 1e9, ratio: 1000, entries: 5, entry: 1000 };
const FILES = [
  { name: "a.json", body: "one" },
  { name: "d/b.json", body: "two".repeat(100) },
  { name: "c.json", body: "", method: 0 },
];
const READ = ["a.json 3", "d/b.json 300", "c.json 0"];

function zipped(bytes: Uint8Array, limits: Partial<FeedLimits> = {}): Promise<string[]> {
  return withDirectory(async (directory) => {
    const path = join(directory, "x");
    writeFileSync(path, bytes);
    return [...readFeedZip(path, { ...LIMITS, ...limits })].map(({ name, data }) => `${name} ${data.length}`);
  });
}

function tarred(bytes: Uint8Array, limits: Partial<FeedLimits> = {}): Promise<string[]> {
  return withDirectory(async (directory) => {
    const path = join(directory, "x");
    writeFileSync(path, bytes);
    const files: string[] = [];
    for await (const { name, data } of readFeedTar(path, { ...LIMITS, ...limits }))
      files.push(`${name} ${data.length}`);
    return files;
  });
}

const xz = (bytes: Uint8Array) => execFileSync("/usr/bin/xz", ["--stdout"], { input: bytes, maxBuffer: 1e9 });

/** Bytes that can't be packed. */
const noise = (length: number) =>
  Buffer.concat(Array.from({ length: length / 20 }, (_, n) => hash("sha1", String(n), "buffer")));

/** All three entries of its directory are about its one file. */
function overlapping(): Buffer {
  const one = zip([{ name: "a", body: noise(400) }]);
  const at = one.indexOf("PK\x01\x02");
  const entry = one.subarray(at, -22);
  const end = Buffer.from(one.subarray(-22));
  end.writeUInt16LE(3, 8);
  end.writeUInt16LE(3, 10);
  end.writeUInt32LE(3 * entry.length, 12);
  return Buffer.concat([one.subarray(0, at), entry, entry, entry, end]);
}

describe("zip", () => {
  const plain = zip(FILES);
  const REFUSED: [what: string, bytes: Buffer, said: string, limits?: Partial<FeedLimits>][] = [
    ["nothing", Buffer.alloc(0), "it is no zip archive, or cut off"],
    ["a comment at its end", zip(FILES, { comment: "x" }), "it is no zip archive, or cut off"],
    ["something behind its directory", zip(FILES, { behind: "x" }), "something stands behind its directory"],
    ["more files than it says", zip(FILES, { count: 2 }), "its directory has another length than it says"],
    ["fewer files than it says", zip(FILES, { count: 4 }), "its directory is damaged"],
    ["too many files", plain, "it has more than 2 files", { entries: 2 }],
    ["too large a file", plain, "d/b.json in it is larger than 299 bytes", { entry: 299 }],
    ["too much together", plain, "it unpacks to far too much", { unpacked: 302 }],
    ["files that share their bytes", overlapping(), "its files overlap"],
    [
      "a file of many bytes that says it has few",
      zip([{ name: "a", body: noise(400), size: 100 }]),
      "a in it is larger than 300 bytes",
      { entry: 300 },
    ],
    ["another way of packing", zip([{ name: "a", body: "x", method: 12 }]), "in a way that isn't deflate"],
    [
      "half a zip64 record",
      Buffer.concat([plain.subarray(0, 4), zip64(plain).subarray(-42)]),
      "no zip archive",
    ],
  ];
  test.each(REFUSED)("%s", (_, bytes, said, limits = {}) =>
    expect(zipped(bytes, limits)).rejects.toThrow(said),
  );

  test("in order, with descriptors and by zip64 too", async () => {
    expect(await zipped(plain)).toEqual(READ);
    expect(await zipped(zip(FILES.map((one) => ({ ...one, descriptor: "signed" }))))).toEqual(READ);
    expect(await zipped(zip64(plain))).toEqual(READ);
  });

  test("directories in it are passed over", async () => {
    expect(await zipped(zip([{ name: "d/", mode: 0o40755 }, ...FILES]))).toEqual(READ);
  });

  test("property: whatever is changed in one is refused in words, or read", () =>
    fc.assert(
      fc.asyncProperty(
        fc.constantFrom(plain, zip64(plain)),
        fc.array(fc.tuple(fc.nat(plain.length + 70), fc.nat(255)), { maxLength: 5 }),
        fc.option(fc.nat(plain.length)),
        async (whole, changes, size) => {
          const bytes = Buffer.from(whole.subarray(0, size ?? whole.length));
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          const said = await zipped(bytes).catch((error: unknown) => error);
          expect(said instanceof Error || Array.isArray(said)).toBe(true);
        },
      ),
      { numRuns: 300 },
    ));
});

describe("tar", () => {
  const plain = tar(
    tarEntry("vex/", "", { type: "5" }),
    tarEntry("a.json", "one"),
    tarEntry("b.json", "x".repeat(600)),
  );
  const REFUSED: [what: string, bytes: Buffer, said: string, limits?: Partial<FeedLimits>][] = [
    ["nothing", Buffer.alloc(0), "it is cut off"],
    ["no end", plain.subarray(0, 512 * 3), "it is cut off"],
    ["cut off within a file", plain.subarray(0, 512 * 4 + 7), "it is cut off within a file"],
    ["a wrong checksum", tar(tarEntry("a", "", { sum: 5 })), "a header has a wrong checksum"],
    ["a way out", tar(tarEntry("../a", "x")), "is no plain path"],
    ["too many files", plain, "it has more than 2 files", { entries: 2 }],
    ["too large a file", plain, "a file in it is larger than 599 bytes", { entry: 599 }],
    [
      "too large a claim",
      tar(tarEntry("a", "", { size: "77777777777" })),
      "a file in it is larger than 1000 bytes",
    ],
    [
      "too much together",
      xz(tar(tarEntry("a", "x"), Buffer.alloc(20 * 1024 * 1024))),
      "far too much",
      { ratio: 1 },
    ],
    ["half an xz", xz(plain).subarray(0, 90), "xz failed (status 1)"],
    ["an xz with a damaged byte", xz(plain).fill(7, 60, 64), "xz failed (status 1)"],
  ];
  test.each(REFUSED)("%s", (_, bytes, said, limits = {}) =>
    expect(tarred(bytes, limits)).rejects.toThrow(said),
  );

  test("plain, by gzip and by xz", async () => {
    const read = ["a.json 3", "b.json 600"];
    expect(await tarred(plain)).toEqual(read);
    expect(await tarred(Bun.gzipSync(new Uint8Array(plain)) as Uint8Array)).toEqual(read);
    expect(await tarred(xz(plain))).toEqual(read);
  });
});

test("a file is unpacked by what it begins with", () =>
  withDirectory(async (directory) => {
    const path = join(directory, "x");
    for (const bytes of [Buffer.from("text"), Bun.gzipSync("text"), xz(Buffer.from("text"))]) {
      writeFileSync(path, bytes);
      expect((await readFeedFile(path, LIMITS)).toString()).toBe("text");
    }
  }));
