import { afterEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { aptSettings } from "../src/apt-planning.ts";
import { canonicalJson } from "../src/canonical.ts";
import { matchesForm } from "../src/eco-argv-form.ts";
import { HOST_SETTINGS } from "../src/eco-planning.ts";
import { assertPlanningArgv, PLANNING_FORMS } from "../src/eco-planning-argv.ts";
import { AegisError } from "../src/errors.ts";
import { npmConfig, npmSettings } from "../src/npm-config.ts";
import { hostIdentity, openPlanning } from "../src/plan-world.ts";
import { startTimeOf } from "../src/sys-process.ts";
import type { RunOptions, RunResult, run } from "../src/sys-spawn.ts";
import { HOST } from "./policy-plans.ts";

const ALLOWED: string[][] = [
  ["apt-get", "-s", "full-upgrade"],
  ["apt-get", "-s", "autoremove"],
  ["apt-get", "-s", "purge", "nginx", "libc6:amd64"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id,Names", "--", "ssh.service", "-.slice"],
  ["apt-get", "-s", "upgrade"],
  ["apt-get", "-s", "remove", "g++", "libc6:i386"],
  ["apt-get", "-s", "install", "--allow-downgrades", "g++=4:12.2.0-3", "libc6:i386=2.36-9"],
  ["apt-get", "-s", "install", "nginx"],
  ["apt-get", "-s", "install", "g++", "libc6:i386", "nginx=1.22.1-9+deb12u2", "a2:amd64=1:2.0~rc1-1"],
  ["apt-cache", "policy", "nginx", "hello"],
  ["apt-cache", "show", "nginx=1.22.1-9"],
  ["apt-config", "dump"],
  ["dpkg", "--audit"],
  ["gpgv", "--status-fd", "1", "--keyring", "/usr/share/keyrings/a.gpg", "/var/lib/apt/lists/x_InRelease"],
  ["gpgv", "--status-fd", "1", "--keyring", "/a.gpg", "--keyring", "/b.gpg", "/x_Release.gpg", "/x_Release"],
  ["sqv", "--keyring", "/a.gpg", "/x_Release.gpg", "/x_Release"],
  ["sqv", "--keyring", "/a.gpg", "--keyring", "/b.gpg", "/tmp/1-signature-of-x", "/tmp/2-text-of-x"],
  ["sqv", "--version"],
  ["npm", "view", "lodash", "--json"],
  ["npm", "view", "@types/node@^22.1.0-rc.1", "--json"],
  ["python3", "-m", "pip", "index", "versions", "requests"],
  ["python3", "-m", "pip", "inspect"],
  ["docker", "manifest", "inspect", "ubuntu:latest"],
  ["podman", "manifest", "inspect", `ghcr.io/org/image@sha256:${"a".repeat(64)}`],
  ["dotnet", "nuget", "search", "Newtonsoft.Json"],
  ["code", "--list-extensions", "--show-versions"],
  ["go", "env", "GOSUMDB", "GOPROXY", "GOPRIVATE", "GONOSUMDB", "GOVERSION"],
  ["go", "list", "-m", "-json", "github.com/gin-gonic/gin@v1.10.0"],
  ["cargo", "search", "ripgrep", "--limit", "5"],
  ["go", "list", "-m", "-json", "all"],
  ["npm", "--version"],
];

const FORBIDDEN: string[][] = [
  [],
  [""],
  ["sudo", "apt-get", "-s", "upgrade"],
  ["sh", "-c", "apt-get -s upgrade"],
  ["bash", "-c", "true"],
  ["/usr/bin/apt-get", "-s", "upgrade"],
  ["apt-get", "upgrade"],
  ["apt-get", "upgrade", "-s"],
  ["apt-get", "install", "nginx"],
  ["apt-get", "install", "-s", "nginx"],
  ["apt-get", "-s", "install"],
  ["apt-get", "-s", "dist-upgrade"],
  ["apt-get", "full-upgrade", "-s"],
  ["apt-get", "-s", "full-upgrade", "nginx"],
  ["apt-get", "-s", "autoremove", "nginx"],
  ["apt-get", "-s", "autoremove", "--purge"],
  ["apt-get", "remove", "nginx"],
  ["apt-get", "-s", "remove"],
  ["apt-get", "-s", "remove", "nginx=1.0"],
  ["apt-get", "-s", "remove", "nginx-"],
  ["apt-get", "-s", "remove", "--purge", "nginx"],
  ["apt-get", "-s", "remove", "nginx", "-y"],
  ["apt-get", "-s", "purge"],
  ["apt-get", "-s", "purge", "nginx=1.0"],
  ["apt-get", "purge", "nginx"],
  ["systemctl", "restart", "x.service"],
  ["systemctl", "show", "x.service"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id", "x.service"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id", "--"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id", "--", "*.service"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id", "--", "../x.service"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id", "--", "x"],
  ["systemctl", "show", "--timestamp=utc", "--property=Id", "-Hroot@x", "--", "x.service"],
  ["apt-get", "-s", "install", "--allow-downgrades"],
  ["apt-get", "-s", "install", "--allow-downgrades", "--allow-remove-essential", "nginx=1.0"],
  ["apt-get", "-s", "--allow-downgrades", "install", "nginx=1.0"],
  ["dpkg", "--configure", "-a"],
  ["dpkg", "--audit", "-a"],
  ["apt-get", "-s", "upgrade", "nginx"],
  ["apt-get", "-s", "upgrade", "-o", "APT::Get::Simulate=false"],
  ["apt-get", "-s", "install", "-o", "Dir::Etc=/tmp"],
  ["apt-get", "-s", "install", "nginx", "-o", "Dir::Bin::dpkg=/tmp/x"],
  ["apt-get", "-s", "install", "nginx", "--no-simulate"],
  ["apt-get", "-s", "install", "./evil.deb"],
  ["apt-get", "-s", "install", "/tmp/evil.deb"],
  ["apt-get", "-s", "install", "nginx-"],
  ["apt-get", "-s", "install", "nginx-.*"],
  ["apt-get", "-s", "install", "nginx/stable"],
  ["apt-get", "-s", "install", "nginx;id"],
  ["apt-get", "-s", "install", "nginx\n"],
  ["apt-get", "-s", "install", ""],
  ["apt-get", "update"],
  ["apt-get", "source", "nginx"],
  ["apt-cache", "policy"],
  ["apt-cache", "gencaches"],
  ["apt-cache", "show", "-o", "x=y"],
  ["apt-config", "dump", "--format"],
  ["apt-config", "shell", "A", "B"],
  ["dpkg", "--audit", "--force-all"],
  ["dpkg", "-i", "x"],
  ["dpkg", "--configure", "-a"],
  ["gpgv", "--status-fd", "1", "/x_InRelease"],
  ["gpgv", "--status-fd", "1", "--keyring", "/a.gpg"],
  ["sqv", "/x_Release.gpg", "/x_Release"],
  ["sqv", "--keyring", "/a.gpg", "/x_InRelease"],
  ["sqv", "--keyring", "/a.gpg", "--output", "/etc/passwd", "--cleartext", "/x_InRelease"],
  ["sqv", "--output", "/etc/passwd", "--keyring", "/a.gpg", "/x", "/y"],
  ["sqv", "--keyring", "/a.gpg", "--policy-as-of", "20000101", "/x", "/y"],
  ["sqv", "--keyring", "/a.gpg", "/x", "/y", "/z"],
  ["gpgv", "--status-fd", "1", "--keyring", "/a.gpg", "--output", "/etc/passwd", "/x"],
  ["gpgv", "--status-fd", "1", "--output", "/x", "--keyring", "/a.gpg", "/x"],
  ["gpgv", "--status-fd", "1", "--keyring", "/a.gpg", "/x", "/y", "/z"],
  ["gpgv", "--status-fd", "1", "--keyring", "a.gpg", "/x"],
  ["gpgv", "--status-fd", "1", "--keyring", "/a/../b.gpg", "/x"],
  ["gpgv", "--status-fd", "1", "--keyring", "/a.gpg", "-"],
  ["gpgv", "--status-fd", "2", "--keyring", "/a.gpg", "/x"],
  ["npm", "install", "lodash"],
  ["npm", "view", "lodash"],
  ["npm", "view", "--json", "lodash"],
  ["npm", "view", "--registry=http://evil", "--json"],
  ["npm", "view", "-g", "--json"],
  ["npm", "view", "https://example.com/x.tgz", "--json"],
  ["npm", "view", "./x", "--json"],
  ["npm", "view", "user/repository", "--json"],
  ["npm", "view", "lodash", "--json", "--registry=http://evil"],
  ["npm", "exec", "lodash"],
  ["npm", "run", "build"],
  ["npx", "lodash"],
  ["python3", "-m", "pip", "install", "requests"],
  ["python3", "-m", "pip", "index", "versions", "--index-url=http://evil"],
  ["python3", "-c", "print(1)"],
  ["pip", "install", "requests"],
  ["docker", "pull", "ubuntu"],
  ["docker", "run", "ubuntu"],
  ["docker", "manifest", "inspect", "--insecure"],
  ["podman", "pull", "ubuntu"],
  ["dotnet", "add", "package", "x"],
  ["nuget", "install", "x"],
  ["nuget", "config", "repositoryPath"],
  ["nuget", "list", "x"],
  ["nuget", "help"],
  ["nuget", "--version"],
  ["nuget"],
  ["code", "--install-extension", "a.b"],
  ["go", "get", "example.com/x"],
  ["go", "install", "example.com/x@v1.0.0"],
  ["go", "env", "-w", "GOFLAGS=-x"],
  ["go", "list", "-m", "-json", "-modfile=/tmp/x"],
  ["cargo", "install", "ripgrep"],
  ["cargo", "search", "ripgrep", "--limit", "5", "--config", "x"],
  ["curl", "--version"],
  ["aegis", "--version"],
];

describe("argv", () => {
  for (const argv of FORBIDDEN) {
    test(`refused: ${JSON.stringify(argv)}`, () => {
      expect(() => assertPlanningArgv(argv)).toThrow("planning may not run");
    });
  }
  for (const argv of ALLOWED) {
    test(`allowed: ${argv.join(" ")}`, () => expect(() => assertPlanningArgv(argv)).not.toThrow());
  }
  test("no form is on the list but those of these", () => {
    const unused = PLANNING_FORMS.filter((form) => !ALLOWED.some((argv) => matchesForm(form, argv)));
    expect(unused).toEqual([]);
  });
  test("one more word, or an option anywhere, is refused", () => {
    // Behind `--` systemctl takes every word as a unit, and some begin with a hyphen.
    const optional = ALLOWED.filter(([program]) => program !== "systemctl");
    const option = fc.string({ minLength: 1, maxLength: 12 }).map((s) => `-${s}`);
    fc.assert(
      fc.property(fc.constantFrom(...optional), option, fc.nat(), (argv, word, at) => {
        expect(() => assertPlanningArgv(argv.toSpliced(at % (argv.length + 1), 0, word))).toThrow();
      }),
    );
  });
});

const roots: string[] = [];
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

function freshEnv(): Record<string, string> {
  const root = mkdtempSync(join(tmpdir(), "aegis-planning-"));
  roots.push(root);
  return { HOME: root, XDG_CACHE_HOME: join(root, "cache"), SECRET_TOKEN: "hidden", BASH_ENV: "/evil" };
}

interface Seen extends RunOptions {
  program: string;
  args: readonly string[];
}

/** Planning with programs replaced by a function of the command line. */
function fakePlanning(answer: (seen: Seen) => Partial<RunResult>) {
  const spawn: typeof run = async (program, args, options) => ({
    status: 0,
    outcome: "exited",
    stdout: Buffer.from(""),
    stderr: Buffer.from(""),
    ...answer({ program, args, ...options }),
  });
  return openPlanning({ env: freshEnv(), host: HOST, spawn });
}

describe("planning", () => {
  test("refuses foreign argv before anything is started", async () => {
    let started = 0;
    const planning = fakePlanning(() => ({ status: started++ }));
    for (const argv of FORBIDDEN.slice(2)) {
      await expect(planning.run(argv, { settings: HOST_SETTINGS })).rejects.toMatchObject({
        code: "internal",
      });
    }
    planning.close();
    expect(started).toBe(0);
  });

  test("starts programs from system directories, in an empty private directory, with a clean environment", async () => {
    const seen: Seen[] = [];
    const planning = fakePlanning((one) => {
      seen.push(one);
      expect(readdirSync(one.cwd)).toEqual([]);
      expect(readdirSync(one.env.HOME ?? "")).toEqual([]);
      expect(statSync(one.cwd).mode & 0o777).toBe(0o700);
      return {};
    });
    await Promise.all([
      planning.run(["apt-get", "-s", "upgrade"], { settings: HOST_SETTINGS }),
      planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS }),
    ]);
    planning.close();
    expect(seen.length).toBe(2);
    for (const { program, env, cwd } of seen) {
      expect(program).toMatch(/^\/usr\/(local\/)?s?bin\/apt-/);
      expect(env).toEqual({
        LANG: "C.UTF-8",
        LC_ALL: "C.UTF-8",
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME: env.HOME ?? "",
        PYTHONSAFEPATH: "1",
      });
      expect(existsSync(cwd)).toBe(false);
    }
    expect(seen[0]?.cwd).not.toBe(seen[1]?.cwd ?? "");
  });

  test("passes apt its configuration in APT_CONFIG, for that call only", async () => {
    const planning = openPlanning({ env: freshEnv(), host: HOST });
    const { stdout } = await planning.run(["apt-config", "dump"], {
      settings: aptSettings('Aegis::Probe "yes";\n'),
    });
    const without = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
    planning.close();
    expect(stdout).toContain('Aegis::Probe "yes";');
    expect(without.stdout).toContain("APT::Architecture");
    expect(without.stdout).not.toContain("Aegis::Probe");
  });

  test("settings in a directory of the fresh HOME", async () => {
    const found: string[] = [];
    const planning = openPlanning({
      env: freshEnv(),
      host: HOST,
      spawn: (_program, _args, { env }) => {
        found.push(readFileSync(join(env.HOME ?? "", ".config/NuGet/NuGet.Config"), "utf8"));
        return Promise.reject(new AegisError("unavailable", "no such program"));
      },
    });
    const settings = () => ({ files: { ".config/NuGet/NuGet.Config": "<configuration />" } });
    await planning.run(["apt-config", "dump"], { settings });
    planning.close();
    expect(found).toEqual(["<configuration />"]);
  });

  const OUTCOMES: [string, Partial<RunResult>, string][] = [
    ["exit 0", { status: 0 }, "ok"],
    ["exit 100", { status: 100 }, "failed"],
    ["killed", { status: null }, "failed"],
    ["time limit", { status: null, outcome: "timeout" }, "timeout"],
    ["output cap", { status: null, outcome: "truncated" }, "truncated"],
  ];
  for (const [name, result, outcome] of OUTCOMES) {
    test(`${name} is recorded as ${outcome}`, async () => {
      const planning = fakePlanning(() => result);
      const { evidence } = await planning.run(["apt-get", "-s", "upgrade"], { settings: HOST_SETTINGS });
      planning.close();
      expect(evidence).toMatchObject({ outcome, status: result.status ?? null });
    });
  }

  test("a missing program is an outcome, not an exception", async () => {
    const planning = openPlanning({
      env: freshEnv(),
      host: HOST,
      spawn: () => Promise.reject(new Error("never")),
    });
    // No test machine has `dotnet`.
    const { evidence, stdout } = await planning.run(["dotnet", "--version"], { settings: HOST_SETTINGS });
    planning.close();
    expect(evidence).toEqual({
      argv: ["dotnet", "--version"],
      status: null,
      outcome: "missing",
      stdout_sha256: null,
      stderr_sha256: null,
      stdout: null,
      stderr: null,
    });
    expect(stdout).toBe("");
  });

  test("whether there is a program is looked up, and nothing is started", () => {
    const spawn = () => Promise.reject(new Error("never"));
    const planning = openPlanning({ env: freshEnv(), host: HOST, spawn });
    const found = ["dpkg", "dotnet", "aegis", "../bin/dpkg", ""].map((name) => planning.hasProgram(name));
    planning.close();
    expect(found).toEqual([true, false, false, false, false]);
  });

  test("keeps standard output and standard error apart", async () => {
    const planning = fakePlanning(() => ({
      stdout: Buffer.from("{}"),
      stderr: Buffer.from("npm notice new version"),
    }));
    const { stdout, stderr } = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
    planning.close();
    expect([stdout, stderr]).toEqual(["{}", "npm notice new version"]);
  });

  test("large output is recorded as a digest, requested output until 256 KiB are used", async () => {
    const planning = fakePlanning(() => ({ stdout: Buffer.from("\u0001".repeat(5000)) }));
    const first = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
    expect(first.evidence.stdout).toBeNull();
    expect(first.evidence.stdout_sha256).toMatch(/^[0-9a-f]{64}$/);
    const commands = [first.evidence];
    for (let i = 0; i < 40; i++)
      commands.push(
        (await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS, keep: true })).evidence,
      );
    planning.close();
    expect(commands.filter((c) => c.stdout !== null).length).toBeGreaterThan(3);
    expect(Buffer.byteLength(canonicalJson({ commands }))).toBeLessThan(256 * 1024);
  });

  test("npm gets only the user's registry settings", async () => {
    const env: Record<string, string> = {
      ...freshEnv(),
      npm_config_registry: "https://user:secret@npm.example.com/",
    };
    await Bun.write(
      join(env.HOME ?? "", ".npmrc"),
      "@acme:registry=https://acme.example.com\n//npm.example.com/:_authToken=secret\nscript-shell=/tmp/evil\nnode-options=--require /tmp/evil.js\n",
    );
    let npmrc = "";
    const spawn: typeof run = async (_program, _args, { env: childEnv }) => {
      npmrc = readFileSync(join(childEnv.HOME ?? "", ".npmrc"), "utf8");
      expect(readFileSync(childEnv.NPM_CONFIG_GLOBALCONFIG ?? "", "utf8")).toBe("");
      expect(Object.keys(childEnv)).not.toContain("npm_config_registry");
      return { status: 0, outcome: "exited", stdout: Buffer.from(""), stderr: Buffer.from("") };
    };
    const planning = openPlanning({ env, host: HOST, spawn });
    const { evidence } = await planning.run(["npm", "view", "lodash", "--json"], {
      settings: npmSettings(npmConfig(env, planning.readText)),
    });
    planning.close();
    if (evidence.outcome === "missing") return; // a machine without npm
    expect(npmrc).toContain("registry=https://npm.example.com/\n");
    expect(npmrc).toContain("@acme:registry=https://acme.example.com/\n");
    expect(npmrc).not.toContain("secret");
    expect(npmrc).not.toContain("evil");
  });

  test("temporary files are private and removed by close, also if a command throws", async () => {
    const planning = openPlanning({
      env: freshEnv(),
      host: HOST,
      spawn: () => Promise.reject(new Error("broken")),
    });
    const path = planning.temporary("key.gpg", "data");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(planning.readText(path)).toBe("data");
    expect(() => planning.temporary("../x", "")).toThrow("not a name");
    await expect(planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS })).rejects.toThrow("broken");
    planning.close();
    expect(existsSync(path)).toBe(false);
    expect(readdirSync(join(planning.env.XDG_CACHE_HOME ?? "", "aegis/tmp"))).toEqual([]);
  });

  test("apt's binary cache is the host's, or one inside the private directory", () => {
    const theirs = openPlanning({ env: freshEnv(), host: HOST });
    const own = openPlanning({ env: freshEnv(), host: HOST, ownCaches: true });
    expect(theirs.aptCache).toBeUndefined();
    expect(dirname(own.aptCache ?? "")).toBe(dirname(own.temporary("x", "")));
    for (const planning of [theirs, own]) planning.close();
  });

  test("unreadable files are null, unreadable directories empty", () => {
    const planning = fakePlanning(() => ({}));
    const missing = planning.temporary("missing", "");
    rmSync(missing);
    expect(planning.readText(missing)).toBeNull();
    expect(planning.readText("/dev/zero")).toBeNull();
    expect(planning.list(missing)).toEqual([]);
    planning.close();
  });
});

