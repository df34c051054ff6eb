import { beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kernelTasks, MANAGED_LIMITS } from "../src/eco-sandbox-limits.ts";
import { HOST_DIRECTORIES, sysusersText, tmpfilesText } from "../src/host-accounts.ts";
import { BOOT_LOADER_DROP_IN, needrestartText } from "../src/host-drop-ins.ts";
import { UNIT_NAMES, unitText, WAIT_FOR_APT } from "../src/host-units.ts";
import { SYSTEM } from "../src/paths.ts";
import { dangerousEnvironment } from "../src/self.ts";
import { DAEMON_VARIABLES, REVIEWER_VARIABLES } from "../src/sys-environment-file.ts";
import { USERS } from "../src/sys-state.ts";
import { FRONT_LIMITS } from "../src/wire-limits.ts";
import { needs } from "./needs.ts";

/** The directives of a section, as a reader of the file finds them. */
function directives(name: (typeof UNIT_NAMES)[number], section: string): Map<string, string[]> {
  const body = unitText(name).split(`[${section}]\n`)[1]?.split(/^\[/m)[0] ?? "";
  const pairs = body
    .split("\n")
    .filter((line) => /^[A-Z]/.test(line))
    .map((line): [string, string] => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]);
  return new Map(
    [...Map.groupBy(pairs, ([key]) => key)].map(([key, all]) => [key, all.map(([, value]) => value)]),
  );
}
const service = (name: (typeof UNIT_NAMES)[number]) => directives(name, "Service");

const SERVICES = UNIT_NAMES.filter((name) => name.endsWith(".service"));
const SOCKETS = UNIT_NAMES.filter((name) => name.endsWith(".socket"));
const RUN_APT = ["aegis-runner@.service", "aegis-recover.service"] as const;
const UNPRIVILEGED = ["aegisd.service", "aegis-reviewd.service", "aegis-fetch@.service"] as const;

describe("directives that no unit has", () => {
  for (const name of SERVICES) {
    test(`${name}: no directive gives one of root's directories away`, () => {
      for (const key of [
        "RuntimeDirectory",
        "StateDirectory",
        "LogsDirectory",
        "CacheDirectory",
        "ConfigurationDirectory",
      ])
        expect(service(name).has(key)).toBe(false);
    });
    test(`${name}: no EnvironmentFile=, which accepts any name`, () => {
      expect(service(name).has("EnvironmentFile")).toBe(false);
    });
    test(`${name}: no MemoryDenyWriteExecute=, which Bun does not survive`, () => {
      expect(service(name).has("MemoryDenyWriteExecute")).toBe(false);
    });
    test(`${name}: no start limit, which would need manual intervention`, () => {
      const oneshot = service(name).get("Type")?.[0] === "oneshot" && name === "aegis-monitor.service";
      expect(directives(name, "Unit").get("StartLimitIntervalSec")).toEqual(oneshot ? undefined : ["0"]);
    });
  }
});

describe("units that run apt", () => {
  // PEER 25: a unit under which no package can be installed.
  const KILLS_APT = [
    "ProtectSystem",
    "PrivateUsers",
    "RestrictSUIDSGID",
    "ProtectKernelModules",
    "ProcSubset",
    "PrivateTmp",
    "ProtectProc",
    "PrivateNetwork",
    "User",
    "RuntimeMaxSec",
    "MemoryMax",
  ];
  for (const name of RUN_APT) {
    for (const key of KILLS_APT) {
      test(`PEER 25: ${name} has no ${key}=`, () => expect(service(name).has(key)).toBe(false));
    }
    test(`${name}: nothing kills it while dpkg works`, () => {
      const found = service(name);
      expect(["KillMode", "SendSIGKILL", "TimeoutStopSec", "OOMPolicy"].map((key) => found.get(key))).toEqual(
        [["process"], ["no"], ["infinity"], ["continue"]],
      );
    });
    test(`${name}: keeps what dpkg and maintainer scripts need`, () => {
      const kept = service(name).get("CapabilityBoundingSet")?.[0]?.split(" ") ?? [];
      for (const capability of [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "SETUID",
        "SETGID",
        "SETFCAP",
        "KILL",
        "MAC_ADMIN",
      ])
        expect(kept).toContain(`CAP_${capability}`);
    });
    test(`${name}: maintainer scripts load AppArmor profiles, where there is AppArmor`, () => {
      expect(service(name).get("ReadWritePaths")).toEqual(["-/sys/kernel/security/apparmor"]);
    });
  }
  for (const name of SERVICES.filter((one) => !RUN_APT.some((running) => running === one))) {
    test(`${name}, which runs no apt, changes no AppArmor profile`, () => {
      expect(service(name).get("CapabilityBoundingSet")?.join(" ")).not.toContain("CAP_MAC_ADMIN");
      expect(service(name).get("ReadWritePaths")?.join(" ") ?? "").not.toContain("/sys");
    });
  }
});

