import * as v from "valibot";
import { AegisError, isErrorCode } from "./errors.ts";
import { VERSION } from "./self.ts";
import { type Call, type Reply, VarlinkError } from "./wire.ts";
import { SERVICE_IDL } from "./wire-idl.ts";

/*
 * Common to all our services: org.varlink.service, which every varlink service implements
 * (https://varlink.org/Service), and the error Refused, which has the same members in each of our interfaces.
 */

const SERVICE = "org.varlink.service";

/** A service's own interface. */
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
 * The method of `offered` that a call names; for introspection, the parameters of the answer.
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
 * The reply for a thrown error: Refused of the service's interface for an AegisError. Internal faults reveal no
 * details.
 */
export function refusalReply(
  error: unknown,
  { name }: Interface,
): { error: string; parameters: Readonly<Record<string, unknown>> } {
  if (error instanceof VarlinkError) return { error: error.name, parameters: error.parameters };
  const { code, message, hint, details } =
    error instanceof AegisError ? error : new AegisError("internal", "internal error; see the service log");
  return { error: `${name}.Refused`, parameters: { code, message, hint, details } };
}

const RefusedParameters = v.strictObject({
  code: shortText,
  message: longText,
  hint: longText,
  details: v.record(v.string(), v.unknown()),
});

/**
 * The error in a service's reply, with its wording, and its code if we know it; null if the reply is not an error.
 * `who` names the service.
 */
export function refusalIn(reply: Reply, { name }: Interface, who: string): AegisError | null {
  if (reply.error === null) return null;
  if (reply.error !== `${name}.Refused`)
    return new AegisError("protocol", `${who} answered with the error ${reply.error}`, "", {
      error: reply.error,
      parameters: reply.parameters,
    });
  const refused = v.safeParse(RefusedParameters, reply.parameters);
  if (!refused.success) return new AegisError("protocol", `${who} refused, with a malformed error`);
  const { code, message, hint, details } = refused.output;
  if (isErrorCode(code)) return new AegisError(code, message, hint, details, who);
  return new AegisError("protocol", message, hint, { ...details, code }, who);
}

/**
 * The parameters of a successful reply, checked.
 * @throws AegisError `protocol`
 */
export function readAnswer<S extends v.GenericSchema>(schema: S, reply: Reply): v.InferOutput<S> {
  const result = v.safeParse(schema, reply.parameters, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new AegisError("protocol", `malformed answer: ${v.getDotPath(issue) ?? ""} ${issue.message}`);
}
