import { spawn } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { checkAptConfig, runSettings } from "./apt-config.ts";
import { refuseDpkgConfig } from "./apt-dpkg-config.ts";
import { RUN_FILES } from "./apt-hook-receipt.ts";
import { parseAptDump, renderAptConfig } from "./apt-settings.ts";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import type { ExecutionPlan } from "./documents.ts";
import { AegisError } from "./errors.ts";
import { removeOldRuns } from "./exec-old-runs.ts";
import { createFileExclusive, hashFile, writeFileAtomic } from "./files.ts";
import { readText } from "./planning.ts";
import { identify, packageManagersWith } from "./processes.ts";
import { STATE } from "./state.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./subprocess.ts";
import { Lines, Tail } from "./tail.ts";

/**
 * How long a download may take before dpkg has started. Indexes are smaller, and no human has to agree before they are
 * fetched: a server that sends a byte every few seconds must not hold up for long whoever waits.
 */
const DOWNLOAD_LIMIT_MS = { update: 10 * 60_000, other: 30 * 60_000 } as const;
const OVERDUE_MS = 60 * 60_000;
const POLL_MS = 200;
/** Pieces of 64 KiB that one look at a file passes on. */
const MAX_PIECES = 64;
/** How much of each output file is kept after the run; its hash covers all of it. */
const KEEP_OUTPUT = 16 * 1024 * 1024;

/** How long a command line may go on before dpkg has started, in milliseconds. */
export function downloadLimit(argv: readonly string[]): number {
  return DOWNLOAD_LIMIT_MS[argv[1] === "update" ? "update" : "other"];
}

/** What the watcher of a run hears. */
export interface RunListener {
  progress(percent: number, message: string): void;
  output(stream: "stdout" | "stderr", data: string): void;
  /** dpkg has been at it for longer than an hour; told once. */
  overdue(): void;
  /** Called at each look, every fifth of a second. */
  tick(): void;
}

/** A run that is ready to start. */
export interface PreparedRun {
  directory: string;
  archives: string;
  /** SHA-256 of the configuration apt is given. */
  configSha256: string;
  program: string;
  environment: Record<string, string>;
  /** When it is stopped, unless dpkg has started by then; in milliseconds. */
  limitMs: number;
}

/** Names inside a run directory, besides {@link RUN_FILES}. */
export const OUTPUT_FILES = {
  stdout: "stdout",
  stderr: "stderr",
  status: "status",
  process: "process.json",
} as const;

/** What the decision file says of a run that was ended before dpkg began. */
const STOPPED = "stopped";

/** apt's configuration in a run directory. */
const APT_CONFIG_FILE = "apt.conf";

/** The directory of one execution. */
export function runDirectory(id: string): string {
  return join(STATE.runs, id);
}

/**
 * Lays out everything one apt run needs: private directories, the frozen configuration (dumped again and compared), the
 * transaction for the hook.
 * @throws AegisError `refused`, `unavailable`
 */
export async function prepareAptRun(execution: ExecutionPlan, aegis: string): Promise<PreparedRun> {
  if (execution.operation_plan.operation !== "update") refuseDpkgConfig({ readText, list: listNames });
  const directory = runDirectory(execution.execution_plan_id);
  const archives = join(STATE.archives, execution.execution_plan_id);
  mkdirSync(directory, { mode: 0o700 });
  mkdirSync(archives, { mode: 0o755 });
  chmodSync(archives, 0o755);
  const program = resolveProgram(execution.argv[0] ?? "");
  if (program === null) throw new AegisError("unavailable", `${execution.argv[0]} is not installed`);
  const settings = runSettings(parseAptDump(await aptDump(directory, null)), execution.operation_plan, {
    directory,
    archives,
    aegis,
  });
  const text = renderAptConfig(settings);
  const file = join(directory, APT_CONFIG_FILE);
  writeFileSync(file, text, { mode: 0o644 });
  checkAptConfig(await aptDump(directory, file), settings);
  writeFileSync(join(directory, RUN_FILES.expected), canonicalJson(execution.operation_plan.transaction), {
    mode: 0o600,
  });
  const home = isRepair(execution) ? prepareRepair(directory) : {};
  const environment = { ...aptEnvironment(), ...home, APT_CONFIG: file };
  const limitMs = downloadLimit(execution.argv);
  return { directory, archives, configSha256: sha256Hex(text), program, environment, limitMs };
}