describe("units that wait for apt", () => {
  for (const name of SERVICES) {
    const waits = WAIT_FOR_APT.some((one) => one === name);
    test(`${name}: ${waits ? "not stopped by hand, so by no hook of that apt" : "can be restarted while apt is at work"}`, () =>
      expect(directives(name, "Unit").get("RefuseManualStop")).toEqual(waits ? ["yes"] : undefined));
  }
  const [, pattern = ""] = /override_rc\}\{qr\((.*)\)\} = 0;\n$/.exec(needrestartText()) ?? [];
  test.each([
    ["aegis-runner@6-8198-995.service", true],
    ["aegis-recover.service", true],
    ["aegis-monitor.service", true],
    ["aegis-build@3-567-0.service", true],
    ["aegis-unpack@3-567-0.service", true],
    ["aegis-fetch@3-567-0.service", true],
    ["aegisd.service", false],
    ["aegis-reviewd.service", false],
    ["not-aegis-runner@1.service", false],
    ["aegis-runners.service", false],
  ])("needrestart leaves %s alone: %p", (unit, left) => expect(new RegExp(pattern).test(unit)).toBe(left));
});

const NOTIFY = "aegis-notify.service";
describe("the notifier, which may start sendmail", () => {
  const found = service(NOTIFY);
  test("set-group-id programs work on every systemd: no user whose filters would mean NoNewPrivileges=", () =>
    expect([found.has("User"), found.get("NoNewPrivileges")]).toEqual([false, ["no"]]));
  test.each(["sudo", "su", "pkexec", "mount", "passwd", "sh"])("can't run %s", (name) => {
    expect(found.get("NoExecPaths")).toEqual(["/"]);
    const allowed = found
      .get("ExecPaths")
      ?.flatMap((line) => line.split(" ").map((path) => path.replace(/^-/, "")));
    expect(allowed).toContain("/usr/sbin");
    expect(allowed?.filter((path) => `/usr/bin/${name}`.startsWith(path))).toEqual([]);
  });
  test("writes only what it remembers, and mail", () =>
    expect(found.get("ReadWritePaths")).toEqual([
      `${SYSTEM.notifierState} -/var/spool -/var/mail -/var/log/exim4`,
    ]));
});

