import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { AUDIT_KINDS, type AuditEvent, encodeLine, GENESIS_HASH, MAX_LINE } from "../src/audit-event.ts";
import { openAuditLog, recordUserEvent } from "../src/audit-log.ts";
import { readEvents, rotatedNames } from "../src/audit-read.ts";
import { verifyAuditLog } from "../src/audit-verify.ts";
import { sha256Hex } from "../src/canonical.ts";
import { AegisError } from "../src/errors.ts";
import { needs } from "./needs.ts";

// Several tests start processes.
setDefaultTimeout(60_000);

const MODULE = join(import.meta.dir, "../src/audit-log.ts");
let dir: string;
let file: string;

beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), "aegis-audit-")), "log");
  file = join(dir, "audit.ndjson");
});
afterEach(() => rmSync(join(dir, ".."), { recursive: true, force: true }));

/** A log of `n` events, actually appended. */
function logOf(n: number, options: Parameters<typeof openAuditLog>[1] = {}): AuditEvent[] {
  const log = openAuditLog(dir, options);
  return Array.from({ length: n }, (_, i) => log.append({ kind: "plan_created", details: { i } }));
}

/** Lines of the current file, without newlines. */
function lines(): string[] {
  return readFileSync(file, "utf8").split("\n").slice(0, -1);
}

function codeOf(action: () => unknown): string {
  try {
    action();
    return "nothing thrown";
  } catch (error) {
    return error instanceof AegisError ? error.code : String(error);
  }
}

/** A chain of `n` events as text, for long or forged logs. */
function chain(n: number, timestamp = "2026-01-02T03:04:05.678Z"): string[] {
  let previous_hash = GENESIS_HASH;
  return Array.from({ length: n }, (_, i) => {
    const at = { sequence: i + 1, event_id: crypto.randomUUID(), timestamp, host: "h", previous_hash };
    const { event, line } = encodeLine({ kind: "plan_created", details: { i } }, at);
    previous_hash = event.event_hash;
    return line;
  });
}

/** A program that uses the log, in its own process. */
function program(code: string, ...wrap: string[]) {
  const source = `import { openAuditLog } from ${JSON.stringify(MODULE)};\nconst dir = ${JSON.stringify(dir)};\n${code}`;
  return Bun.spawn([...wrap, process.execPath, "-e", source], { stdout: "pipe", stderr: "pipe" });
}

