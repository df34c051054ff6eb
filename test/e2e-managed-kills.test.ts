import { afterAll, afterEach, beforeAll, expect } from "bun:test";
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
import { AVAILABLE, ManagedChain } from "./managed-chain.ts";
import { Registries } from "./managed-registries.ts";
import { needs } from "./needs.ts";
import type { FakePackage } from "./npm-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * Managed runs that end badly: build scripts that attack, a full disk, and SIGKILL to each process at each step. What is installed is
 * one whole tree or the other, the log says which, and nothing goes on.
 */

const VERSIONS = Array.from({ length: 10 }, (_, n) => `1.${n}.0`);
const NPM = VERSIONS.map(
  (version): FakePackage => ({
    ...{ name: "app", version, manifest: { bin: { app: "cli.js" } } },
    files: { "cli.js": `#!/usr/bin/env node\nconsole.log("${version}")\n` },
  }),
);

/** A crate whose build script does this before its program can say hello, or what the script has put into SAID. */
const building = (name: string, script: string): FakeCrate => ({
  ...{ name, version: "1.0.0" },
  files: {
    "src/main.rs": 'fn main() { println!("hello{}", option_env!("SAID").unwrap_or("")); }\n',
    "build.rs": script,
  },
});
const shell = (command: string) =>
  `fn main() { std::process::Command::new("/bin/sh").args(["-c", ${JSON.stringify(command)}]).status().unwrap(); }\n`;

const REACHING = `use std::fs;
use std::os::unix::fs::MetadataExt;
use std::net::{TcpStream, ToSocketAddrs};
extern "C" { fn ptrace(request: std::os::raw::c_long, pid: i32, a: usize, b: usize) -> std::os::raw::c_long; }
fn main() {
    let mut reached: Vec<String> = Vec::new();
    for path in ["/etc/x", "/usr/bin/x", "/var/lib/aegis/x", "/var/lib/aegis/npm-global/x", "/var/lib/aegis/bin/x", "/run/x", "/build/x"] {
        if fs::write(path, "x").is_ok() { reached.push(path.into()); }
    }
    for path in ["/etc/aegis", "/etc/shadow", "/root", "/home", "/var/log", "/var/lib/aegis/npm-global", "/var/cache"] {
        if fs::metadata(path).is_ok() { reached.push(path.into()); }
    }
    if TcpStream::connect("PORT").is_ok() { reached.push("a server of the host".into()); }
    if "example.com:80".to_socket_addrs().is_ok() { reached.push("names".into()); }
    let own = fs::metadata("/proc/self").unwrap().uid();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(about) = entry.metadata() else { continue };
        if about.uid() == own { continue }
        if unsafe { ptrace(16, pid, 0, 0) } == 0 { reached.push(format!("process {pid}")); }
        if fs::read(format!("/proc/{pid}/environ")).is_ok() { reached.push(format!("environment {pid}")); }
    }
    println!("cargo:rustc-env=SAID={}", reached.join(","));
}
`;

const FILL = `use std::io::Write;
fn main() {
    let path = std::path::Path::new(&std::env::var("OUT_DIR").unwrap()).join("big");
    let mut file = std::fs::File::create(path).unwrap();
    let piece = vec![1u8; 1 << 20];
    loop { file.write_all(&piece).unwrap(); }
}
`;