describe("the unprivileged services", () => {
  for (const name of UNPRIVILEGED) {
    const found = service(name);
    test(`${name}: its own user, no capabilities, only its own files writable`, () => {
      expect(found.get("User")?.[0]).toMatch(/^aegis-/);
      expect(found.get("CapabilityBoundingSet")).toEqual([""]);
      expect(found.get("NoNewPrivileges")).toEqual(["yes"]);
      expect(found.get("ProtectSystem")).toEqual(["strict"]);
      // The fetch process hands over what it downloads, and stores nothing.
      const own = HOST_DIRECTORIES.filter(({ user }) => user === found.get("User")?.[0]).map(
        ({ path }) => path,
      );
      expect(found.get("ReadWritePaths")?.[0]?.split(" ") ?? []).toEqual(own);
    });
  }
  test("the fetch process sees nothing of Aegis's but the program", () => {
    const hidden = service("aegis-fetch@.service").get("InaccessiblePaths")?.at(-1)?.split(" ");
    for (const path of [SYSTEM.state, SYSTEM.config, SYSTEM.run, "/var/log"])
      expect(hidden).toContain(`-${path}`);
  });
  test("the front uses unix sockets only, and sees its peers' uids", () => {
    expect(service("aegisd.service").get("RestrictAddressFamilies")).toEqual(["AF_UNIX"]);
    expect(service("aegisd.service").get("PrivateNetwork")).toEqual(["yes"]);
    expect(service("aegisd.service").has("PrivateUsers")).toBe(false);
  });
  test("the front sees only Aegis's sockets, and can't fill a file system", () => {
    expect(service("aegisd.service").get("TemporaryFileSystem")).toEqual(["/run:ro"]);
    expect(service("aegisd.service").get("BindReadOnlyPaths")).toEqual(["/run/aegis"]);
    expect(service("aegisd.service").get("ReadOnlyPaths")?.[0]?.split(" ")).toContain("/tmp");
  });
  test("no unprivileged service reaches D-Bus", () => {
    expect(service("aegis-reviewd.service").get("InaccessiblePaths")).toEqual(["-/run/dbus"]);
  });
  test("the front reaches neither D-Bus nor systemd on systemd 249 either, which keeps the host's /run", () => {
    const hidden = service("aegisd.service").get("InaccessiblePaths")?.[0]?.split(" ");
    for (const path of ["-/run/dbus", "-/run/systemd/private"]) expect(hidden).toContain(path);
  });
  test("the front may open enough files for all its clients", () => {
    const limit = Number(service("aegisd.service").get("LimitNOFILE")?.[0]);
    const { clients, watchers, lingering } = FRONT_LIMITS;
    expect(limit).toBeGreaterThanOrEqual(2 * clients + watchers + lingering + 32);
  });
});

describe("the sandbox of a managed run", () => {
  const found = service("aegis-build@.service");
  test("it has the capabilities that its first process was measured to need, and the tool none of them", () => {
    expect(found.get("CapabilityBoundingSet")?.[0]?.split(" ").toSorted()).toEqual([
      "CAP_DAC_READ_SEARCH",
      "CAP_SETGID",
      "CAP_SETUID",
      "CAP_SYS_ADMIN",
      "CAP_SYS_CHROOT",
    ]);
    expect(found.get("NoNewPrivileges")).toEqual(["yes"]);
  });
  test("it has no network, and makes no user and network namespace", () => {
    expect(found.get("PrivateNetwork")).toEqual(["yes"]);
    expect([found.get("IPAddressDeny"), found.get("IPAddressAllow")]).toEqual([["any"], ["localhost"]]);
    expect(found.get("RestrictNamespaces")).toEqual(["mnt pid"]);
    expect(found.get("RestrictAddressFamilies")).toEqual(["AF_INET AF_INET6"]);
  });
  test("nothing outlives it, and its control group holds a little more than the tool may use", () => {
    expect([found.has("KillMode"), found.has("SendSIGKILL")]).toEqual([false, false]);
    expect(found.get("OOMPolicy")).toEqual(["kill"]);
    expect(Number(found.get("MemoryMax")?.[0])).toBeGreaterThan(MANAGED_LIMITS.memory);
    expect(Number(found.get("TasksMax")?.[0])).toBeGreaterThan(kernelTasks(MANAGED_LIMITS.tasks));
    expect(Number(found.get("LimitNPROC")?.[0])).toBeGreaterThanOrEqual(kernelTasks(MANAGED_LIMITS.tasks));
    expect(found.get("MemorySwapMax")).toEqual(["0"]);
  });
  test("where files of several users are unpacked: the same, but for user namespaces and special modes", () => {
    const other = new Map(service("aegis-unpack@.service"));
    expect(other.get("RestrictNamespaces")).toEqual(["mnt pid user"]);
    expect(other.has("RestrictSUIDSGID")).toBe(false);
    other.set("RestrictNamespaces", ["mnt pid"]).set("RestrictSUIDSGID", ["yes"]);
    expect(Object.fromEntries(other)).toEqual(Object.fromEntries(found));
  });
  for (const name of ["aegis-build@.service", "aegis-unpack@.service", "aegis-fetch@.service"] as const) {
    test(`${name}: ends with its connection`, () => {
      expect([service(name).get("StandardInput"), service(name).get("StandardOutput")]).toEqual([
        ["socket"],
        ["socket"],
      ]);
    });
  }
});

