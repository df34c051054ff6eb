import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { FakeCrate } from "./cargo-kit.ts";
import {
  brokenInvariants,
  eventually,
  executorProcesses,
  kill,
  kindsOf,
  processes,
  resultOf,
  submit,
} from "./e2e-running.ts";
import { needs } from "./needs.ts";
import { cgroupControllers } from "./systemd-container.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { type Registries, startRegistries } from "./systemd-registries.ts";
import { toolsRoot } from "./systemd-tools.ts";

/*
 * What goes wrong while a production host builds, and what a build does that means harm: crates whose build scripts wait, outlive
 * their parents, use up what they can and reach for what isn't theirs. After each the managed root is whole, nothing is left, and
 * the log verifies.
 */

const ROOT = "/var/lib/aegis/cargo";
const UNITS = ["aegis-build@*", "aegis-fetch@*"];
const DROP_IN = "/run/systemd/system/aegis-build@.service.d/limits.conf";
const CONTROLLERS = cgroupControllers();
const COMPLETED = ["execution_started", "execution_completed"];
const INTERRUPTED = ["execution_started", "execution_interrupted"];

/** A crate whose command says what its build script left in WORD. */
function crate(name: string, script: string): FakeCrate[] {
  const main = `fn main() { println!("{}", option_env!("WORD").unwrap_or("built")); }\n`;
  return [{ name, version: "1.0.0", files: { "src/main.rs": main, "build.rs": script } }];
}

/** Waits for a file that only the host can make. */
const gated = (name: string) =>
  crate(
    name,
    `fn main() { while std::fs::metadata("/usr/share/${name}").is_err() { std::thread::sleep(std::time::Duration::from_millis(50)); } }\n`,
  );
const shell = (name: string, script: string) =>
  crate(
    name,
    `fn main() { let _ = std::process::Command::new("/bin/sh").args(["-c", ${JSON.stringify(script)}]).status(); }\n`,
  );

/** What a build script tries; each says its name where it succeeds. */
const TRICKS: Record<string, string> = {
  "the network": `TcpStream::connect_timeout(&"1.1.1.1:53".parse().unwrap(), SECOND).is_ok()`,
  "a port of the host": `TcpStream::connect_timeout(&"127.0.0.1:PORT".parse().unwrap(), SECOND).is_ok()`,
  "the front": `UnixStream::connect("/run/aegis/aegisd.sock").is_ok()`,
  "the runner": `UnixStream::connect("/run/aegis/runner.sock").is_ok()`,
  "another sandbox": `UnixStream::connect("/run/aegis/build.sock").is_ok()`,
  systemd: `UnixStream::connect("/run/systemd/private").is_ok()`,
  settings: `fs::read_dir("/etc/aegis").is_ok()`,
  accounts: `fs::read_to_string("/etc/shadow").is_ok()`,
  "root's home": `fs::read_dir("/root").is_ok()`,
  homes: `fs::read_dir("/home").map(|d| d.count()).unwrap_or(0) > 0`,
  "the log": `fs::read_dir("/var/log").is_ok()`,
  "other roots": `fs::read_dir("/var/lib/aegis").map(|d| d.count()).unwrap_or(0) > 1`,
  "a file in another root": `fs::write("/var/lib/aegis/bin/evil", "x").is_ok() || fs::write("/var/lib/aegis/go/evil", "x").is_ok()`,
  "a file in /etc": `fs::write("/etc/evil", "x").is_ok()`,
  "a file in /usr": `fs::write("/usr/share/evil", "x").is_ok()`,
  "root's process": `fs::read_to_string("/proc/1/environ").is_ok()`,
  tracing: "unsafe { ptrace(16, 1, 0, 0) } == 0",
  signals: "unsafe { kill(1, 9) } == 0",
  mounts: `ran("/usr/bin/mount", &["-t", "tmpfs", "none", "/tmp"])`,
  "user namespaces": `ran("/usr/bin/unshare", &["--user", "true"])`,
  "network namespaces": `ran("/usr/bin/unshare", &["--net", "true"])`,
  "another user": "unsafe { setuid(0) } == 0",
};
const hostile = (port: string) => {
  const tries = Object.entries(TRICKS).map(
    ([name, code]) => `    if ${code.replace("PORT", port)} { reached.push(${JSON.stringify(name)}); }\n`,
  );
  return crate(
    "hostile",
    `use std::{fs, net::TcpStream, os::unix::net::UnixStream, process::Command, time::Duration};
extern "C" { fn ptrace(request: i64, pid: i64, a: i64, b: i64) -> i64; fn kill(pid: i32, signal: i32) -> i32; fn setuid(id: u32) -> i32; }
const SECOND: Duration = Duration::from_secs(1);
fn ran(program: &str, args: &[&str]) -> bool { Command::new(program).args(args).status().map(|s| s.success()).unwrap_or(false) }
fn main() {
    let mut reached: Vec<&str> = Vec::new();
${tries.join("")}    println!("cargo:rustc-env=WORD=reached: {}", reached.join(", "));
}
`,
  );
};

