import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { type AiReview, type Approval, type Hashed, type PolicyResult, readDocument } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { RequestSummary } from "./doc-request.ts";
import { AegisError } from "./errors.ts";
import { EXECUTOR_SERVICE } from "./front-client.ts";
import { SYSTEM } from "./paths.ts";
import { fileProblem, writeFully } from "./sys-files.ts";
import { callService, type RemoteService } from "./wire-client.ts";
import {
  type ProvenMethod,
  proofText,
  type RequestChange,
  type RequestEvent,
  readRequestChange,
  readRequestEvent,
  readRequests,
} from "./wire-executor.ts";

/* The command line's side of requests: asking, listing, deciding, withdrawing, waiting. */

const SERVICE: RemoteService = {
  ...EXECUTOR_SERVICE,
  // Not Apply's: nothing runs. And the runner may have done it although the answer was lost.
  brokenHint: "It may have been done nevertheless. See: aegis sign inbox --all",
};

export interface RequestCall {
  signal?: AbortSignal | undefined;
  /** Where the runner asks who calls. */
  proofs?: string | undefined;
}

/** Documents of a call: canonical JSON, as read and hashed, so that the runner sees the same bytes. */
export interface AskedDocuments {
  operation_plan: string;
  policy_result: string;
  review: string | null;
}

/**
 * Asks for a change that needs a person. The runner decides again by this host's policy, and keeps nothing that it denies.
 * The same submission again, by the same user, gives the request that is already there.
 * @throws AegisError `policy_denied`, `busy` (too many requests), `usage` (no approval is needed), `wrong_host`,
 * `expired`; `unavailable` if no executor answers; as {@link prove}
 */
export function submitRequest(
  socketPath: string,
  asked: AskedDocuments & { reason: string },
  options?: RequestCall,
): Promise<RequestSummary> {
  return change(socketPath, "Submit", asked, options);
}

/** A decision about a request. `request_hash` is requestHash() of what the approver was shown. */
export interface RequestDecision {
  number: number;
  request_hash: string;
}

/**
 * Hands over an approval, with the approver's own plan if they have planned again, or a rejection.
 * @throws AegisError `not_found`, `refused` (it has ended), `hash_mismatch` (another request was shown), `approval_invalid`,
 * `key_untrusted`, `drift` (the newer plan asks for something else), `policy_denied`; as {@link prove}
 */
export function decideRequest(
  socketPath: string,
  decision: RequestDecision & ({ approval: string; newer: AskedDocuments | null } | { rejection: string }),
  options?: RequestCall,
): Promise<RequestSummary> {
  const { number, request_hash } = decision;
  const parameters =
    "approval" in decision
      ? { number, request_hash, approval: decision.approval, ...decision.newer }
      : { number, request_hash, rejection: decision.rejection };
  return change(socketPath, "Decide", parameters, options);
}

/**
 * Ends a request of the caller's own; root may end anybody's.
 * @throws AegisError `not_found`, `refused` (it has ended, or it is somebody else's); as {@link prove}
 */
export function withdrawRequest(
  socketPath: string,
  { number, reason }: { number: number; reason: string | null },
  options?: RequestCall,
): Promise<RequestSummary> {
  return change(socketPath, "Withdraw", { number, reason }, options);
}

async function change(
  socketPath: string,
  method: ProvenMethod,
  given: object,
  { signal, proofs = join(SYSTEM.run, "proof") }: RequestCall = {},
): Promise<RequestSummary> {
  const parameters = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  let isProven = false;
  const onEvent = ({ proof }: RequestEvent) => {
    if (proof === null) return;
    // One call is proved once: with a second proof a compromised front could have it done twice.
    if (isProven) throw new AegisError("protocol", "the executor asks a second time who calls");
    isProven = true;
    prove(join(proofs, proof), proofText(method, parameters, proof));
  };
  const done = await callService(socketPath, SERVICE, { method, parameters, more: true }, readRequestEvent, {
    onEvent,
    ...(signal === undefined ? {} : { signal }),
  });
  if (done.kind !== "done") throw new AegisError("protocol", "the executor's answer has no request");
  return summaryOf(done.request);
}

/**
 * Answers the runner's question who calls, by writing into a pipe that the runner has made for this user and nobody else.
 * @throws AegisError `refused` for anything else, `io`
 */
function prove(path: string, text: string): void {
  let fd: number;
  try {
    fd = openSync(
      path,
      constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NOCTTY | constants.O_NONBLOCK,
    );
  } catch (error) {
    const hint = `The runner asks there who calls. In a container, make ${SYSTEM.run} of the host visible as a whole.`;
    throw new AegisError("io", `can't answer the executor in ${path}: ${fileProblem(error)}`, hint);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFIFO() || stat.uid !== process.geteuid?.() || stat.nlink !== 1) {
      throw new AegisError("refused", `${path} is not a pipe of this user's, so nothing was written`);
    }
    writeFully(fd, Buffer.from(text));
  } finally {
    closeSync(fd);
  }
}

