import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describeChange, parseAptHistory, parseDpkgLine, programOf } from "../src/apt-logs.ts";

const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/monitor", name), "utf8");
const changesIn = (text: string) =>
  text.split("\n").flatMap((line) => {
    const change = parseDpkgLine(line);
    return change === null ? [] : [change];
  });

describe("a line of dpkg's log", () => {
  test.each([
    ["nothing", ""],
    ["a state", "2026-11-22 04:24:54 status installed systemd:amd64 252.39-1~deb12u2"],
    ["an invocation", "2026-11-22 04:24:54 startup archives unpack"],
    ["a configuration", "2026-11-22 04:24:54 configure systemd:amd64 252.39-1~deb12u2 <none>"],
    ["a trigger", "2026-11-22 04:24:54 trigproc man-db:amd64 2.11.2-2 <none>"],
    ["a configuration file", "2026-11-22 04:24:54 conffile /etc/install a:all 1 keep"],
    ["a line without its time", "install a:all <none> 1.0"],
    ["a line that was cut at its start", "04:24:54 install a:all <none> 1.0"],
    ["a line that was cut at its end", "2026-11-22 04:24:54 install a"],
    ["two lines in one", "2026-11-22 04:24:54 install a:all <none> 1.02026-11-22 04:24:54 startup x"],
    ["a name in capitals", "2026-11-22 04:24:54 install A:all <none> 1.0"],
    ["control characters", "2026-11-22 04:24:54 install a:all <none> 1.0\u001b[31m x"],
  ])("%s is no change", (_, line) => {
    expect(parseDpkgLine(line)).toBeNull();
  });

  test.each([
    ["2026-11-22 04:24:54 install a:all <none> 1.0", "install a:all none 1.0"],
    ["2026-11-22 04:24:54 install a:all 0.9 1.0", "install a:all 0.9 1.0"],
    ["2026-11-22 04:24:54 upgrade g++:amd64 4:12.2.0-3 4:13.1-1", "upgrade g++:amd64 4:12.2.0-3 4:13.1-1"],
    ["2026-11-22 04:24:54 remove libc6:i386 2.36 <none>", "remove libc6:i386 2.36 none"],
    ["2026-11-22 04:24:54 purge a:all 1.0 <none>", "purge a:all 1.0 none"],
    ["2026-11-22 04:24:54 disappear a:all 1.0", "disappear a:all 1.0 none"],
  ])("%s", (line, expected) => {
    const change = parseDpkgLine(line);
    expect(change === null ? null : describeChange(change)).toBe(expected);
    expect(change?.at).toBe("2026-11-22 04:24:54");
  });

  test("a whole recorded log", () => {
    expect(changesIn(fixture("dpkg.log")).map(describeChange)).toEqual([
      "install hello-aegis:all none 1.0",
      "install libmulti:amd64 none 1.0",
      "install libapp:all none 1.0",
      "install app:all none 1.0",
      "upgrade hello-aegis:all 1.0 1.1",
      "upgrade hello-aegis:all 1.1 1.0",
      "upgrade hello-aegis:all 1.0 1.0",
      "remove hello-aegis:all 1.0 none",
      "install conflictor:all none 1.0",
      "remove app:all 1.0 none",
      "remove libapp:all 1.0 none",
      "install postinst-fails:all none 1.0",
      "remove postinst-fails:all 1.0 none",
      "remove conflictor:all 1.0 none",
      "install hello-aegis:all none 1.1",
      "remove hello-aegis:all 1.1 none",
      "install hello-aegis:all none 1.0",
      "install bystander:all none 1.0",
    ]);
  });

  test("never throws, and accepts only bounded plain text", () => {
    const word = fc.constantFrom(
      "install",
      "upgrade",
      "a:all",
      "<none>",
      "1.0",
      "2026-11-22 04:24:54",
      "\u202e",
      "\0",
    );
    const line = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(word).map((words) => words.join(" ")),
    );
    fc.assert(
      fc.property(line, (text) => {
        const change = parseDpkgLine(text);
        if (change !== null)
          expect(describeChange(change)).toMatch(/^[a-z]+ [a-z0-9+.-]+:[a-z0-9-]+ \S+ \S+$/);
      }),
    );
  });
});

