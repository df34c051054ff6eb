import { readFileSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Result } from "./doc-result.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { peerOf } from "./sys-ffi.ts";
import { withFileLock } from "./sys-file-lock.ts";
import type { StatePaths } from "./sys-state.ts";
import { clip, showArgv } from "./terminal.ts";
import { encodeMessage, MAX_MESSAGE, MessageDecoder } from "./wire.ts";
import type { EventInput, Outcome } from "./wire-executor.ts";

const REQUEST_MS = 15_000;
/** Limit on output queued for a slow reader. Beyond it, pieces are dropped from the stream, but not from the file. */
const MAX_BACKLOG = 1024 * 1024;

/** Limit on a command and a name, in characters. */
const SHOWN = 500;
/** Limit on a message, in characters. */
const MESSAGE = 8192;

/** The part of a result file that clients get. */
export function outcomeForClients(result: Result): Outcome {
  const { execution_plan_id: execution_id, state, exit_status, code, started_at, ended_at } = result;
  const command = clip(showArgv(result.argv), SHOWN);
  const actor = result.actor === null ? null : clip(result.actor, SHOWN);
  const message = result.message === null ? null : clip(result.message, MESSAGE);
  return { execution_id, state, exit_status, code, message, command, actor, started_at, ended_at };
}

/** The connection on a socket that this process was given, its standard input. If the reader goes away, the run continues. */
export class Connection {
  readonly #socket = new Socket();
  readonly #fd: number;
  #open = true;

  constructor(fd = 0) {
    this.#fd = fd;
    this.#socket.on("error", () => {
      this.#open = false;
    });
    this.#socket.on("close", () => {
      this.#open = false;
    });
  }

  /** The uid at the other end: the front's. */
  get peerUid(): number {
    return peerOf(this.#fd).uid;
  }

  /** Whether the client has disconnected. */
  get gone(): boolean {
    return !this.#open;
  }

  /**
   * The text of the one request.
   * @throws AegisError `timeout`, `protocol`
   */
  request(): Promise<string> {
    return new Promise((resolve, reject) => {
      const decoder = new MessageDecoder(MAX_MESSAGE);
      const timer = setTimeout(
        () => reject(new AegisError("timeout", "no complete request came")),
        REQUEST_MS,
      );
      this.#socket.on("data", (chunk: Buffer) => {
        try {
          for (const text of decoder.push(chunk)) {
            clearTimeout(timer);
            resolve(text);
            return;
          }
        } catch (error) {
          clearTimeout(timer);
          reject(error);
        }
      });
      this.#socket.on("end", () =>
        reject(new AegisError("protocol", "the connection ended before the request did")),
      );
      connectDescriptor(this.#socket, this.#fd);
    });
  }

  event(event: EventInput): void {
    if (event.kind === "output" && this.#socket.writableLength > MAX_BACKLOG) return;
    this.send({ parameters: { event }, continues: true });
  }

  finished(result: Result): void {
    const outcome = outcomeForClients(result);
    this.reply({ event: { execution_id: outcome.execution_id, kind: "finished", outcome } });
  }

  reply(parameters: object): void {
    this.send({ parameters });
  }

  send(message: object): void {
    if (this.#open) this.#socket.write(encodeMessage(message));
  }

  /** Closes the connection once everything is written, or after a few seconds. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, 5000);
      if (this.#open) this.#socket.end(resolve);
      else resolve();
    });
  }
}

/** Bun opens an inherited descriptor with `connect`, whose Node types only have `path` and `port`. */
function connectDescriptor(socket: Socket, fd: number): void {
  const options: { path: string; fd?: number } = { path: "", fd };
  socket.connect(options);
}

/** A rate limit for log entries that any client can cause. */
export interface Pace {
  /** Delay per entry, in milliseconds. */
  eachMs: number;
  /** Entries without delay after a pause. */
  free: number;
}

/** The rate limit on refused plans. */
export const REFUSAL_PACE: Pace = { eachMs: 800, free: 60 };

/** How many may wait at once: the limit on connections to the runner. */
const WAITING = 48;

/**
 * How long an entry at `now` has to wait, and when the next one is due. All in milliseconds; `due` is this function's previous
 * result. If the clock was set back, the wait is at most that behind a full queue.
 */
export function nextDue({ eachMs, free }: Pace, due: number, now: number): { due: number; waitMs: number } {
  const from = Math.min(Math.max(due, now - free * eachMs), now + WAITING * eachMs);
  return { due: from + eachMs, waitMs: Math.max(0, from - now) };
}

/**
 * Waits after a log entry, so that a compromised front can't fill the disk: connections are limited, and each is held until its
 * delay has passed. `name` is the file that stores when the next entry is due. `stop` ends the wait.
 */
export async function pace(name: string, speed: Pace, stop: AbortSignal, paths: StatePaths): Promise<void> {
  // The locked file holds the due time.
  const path = join(paths.lock, name);
  const wait = withFileLock(path, () => {
    const { due, waitMs } = nextDue(speed, lastDue(path), Date.now());
    try {
      writeFileSync(path, String(due), { mode: 0o600 });
      return waitMs;
    } catch {
      // A full disk must not lift the limit.
      return speed.eachMs;
    }
  });
  if (wait === 0 || stop.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, wait);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function lastDue(path: string): number {
  try {
    const due = Number(readFileSync(path, "utf8"));
    return Number.isFinite(due) ? due : 0;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return 0;
    throw error;
  }
}
