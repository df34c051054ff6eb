import { join } from "node:path";
import type { AuditLog } from "./audit-log.ts";
import { canonicalJson, parseCanonical } from "./canonical.ts";
import { parseDocument } from "./doc.ts";
import { isPending, type RequestSummary } from "./doc-request.ts";
import { AegisError, messageOf } from "./errors.ts";
import { PARSE_LOCK } from "./exec.ts";
import { type Connection, type Pace, pace } from "./exec-connection.ts";
import { proveCaller } from "./exec-proof.ts";
import { addApproval, endRejected, endWithdrawn } from "./exec-request-decide.ts";
import type { RequestTexts } from "./exec-request-files.ts";
import {
  accountName,
  type Judged,
  type Judging,
  judgeDocuments,
  keepSubmitted,
} from "./exec-request-submit.ts";
import { type RequestStore, type RequestWorld, withRequests } from "./exec-requests.ts";
import type { RunnerWorld } from "./exec-world.ts";
import type { Log } from "./log.ts";
import { hostIdentity } from "./plan-world.ts";
import { BOOT_VARIABLE } from "./sys-boot.ts";
import { awaitFileLock } from "./sys-file-lock.ts";
import { readText } from "./sys-files.ts";
import { expendable } from "./sys-oom.ts";
import { GARBAGE_PER_BYTE, sweepAfter } from "./wire-budget.ts";
import type { RequestsAnswer, RequestsCall } from "./wire-executor.ts";

type ChangingCall = Exclude<RequestsCall, { method: "Requests" }>;

/** Of one user's changes, done or refused, each of which is an event of the log. */
const USER_PACE: Pace = { eachMs: 800, free: 60 };
/** Of calls whose user isn't proved, all together: a compromised front may name any. */
const UNPROVED_PACE: Pace = { eachMs: 800, free: 60 };
/** Limit on the summaries in one answer, in characters. */
const ANSWER_ROOM = 3 * 1024 * 1024;

interface CallContext {
  world: RunnerWorld;
  audit: AuditLog;
  connection: Connection;
  stop: AbortSignal;
  log: Log;
}

/**
 * Answers a call about requests. Who changes something is proved first; then the change is on disk and in the log before the answer
 * goes out, and so is a refusal.
 * @throws AegisError as it is refused
 */
export async function answerRequests(call: RequestsCall, context: CallContext): Promise<void> {
  const { world, connection, stop } = context;
  expendable();
  if (call.method === "Requests") {
    const { number, all } = call.parameters;
    const find = (store: RequestStore) =>
      number === null ? listed(store, all === true) : found(store, number);
    connection.reply(await withRequests(storeOf(context), stop, find));
    return;
  }
  let uid: number | null = null;
  try {
    uid = await proveCaller(
      { ...call, caller: call.parameters.caller, front: connection.peerUid },
      {
        directory: world.paths.proofs,
        announce: (proof) =>
          connection.send({ parameters: { event: { kind: "proof", proof } }, continues: true }),
        gone: () => connection.gone,
        stop,
      },
    );
    const request = await change(call, uid, context);
    await paceOf(uid, context);
    connection.reply({ event: { kind: "done", request } });
  } catch (error) {
    auditDenied(call, uid, error, context);
    await paceOf(uid, context);
    throw error;
  }
}

/** Root may fill its own disk. */
async function paceOf(uid: number | null, { world: { paths }, stop }: CallContext): Promise<void> {
  if (uid === null) await pace("request", UNPROVED_PACE, stop, paths);
  else if (uid !== 0) await pace(`request.${uid}`, USER_PACE, stop, paths);
}

/** The store as a runner opens it. */
export function storeOf({ world, audit, log }: Pick<CallContext, "world" | "audit" | "log">): RequestWorld {
  const warn = (what: string, problem: string) => log.warn(what, { problem });
  return { paths: world.paths, audit, now: () => new Date(), warn };
}

