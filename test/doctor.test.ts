import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { confinement, versionLine } from "../src/doctor.ts";
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

describe("confinement", () => {
  const [BUILD, UNPACK, FETCH] = ["build", "unpack", "fetch"].map((name) => `/run/aegis/${name}.sock`);
  const LISTEN = "systemctl start aegis-build.socket aegis-unpack.socket aegis-fetch.socket";
  /** Whether Aegis is installed for systemd, which sockets listen, and what else is missing. */
  type Row = [
    what: string,
    isInstalled: boolean,
    sockets: string,
    absent: string[],
    level: string,
    says: string,
    fix: string,
  ];
  const ROWS: Row[] = [
    ["by units", true, "build unpack fetch", [], "ok", "run in aegis-build@.service", ""],
    [
      "by units, though nothing else is installed",
      false,
      "build unpack fetch",
      [],
      "ok",
      "run in aegis-build@.service",
      "",
    ],
    ["by hand", false, "", [], "ok", "by namespaces, for an executor that root starts by hand", ""],
    [
      "no socket",
      true,
      "",
      [],
      "warn",
      "aegis-build.socket, aegis-unpack.socket and aegis-fetch.socket don't listen: no other",
      LISTEN,
    ],
    [
      "no socket for unpacking, as before an update",
      true,
      "build fetch",
      [],
      "warn",
      "aegis-unpack.socket doesn't listen: no tool that unpacks images can be run",
      LISTEN,
    ],
    [
      "one socket too few",
      true,
      "build unpack",
      [],
      "warn",
      "aegis-fetch.socket doesn't listen: no other tool",
      LISTEN,
    ],
    [
      "the other socket",
      true,
      "unpack fetch",
      [],
      "warn",
      "aegis-build.socket doesn't listen: no other tool",
      LISTEN,
    ],
    [
      "one socket too few by hand",
      false,
      "build unpack",
      [],
      "warn",
      "aegis-fetch.socket doesn't listen",
      LISTEN,
    ],
    [
      "no program",
      true,
      "build fetch",
      ["setpriv", "prlimit"],
      "warn",
      "setpriv, prlimit: not installed",
      "util-linux",
    ],
    [
      "no user",
      true,
      "build fetch",
      ["aegis-fetch"],
      "warn",
      "there is no user aegis-fetch: no other",
      "daemon install",
    ],
    [
      "no users",
      false,
      "",
      ["aegis-build", "aegis-fetch"],
      "warn",
      "no user aegis-build and no user aegis-fetch",
      "daemon install",
    ],
  ];
  test.each(ROWS)("%s", (_, isInstalled, sockets, absent, level, says, fix) => {
    const listens = (name: string, path: string) => (sockets.includes(name) ? path : null);
    const [finding, ...others] = confinement({
      program: (name) => (absent.includes(name) ? null : `/usr/bin/${name}`),
      hasUser: (name) => !absent.includes(name),
      units: () => ({
        build: listens("build", BUILD ?? ""),
        unpack: listens("unpack", UNPACK ?? ""),
        fetch: listens("fetch", FETCH ?? ""),
      }),
      isInstalled: () => isInstalled,
    });
    expect(finding).toMatchObject({ check: "confinement", level, message: expect.stringContaining(says) });
    expect(finding?.fix ?? "").toContain(fix);
    expect(others).toEqual([]);
  });
});
