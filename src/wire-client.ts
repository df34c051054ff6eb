import { connect } from "node:net";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { encodeMessage, MAX_REPLY, MessageDecoder, parseReply, type Reply } from "./wire.ts";
import { type Interface, refusalIn } from "./wire-service.ts";

/** Why a call got no final reply; with stage `connect` nothing was sent. */
export interface CallFailure {
  stage: "connect" | "stream";
  /** `ENOENT`, `EACCES`, …; empty if not a system error. */
  errno: string;
  error: AegisError;
}

export interface CallHandlers {
  /** A reply. No handler is called after the one that does not continue. */
  onReply(reply: Reply): void;
  /** The call ended without its final reply. Called at most once, and not after that reply. */
  onFailure(failure: CallFailure): void;
}

/**
 * Makes one varlink call on its own connection. After `close` no handler is called. An exception from a handler counts
 * as a failure of the stream.
 */
export function openCall(
  path: string,
  call: { method: string; parameters: object; more?: boolean },
  handlers: CallHandlers,
): { close(): void } {
  const decoder = new MessageDecoder(MAX_REPLY);
  let stage: CallFailure["stage"] = "connect";
  let over = false;
  const socket = connect({ path });
  const close = () => {
    over = true;
    socket.destroy();
  };
  const fail = (error: unknown) => {
    if (over) return;
    close();
    if (error instanceof AegisError) handlers.onFailure({ stage, errno: "", error });
    else
      handlers.onFailure({
        stage,
        errno: errnoOf(error),
        error: new AegisError("unavailable", messageOf(error)),
      });
  };
  socket.on("connect", () => {
    stage = "stream";
    socket.write(encodeMessage(call));
  });
  socket.on("data", (chunk: Buffer) => {
    try {
      for (const text of decoder.push(chunk)) {
        if (over) return;
        const reply = parseReply(text);
        handlers.onReply(reply);
        if (!reply.continues) close();
      }
    } catch (error) {
      fail(error);
    }
  });
  socket.on("error", fail);
  socket.on("close", () => fail(new AegisError("protocol", "the connection closed before the final reply")));
  return { close };
}

/** Our services send something every 15 s while working; three times that counts as silence. */
const SILENCE_MS = 45_000;

export interface CallOptions<E> {
  /** Receives every event but the last, which is the result. */
  onEvent?: (event: E) => void;
  /** Stops waiting and rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Milliseconds without a message before giving up. */
  silenceMs?: number;
}

/** How clients describe a service in messages. */
export interface RemoteService {
  interface: Interface;
  /** `the executor` */
  title: string;
  /** The group whose members may use its socket. */
  group: string;
  /** How to start it. */
  startHint: string;
  /** What to do when the answer breaks off. */
  brokenHint: string;
}

/**
 * Makes one call to a service. `read` checks each reply; its results go to `onEvent` while more follow, and the last
 * one is returned.
 * @throws AegisError as the service refused; `unavailable` if no daemon answers or we may not talk to it; `timeout`
 * after silence; `protocol` for a malformed answer
 */
export function callService<T>(
  path: string,
  service: RemoteService,
  call: { method: string; parameters: object; more: boolean },
  read: (reply: Reply) => T,
  { onEvent, signal, silenceMs = SILENCE_MS }: CallOptions<T> = {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      open.close();
    };
    const abort = () => {
      stop();
      reject(signal?.reason);
    };
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        stop();
        const why = `${service.title} has sent nothing for ${silenceMs / 1000} s`;
        reject(new AegisError("timeout", why, service.brokenHint));
      }, silenceMs);
    };
    const onReply = (reply: Reply) => {
      listen();
      const refusal = refusalIn(reply, service.interface, service.title);
      if (refusal !== null) {
        stop();
        reject(refusal);
        return;
      }
      const result = read(reply);
      if (reply.continues) {
        onEvent?.(result);
        return;
      }
      stop();
      resolve(result);
    };
    const onFailure = (failure: CallFailure) => {
      stop();
      reject(explain(failure, path, service));
    };
    const message = { ...call, method: `${service.interface.name}.${call.method}` };
    const open = openCall(path, message, { onReply, onFailure });
    listen();
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort);
  });
}

function explain({ stage, errno, error }: CallFailure, path: string, service: RemoteService): AegisError {
  const { title, group, startHint, brokenHint } = service;
  if (stage === "stream" && errno === "") {
    return new AegisError(error.code, error.message, error.hint || brokenHint, error.details);
  }
  // An overloaded service closes immediately, possibly before the connection is reported as established.
  if (stage === "stream" || errno === "ECONNRESET" || errno === "EPIPE") {
    const hint = `It may be busy: try again. ${brokenHint}`;
    return new AegisError("unavailable", `${title} at ${path} closed the connection (${errno})`, hint, {
      errno,
    });
  }
  if (errno === "EACCES" || errno === "EPERM") {
    const hint = `Join the group ${group} (sudo usermod -aG ${group} <you>), then log in again.`;
    return new AegisError("unavailable", `you may not talk to ${title} at ${path}`, hint, { errno });
  }
  const why = `${title} does not answer at ${path} (${errno || error.message})`;
  return new AegisError("unavailable", why, startHint, { errno });
}
