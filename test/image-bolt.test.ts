import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { type BoltBucket, readBolt } from "../src/image-bolt.ts";

/*
 * The reader against databases that bbolt wrote (test/fixtures/image/README.md), whole, damaged, and changed while they are read.
 */

const base = mkdtempSync(join(tmpdir(), "aegis-bolt-"));
afterAll(() => rmSync(base, { recursive: true }));
const fixture = (name: string) =>
  gunzipSync(readFileSync(join(import.meta.dir, "fixtures/image/bolt", name)));
const path = join(base, "a.db");
const put = (bytes: Uint8Array) => writeFileSync(path, bytes);
const MANY = fixture("many.db.gz");
const FEWER = fixture("fewer.db.gz");
const PAGE = 1024;

type Tree = { [key: string]: string | Tree };

/** A bucket with the values of these keys and all buckets, as main.go writes it. */
function treeOf(bucket: BoltBucket, like: Tree): Tree {
  const values = Object.entries(like).filter(([, value]) => typeof value === "string");
  const found = values.map(([key]) => [key, bucket.value(key)?.toString() ?? "none"]);
  const nested = bucket.buckets().map((key) => {
    const [below, words] = [bucket.bucket(key), like[key]];
    return [key, below === null ? "none" : treeOf(below, typeof words === "object" ? words : {})];
  });
  return Object.fromEntries([...found, ...nested]);
}

describe("what bbolt wrote", () => {
  test.each(["empty", "many", "fewer"])("%s", (name) => {
    put(fixture(`${name}.db.gz`));
    const expected: Tree = JSON.parse(fixture(`${name}.json.gz`).toString());
    expect(readBolt(path, (root) => treeOf(root, expected))).toEqual(expected);
  });
  test("nothing that isn't there, and no value for a bucket or the other way round", () => {
    put(MANY);
    const found = readBolt(path, (root) => {
      const one = root.bucket("one");
      return [root.bucket("none"), root.value("one"), one?.bucket("key"), one?.value("constructor")];
    });
    expect(found).toEqual([null, null, null, null]);
  });
  test("no file", () => expect(readBolt(join(base, "none"), () => 1)).toBeNull());
  test("containerd's own", () => {
    put(fixture("containerd.db.gz"));
    const target = readBolt(path, (root) =>
      root
        .bucket("v1")
        ?.bucket("moby")
        ?.bucket("images")
        ?.bucket("docker.io/team/app:1")
        ?.bucket("target")
        ?.value("digest")
        ?.toString(),
    );
    expect(target).toBe("sha256:4b61d872c0aec63f07ee8e91ffd509bc1f2ae38e462829b762297208dcd6f640");
  });
});

describe("while it is written", () => {
  const size = (root: BoltBucket) => root.bucket("one")?.buckets().length;

  test("what was read in between doesn't count, nor what failed", () => {
    put(MANY);
    let calls = 0;
    const found = readBolt(path, (root) => {
      const read = size(root);
      calls++;
      if (calls === 1) put(FEWER);
      if (calls === 1) throw new Error("read in between");
      return read;
    });
    expect([found, calls]).toEqual([1, 2]);
  });
  test("always: given up", () => {
    let calls = 0;
    put(MANY);
    expect(() => readBolt(path, () => put(calls++ % 2 === 0 ? FEWER : MANY))).toThrow(
      "was changed each time",
    );
  });
  test.each([0, 1])("meta page %i half written: the other one counts, whichever is older", (at) => {
    const bytes = Buffer.from(FEWER);
    bytes.fill(0x55, at * PAGE + 40, at * PAGE + 60);
    put(bytes);
    expect(readBolt(path, () => "read")).toBe("read");
  });
});

/** The page of a kind with these properties, as its offset. */
function pageOf(bytes: Buffer, flags: number, least = 1): number {
  for (let at = 2 * PAGE; at < bytes.length; at += PAGE)
    if (
      bytes.readBigUInt64LE(at) === BigInt(at / PAGE) &&
      bytes.readUInt16LE(at + 8) === flags &&
      bytes.readUInt16LE(at + 10) >= least
    )
      return at;
  throw new Error("there is no page");
}
const rootOf = (bytes: Buffer) => {
  const newest = bytes.readBigUInt64LE(16 + 48) > bytes.readBigUInt64LE(PAGE + 16 + 48) ? 0 : PAGE;
  return Number(bytes.readBigUInt64LE(newest + 16 + 16)) * PAGE;
};
/** The tree's pages that a full reading comes by. */
const readAll = () =>
  readBolt(path, (root) => root.buckets().map((name) => root.bucket(name)?.buckets().length));

