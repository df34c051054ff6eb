import { Socket } from "node:net";
import { AegisError } from "./errors.ts";
import type { Result } from "./results.ts";
import { clip, showArgv } from "./terminal.ts";
import { encodeMessage, MAX_MESSAGE, MessageDecoder } from "./varlink.ts";
import type { EventInput, Outcome } from "./varlink-interface.ts";

const REQUEST_MS = 15_000;
/** Output waiting for a reader that is slower than the tool; beyond it pieces are left out of the stream, not of the file. */
const MAX_BACKLOG = 1024 * 1024;

/** Characters of a command and of a name. */
const SHOWN = 500;
/** Characters of a message. */
const MESSAGE = 8192;

/** What clients hear of a result file. */
export function outcomeOf(result: Result): Outcome {
  const { execution_plan_id: execution_id, state, exit_status, code, started_at, ended_at } = result;
  const command = clip(showArgv(result.argv), SHOWN);
  const actor = result.actor === null ? null : clip(result.actor, SHOWN);
  const message = result.message === null ? null : clip(result.message, MESSAGE);
  return { execution_id, state, exit_status, code, message, command, actor, started_at, ended_at };
}

/** The one connection, as file descriptor 0. A reader that has gone away changes nothing for the run. */
export class Connection {
  readonly #socket = new Socket();
  #open = true;

  constructor() {
    this.#socket.on("error", () => {
      this.#open = false;
    });
    this.#socket.on("close", () => {
      this.#open = false;
    });
  }

  /** Whether nobody is there to hear an answer any more. */
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
      connectDescriptor(this.#socket, 0);
    });
  }

  event(event: EventInput): void {
    if (event.kind === "output" && this.#socket.writableLength > MAX_BACKLOG) return;
    this.send({ parameters: { event }, continues: true });
  }

  finished(result: Result): void {
    const outcome = outcomeOf(result);
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