/**
 * The requests that wait, newest first; with `all` those that ended too. `left_out` counts older ones that didn't fit.
 * @throws AegisError `unavailable`, `protocol`
 */
export async function listRequests(
  socketPath: string,
  { all, ...options }: { all: boolean } & Omit<RequestCall, "proofs">,
): Promise<{ requests: RequestSummary[]; left_out: number }> {
  const { requests, left_out } = await ask(socketPath, { all }, options.signal);
  return { requests: requests.map(summaryOf), left_out };
}

/** A request with the documents a person decides about; `documents` is null once it has ended. */
export interface FoundRequest {
  request: RequestSummary;
  documents: {
    plan: Hashed<OperationPlan>;
    policy: Hashed<PolicyResult>;
    review: Hashed<AiReview> | null;
    approvals: Approval[];
  } | null;
}

/**
 * One request with its documents.
 * @throws AegisError `not_found`, `unavailable`, `protocol` if the documents don't belong to it
 */
export async function readRequest(
  socketPath: string,
  number: number,
  options: Omit<RequestCall, "proofs"> = {},
): Promise<FoundRequest> {
  const answer = await ask(socketPath, { number }, options.signal);
  const request = summaryOf(answer.requests[0]);
  const { documents } = answer;
  if (request.number !== number)
    throw new AegisError("protocol", "the executor answered with another request");
  if (documents === null) return { request, documents: null };
  const plan = readDocument("plan", documents.operation_plan, "the request's plan");
  const policy = readDocument("policy", documents.policy_result, "the request's policy result");
  if (plan.hash !== request.plan_hash || policy.document.plan_hash !== plan.hash)
    throw new AegisError("protocol", "the executor answered with documents of another request");
  const review =
    documents.review === null ? null : readDocument("review", documents.review, "the request's review");
  const approvals = documents.approvals.map(
    (text) => readDocument("approval", text, "the request's approval").document,
  );
  return { request, documents: { plan, policy, review, approvals } };
}

function ask(socketPath: string, parameters: object, signal?: AbortSignal) {
  const call = { method: "Requests", parameters, more: false };
  return callService(socketPath, SERVICE, call, readRequests, signal === undefined ? {} : { signal });
}

function summaryOf(value: unknown): RequestSummary {
  const result = v.safeParse(RequestSummary, value, { abortEarly: true });
  if (result.success) return result.output;
  const where = v.getDotPath(result.issues[0]) ?? "";
  throw new AegisError("protocol", `malformed request in the executor's answer: ${where}`);
}

/** What is known of a request without asking for it. */
export interface KnownState {
  number: number;
  revision: number;
  state: string;
}

/**
 * Receives the states of requests: first of all that are kept, or of `number`, then `onCurrent` once, then every change. Ends
 * with `signal`'s reason, or when the connection breaks: nothing is lost by watching again.
 * @throws AegisError `not_found` for a `number` that isn't there, `busy`, `unavailable`; the reason of `signal`
 */
export async function watchRequests(
  socketPath: string,
  {
    number,
    onState,
    onCurrent,
    signal,
  }: {
    number: number | null;
    onState(known: KnownState): void;
    onCurrent?: (() => void) | undefined;
    signal?: AbortSignal | undefined;
  },
): Promise<never> {
  const onEvent = (event: RequestChange) => {
    if (event.kind === "current") onCurrent?.();
    if (event.kind === "none") throw new AegisError("not_found", `there is no request ${number} here`);
    const { number: changed, revision, state } = event;
    if (event.kind !== "state" || changed === null || revision === null || state === null) return;
    onState({ number: changed, revision, state });
  };
  const parameters = number === null ? {} : { number };
  const call = { method: "WatchRequests", parameters, more: true };
  await callService(socketPath, SERVICE, call, readRequestChange, {
    onEvent,
    ...(signal === undefined ? {} : { signal }),
  });
  throw new AegisError("protocol", "the executor stopped reporting requests");
}

/**
 * Waits until a request is no longer what `known` says, and returns what it is then. Ask for the rest with {@link readRequest}.
 * @throws AegisError as {@link watchRequests}
 */
export async function watchRequest(
  socketPath: string,
  known: { number: number; revision: number },
  signal?: AbortSignal,
): Promise<KnownState> {
  const found = new AbortController();
  let changed: KnownState | null = null;
  const onState = (state: KnownState) => {
    if (state.revision === known.revision) return;
    changed ??= state;
    found.abort();
  };
  const either = signal === undefined ? found.signal : AbortSignal.any([signal, found.signal]);
  try {
    return await watchRequests(socketPath, { number: known.number, onState, signal: either });
  } catch (error) {
    if (changed !== null) return changed;
    throw error;
  }
}
