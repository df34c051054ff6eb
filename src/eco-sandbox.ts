import { spawn } from "node:child_process";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import type { Account } from "./sys-account.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * A program of another user, confined: in mount, PID, IPC and UTS namespaces of its own, in a root directory that holds the
 * host's programs read-only and nothing else of it, and, unless it is to fetch, without a network. Its first process is Aegis
 * (eco-sandbox-init.ts), which is root's; when that ends, the kernel kills everything inside (pid_namespaces(7)).
 */

export interface SandboxLimits {
  /** Bytes of memory of all processes together. */
  memory: number;
  /** Processes and threads. */
  tasks: number;
  /** Bytes on disk in all writable directories together. */
  disk: number;
  /** Entries in them. */
  entries: number;
}

/** A part of the host that is seen inside. */
interface SandboxBind {
  from: string;
  /** Absolute, inside. */
  to: string;
  writable: boolean;
}

export interface SandboxSpec {
  /** The aegis executable. */
  aegis: string;
  /** An empty directory of root's, which becomes the root inside. On the host it stays empty. */
  root: string;
  /** Whether it shares the host's network; otherwise it has a loopback interface of its own. */
  network: boolean;
  binds: readonly SandboxBind[];
  account: Account;
  program: string;
  args: readonly string[];
  environment: Readonly<Record<string, string>>;
  /** Absolute, inside. */
  cwd: string;
  /** For its standard input; null closes that. */
  input: string | null;
  limits: SandboxLimits;
  /** The closed registry beside it; null for none. */
  registry: RegistrySpec | null;
}

export interface RegistrySpec {
  account: Account;
  port: number;
  /** The directory of package files on the host. The program inside doesn't see it. */
  files: string;
  /** Path → what is answered; `file` is a name in `files`. */
  routes: Readonly<Record<string, RegistryRoute>>;
}

/** Where the closed registry finds the package files: beside what the program sees. */
export const REGISTRY_FILES = "/files";

export type RegistryRoute =
  | { file: string; type: string }
  | { body: string; type: string; headers?: Readonly<Record<string, string>> | undefined };

const SandboxEndSchema = v.strictObject({
  status: v.nullable(v.number()),
  /** The limit that it exceeded, in words; null if it ended by itself. */
  exceeded: v.nullable(v.string()),
});
export type SandboxEnd = v.InferOutput<typeof SandboxEndSchema>;

/** A line that the first process inside writes. */
const Report = v.union([
  v.strictObject({ missing: v.string() }),
  v.strictObject({ failed: v.string() }),
  v.strictObject({ ended: SandboxEndSchema }),
]);

export interface SandboxPipes {
  /** Open descriptors for the program's standard output and error, or `pipe` for output that `onOutput` takes. */
  stdout: number | "pipe";
  stderr: number;
  /** A descriptor that stays open as long as anything inside lives. */
  alive: number | "ignore";
}

export interface SandboxListener {
  /** A path that the closed registry lacks. */
  missing?(path: string): void;
  /** With `stdout: "pipe"`. What it throws ends the sandbox. */
  output?(data: Buffer): void;
}

/**
 * Runs a program confined, and resolves when it has ended and nothing of it is alive. `stop` kills it.
 * @throws AegisError `unavailable` if the sandbox can't be made; what `listener` throws; the reason of `stop`
 */
export function runSandbox(
  spec: SandboxSpec,
  pipes: SandboxPipes,
  listener: SandboxListener,
  stop: AbortSignal,
): Promise<SandboxEnd> {
  const [program, args] = namespaced(spec.network, confinedCommand(spec.aegis, "init"));
  const { stdout, stderr, alive } = pipes;
  const child = spawn(program, args, {
    cwd: "/",
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    stdio: ["pipe", "pipe", stderr, stdout, stderr, alive],
  });
  let failure: unknown = null;
  let end: SandboxEnd | null = null;
  const fail = (error: unknown) => {
    failure ??= error;
    // The first process inside ends then, and unshare waits until the kernel has killed the rest. A kill wouldn't wait.
    child.stdin?.end();
    setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS).unref();
  };
  const guarded = (action: () => void) => {
    try {
      if (failure === null) action();
    } catch (error) {
      fail(error);
    }
  };
  const aborted = () => fail(stop.reason);
  if (stop.aborted) aborted();
  stop.addEventListener("abort", aborted);
  eachLine(child.stdout, (line) =>
    guarded(() => {
      const report = v.parse(Report, parseJson(line));
      if ("missing" in report) listener.missing?.(report.missing);
      else if ("failed" in report) throw new AegisError("unavailable", report.failed);
      else end = report.ended;
    }),
  );
  const output = child.stdio[3];
  if (output !== null && output !== undefined && "on" in output)
    output.on("data", (data: Buffer) => guarded(() => listener.output?.(data)));
  child.stdin?.on("error", () => {}); // It has ended, which is seen below.
  // The pipe stays open: its end tells the first process inside that nobody waits for it any more.
  child.stdin?.write(`${JSON.stringify(spec)}\n`);
  return new Promise((resolve, reject) => {
    child.on("error", (error) =>
      reject(new AegisError("unavailable", `can't start ${program}: ${messageOf(error)}`)),
    );
    child.on("close", (status, signal) => {
      stop.removeEventListener("abort", aborted);
      if (failure !== null) reject(failure);
      else if (end !== null) resolve(end);
      else reject(new AegisError("unavailable", `the sandbox ended with ${signal ?? `status ${status}`}`));
    });
  });
}

/** The command of a process of ours inside a sandbox. */
export function confinedCommand(aegis: string, role: "init" | "registry" | "fetch"): [string, ...string[]] {
  return [aegis, "daemon", "--confined", role];
}

/**
 * A command in new namespaces (unshare(1)) that dies with this process (setpriv(1), `--pdeathsig`).
 * @throws AegisError `unavailable` where util-linux's programs are missing
 */
export function namespaced(network: boolean, command: readonly string[]): [string, string[]] {
  const [setpriv, unshare] = [neededProgram("setpriv"), neededProgram("unshare")];
  const spaces = ["--mount", "--pid", "--ipc", "--uts", ...(network ? [] : ["--net"])];
  return [
    setpriv,
    ["--pdeathsig", "KILL", "--", unshare, ...spaces, "--fork", "--kill-child", "--", ...command],
  ];
}

/** @throws AegisError `unavailable` */
export function neededProgram(name: string): string {
  const path = resolveProgram(name);
  if (path !== null) return path;
  throw new AegisError("unavailable", `${name} is not installed`, "Install util-linux.");
}

/** How long the first process inside may take to notice that nobody waits for it. */
const PATIENCE_MS = 5000;
const MAX_LINE = 64 * 1024;

/** Calls back for each whole line of a stream; what has no end within 64 KiB is dropped. */
export function eachLine(stream: NodeJS.ReadableStream | null, use: (line: string) => void): void {
  let rest = "";
  stream?.on("data", (data: Buffer) => {
    const lines = (rest + data.toString("utf8")).split("\n");
    rest = (lines.pop() ?? "").slice(0, MAX_LINE);
    for (const line of lines) use(line);
  });
}
