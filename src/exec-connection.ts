import { readFileSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Result } from "./doc-result.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { withFileLock } from "./sys-file-lock.ts";
import type { StatePaths } from "./sys-state.ts";
import { clip, showArgv } from "./terminal.ts";
import { encodeMessage, MAX_MESSAGE, MessageDecoder } from "./wire.ts";
import type { EventInput, Outcome } from "./wire-executor.ts";

const REQUEST_MS = 15_000;
/** Output waiting for a reader that is slower than the tool; beyond it pieces are left out of the stream, not of the file. */
const MAX_BACKLOG = 1024 * 1024;

/** Characters of a command and of a name. */
const SHOWN = 500;
/** Characters of a message. */
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

  /** Waits until everything is written, a few seconds at most. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, 5000);
      if (this.#open) this.#socket.end(resolve);
      else resolve();
    });
  }
}

/** Bun opens an inherited descriptor by `connect`; the types of node know only `path` and `port` there. */
function connectDescriptor(socket: Socket, fd: number): void {
  const options: { path: string; fd?: number } = { path: "", fd };
  socket.connect(options);
}

/** A rate limit for log entries that any client can cause. */
export interface Pace {
  /** Time that each costs, in milliseconds. */
  eachMs: number;
  /** How many are free after a pause. */
  free: number;
}

/** Refused plans. */
export const REFUSAL_PACE: Pace = { eachMs: 800, free: 60 };

/** As many may wait at once as there are connections to the runner. */
const WAITING = 48;

/**
 * How long the one at `now` has to wait, and when the next one is due. All in milliseconds; `due` is what this gave last time.
 * A clock that was set back costs no more than everybody who may be connected could.
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
