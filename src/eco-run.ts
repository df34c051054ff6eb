import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync, rmSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { PreparedRun, RunDriver } from "./eco-driver.ts";
import { removeOldRuns } from "./eco-old-runs.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { type Account, commandAs } from "./sys-account.ts";
import { hashFile, writeFileAtomic } from "./sys-files.ts";
import { identify, isSameProcess } from "./sys-process.ts";
import type { StatePaths } from "./sys-state.ts";

/*
 * A run's process and files, for every tool: starting, watching, stopping and cleaning up.
 */

const OVERDUE_MS = 60 * 60_000;
const POLL_MS = 200;
/** Most pieces of 64 KiB that are read from a file at once. */
const MAX_PIECES = 64;
/** How much of each output file is kept after the run; its hash covers all of it. */
const KEEP_OUTPUT = 16 * 1024 * 1024;

/** Receives what happens during a run. */
export interface RunListener {
  progress(percent: number, message: string): void;
  output(stream: "stdout" | "stderr", data: string): void;
  /** Called once, when the run has taken longer than an hour. */
  overdue(): void;
  /** Called at each poll, five times a second. */
  tick(): void;
}

/** Names inside a run directory. */
export const OUTPUT_FILES = {
  stdout: "stdout",
  stderr: "stderr",
  /** The tool's progress, from its descriptor 3. */
  status: "status",
  process: "process.json",
} as const;

/** The directory of one execution. */
export function runDirectory(id: string, paths: StatePaths): string {
  return join(paths.runs, id);
}

/** The directory of one execution's package files. */
export function archivesOf(id: string, paths: StatePaths): string {
  return join(paths.archives, id);
}

/**
 * Runs the signed argv as `account` (null for root), or the tool's supervisor, and waits for its end, without a limit once it must
 * not be stopped. Output goes to files, because tools fail when the reader of a pipe dies, and the run must survive this process. `stop` ends a run
 * that may be stopped. If the tool is killed while its children go on, they are waited for too, since they change the host.
 * Returns the exit status; null if a signal ended it.
 */
export function startRun(
  prepared: PreparedRun,
  argv: readonly string[],
  driver: RunDriver,
  account: Account | null,
  stop: AbortSignal,
  listener: RunListener,
): Promise<number | null> {
  const { directory, environment, cwd } = prepared;
  const [program, args] =
    prepared.arguments === undefined
      ? commandAs(account, prepared.program, argv.slice(1))
      : [prepared.program, [...prepared.arguments]];
  const limitMs = driver.limitMs(argv);
  const files = [OUTPUT_FILES.stdout, OUTPUT_FILES.stderr, OUTPUT_FILES.status].map((name) =>
    openSync(join(directory, name), "wx", 0o600),
  );
  const failed = (error: unknown) =>
    new AegisError("unavailable", `can't start ${program}: ${messageOf(error)}`);
  let child: ChildProcess;
  try {
    child = spawn(program, args, { env: environment, cwd, stdio: ["ignore", ...files], detached: true });
  } catch (error) {
    // Some failures are thrown (ENOEXEC, E2BIG), others arrive as an event below.
    return Promise.reject(failed(error));
  } finally {
    for (const fd of files) closeSync(fd);
  }
  if (child.pid !== undefined) recordProcess(directory, child.pid);
  const watch = new RunWatch(directory, driver, listener);
  // Not the wall clock, which may be changed while the tool runs.
  const started = performance.now();
  let overdue = false;
  let exit: { status: number | null } | null = null;

  return new Promise((resolve, reject) => {
    /** An error while watching rejects the promise instead of ending this process: the caller closes the run. */
    const guarded = (action: () => void) => {
      try {
        action();
      } catch (error) {
        clearInterval(timer);
        reject(error);
      }
    };
    const resolveWhenDone = () => {
      if (exit === null || driver.isAlive(directory)) return;
      clearInterval(timer);
      watch.look();
      resolve(exit.status);
    };
    const look = () => {
      watch.look();
      listener.tick();
      const age = performance.now() - started;
      const ended = stop.aborted || age > limitMs;
      // The pid of a process that has ended may have been reused.
      if (ended && exit === null && child.pid !== undefined) stopRun(directory, child.pid, driver);
      if (age > OVERDUE_MS && !overdue) {
        overdue = true;
        listener.overdue();
      }
      resolveWhenDone();
    };
    const timer = setInterval(() => guarded(look), POLL_MS);
    child.on("error", (error) => {
      clearInterval(timer);
      reject(failed(error));
    });
    child.on("exit", (status) => {
      exit = { status };
      guarded(resolveWhenDone);
    });
  });
}

const ProcessRecord = v.strictObject({ pid: v.number(), start: v.number(), boot: v.string() });

/** Records the tool's process for the next runner, in case this one is killed. */
function recordProcess(directory: string, pid: number): void {
  try {
    writeFileAtomic(join(directory, OUTPUT_FILES.process), JSON.stringify(identify(pid)));
  } catch {
    // For example a full disk. The tool is running and this runner watches it: giving up now would abandon it.
  }
}