async function change(call: ChangingCall, uid: number, context: CallContext): Promise<RequestSummary> {
  const { world, stop } = context;
  const { trust, policy } = world.rules();
  const given: Judging = {
    ...{ paths: world.paths, trust, policy, now: new Date(), grammars: world.ecosystems },
    host: hostIdentity(readText, process.env[BOOT_VARIABLE]),
  };
  const judge = (texts: RequestTexts) => judgeAlone(texts, given, stop);
  const using = (action: (store: RequestStore) => RequestSummary) =>
    withRequests(storeOf(context), stop, action);
  switch (call.method) {
    case "Submit": {
      const { reason, ...texts } = call.parameters;
      const judged = await judge(textsOf(texts));
      return using((store) => keepSubmitted(judged, { reason, uid }, store, given));
    }
    case "Decide": {
      const { number, request_hash: hash, approval, rejection } = call.parameters;
      if ((approval === null) === (rejection === null))
        throw new AegisError("usage", "a decision is an approval or a rejection, one of them");
      if (rejection !== null)
        return using((store) => endRejected({ number, hash, rejection, uid }, store, given));
      const { operation_plan, policy_result, review } = call.parameters;
      if ((operation_plan === null) !== (policy_result === null))
        throw new AegisError("usage", "a newer plan and its policy result belong together");
      const newer =
        operation_plan === null || policy_result === null
          ? null
          : await judge({ operation_plan, policy_result, review });
      const signed = parseDocument("approval", parseCanonical(approval ?? ""), "the approval");
      return using((store) => addApproval({ number, hash, approval: signed, newer, uid }, store, given));
    }
    case "Withdraw":
      return using((store) => endWithdrawn({ ...call.parameters, uid }, store));
  }
}

function textsOf({ operation_plan, policy_result, review }: RequestTexts): RequestTexts {
  return { operation_plan, policy_result, review };
}

/** One process at a time parses: a parsed plan takes many times its size in memory. */
function judgeAlone(texts: RequestTexts, given: Judging, stop: AbortSignal): Promise<Judged> {
  const action = () => {
    try {
      return judgeDocuments(texts, given);
    } finally {
      sweepAfter(texts.operation_plan.length * GARBAGE_PER_BYTE);
    }
  };
  return awaitFileLock(join(given.paths.lock, PARSE_LOCK), action, stop);
}

function found(store: RequestStore, number: number): RequestsAnswer {
  const kept = store.find(number);
  const requests = [kept.request];
  if (!isPending(kept.request.state)) return { requests, left_out: 0, documents: null };
  const approvals = kept.approvals.map((approval) => canonicalJson(approval));
  return { requests, left_out: 0, documents: { ...store.texts(kept), approvals } };
}

/** Newest first, as many as fit into one message; the older ones are counted. */
function listed(store: RequestStore, all: boolean): RequestsAnswer {
  const kept = [...store.pending(), ...(all ? store.ended() : [])];
  const requests: RequestSummary[] = [];
  let room = ANSWER_ROOM;
  for (const { request } of kept.sort((a, b) => b.request.number - a.request.number)) {
    room -= JSON.stringify(request).length;
    if (room < 0) break;
    requests.push(request);
  }
  return { requests, left_out: kept.length - requests.length, documents: null };
}

/** The refusal stands although it can't be logged. */
function auditDenied(
  { method, parameters }: ChangingCall,
  uid: number | null,
  thrown: unknown,
  { audit, log }: CallContext,
): void {
  const { code, message, details } =
    thrown instanceof AegisError ? thrown : new AegisError("internal", messageOf(thrown));
  try {
    audit.append({
      kind: "request_denied",
      actor: uid === null ? null : accountName(uid),
      details: {
        ...details,
        ...{ code, message, method, request: "number" in parameters ? parameters.number : null },
        // Without a proof this is all that is known of who called.
        ...(uid === null ? { caller_reported_by_front: parameters.caller } : {}),
      },
    });
  } catch (error) {
    log.error("a refused request can't be logged", { code, problem: messageOf(error) });
  }
}
