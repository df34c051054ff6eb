import { connect } from "node:net";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { encodeMessage, MAX_MESSAGE, MessageDecoder, parseReply, type Reply } from "./wire.ts";
import { type Interface, refusalIn } from "./wire-service.ts";

/** Why a call got no last reply: `connect` means that nothing was sent. */
export interface CallFailure {
  stage: "connect" | "stream";
  /** `ENOENT`, `EACCES`, …; empty where it is no system error. */
  errno: string;
  error: AegisError;
}

export interface CallHandlers {
  /** One reply; no other call of a handler follows the one that does not continue. */
  onReply(reply: Reply): void;
  /** The call has ended without its last reply. Called once, never after that reply. */
  onFailure(failure: CallFailure): void;
}

/**
 * Makes one varlink call on a connection of its own. `close` ends it; no handler is called afterwards. What a handler
 * throws counts as a failure of the stream.
 */
export function openCall(
  path: string,
  call: { method: string; parameters: object; more?: boolean },
  handlers: CallHandlers,
): { close(): void } {
  const decoder = new MessageDecoder(MAX_MESSAGE);
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
  socket.on("close", () => fail(new AegisError("protocol", "the connection ended before the answer")));
  return { close };
}

/** Our services send something every 15 s while they are at it; three times that is silence. */
const SILENCE_MS = 45_000;

export interface CallOptions<E> {
  /** Hears every event but the last one, which is the result. */
  onEvent?: (event: E) => void;
  /** Stops waiting, and rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Give up after so many milliseconds without any message. */
  silenceMs?: number;
}

/** A service as its clients speak of it. */
export interface RemoteService {
  interface: Interface;
  /** `the executor` */
  title: string;
  /** The members of this group may use its socket. */
  group: string;
  /** How to start it. */
  startHint: string;
  /** What an answer that breaks off means. */
  brokenHint: string;
}

/**
 * Makes one call of a service. `read` checks each reply: what it gives is handed to `onEvent` while more follows, and is the
 * result at the end.
 * @throws AegisError as the service refused; `unavailable` where no daemon answers or we may not talk to it; `timeout`
 * after a silence; `protocol` for a broken answer
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
        const why = `${service.title} has said nothing for ${silenceMs / 1000} s`;
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
  // An overloaded service closes at once, which may come before the connection is known to be made.
  if (stage === "stream" || errno === "ECONNRESET" || errno === "EPIPE") {
    const hint = `It may be busy: try again. ${brokenHint}`;
    return new AegisError("unavailable", `${title} at ${path} hung up (${errno})`, hint, { errno });
  }
  if (errno === "EACCES" || errno === "EPERM") {
    const hint = `Join the group ${group} (sudo usermod -aG ${group} <you>), then log in again.`;
    return new AegisError("unavailable", `you may not talk to ${title} at ${path}`, hint, { errno });
  }
  const why = `${title} does not answer at ${path} (${errno || error.message})`;
  return new AegisError("unavailable", why, startHint, { errno });
}
