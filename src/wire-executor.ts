import * as v from "valibot";
import { canonicalHash, UUID } from "./canonical.ts";
import type { AegisError } from "./errors.ts";
import type { Call, Reply } from "./wire.ts";
import { EXECUTOR_IDL } from "./wire-idl.ts";
import {
  type Interface,
  int,
  longText,
  maybe,
  methodOf,
  nonNegative,
  readAnswer,
  readParameters,
  refusalIn,
  refusalReply,
  serviceError,
  shortText,
} from "./wire-service.ts";

/* The protocol of the executor's two sockets, io.aegis.Executor. The schemas check what wire-idl.ts defines. */

export const EXECUTOR = "io.aegis.Executor";
export const EXECUTOR_INTERFACE: Interface = { name: EXECUTOR, idl: EXECUTOR_IDL };

const uuid = v.pipe(v.string(), v.regex(UUID, "not a UUID"));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a SHA-256"));

const CallerSchema = v.strictObject({ uid: int, gid: int, pid: int });
export type Caller = v.InferOutput<typeof CallerSchema>;

const OutcomeSchema = v.strictObject({
  execution_id: uuid,
  state: v.picklist(["running", "completed", "failed", "interrupted"]),
  exit_status: maybe(int),
  code: maybe(shortText),
  message: maybe(longText),
  command: maybe(shortText),
  actor: maybe(shortText),
  started_at: shortText,
  ended_at: maybe(shortText),
});
export type Outcome = v.InferOutput<typeof OutcomeSchema>;

const EventSchema = v.strictObject({
  execution_id: uuid,
  kind: v.picklist(["queued", "checking", "started", "progress", "output", "alive", "finished"]),
  place: maybe(nonNegative),
  percent: maybe(v.pipe(nonNegative, v.maxValue(100))),
  message: maybe(longText),
  stream: maybe(shortText),
  data: maybe(longText),
  outcome: maybe(OutcomeSchema),
});
/** An event as read: absent members are null. */
export type Event = v.InferOutput<typeof EventSchema>;
/** An event as written: absent members are omitted. */
export type EventInput = v.InferInput<typeof EventSchema>;

const RefusalSchema = v.strictObject({
  code: shortText,
  count: v.pipe(int, v.minValue(1)),
  uid: int,
  request_sha256: maybe(sha256),
  execution_id: maybe(uuid),
});
export type Refusal = v.InferOutput<typeof RefusalSchema>;

/** Limit on the entries of one Report, to keep the message small. */
export const MAX_REFUSALS = 256;

const StatusSchema = v.strictObject({
  running: maybe(uuid),
  queued: v.pipe(v.array(uuid), v.maxLength(4096)),
  recent: v.pipe(v.array(OutcomeSchema), v.maxLength(1024)),
});
export type Status = v.InferOutput<typeof StatusSchema>;

const ApplyParameters = v.strictObject({ plan: v.string(), caller: maybe(CallerSchema) });
const WatchParameters = v.strictObject({ execution_id: uuid, caller: maybe(CallerSchema) });
const StatusParameters = v.strictObject({ caller: maybe(CallerSchema) });
const requestNumber = v.pipe(int, v.minValue(1));
/** Documents travel as strings that hold their canonical JSON, like plans. */
const document = v.string();
const SubmitParameters = v.strictObject({
  operation_plan: document,
  policy_result: document,
  review: maybe(document),
  reason: shortText,
  caller: maybe(CallerSchema),
});
const RequestsParameters = v.strictObject({
  number: maybe(requestNumber),
  all: maybe(v.boolean()),
  caller: maybe(CallerSchema),
});
const DecideParameters = v.strictObject({
  number: requestNumber,
  request_hash: sha256,
  approval: maybe(document),
  rejection: maybe(document),
  operation_plan: maybe(document),
  policy_result: maybe(document),
  review: maybe(document),
  caller: maybe(CallerSchema),
});
const WithdrawParameters = v.strictObject({
  number: requestNumber,
  reason: maybe(shortText),
  caller: maybe(CallerSchema),
});
const WatchRequestsParameters = v.strictObject({ number: maybe(requestNumber), caller: maybe(CallerSchema) });

/** Name of a proof: a pipe's name, see {@link RequestEvent}. */
const PROOF_NAME = /^[0-9a-f]{32}$/;

/**
 * An event of Submit, Decide or Withdraw as read. `proof` names the pipe into which the client writes what it asks for
 * ({@link proofText}), so that the runner knows it from the kernel and not from the front. `done` has the request.
 */
const RequestEventSchema = v.strictObject({
  kind: v.picklist(["proof", "alive", "done"]),
  proof: maybe(v.pipe(v.string(), v.regex(PROOF_NAME, "not the name of a proof"))),
  request: maybe(v.unknown()),
});
export type RequestEvent = v.InferOutput<typeof RequestEventSchema>;

/** The methods that a client has to prove. */
export type ProvenMethod = "Submit" | "Decide" | "Withdraw";

/**
 * What a client writes into a proof: a digest of the call as the client has made it, and of the proof's name. The front can
 * neither write there nor use one call's proof for another.
 */
