import { writeSync } from "node:fs";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { callNamespaces } from "./eco-sandbox-namespaces.ts";
import { callUnit, UNIT_JOURNAL } from "./eco-sandbox-unit.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { VERSION } from "./self.ts";
import type { Account } from "./sys-account.ts";

/*
 * A program of another user, confined: in mount, PID, IPC and UTS namespaces of its own, in a root directory that holds the
 * host's programs read-only and nothing else of it, and, unless it is to fetch, without a network. Its first process is Aegis
 * (eco-sandbox-init.ts), which is root's; when that ends, the kernel kills everything inside (pid_namespaces(7)). A unit of systemd
 * starts it where there is one (eco-sandbox-unit.ts), unshare(1) otherwise.
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
  /**
   * For a program that makes files of several users: it runs in a user namespace, as its root with {@link UNPACKING}, and `account` stands
   * for nobody. Left out, as `account`.
   */
  users?: MappedUsers;
  program: string;
  args: readonly string[];
  environment: Readonly<Record<string, string>>;
  /** Absolute, inside. */
  cwd: string;
  /** For its standard input, which then stays open; null closes it. */
  input: string | null;
  /** Where its output goes; null hands it to this process. */
  files: SandboxFiles | null;
  limits: SandboxLimits;
  /** The closed registry beside it; null for none. */
  registry: RegistrySpec | null;
}

/** The users and groups of a user namespace: those from 0 inside are those from `first` on the host. */
export interface MappedUsers {
  first: number;
  count: number;
}

/**
 * What the root of a user namespace may do, to its own files and in its own mounts only (capabilities(7)). Without CAP_FSETID podman
 * loses set-group-id bits and says nothing; from 5.4 on it unpacks in a chroot (both measured).
 */
export const UNPACKING = [
  ...["chown", "fowner", "dac_override", "fsetid", "setfcap", "sys_admin", "sys_chroot"],
] as const;

/** Absolute, on the host; the first process inside opens them. */
interface SandboxFiles {
  stdout: string;
  stderr: string;
  /** A file that it locks and keeps locked until it ends, and all with it. */
  alive: string;
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

/** The line that the first process gets. */
export interface SandboxRequest {
  /** Of the Aegis that asks: a unit may have been started from another. */
  version: string;
  /** Null only tries whether a sandbox can be made. */
  spec: SandboxSpec | null;
}

interface SandboxListener {
  /** A path that the closed registry lacks. */
  missing?(path: string): void;
  /** The program's standard output, without `files`. What it throws ends the sandbox. */
  output?(data: Buffer): void;
}

/**
 * Runs a program confined, and resolves when it has ended and nothing of it is alive. `unit` is the socket of systemd's unit, null
 * makes namespaces; `stop` kills it.
 * @throws AegisError `unavailable` if the sandbox can't be made; what `listener` throws; the reason of `stop`
 */
export function runSandbox(
  spec: SandboxSpec,
  unit: string | null,
  listener: SandboxListener,
  stop: AbortSignal,
): Promise<SandboxEnd> {
  const output = (data: Buffer) => listener.output?.(data);
  return endOf(spec, listener, (request, report) =>
    unit === null
      ? callNamespaces(spec.network, confinedCommand(spec.aegis, "init"), request, { report, output }, stop)
      : callUnit(unit, request, report, stop),
  );
}

/** Tries whether the unit behind a socket can make sandboxes, by all of one but its files. @throws AegisError `unavailable` */
export async function trySandboxUnit(unit: string): Promise<void> {
  const stop = new AbortController();
  const slow = new AegisError("unavailable", `${unit} doesn't answer`, UNIT_JOURNAL);
  const timer = setTimeout(() => stop.abort(slow), TRIAL_MS);
  try {
    await endOf(null, {}, (request, take) => callUnit(unit, request, take, stop.signal));
  } finally {
    clearTimeout(timer);
  }
}

/** What the first process reports at its end. */
async function endOf(
  spec: SandboxSpec | null,
  listener: SandboxListener,
  call: (request: string, take: (data: Buffer) => void) => Promise<void>,
): Promise<SandboxEnd> {
  const ends: SandboxEnd[] = [];
  const take = lineReader((line) => {
    const report = v.parse(Report, parseJson(line));
    if ("missing" in report) listener.missing?.(report.missing);
    else if ("failed" in report) throw new AegisError("unavailable", report.failed);
    else ends.push(report.ended);
  });
  await call(`${JSON.stringify({ version: VERSION, spec } satisfies SandboxRequest)}\n`, take);
  const [end] = ends;
  if (end !== undefined) return end;
  // A trial and fetching come before the plan is used up; what has no network is the tool itself.
  const code = spec === null || spec.network ? "unavailable" : "execution_failed";
  throw new AegisError(code, "the sandbox ended without a word: it was killed", UNIT_JOURNAL);
}

/** The command of a process of ours inside a sandbox. */
export function confinedCommand(aegis: string, role: "init" | "registry" | "fetch"): [string, ...string[]] {
  return [aegis, "daemon", "--confined", role];
}

/** For whoever types what only the executor starts. */
export const EXECUTOR_STARTS =
  "The executor starts this itself, while it runs a signed plan; see: aegis apply --help";

/** For an answer from a unit that has nothing to do. */
const TRIAL_MS = 30_000;
const MAX_LINE = 64 * 1024;

/** A function that takes pieces and calls back for each whole line; what has no end within 64 KiB is dropped. */
export function lineReader(use: (line: string) => void): (data: Buffer) => void {
  let rest = "";
  return (data) => {
    const lines = (rest + data.toString("utf8")).split("\n");
    rest = (lines.pop() ?? "").slice(0, MAX_LINE);
    for (const line of lines) use(line);
  };
}

/**
 * The first line on standard input. Whatever comes after it, or its end, says that nobody waits for this process any more: it exits.
 * @throws AegisError `usage` if there is no line
 */
export function requestLine(): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    let isWhole = false;
    process.stdin.setEncoding("utf8");
    process.stdin.on("data", (data: string) => {
      if (isWhole) process.exit(1);
      text += data;
      isWhole = text.includes("\n");
      if (isWhole) resolve(text);
    });
    process.stdin.on("end", () => {
      if (isWhole) process.exit(1);
      reject(new AegisError("usage", "nothing says what to do", EXECUTOR_STARTS));
    });
  });
}

/** Writes to a pipe or socket that may be non-blocking, and waits while it is full. */
export function writeBlocking(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if (errnoOf(error) !== "EAGAIN") throw error;
      Bun.sleepSync(1);
    }
  }
}
