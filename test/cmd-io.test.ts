import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT, type StartOptions, start } from "./kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path: cwd, remove } = temporaryDirectory();
afterAll(remove);

/** Runs a few words of program with the Io of a real process as `io`. */
function withIo(body: string, options: Partial<StartOptions> & { json?: boolean } = {}) {
  const { json = false, ...rest } = options;
  const program = `
    const { processIo } = await import(${JSON.stringify(join(ROOT, "src/cmd-io.ts"))});
    const io = processIo(${json});
    try { ${body} } catch (error) { process.stderr.write(error.code + ": " + error.message + "\\n"); process.exit(9); }
    process.exit(0);`;
  return start([process.execPath, "-e", program], { env: { PATH: "/usr/bin:/bin" }, cwd, ...rest });
}

describe("a result", () => {
  const CASES: [text: string, written: string][] = [
    ["line", "line\n"],
    ["line\n", "line\n"],
    ["two\nlines", "two\nlines\n"],
    ["", ""],
  ];
  for (const [text, written] of CASES) {
    test(JSON.stringify(text), async () => {
      const ended = await withIo(`io.result({ a: 1 }, ${JSON.stringify(text)});`);
      expect(ended).toEqual({ status: 0, stdout: written, stderr: "" });
    });
  }
  test("with --json it is one document on one line", async () => {
    const ended = await withIo('io.result({ a: "x\\ny" }, "text");', { json: true });
    expect(ended).toEqual({ status: 0, stdout: '{"a":"x\\ny"}\n', stderr: "" });
  });
  test("a note goes to standard error", async () => {
    expect(await withIo('io.note("n");')).toEqual({ status: 0, stdout: "", stderr: "n\n" });
  });
  test("a big one is written completely before the process ends, even into a full pipe", async () => {
    const { stdout } = await withIo('io.result({}, "x".repeat(5_000_000));');
    expect(stdout).toBe(`${"x".repeat(5_000_000)}\n`);
  });
  test("a closed pipe is no error", async () => {
    const ended = await withIo('io.result({}, "x".repeat(5_000_000)); io.note("end");', {
      closeStdout: true,
    });
    expect(ended).toMatchObject({ status: 0, stderr: "end\n" });
  });
  test("a full disk is an error", () => {
    const program = `const { processIo } = await import(${JSON.stringify(join(ROOT, "src/cmd-io.ts"))});
      try { processIo(false).result({}, "x"); } catch (error) { console.error(error.code, error.message); }`;
    const { stderr } = spawnSync("sh", ["-c", 'exec "$0" -e "$1" >/dev/full', process.execPath, program], {
      encoding: "utf8",
    });
    expect(stderr).toContain("io can't write the result: ENOSPC");
  });
});

describe("standard input", () => {
  const show = "io.result({}, String((await io.readStdin()).length));";
  test("nothing, some, and up to 4 MiB", async () => {
    expect((await withIo(show, { stdin: "" })).stdout).toBe("0\n");
    expect((await withIo("io.result({}, await io.readStdin());", { stdin: "Grüße" })).stdout).toBe("Grüße\n");
    expect((await withIo(show, { stdin: "x".repeat(4 << 20) })).stdout).toBe(`${4 << 20}\n`);
  });
  test("one byte more is refused", async () => {
    const ended = await withIo(show, { stdin: "x".repeat((4 << 20) + 1) });
    expect(ended).toEqual({
      status: 9,
      stdout: "",
      stderr: "invalid_document: standard input is larger than 4194304 bytes\n",
    });
  });
});
