import { spawn } from "node:child_process";
import { lstatSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";

/** Where programs are looked for, in order; nothing outside is ever run. */
export const SYSTEM_PATH = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
] as const;

/** What the executable is called wherever it is installed. */
const OWN_NAME = "aegis";

export interface RunOptions {
  /** The whole environment of the child; nothing is inherited. */
  env: Record<string, string>;
  /** Working directory, absolute. */
  cwd: string;
  timeoutMs: number;
  /** Cap on standard output and on standard error, each, in bytes. */
  maxBytes: number;
}

export interface RunResult {
  /** Exit status; null when killed by a signal. */
  status: number | null;
  /** `timeout` and `truncated` mean that we killed it. */
  outcome: "exited" | "timeout" | "truncated";
  stdout: Buffer;
  stderr: Buffer;
}

/**
 * The absolute path of a program in root-owned system directories, or null where there is none. Aegis itself is passed
 * over, by its file and by its file's name, so that a wrapper named `apt-get` is never taken for apt-get, not even while
 * an upgrade puts another file in the place of the one that is running.
 */
export function resolveProgram(name: string, path: readonly string[] = SYSTEM_PATH): string | null {
  if (!/^[A-Za-z0-9][A-Za-z0-9._+-]*$/.test(name)) return null;
  const self = fileId(process.execPath);
  for (const directory of path) {
    const candidate = join(directory, name);
    const id = fileId(candidate);
    if (id === null || id === self) continue;
    if (name !== OWN_NAME && basename(realpathSync(candidate)) === OWN_NAME) continue;
    if (isRootOwned(candidate)) return candidate;
  }
  return null;
}

function fileId(path: string): string | null {
  try {
    const stat = statSync(path);
    return stat.isFile() && (stat.mode & 0o111) !== 0 ? `${stat.dev}:${stat.ino}` : null;
  } catch {
    return null;
  }
}

/** The file that a name finally leads to, and the directory it is in, belong to root and only root writes there. */
function isRootOwned(path: string): boolean {
  const target = realpathSync(path);
  return [dirname(path), target, dirname(target)].every((p) => {
    const stat = lstatSync(p);
    return stat.uid === 0 && (stat.mode & 0o002) === 0 && (stat.gid === 0 || (stat.mode & 0o020) === 0);
  });
}

/**
 * Runs an absolute program without a shell and with standard input closed, output kept apart and capped. At the time
 * limit or the cap its whole process group is killed.
 * @throws AegisError `unavailable` when it can't be started
 */
export function run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: options.env,
      cwd: options.cwd,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let outcome: RunResult["outcome"] = "exited";
    const stop = (why: "timeout" | "truncated") => {
      if (outcome === "exited") outcome = why;
      killGroup(child.pid);
      // A descendant that left the group may hold the pipes open; without us at the other end it can't keep us waiting.
      child.stdout.destroy();
      child.stderr.destroy();
    };
    const timer = setTimeout(() => stop("timeout"), options.timeoutMs);
    const collect = (stream: NodeJS.ReadableStream) => {
      const chunks: Buffer[] = [];
      let total = 0;
      stream.on("data", (chunk: Buffer) => {
        const room = options.maxBytes - total;
        if (room > 0) chunks.push(chunk.subarray(0, room));
        total += chunk.length;
        if (total > options.maxBytes) stop("truncated");
      });
      return () => Buffer.concat(chunks);
    };
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    child.on("error", (error) => {
      clearTimeout(timer);
      const code = errnoOf(error) === "ENOENT" || errnoOf(error) === "EACCES" ? "unavailable" : "internal";
      reject(new AegisError(code, `can't run ${program}: ${messageOf(error)}`));
    });
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status, outcome, stdout: stdout(), stderr: stderr() });
    });
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
}
