import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { endOf, entriesSince, logFiles, newestText, type Position } from "../src/monitor-logs.ts";

let directory: string;
let log: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "aegis-logs-"));
  log = join(directory, "dpkg.log");
});
afterEach(() => rmSync(directory, { recursive: true }));

const since = (from: Position, most = 1000) => entriesSince(log, from, (line) => line || null, most);
const rotate = (name: string) => renameSync(log, join(directory, name));
/** As logrotate compresses: another file, with the same content. */
async function compress(name: string, to: string) {
  const bytes = await Bun.file(join(directory, name)).bytes();
  writeFileSync(join(directory, to), gzipSync(bytes));
  rmSync(join(directory, name));
}

describe("where reading resumes", () => {
  test("no log", async () => {
    expect(await since(null)).toEqual({ entries: [], end: null, found: true, problems: [] });
  });

  test("nothing new, then one line", async () => {
    writeFileSync(log, "a\nb\n");
    const end = await endOf(log);
    expect((await since(end)).entries).toEqual([]);
    appendFileSync(log, "c\n");
    const next = await since(end);
    expect(next.entries).toEqual(["c"]);
    expect((await since(next.end)).entries).toEqual([]);
  });

  test("an incomplete line is left to the next run", async () => {
    writeFileSync(log, "a\n");
    const end = await endOf(log);
    appendFileSync(log, "b\nhalf");
    const next = await since(end);
    expect(next.entries).toEqual(["b"]);
    appendFileSync(log, " and half\n");
    expect((await since(next.end)).entries).toEqual(["half and half"]);
  });

  test("only regular files are read, whatever their names", async () => {
    writeFileSync(log, "a\n");
    expect(spawnSync("mkfifo", [join(directory, "dpkg.log.1")]).status).toBe(0);
    mkdirSync(join(directory, "dpkg.log.2"));
    symlinkSync("nowhere", join(directory, "dpkg.log.3.gz"));
    expect(logFiles(log)).toEqual([log]);
    // A position that is nowhere: every file is looked at.
    expect(await since({ offset: 7, mark: "x" })).toMatchObject({ entries: ["a"], found: false });
  });

  test("a log that did not exist", async () => {
    expect(await endOf(log)).toBeNull();
    writeFileSync(log, "a\n");
    expect((await since(null)).entries).toEqual(["a"]);
  });

  test.each([
    ["renamed", ["dpkg.log.1"]],
    ["renamed with a date", ["dpkg.log-20261101"]],
  ])("%s between two runs", async (_, [name = ""]) => {
    writeFileSync(log, "a\n");
    const end = await endOf(log);
    appendFileSync(log, "b\n");
    rotate(name);
    writeFileSync(log, "c\n");
    const next = await since(end);
    expect(next).toMatchObject({ entries: ["b", "c"], problems: [] });
    expect((await since(next.end)).entries).toEqual([]);
  });

  test("rotated twice and compressed between two runs", async () => {
    writeFileSync(log, `${"x".repeat(9000)}\na\n`);
    const end = await endOf(log);
    appendFileSync(log, "b\n");
    rotate("dpkg.log.1");
    await compress("dpkg.log.1", "dpkg.log.2.gz");
    writeFileSync(log, "c\n");
    rotate("dpkg.log.1");
    writeFileSync(log, "");
    const next = await since(end);
    expect(next).toMatchObject({ entries: ["b", "c"], problems: [] });
    appendFileSync(log, "d\n");
    expect((await since(next.end)).entries).toEqual(["d"]);
  });

  test("only compressed files are left", async () => {
    writeFileSync(join(directory, "dpkg.log.2.gz"), gzipSync(`${"x".repeat(9000)}\na\n`));
    writeFileSync(log, "");
    const end = await endOf(log);
    expect((await since(end)).entries).toEqual([]);
    appendFileSync(log, "b\n");
    expect(await since(end)).toMatchObject({ entries: ["b"], found: true, problems: [] });
  });

  test("copied and truncated", async () => {
    writeFileSync(log, "a\n");
    const end = await endOf(log);
    appendFileSync(log, "b\n");
    writeFileSync(join(directory, "dpkg.log.1"), "a\nb\n");
    truncateSync(log, 0);
    appendFileSync(log, "c\n");
    expect(await since(end)).toMatchObject({ entries: ["b", "c"], problems: [] });
  });

  test.each([
    ["cut", () => writeFileSync(log, "a\n")],
    ["rewritten", () => writeFileSync(log, "a\nX\nc\nd\n")],
    ["deleted", () => rmSync(log)],
  ])("%s: all that is there comes, and it is said", async (_, change) => {
    writeFileSync(log, "a\nb\nc\n");
    const end = await endOf(log);
    change();
    const { problems, found } = await since(end);
    expect(found).toBe(false);
    expect(problems.join()).toContain("truncated, rewritten, or rotated away");
  });

  test("a garbage compressed file is reported", async () => {
    writeFileSync(join(directory, "dpkg.log.2.gz"), "garbage");
    writeFileSync(log, "a\n");
    expect(await since(null)).toMatchObject({
      entries: ["a"],
      problems: [expect.stringContaining("can't be read")],
    });
  });
});

test("garbage and endless lines do no harm", async () => {
  writeFileSync(log, Buffer.concat([Buffer.alloc(200_000, 0xff), Buffer.from("\n\0\n"), Buffer.from("a\n")]));
  expect((await since(null)).entries).toEqual(["\0", "a"]);
});

test("too many: the newest are read, and the number left out is reported", async () => {
  writeFileSync(log, Array.from({ length: 1000 }, (_, n) => `${n}\n`).join(""));
  const { entries, problems } = await since(null, 100);
  expect(entries.length).toBeLessThanOrEqual(100);
  expect(entries.at(-1)).toBe("999");
  expect(problems).toEqual([
    `${log}: too many changes; the oldest ${1000 - entries.length} were not inspected`,
  ]);
});

test("a log's files, oldest first, and nothing else", () => {
  for (const name of [
    "dpkg.log",
    "dpkg.log.1",
    "dpkg.log.10.gz",
    "dpkg.log.2.gz",
    "dpkg.log.bak",
    "dpkg.logs",
    "x",
  ])
    writeFileSync(join(directory, name), "");
  expect(logFiles(log).map((path) => basename(path))).toEqual([
    "dpkg.log.10.gz",
    "dpkg.log.2.gz",
    "dpkg.log.1",
    "dpkg.log",
  ]);
  for (const name of ["dpkg.log.1", "dpkg.log.10.gz", "dpkg.log.2.gz"]) rmSync(join(directory, name));
  for (const name of ["dpkg.log-20261001.gz", "dpkg.log-20261101"]) writeFileSync(join(directory, name), "");
  expect(logFiles(log).map((path) => basename(path))).toEqual([
    "dpkg.log-20261001.gz",
    "dpkg.log-20261101",
    "dpkg.log",
  ]);
});

test("the newest text is complete and in order, the oldest is left out", async () => {
  writeFileSync(join(directory, "dpkg.log.2.gz"), gzipSync("old\n"));
  writeFileSync(join(directory, "dpkg.log.1"), "middle\n");
  writeFileSync(log, "new\n");
  expect(await newestText(log, 1000)).toBe("old\n\nmiddle\n\nnew\n");
  expect(await newestText(log, 5)).toBe("middle\n\nnew\n");
});