export function proofText(method: ProvenMethod, parameters: object, proof: string): string {
  const { caller: _, ...own } = { caller: null, ...parameters };
  const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== null));
  return canonicalHash({ method: `${EXECUTOR}.${method}`, parameters: given, proof });
}

/** States of requests as WatchRequests sends them: first all or the one that was asked for, then changes. */
const RequestChangeSchema = v.strictObject({
  kind: v.picklist(["state", "none", "current", "alive"]),
  number: maybe(requestNumber),
  revision: maybe(requestNumber),
  state: maybe(shortText),
});
export type RequestChange = v.InferOutput<typeof RequestChangeSchema>;

const RequestsSchema = v.strictObject({
  requests: v.pipe(v.array(v.unknown()), v.maxLength(4096)),
  left_out: nonNegative,
  documents: maybe(
    v.strictObject({
      operation_plan: document,
      policy_result: document,
      review: maybe(document),
      approvals: v.pipe(v.array(document), v.maxLength(16)),
    }),
  ),
});
/** The answer to Requests: summaries, and of one request that has not ended its documents. */
export type RequestsAnswer = v.InferOutput<typeof RequestsSchema>;

const ReportParameters = v.strictObject({
  refusals: v.pipe(v.array(RefusalSchema), v.minLength(1), v.maxLength(MAX_REFUSALS)),
});

/** A call of io.aegis.Executor with its parameters checked. */
export type ExecutorCall =
  | { method: "Apply"; parameters: v.InferOutput<typeof ApplyParameters> }
  | { method: "Watch"; parameters: v.InferOutput<typeof WatchParameters> }
  | { method: "Status"; parameters: v.InferOutput<typeof StatusParameters> }
  | { method: "Submit"; parameters: v.InferOutput<typeof SubmitParameters> }
  | { method: "Requests"; parameters: v.InferOutput<typeof RequestsParameters> }
  | { method: "Decide"; parameters: v.InferOutput<typeof DecideParameters> }
  | { method: "Withdraw"; parameters: v.InferOutput<typeof WithdrawParameters> }
  | { method: "WatchRequests"; parameters: v.InferOutput<typeof WatchRequestsParameters> }
  | { method: "Report"; parameters: v.InferOutput<typeof ReportParameters> };

/** The calls about requests that the runner answers. WatchRequests is the front's: waiting holds no process of root's. */
export type RequestsCall = Extract<ExecutorCall, { method: "Submit" | "Requests" | "Decide" | "Withdraw" }>;

/**
 * Reads a call of io.aegis.Executor or of introspection; the latter is returned as the parameters of its answer.
 * @throws VarlinkError InterfaceNotFound, MethodNotFound or InvalidParameter of org.varlink.service
 */
export function readCall(call: Call): ExecutorCall | { answer: Record<string, unknown> } {
  const named = methodOf(call, EXECUTOR_INTERFACE);
  if ("answer" in named) return named;
  const { method } = named;
  switch (method) {
    case "Apply":
      return { method, parameters: readParameters(ApplyParameters, call) };
    case "Watch":
      return { method, parameters: readParameters(WatchParameters, call) };
    case "Status":
      return { method, parameters: readParameters(StatusParameters, call) };
    case "Submit":
      return { method, parameters: readParameters(SubmitParameters, call) };
    case "Requests":
      return { method, parameters: readParameters(RequestsParameters, call) };
    case "Decide":
      return { method, parameters: readParameters(DecideParameters, call) };
    case "Withdraw":
      return { method, parameters: readParameters(WithdrawParameters, call) };
    case "WatchRequests":
      return { method, parameters: readParameters(WatchRequestsParameters, call) };
    case "Report":
      return { method, parameters: readParameters(ReportParameters, call) };
    default:
      throw serviceError("MethodNotFound", { method });
  }
}

/** The reply for a thrown error: see {@link refusalReply}. */
export function errorReply(error: unknown): ReturnType<typeof refusalReply> {
  return refusalReply(error, EXECUTOR_INTERFACE);
}

/** The error in a reply, if any: see {@link refusalIn}. */
export function replyError(reply: Reply): AegisError | null {
  return refusalIn(reply, EXECUTOR_INTERFACE, "the executor");
}

/**
 * The event in a reply to Apply or Watch.
 * @throws AegisError `protocol`
 */
export function readEvent(reply: Reply): Event {
  return readAnswer(v.strictObject({ event: EventSchema }), reply).event;
}

/**
 * The answer to Status.
 * @throws AegisError `protocol`
 */
export function readStatus(reply: Reply): Status {
  return readAnswer(StatusSchema, reply);
}

/**
 * The event in a reply to Submit, Decide or Withdraw.
 * @throws AegisError `protocol`
 */
export function readRequestEvent(reply: Reply): RequestEvent {
  return readAnswer(v.strictObject({ event: RequestEventSchema }), reply).event;
}

/**
 * The event in a reply to WatchRequests.
 * @throws AegisError `protocol`
 */
export function readRequestChange(reply: Reply): RequestChange {
  return readAnswer(v.strictObject({ event: RequestChangeSchema }), reply).event;
}

/**
 * The answer to Requests. Summaries and documents are checked by their own schemas.
 * @throws AegisError `protocol`
 */
export function readRequests(reply: Reply): RequestsAnswer {
  return readAnswer(RequestsSchema, reply);
}
