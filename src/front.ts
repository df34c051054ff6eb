import { byteBudget } from "./byte-budget.ts";
import { AegisError } from "./errors.ts";
import { FRONT_LIMITS, type FrontLimits } from "./front-limits.ts";
import { relay } from "./front-relay.ts";
import type { Log } from "./log.ts";
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
  /** The cheap checks of a submitted plan's text; what it throws is the answer. The runner does them all again. */
  verify(plan: string): void;
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
  // Each client may need a connection to the runner.
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
  /** Apply calls that are at the runner now. */
  const applies = new Set<object>();
  return (call, caller, { send, done }) => {
    const request = readCall(call);
    if ("answer" in request) {
      send({ parameters: request.answer });
      return null;
    }
    if (request.method === "Report") throw serviceError("MethodNotImplemented", { method: "Report" });
    const apart = request.method === "Apply";
    if (request.method === "Apply") {
      verify(request.parameters.plan);
      usedPlans.check(request.parameters.plan);
      if (applies.size >= limits.applies) {
        const why = `${limits.applies} executions are waiting already`;
        throw new AegisError("busy", why, "Try again when some have ended: aegis daemon status");
      }
    }
    const work = relay(request, caller, {
      runnerPath: runner.path,
      aliveMs: limits.aliveMs,
      log,
      more: call.more,
      send,
      refused: (error) => {
        if (request.method === "Apply") usedPlans.learn(request.parameters.plan, error);
      },
      done: () => {
        applies.delete(call);
        done();
      },
    });
    if (apart) applies.add(call);
    const stop = () => {
      applies.delete(call);
      work.stop();
    };
    // A verified submission counts for the queue instead: its owner may have more of them waiting than connections.
    return { stop, apart };
  };
}