describe("damaged: refused", () => {
  const BRANCH = pageOf(MANY, 1, 3);
  const LEAF = Number(MANY.readBigUInt64LE(BRANCH + 16 + 8)) * PAGE;
  const cases: [string, (bytes: Buffer) => void, string][] = [
    ["both meta pages", (b) => b.fill(1, 30, 34).fill(1, PAGE + 30, PAGE + 34), "no valid meta page"],
    ["the root is no page of a tree", (b) => b.writeUInt16LE(16, rootOf(b) + 8), "neither branch nor leaf"],
    ["a page with another number", (b) => b.writeUInt16LE(7, rootOf(b)), "says that it is another"],
    ["a page beyond the end", (b) => b.writeUInt32LE(1e9, rootOf(b) + 12), "behind the last page"],
    ["a leaf with too many entries", (b) => b.writeUInt16LE(0xffff, LEAF + 10), "more entries than room"],
    ["an entry elsewhere", (b) => b.writeUInt32LE(1e6, LEAF + 16 + 4), "outside of its page"],
    ["an entry in the list of entries", (b) => b.writeUInt32LE(0, LEAF + 16 + 4), "outside of its page"],
    ["a key without bytes", (b) => b.writeUInt32LE(0, LEAF + 16 + 8), "a key has 0 bytes"],
    ["unknown flags", (b) => b.writeUInt32LE(2, LEAF + 16), "an entry has the flags 2"],
    ["a value that is called a bucket", (b) => b.writeUInt32LE(1, LEAF + 16), "a bucket"],
    [
      "a branch that leads to itself",
      (b) => b.writeBigUInt64LE(BigInt(BRANCH / PAGE), BRANCH + 24),
      "deeper than",
    ],
    ["a branch to a meta page", (b) => b.writeBigUInt64LE(1n, BRANCH + 24), "there is no page 1"],
    ["a branch without children", (b) => b.writeUInt16LE(0, BRANCH + 10), "leads nowhere"],
  ];
  test.each(cases)("%s", (_, damage, why) => {
    const bytes = Buffer.from(MANY);
    damage(bytes);
    put(bytes);
    const all = () =>
      readBolt(path, (root) => {
        const below = (bucket: BoltBucket) => {
          for (const name of bucket.buckets()) {
            const one = bucket.bucket(name);
            if (one !== null) below(one);
          }
        };
        below(root);
      });
    expect(all).toThrow(why);
    expect(all).toThrow(AegisError);
  });
  test("branches that lead to the wrong leaves, by which its owner would find something else", () => {
    const bytes = Buffer.from(MANY);
    const [one, two] = [BRANCH + 24, BRANCH + 40].map((at) => bytes.readBigUInt64LE(at));
    bytes.writeBigUInt64LE(two ?? 0n, BRANCH + 24);
    bytes.writeBigUInt64LE(one ?? 0n, BRANCH + 40);
    put(bytes);
    expect(readAll).toThrow("that its branch doesn't lead to");
  });
  test("cut off, no database, no regular file, a link", () => {
    put(MANY.subarray(0, MANY.length / 2));
    expect(readAll).toThrow("it ends within page");
    for (const text of ["", "text", "x".repeat(100_000)]) {
      put(Buffer.from(text));
      expect(readAll).toThrow("no valid meta page");
    }
    mkdirSync(join(base, "dir"));
    expect(() => readBolt(join(base, "dir"), () => 1)).toThrow("no regular file");
    symlinkSync(path, join(base, "link"));
    expect(() => readBolt(join(base, "link"), () => 1)).toThrow("ELOOP");
  });
  test("whatever is changed, it is read or refused", () => {
    const changes = fc.array(fc.tuple(fc.nat(FEWER.length - 1), fc.constantFrom(0, 1, 2, 0x7f, 0x80, 0xff)), {
      minLength: 1,
      maxLength: 30,
    });
    fc.assert(
      fc.property(changes, fc.boolean(), (all, keepsMeta) => {
        const bytes = Buffer.from(FEWER);
        for (const [at, byte] of all)
          bytes[keepsMeta ? 2 * PAGE + (at % (FEWER.length - 2 * PAGE)) : at] = byte;
        put(bytes);
        try {
          readAll();
        } catch (error) {
          if (!(error instanceof AegisError)) throw error;
          expect(error.code).toBe("invalid_document");
        }
      }),
      { numRuns: 150 },
    );
  });
});