function listNames(path: string): string[] {
  return existsSync(path) ? readdirSync(path).sort() : [];
}

/** Whether dpkg runs by itself, to finish what it was at earlier. */
export function isRepair({ operation_plan: { tool, operation } }: ExecutionPlan): boolean {
  return tool === "apt" && operation === "repair";
}

/**
 * What a repair needs besides: its command line has no place for options, so dpkg gets them from the configuration file of
 * its home directory, which it reads after the host's (dpkg(1), "FILES"). Old configuration files are kept, since a question
 * would end the run (its standard input is closed), and nothing else is forced. The decision is made before it starts:
 * nothing may stop it on the way.
 */
function prepareRepair(directory: string): { HOME: string } {
  const home = join(directory, "home");
  mkdirSync(home, { mode: 0o700 });
  const options = ["no-force-all", "force-security-mac", "force-confold"];
  writeFileSync(join(home, ".dpkg.cfg"), `${options.join("\n")}\n`, { mode: 0o600 });
  createFileExclusive(join(directory, RUN_FILES.decision), "repair");
  return { HOME: home };
}

function aptEnvironment(): Record<string, string> {
  return {
    PATH: SYSTEM_PATH.join(":"),
    LC_ALL: "C.UTF-8",
    HOME: "/root",
    TERM: "dumb",
    DEBIAN_FRONTEND: "noninteractive",
    // ucf(1) keeps changed files in its own way; dpkg is told by --force-confold.
    UCF_FORCE_CONFFOLD: "1",
  };
}

async function aptDump(cwd: string, config: string | null): Promise<string> {
  const program = resolveProgram("apt-config");
  if (program === null) throw new AegisError("unavailable", "apt-config is not installed");
  const env = config === null ? aptEnvironment() : { ...aptEnvironment(), APT_CONFIG: config };
  const result = await run(program, ["dump"], { env, cwd, timeoutMs: 30_000, maxBytes: 8 << 20 });
  if (result.outcome !== "exited" || result.status !== 0)
    throw new AegisError("unavailable", "apt-config dump failed");
  return result.stdout.toString("utf8");
}

/**
 * Runs the signed argv and waits for its end, however long that takes once dpkg has started. Output goes to files, since
 * apt fails when the reader of a pipe dies; nothing of it depends on this process staying alive. `stop` ends a download.
 * When apt is killed and its dpkg goes on, that is waited for too: until then the packages change. Returns the exit status;
 * null when a signal ended it.
 */
export function runApt(
  prepared: PreparedRun,
  argv: readonly string[],
  stop: AbortSignal,
  listener: RunListener,
): Promise<number | null> {
  const { directory } = prepared;
  const files = [OUTPUT_FILES.stdout, OUTPUT_FILES.stderr, OUTPUT_FILES.status].map((name) =>
    openSync(join(directory, name), "wx", 0o600),
  );
  const child = spawn(prepared.program, argv.slice(1), {
    env: prepared.environment,
    cwd: "/",
    stdio: ["ignore", ...files],
    detached: true,
  });
  for (const fd of files) closeSync(fd);
  if (child.pid !== undefined) recordProcess(directory, child.pid);
  const watch = new RunWatch(directory, listener);
  // Not by the clock, which may be set while apt works.
  const started = performance.now();
  let overdue = false;
  let exit: { status: number | null } | null = null;

  return new Promise((resolve, reject) => {
    const resolveWhenDone = () => {
      if (exit === null || packageManagersOf(directory).length > 0) return;
      clearInterval(timer);
      watch.look();
      resolve(exit.status);
    };
    const timer = setInterval(() => {
      watch.look();
      listener.tick();
      const age = performance.now() - started;
      const ended = stop.aborted || age > prepared.limitMs;
      // The id of an apt that has ended may be another's by now.
      if (ended && exit === null && child.pid !== undefined) stopBeforeDpkg(directory, child.pid);
      if (age > OVERDUE_MS && !overdue) {
        overdue = true;
        listener.overdue();
      }
      resolveWhenDone();
    }, POLL_MS);
    child.on("error", (error) => {
      clearInterval(timer);
      reject(new AegisError("unavailable", `can't start ${prepared.program}: ${error.message}`));
    });
    child.on("exit", (status) => {
      exit = { status };
      resolveWhenDone();
    });
  });
}

