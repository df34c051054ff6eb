import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { FeedIndex, HEADER_BYTES } from "../src/osv-index.ts";
import { withDirectory, writeIndex } from "./feeds-kit.ts";

function said<T>(action: () => T): T | string {
  try {
    return action();
  } catch (error) {
    return error instanceof Error ? error.message : "not an Error";
  }
}

/** What looking some keys up says, or why it can't. */
function look(path: string, keys: readonly string[]): string[] | string {
  // Who reads the description alone is told the same.
  expect(said(() => FeedIndex.describe(path))).toEqual(
    said(() => {
      const index = FeedIndex.open(path);
      index?.close();
      return index?.description ?? null;
    }),
  );
  let index: FeedIndex | null = null;
  try {
    index = FeedIndex.open(path);
    return index === null ? "none" : [...index.find(keys)].map(({ key, text }) => `${key} ${text}`);
  } catch (error) {
    return error instanceof Error ? error.message : "not an Error";
  } finally {
    index?.close();
  }
}

/** An index with its tables changed, and a checksum that is right again: what a hostile writer can make. */
function tampered(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  change(bytes);
  bytes.writeUInt32LE(crc32(bytes.subarray(bytes.readUInt32LE(8))), 24);
  writeFileSync(path, bytes);
}

const RECORDS = [
  { keys: ["openssl", "libssl"], text: '{"id":"A"}' },
  { keys: ["openssl"], text: '{"id":"B"}' },
  { keys: [], text: '{"id":"C"}' },
  { keys: ["ünï/cøde"], text: '{"id":"D"}' },
];

describe("an index that can't be used says so", () => {
  const FILES: [what: string, make: (path: string) => void, said: string][] = [
    ["empty", (path) => writeFileSync(path, ""), "it is cut off"],
    ["another file", (path) => writeFileSync(path, "x".repeat(100)), "it is not an index of this version"],
    ["a directory", (path) => mkdirSync(path), "it is not a regular file"],
    ["a link to another", (path) => symlinkSync("/etc/passwd", path), "it is a symbolic link"],
    ["a pipe", (path) => execFileSync("mkfifo", [path]), "it is not a regular file"],
  ];
  for (const [what, make, said] of FILES) {
    test(what, () =>
      withDirectory(async (directory) => {
        make(join(directory, "x.index"));
        expect(look(join(directory, "x.index"), ["a"])).toBe(said);
      }),
    );
  }

  const CHANGES: [what: string, change: (bytes: Buffer) => void, said: string][] = [
    ["more records than there are", (b) => b.writeUInt32LE(2 ** 32 - 1, 12), "it is larger than any feed"],
    ["more keys than there are", (b) => b.writeUInt32LE(5, 16), "its size is not what it says"],
    ["its tables in the header", (b) => b.writeUInt32LE(4, 8), "its size is not what it says"],
    ["tables behind its end", (b) => b.writeUInt32LE(2 ** 32 - 1, 8), "its size is not what it says"],
    [
      "a record that it doesn't have",
      (b) => keysOf(b).fill(0xff, 0, 3),
      "it refers to a record that it doesn't have",
    ],
    [
      "a record that ends before it begins",
      (b) => endsOf(b).fill(0),
      "a record in it has an impossible size",
    ],
    ["a record of 4 GiB", (b) => endsOf(b).fill(0xff), "a record in it has an impossible size"],
    [
      "a description that isn't one",
      (b) => b.write("}", b.length - b.readUInt32LE(20)),
      "its description can't be read: JSON Parse error: Unexpected token '}'",
    ],
  ];
  const endsOf = (b: Buffer) => b.subarray(b.readUInt32LE(8), b.readUInt32LE(8) + 4 * b.readUInt32LE(12));
  const keysOf = (b: Buffer) => b.subarray(b.readUInt32LE(8) + 4 * b.readUInt32LE(12));
  for (const [what, change, said] of CHANGES) {
    test(what, () =>
      withDirectory(async (directory) => {
        const path = writeIndex(directory, "x", RECORDS);
        // One record, so that every key finds it.
        const only = writeIndex(directory, "y", [{ keys: ["openssl"], text: "1" }]);
        for (const one of [path, only]) tampered(one, change);
        expect([look(path, ["openssl"]), look(only, ["openssl"])]).toContain(said);
      }),
    );
  }

  test("a changed byte in its tables", () =>
    withDirectory(async (directory) => {
      const path = writeIndex(directory, "x", RECORDS);
      const bytes = readFileSync(path);
      bytes.writeUInt8(bytes.readUInt8(bytes.readUInt32LE(8)) ^ 1, bytes.readUInt32LE(8));
      writeFileSync(path, bytes);
      expect(look(path, ["openssl"])).toBe("it is damaged");
    }));

  test("cut off anywhere", () =>
    withDirectory(async (directory) => {
      const path = writeIndex(directory, "x", RECORDS);
      for (let size = readFileSync(path).length - 1; size >= 0; size -= 7) {
        truncateSync(path, size);
        expect(look(path, ["openssl"])).toBeString();
      }
    }));
});

