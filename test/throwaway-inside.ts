import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";

export interface CommandOptions {
  /** Added to the minimal environment of a login. */
  env?: Readonly<Record<string, string>>;
  /** `root` (default), `alice` (in aegis-admin) or `bob`. */
  user?: "root" | "alice" | "bob";
  /** Working directory; default is the user's home. */
  cwd?: string;
}

export interface ExecOptions extends CommandOptions {
  stdin?: string;
  /** Default 60 000; at the limit the command's process group is killed and the call rejects. */
  timeoutMs?: number;
}

export interface ExecResult {
  /** 128 + n when killed by signal n, as a shell has it. */
  status: number;
  stdout: string;
  stderr: string;
}

/** A process started with `spawn`. */
export interface Running {
  /** Its id on this machine; NaN when it ended at once. */
  readonly pid: number;
  /** Its id inside the host. */
  readonly insidePid: number;
  /** Exit status, 128 + n when killed by signal n. */
  readonly exited: Promise<number>;
  /** Output so far. */
  stdout(): string;
  stderr(): string;
  /** Signals this one process; default SIGTERM. */
  kill(signal?: NodeJS.Signals): void;
}

/** The environment that everything inside starts from. */
export const ROOT_ENV = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
};
/** The namespaces of a host, as options of unshare(1) and nsenter(1). */
export const NAMESPACES = ["--mount", "--uts", "--ipc", "--pid"];

/*
 * The process that forks into the PID namespace. nsenter's own fork stops when its child is stopped and never wakes up,
 * and unshare's reports a SIGKILL as status 1. The shell's message about a killed child is discarded.
 */
const FORK = 'exec 3>&2 2>/dev/null; (exec "$@" 2>&3 3>&-); exit $?';

/** The inside of a running host, seen from its first process. */
export class Inside {
  readonly #pid: number;
  #spawned = 0;

  constructor(pid: number) {
    this.#pid = pid;
  }

  path(inside: string): string {
    const root = `/proc/${this.#pid}/root`;
    let path = root;
    for (const part of inside.split("/").filter((p) => p !== "")) {
      path = `${path}/${part}`;
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat?.isSymbolicLink() && readlinkSync(path).startsWith("/")) {
        throw new Error(`${path.slice(root.length)} is an absolute symbolic link: use the path it leads to`);
      }
    }
    return path;
  }

  write(path: string, data: string | Uint8Array, mode = 0o644): void {
    const outside = this.path(path);
    mkdirSync(dirname(outside), { recursive: true });
    writeFileSync(outside, data);
    chmodSync(outside, mode); // Regardless of the umask, and for an existing file.
  }

  exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { timeoutMs = 60_000 } = options;
    const child = this.#enter(argv, options, { stdio: ["pipe", "pipe", "pipe"], detached: true });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    // A command that reads nothing may exit before its input is written.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.stdin ?? "");
    return new Promise((resolve, reject) => {
      const text = () => ({
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      });
      const timer = setTimeout(() => {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
        reject(
          new Error(
            `${argv.join(" ")}: still running after ${timeoutMs} ms\n${text().stdout}${text().stderr}`,
          ),
        );
      }, timeoutMs);
      child.once("error", reject);
      child.once("close", (status, signal) => {
        clearTimeout(timer);
        resolve({ status: statusOf(status, signal), ...text() });
      });
    });
  }

  async spawn(argv: readonly string[], options: CommandOptions = {}): Promise<Running> {
    this.#spawned += 1;
    const files = ["out", "err"].map((name) => this.path(`/run/throwaway/${this.#spawned}.${name}`));
    const fds = files.map((file) => openSync(file, "a"));
    const child = this.#enter(argv, options, { stdio: ["ignore", ...fds], detached: true });
    for (const fd of fds) closeSync(fd);
    const exited = exitOf(child);
    const pid = await untilChild(child);
    const [out = "", err = ""] = files;
    if (child.exitCode === 126 || child.exitCode === 127)
      throw new Error(`${argv.join(" ")} can't be run: ${readFileSync(err, "utf8")}`);
    return {
      pid,
      insidePid: insidePidOf(pid),
      exited,
      stdout: () => readFileSync(out, "utf8"),
      stderr: () => readFileSync(err, "utf8"),
      kill: (signal = "SIGTERM") => void process.kill(pid, signal),
    };
  }

  interact(argv: readonly string[], options: CommandOptions = {}): Promise<number> {
    return exitOf(this.#enter(argv, options, { stdio: "inherit" }));
  }

  #enter(argv: readonly string[], options: CommandOptions, how: SpawnOptions): ChildProcess {
    const { user = "root", cwd, env } = options;
    const home = user === "root" ? "/root" : `/home/${user}`;
    const become = user === "root" ? [] : ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--init-groups"];
    const enter = ["--target", `${this.#pid}`, ...NAMESPACES, "--no-fork", "sh", "-c", FORK, "sh"];
    const args = [...enter, ...become, "env", `--chdir=${cwd ?? home}`, ...argv];
    const login = { ...ROOT_ENV, HOME: home, USER: user, LOGNAME: user, SHELL: "/bin/bash" };
    return spawn("/usr/bin/nsenter", args, { ...how, env: { ...login, ...env } });
  }
}

/** Exit status of a process, 128 + n when killed by signal n. */
export function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (status, signal) => resolve(statusOf(status, signal)));
  });
}

function statusOf(status: number | null, signal: NodeJS.Signals | null): number {
  return status ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

/** The one child of a process: unshare and the shell that enters fork once, and the child is the program itself. */
export function childOf(parent: number | undefined): number | null {
  const children = readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent;
    } catch {
      return false; // It has ended meanwhile.
    }
  });
  return children[0] === undefined ? null : Number(children[0]);
}

/** A process's pid in its own namespace; NaN if it has ended. */
function insidePidOf(pid: number): number {
  try {
    return Number(/^NSpid:.*\s(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  } catch {
    return Number.NaN;
  }
}

/** The child's pid, or NaN (which no signal reaches) where the program ended first. */
async function untilChild(child: ChildProcess): Promise<number> {
  while (child.exitCode === null && child.signalCode === null) {
    const pid = childOf(child.pid);
    if (pid !== null) return pid;
    await Bun.sleep(2);
  }
  return Number.NaN;
}
