import { byteBudget } from "./byte-budget.ts";
import { AegisError } from "./errors.ts";
import { FRONT_LIMITS, type FrontLimits } from "./front-limits.ts";
import { relay } from "./front-relay.ts";
import { statusDesk } from "./front-status.ts";
import type { Log } from "./log.ts";
import { places } from "./places.ts";
import { reportRefusals } from "./refusals.ts";
import { rememberUsedPlans } from "./used-plans.ts";
import { EXECUTOR_INTERFACE, readCall } from "./varlink-interface.ts";
import { type Listen, startServer } from "./varlink-server.ts";
import { serviceError } from "./varlink-service.ts";
import type { Service } from "./varlink-session.ts";

export interface FrontOptions {
  listen: Listen;
  runner: { path: string };
  limits?: Partial<FrontLimits>;
  /**
   * The cheap checks of a submitted plan's text; what it throws is the answer. The runner does them all again. Returns what
   * is wrong with the plan's lifetime, or null: whether an expired plan was used only the runner knows.
   */
  verify(plan: string): AegisError | null;
  log: Log;
}

/**
 * Starts the socket-facing half of the executor: it identifies and limits clients, refuses what is plainly wrong, and
 * relays the rest to the runner. It needs no privilege, and nothing rests on what it says.
 * @throws AegisError `exists` when another daemon has the path, `unavailable` with too few file descriptors, `io`
 */
export async function startFront(options: FrontOptions): Promise<{ close(): Promise<void> }> {
  const { listen, log } = options;
  const limits = { ...FRONT_LIMITS, ...options.limits };
  const refusals = reportRefusals(options.runner.path, limits.reportMs, log);
  const service: Service = {
    title: "the executor",
    interface: EXECUTOR_INTERFACE,
    start: executorCalls(options, limits),
    refused: (refusal) => refusals.add({ ...refusal, execution_id: null }),
  };
  // There are never more connections to the runner than clients, those of clients that left included.
  const sizes = { limits, budget: byteBudget(limits), descriptorsPerClient: 2 };
  const server = await startServer({ listen, service, log, ...sizes });
  return {
    async close() {
      await server.close();
      await refusals.close();
    },
  };
}

/** Hands each call to the runner, if it is fit for that. */
function executorCalls({ runner, verify, log }: FrontOptions, limits: FrontLimits): Service["start"] {
  const usedPlans = rememberUsedPlans();
  const applies = places(limits.applies, (uid) => (uid === 0 ? limits.applies : limits.appliesPerUid));
  const watches = places(limits.watches, () => limits.watchesPerUid);
  const status = statusDesk({ runnerPath: runner.path, limitMs: limits.statusMs, log });
  return (call, caller, { send, done }) => {
    const request = readCall(call);
    if ("answer" in request) {
      send({ parameters: request.answer });
      return null;
    }
    if (request.method === "Report") throw serviceError("MethodNotImplemented", { method: "Report" });
    if (request.method === "Status") return { ...status.ask({ send, done }), apart: false };
    const apart = request.method === "Apply";
    if (request.method === "Apply") {
      const { plan } = request.parameters;
      usedPlans.check(plan, verify(plan));
    }
    const leave = (apart ? applies : watches).take(caller.uid);
    if (leave === null) throw apart ? queueFull(limits) : tooManyWatch(limits);
    const work = relay(request, caller, {
      runnerPath: runner.path,
      aliveMs: limits.aliveMs,
      noticeMs: limits.noticeMs,
      log,
      more: call.more,
      send,
      refused: (error) => {
        if (request.method === "Apply") usedPlans.learn(request.parameters.plan, error);
      },
      done,
      ended: leave,
    });
    // A verified submission counts for the queue instead: its owner may have more of them waiting than connections.
    return { ...work, apart };
  };
}

function queueFull({ applies, appliesPerUid }: FrontLimits): AegisError {
  const why = `too many executions are waiting already: at most ${applies}, and ${appliesPerUid} of one user`;
  return new AegisError("busy", why, "Try again when some have ended: aegis daemon status");
}

function tooManyWatch({ watches, watchesPerUid }: FrontLimits): AegisError {
  const why = `too many watch executions already: at most ${watches}, and ${watchesPerUid} of one user`;
  return new AegisError("busy", why, "What runs goes on. Ask for its state: aegis daemon status");
}