describe("verification refuses", () => {
  const cases: [string, (all: string[]) => string[], number, RegExp][] = [
    [
      "a changed byte",
      (all) => all.with(2, at(all, 2).replace('"i":2', '"i":9')),
      3,
      /event_hash does not match/,
    ],
    [
      "a changed number",
      (all) => all.with(2, at(all, 2).replace('"sequence":3', '"sequence":4')),
      3,
      /event_hash/,
    ],
    ["a removed line", (all) => all.toSpliced(2, 1), 3, /event 4 is where 3 belongs/],
    ["two lines swapped", (all) => all.with(2, at(all, 3)).with(3, at(all, 2)), 3, /event 4 is where 3/],
    ["a repeated line", (all) => all.toSpliced(2, 0, at(all, 1)), 3, /event 2 is where 3 belongs/],
    ["a line of another chain", (all) => all.with(2, at(chain(5), 2)), 3, /previous_hash/],
    [
      "a rewritten line that hashes itself right",
      (all) => all.with(2, rehash(at(all, 2), '"i":2', '"i":9')),
      4,
      /previous/,
    ],
    [
      "a number left out",
      (all) => [...all.slice(0, 2), rehash(at(all, 2), '"sequence":3', '"sequence":4')],
      3,
      /event 4 is where 3/,
    ],
    ["a first line with another number", (all) => all.slice(2), 1, /begins with event 3: earlier files/],
    ["an empty line", (all) => all.toSpliced(2, 0, "\n"), 3, /not in the format/],
    ["text", (all) => all.with(4, "hello\n"), 5, /not in the format/],
    ["an endless line", (all) => all.with(4, `${"x".repeat(3 << 20)}\n`), 5, /longer than/],
    ["no newline anywhere", (all) => all.with(4, "x".repeat(MAX_LINE + 1)), 5, /longer than/],
    ["an impossible date", () => chain(5, "2026-13-41T03:04:05.678Z"), 1, /timestamp is not a date/],
    [
      "another major version",
      (all) => all.with(0, rehash(at(all, 0), '"1.0"', '"2.0"')),
      1,
      /not in the format/,
    ],
  ];
  const at = (all: string[], i: number) => all[i] ?? "";

  test.each(cases)("%s", (_, change, line, reason) => {
    logOf(1);
    writeFileSync(file, change(chain(5)).join(""));
    expect(verifyAuditLog(dir)).toMatchObject({
      ok: false,
      file,
      line,
      reason: expect.stringMatching(reason),
    });
  });

  function rehash(line: string, from: string, to: string): string {
    const body = line.slice(0, line.lastIndexOf(',"event_hash"')).replace(from, to);
    return `${body},"event_hash":"${sha256Hex(body)}"}\n`;
  }

  test("any single changed bit of any byte", () => {
    logOf(1);
    const good = Buffer.from(chain(3).join(""));
    for (let i = 0; i < good.length; i++) {
      const bad = Buffer.from(good);
      bad[i] = (bad[i] ?? 0) ^ (1 << (i % 7));
      writeFileSync(file, bad);
      const result = verifyAuditLog(file);
      // Losing the last newline is the one change that makes a torn line instead.
      expect([i, result.ok && result.torn_bytes === 0]).toEqual([i, false]);
    }
  });

  test("a missing log", () => {
    expect(codeOf(() => verifyAuditLog(dir))).toBe("not_found");
    openAuditLog(dir);
    expect(codeOf(() => verifyAuditLog(dir))).toBe("not_found");
  });

  test("accepts an honest log; a cut at a line's end can't be detected by the chain alone", () => {
    logOf(5);
    const whole = verifyAuditLog(dir);
    expect(whole).toMatchObject({ ok: true, events: 5, first: 1, torn_bytes: 0, head: { sequence: 5 } });
    writeFileSync(file, `${lines().slice(0, 3).join("\n")}\n`);
    const cut = verifyAuditLog(dir);
    expect(cut).toMatchObject({ ok: true, events: 3 });
    // Only a head kept elsewhere detects it.
    expect(cut.ok && whole.ok && cut.head?.hash !== whole.head?.hash).toBe(true);
  });
});