const GATED = [
  "runner-dies",
  "both-die",
  "supervisor-dies",
  "unit-dies",
  "unit-stops",
  "power-fails",
  "reboots",
];

describeOnSystemd(
  "builds",
  (suite) => {
    let chain: Production;
    let registries: Registries;
    beforeAll(async () => {
      registries = startRegistries((host) => ({
        ...{ npm: [], pip: [], go: [] },
        cargo: [
          ...GATED.map(gated),
          ...["before", "after"].map((name) => crate(name, "fn main() {}\n")),
          hostile(host.split(":")[1] ?? ""),
          shell("outlives", "exec >/dev/null 2>&1; setsid -f sleep 3001; (setsid sleep 3001 &) & exit 0"),
          crate(
            "forks",
            `use std::process::{Command, Stdio};
fn main() { let n = (0..1000).take_while(|_| Command::new("/bin/sleep").arg("3002").stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()).count(); println!("cargo:rustc-env=WORD={n}"); }
`,
          ),
          crate("hogs", "fn main() { let mut all = Vec::new(); loop { all.push(vec![1u8; 1 << 24]); } }\n"),
        ],
      }));
      chain = await startProduction(suite, toolsRoot);
      registries.configure(chain.host);
    }, 120_000);
    afterAll(async () => {
      await chain?.stop();
      await registries?.stop();
    });

    const signed = async (name: string) => {
      const { execution, path } = await chain.signed("cargo", "install", `${name}@1.0.0`);
      return { id: execution.execution_plan_id, path };
    };
    const installed = async (name: string) => {
      const { path } = await signed(name);
      const { status, stderr } = await chain.apply(path, "alice");
      expect([status, stderr]).toEqual([0, expect.not.stringContaining("error")]);
      return (await mustExec(chain.host, [`/var/lib/aegis/bin/${name}`])).trim();
    };
    /** Submits a crate that waits, and returns once its build script runs. */
    const untilGate = async (name: string) => {
      const { id, path } = await signed(name);
      const before = await listing();
      const client = await submit(chain, path);
      await eventually(() => confined(chain).some((one) => one.includes("build-script-build")));
      return { id, path, client, before };
    };
    const listing = () => mustExec(chain.host, ["find", ROOT, "-printf", "%P %i %s %T@\\n"]);
    const isInstalled = (name: string) => existsSync(chain.host.path(`${ROOT}/bin/${name}`));
    const openGate = (name: string) => chain.host.write(`/usr/share/${name}`, "");
    const refusal = async (path: string) => {
      const { status, stderr } = await chain.apply(path, "alice");
      return `${status} ${/\[(\w+)\]/.exec(stderr)?.[1] ?? stderr}`;
    };
    /** A limit of the unit of builds, as an administrator sets it. */
    const limited = async (...lines: string[]) => {
      chain.host.write(DROP_IN, `[Service]\n${lines.join("\n")}\n`);
      await chain.host.systemctl("daemon-reload");
    };
    afterEach(async () => {
      // Whoever looks at the queue sweeps away what the dead have left in it.
      expect((await chain.aegis(["daemon", "status"], { user: "alice" })).status).toBe(0);
      await eventually(() => confined(chain).length === 0);
      const units = await chain.host.systemctl("list-units", "--plain", "--no-legend", ...UNITS);
      expect(units).toBe("");
      expect(await brokenInvariants(chain)).toEqual([]);
    });

    test("a crate, for there to be something to lose", async () => {
      expect(await installed("before")).toBe("built");
    });

    test("a build script reaches nothing but its own build", async () => {
      expect(await installed("hostile")).toBe("reached:");
    });

    test("what would outlive its build has ended with it", async () => {
      expect(await installed("outlives")).toBe("built");
      expect(allProcesses(chain).filter((one) => one.includes("3001"))).toEqual([]);
    });

    needs(CONTROLLERS.includes("pids"), "the pids controller of unified cgroups").test(
      "a build has no more processes than its unit's TasksMax",
      async () => {
        await limited("TasksMax=200");
        expect(Number(await installed("forks"))).toBeWithin(10, 200);
        await limited();
      },
    );

    needs(CONTROLLERS.includes("memory"), "the memory controller of unified cgroups").test(
      "a build that takes more memory than its unit's MemoryMax is killed, and the root is as it was",
      async () => {
        await limited("MemoryMax=400M");
        const before = await listing();
        const { id, path } = await signed("hogs");
        expect((await chain.apply(path, "alice")).status).toBe(7);
        expect(kindsOf(chain, id)).toEqual(COMPLETED);
        expect(await listing()).toBe(before);
        await limited();
      },
    );

    const ends: [string, string, string[]][] = [
      ["killed", "unit-dies", ["kill", "--signal=KILL"]],
      ["stopped", "unit-stops", ["stop"]],
    ];
    test.each(ends)(
      "its unit is %s: the run has failed, and the root is as it was",
      async (_, name, command) => {
        const { id, client, before } = await untilGate(name);
        await chain.host.systemctl(...command, "aegis-build@*");
        expect(await client.exited).toBe(7);
        expect([resultOf(chain, id)?.state, ...kindsOf(chain, id)]).toEqual(["failed", ...COMPLETED]);
        expect(await listing()).toBe(before);
      },
    );

    test("the supervisor of the build is killed: the run has failed, and the root is as it was", async () => {
      const { id, client, before } = await untilGate("supervisor-dies");
      kill(processes(chain).filter(({ argv }) => argv.includes("--build")));
      expect(await client.exited).toBe(7);
      expect(kindsOf(chain, id)).toEqual(COMPLETED);
      expect(await listing()).toBe(before);
    });

    test("the runner is killed: the build ends its work, and the run is closed with nobody asking", async () => {
      const { id, path, client } = await untilGate("runner-dies");
      client.kill("SIGKILL");
      kill(executorProcesses(chain, "runner"));
      // Long enough for systemd to end what it takes for a rest of the runner.
      await Bun.sleep(2000);
      openGate("runner-dies");
      await eventually(() => resultOf(chain, id)?.state === "interrupted");
      expect(kindsOf(chain, id)).toEqual(INTERRUPTED);
      expect(isInstalled("runner-dies")).toBe(true);
      expect(await refusal(path)).toBe("6 replay");
    });

    test("runner and build are killed: the run is closed with nobody asking, and the root is as it was", async () => {
      const { id, path, client, before } = await untilGate("both-die");
      client.kill("SIGKILL");
      kill(executorProcesses(chain, "runner"));
      kill(processes(chain).filter(({ argv }) => argv.includes("--build")));
      await eventually(() => resultOf(chain, id)?.state === "interrupted");
      expect(kindsOf(chain, id)).toEqual(INTERRUPTED);
      expect(await listing()).toBe(before);
      expect(await refusal(path)).toBe("6 replay");
    });

    test("the next run works", async () => {
      expect(await installed("after")).toBe("built");
      expect(isInstalled("before")).toBe(true);
      expect(readdirSync(chain.host.path("/var/lib/aegis/stage"))).toEqual([]);
    });

    test("an orderly reboot ends the build: the run has failed, and the root is as it was", async () => {
      const { id, before } = await untilGate("reboots");
      const leader = chain.host.leader();
      await chain.host.beginReboot();
      await chain.host.booted(leader);
      expect(resultOf(chain, id)?.state).toBe("failed");
      expect(kindsOf(chain, id)).toEqual(COMPLETED);
      expect(await listing()).toBe(before);
    });

    test("the power fails: the run is closed at the next boot, and the root is as it was", async () => {
      const { id, before } = await untilGate("power-fails");
      await chain.host.powerCycle();
      await eventually(() => resultOf(chain, id)?.state === "interrupted");
      expect(kindsOf(chain, id)).toEqual(INTERRUPTED);
      expect(await listing()).toBe(before);
      expect(isInstalled("after")).toBe(true);
    });
  },
  toolsRoot,
);

/** Command lines of the processes of aegis-build. */
function confined(chain: Production): string[] {
  const [, uid] = /^aegis-build:[^:]*:(\d+):/m.exec(chain.host.read("/etc/passwd")) ?? [];
  return allProcesses(chain, uid);
}

/** Command lines of processes in the container, also of those in namespaces of their own. */
function allProcesses({ host }: Production, uid = "\\d+"): string[] {
  const proc = host.path("/proc");
  return readdirSync(proc).flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const status = readFileSync(`${proc}/${pid}/status`, "utf8");
      const isOf = new RegExp(`^Uid:\\s+${uid}\\s`, "m").test(status);
      return isOf ? [readFileSync(`${proc}/${pid}/cmdline`, "utf8").replaceAll("\0", " ")] : [];
    } catch {
      return []; // It has ended meanwhile.
    }
  });
}
