import { afterEach, beforeEach, expect } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openProductionLog } from "../src/audit-production.ts";
import { AegisError } from "../src/errors.ts";
import { needs } from "./needs.ts";

/*
 * Root's log below a directory that others can write, like /var/log on Ubuntu: what the syslog user could put in its
 * place.
 */

const here = needs(process.getuid?.() === 0, "root (audit-production.test.ts)");
const EVENT = { kind: "requests_refused", details: { count: 1 } } as const;
let parent: string;
let dir: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "aegis-production-"));
  dir = join(parent, "aegis");
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const newest = () => join(parent, "newest-event");
const open = () => openProductionLog({ path: dir, newest: newest() });
const thrown = (use: () => unknown): AegisError => {
  try {
    use();
  } catch (error) {
    if (error instanceof AegisError) return error;
    throw error;
  }
  throw new Error("it was accepted");
};

const made = (mode: number, uid = 0) => {
  mkdirSync(dir);
  chmodSync(dir, mode);
  chownSync(dir, uid, 0);
};

const CASES: [what: string, put: () => unknown, says: string][] = [
  ["nothing", () => {}, "no such file"],
  ["a link to a directory of root's", () => symlinkSync("/etc", dir), "can't be opened as a directory"],
  ["a file", () => writeFileSync(dir, ""), "can't be opened as a directory"],
  ["a directory of another user", () => made(0o755, 61002), "does not belong to root"],
  ["a group-writable one", () => made(0o770), "can be written by others"],
  ["a world-writable one", () => made(0o1777), "can be written by others"],
];
for (const [what, put, says] of CASES) {
  here.test(`${what} in its place: refused, and nothing is written there`, () => {
    put();
    const { code, message, hint } = thrown(open);
    expect({ code, message, hint }).toEqual({
      code: "io",
      message: expect.stringContaining(says),
      hint: expect.stringContaining(dir),
    });
    expect(existsSync(join(dir, "audit.ndjson"))).toBe(false);
  });
}

here.test(
  "another directory of root's in its place, with fewer events than were written: no log of this host",
  () => {
    mkdirSync(dir);
    const log = open();
    for (let n = 0; n < 3; n++) log.append(EVENT);
    expect(open().head()?.sequence).toBe(3);
    renameSync(dir, join(parent, "elsewhere"));
    mkdirSync(dir);
    const { code, message } = thrown(() => open());
    expect(code).toBe("log_tampered");
    expect(message).toContain(`the log in ${dir} ends with event 0, but this host has written event 3`);
    expect(existsSync(join(dir, "audit.ndjson"))).toBe(false);
  },
);

const OTHERS: [what: string, kept: string | null][] = [
  ["none", null],
  ["an empty one", ""],
  ["half of one", "00000000000"],
  ["an older one", "0000000000000000001\n"],
];
for (const [what, kept] of OTHERS) {
  here.test(
    `${what} in place of the number of the newest event: the log is taken as it is, and the number kept again`,
    () => {
      mkdirSync(dir);
      const log = open();
      for (let n = 0; n < 3; n++) log.append(EVENT);
      if (kept === null) rmSync(newest());
      else writeFileSync(newest(), kept);
      open().append(EVENT);
      expect(readFileSync(newest(), "latin1")).toBe("0000000000000000004\n");
    },
  );
}

here.test("renamed while open: writes go to the log, not to the new directory of that name", () => {
  mkdirSync(dir);
  const log = open();
  log.append(EVENT);
  const moved = join(parent, "elsewhere");
  renameSync(dir, moved);
  mkdirSync(dir);
  chownSync(dir, 61002, 0);
  log.append(EVENT);
  log.reserve(4096);
  expect(readFileSync(join(moved, "audit.ndjson"), "utf8").split("\n").length).toBe(3);
  expect(existsSync(join(moved, "audit.reserve"))).toBe(true);
  expect([existsSync(join(dir, "audit.ndjson")), existsSync(join(dir, "lock"))]).toEqual([false, false]);
});

here.test("errors use its path", () => {
  mkdirSync(dir);
  const log = open();
  log.append(EVENT);
  writeFileSync(join(dir, "audit.ndjson"), "not an event\n", { flag: "a" });
  const { code, message, hint } = thrown(() => log.append(EVENT));
  expect(code).toBe("log_tampered");
  expect(message).toContain(join(dir, "audit.ndjson"));
  expect(message + hint).not.toContain("/proc/");
});

here.test("a log with a changed end is reported on use, not as another log", () => {
  mkdirSync(dir);
  open().append(EVENT);
  writeFileSync(join(dir, "audit.ndjson"), "not an event\n", { flag: "a" });
  expect(thrown(() => open().append(EVENT)).message).toContain("its last line");
});

here.test("an event written by another process while opening doesn't look like a shorter log", async () => {
  made(0o755);
  const first = open();
  first.append(EVENT);
  // The other process writes its event once this one reads the number, which is provided only then.
  rmSync(newest());
  Bun.spawnSync(["mkfifo", newest()]);
  const log = join(import.meta.dir, "../src/audit-log.ts");
  const other = `
    import { closeSync, openSync, writeSync } from "node:fs";
    import { openAuditLog } from ${JSON.stringify(log)};
    const fd = openSync(${JSON.stringify(newest())}, "w");
    openAuditLog(${JSON.stringify(dir)}).append(${JSON.stringify(EVENT)});
    writeSync(fd, "0000000000000000002\\n");
    closeSync(fd);
  `;
  const writer = Bun.spawn([process.execPath, "-e", other]);
  expect(open().head()?.sequence).toBe(2);
  expect(await writer.exited).toBe(0);
});
