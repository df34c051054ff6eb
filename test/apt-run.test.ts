import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { downloadLimit, parseStatusLine } from "../src/apt-run.ts";

const recorded = (name: string) =>
  readFileSync(join(import.meta.dir, `fixtures/apt-hook/${name}.txt`), "utf8");

describe("parseStatusLine", () => {
  const CASES: [line: string, expected: ReturnType<typeof parseStatusLine>][] = [
    ["", null],
    ["pmstatus", null],
    ["pmstatus:hello", null],
    ["pmstatus:hello:ten:Installing", null],
    ["pmstatus:hello:10.0", null],
    ["pmstatus::10:x", null],
    ["other:hello:10.0:x", null],
    ["pmconffile:/etc/x:10.0:'/etc/x' '/etc/x.dpkg-new' 1 1", null],
    ["media-change:disc:/media/cdrom:10:Insert", null],
    [" pmstatus:hello:10:x", null],
    ["pmstatus:hello:10.0:Installing", { percent: 10, message: "Installing" }],
    ["pmstatus:hello:0:", { percent: 0, message: "" }],
    [
      "pmstatus:libc6:i386:64.5161:Installed libc6 (i386)",
      { percent: 64.5161, message: "Installed libc6 (i386)" },
    ],
    ["pmstatus:dpkg-exec:3.2258:Running: dpkg: 5:6", { percent: 3.2258, message: "Running: dpkg: 5:6" }],
    ["dlstatus:1:80.0000:Retrieving file 1 of 1", { percent: 80, message: "Retrieving file 1 of 1" }],
    ["pmstatus:x:250:x", { percent: 100, message: "x" }],
  ];
  for (const [line, expected] of CASES) test(line, () => expect(parseStatusLine(line)).toEqual(expected));

  test("every recorded line is progress, never decreasing within a phase", () => {
    const lines = recorded("status-mixed").trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(40);
    const percents = lines.map((line) => parseStatusLine(line)?.percent ?? Number.NaN);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
  });
  test("a recorded failure", () => {
    const last = recorded("status-failing").trimEnd().split("\n").at(-1) ?? "";
    expect(last).toStartWith("pmerror:postinst-fails:");
    expect(parseStatusLine(last)?.message).toBe(
      "installed postinst-fails package post-installation script subprocess returned error exit status 1",
    );
  });
  test("property: null, or a percentage from 0 to 100", () => {
    const part = fc.oneof(fc.string(), fc.constantFrom("pmstatus", "dlstatus", ":", "99.9", "1e9", "-1"));
    fc.assert(
      fc.property(fc.array(part), (parts) => {
        const progress = parseStatusLine(parts.join(":"));
        if (progress !== null) expect(progress.percent >= 0 && progress.percent <= 100).toBe(true);
      }),
    );
  });
});

describe("how long a download may take", () => {
  const CASES: [argv: string[], minutes: number][] = [
    [["apt-get", "update"], 10],
    [["apt-get", "install", "-y", "update"], 30],
    [["apt-get", "upgrade", "-y"], 30],
    [["dpkg", "--configure", "-a"], 30],
  ];
  for (const [argv, minutes] of CASES)
    test(argv.join(" "), () => expect(downloadLimit(argv)).toBe(minutes * 60_000));
});
