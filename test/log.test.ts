import { afterEach, describe, expect, setSystemTime, test } from "bun:test";
import { mkdtempSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLog } from "../src/log.ts";

/** Which levels are written in an environment, of one message each. */
function shown(env: Record<string, string>): string {
  const lines: string[] = [];
  const log = openLog(env, (line) => lines.push(line));
  for (const level of ["error", "warn", "info", "debug"] as const) log[level]("m");
  return lines.map((line) => line.split(" ")[1]).join(" ");
}

describe("level", () => {
  test.each([
    [{}, "error warn info"],
    [{ AEGIS_LOG: "error" }, "error"],
    [{ AEGIS_LOG: "warn" }, "error warn"],
    [{ AEGIS_LOG: "DEBUG" }, "error warn info debug"],
    [{ AEGIS_LOG: "", RUST_LOG: "debug" }, "error warn info debug"],
    [{ AEGIS_LOG: "error", RUST_LOG: "debug" }, "error"],
    [{ RUST_LOG: "aegis=debug,warn" }, "error warn"],
    [{ RUST_LOG: "trace" }, "error warn info debug"],
    [{ RUST_LOG: "off" }, "error"],
    [{ AEGIS_LOG: "constructor" }, "error warn info"],
    [{ CONSOLA_LEVEL: "-999" }, "error warn info"],
  ])("%j shows %s", (env, expected) => {
    expect(shown(env as Record<string, string>)).toBe(expected);
  });

  test("CONSOLA_LEVEL can't silence it", async () => {
    const code = 'import { openLog } from "./src/log.ts"; openLog({}).info("still here");';
    const child = Bun.spawn([process.execPath, "-e", code], {
      cwd: `${import.meta.dir}/..`,
      env: { CONSOLA_LEVEL: "-999" },
      stderr: "pipe",
    });
    expect(await new Response(child.stderr).text()).toContain("info still here");
  });
});

/** One line of a log. */
function line(
  env: Record<string, string>,
  message: string,
  fields: Record<string, string | number | null> = {},
): string {
  let out = "";
  openLog(env, (text) => {
    out += text;
  }).warn(message, fields);
  return out;
}

const JSON_LOG = { AEGIS_LOG_FORMAT: "json" };
const EVIL = "a\nb\u001b[31m\u202e\u2028\u200b\ud800";

