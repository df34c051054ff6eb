import { fstatSync } from "node:fs";
import { parseCanonical, sha256Hex } from "./canonical.ts";
import { AegisError, type ErrorCode, messageOf } from "./errors.ts";
import { checkLifetime, checkSignature, readExecution } from "./exec-preflight.ts";
import { relay, statusDesk } from "./front-relay.ts";
import { loadTrust } from "./key-trust.ts";
import type { BareKeys } from "./key-trusted-keys.ts";
import type { Log } from "./log.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { stopSignal } from "./self.ts";
import { byteBudget, slots } from "./wire-budget.ts";
import { EXECUTOR_INTERFACE, readCall } from "./wire-executor.ts";
import { FRONT_LIMITS, type FrontLimits } from "./wire-limits.ts";
import { reportRefusals } from "./wire-refusals.ts";
import { type Listen, startServer } from "./wire-server.ts";
import { serviceError } from "./wire-service.ts";
import type { Service } from "./wire-session.ts";

/** Plans remembered at once; the oldest go first, and cost the runner one look again. */
const LIMIT = 1000;
/** How the runner refuses a plan that is not in force. Use is checked before: such a plan was not used. */
const NOT_IN_FORCE: readonly ErrorCode[] = ["expired", "not_yet_valid"];

export interface UsedPlans {
  /**
   * Refuses what needs no runner. `outside` is what is wrong with the plan's lifetime, null for nothing: the runner is asked
   * once whether such a plan was used.
   * @throws AegisError `replay`, as the runner said it, for a plan that it has found used; `outside`, for one that it has
   * found unused
   */
  check(plan: string, outside: AegisError | null): void;
  /** Hears how the runner refused a plan. */
  learn(plan: string, refusal: AegisError): void;
}

/**
 * What the front knows of plans that were used: a used plan stays used, so the runner need not be started, and a line of the
 * log written, each time somebody submits it once more. These refusals are counted and reported like the front's others.
 */
export function rememberUsedPlans(): UsedPlans {
  /** The runner's refusal of a used plan; null for a plan that was not used, and can't be while it is not in force. */
  const known = new Map<string, AegisError | null>();
  return {
    check(plan, outside) {
      if (known.size === 0) return;
      const hash = sha256Hex(plan);
      const refusal = known.get(hash);
      if (refusal === undefined) return;
      if (refusal !== null) throw refusal;
      if (outside !== null) throw outside;
      // In force after all, the clock having been set: it may be used now.
      known.delete(hash);
    },
    learn(plan, refusal) {
      const { code, message, hint, details } = refusal;
      // A plan that only waits or runs is refused as `replay` too, and may yet be refused for a reason that passes.
      const isUsed = code === "replay" && details["used"] === true;
      if (!isUsed && !NOT_IN_FORCE.includes(code)) return;
      const [oldest] = known.keys();
      if (known.size >= LIMIT && oldest !== undefined) known.delete(oldest);
      known.set(sha256Hex(plan), isUsed ? new AegisError(code, message, hint, details) : null);
    },
  };
}

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
  const applies = slots(limits.applies, (uid) => (uid === 0 ? limits.applies : limits.appliesPerUid));
  const watches = slots(limits.watches, () => limits.watchesPerUid);
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

/**
 * The front as a process: serves until a signal asks it to stop. What it checks of a plan is what costs little and needs
 * no privilege; the runner checks everything again.
 */
export async function runFront(listen: FrontOptions["listen"], bare: BareKeys, log: Log): Promise<void> {
  const front = await startFront({
    listen,
    runner: { path: SYSTEM.runnerSocket },
    verify: (plan) => checkCheaply(plan, bare),
    log,
  });
  await Promise.race([stopSignal(), parentEnd()]);
  await front.close().catch((error: unknown) => log.warn("closing", { problem: messageOf(error) }));
}

/** A supervisor holds the other end of our standard input. Started by systemd we have none (StandardInput=null). */
function parentEnd(): Promise<void> {
  const stat = fstatSync(0);
  return new Promise((resolve) => {
    if (!stat.isFIFO() && !stat.isSocket()) return;
    const stop = () => resolve();
    process.stdin.on("end", stop).on("error", stop).resume();
  });
}

/** Throws what is wrong with the plan, and returns what is wrong with its lifetime only: that comes after its use. */
function checkCheaply(text: string, bare: BareKeys): AegisError | null {
  const execution = readExecution(parseCanonical(text));
  const now = new Date();
  checkSignature(execution, loadTrust({ rootOnly: true, bare }), now);
  const config = loadPolicyConfig({}, { system: true });
  try {
    checkLifetime(execution, { now, config, installedAt: null, newestAudited: null });
    return null;
  } catch (error) {
    if (error instanceof AegisError) return error;
    throw error;
  }
}
