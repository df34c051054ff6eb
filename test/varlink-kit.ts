import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Log } from "../src/log.ts";
import { type Call, encodeMessage, MAX_MESSAGE, MAX_REPLY, MessageDecoder, parseCall } from "../src/wire.ts";

/** Shared by tests of the socket code: raw clients, a fake runner, a log that records. */

export const ID = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
export const PLAN = JSON.stringify({ execution_plan_id: ID });
export const REFUSED = "io.aegis.Executor.Refused";

export function temporaryDirectory(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "aegis-test-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

interface Message {
  error?: string;
  continues?: boolean;
  parameters: Record<string, unknown>;
}

/** A client that sends arbitrary bytes and records the answers. */
export class RawClient {
  readonly messages: Message[] = [];
  readonly closed: Promise<void>;
  readonly socket: Socket;
  #waiters: (() => void)[] = [];

  constructor(path: string) {
    const decoder = new MessageDecoder(MAX_REPLY);
    this.socket = connect({ path, allowHalfOpen: true });
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk: Buffer) => {
      for (const text of decoder.push(chunk)) this.messages.push(JSON.parse(text));
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      const done = () => {
        this.socket.end();
        resolve();
        this.#wake();
      };
      this.socket.on("end", done);
      this.socket.on("close", done);
    });
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  send(data: string | Uint8Array | object): this {
    this.socket.write(typeof data === "string" || data instanceof Uint8Array ? data : encodeMessage(data));
    return this;
  }

  /** Waits until `count` messages have come in total and returns the last. */
  async reply(count = 1): Promise<Message> {
    for (;;) {
      const message = this.messages[count - 1];
      if (message !== undefined) return message;
      if (this.socket.destroyed) throw new Error(`closed after ${this.messages.length} of ${count} messages`);
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Code of the refusal in the `count`th message; its varlink error if it is not a refusal. */
  async refusal(count = 1): Promise<unknown> {
    const { error, parameters } = await this.reply(count);
    return error?.endsWith(".Refused") ? parameters.code : error;
  }
}

type Answer = (call: Call, reply: (message: object) => void, socket: Socket) => void;

/** A fake runner. `Report` calls are answered and recorded; everything else goes to `answer`. */
export async function startRunner(path: string, answer: Answer) {
  const calls: Call[] = [];
  const reports: { code: string; count: number; uid: number; request_sha256: string | null }[][] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const decoder = new MessageDecoder(MAX_MESSAGE);
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    const reply = (message: object) => socket.write(encodeMessage(message));
    socket.on("data", (chunk: Buffer) => {
      for (const text of decoder.push(chunk)) {
        const call = parseCall(text);
        if (call.method === "io.aegis.Executor.Report") {
          reports.push(JSON.parse(text).parameters.refusals);
          reply({ parameters: {} });
          continue;
        }
        calls.push(call);
        answer(call, reply, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  return {
    calls,
    reports,
    sockets,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

export function memoryLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const at = (level: string) => (message: string) => lines.push(`${level} ${message}`);
  return { lines, error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

/** Waits until `condition` holds; the test's time limit ends the wait otherwise. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}

/** A client's call. */
export function call(method: string, parameters: object, rest: object = {}): object {
  return { method: `io.aegis.Executor.${method}`, parameters, ...rest };
}

/** An answer with one event. */
export function event(kind: string, rest: object = {}, continues = kind !== "finished"): object {
  return { parameters: { event: { execution_id: ID, kind, ...rest } }, ...(continues ? { continues } : {}) };
}
