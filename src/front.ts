import { fstatSync } from "node:fs";
import { parseCanonical, sha256Hex } from "./canonical.ts";
import { AegisError, type ErrorCode, messageOf } from "./errors.ts";
import { checkLifetime, checkSignature, readExecution } from "./exec-preflight.ts";
import { relay, relayRequests, statusRelay } from "./front-relay.ts";
import { requestWatchers, type Watchers } from "./front-watchers.ts";
import { loadTrust } from "./key-trust.ts";
import type { BareKeys } from "./key-trusted-keys.ts";
import type { Log } from "./log.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { stopSignal } from "./self.ts";
import { byteBudget, slots } from "./wire-budget.ts";
import {
  type Caller,
  EXECUTOR_INTERFACE,
  type ExecutorCall,
  type RequestsCall,
  readCall,
} from "./wire-executor.ts";
import { FRONT_LIMITS, type FrontLimits } from "./wire-limits.ts";
import { reportRefusals } from "./wire-refusals.ts";
import { type Listen, startServer } from "./wire-server.ts";
import { serviceError } from "./wire-service.ts";
import type { Answer, Service } from "./wire-session.ts";

/** Limit on remembered plans. A forgotten one costs the runner another check. */
const LIMIT = 1000;
/** How the runner refuses a plan outside its lifetime. It checks for use first, so such a plan was not used. */
const NOT_IN_FORCE: readonly ErrorCode[] = ["expired", "not_yet_valid"];

export interface UsedPlans {
  /**
   * Refuses a plan whose use is known. `outside` is the error about the plan's lifetime, or null; the runner is asked once
   * whether such a plan was used.
   * @throws AegisError the runner's `replay` for a plan known to be used; `outside` for one known to be unused
   */
  check(plan: string, outside: AegisError | null): void;
  /** Remembers how the runner refused a plan. */
  learn(plan: string, refusal: AegisError): void;
}

/**
 * The front's cache of used plans. A used plan stays used, so submitting it again need not start a runner or write a log
 * line each time. These refusals are counted and reported like the front's others.
 */
