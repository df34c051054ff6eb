import { describe, expect, test } from "bun:test";
import { readBuildInfo } from "../src/go-buildinfo.ts";
import { goProgram } from "./go-program.ts";

const MODULES = [
  "path\ttool.example/t/cmd/t",
  "mod\ttool.example/t\tv1.0.0\th1:tool=",
  "dep\tlib.example/Deep\tv0.3.0\th1:lib=",
  "build\t-trimpath=true",
  "build\tCGO_ENABLED=0",
  "build\tDefaultGODEBUG=a=1,b=2",
];

test.each([
  ["64 bits", {}],
  ["32 bits", { wide: false }],
  ["the other byte order", { little: false }],
])("%s: what the program is made of", (_, format) => {
  expect(readBuildInfo(goProgram(MODULES, format))).toEqual({
    goVersion: "go1.19.8",
    path: "tool.example/t/cmd/t",
    main: { path: "tool.example/t", version: "v1.0.0", sum: "h1:tool=" },
    dependencies: [{ path: "lib.example/Deep", version: "v0.3.0", sum: "h1:lib=" }],
    isReplaced: false,
    settings: new Map([
      ["-trimpath", "true"],
      ["CGO_ENABLED", "0"],
      ["DefaultGODEBUG", "a=1,b=2"],
    ]),
  });
});

test("a replaced module is seen", () => {
  const info = readBuildInfo(goProgram([...MODULES, "=>\tevil.example/x\tv1.0.0\th1:x="]));
  expect(info?.isReplaced).toBe(true);
});

describe("nothing is made up", () => {
  test("of what only looks like it, elsewhere in the file", () => {
    const program = goProgram(MODULES, { section: ".rodata" });
    expect(readBuildInfo(program)).toBeNull();
  });

  test("of other files", () => {
    for (const bytes of ["", "#!/bin/sh\n", "\x7fELF", `\x7fELF${"\x02\x01".padEnd(100, "\xff")}`])
      expect(readBuildInfo(Buffer.from(bytes, "latin1"))).toBeNull();
  });

  test("of a program that is cut off or damaged, anywhere", () => {
    const program = goProgram(MODULES);
    for (let length = 0; length < program.length; length += 7)
      expect(readBuildInfo(program.subarray(0, length))?.path ?? "tool.example/t/cmd/t").toBe(
        "tool.example/t/cmd/t",
      );
    for (let at = 0; at < program.length; at++)
      expect(() => readBuildInfo(program.map((byte, i) => (i === at ? byte ^ 0xff : byte)))).not.toThrow();
  });
});
