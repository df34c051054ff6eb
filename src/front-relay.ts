import { parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import type { Log } from "./log.ts";
import type { Reply } from "./wire.ts";
import { type CallFailure, openCall } from "./wire-client.ts";
import {
  type Caller,
  type EventInput,
  EXECUTOR,
  type ExecutorCall,
  errorReply,
  readEvent,
  readStatus,
  replyError,
} from "./wire-executor.ts";

interface Relay {
  runnerPath: string;
  aliveMs: number;
  noticeMs: number;
  log: Log;
  /** The client wants every event; without, only the last one. */
  more: boolean;
  send(reply: object): void;
  /** Hears how the runner refused the call. */
  refused(error: AegisError): void;
  /** Called once, after the last reply was sent; not after `stop`. */
  done(): void;
  /** Called once the runner is through with the call, which may be long after `stop`. */
  ended(): void;
}

/** The calls that are about one execution, and have a connection to the runner each. */
type ExecutionCall = Extract<ExecutorCall, { method: "Apply" | "Watch" }>;

/**
 * Passes one call on to the runner over a connection of its own, with `caller` in place of what the client said of
 * itself, and the checked answers back. `stop` leaves the runner alone: what it has begun goes on, and is listened to until
 * it has ended, so that it counts as long as it has a place there.
 */
export function relay(
  request: ExecutionCall,
  caller: Caller,
  { runnerPath, aliveMs, noticeMs, log, more, send, refused, done, ended }: Relay,
): { stop(): void } {
  const executionId = executionOf(request);
  const alive = () => {
    const event: EventInput = { execution_id: executionId, kind: "alive" };
    send({ parameters: { event }, continues: true });
  };
  const timer = more ? setInterval(alive, aliveMs) : undefined;
  let heard = false;
  let stopped = false;
  const finish = (reply: object) => {
    clearInterval(timer);
    call.close();
    ended();
    if (stopped) return;
    send(reply);
    done();
  };
  /** Nobody watches any more. A runner sees that only once it is up, which it is when it has said something. */
  const hangUp = () => {
    call.close();
    setTimeout(ended, noticeMs);
  };
  const onReply = (reply: Reply) => {
    heard = true;
    if (!stopped) timer?.refresh();
    const error = replyError(reply);
    if (error !== null) {
      refused(error);
      return finish(errorReply(error));
    }
    const parameters = { event: readEvent(reply) };
    if (!reply.continues) finish({ parameters });
    else if (stopped && request.method === "Watch") hangUp();
    else if (more) send({ parameters, continues: true });
  };
  const onFailure = (failure: CallFailure) => {
    log.error("the runner could not be asked", {
      method: request.method,
      execution: executionId,
      uid: caller.uid,
      stage: failure.stage,
      problem: failure.error.message,
    });
    finish(errorReply(runnerFailure(failure, request.method)));
  };
  const parameters = { ...request.parameters, caller };
  const call = openCall(
    runnerPath,
    { method: `${EXECUTOR}.${request.method}`, parameters, more: true },
    { onReply, onFailure },
  );
  return {
    stop() {
      clearInterval(timer);
      stopped = true;
      if (heard && request.method === "Watch") hangUp();
    },
  };
}

/** The execution that a call is about. A plan has been verified when it comes here. */
function executionOf(request: ExecutionCall): string {
  if (request.method === "Watch") return request.parameters.execution_id;
  const plan = parseJson(request.parameters.plan);
  if (typeof plan !== "object" || plan === null || !("execution_plan_id" in plan)) return "";
  return typeof plan.execution_plan_id === "string" ? plan.execution_plan_id : "";
}

/** What clients are told when the runner can't be asked. */
function runnerFailure(
  { stage, error }: CallFailure,
  method: Exclude<ExecutorCall["method"], "Report">,
): AegisError {
  if (stage === "connect") {
    const hint = "See aegis daemon status; the runner's own log has more: journalctl -u 'aegis-runner*'";
    return new AegisError("unavailable", "the executor's runner can't be reached", hint);
  }
  // Only an Apply that got no answer may have begun something.
  const hint =
    method === "Apply"
      ? "What was started goes on: aegis apply --watch <execution id> tells how it ends."
      : "Why is in the runner's own log: journalctl -u 'aegis-runner*'; see aegis daemon status too";
  return new AegisError("protocol", `the runner's answer broke off: ${error.message}`, hint);
}

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
