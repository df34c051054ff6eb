import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import {
  type CommandOptions,
  childOf,
  type ExecOptions,
  type ExecResult,
  exitOf,
  Inside,
  NAMESPACES,
  ROOT_ENV,
  type Running,
} from "./throwaway-inside.ts";
import { FOREIGN } from "./throwaway-packages.ts";
import { type Repository, startRepository } from "./throwaway-repo.ts";

export type { CommandOptions, ExecOptions, ExecResult, Running };

/*
 * A throw-away host: a copy of this whole machine in new namespaces, where the real apt-get and dpkg work at the real paths.
 * The machine itself is not changed, and the host ends with the process that started it. It shares the machine's network
 * namespace. Needs root.
 */

export interface ThrowawayHost {
  /** The repository that the host's apt uses. */
  readonly repo: Repository;
  /** Runs a command to its end. Does not throw for a non-zero status. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a process in the background. */
  spawn(argv: readonly string[], options?: CommandOptions): Promise<Running>;
  /** Runs a command on this process's own terminal or pipes; returns its exit status. */
  interact(argv: readonly string[], options?: CommandOptions): Promise<number>;
  /** `apt-get update`; throws with apt's output when any source fails. */
  aptUpdate(): Promise<void>;
  /** `apt-get install -y`, of `name` or `name=version`, to set a test up; throws with apt's output. */
  aptInstall(...targets: readonly string[]): Promise<void>;
  /**
   * Configures one more source in `/etc/apt/sources.list.d/<name>.sources`. With `transport: "file"` the repository's
   * present files are written to `/srv/<name>` inside. Returns the source's URI.
   */
  addSource(name: string, repo: Repository, options?: { transport?: "http" | "file" }): string;
  /**
   * The path by which a file inside is reached from outside, for reading, writing and connecting. Throws where a
   * component is an absolute symbolic link, since that would lead to the machine's own file.
   */
  path(inside: string): string;
  /** Writes a file inside, with its directories; root's, mode 0644 unless given. */
  write(path: string, data: string | Uint8Array, mode?: number): void;
  read(path: string): string;
  /** Kills every process inside and removes the host. */
  stop(): Promise<void>;
}

export interface HostOptions {
  /** Default: a new, empty one that is stopped with the host. */
  repo?: Repository;
  /** Whether the repository's key is the distribution's own, as far as the host knows. Default true. */
  distribution?: boolean;
  /** The executable to install as /usr/local/bin/aegis; default none. */
  binary?: string;
  /** `dpkg --add-architecture` for `FOREIGN`. Default false. */
  foreignArchitecture?: boolean;
}

let unavailable: string | null | undefined;

/** Why there can be no throw-away host here, or null where there can. */
export function throwawayUnavailable(): string | null {
  unavailable ??= findObstacle();
  return unavailable;
}

function findObstacle(): string | null {
  if (process.platform !== "linux") return "it needs Linux";
  if (process.getuid?.() !== 0) return "it needs root (mount namespaces and an overlay of /)";
  const missing = ["apt-get", "dpkg-deb", "gpg", "unshare", "nsenter", "setpriv", "mount"].filter(
    (program) => Bun.which(program, { PATH: ROOT_ENV.PATH }) === null,
  );
  if (missing.length > 0) return `${missing.join(", ")} not installed`;
  // In an overlay of /, other file systems are empty directories.
  const elsewhere = ["/etc", "/usr", "/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt"].filter(
    (path) => statSync(path).dev !== statSync("/").dev,
  );
  if (elsewhere.length > 0) return `${elsewhere.join(", ")} not on the file system of /`;
  const script =
    "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w overlay /mnt/r";
  const trial = spawnSync("/usr/bin/unshare", [...NAMESPACES, "--fork", "sh", "-c", script], {
    env: ROOT_ENV,
    encoding: "utf8",
  });
  return trial.status === 0 ? null : `an overlay of / is not possible here: ${trial.stderr.trim()}`;
}

/** Starts a host. It ends with `stop()`, and at the latest with this process. */
export async function startHost(options: HostOptions = {}): Promise<ThrowawayHost> {
  const repo = options.repo ?? (await startRepository());
  const { init, pid, ended } = await startInit(options.binary);
  const inside = new Inside(pid);

  const addSource: ThrowawayHost["addSource"] = (name, source, { transport = "http" } = {}) => {
    const keyring = `/usr/share/keyrings/${name}.gpg`;
    const uri = transport === "http" ? source.url : `file:/srv/${name}`;
    if (transport === "file") {
      for (const [path, bytes] of source.files()) inside.write(`/srv/${name}/${path}`, bytes);
    }
    inside.write(keyring, source.key.public);
    const stanza = [
      `Types: deb`,
      `URIs: ${uri}`,
      `Suites: ${source.suite}`,
      `Components: main`,
      `Signed-By: ${keyring}`,
    ];
    inside.write(`/etc/apt/sources.list.d/${name}.sources`, `${stanza.join("\n")}\n`);
    return uri;
  };
  const apt = async (...args: readonly string[]) => {
    const { status, stdout, stderr } = await inside.exec(["apt-get", ...args], {
      env: { DEBIAN_FRONTEND: "noninteractive" },
    });
    if (status !== 0) throw new Error(`apt-get ${args.join(" ")} failed (${status}):\n${stdout}${stderr}`);
  };

  addSource("throwaway", repo);
  if (options.distribution !== false) {
    for (const path of archiveKeyrings()) inside.write(path, repo.key.public);
  }
  if (options.foreignArchitecture) await inside.exec(["dpkg", "--add-architecture", FOREIGN]);

  return {
    repo,
    exec: (argv, how) => inside.exec(argv, how),
    spawn: (argv, how) => inside.spawn(argv, how),
    interact: (argv, how) => inside.interact(argv, how),
    // Without Error-Mode=any apt-get exits 0 when a source can't be reached.
    aptUpdate: () => apt("update", "-o", "APT::Update::Error-Mode=any"),
    aptInstall: (...targets) => apt("install", "-y", "--allow-downgrades", ...targets),
    addSource,
    path: (path) => inside.path(path),
    write: (path, data, mode) => inside.write(path, data, mode),
    read: (path) => readFileSync(inside.path(path), "utf8"),
    async stop() {
      init.stdin?.end();
      await ended;
      if (options.repo === undefined) await repo.stop();
    },
  };
}

/** Where this machine's distribution keeps the keys of its own archive. */
function archiveKeyrings(): string[] {
  const known = ["debian-archive-keyring.gpg", "debian-archive-keyring.pgp", "ubuntu-archive-keyring.gpg"];
  return known.map((name) => `/usr/share/keyrings/${name}`).filter(existsSync);
}

/** The first process: as its parent `unshare` sees it, and its id; `ended` resolves when the host is gone. */
async function startInit(
  binary: string | undefined,
): Promise<{ init: ChildProcess; pid: number; ended: Promise<unknown> }> {
  const script = join(import.meta.dir, "throwaway-init");
  const args = [...NAMESPACES, "--fork", "--kill-child", "--propagation", "private", "bash", script];
  if (binary !== undefined) args.push(binary);
  const init = spawn("/usr/bin/unshare", args, {
    env: ROOT_ENV,
    cwd: "/",
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  const ended = exitOf(init);
  let stderr = "";
  init.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  await new Promise<void>((resolve, reject) => {
    init.stdout?.once("data", () => resolve());
    ended.then(() => reject(new Error(`the throw-away host did not start: ${stderr}`)), reject);
  });
  const pid = childOf(init.pid);
  if (pid === null) throw new Error("the throw-away host has no first process");
  return { init, pid, ended };
}