describe("append", () => {
  test("refuses a changed complete last line, and leaves it unchanged", () => {
    logOf(3);
    const bad = readFileSync(file, "utf8").replace('"i":2', '"i":7');
    writeFileSync(file, bad);
    expect(codeOf(() => openAuditLog(dir).append({ kind: "plan_signed" }))).toBe("log_tampered");
    expect(codeOf(() => openAuditLog(dir).head())).toBe("log_tampered");
    expect(readFileSync(file, "utf8")).toBe(bad);
  });

  test("times never decrease: with the clock set back, the last time is used and the clock recorded", () => {
    let now = new Date("2026-02-01T00:00:00.000Z");
    const log = openAuditLog(dir, { now: () => now });
    log.append({ kind: "plan_created" });
    now = new Date("2026-01-01T00:00:00.000Z");
    const behind = log.append({ kind: "execution_denied", details: { code: "clock_behind" } });
    expect(behind.timestamp).toBe("2026-02-01T00:00:00.000Z");
    expect(behind.details).toEqual({ code: "clock_behind", clock: "2026-01-01T00:00:00.000Z" });
    expect(log.head()?.timestamp).toBe("2026-02-01T00:00:00.000Z");
    now = new Date("2026-02-02T00:00:00.000Z");
    expect(log.append({ kind: "plan_created" })).toMatchObject({
      timestamp: now.toISOString(),
      details: null,
    });
  });
  test("refuses after close", () => {
    const log = openAuditLog(dir);
    log.close();
    expect(codeOf(() => log.append({ kind: "plan_signed" }))).toBe("internal");
  });

  test("refuses an event that could not be read back", () => {
    expect(codeOf(() => openAuditLog(dir).append({ kind: "plan_signed", stdout_sha256: "x" }))).toBe(
      "internal",
    );
    expect(statSync(file).size).toBe(0);
  });

  test("records the given fields, null for the others, and links the event", () => {
    const now = () => new Date("2026-05-06T07:08:09.010Z");
    const log = openAuditLog(dir, { host: "server", now });
    const first = log.append({ kind: "plan_created", plan_id: "p", argv: ["apt-get", "-s"], exit_status: 0 });
    const second = log.append({
      kind: "execution_denied",
      actor: "anna",
      decision: "deny",
      details: { code: "expired" },
    });
    expect(first).toMatchObject({
      sequence: 1,
      host: "server",
      timestamp: "2026-05-06T07:08:09.010Z",
      actor: null,
    });
    expect(first).toMatchObject({
      plan_id: "p",
      argv: ["apt-get", "-s"],
      exit_status: 0,
      previous_hash: GENESIS_HASH,
    });
    expect(second).toMatchObject({
      sequence: 2,
      previous_hash: first.event_hash,
      details: { code: "expired" },
    });
    expect(lines().map((line) => JSON.parse(line))).toEqual([first, second]);
    expect(log.head()).toEqual({ sequence: 2, hash: second.event_hash, timestamp: second.timestamp });
  });

  test("hashes the line's bytes", () => {
    const [event] = logOf(1);
    const line = lines()[0] ?? "";
    expect(line.endsWith(`,"event_hash":"${event?.event_hash}"}`)).toBe(true);
    expect(sha256Hex(line.slice(0, line.lastIndexOf(',"event_hash":"')))).toBe(event?.event_hash ?? "");
  });

  test("an empty log has no head", () => expect(openAuditLog(dir).head()).toBeNull());

  test("modes: private directories, files as requested whatever the umask", () => {
    const umask = process.umask(0o077);
    try {
      openAuditLog(dir, { mode: 0o640 }).append({ kind: "plan_created" });
    } finally {
      process.umask(umask);
    }
    const mode = (path: string) => statSync(path).mode & 0o777;
    expect([mode(dir), mode(join(dir, "lock")), mode(file)]).toEqual([0o700, 0o700, 0o640]);
    chmodSync(join(dir, "lock"), 0o755);
    openAuditLog(dir);
    expect(mode(join(dir, "lock"))).toBe(0o700);
  });

  test("recordUserEvent: the user's own log, the user as actor", () => {
    const event = recordUserEvent({ AEGIS_AUDIT_LOG_DIR: dir }, { kind: "plan_created" });
    expect(event.actor).toBe(`uid ${process.getuid?.()}`);
    expect(recordUserEvent({ AEGIS_AUDIT_LOG_DIR: dir }, { kind: "plan_signed", actor: "anna" }).actor).toBe(
      "anna",
    );
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 2 });
  });

  test("reads the same number of bytes however long the log is", () => {
    const readBy = (n: number) => {
      rmSync(dir, { recursive: true, force: true });
      const log = openAuditLog(dir);
      writeFileSync(file, chain(n).join(""));
      log.append({ kind: "plan_created" });
      const before = bytesRead();
      log.append({ kind: "plan_created" });
      log.head();
      return bytesRead() - before;
    };
    // rchar of proc(5): all bytes this process has read.
    const bytesRead = () => Number(/^rchar: (\d+)/.exec(readFileSync("/proc/self/io", "utf8"))?.[1]);
    const long = readBy(20_000);
    expect(statSync(file).size).toBeGreaterThan(8_000_000);
    expect(long).toBeLessThan(5 * MAX_LINE);
    expect(long - readBy(2_000)).toBeLessThan(1024);
  });
});

