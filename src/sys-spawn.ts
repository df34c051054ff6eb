import { spawn } from "node:child_process";
import { lstatSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { descendantsOf } from "./sys-process.ts";

/** Search path for programs, in order; nothing outside is ever run. */
export const SYSTEM_PATH = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
] as const;

/** A HOME below which not even root can create a file. `go` and `cargo` create a HOME that doesn't exist. */
export const NO_HOME = "/dev/null";

/** The executable's file name, wherever it is installed. */
const OWN_NAME = "aegis";

export interface RunOptions {
  /** The child's complete environment; nothing is inherited. */
  env: Record<string, string>;
  /** Working directory, absolute. */
  cwd: string;
  timeoutMs: number;
  /** Limit in bytes, for standard output and standard error each. */
  maxBytes: number;
  /** Kills the child when aborted, as the time limit does. */
  signal?: AbortSignal;
  /** Also kills what the child has started in groups of its own, as this program does itself. */
  killsAll?: boolean;
}

export interface RunResult {
  /** Exit status; null if killed by a signal. */
  status: number | null;
  /** We killed it in the cases `timeout` and `truncated`. */
  outcome: "exited" | "timeout" | "truncated";
  stdout: Buffer;
  stderr: Buffer;
}

/**
 * The absolute path of a program in root-owned system directories, or null. Aegis itself is skipped, by inode and by
 * file name, so that a wrapper named `apt-get` is never mistaken for apt-get, even while an upgrade replaces the
 * running file.
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

/** Whether the resolved file and both directories belong to root and only root can write them. */
function isRootOwned(path: string): boolean {
  const target = realpathSync(path);
  return [dirname(path), target, dirname(target)].every((p) => {
    const stat = lstatSync(p);
    return stat.uid === 0 && (stat.mode & 0o002) === 0 && (stat.gid === 0 || (stat.mode & 0o020) === 0);
  });
}

/**
 * Runs a program by absolute path, without a shell and with no standard input; output is captured separately and
 * capped. Its process group is killed at the time or output limit.
 * @throws AegisError `unavailable` if it can't be started
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
      if (options.killsAll === true) killAll(child.pid);
      else killGroup(child.pid);
      // A descendant outside the group may hold the pipes open; destroying our ends keeps it from blocking us.
      child.stdout.destroy();
      child.stderr.destroy();
    };
    const timer = setTimeout(() => stop("timeout"), options.timeoutMs);
    const onAbort = () => stop("timeout");
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    const release = () => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
    };
    const collect = (stream: NodeJS.ReadableStream) => {
      // apt writes line by line, and 30,000 small buffers take more time and memory to keep, and above all to cut, than to copy.
      let kept = Buffer.allocUnsafe(16 * 1024);
      let total = 0;
      stream.on("data", (chunk: Buffer) => {
        const end = Math.min(total + chunk.length, options.maxBytes);
        if (end > kept.length) {
          const larger = Buffer.allocUnsafe(Math.max(end, 2 * kept.length));
          kept.copy(larger, 0, 0, total);
          kept = larger;
        }
        chunk.copy(kept, total, 0, end - total);
        if (total + chunk.length > options.maxBytes) stop("truncated");
        total = end;
      });
      return () => kept.subarray(0, total);
    };
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    child.on("error", (error) => {
      release();
      const code = errnoOf(error) === "ENOENT" || errnoOf(error) === "EACCES" ? "unavailable" : "internal";
      reject(new AegisError(code, `can't run ${program}: ${messageOf(error)}`));
    });
    child.on("close", (status) => {
      release();
      resolve({ status, outcome, stdout: stdout(), stderr: stderr() });
    });
  });
}

/** Limit on one line of standard error, in bytes, and on all of it. */
const MAX_ERROR_LINE = 4096;
const MAX_ERRORS = 256 * 1024;

/**
 * Runs a program by absolute path that may ask the user on the terminal, as ssh does: in our session, with `input` as its standard
 * input. Standard output is captured and capped, standard error is handed over line by line, untrusted as it is.
 * @throws AegisError `unavailable` if it can't be started
 */
export function runFed(
  program: string,
  args: readonly string[],
  given: Omit<RunOptions, "cwd"> & { input: string; onErrorLine(line: string): void },
): Promise<Pick<RunResult, "status" | "outcome" | "stdout">> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: given.env, cwd: "/", stdio: ["pipe", "pipe", "pipe"] });
    let outcome: RunResult["outcome"] = "exited";
    const stop = (why: "timeout" | "truncated") => {
      if (outcome === "exited") outcome = why;
      child.kill("SIGKILL");
      child.stdout.destroy();
      child.stderr.destroy();
    };
    const timer = setTimeout(() => stop("timeout"), given.timeoutMs);
    const chunks: Buffer[] = [];
    let total = 0;
    child.stdout.on("data", (chunk: Buffer) => {
      total += chunk.length;
      if (total > given.maxBytes) stop("truncated");
      else chunks.push(chunk);
    });
    let rest = "";
    let errors = 0;
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.length;
      if (errors > MAX_ERRORS) return;
      const lines = (rest + chunk.toString("utf8")).split(/\r?\n/);
      rest = (lines.pop() ?? "").slice(0, MAX_ERROR_LINE);
      for (const line of lines) if (line !== "") given.onErrorLine(line.slice(0, MAX_ERROR_LINE));
    });
    // A program that ends without reading its input is no fault of ours; its status says what happened.
    child.stdin.on("error", () => {});
    child.stdin.end(given.input);
    child.on("error", (error) => {
      clearTimeout(timer);
      const code = errnoOf(error) === "ENOENT" || errnoOf(error) === "EACCES" ? "unavailable" : "internal";
      reject(new AegisError(code, `can't run ${program}: ${messageOf(error)}`));
    });
    child.on("close", (status) => {
      clearTimeout(timer);
      if (rest !== "") given.onErrorLine(rest);
      resolve({ status, outcome, stdout: Buffer.concat(chunks) });
    });
  });
}

function killAll(pid: number | undefined): void {
  if (pid === undefined) return;
  killGroup(pid, "SIGSTOP");
  for (const one of descendantsOf(pid)) killGroup(one);
  killGroup(pid);
}

/** Signals a process group, if it still is there; undefined is of a child that never started. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals = "SIGKILL"): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // Already ended.
  }
}