test("everybody can read one, whatever the umask of who writes it", () =>
  withDirectory(async (directory) => {
    const before = process.umask(0o077);
    try {
      expect(statSync(writeIndex(directory, "x", RECORDS)).mode & 0o777).toBe(0o644);
    } finally {
      process.umask(before);
    }
  }));

test("finds what is under a key, each record once", () =>
  withDirectory(async (directory) => {
    const path = writeIndex(directory, "x", RECORDS);
    expect(look(path, ["openssl", "libssl"])).toEqual(['openssl {"id":"A"}', 'openssl {"id":"B"}']);
    expect(look(path, ["libssl"])).toEqual(['libssl {"id":"A"}']);
    expect(look(path, ["ünï/cøde", "openss", "opensslx", ""])).toEqual(['ünï/cøde {"id":"D"}']);
    expect(look(writeIndex(directory, "none", []), ["openssl"])).toEqual([]);
    expect(look(join(directory, "absent.index"), ["openssl"])).toBe("none");
  }));

test("property: what was written is found, and nothing else, but for others' records now and then", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.array(fc.string(), { maxLength: 4 }), fc.json()), { maxLength: 60 }),
      (rows) =>
        withDirectory(async (directory) => {
          const path = writeIndex(
            directory,
            "x",
            rows.map(([keys, text]) => ({ keys, text })),
          );
          for (const key of new Set(rows.flatMap(([keys]) => keys))) {
            const own = rows.filter(([keys]) => keys.includes(key)).map(([, text]) => `${key} ${text}`);
            expect(look(path, [key])).toEqual(own);
          }
        }),
    ),
    { numRuns: 60 },
  ));

test("property: a hostile index fails in words or finds something, within its bounds", () =>
  withDirectory(async (directory) => {
    const path = writeIndex(directory, "x", RECORDS);
    const whole = readFileSync(path);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 12 }),
        fc.option(fc.nat(whole.length)),
        fc.boolean(),
        async (changes, size, summed) => {
          const bytes = Buffer.from(whole.subarray(0, size ?? whole.length));
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          const tables = bytes.length < HEADER_BYTES ? bytes.length : bytes.readUInt32LE(8);
          if (summed && tables < bytes.length) bytes.writeUInt32LE(crc32(bytes.subarray(tables)), 24);
          writeFileSync(path, bytes);
          const said = look(path, ["openssl", "libssl", "other"]);
          expect(said).not.toBe("not an Error");
          if (typeof said !== "string") expect(said.length).toBeLessThanOrEqual(RECORDS.length);
        },
      ),
      { numRuns: 800 },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        writeFileSync(path, Buffer.concat([Buffer.from("AEGISIX1"), bytes]));
        expect(look(path, ["openssl"])).toBeString();
      }),
      { numRuns: 300 },
    );
  }));