describe("bounds", () => {
  const anything = fc.anything({ maxDepth: 6, withBigInt: true, withNullPrototype: true });
  const wild = fc.string({ unit: "binary", maxLength: 3000 });

  test("any input gives a bounded line of printable ASCII that round-trips and verifies", () => {
    fc.assert(
      fc.property(
        fc.record({
          kind: fc.constantFrom(...AUDIT_KINDS),
          actor: wild,
          plan_id: wild,
          decision: wild,
          argv: fc.array(wild, { maxLength: 40 }),
          details: fc.dictionary(wild, anything, { maxKeys: 20 }),
        }),
        (event) => {
          const at = {
            sequence: 1,
            event_id: crypto.randomUUID(),
            timestamp: "2026-01-02T03:04:05.678Z",
            host: "\u202eh",
          };
          const made = encodeLine(event, { ...at, previous_hash: GENESIS_HASH });
          expect(made.line).toMatch(/^[ -~]+\n$/);
          expect(made.line.length).toBeLessThanOrEqual(MAX_LINE + 1);
          logOf(0);
          writeFileSync(file, made.line);
          expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 1 });
          expect(readEvents(dir)).toEqual([made.event]);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("the largest values together still fit", () => {
    const long = "\u0001".repeat(100_000);
    const log = openAuditLog(dir, { host: long });
    const all = {
      actor: long,
      plan_id: long,
      execution_id: long,
      decision: long,
      argv: Array(4096).fill(long.slice(0, 4096)),
    };
    log.append({ kind: "execution_interrupted", ...all, details: { a: long, [long]: long } });
    expect(lines()[0]?.length).toBeLessThanOrEqual(MAX_LINE);
    expect(verifyAuditLog(dir).ok).toBe(true);
  });

  test("cuts are marked: strings, argv, and the largest details first", () => {
    const argv = Array.from({ length: 2000 }, (_, i) => `package-${i}`);
    const event = openAuditLog(dir).append({
      kind: "execution_denied",
      actor: "x".repeat(5000),
      argv,
      details: { code: "drift", planned: argv, list: ["kept"] },
    });
    expect(event.actor).toMatch(/^x{500,}\.\.\. \[cut, 5000 characters\]$/);
    expect(event.argv?.[0]).toBe("package-0");
    expect(event.argv?.at(-1)).toMatch(
      new RegExp(`more words, sha256 of all ${sha256Hex(JSON.stringify(argv))}`),
    );
    const planned = {
      omitted_bytes: JSON.stringify(argv).length,
      omitted_sha256: sha256Hex(JSON.stringify(argv)),
    };
    expect(event.details).toEqual({ code: "drift", planned, list: ["kept"] });
  });

  test("a member named event_hash or __proto__ in the details has no effect", () => {
    const details = JSON.parse('{"event_hash":"0","previous_hash":"1","__proto__":{"x":1}}');
    openAuditLog(dir).append({ kind: "execution_denied", details });
    openAuditLog(dir).append({ kind: "execution_denied", details });
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 2 });
  });
});

describe("a torn last line", () => {
  test("is reported as torn, repaired by the next append, and the repair is recorded", () => {
    logOf(3);
    const whole = readFileSync(file);
    const start = whole.lastIndexOf(10, whole.length - 2) + 1;
    for (const cut of [1, 2, 17, 200, whole.length - start - 1]) {
      writeFileSync(file, whole.subarray(0, start + cut));
      expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 2, torn_bytes: cut });
      expect(readEvents(dir).map((event) => event.sequence)).toEqual([1, 2]);
      const log = openAuditLog(dir);
      expect(log.head()?.sequence).toBe(2);
      expect(log.append({ kind: "plan_signed" }).sequence).toBe(4);
      const torn = whole.subarray(start, start + cut);
      const details = { torn_bytes: cut, torn_sha256: sha256Hex(torn) };
      expect(readEvents(dir, { last: 2 })[0]).toMatchObject({ sequence: 3, kind: "log_repaired", details });
      expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 4, torn_bytes: 0 });
    }
  });

  test("is repaired even if it is the very first, or not text", () => {
    openAuditLog(dir);
    writeFileSync(file, new Uint8Array(4096));
    expect(openAuditLog(dir).append({ kind: "plan_signed" }).sequence).toBe(2);
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 2 });
  });

  test("longer than the limit is tampering", () => {
    logOf(2);
    appendFileSync(file, "x".repeat(MAX_LINE + 1));
    expect(codeOf(() => openAuditLog(dir).append({ kind: "plan_signed" }))).toBe("log_tampered");
  });
});

