import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const source = join(import.meta.dir, "../src/tty.ts");
const code = `const { askTerminal } = await import(${JSON.stringify(source)}); console.log("answer:" + askTerminal("well? "));`;

test("without a terminal there is no answer, whatever stands on standard input", () => {
  const { stdout } = spawnSync("setsid", ["-w", process.execPath, "-e", code], {
    input: "yes\n",
    encoding: "utf8",
  });
  expect(stdout).toBe("answer:null\n");
});

test("asks on the terminal even when standard input and output lead elsewhere", () => {
  const command = `'${process.execPath}' -e '${code}' </dev/null | cat`;
  const { stdout } = spawnSync("script", ["-qec", command, "/dev/null"], {
    input: "a1b2c3d4\n",
    encoding: "utf8",
  });
  expect(stdout).toContain("well? ");
  expect(stdout).toContain("answer:a1b2c3d4");
});