describe("every service", () => {
  const DANGEROUS = [
    "BUN_OPTIONS",
    "BUN_BE_BUN",
    "BUN_INSPECT",
    "NODE_OPTIONS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
  ];
  for (const name of SERVICES) {
    const unset = (service(name).get("UnsetEnvironment") ?? []).flatMap((line) => line.split(" "));
    for (const variable of [...DANGEROUS, "LD_PRELOAD", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"]) {
      test(`${name} unsets ${variable}`, () => expect(unset).toContain(variable));
    }
    test(`${name} starts the one executable`, () => {
      const unshare = "/usr/bin/unshare --mount --pid --fork --kill-child --mount-proc -- ";
      const become = `/usr/bin/setpriv --reuid=${USERS.notify} --regid=${USERS.notify} --clear-groups --inh-caps=-all `;
      const prefix = /^aegis-(?:build|unpack)@/.test(name) ? unshare : name === NOTIFY ? become : "";
      expect(service(name).get("ExecStart")?.[0]).toStartWith(`${prefix}${SYSTEM.binary} daemon --`);
    });
  }
  test("units unset the variables for which a secret key is refused", () => {
    expect(dangerousEnvironment(Object.fromEntries(DANGEROUS.map((name) => [name, "0"]))).toSorted()).toEqual(
      DANGEROUS.toSorted(),
    );
  });
});

describe("sockets", () => {
  const GROUPS = {
    "aegisd.socket": "aegis-admin",
    "aegis-runner.socket": "aegis-front",
    "aegis-reviewd.socket": "aegis-review",
    "aegis-build.socket": "root",
    "aegis-unpack.socket": "root",
    "aegis-fetch.socket": "root",
  };
  for (const [name, group] of Object.entries(GROUPS)) {
    test(`${name} belongs to root and ${group}`, () => {
      const found = directives(name as keyof typeof GROUPS, "Socket");
      expect([found.get("SocketUser"), found.get("SocketGroup"), found.get("SocketMode")]).toEqual([
        ["root"],
        [group],
        [group === "root" ? "0600" : "0660"],
      ]);
      expect(found.get("TriggerLimitIntervalSec")).toEqual(["0"]);
    });
  }
  test("there are no others", () => {
    expect<string[]>(SOCKETS.toSorted()).toEqual(Object.keys(GROUPS).toSorted());
  });
  for (const name of ["aegisd.socket", "aegis-runner.socket"] as const) {
    test(`PEER 24: ${name} does not take the path of an executor started by hand`, () => {
      const found = directives(name, "Socket");
      expect(found.get("ExecStartPre")?.[0]).toBe(
        `/usr/bin/flock --nonblock ${found.get("ListenStream")?.[0]}.lock /usr/bin/true`,
      );
      expect(found.get("UMask")).toEqual(["0077"]);
    });
  }
});

describe("directories and accounts", () => {
  test("the state, the log and the sockets' directory belong to root", () => {
    for (const path of [SYSTEM.state, SYSTEM.auditDir, SYSTEM.run, SYSTEM.config])
      expect(HOST_DIRECTORIES.find((directory) => directory.path === path)?.user).toBe("root");
  });
  test("only the owner may write to them", () => {
    for (const { mode } of HOST_DIRECTORIES) expect(mode & 0o022).toBe(0);
  });
  test("parents come first", () => {
    const paths = HOST_DIRECTORIES.map(({ path }) => path);
    for (const [i, path] of paths.entries())
      for (const later of paths.slice(i)) expect(path.startsWith(`${later}/`)).toBe(false);
  });
  test("tmpfiles.d: one line each", () => {
    expect(tmpfilesText()).toContain("\nd /var/log/aegis 2751 root aegis-admin -\n");
    expect(tmpfilesText().match(/^d /gm)?.length).toBe(HOST_DIRECTORIES.length);
  });
  test("sysusers.d: every user and group that owns something", () => {
    const named = new Set(HOST_DIRECTORIES.flatMap(({ user, group }) => [user, group]));
    for (const name of named)
      if (name !== "root") expect(sysusersText()).toMatch(new RegExp(`^[ug] ${name} `, "m"));
  });
});

test("the reviewer has its own settings, without the executor's", () => {
  for (const name of REVIEWER_VARIABLES) expect(name).toMatch(/^(AEGIS_AI_|AEGIS_LOG|RUST_LOG)/);
  for (const name of DAEMON_VARIABLES) expect(name).not.toMatch(/SECRET|_AI_/);
});

const analyze = Bun.which("systemd-analyze");
const systemd = needs(
  analyze !== null,
  "systemd-analyze (host-units.test.ts: whether systemd accepts the units)",
);

systemd.describe("systemd-analyze", () => {
  const directory = mkdtempSync(join(tmpdir(), "aegis-units-"));
  const run = (...args: string[]) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync([analyze ?? "", ...args], { cwd: directory });
    return { exitCode, said: `${stdout}${stderr}` };
  };

  beforeAll(() => {
    // It looks for the program; this machine need not have it.
    for (const name of UNIT_NAMES)
      writeFileSync(join(directory, name), unitText(name).replaceAll(SYSTEM.binary, "/usr/bin/true"));
    return () => rmSync(directory, { recursive: true });
  });

  test("verify has no complaints", () => {
    const { exitCode, said } = run("verify", ...UNIT_NAMES.map((name) => join(directory, name)));
    expect(said).toBe("");
    expect(exitCode).toBe(0);
  });

  test("verify has no complaints about the runner with the boot loader's drop-in", () => {
    mkdirSync(join(directory, "aegis-runner@.service.d"));
    writeFileSync(
      join(directory, "aegis-runner@.service.d/x.conf"),
      `${BOOT_LOADER_DROP_IN.lines.join("\n")}\n`,
    );
    expect(run("verify", join(directory, "aegis-runner@.service")).said).toBe("");
    const { said } = run("security", "--offline=yes", "./aegis-runner@.service");
    rmSync(join(directory, "aegis-runner@.service.d"), { recursive: true });
    // What it adds is added: the rest stays.
    expect(said).toMatch(/✓ NoNewPrivileges=/);
  });

  // What was reached on systemd 252 and 257.
  const EXPOSURE = {
    "aegisd.service": 0.4,
    "aegis-reviewd.service": 1.3,
    "aegis-processes.service": 2,
    "aegis-monitor.service": 2.8,
    "aegis-runner@.service": 3.6,
    "aegis-recover.service": 3.6,
    "aegis-fetch@.service": 1.3,
    "aegis-build@.service": 2.3,
    "aegis-unpack@.service": 2.6,
    "aegis-notify.service": 3,
    "aegis-feeds.service": 1.3,
  };
  for (const [name, most] of Object.entries(EXPOSURE)) {
    test(`${name} is exposed no more than ${most}`, () => {
      const { said } = run("security", "--offline=yes", `./${name}`);
      const found = /Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1];
      expect(Number(found ?? "NaN")).toBeLessThanOrEqual(most);
    });
  }
});

test("every unit that trusts a recorded process gets the boot id from PID 1", () => {
  for (const name of [...RUN_APT, "aegis-monitor.service"] as const) {
    expect([name, service(name).get("Environment")]).toEqual([name, ["AEGIS_BOOT_ID=%b"]]);
  }
});
