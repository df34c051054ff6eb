import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { archiveKeys, archiveSource, type Suite, suiteRoot, tool, toolEnvironment } from "./systemd-root.ts";
import type { ThrowawayHost } from "./throwaway.ts";
import { exitOf, Inside, ROOT_ENV } from "./throwaway-inside.ts";
import { startRepository } from "./throwaway-repo.ts";

/*
 * Debian or Ubuntu with a real systemd as PID 1 in systemd-nspawn, used like a throw-away host. It shares the machine's
 * network and clock and nothing else, and ends with this process. Needs root.
 */

export interface SystemdHost extends ThrowawayHost {
  readonly suite: Suite;
  /** Adds the distribution's own archive; with `updates`, also its updates. */
  addDebian(how?: { updates: boolean }): void;
  /** `systemctl …` inside; throws with its output when it fails. */
  systemctl(...args: readonly string[]): Promise<string>;
  /** The pid, on the machine, of the container's PID 1; it changes with each boot. */
  leader(): number;
  /** An orderly reboot: returns at once. */
  beginReboot(): Promise<void>;
  /** Simulates a power failure: every process dies at once, and the container boots again. */
  powerCycle(): Promise<void>;
  /** Waits until the container has booted (again) after the boot whose leader is given. */
  booted(before: number): Promise<void>;
}

const DEBIAN = "/etc/apt/sources.list.d/debian.sources";

/** Gives the root of a suite, and makes it where there is none yet. */
export type RootOf = (suite: Suite) => string;

/** Why no container of this suite can be started here, or null. Makes its root when there is none yet. */
export function systemdUnavailable(suite: Suite, rootOf: RootOf = suiteRoot): string | null {
  if (process.platform !== "linux") return "it needs Linux";
  if (process.getuid?.() !== 0) return "it needs root";
  const missing = ["apt-get", "dpkg-deb", "gpg", "unshare", "nsenter", "setpriv"].filter(
    (name) => Bun.which(name, { PATH: ROOT_ENV.PATH }) === null,
  );
  if (missing.length > 0) return `${missing.join(", ")} not installed`;
  const script =
    "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w overlay /mnt/r && mount -t cgroup2 none /sys/fs/cgroup";
  const trial = spawnSync("/usr/bin/unshare", ["--mount", "--pid", "--fork", "sh", "-c", script], {
    env: ROOT_ENV,
    encoding: "utf8",
  });
  if (trial.status !== 0) return `no overlay or no unified cgroups: ${trial.stderr.trim()}`;
  try {
    rootOf(suite);
  } catch (error) {
    return `no Debian ${suite} can be made here: ${error instanceof Error ? error.message : error}`;
  }
  return null;
}

/** The controllers that containers have; a machine with cgroups of version 1 keeps some for itself (cgroups(7)). */
export function cgroupControllers(): string[] {
  const script = "mount -t cgroup2 none /sys/fs/cgroup && cat /sys/fs/cgroup/cgroup.controllers";
  const { stdout } = spawnSync("/usr/bin/unshare", ["--mount", "sh", "-c", script], {
    env: ROOT_ENV,
    encoding: "utf8",
  });
  return (stdout ?? "").split(/\s+/);
}

