import { afterAll, describe, expect, test } from "bun:test";
import { appendFileSync, chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { Lines, OUTPUT_FILES, RunWatch, Tail } from "../src/eco-run.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

describe("Tail", () => {
  const { path, remove } = temporaryDirectory();
  afterAll(remove);

  test("what has come since the last look, at most as much as asked for", () => {
    const file = join(path, "growing");
    const tail = new Tail(file);
    expect(tail.read()).toHaveLength(0);
    appendFileSync(file, "abcdef");
    expect(tail.read(4).toString()).toBe("abcd");
    expect(tail.read(4).toString()).toBe("ef");
    expect(tail.read()).toHaveLength(0);
    appendFileSync(file, "g");
    expect(tail.read().toString()).toBe("g");
  });
  test("what can't be read is an error, not silence", () => {
    mkdirSync(join(path, "directory"));
    chmodSync(join(path, "directory"), 0o700);
    expect(() => new Tail(join(path, "directory")).read()).toThrow("EISDIR");
    appendFileSync(join(path, "file"), "");
    expect(() => new Tail(join(path, "file/below")).read()).toThrow("ENOTDIR");
  });
});

describe("Lines", () => {
  const CASES: [pieces: string[], expected: string[]][] = [
    [[""], []],
    [["a"], []],
    [["a\n"], ["a"]],
    [["a", "b\nc"], ["ab"]],
    [
      ["a\nb\n", "\n"],
      ["a", "b", ""],
    ],
    [["a\r\n"], ["a\r"]],
  ];
  for (const [pieces, expected] of CASES) {
    test(JSON.stringify(pieces), () => {
      const lines = new Lines();
      expect(pieces.flatMap((piece) => lines.push(piece))).toEqual(expected);
    });
  }
  test("a line without an end does not grow for ever", () => {
    const lines = new Lines();
    for (let i = 0; i < 10; i++) expect(lines.push("x".repeat(50_000))).toEqual([]);
    expect(lines.push("\n")).toEqual(["x".repeat(64 * 1024)]);
  });
  test("property: the cuts between pieces change nothing", () => {
    const piece = fc.string({ unit: fc.constantFrom("a", "b", "\n") });
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const lines = new Lines();
        expect(pieces.flatMap((one) => lines.push(one))).toEqual(pieces.join("").split("\n").slice(0, -1));
      }),
    );
  });
});

describe("RunWatch", () => {
  const { path, remove } = temporaryDirectory();
  afterAll(remove);
  /** `<percent> <text>` is progress. */
  const PERCENT = {
    progress(line: string) {
      const [, percent, message] = /^(\d+) (.*)$/.exec(line) ?? [];
      return message === undefined ? null : { percent: Number(percent), message };
    },
  };
  const heard: string[] = [];
  const watch = new RunWatch(path, PERCENT, {
    progress: (percent, message) => heard.push(`${percent} ${message}`),
    output: (stream, data) => heard.push(`${stream}: ${data}`),
  });
  const look = () => {
    watch.look();
    return heard.splice(0);
  };
  const add = (name: keyof typeof OUTPUT_FILES, data: string | Uint8Array) =>
    appendFileSync(join(path, OUTPUT_FILES[name]), data);

  test("before there is anything", () => expect(look()).toEqual([]));
  test("what has come since the last look, each thing once", () => {
    add("stdout", "one\ntw");
    add("stderr", "W: careful\n");
    expect(look()).toEqual(["stdout: one\ntw", "stderr: W: careful\n"]);
    add("stdout", "o\n");
    expect(look()).toEqual(["stdout: o\n"]);
    expect(look()).toEqual([]);
  });
  test("a status line only when it is whole", () => {
    add("status", "10 fir");
    expect(look()).toEqual([]);
    add("status", "st\n20 second\nnonsense\n30 th");
    expect(look()).toEqual(["10 first", "20 second"]);
  });
  test("a character that comes in two pieces", () => {
    const bytes = Buffer.from("ü");
    add("stdout", bytes.subarray(0, 1));
    expect(look().join("")).not.toContain("\ufffd");
    add("stdout", bytes.subarray(1));
    expect(look().join("")).toContain("ü");
  });
  test("more than one piece at a time", () => {
    add("stdout", "x".repeat(200_000));
    expect(look().join("").replaceAll("stdout: ", "")).toBe("x".repeat(200_000));
  });
  test("a watcher that comes later hears everything from the start", () => {
    writeFileSync(join(path, OUTPUT_FILES.stdout), "all of it");
    const late: string[] = [];
    new RunWatch(path, PERCENT, { progress: () => {}, output: (_, data) => late.push(data) }).look();
    expect(late[0]).toBe("all of it");
  });
});