describe("a failed append", () => {
  test("short write: nothing is acknowledged or left behind", async () => {
    // A file size limit stops write(2) in the middle of a line, then makes it fail with EFBIG.
    const child = program(
      `const log = openAuditLog(dir); let n = 0;
       try { for (;;) { log.append({ kind: "plan_created" }); n++; } } catch (e) { console.log(n, e.code); }`,
      ...["bash", "-c", 'trap "" XFSZ; ulimit -f 8; exec "$@"', "-"],
    );
    const [n, code] = (await new Response(child.stdout).text()).trim().split(" ");
    expect(code).toBe("io");
    expect(Number(n)).toBeGreaterThan(3);
    expect(8192 - statSync(file).size).toBeGreaterThan(0);
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: Number(n), torn_bytes: 0 });
    expect(openAuditLog(dir).append({ kind: "plan_created" }).sequence).toBe(Number(n) + 1);
  });

  const mounts = Bun.spawnSync(["unshare", "-m", "true"], { stderr: "ignore" }).exitCode === 0;
  needs(mounts, "mounts of our own (unshare -m)").test(
    "full disk: refused; the reserve makes room for the end event",
    async () => {
      const child = program(
        `import { writeFileSync } from "node:fs"; import { join } from "node:path";
       const log = openAuditLog(dir); log.append({ kind: "execution_started" });
       log.reserve(1 << 20);
       let after = "reserved"; try { openAuditLog(dir + "/other").reserve(8 << 20); } catch (e) { after = e.code; }
       try { for (;;) writeFileSync(join(dir, "filler"), new Uint8Array(4096), { flag: "a" }); } catch {}
       let n = 1; let denied = "";
       try { for (;;) { log.append({ kind: "execution_denied" }); n++; } } catch (e) { denied = e.code; }
       log.releaseReserve();
       const end = log.append({ kind: "execution_completed", exit_status: 0 });
       const { verifyAuditLog } = await import(${JSON.stringify(join(import.meta.dir, "../src/audit-verify.ts"))});
       console.log(JSON.stringify({ after, denied, next: end.sequence - n, ok: verifyAuditLog(dir).ok }));`,
        ...[
          "unshare",
          "-m",
          "sh",
          "-c",
          'mkdir "$0" && mount -t tmpfs -o size=4m,mode=0700 none "$0" && exec "$@"',
          dir,
        ],
      );
      const [out, err] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      expect(err).toBe("");
      expect(JSON.parse(out)).toEqual({ after: "io", denied: "io", next: 1, ok: true });
    },
  );

  test("the reserve is actually allocated, kept once, and released", () => {
    const log = openAuditLog(dir);
    log.reserve(8 << 20);
    const made = statSync(join(dir, "audit.reserve"));
    expect(made.blocks * 512).toBeGreaterThanOrEqual(8 << 20);
    log.reserve(8 << 20);
    expect(statSync(join(dir, "audit.reserve")).ino).toBe(made.ino);
    // Excess is released without rewriting the rest.
    log.reserve(1 << 20);
    expect(statSync(join(dir, "audit.reserve"))).toMatchObject({ ino: made.ino, size: 1 << 20 });
    log.releaseReserve();
    log.releaseReserve();
    expect(existsSync(join(dir, "audit.reserve"))).toBe(false);
  });
});

