import { AegisError } from "./errors.ts";
import type { Reply } from "./varlink.ts";
import { type CallFailure, openCall } from "./varlink-client.ts";
import { type Interface, refusalIn } from "./varlink-service.ts";

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
