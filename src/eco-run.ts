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
import type { Places } from "./sys-state.ts";

/*
 * A run's process and files, whatever the tool: how it is started, followed, ended and tidied up.
 */

const OVERDUE_MS = 60 * 60_000;
const POLL_MS = 200;
/** Pieces of 64 KiB that one look at a file passes on. */
const MAX_PIECES = 64;
/** How much of each output file is kept after the run; its hash covers all of it. */
const KEEP_OUTPUT = 16 * 1024 * 1024;

/** What the watcher of a run hears. */
export interface RunListener {
  progress(percent: number, message: string): void;
  output(stream: "stdout" | "stderr", data: string): void;
  /** The run has taken longer than an hour; told once. */
  overdue(): void;
  /** Called at each look, every fifth of a second. */
  tick(): void;
}

/** Names inside a run directory. */
export const OUTPUT_FILES = {
  stdout: "stdout",
  stderr: "stderr",
  /** What the tool tells of its progress, on descriptor 3. */
  status: "status",
  process: "process.json",
} as const;

/** The directory of one execution. */
export function runDirectory(id: string, places: Places): string {
  return join(places.runs, id);
}

/** The directory of one execution's package files. */
export function archivesOf(id: string, places: Places): string {
  return join(places.archives, id);
}

/**
 * Runs the signed argv as `account` (null for root) and waits for its end, however long that takes once it may not be stopped. Output goes to files, since
 * apt, for one, fails when the reader of a pipe dies; nothing of it depends on this process staying alive. `stop` ends what
 * may be stopped. When the tool is killed and what it started goes on, that is waited for too: until then the host changes.
 * Returns the exit status; null when a signal ended it.
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
  const [program, args] = commandAs(account, prepared.program, argv.slice(1));
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
    // Some failures come at once (ENOEXEC, E2BIG), others as an event below.
    return Promise.reject(failed(error));
  } finally {
    for (const fd of files) closeSync(fd);
  }
  if (child.pid !== undefined) recordProcess(directory, child.pid);
  const watch = new RunWatch(directory, driver, listener);
  // Not by the clock, which may be set while the tool works.
  const started = performance.now();
  let overdue = false;
  let exit: { status: number | null } | null = null;

  return new Promise((resolve, reject) => {
    /** What is thrown while watching ends the watching, not this process: its caller closes the run. */
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
      // The id of a process that has ended may be another's by now.
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

/** Which process the tool is, for a runner that comes after this one was killed. */
function recordProcess(directory: string, pid: number): void {
  try {
    writeFileAtomic(join(directory, OUTPUT_FILES.process), JSON.stringify(identify(pid)));
  } catch {
    // A full disk, say. The tool is at work and this runner watches it: giving up now would leave it alone.
  }
}

function recordedProcess(directory: string): v.InferOutput<typeof ProcessRecord> | null {
  try {
    return v.parse(ProcessRecord, parseJson(readFileSync(join(directory, OUTPUT_FILES.process), "utf8")));
  } catch {
    // Interrupted before the tool was started, or in the moment of it: then only the driver can tell.
    return null;
  }
}

/** Whether anything of a run still lives, by the process on record and by what its driver knows. */
export function isRunAlive(directory: string, driver: RunDriver): boolean {
  const recorded = recordedProcess(directory);
  if (recorded !== null && isSameProcess(recorded)) return true;
  return driver.isAlive(directory);
}

/** Ends a run whose runner can't any more, where its driver allows that. */
export function stopRecorded(directory: string, driver: RunDriver): void {
  const recorded = recordedProcess(directory);
  if (recorded !== null && isSameProcess(recorded)) stopRun(directory, recorded.pid, driver);
}

function stopRun(directory: string, pid: number, driver: RunDriver): void {
  if (!driver.mayStop(directory)) return;
  try {
    process.kill(-pid, "SIGTERM");
  } catch {
    // It ended in the same moment.
  }
}

/** Reads what a run writes, from the start; works as well for a run that another process began. */
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

  /** Passes on everything that has come since the last look. */
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

/** What has come since, a few megabytes at the most: a program that writes without end must not stop the watching. */
function* pieces(tail: Tail): Generator<Buffer> {
  for (let n = 0; n < MAX_PIECES; n++) {
    const piece = tail.read();
    if (piece.length === 0) return;
    yield piece;
  }
}

/** Removes what was laid out for a run that was refused before it used anything up. */
export function discardRun(id: string, places: Places): void {
  rmSync(runDirectory(id, places), { recursive: true, force: true });
  rmSync(archivesOf(id, places), { recursive: true, force: true });
}

/** SHA-256 of what a run wrote to its standard output and standard error. */
export function digestRun(id: string, places: Places): { stdout_sha256: string; stderr_sha256: string } {
  const digest = (name: string) => hashFile(join(runDirectory(id, places), name)).sha256;
  return { stdout_sha256: digest(OUTPUT_FILES.stdout), stderr_sha256: digest(OUTPUT_FILES.stderr) };
}

/**
 * Cuts the output files to what is kept, and removes the package files and the oldest runs' directories. Only after the
 * digests are in the log: a digest of a cut file would be no digest of the output.
 */
export function closeRun(id: string, places: Places): void {
  rmSync(archivesOf(id, places), { recursive: true, force: true });
  for (const name of [OUTPUT_FILES.stdout, OUTPUT_FILES.stderr]) {
    const path = join(runDirectory(id, places), name);
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > KEEP_OUTPUT) truncateSync(path, KEEP_OUTPUT);
  }
  removeOldRuns(places.runs, id);
}

/** Follows a growing file: each call of `read` returns what has come since, at most `limit` bytes. */
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

/** Whole lines out of pieces; what follows the last newline waits for the next piece. */
export class Lines {
  #rest = "";

  push(piece: string): string[] {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = (lines.pop() ?? "").slice(-64 * 1024);
    return lines;
  }
}