/** The living apt-get and dpkg processes of a run, by the configuration that they were given. */
export function packageManagersOf(directory: string): number[] {
  return packageManagersWith("APT_CONFIG", join(directory, APT_CONFIG_FILE));
}

/** Which process apt is, for a runner that comes after this one was killed. */
function recordProcess(directory: string, pid: number): void {
  writeFileAtomic(join(directory, OUTPUT_FILES.process), JSON.stringify(identify(pid)));
}

/** Ends a download, unless the hook was there first: then dpkg may have started. */
export function stopBeforeDpkg(directory: string, pid: number): void {
  if (!createFileExclusive(join(directory, RUN_FILES.decision), STOPPED)) return;
  try {
    process.kill(-pid, "SIGTERM");
  } catch {
    // It ended in the same moment.
  }
}

/** Whether {@link stopBeforeDpkg} ended a run. */
export function wasStopped(directory: string): boolean {
  return readText(join(directory, RUN_FILES.decision)) === STOPPED;
}

/** Reads what a run writes, from the start; works as well for a run that another process began. */
export class RunWatch {
  readonly #tails: { stdout: Tail; stderr: Tail; status: Tail };
  readonly #lines = new Lines();
  readonly #listener: Pick<RunListener, "progress" | "output">;
  readonly #decode = { stdout: new TextDecoder(), stderr: new TextDecoder() };

  constructor(directory: string, listener: Pick<RunListener, "progress" | "output">) {
    const tail = (name: string) => new Tail(join(directory, name));
    this.#tails = {
      stdout: tail(OUTPUT_FILES.stdout),
      stderr: tail(OUTPUT_FILES.stderr),
      status: tail(OUTPUT_FILES.status),
    };
    this.#listener = listener;
  }

  /** Passes on everything that has come since the last look. */
  look(): void {
    for (const stream of ["stdout", "stderr"] as const) {
      for (const piece of pieces(this.#tails[stream])) {
        this.#listener.output(stream, this.#decode[stream].decode(piece, { stream: true }));
      }
    }
    for (const piece of pieces(this.#tails.status)) {
      for (const line of this.#lines.push(piece.toString("utf8"))) {
        const progress = parseStatusLine(line);
        if (progress !== null) this.#listener.progress(progress.percent, progress.message);
      }
    }
  }
}

/** What has come since, a few megabytes at the most: a program that writes without end must not stop the watching. */
function* pieces(tail: Tail): Generator<Buffer> {
  for (let n = 0; n < MAX_PIECES; n++) {
    const piece = tail.read();
    if (piece.length === 0) return;
    yield piece;
  }
}

/**
 * One line of APT::Status-Fd (apt's README.progress-reporting): `pmstatus:<package>:<percent>:<text>` and its like.
 * The package may hold a colon of its own (`libc6:i386`). Null for lines without a percentage.
 */
export function parseStatusLine(line: string): { percent: number; message: string } | null {
  const [, kind, percent, message] =
    /^(pmstatus|dlstatus|pmerror):.+?:(\d+(?:\.\d+)?):(.*)$/.exec(line) ?? [];
  if (kind === undefined || percent === undefined || message === undefined) return null;
  return { percent: Math.min(100, Math.max(0, Number(percent))), message };
}

/** Removes what {@link prepareAptRun} laid out for a run that was refused before it used anything up. */
export function discardRun(id: string): void {
  rmSync(runDirectory(id), { recursive: true, force: true });
  rmSync(join(STATE.archives, id), { recursive: true, force: true });
}

/** SHA-256 of what a run wrote to its standard output and standard error. */
export function digestRun(id: string): { stdoutSha256: string; stderrSha256: string } {
  const digest = (name: string) => hashFile(join(runDirectory(id), name)).sha256;
  return { stdoutSha256: digest(OUTPUT_FILES.stdout), stderrSha256: digest(OUTPUT_FILES.stderr) };
}

/**
 * Cuts the output files to what is kept, and removes the private .deb directory and the oldest runs' directories. Only after the digests are in the log:
 * a digest of a cut file would be no digest of the output.
 */
export function closeRun(id: string): void {
  rmSync(join(STATE.archives, id), { recursive: true, force: true });
  for (const name of [OUTPUT_FILES.stdout, OUTPUT_FILES.stderr]) {
    const path = join(runDirectory(id), name);
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > KEEP_OUTPUT) truncateSync(path, KEEP_OUTPUT);
  }
  removeOldRuns(STATE.runs, id);
}
