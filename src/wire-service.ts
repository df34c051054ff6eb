import * as v from "valibot";
import { AegisError, isErrorCode } from "./errors.ts";
import { VERSION } from "./self.ts";
import { type Call, type Reply, VarlinkError } from "./wire.ts";
import { SERVICE_IDL } from "./wire-idl.ts";

/*
 * What every service of ours speaks beside its own interface: org.varlink.service, which every varlink service answers
 * (https://varlink.org/Service), and the error Refused, which has the same members in each of our interfaces.
 */

const SERVICE = "org.varlink.service";

/** The one interface of its own that a service has. */
export interface Interface {
  name: string;
  /** Its definition: https://varlink.org/Interface-Definition */
  idl: string;
}

export const shortText = v.pipe(v.string(), v.maxLength(1024));
export const longText = v.pipe(v.string(), v.maxLength(256 * 1024));
export const int = v.pipe(v.number(), v.safeInteger());
export const nonNegative = v.pipe(int, v.minValue(0));
/** A nullable varlink type: null and absent mean the same. */
export function maybe<S extends v.GenericSchema>(schema: S) {
  return v.nullish(schema, null);
}

/**
 * The method of `offered` that a call names; introspection comes back as the parameters of its finished answer.
 * @throws VarlinkError InterfaceNotFound, MethodNotFound or InvalidParameter of org.varlink.service
 */
export function methodOf(
  call: Call,
  offered: Interface,
): { method: string } | { answer: Record<string, unknown> } {
  const dot = call.method.lastIndexOf(".");
  const interfaceName = call.method.slice(0, Math.max(0, dot));
  const method = call.method.slice(dot + 1);
  if (interfaceName === SERVICE) return { answer: introspection(method, call, offered) };
  if (interfaceName !== offered.name) throw serviceError("InterfaceNotFound", { interface: interfaceName });
  return { method };
}

function introspection(method: string, call: Call, offered: Interface): Record<string, unknown> {
  switch (method) {
    case "GetInfo": {
      readParameters(v.strictObject({}), call);
      const interfaces = [SERVICE, offered.name];
      return { vendor: "Aegis", product: "aegis", version: VERSION, url: "", interfaces };
    }
    case "GetInterfaceDescription": {
      const { interface: wanted } = readParameters(v.strictObject({ interface: v.string() }), call);
      if (wanted === SERVICE) return { description: SERVICE_IDL };
      if (wanted === offered.name) return { description: offered.idl };
      throw serviceError("InterfaceNotFound", { interface: wanted.slice(0, 256) });
    }
    default:
      throw serviceError("MethodNotFound", { method });
  }
}

/**
 * The parameters of a call, checked.
 * @throws VarlinkError InvalidParameter
 */
export function readParameters<S extends v.GenericSchema>(schema: S, call: Call): v.InferOutput<S> {
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

/**
 * The reply that carries a thrown error: Refused of the service's interface for an AegisError; a fault of our own says
 * nothing of the inside.
 */
export function refusalReply(
  error: unknown,
  { name }: Interface,
): { error: string; parameters: Readonly<Record<string, unknown>> } {
  if (error instanceof VarlinkError) return { error: error.name, parameters: error.parameters };
  const { code, message, hint, details } =
    error instanceof AegisError
      ? error
      : new AegisError("internal", "an internal fault; see the service log");
  return { error: `${name}.Refused`, parameters: { code, message, hint, details } };
}

const RefusedParameters = v.strictObject({
  code: shortText,
  message: longText,
  hint: longText,
  details: v.record(v.string(), v.unknown()),
});

/**
 * The error that a reply of a service carries, in its words, with its code kept where we know it; null where the reply is no error.
 * `who` is the service in words.
 */
export function refusalIn(reply: Reply, { name }: Interface, who: string): AegisError | null {
  if (reply.error === null) return null;
  if (reply.error !== `${name}.Refused`)
    return new AegisError("protocol", `${who} answered with the error ${reply.error}`, "", {
      error: reply.error,
      parameters: reply.parameters,
    });
  const refused = v.safeParse(RefusedParameters, reply.parameters);
  if (!refused.success) return new AegisError("protocol", `${who} refused, in words we can't read`);
  const { code, message, hint, details } = refused.output;
  if (isErrorCode(code)) return new AegisError(code, message, hint, details, who);
  return new AegisError("protocol", message, hint, { ...details, code }, who);
}

/**
 * The parameters of a reply that is no error, checked.
 * @throws AegisError `protocol`
 */
export function readAnswer<S extends v.GenericSchema>(schema: S, reply: Reply): v.InferOutput<S> {
  const result = v.safeParse(schema, reply.parameters, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new AegisError("protocol", `an answer does not fit: ${v.getDotPath(issue) ?? ""} ${issue.message}`);
}