describe("many processes", () => {
  test("320 concurrent events from 8 processes: all there, in one chain", async () => {
    const children = Array.from({ length: 8 }, (_, p) =>
      program(`const log = openAuditLog(dir);
        for (let i = 0; i < 40; i++) log.append({ kind: "execution_denied", actor: "${p}", details: { i } });`),
    );
    expect(await Promise.all(children.map((child) => child.exited))).toEqual(Array(8).fill(0));
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 320, head: { sequence: 320 } });
    const said = readEvents(dir).map((event) => `${event.actor}/${event.details?.i}`);
    expect(new Set(said).size).toBe(320);
  });

  test("SIGKILL at any moment: acknowledged events are there, the chain continues", async () => {
    let acknowledged = 0;
    for (let round = 0; round < 6; round++) {
      const child = program(`import { writeSync } from "node:fs"; const log = openAuditLog(dir);
        for (;;) writeSync(1, log.append({ kind: "plan_created", details: { text: "x".repeat(7000) } }).sequence + "\\n");`);
      const reader = child.stdout.getReader();
      let text = "";
      while (text.length < 100 * (round + 1)) text += new TextDecoder().decode((await reader.read()).value);
      child.kill("SIGKILL");
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        text += new TextDecoder().decode(piece.value);
      }
      await child.exited;
      const numbers = text.split("\n").slice(0, -1).map(Number);
      acknowledged = numbers.at(-1) ?? 0;
      const result = verifyAuditLog(dir);
      expect(result.ok && result.events >= acknowledged).toBe(true);
      const kept = new Set(readEvents(dir).map((event) => event.sequence));
      expect(numbers.filter((n) => !kept.has(n))).toEqual([]);
    }
    expect(openAuditLog(dir).append({ kind: "plan_signed" }).sequence).toBeGreaterThan(acknowledged);
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, torn_bytes: 0 });
  });

  test("a killed lock holder blocks nobody", async () => {
    logOf(1);
    const holder = program(`import { openSync } from "node:fs";
      import { tryFlock } from ${JSON.stringify(join(import.meta.dir, "../src/sys-ffi.ts"))};
      console.log(tryFlock(openSync(dir + "/lock/append", "r+"))); setInterval(() => {}, 1000);`);
    expect(new TextDecoder().decode((await holder.stdout.getReader().read()).value)).toBe("true\n");
    const waiting = program(`console.log(openAuditLog(dir).append({ kind: "plan_created" }).sequence);`);
    await Bun.sleep(200);
    expect(waiting.exitCode).toBeNull();
    holder.kill("SIGKILL");
    expect((await new Response(waiting.stdout).text()).trim()).toBe("2");
    await holder.exited;
  });

  test("a lock on the log file itself blocks nobody", async () => {
    logOf(1);
    const holder = Bun.spawn(["flock", file, "sh", "-c", "echo held; exec sleep 60"], { stdout: "pipe" });
    await holder.stdout.getReader().read();
    const child = program(
      `console.log(openAuditLog(dir).append({ kind: "plan_created" }).sequence);`,
      "timeout",
      "20",
    );
    expect((await new Response(child.stdout).text()).trim()).toBe("2");
    holder.kill("SIGKILL");
  });
});