function recordedProcess(directory: string): v.InferOutput<typeof ProcessRecord> | null {
  try {
    return v.parse(ProcessRecord, parseJson(readFileSync(join(directory, OUTPUT_FILES.process), "utf8")));
  } catch {
    // Interrupted before or while the tool was started. Then only the driver knows.
    return null;
  }
}

/** Whether any process of a run is alive, by its record and by its driver. */
export function isRunAlive(directory: string, driver: RunDriver): boolean {
  const recorded = recordedProcess(directory);
  if (recorded !== null && isSameProcess(recorded)) return true;
  return driver.isAlive(directory);
}

/** Stops a run whose runner died, if its driver allows that. */
export function stopRecorded(directory: string, driver: RunDriver): void {
  const recorded = recordedProcess(directory);
  if (recorded !== null && isSameProcess(recorded)) stopRun(directory, recorded.pid, driver);
}

function stopRun(directory: string, pid: number, driver: RunDriver): void {
  if (!driver.mayStop(directory)) return;
  try {
    process.kill(-pid, "SIGTERM");
  } catch {
    // It has just ended.
  }
}

/** Reads the output of a run from its start, also of one that another process started. */
export class RunWatch {
  readonly #tails: { stdout: Tail; stderr: Tail; status: Tail };
  readonly #lines = new Lines();
  readonly #driver: Pick<RunDriver, "progress">;
  readonly #listener: Pick<RunListener, "progress" | "output">;
  readonly #decode = { stdout: new TextDecoder(), stderr: new TextDecoder() };

  constructor(
    directory: string,
    driver: Pick<RunDriver, "progress">,
    listener: Pick<RunListener, "progress" | "output">,
  ) {
    const tail = (name: string) => new Tail(join(directory, name));
    this.#tails = {
      stdout: tail(OUTPUT_FILES.stdout),
      stderr: tail(OUTPUT_FILES.stderr),
      status: tail(OUTPUT_FILES.status),
    };
    this.#driver = driver;
    this.#listener = listener;
  }

  /** Passes on everything that was written since the last call. */
  look(): void {
    for (const stream of ["stdout", "stderr"] as const) {
      for (const piece of pieces(this.#tails[stream])) {
        this.#listener.output(stream, this.#decode[stream].decode(piece, { stream: true }));
      }
    }
    for (const piece of pieces(this.#tails.status)) {
      for (const line of this.#lines.push(piece.toString("utf8"))) {
        const progress = this.#driver.progress(line);
        if (progress !== null) this.#listener.progress(progress.percent, progress.message);
      }
    }
  }
}

/** What was written since the last call, at most a few megabytes, so that a program which never stops writing can't block us. */
function* pieces(tail: Tail): Generator<Buffer> {
  for (let n = 0; n < MAX_PIECES; n++) {
    const piece = tail.read();
    if (piece.length === 0) return;
    yield piece;
  }
}

/** Removes the files of a run that was refused before it used anything up. */
export function discardRun(id: string, paths: StatePaths): void {
  rmSync(runDirectory(id, paths), { recursive: true, force: true });
  rmSync(archivesOf(id, paths), { recursive: true, force: true });
}

/** SHA-256 of what a run wrote to its standard output and standard error. */
export function digestRun(id: string, paths: StatePaths): { stdout_sha256: string; stderr_sha256: string } {
  const digest = (name: string) => hashFile(join(runDirectory(id, paths), name)).sha256;
  return { stdout_sha256: digest(OUTPUT_FILES.stdout), stderr_sha256: digest(OUTPUT_FILES.stderr) };
}

/**
 * Truncates the output files, and removes the package files and the oldest runs' directories. Call it after the digests are in
 * the log, since they cover the whole output.
 */
export function closeRun(id: string, paths: StatePaths): void {
  rmSync(archivesOf(id, paths), { recursive: true, force: true });
  for (const name of [OUTPUT_FILES.stdout, OUTPUT_FILES.stderr]) {
    const path = join(runDirectory(id, paths), name);
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > KEEP_OUTPUT) truncateSync(path, KEEP_OUTPUT);
  }
  removeOldRuns(paths.runs, id);
}

/** Follows a growing file: each `read` returns what was added, at most `limit` bytes. */
export class Tail {
  readonly #path: string;
  #offset = 0;

  constructor(path: string) {
    this.#path = path;
  }

  read(limit = 64 * 1024): Buffer {
    let fd: number;
    try {
      fd = openSync(this.#path, "r");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return Buffer.alloc(0);
      throw error;
    }
    try {
      const buffer = Buffer.allocUnsafe(limit);
      const n = readSync(fd, buffer, 0, limit, this.#offset);
      this.#offset += n;
      return buffer.subarray(0, n);
    } finally {
      closeSync(fd);
    }
  }
}

/** Splits pieces into whole lines; an incomplete line is kept for the next piece. */
export class Lines {
  #rest = "";

  push(piece: string): string[] {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = (lines.pop() ?? "").slice(-64 * 1024);
    return lines;
  }
}