test("directories of killed planning processes are removed, those of live ones aren't", () => {
  const cache = mkdtempSync(join(tmpdir(), "aegis-sweep-"));
  const parent = join(cache, "aegis/tmp");
  const alive = openPlanning({ env: { XDG_CACHE_HOME: cache }, host: HOST });
  mkdirSync(join(parent, "plan-1-1-dead/run-1"), { recursive: true });
  mkdirSync(join(parent, "not-ours"));
  const [living = ""] = readdirSync(parent).filter((name) => name.startsWith(`plan-${process.pid}-`));
  // The same pid and start time, from an earlier boot.
  const earlier = living.replace(
    /-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-/,
    "-00000000-0000-4000-8000-000000000000-",
  );
  mkdirSync(join(parent, `${earlier}.`));
  mkdirSync(join(parent, `plan-${process.pid}-${startTimeOf(process.pid)}-olderx`));
  expect(readdirSync(parent)).toHaveLength(5);
  openPlanning({ env: { XDG_CACHE_HOME: cache }, host: HOST }).close();
  expect(readdirSync(parent).sort()).toEqual(["not-ours", living].sort());
  alive.close();
  expect(readdirSync(parent)).toEqual(["not-ours"]);
  rmSync(cache, { recursive: true });
});

const ID = "3d1219c7c4c5404aaa1f6d2a48adfda4";
const BOOT = "0b6ffbe2-8c1f-4c57-9d3a-1f0c5d7e9a42";
const BOOT_FILE = "/proc/sys/kernel/random/boot_id";
const files = (given: Record<string, string>) => (path: string) => given[path] ?? null;

