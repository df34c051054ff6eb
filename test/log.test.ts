import { describe, expect, test } from "bun:test";
import { openLog } from "../src/log.ts";

/** What an environment lets through of one message of each level. */
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

  test("CONSOLA_LEVEL of the process itself can't silence it", async () => {
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
  test("repeated messages are all written, at once", () => {
    const lines: string[] = [];
    const log = openLog({}, (text) => lines.push(text));
    for (let i = 0; i < 100; i++) log.warn("the same");
    expect(lines.length).toBe(100);
  });

  test.each([{}, JSON_LOG])("outside text can't start a line or reach the terminal: %j", (env) => {
    const out = line(env, EVIL, { path: EVIL });
    expect(out.slice(0, -1)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(out.endsWith("\n")).toBe(true);
  });

  test.each([{}, JSON_LOG])("a line is bounded: %j", (env) => {
    expect(line(env, "x".repeat(1e6), { path: "y".repeat(1e6) }).length).toBeLessThan(3000);
  });

  test("a plain line quotes what would look like more fields", () => {
    const out = line({}, "hello", { a: "one", b: 'two words c="3"', n: 4, none: null });
    expect(out).toMatch(/^\S+Z warn hello a=one b="two words c=\\"3\\"" n=4 none=null\n$/);
  });

  test("a JSON line is one object with the text as it was, and a field can't pose as level or message", () => {
    const out = JSON.parse(
      line(JSON_LOG, EVIL, { level: "info", message: "x", timestamp: "y", path: "ä€😀\u202e" }),
    );
    expect(out).toMatchObject({ level: "warn", message: EVIL, path: "ä€😀\u202e" });
    expect(Number.isNaN(Date.parse(out.timestamp))).toBe(false);
  });

  test("a message that looks like a log object of the library is a message", () => {
    expect(line({}, '{"message":"x","level":0}')).toContain('warn {"message":"x","level":0}');
  });
});