describe("rotation", () => {
  const full = () => rotatedNames(dir);

  test("the chain continues in the next file, readers see one log", () => {
    const events = logOf(30, { rotateAt: 4000 });
    expect(full().length).toBeGreaterThan(2);
    expect(full()[0]).toBe("audit-0000000000000001.ndjson");
    const result = verifyAuditLog(dir);
    const total = 30 + full().length;
    expect(result).toMatchObject({
      ok: true,
      events: total,
      files: full().length + 1,
      head: { sequence: total },
    });
    expect(readEvents(dir, { kind: "plan_created" })).toEqual(events);
    expect(readEvents(dir, { kind: "log_rotated" }).map((event) => event.details?.file)).toEqual(full());
  });

  test("a removed, cut or replaced rotated file is detected", () => {
    logOf(30, { rotateAt: 4000 });
    const [first = "", second = ""] = full().map((name) => join(dir, name));
    const [one, two] = [readFileSync(first), readFileSync(second)];
    const check = () => verifyAuditLog(dir);
    rmSync(second);
    expect(check()).toMatchObject({ ok: false, line: 1, reason: expect.stringContaining("is where") });
    writeFileSync(second, two.subarray(0, -1));
    expect(check()).toMatchObject({ ok: false, reason: expect.stringContaining("cut off") });
    writeFileSync(second, one);
    expect(check()).toMatchObject({ ok: false, file: second, line: 1 });
    writeFileSync(second, two);
    expect(check().ok).toBe(true);
    rmSync(first);
    expect(check()).toMatchObject({ ok: false, line: 1, reason: expect.stringContaining("earlier files") });
    // Alone, a later file is fine, and the result says where it begins.
    expect(verifyAuditLog(second)).toMatchObject({ ok: true, files: 1 });
  });

  test("a crash between the rename and the first line of the new file loses nothing", () => {
    logOf(30, { rotateAt: 4000 });
    const before = openAuditLog(dir).head();
    rmSync(file);
    const older = openAuditLog(dir).head();
    expect(older?.sequence).toBeLessThan(before?.sequence ?? 0);
    expect(openAuditLog(dir).append({ kind: "plan_signed" }).sequence).toBe((older?.sequence ?? 0) + 1);
    expect(verifyAuditLog(dir).ok).toBe(true);
  });

  test("a torn file is repaired before rotation", () => {
    logOf(8);
    appendFileSync(file, '{"schema');
    const log = openAuditLog(dir, { rotateAt: 1000 });
    log.append({ kind: "plan_signed" });
    expect(full()).toEqual([]);
    log.append({ kind: "plan_signed" });
    expect(full().length).toBe(1);
    expect(verifyAuditLog(dir)).toMatchObject({ ok: true, events: 12 });
  });

  test("never overwrites an existing file", () => {
    logOf(8);
    writeFileSync(join(dir, "audit-0000000000000001.ndjson"), "precious");
    const log = openAuditLog(dir, { rotateAt: 1000 });
    expect(codeOf(() => log.append({ kind: "plan_signed" }))).toBe("log_tampered");
    expect(readFileSync(join(dir, "audit-0000000000000001.ndjson"), "utf8")).toBe("precious");
  });
});

describe("readEvents", () => {
  test("the newest matching events, oldest first, across chunk borders", () => {
    const log = openAuditLog(dir);
    const text = "y".repeat(5000);
    for (let i = 0; i < 60; i++) {
      const kind = i % 2 === 0 ? "execution_started" : "execution_completed";
      log.append({ kind, execution_id: `run-${i >> 1}`, details: { text, '"kind":"execution_started"': 1 } });
    }
    const numbers = (filter: Parameters<typeof readEvents>[1]) =>
      readEvents(dir, filter).map((e) => e.sequence);
    expect(numbers({})).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(numbers({ last: 3 })).toEqual([58, 59, 60]);
    expect(numbers({ last: 2, kind: "execution_started" })).toEqual([57, 59]);
    expect(numbers({ execution: "run-7" })).toEqual([15, 16]);
    expect(numbers({ execution: "run-7", kind: "execution_completed" })).toEqual([16]);
    expect(numbers({ execution: "nobody" })).toEqual([]);
  });

  test("returns no event with a wrong hash", () => {
    logOf(3);
    writeFileSync(file, readFileSync(file, "utf8").replace('"i":1', '"i":8'));
    expect(codeOf(() => readEvents(dir))).toBe("log_tampered");
    expect(readEvents(dir, { last: 1 }).length).toBe(1);
  });

  test("an empty log is no error; a missing directory is", () => {
    expect(codeOf(() => readEvents(dir))).toBe("not_found");
    openAuditLog(dir);
    expect(readEvents(dir)).toEqual([]);
  });

  test("cut to any length, only complete events are returned", () => {
    logOf(3);
    const size = statSync(file).size;
    for (let length = size - 1; length > 0; length -= 97) {
      truncateSync(file, length);
      const read = readEvents(dir).map((event) => event.sequence);
      expect(read).toEqual(Array.from({ length: lines().length }, (_, i) => i + 1));
    }
  });
});
