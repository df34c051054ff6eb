import { executorAbsence } from "./front-absent.ts";
import { type CallOptions, callService, type RemoteService } from "./wire-client.ts";
import { type Event, EXECUTOR_INTERFACE, readEvent, readStatus, type Status } from "./wire-executor.ts";

/** The executor as clients describe it in messages. */
export const EXECUTOR_SERVICE: RemoteService = {
  interface: EXECUTOR_INTERFACE,
  title: "the executor",
  group: "aegis-admin",
  get startHint() {
    const { why, fix } = executorAbsence();
    return `${why.replace(/^./, (first) => first.toUpperCase())}. ${fix}`;
  },
  brokenHint: "A started execution continues: aegis apply --watch <execution id> shows how it ends.",
};

/**
 * Calls the executor at a socket: `Apply` and `Watch` stream events and resolve with the last one, `Status` resolves
 * with the answer. Aborting the wait does not stop a running execution.
 * @throws AegisError as the executor refused, or as {@link callService}
 */
export function callExecutor(
  socketPath: string,
  method: "Apply",
  parameters: { plan: string },
  options?: CallOptions<Event>,
): Promise<Event>;
export function callExecutor(
  socketPath: string,
  method: "Watch",
  parameters: { execution_id: string },
  options?: CallOptions<Event>,
): Promise<Event>;
export function callExecutor(
  socketPath: string,
  method: "Status",
  parameters: Record<string, never>,
  options?: CallOptions<Event>,
): Promise<Status>;
export function callExecutor(
  socketPath: string,
  method: "Apply" | "Watch" | "Status",
  parameters: object,
  { onEvent, ...options }: CallOptions<Event> = {},
): Promise<Event | Status> {
  if (method === "Status") {
    return callService(
      socketPath,
      EXECUTOR_SERVICE,
      { method, parameters, more: false },
      readStatus,
      options,
    );
  }
  const listening = onEvent === undefined ? options : { ...options, onEvent };
  return callService(socketPath, EXECUTOR_SERVICE, { method, parameters, more: true }, readEvent, listening);
}