describe("lines", () => {
  afterEach(() => void setSystemTime());

  test("repeated messages are written at once; a flood is cut after fifty, with the number left out", () => {
    const lines: string[] = [];
    const log = openLog({ AEGIS_LOG: "debug" }, (text) => lines.push(text));
    setSystemTime(new Date("2026-11-22T12:00:00Z"));
    for (let i = 0; i < 100; i++) log.warn("the same", { uid: i });
    expect(lines.length).toBe(50);
    log.error("another");
    expect(lines.at(-1)).toContain("error another");
    setSystemTime(new Date("2026-11-22T12:00:11Z"));
    log.warn("the same", { uid: 7 });
    expect(lines.at(-1)).toContain("the same uid=7 left_out=50");
    log.warn("the same");
    expect(lines.at(-1)).not.toContain("left_out");
    for (let i = 0; i < 100; i++) log.debug("all of these");
    expect(lines.filter((text) => text.includes("all of these")).length).toBe(100);
  });

  test.each([{}, JSON_LOG])("untrusted text can't start a line or control the terminal: %j", (env) => {
    const out = line(env, EVIL, { path: EVIL });
    expect(out.slice(0, -1)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(out.endsWith("\n")).toBe(true);
  });

  test.each([{}, JSON_LOG])("a line's length is limited: %j", (env) => {
    expect(line(env, "x".repeat(1e6), { path: "y".repeat(1e6) }).length).toBeLessThan(3000);
  });

  test("a plain line quotes text that looks like fields", () => {
    const out = line({}, "hello", { a: "one", b: 'two words c="3"', n: 4, none: null });
    expect(out).toMatch(/^\S+Z warn hello a=one b="two words c=\\"3\\"" n=4 none=null\n$/);
  });

  test("a JSON line is one object with the text unchanged, and a field can't override level or message", () => {
    const out = JSON.parse(
      line(JSON_LOG, EVIL, { level: "info", message: "x", timestamp: "y", path: "ä€😀\u202e" }),
    );
    expect(out).toMatchObject({ level: "warn", message: EVIL, path: "ä€😀\u202e" });
    expect(Number.isNaN(Date.parse(out.timestamp))).toBe(false);
  });

  test("a message that looks like consola's log object is still a message", () => {
    expect(line({}, '{"message":"x","level":0}')).toContain('warn {"message":"x","level":0}');
  });
});

describe("secrets", () => {
  const env = {
    AEGIS_AI_API_KEY: "key-0123456789",
    AEGIS_SIGNING_SECRET_KEY_HEX: "ab".repeat(32),
    TOKEN: "ab",
  };

  test.each([{}, JSON_LOG])("values of secret variables are masked: %j", (format) => {
    const out = line({ ...env, ...format }, `is ${env.AEGIS_AI_API_KEY} ok`, {
      header: `Bearer ${env.AEGIS_AI_API_KEY}`,
      argv: `--secret-key-hex ${env.AEGIS_SIGNING_SECRET_KEY_HEX}`,
    });
    expect(out).not.toContain("0123456789");
    expect(out).not.toContain("abab");
    expect(out).toContain("Bearer [secret]");
  });

  test("short values and public variables are not masked", () => {
    expect(line({ ...env, AEGIS_AI_MODEL: "deepseek-model" }, "abacus asks deepseek-model")).toContain(
      "abacus asks deepseek-model",
    );
  });
});

describe("the journal", () => {
  /** Standard error, a file, of a process with JOURNAL_STREAM as `stream` gives it. */
  async function written(stream: (dev: number, ino: number) => string, env: Record<string, string> = {}) {
    const directory = mkdtempSync(join(tmpdir(), "aegis-log-"));
    const file = join(directory, "stderr");
    const fd = openSync(file, "w");
    const { dev, ino } = statSync(file);
    const code =
      'import { openLog } from "./src/log.ts"; const log = openLog(process.env); for (const l of ["error", "warn", "info", "debug"]) log[l]("said", { a: "b\\nc" });';
    const child = Bun.spawn([process.execPath, "-e", code], {
      cwd: join(import.meta.dir, ".."),
      env: { AEGIS_LOG: "debug", JOURNAL_STREAM: stream(dev, ino), ...env },
      stderr: fd,
    });
    await child.exited;
    const text = readFileSync(file, "utf8");
    rmSync(directory, { recursive: true });
    return text;
  }
  const own = (dev: number, ino: number) => `${dev}:${ino}`;

  test("each line begins with its priority and has no time", async () => {
    expect(await written(own)).toBe(
      ["<3>error", "<4>warn", "<6>info", "<7>debug"].map((start) => `${start} said a=b\\nc\n`).join(""),
    );
  });

  test("a JSON line as well, with its time", async () => {
    const lines = (await written(own, { AEGIS_LOG_FORMAT: "json" })).trimEnd().split("\n");
    expect(lines.map((text) => text.slice(0, 3))).toEqual(["<3>", "<4>", "<6>", "<7>"]);
    expect(JSON.parse(lines[1]?.slice(3) ?? "")).toMatchObject({ level: "warn", message: "said", a: "b\nc" });
  });

  test.each([
    ["of another process's standard error", (dev: number, ino: number) => `${dev}:${ino + 1}`],
    ["that is malformed", () => "nonsense"],
    ["that is empty", () => ""],
  ])("a variable %s is not believed", async (_, stream) => {
    expect(await written(stream)).toMatch(/^\d{4}-\d\d-\d\dT\S+Z error said /);
  });
});