describeOnThrowaway("managed runs that end badly", () => {
  const registries = new Registries();
  let managed: ManagedChain;
  beforeAll(async () => {
    const crates = [
      building("reaching", REACHING.replace("PORT", registries.host)),
      building("outliving", shell("setsid sleep 1000 >/dev/null 2>&1 </dev/null &")),
      building("forking", shell("perl -e 'fork while 1'")),
      building("filling", FILL),
    ];
    registries.offer({ npm: NPM, cargo: crates.map((one) => ({ crates: [one] })) });
    managed = await ManagedChain.start(registries);
    await managed.chain.startDaemon();
  }, 240_000);
  afterEach(() => managed.calm());
  afterAll(async () => {
    await managed.chain.stop();
    await registries.stop();
  });

  const sound = async () => {
    expect(await brokenInvariants(managed.chain)).toEqual([]);
    expect(managed.leftOver()).toEqual([]);
  };
  const run = async (tool: "npm" | "cargo", target: string) => {
    const { path, execution } = await managed.chain.signed(tool, "install", target);
    const applied = await managed.chain.apply(path);
    return { applied, path, id: execution.execution_plan_id };
  };
  const says = async (name: string) => {
    const { stdout } = await managed.chain.host.exec([`/var/lib/aegis/bin/${name}`], { user: "bob" });
    return stdout;
  };

  const withCargo = needs(AVAILABLE.cargo, "cargo");
  withCargo.test(
    "a build script reaches nothing: no file, no network, no process",
    async () => {
      const { applied } = await run("cargo", "reaching@1.0.0");
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect(await says("reaching")).toBe("hello\n");
      await sound();
    },
    120_000,
  );

  withCargo.test(
    "a build script that leaves a process behind: it is dead before anything is compared",
    async () => {
      const { applied } = await run("cargo", "outliving@1.0.0");
      expect(applied.status).toBe(0);
      await sound();
    },
    120_000,
  );

  withCargo.test(
    "a build script that is a fork bomb: ended, and nothing is installed",
    async () => {
      const before = managed.installed();
      const { applied, id } = await run("cargo", "forking@1.0.0");
      expect(applied.status).toBe(7);
      const ended = managed.ended(id);
      expect(ended).toMatchObject({ kind: "execution_completed", state: "failed", code: "execution_failed" });
      expect(ended.message).toMatch(/^cargo was ended: it had \d+ processes and threads at once$/);
      expect(managed.installed()).toEqual(before);
      await sound();
    },
    120_000,
  );

  const withNpm = needs(AVAILABLE.npm, "npm");
  /** Submits a version and waits until npm is held in its sandbox; `go` lets it on. */
  const untilBuilding = async (version: string) => {
    const { path, execution } = await managed.chain.signed("npm", "install", `app@${version}`);
    managed.hook(
      "before",
      "for n in $(seq 1200); do [ -e /usr/share/aegis-test/go ] && break; sleep 0.05; done",
    );
    const before = managed.installed();
    const client = await submit(managed.chain, path);
    await eventually(() => managed.isBuilding());
    return { client, path, before, id: execution.execution_plan_id, go: () => managed.hook("go", "") };
  };
  const runner = () => executorProcesses(managed.chain, "runner");
  const supervisor = () => processes(managed.chain).filter(({ argv }) => argv.includes("--build"));

  withNpm.test(
    "SIGKILL to the runner during the build: the build ends well, closed as interrupted",
    async () => {
      const { client, path, id, go } = await untilBuilding("1.1.0");
      kill(runner().filter(({ argv }) => argv.includes("--runner")));
      go();
      expect(await client.exited).toBe(7);
      expect(client.stdout()).toContain("interrupted; every package is as planned");
      expect(await says("app")).toBe("1.1.0\n");
      expect(kindsOf(managed.chain, id)).toEqual(["execution_started", "execution_interrupted"]);
      expect((await managed.chain.apply(path)).status).toBe(6);
      await sound();
    },
    120_000,
  );

  withNpm.test(
    "SIGKILL to the runner, and the build is refused: the reason is kept",
    async () => {
      const { client, id, go, before } = await untilBuilding("1.2.0");
      kill(runner().filter(({ argv }) => argv.includes("--runner")));
      managed.hook("after", "touch /var/lib/aegis/npm-global/lib/evil");
      go();
      expect(await client.exited).toBe(7);
      expect(resultOf(managed.chain, id)?.message).toMatch(
        /interrupted; what was installed isn't what was signed: lib\/evil.*; 1 of 1 packages are not as planned/,
      );
      expect(managed.installed()).toEqual(before);
      await sound();
    },
    120_000,
  );

  withNpm.test(
    "SIGKILL to the supervisor during the build: nothing goes on, nothing is changed",
    async () => {
      const { client, id, before, go } = await untilBuilding("1.3.0");
      kill(supervisor());
      expect(await client.exited).toBe(7);
      expect(managed.ended(id)).toMatchObject({
        ...{ kind: "execution_completed", state: "failed" },
        message:
          "Aegis's own process, which supervises npm, ended with a signal; /var/lib/aegis/npm-global was not exchanged and is as it was",
      });
      expect(managed.installed()).toEqual(before);
      // The stage of a supervisor that was killed is the next run's to remove.
      expect(managed.leftOver().filter((one) => !one.startsWith("/var/lib/aegis/stage/"))).toEqual([]);
      go();
      expect((await run("npm", "app@1.3.0")).applied.status).toBe(0);
      await sound();
    },
    120_000,
  );

  withNpm.test(
    "SIGKILL to both: closed by the next call, nothing is changed",
    async () => {
      const { client, id, before } = await untilBuilding("1.4.0");
      kill([...runner(), ...supervisor()]);
      await client.exited;
      await managed.chain.aegis(["daemon", "status"]);
      expect(kindsOf(managed.chain, id)).toEqual(["execution_started", "execution_interrupted"]);
      expect(resultOf(managed.chain, id)?.message).toContain("1 of 1 packages are not as planned");
      expect(managed.installed()).toEqual(before);
      await sound();
    },
    120_000,
  );

  withNpm.test(
    "SIGKILL to the runner while it fetches: nothing goes on, and the plan is not used up",
    async () => {
      const { path, execution } = await managed.chain.signed("npm", "install", "app@1.5.0");
      let isAsked = false;
      registries.turn(
        "/npm/app/-/app-1.5.0.tgz",
        () => {
          isAsked = true;
          return new Response(new ReadableStream({}));
        },
        1,
      );
      const before = managed.installed();
      const client = await submit(managed.chain, path);
      await eventually(() => isAsked);
      kill(runner());
      expect(await client.exited).not.toBe(0);
      await eventually(() => managed.leftOver().every((one) => one.startsWith("/var/cache/aegis/archives/")));
      expect([kindsOf(managed.chain, execution.execution_plan_id), managed.installed()]).toEqual([
        [],
        before,
      ]);
      registries.calm();
      expect((await managed.chain.apply(path)).status).toBe(0);
      await sound();
    },
    120_000,
  );

  // Spread over the copying, building, comparing and exchanging, which take about half a second.
  withNpm.test.each([6, 7, 8, 9].map((n) => [`1.${n}.0`, (n - 6) * 130] as const))(
    "SIGKILL to all at once, at any moment of the run: %s",
    async (version, delay) => {
      const { path, execution } = await managed.chain.signed("npm", "install", `app@${version}`);
      const id = execution.execution_plan_id;
      const before = await says("app");
      const client = await submit(managed.chain, path);
      await eventually(() => supervisor().length > 0, 1);
      await Bun.sleep(delay);
      kill([...runner(), ...supervisor()]);
      await client.exited;
      await managed.chain.aegis(["daemon", "status"]);
      const state = resultOf(managed.chain, id)?.state;
      const now = await says("app");
      expect([before, `${version}\n`]).toContain(now);
      const isDone = now === `${version}\n`;
      expect(resultOf(managed.chain, id)?.not_as_planned).toHaveLength(isDone ? 0 : 1);
      expect(state).toMatch(/^(?:interrupted|completed)$/);
      if (state === "completed") expect(isDone).toBe(true);
      await sound();
    },
    120_000,
  );

  // Last: the disk of its own takes what is known of its runs along.
  withCargo.test(
    "a build script that fills the disk: the reason is told, and the next run has room",
    async () => {
      const { host } = managed.chain;
      await host.exec(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", "/var/lib/aegis"]);
      const { applied, id } = await run("cargo", "filling@1.0.0");
      expect(applied.status).toBe(7);
      const ended = managed.ended(id);
      expect(ended).toMatchObject({ kind: "execution_completed", state: "failed", code: "execution_failed" });
      expect(ended.message).toBe("cargo ended with status 101, and the disk of /var/lib/aegis is full");
      expect(managed.installed()).toEqual({});
      expect(managed.leftOver()).toEqual([]);
      expect((await run("npm", "app@1.0.0")).applied.status).toBe(0);
      await host.exec(["umount", "/var/lib/aegis"]);
    },
    120_000,
  );
});