describe("apt's history", () => {
  test("a word of megabytes is parsed quickly and is not a package", () => {
    const [run] = parseAptHistory(
      `Start-Date: 2026-11-22  05:05:37\nInstall: ${"a".repeat(4_000_000)}, b:amd64 (1.0)\n`,
    );
    expect(run?.packages).toEqual([{ name: "b", architecture: "amd64", from: null, to: "1.0" }]);
  });

  const runs = parseAptHistory(fixture("history.log"));

  test("a whole recorded log", () => {
    expect(runs.length).toBe(12);
    expect(runs[0]).toEqual({
      started: "2026-11-22 05:05:37",
      ended: "2026-11-22 05:05:37",
      command: "apt-get install -y hello-aegis=1.0 libmulti",
      requestedBy: null,
      error: null,
      packages: [
        { name: "libmulti", architecture: "amd64", from: null, to: "1.0" },
        { name: "hello-aegis", architecture: "amd64", from: null, to: "1.0" },
      ],
    });
    expect(
      runs.map(({ packages }) => packages.map(({ name, from, to }) => `${name} ${from} ${to}`).join()),
    ).toEqual([
      "libmulti null 1.0,hello-aegis null 1.0",
      "app null 1.0,libapp null 1.0",
      "hello-aegis 1.0 1.1",
      "hello-aegis 1.1 1.0",
      "hello-aegis 1.0 1.0",
      "conflictor null 1.0,hello-aegis 1.0 null",
      "app 1.0 null",
      "libapp 1.0 null",
      "postinst-fails null 1.0",
      "hello-aegis null 1.1",
      "hello-aegis null 1.0",
      "bystander null 1.0",
    ]);
    expect(runs[8]?.error).toBe("Sub-process /usr/bin/dpkg returned an error code (1)");
    expect(runs.at(-1)?.requestedBy).toBe("alice (61001)");
  });

  test("unattended-upgrades is named", () => {
    const [, upgrade] = parseAptHistory(fixture("history-unattended.log"));
    expect(upgrade?.command).toBe("/usr/bin/unattended-upgrade -v");
    expect(upgrade === undefined ? "" : programOf(upgrade)).toBe("unattended-upgrades");
  });

  test.each([
    [null, "apt"],
    ["apt-get install -y unattended-upgrades", "apt-get"],
    ["/usr/bin/apt upgrade", "apt"],
    ["/usr/bin/unattended-upgrade", "unattended-upgrades"],
    ["/usr/bin/python3 /usr/bin/unattended-upgrade --debug", "unattended-upgrades"],
    ["packagekit role='update-packages'", "packagekit"],
    ["aptdaemon role='role-commit-packages' sender=':1.2'", "aptdaemon"],
    ["aptitude", "aptitude"],
  ])("%p is %s", (command, program) => {
    expect(programOf({ command })).toBe(program);
  });

  test.each([
    ["cut at its start", "Install: a:amd64 (1.0)\nEnd-Date: 2026-11-22  05:05:37\n", 0],
    [
      "still running, or killed",
      "Start-Date: 2026-11-22  05:05:37\nCommandline: apt x\nInstall: a:amd64 (1.0)\n",
      1,
    ],
    ["with an invalid time", "Start-Date: yesterday\nCommandline: apt x\n", 0],
  ])("a stanza that is %s", (_, text, count) => {
    const found = parseAptHistory(text);
    expect(found.length).toBe(count);
    expect(found[0]?.ended ?? null).toBeNull();
  });

  test("never throws", () => {
    const line = fc.constantFrom(
      "Start-Date: 2026-11-22  05:05:37",
      "Install: a:amd64 (1, automatic), (",
      "",
      "x: y",
      "\0",
    );
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(line).map((lines) => lines.join("\n")),
    );
    fc.assert(
      fc.property(text, (history) => {
        for (const { started } of parseAptHistory(history)) expect(started).toBe("2026-11-22 05:05:37");
      }),
    );
  });
});
