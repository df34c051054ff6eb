import { AegisError } from "./errors.ts";
import type { Reply } from "./varlink.ts";
import { type CallFailure, openCall } from "./varlink-client.ts";
import { type Event, EXECUTOR, readEvent, readStatus, replyError, type Status } from "./varlink-interface.ts";

/** The daemon sends something every 15 s; three times that is silence. */
const SILENCE_MS = 45_000;

interface Options {
  /** Hears every event but the last one, which is the result. */
  onEvent?: (event: Event) => void;
  /** Stops waiting, and rejects with the signal's reason. What runs goes on. */
  signal?: AbortSignal;
  /** Give up after so many milliseconds without any message. */
  silenceMs?: number;
}

/**
 * Calls the executor at a socket: `Apply` and `Watch` stream events and resolve with the last one, `Status` resolves
 * with the answer.
 * @throws AegisError as the executor refused it; `unavailable` where no daemon answers or we may not talk to it;
 * `timeout` after a silence; `protocol` for a broken answer
 */
export function callExecutor(
  socketPath: string,
  method: "Apply",
  parameters: { plan: string },
  options?: Options,
): Promise<Event>;
export function callExecutor(
  socketPath: string,
  method: "Watch",
  parameters: { execution_id: string },
  options?: Options,
): Promise<Event>;
export function callExecutor(
  socketPath: string,
  method: "Status",
  parameters: Record<string, never>,
  options?: Options,
): Promise<Status>;
export function callExecutor(
  socketPath: string,
  method: "Apply" | "Watch" | "Status",
  parameters: object,
  options: Options = {},
): Promise<Event | Status> {
  const { onEvent, signal, silenceMs = SILENCE_MS } = options;
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      call.close();
    };
    const abort = () => {
      stop();
      reject(signal?.reason);
    };
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        stop();
        reject(
          new AegisError("timeout", `the executor has said nothing for ${silenceMs / 1000} s`, WATCH_HINT),
        );
      }, silenceMs);
    };
    const onReply = (reply: Reply) => {
      listen();
      const refusal = replyError(reply);
      if (refusal !== null) {
        stop();
        reject(refusal);
        return;
      }
      const result = method === "Status" ? readStatus(reply) : readEvent(reply);
      if (!reply.continues) {
        stop();
        resolve(result);
      } else if ("kind" in result) onEvent?.(result);
    };
    const onFailure = (failure: CallFailure) => {
      stop();
      reject(explain(failure, socketPath));
    };
    const message = { method: `${EXECUTOR}.${method}`, parameters, more: method !== "Status" };
    const call = openCall(socketPath, message, { onReply, onFailure });
    listen();
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort);
  });
}

const WATCH_HINT = "What was started goes on: aegis apply --watch <execution id> tells how it ends.";

function explain({ stage, errno, error }: CallFailure, path: string): AegisError {
  if (stage === "stream" && errno === "") {
    return new AegisError(error.code, error.message, error.hint || WATCH_HINT, error.details);
  }
  // An overloaded front closes at once, which may come before the connection is known to be made.
  if (stage === "stream" || errno === "ECONNRESET" || errno === "EPIPE") {
    const hint = `It may be busy: try again. ${WATCH_HINT}`;
    return new AegisError("unavailable", `the executor at ${path} hung up (${errno})`, hint, { errno });
  }
  if (errno === "EACCES" || errno === "EPERM") {
    const hint = "Join the group aegis-admin (sudo adduser <you> aegis-admin), then log in again.";
    return new AegisError("unavailable", `you may not talk to the executor at ${path}`, hint, { errno });
  }
  const hint = "Start it: sudo systemctl start aegisd.service, or by hand as root: aegis daemon --executor";
  return new AegisError("unavailable", `no executor answers at ${path} (${errno || error.message})`, hint, {
    errno,
  });
}
