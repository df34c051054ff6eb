import { parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import type { Log } from "./log.ts";
import type { Reply } from "./wire.ts";
import { GARBAGE_PER_BYTE, sweepAfter } from "./wire-budget.ts";
import { type CallFailure, openCall } from "./wire-client.ts";
import {
  type Caller,
  type EventInput,
  EXECUTOR,
  type ExecutorCall,
  errorReply,
  type RequestsCall,
  readEvent,
  readRequestEvent,
  readRequests,
  readStatus,
  replyError,
} from "./wire-executor.ts";

interface Relay {
  runnerPath: string;
  aliveMs: number;
  noticeMs: number;
  log: Log;
  /** Whether the client wants every event, not only the last one. */
  more: boolean;
  send(reply: object): void;
  /** Called with the runner's refusal. */
  refused(error: AegisError): void;
  /** Called once, after the last reply was sent; not after `stop`. */
  done(): void;
  /** Called once, when the runner has finished the call, which may be long after `stop`. */
  ended(): void;
}

/** The calls about one execution. Each has its own connection to the runner. */
type ExecutionCall = Extract<ExecutorCall, { method: "Apply" | "Watch" }>;

/**
 * Relays one call to the runner over its own connection, with `caller` instead of the identity the client claims, and
 * relays the validated replies back. `stop` does not stop the runner: the connection stays open until the run has ended,
 * so that the client's slot stays taken for as long as the runner's.
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
  /** Ends a watch. A runner notices the hang-up only once it is up, so this waits for its first reply. */
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
    finish(errorReply(runnerFailure(failure, request.method, executionId)));
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

interface RequestRelay {
  runnerPath: string;
  aliveMs: number;
  log: Log;
  send(reply: object): void;
  /** Called once, after the last reply was sent; not after `stop`. */
  done(): void;
  /** Called once, when the runner has finished the call, which may be after `stop`. */
  ended(): void;
}

/**
 * Relays a call about requests on its own connection to the runner, with `caller` instead of the identity the client claims. The runner asks the client itself for a
 * proof of that, in an event that is relayed like any other. `stop` does not stop the runner.
 */
export function relayRequests(
  request: RequestsCall,
  caller: Caller,
  { runnerPath, aliveMs, log, send, done, ended }: RequestRelay,
): { stop(): void } {
  const { method } = request;
  const alive = () => send({ parameters: { event: { kind: "alive" } }, continues: true });
  const timer = method === "Requests" ? undefined : setInterval(alive, aliveMs);
  let stopped = false;
  const finish = (reply: object) => {
    clearInterval(timer);
    call.close();
    if (!stopped) {
      send(reply);
      done();
    }
    ended();
  };
  const onReply = (reply: Reply) => {
    const error = replyError(reply);
    if (error !== null) return finish(errorReply(error));
    const parameters = method === "Requests" ? readRequests(reply) : { event: readRequestEvent(reply) };
    if (!reply.continues) finish({ parameters });
    else if (!stopped) send({ parameters, continues: true });
    // Documents of several MB leave as much garbage as a large request does.
    const text = "documents" in parameters ? parameters.documents?.operation_plan : undefined;
    sweepAfter((text?.length ?? 0) * GARBAGE_PER_BYTE);
  };
  const onFailure = (failure: CallFailure) => {
    const problem = failure.error.message;
    log.error("the runner could not be asked", { method, uid: caller.uid, stage: failure.stage, problem });
    finish(errorReply(runnerFailure(failure, method)));
  };
  const parameters = { ...request.parameters, caller };
  const call = openCall(
    runnerPath,
    { method: `${EXECUTOR}.${method}`, parameters, more: true },
    { onReply, onFailure },
  );
  return {
    stop() {
      clearInterval(timer);
      stopped = true;
    },
  };
}

/** The id of the call's execution. A submitted plan has been verified by now. */
function executionOf(request: ExecutionCall): string {
  if (request.method === "Watch") return request.parameters.execution_id;
  const plan = parseJson(request.parameters.plan);
  if (typeof plan !== "object" || plan === null || !("execution_plan_id" in plan)) return "";
  return typeof plan.execution_plan_id === "string" ? plan.execution_plan_id : "";
}

/** The error for clients when the runner can't be reached or its answer breaks off. */
function runnerFailure(
  { stage, error }: CallFailure,
  method: Exclude<ExecutorCall["method"], "Report">,
  executionId = "",
): AegisError {
  if (stage === "connect") {
    const hint = "Type: aegis daemon status; the runner's log has more: journalctl -u 'aegis-runner*'";
    return new AegisError("unavailable", "the executor's runner can't be reached", hint);
  }
  // Only an Apply may have started something.
  const hint =
    method === "Apply"
      ? `A run that has started goes on. Follow it: aegis apply --watch ${executionId}`
      : "The runner's log says why: journalctl -u 'aegis-runner*'; see also: aegis daemon status";
  return new AegisError("protocol", `the runner's answer broke off: ${error.message}`, hint);
}

/** A client that wants the status. */
interface StatusClient {
  send(reply: object): void;
  /** Called once, after the answer; not after `stop`. */
  done(): void;
}

/**
 * Asks the runner for its status on behalf of all clients, one request at a time, so that many clients take one of the
 * runner's slots. A client that arrives during a request gets the answer to the next one: no answer predates its request.
 * `limitMs` is the runner's time limit.
 */
export function statusRelay({ runnerPath, limitMs, log }: { runnerPath: string; limitMs: number; log: Log }) {
  let current: Set<StatusClient> | null = null;
  let waiting = new Set<StatusClient>();

  const ask = () => {
    current = waiting.size === 0 ? null : waiting;
    if (current === null) return;
    waiting = new Set();
    const clients = current;
    const answer = (reply: object) => {
      clearTimeout(timer);
      call.close();
      for (const { send, done } of clients) {
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
      const why = `the runner did not report its status within ${limitMs / 1000} s`;
      log.error(why);
      answer(
        errorReply(new AegisError("timeout", why, "See the runner's log: journalctl -u 'aegis-runner*'")),
      );
    }, limitMs);
  };

  return {
    ask(client: StatusClient): { stop(): void } {
      waiting.add(client);
      if (current === null) ask();
      return {
        stop() {
          waiting.delete(client);
          current?.delete(client);
        },
      };
    },
  };
}