/** Boots a container with users alice and bob, and an empty new repository as the only source of packages. */
export async function startSystemd(
  suite: Suite,
  binary: string,
  rootOf: RootOf = suiteRoot,
): Promise<SystemdHost> {
  const repo = await startRepository();
  const name = `aegis-test-${suite}-${crypto.randomUUID().slice(0, 8)}`;
  const box = spawn(
    "/usr/bin/unshare",
    [
      ...["--mount", "--propagation", "private", "bash", join(import.meta.dir, "systemd-init")],
      ...[rootOf(suite), name, tool("systemd-nspawn") ?? "systemd-nspawn"],
    ],
    { env: toolEnvironment(), cwd: "/", detached: true, stdio: ["pipe", "ignore", "pipe"] },
  );
  const ended = exitOf(box);
  let console = "";
  box.stderr?.on("data", (chunk: Buffer) => {
    console = (console + chunk.toString()).slice(-20_000);
  });

  let pid = 0;
  let inside = new Inside(0);
  const booted = async (before: number) => {
    for (let n = 0; ; n++) {
      if (box.exitCode !== null || n > 600) throw new Error(`the container did not boot:\n${console}`);
      const now = leaderOf(box);
      if (now !== null && now !== before) {
        [pid, inside] = [now, new Inside(now)];
        const { stdout } = await inside
          .exec(["systemctl", "is-system-running"])
          .catch(() => ({ stdout: "not yet" }));
        if (/^(?:running|degraded)$/m.test(stdout)) break;
      }
      await Bun.sleep(100);
    }
    mkdirSync(inside.path("/run/throwaway"), { recursive: true });
  };
  await booted(0);

  const host: SystemdHost = {
    suite,
    repo,
    exec: (argv, options) => inside.exec(argv, options),
    spawn: (argv, options) => inside.spawn(argv, options),
    interact: (argv, options) => inside.interact(argv, options),
    path: (path) => inside.path(path),
    write: (path, data, mode) => inside.write(path, data, mode),
    read: (path) => readFileSync(inside.path(path), "utf8"),
    async aptUpdate() {
      await must("apt-get", "update", "-o", "APT::Update::Error-Mode=any");
    },
    async aptInstall(...targets) {
      await must("apt-get", "install", "-y", "--allow-downgrades", ...targets);
    },
    addDebian({ updates } = { updates: false }) {
      inside.write(DEBIAN, archiveSource(suite, { updates }));
    },
    addSource(id, source) {
      const keyring = `/usr/share/keyrings/${id}.gpg`;
      inside.write(keyring, source.key.public);
      const stanza = `Types: deb\nURIs: ${source.url}\nSuites: ${source.suite}\nComponents: main\nSigned-By: ${keyring}\n`;
      inside.write(`/etc/apt/sources.list.d/${id}.sources`, stanza);
      return source.url;
    },
    systemctl: (...args) => must("systemctl", ...args),
    leader: () => pid,
    async beginReboot() {
      await must("systemctl", "--no-block", "reboot");
    },
    async powerCycle() {
      const before = pid;
      // PID 1 asks the kernel directly: nothing is stopped or synced first.
      await inside.exec(["systemctl", "--force", "--force", "reboot"]).catch(() => {});
      await booted(before);
    },
    booted,
    async stop() {
      box.stdin?.end();
      await ended;
      await repo.stop();
    },
  };
  async function must(...argv: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await inside.exec(argv, {
      env: { DEBIAN_FRONTEND: "noninteractive" },
      timeoutMs: 180_000,
    });
    if (status !== 0) throw new Error(`${argv.join(" ")} failed (${status}):\n${stdout}${stderr}`);
    return stdout;
  }

  host.addSource("throwaway", repo);
  // The container takes the repository for the distribution's own.
  const keyring = `/usr/share/keyrings/${archiveKeys(suite)}`;
  inside.write(keyring, Buffer.concat([readFileSync(inside.path(keyring)), repo.key.public]));
  inside.write("/root/aegis", readFileSync(binary), 0o755);
  for (const user of ["alice", "bob"]) await must("useradd", "--create-home", "--shell", "/bin/bash", user);
  return host;
}

/** The container's PID 1: the child of systemd-nspawn that is the first process of its own namespace. */
function leaderOf(box: ChildProcess): number | null {
  const found = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      try {
        return readFileSync(`/proc/${name}/status`, "utf8");
      } catch {
        return ""; // It has exited meanwhile.
      }
    })
    .map((text) => ({
      pid: Number(/^Pid:\s*(\d+)$/m.exec(text)?.[1]),
      parent: Number(/^PPid:\s*(\d+)$/m.exec(text)?.[1]),
      name: /^Name:\s*(.*)$/m.exec(text)?.[1],
      first: /^NSpid:.*\s1$/m.test(text),
    }));
  const parents = new Map(found.map(({ pid, parent }) => [pid, parent]));
  const names = new Map(found.map(({ pid, name }) => [pid, name]));
  const ours = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parents.get(at)) {
      if (at === box.pid) return true;
    }
    return false;
  };
  return (
    found.find(({ pid, parent, first }) => first && names.get(parent) === "systemd-nspawn" && ours(pid))
      ?.pid ?? null
  );
}