export function rememberUsedPlans(): UsedPlans {
  /** The runner's refusal of a used plan; null for a plan that is unused and outside its lifetime. */
  const known = new Map<string, AegisError | null>();
  return {
    check(plan, outside) {
      if (known.size === 0) return;
      const hash = sha256Hex(plan);
      const refusal = known.get(hash);
      if (refusal === undefined) return;
      if (refusal !== null) throw refusal;
      if (outside !== null) throw outside;
      // The clock was changed and the plan is valid now, so it may be used.
      known.delete(hash);
    },
    learn(plan, refusal) {
      const { code, message, hint, details } = refusal;
      // A waiting or running plan is refused as `replay` too, but may still be refused for a temporary reason.
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
  /** Directory of the file with the states of requests. */
  states: string;
  limits?: Partial<FrontLimits>;
  /**
   * Cheap checks of a submitted plan's text; an error is the reply. The runner repeats them all. Returns the error about the
   * plan's lifetime, or null: only the runner knows whether an expired plan was used.
   */
  verify(plan: string): AegisError | null;
  log: Log;
}

/**
 * Starts the socket-facing half of the executor: it identifies and limits clients, refuses invalid requests, and relays
 * the rest to the runner. Needs no privileges, and the runner trusts nothing it says.
 * @throws AegisError `exists` if another daemon owns the socket path, `unavailable` with too few file descriptors, `io`
 */
export async function startFront(options: FrontOptions): Promise<{ close(): Promise<void> }> {
  const { listen, log } = options;
  const limits = { ...FRONT_LIMITS, ...options.limits };
  const refusals = reportRefusals(options.runner.path, limits.reportMs, log);
  const watchers = requestWatchers(options.states, limits, log);
  const service: Service = {
    title: "the executor",
    interface: EXECUTOR_INTERFACE,
    start: executorCalls(options, watchers, limits),
    refused: (refusal) => refusals.add({ ...refusal, execution_id: null }),
  };
  // One for the client and at most one to the runner, which stays open when its client leaves.
  const sizes = {
    ...{ limits, budget: byteBudget(limits) },
    ...{ descriptorsPerClient: 2, descriptorsApart: limits.watchers },
  };
  const server = await startServer({ listen, service, log, ...sizes });
  return {
    async close() {
      await server.close();
      watchers.close();
      await refusals.close();
    },
  };
}

/** Checks each call and relays it to the runner. */
function executorCalls(
  { runner, verify, log }: FrontOptions,
  watchers: Watchers,
  limits: FrontLimits,
): Service["start"] {
  const usedPlans = rememberUsedPlans();
  const applies = slots(limits.applies, (uid) => (uid === 0 ? limits.applies : limits.appliesPerUid));
  const watches = slots(limits.watches, () => limits.watchesPerUid);
  const status = statusRelay({ runnerPath: runner.path, limitMs: limits.statusMs, log });
  const requests = requestCalls(runner.path, watchers, limits, log);
  return (call, caller, answer) => {
    const { send, done } = answer;
    const request = readCall(call);
    if ("answer" in request) {
      send({ parameters: request.answer });
      return null;
    }
    if (request.method === "Report") throw serviceError("MethodNotImplemented", { method: "Report" });
    if (request.method !== "Apply" && request.method !== "Watch" && request.method !== "Status") {
      return requests(request, caller, call.more, answer);
    }
    if (request.method === "Status") return { ...status.ask({ send, done }), uncounted: false };
    const submits = request.method === "Apply";
    if (request.method === "Apply") {
      const { plan } = request.parameters;
      usedPlans.check(plan, verify(plan));
    }
    const leave = (submits ? applies : watches).take(caller.uid);
    if (leave === null) throw submits ? queueFull(limits) : tooManyWatch(limits);
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
    // A verified submission counts against the queue's limit, not against its user's connections.
    return { ...work, uncounted: submits };
  };
}

type WatchRequestsCall = Extract<ExecutorCall, { method: "WatchRequests" }>;

/** Relays the calls about requests to the runner, and lets clients wait. */
function requestCalls(runnerPath: string, watchers: Watchers, limits: FrontLimits, log: Log) {
  const places = slots(limits.requests, () => limits.requestsPerUid);
  return (
    request: RequestsCall | WatchRequestsCall,
    caller: Caller,
    more: boolean,
    { send, done, taken }: Answer,
  ): ReturnType<Service["start"]> => {
    const { method } = request;
    if (method !== "Requests" && !more) {
      throw new AegisError("protocol", `${method} sends more than one reply`, "Call it with more.");
    }
    if (request.method === "WatchRequests") {
      const work = watchers.watch(caller.uid, { number: request.parameters.number, send });
      return { ...work, uncounted: true, apart: true };
    }
    const leave = places.take(caller.uid);
    if (leave === null) throw tooManyAsk(limits);
    const context = { runnerPath, aliveMs: limits.aliveMs, log, send, done };
    // An answer may be large: the place is taken until the client has it.
    const work = relayRequests(request, caller, { ...context, ended: () => taken(leave) });
    return { ...work, uncounted: false };
  };
}

function tooManyAsk({ requests, requestsPerUid }: FrontLimits): AegisError {
  const why = `too many calls about requests at once: at most ${requests} in total and ${requestsPerUid} per user`;
  return new AegisError("busy", why, "Try again: they take a moment.");
}

function queueFull({ applies, appliesPerUid }: FrontLimits): AegisError {
  const why = `too many executions are waiting: at most ${applies} in total and ${appliesPerUid} per user`;
  return new AegisError("busy", why, "Try again when some have ended: aegis daemon status");
}

function tooManyWatch({ watches, watchesPerUid }: FrontLimits): AegisError {
  const why = `too many clients are watching executions: at most ${watches} in total and ${watchesPerUid} per user`;
  return new AegisError("busy", why, "Runs continue unwatched. See their state: aegis daemon status");
}

/**
 * Runs the front until a stop signal. It makes the checks that are cheap and need no privileges; the runner repeats them.
 */
export async function runFront(listen: FrontOptions["listen"], bare: BareKeys, log: Log): Promise<void> {
  const front = await startFront({
    listen,
    runner: { path: SYSTEM.runnerSocket },
    states: SYSTEM.run,
    verify: (plan) => checkCheaply(plan, bare),
    log,
  });
  await Promise.race([stopSignal(), parentEnd()]);
  await front.close().catch((error: unknown) => log.warn("closing", { problem: messageOf(error) }));
}

/** Resolves when the supervisor, which holds the other end of our stdin, ends. Under systemd there is none (StandardInput=null). */
function parentEnd(): Promise<void> {
  const stat = fstatSync(0);
  return new Promise((resolve) => {
    if (!stat.isFIFO() && !stat.isSocket()) return;
    const stop = () => resolve();
    process.stdin.on("end", stop).on("error", stop).resume();
  });
}

/** Throws errors of the plan, but returns those of its lifetime: a used plan is reported as used first. */
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
