import { type DecidedPlan, planAgainHere } from "./cmd-plan-again.ts";
import type { Io } from "./command.ts";
import { isPending, type RequestSummary } from "./doc-request.ts";
import { AegisError } from "./errors.ts";
import { decideRequest, type FoundRequest, listRequests, readRequest } from "./front-requests.ts";
import { safe } from "./terminal.ts";

/** The requests of a host, as an approver reaches them: here, or by ssh (cmd-via.ts). */
export interface Requests {
  /** Where they are, as the approver named it; null for this host. */
  via: string | null;
  list(all: boolean): Promise<{ requests: RequestSummary[]; left_out: number }>;
  read(number: number): Promise<FoundRequest>;
  /** The request, and what it would do now: planned again there, read-only. */
  readAgain(number: number): Promise<PendingRequest & { again: DecidedPlan }>;
  decide(decision: AnyDecision): Promise<RequestSummary>;
}

export type AnyDecision = Parameters<typeof decideRequest>[1];

/** A request that has not ended. */
export type PendingRequest = FoundRequest & { documents: NonNullable<FoundRequest["documents"]> };

/** The requests of this host. */
export function requestsHere(socket: string, io: Io): Requests {
  return {
    via: null,
    list: (all) => listRequests(socket, { all }),
    read: (number) => readRequest(socket, number),
    async readAgain(number) {
      const found = pending(await readRequest(socket, number));
      io.note("planning again on this host, read-only");
      return { ...found, again: await planAgainHere(found.documents.plan.document, io) };
    },
    decide: (decision) => decideRequest(socket, decision),
  };
}

/** @throws AegisError `refused` for a request that has ended */
export function pending(found: FoundRequest): PendingRequest {
  const { request, documents } = found;
  if (documents !== null && isPending(request.state)) return { request, documents };
  const by = request.end?.by === null || request.end === null ? "" : ` by ${safe(request.end.by)}`;
  throw new AegisError(
    "refused",
    `request ${request.number} has ended: ${request.state}${by}`,
    "See: aegis sign inbox --all",
  );
}
