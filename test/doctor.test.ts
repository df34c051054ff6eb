import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { versionLine } from "../src/doctor.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path, remove } = temporaryDirectory();
afterAll(remove);

/** An executable shell script. */
function script(name: string, text: string): string {
  const file = join(path, name);
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
  return file;
}

describe("a program's version", () => {
  test("of one that fails is unknown, whatever it printed", async () =>
    expect(await versionLine(script("fails", "echo usage; exit 2"), ["--version"])).toBeNull());
  test("of one that is killed is unknown", async () =>
    expect(await versionLine(script("killed", "echo 1.0; kill -9 $$"), ["--version"])).toBeNull());
  test("is the first line of what the given arguments print", async () =>
    expect(await versionLine(script("prints", 'echo "tool $*"; echo more'), ["version"])).toBe(
      "tool version",
    ));
  // As `go` and `cargo` do; root could create /nonexistent.
  test("asking for it creates no HOME, even as root", async () => {
    const made = join(path, "made");
    const tool = script("creates", `mkdir -p "$HOME/.config/tool" && : > ${made}; echo 1.0`);
    expect(await versionLine(tool, ["--version"])).toBe("1.0");
    expect(existsSync(made)).toBe(false);
  });
});
