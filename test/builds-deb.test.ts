import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { version } from "../package.json" with { type: "json" };
import { packagedProgram } from "../src/doctor-status.ts";
import { NEEDRESTART_FILE, needrestartText } from "../src/host-drop-ins.ts";
import { ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "./throwaway.ts";

/*
 * `scripts/build --deb`: the package has exactly these files, all of them root's, and real dpkg installs, verifies and purges it.
 */

const hasDpkg = Bun.which("dpkg-deb") !== null;
const architecture = hasDpkg
  ? spawnSync("dpkg", ["--print-architecture"], { encoding: "utf8" }).stdout.trim()
  : "";
const DEB = join(ROOT, `dist/aegis_${version.replace("-", "~")}_${architecture}.deb`);
const FILES = [
  NEEDRESTART_FILE,
  "/usr/bin/aegis",
  "/usr/share/bash-completion/completions/aegis",
  "/usr/share/doc/aegis/changelog.gz",
  "/usr/share/doc/aegis/copyright",
  "/usr/share/fish/vendor_completions.d/aegis.fish",
  "/usr/share/man/man1/aegis.1.gz",
  "/usr/share/zsh/vendor-completions/_aegis",
];

function output(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const packaging = needs(hasDpkg, "dpkg-deb (scripts/build --deb)");

packaging.describe("the .deb", () => {
  beforeAll(() => {
    output(join(ROOT, "scripts/build"), "--deb");
  }, 120_000);

  test("has these files, root's, and only the program can be executed", () => {
    const entries = output("dpkg-deb", "-c", DEB).trim().split("\n");
    const files = entries.filter((line) => !line.startsWith("d"));
    expect(files.map((line) => line.replace(/^.* \./, ""))).toEqual(FILES);
    expect(entries.filter((line) => !/^\S+ root\/root /.test(line))).toEqual([]);
    expect(entries.filter((line) => line.startsWith("d") && !line.startsWith("drwxr-xr-x "))).toEqual([]);
    const executable = files.filter((line) => !line.startsWith("-rw-r--r-- "));
    expect(executable).toEqual([expect.stringMatching(/^-rwxr-xr-x .* \.\/usr\/bin\/aegis$/)]);
  });

  test("runs nothing of its own when it is installed or removed", () => {
    const control = mkdtempSync(join(tmpdir(), "aegis-deb-"));
    output("dpkg-deb", "-e", DEB, join(control, "control"));
    expect(output("ls", join(control, "control")).trim().split("\n")).toEqual([
      "conffiles",
      "control",
      "md5sums",
    ]);
    rmSync(control, { recursive: true });
  });

  test("two builds give the same bytes", () => {
    const first = readFileSync(DEB);
    output(join(ROOT, "scripts/build"), "--deb");
    expect(Buffer.compare(first, readFileSync(DEB))).toBe(0);
  }, 120_000);

  const obstacle = throwawayUnavailable();
  needs(obstacle === null, `a throw-away host (${obstacle})`).describe("with real dpkg", () => {
    let host: ThrowawayHost;
    beforeAll(async () => {
      host = await startHost();
      copyFileSync(DEB, host.path("/root/aegis.deb"));
    }, 120_000);
    afterAll(() => host.stop());

    test("installs, runs, is what dpkg verifies, and leaves nothing after a purge", async () => {
      const run = async (...argv: string[]) => {
        const { status, stdout, stderr } = await host.exec(argv);
        if (status !== 0) throw new Error(`${argv.join(" ")}: ${status} ${stdout} ${stderr}`);
        return stdout;
      };
      await run("/usr/bin/dpkg", "-i", "/root/aegis.deb");
      expect(await run("/usr/bin/aegis", "--version")).toBe(`aegis ${version}\n`);
      expect(await run("/usr/bin/dpkg", "--verify", "aegis")).toBe("");
      expect(host.read(NEEDRESTART_FILE)).toBe(needrestartText());
      const listed = (await run("/usr/bin/dpkg", "-L", "aegis")).split("\n");
      expect(FILES.filter((file) => !listed.includes(file))).toEqual([]);
      await run("/usr/bin/dpkg", "--purge", "aegis");
      expect((await host.exec(["/usr/bin/ls", ...FILES])).stdout).toBe("");
    }, 120_000);
  });
});

/* The services run the copy in /usr/local/bin, so after an upgrade of the package doctor names the older copy. */
test("the package's program beside the one that the services run", async () => {
  const directory = mkdtempSync("/opt/aegis-packaged-");
  const program = (name: string, said: string | null) => {
    const path = join(directory, name);
    if (said !== null) writeFileSync(path, `#!/bin/sh\necho 'aegis ${said}'\n`, { mode: 0o755 });
    return path;
  };
  const [old, newer, none] = [program("old", "0.4.0"), program("new", "0.5.0"), program("none", null)];
  try {
    expect(await packagedProgram(none, old)).toEqual([]);
    expect(await packagedProgram(newer, newer)).toMatchObject([{ level: "ok" }]);
    expect(await packagedProgram(newer, old)).toMatchObject([
      {
        level: "warn",
        message: "the services run 0.4.0, and the package has brought 0.5.0",
        fix: `Type as root: ${newer} daemon install`,
      },
    ]);
    expect(await packagedProgram(newer, none)).toMatchObject([{ level: "warn" }]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
