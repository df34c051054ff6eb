import * as v from "valibot";
import { AegisError, isErrorCode } from "./errors.ts";
import { type Call, type Reply, VarlinkError } from "./varlink.ts";
import { EXECUTOR_IDL, SERVICE_IDL } from "./varlink-idl.ts";
import { VERSION } from "./version.ts";

/*
 * What is spoken on the executor's two sockets: io.aegis.Executor, and org.varlink.service, which every varlink service
 * answers (https://varlink.org/Service). The schemas here are the definitions of varlink-idl.ts, checked.
 */

export const EXECUTOR = "io.aegis.Executor";
const SERVICE = "org.varlink.service";

const short = v.pipe(v.string(), v.maxLength(1024));
const long = v.pipe(v.string(), v.maxLength(256 * 1024));
const int = v.pipe(v.number(), v.safeInteger());
const count = v.pipe(int, v.minValue(0));
const uuid = v.pipe(v.string(), v.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "not a UUID"));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "not a SHA-256"));
/** A nullable varlink type: null and absent mean the same. */
function maybe<S extends v.GenericSchema>(schema: S) {
  return v.nullish(schema, null);
}

const CallerSchema = v.strictObject({ uid: int, gid: int, pid: int });
export type Caller = v.InferOutput<typeof CallerSchema>;

const OutcomeSchema = v.strictObject({
  execution_id: uuid,
  state: v.picklist(["running", "completed", "failed", "interrupted"]),
  exit_status: maybe(int),
  code: maybe(short),
  message: maybe(long),
  started_at: short,
  ended_at: maybe(short),
});
export type Outcome = v.InferOutput<typeof OutcomeSchema>;

const EventSchema = v.strictObject({
  execution_id: uuid,
  kind: v.picklist(["queued", "checking", "started", "progress", "output", "alive", "finished"]),
  place: maybe(count),
  percent: maybe(v.pipe(count, v.maxValue(100))),
  message: maybe(long),
  stream: maybe(short),
  data: maybe(long),
  outcome: maybe(OutcomeSchema),
});
/** An event as read: absent members are null. */
export type Event = v.InferOutput<typeof EventSchema>;
/** An event as written: what does not apply is left out. */
export type EventInput = v.InferInput<typeof EventSchema>;

const RefusalSchema = v.strictObject({
  code: short,
  count: v.pipe(int, v.minValue(1)),
  uid: int,
  request_sha256: maybe(sha256),
  execution_id: maybe(uuid),
});
export type Refusal = v.InferOutput<typeof RefusalSchema>;

/** Most entries of one Report, so that a report stays a small message. */
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
 * Reads a call of either interface: introspection comes back as the parameters of its finished answer.
 * @throws VarlinkError InterfaceNotFound, MethodNotFound or InvalidParameter of org.varlink.service
 */
export function readCall(call: Call): ExecutorCall | { answer: Record<string, unknown> } {
  const dot = call.method.lastIndexOf(".");
  const interfaceName = call.method.slice(0, Math.max(0, dot));
  const method = call.method.slice(dot + 1);
  if (interfaceName === SERVICE) return { answer: introspection(method, call) };
  if (interfaceName !== EXECUTOR) throw serviceError("InterfaceNotFound", { interface: interfaceName });
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

function introspection(method: string, call: Call): Record<string, unknown> {
  switch (method) {
    case "GetInfo": {
      readParameters(v.strictObject({}), call);
      const interfaces = [SERVICE, EXECUTOR];
      return { vendor: "Aegis", product: "aegis", version: VERSION, url: "", interfaces };
    }
    case "GetInterfaceDescription": {
      const { interface: wanted } = readParameters(v.strictObject({ interface: v.string() }), call);
      if (wanted === SERVICE) return { description: SERVICE_IDL };
      if (wanted === EXECUTOR) return { description: EXECUTOR_IDL };
      throw serviceError("InterfaceNotFound", { interface: wanted.slice(0, 256) });
    }
    default:
      throw serviceError("MethodNotFound", { method });
  }
}

function readParameters<S extends v.GenericSchema>(schema: S, call: Call): v.InferOutput<S> {
  const result = v.safeParse(schema, call.parameters, { abortEarly: true });
  if (result.success) return result.output;
  const parameter = (v.getDotPath(result.issues[0]) ?? "").slice(0, 256);
  throw serviceError("InvalidParameter", { parameter });
}

/** An error of org.varlink.service. */
export function serviceError(
  name: "InterfaceNotFound" | "MethodNotFound" | "MethodNotImplemented" | "InvalidParameter",
  parameters: Record<string, unknown>,
): VarlinkError {
  return new VarlinkError(`${SERVICE}.${name}`, parameters);
}

/** The reply that carries a thrown error: Refused for an AegisError; a fault of our own says nothing of the inside. */
export function errorReply(error: unknown): { error: string; parameters: Readonly<Record<string, unknown>> } {
  if (error instanceof VarlinkError) return { error: error.name, parameters: error.parameters };
  const { code, message, hint, details } =
    error instanceof AegisError
      ? error
      : new AegisError("internal", "an internal fault; see the service log");
  return { error: `${EXECUTOR}.Refused`, parameters: { code, message, hint, details } };
}

const RefusedParameters = v.strictObject({
  code: short,
  message: long,
  hint: long,
  details: v.record(v.string(), v.unknown()),
});

/** The error that a reply carries, with its code kept where we know it; null where the reply is no error. */
export function replyError(reply: Reply): AegisError | null {
  if (reply.error === null) return null;
  if (reply.error !== `${EXECUTOR}.Refused`)
    return new AegisError("protocol", `the executor answered with the error ${reply.error}`, "", {
      error: reply.error,
      parameters: reply.parameters,
    });
  const refused = v.safeParse(RefusedParameters, reply.parameters);
  if (!refused.success) return new AegisError("protocol", "the executor refused, in words we can't read");
  const { code, message, hint, details } = refused.output;
  if (isErrorCode(code)) return new AegisError(code, message, hint, details);
  return new AegisError("protocol", message, hint, { ...details, code });
}

/**
 * The event in an answer to Apply or Watch.
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

function readAnswer<S extends v.GenericSchema>(schema: S, reply: Reply): v.InferOutput<S> {
  const result = v.safeParse(schema, reply.parameters, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new AegisError("protocol", `an answer does not fit: ${v.getDotPath(issue) ?? ""} ${issue.message}`);
}
