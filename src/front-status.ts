import { AegisError } from "./errors.ts";
import { runnerFailure } from "./front-relay.ts";
import type { Log } from "./log.ts";
import type { Reply } from "./varlink.ts";
import { type CallFailure, openCall } from "./varlink-client.ts";
import { EXECUTOR, errorReply, readStatus, replyError } from "./varlink-interface.ts";

/** Somebody who asks for the status, and where the answer goes. */
interface Asker {
  send(reply: object): void;
  /** Called once, after the answer; not after `stop`. */
  done(): void;
}

/**
 * Asks the runner for its status on behalf of all clients, one question at a time: a crowd of them takes one place at the
 * runner. Whoever comes while a question is under way gets the answer to the next one, so that none is older than its asker.
 * `limitMs` is how long the runner may take.
 */
export function statusDesk({ runnerPath, limitMs, log }: { runnerPath: string; limitMs: number; log: Log }) {
  let asking: Set<Asker> | null = null;
  let waiting = new Set<Asker>();

  const ask = () => {
    asking = waiting.size === 0 ? null : waiting;
    if (asking === null) return;
    waiting = new Set();
    const askers = asking;
    const answer = (reply: object) => {
      clearTimeout(timer);
      call.close();
      for (const { send, done } of askers) {
        send(reply);
        done();
      }
      ask();
    };
    const onReply = (reply: Reply) => {
      const error = replyError(reply);
      answer(error === null ? { parameters: readStatus(reply) } : errorReply(error));
    };
    const onFailure = (failure: CallFailure) => {
      log.error("the runner could not be asked", {
        method: "Status",
        stage: failure.stage,
        problem: failure.error.message,
      });
      answer(errorReply(runnerFailure(failure, "Status")));
    };
    const call = openCall(
      runnerPath,
      { method: `${EXECUTOR}.Status`, parameters: {} },
      { onReply, onFailure },
    );
    const timer = setTimeout(() => {
      const why = `the runner has not told its status for ${limitMs / 1000} s`;
      log.error(why);
      answer(
        errorReply(new AegisError("timeout", why, "See the runner's own log: journalctl -u 'aegis-runner*'")),
      );
    }, limitMs);
  };

  return {
    ask(asker: Asker): { stop(): void } {
      waiting.add(asker);
      if (asking === null) ask();
      return {
        stop() {
          waiting.delete(asker);
          asking?.delete(asker);
        },
      };
    },
  };
}