describe("a host without a machine id", () => {
  const CASES: [string, string | null][] = [
    ["missing", null],
    ["empty", ""],
    ["uninitialized", "uninitialized\n"],
    ["all zeros", `${"0".repeat(32)}\n`],
    ["too short", "3d1219c7\n"],
    ["not hexadecimal", `${"g".repeat(32)}\n`],
  ];
  for (const [name, text] of CASES) {
    test(`${name}: unavailable, with what to do`, () => {
      let thrown: unknown;
      try {
        hostIdentity(files(text === null ? {} : { "/etc/machine-id": text }));
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toMatchObject({
        code: "unavailable",
        hint: expect.stringContaining("systemd-machine-id-setup"),
      });
    });
  }
});

describe("a boot without an id", () => {
  const CASES: [string, string | null][] = [
    ["not readable", null],
    ["empty", "\n"],
    ["in capitals", BOOT.toUpperCase()],
    ["with more behind it", `${BOOT} ${BOOT}`],
  ];
  for (const [name, text] of CASES) {
    test(`${name}: unavailable, since a plan could outlive it`, () => {
      const given = { "/etc/machine-id": ID, ...(text === null ? {} : { [BOOT_FILE]: text }) };
      expect(() => hostIdentity(files(given))).toThrow("can't be bound to this boot");
    });
  }
});

describe("the boot id from the unit", () => {
  const given = files({ "/etc/machine-id": ID, [BOOT_FILE]: "11111111-2222-3333-4444-555555555555" });
  test("takes precedence over the file, in the file's format", () =>
    expect(hostIdentity(given, BOOT.replaceAll("-", "")).boot_id).toBe(BOOT));
  for (const word of ["", "%b", "0", BOOT.replaceAll("-", "").slice(1)]) {
    test(`${JSON.stringify(word)} is none: unavailable, and not the file's`, () =>
      expect(() => hostIdentity(given, word)).toThrow("can't be bound to this boot"));
  }
});

test("identity is a keyed hash, the release, dpkg's native architecture, and the boot", () => {
  const host = hostIdentity(
    files({
      "/etc/machine-id": `${ID}\n`,
      [BOOT_FILE]: `${BOOT}\n`,
      "/etc/os-release": 'PRETTY_NAME="Ubuntu 24.04 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n',
      "/var/lib/dpkg/arch": "arm64\narmhf\n",
    }),
  );
  expect(host).toMatchObject({
    os_id: "ubuntu",
    os_version: "24.04",
    architecture: "arm64",
    boot_id: BOOT,
  });
  expect(host.machine_id_hash).toBe(createHmac("sha256", ID).update("aegis").digest("hex"));
  expect(JSON.stringify(host)).not.toContain(ID);
});

test("falls back to the vendor's os-release; a host of one architecture has no list", () => {
  const host = hostIdentity(
    files({
      "/etc/machine-id": ID,
      [BOOT_FILE]: BOOT,
      "/usr/lib/os-release": "ID='debian'\nVERSION_ID=12\n",
    }),
  );
  expect(host).toMatchObject({ os_id: "debian", os_version: "12" });
  expect(host.architecture).toMatch(/^[a-z0-9]+$/);
  expect(host.architecture).not.toBe("x64");
});
