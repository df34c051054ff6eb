import * as v from "valibot";
import { UUID } from "./canonical.ts";
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
const ReportParameters = v.strictObject({
  refusals: v.pipe(v.array(RefusalSchema), v.minLength(1), v.maxLength(MAX_REFUSALS)),
});

/** A call of io.aegis.Executor with its parameters checked. */
export type ExecutorCall =
  | { method: "Apply"; parameters: v.InferOutput<typeof ApplyParameters> }
  | { method: "Watch"; parameters: v.InferOutput<typeof WatchParameters> }
  | { method: "Status"; parameters: v.InferOutput<typeof StatusParameters> }
  | { method: "Report"; parameters: v.InferOutput<typeof ReportParameters> };

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
