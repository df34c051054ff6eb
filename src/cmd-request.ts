import { canonicalJson } from "./canonical.ts";
import { submitPlan, watchExecution } from "./cmd-apply-run.ts";
import { readAndDecide } from "./cmd-decide.ts";
import { renderSteps } from "./cmd-next.ts";
import { signableDocuments } from "./cmd-plan-again.ts";
import { ageText, askedFor, askerOf, requestSteps } from "./cmd-request-view.ts";
import { noteOtherId, requireKey, signerName } from "./cmd-sign-args.ts";
import { signExecution } from "./cmd-sign-execution.ts";
import type { Io } from "./command.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { isPending, type RequestSummary } from "./doc-request.ts";
import { documentPath } from "./doc-store.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { assertPermitted } from "./exec-embedded.ts";
import { assertFresh } from "./exec-plan.ts";
import { snapshotProof } from "./exec-snapshot-id.ts";
import { readRequest, submitRequest, watchRequest } from "./front-requests.ts";
import type { SecretKey } from "./key.ts";
import { loadTrust, userTrust, withOwnKey } from "./key-trust.ts";
import { unlockSecret } from "./key-unlock.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { safe } from "./terminal.ts";

/* `aegis apply --request`: asks a person, waits for the decision, signs and applies. */

/** A request's number as people type it. Longer digits may be the beginning of an id. */
const NUMBER = /^[1-9]\d{0,6}$/;
/** Pauses between attempts to reach an executor that doesn't answer, in milliseconds. */
const PAUSES_MS = [500, 1000, 2000, 5000, 15_000];

interface RequestFlags {
  /** A plan, or the number of an own request. */
  request: string;
  reason?: string | undefined;
  review?: string | undefined;
  wait: boolean;
  "wait-minutes"?: string | undefined;
  key?: string | undefined;
  "key-id"?: string | undefined;
  signer?: string | undefined;
  "snapshot-id": string[];
  socket: string;
}

/**
 * Submits a request, or goes on with an own one: waits if asked to, and once it is approved signs its plan with this account's
 * execution key and applies it. Exits 4 while a person has to decide.
 * @throws AegisError `rejected`, `request_ended`, `approval_required` when the waiting ends, `policy_denied`, `drift`; as
 * submitRequest, buildExecutionPlan and submitPlan
 */
export async function askPerson(flags: RequestFlags, io: Io): Promise<ExitStatus> {
  const limit = limitOf(flags);
  const unlock = () => unlockSecret("signing", { file: flags.key, hex: undefined }, io.env, io.note);
  // With --wait the passphrase is asked for now: nobody is at the terminal when the approval comes.
  let key = limit === null ? null : await unlock();
  const submitted = NUMBER.test(flags.request) ? null : await submit(flags, io);
  const asked = submitted?.asked ?? null;
  let request = submitted?.request ?? (await resumed(flags));
  if (limit === null && request.state === "approved") key = await unlock();
  if (limit !== null && waits(request, key)) {
    tellWaiting(request, key, io);
    request = await decided(request, key, limit, flags, io);
  }
  const { number, state, end } = request;
  if (state === "applied" && end?.execution_id) return watchExecution(end.execution_id, flags.socket, io);
  if (!isPending(state)) throw ended(request);
  if (state === "approved" && key !== null) return signAndApply(number, asked, key, flags, io);
  report(request, key, io);
  return EXIT.approval;
}

/** Milliseconds to wait at most; null without --wait. */
function limitOf({ wait, "wait-minutes": minutes }: RequestFlags): number | null {
  if (minutes === undefined) return wait ? Number.POSITIVE_INFINITY : null;
  if (!/^[1-9]\d{0,4}$/.test(minutes)) {
    throw new AegisError("usage", "--wait-minutes takes a whole number of minutes, at least 1");
  }
  return Number(minutes) * 60_000;
}

/** Without a key somebody else signs what was approved, and the run is what is waited for. */
function waits({ state }: RequestSummary, key: SecretKey | null): boolean {
  return state === "open" || (state === "approved" && key === null);
}

/** Decides first: what policy denies is never submitted, and what needs no person needs no request. */
async function submit(
  flags: RequestFlags,
  io: Io,
): Promise<{ request: RequestSummary; asked: OperationPlan }> {
  const { reason, socket } = flags;
  if (reason === undefined) {
    const hint = "Add --reason <why>: the approver reads it.";
    throw new AegisError("usage", "a request needs a reason", hint);
  }
  const named = { plan: flags.request, review: flags.review };
  let { plan, review, result } = await readAndDecide(named, io, { exact: true });
  const own = documentPath("review", plan.document.plan_id, io.env);
  // A review that was made is never left out.
  if (review === undefined && flags.request !== "-" && (await Bun.file(own).exists()))
    ({ plan, review, result } = await readAndDecide({ ...named, review: own }, io, { exact: true }));
  assertFresh(plan.document, result, new Date());
  assertPermitted(result);
  if (!result.required_controls.includes("human approval")) {
    throw new AegisError(
      "usage",
      `policy decides ${result.decision}, so nobody has to approve`,
      `Sign it: aegis sign ${plan.path === null ? "<plan file>" : plan.document.plan_id}${result.required_controls.length > 0 ? " --snapshot-id <snapshot>" : ""}`,
    );
  }
  const documents = {
    operation_plan: canonicalJson(plan.document),
    policy_result: canonicalJson(result),
    review: review === undefined ? null : canonicalJson(review.document),
  };
  return { request: await submitRequest(socket, { ...documents, reason }), asked: plan.document };
}

/** @throws AegisError `usage` for somebody else's request */
async function resumed({ request: typed, reason, review, socket }: RequestFlags): Promise<RequestSummary> {
  if (reason !== undefined || review !== undefined) {
    const hint = `Type: aegis apply --request ${typed} --wait`;
    throw new AegisError("usage", `request ${typed} has its reason and review already`, hint);
  }
  const { request } = await readRequest(socket, Number(typed));
  if (request.uid === process.geteuid?.()) return request;
  const hint = `Whoever signs for others types: aegis sign --request ${typed}`;
  throw new AegisError("usage", `request ${typed} is not this account's: ${askerOf(request)} made it`, hint);
}

/** On stderr, since stdout has the outcome of the run. */
function tellWaiting(request: RequestSummary, key: SecretKey | null, io: Io): void {
  const names = approversHere(io);
  const who = names.length === 0 ? "an approver" : names.map(safe).join(" or ");
  if (request.state === "open") {
    io.note(`request ${request.number} waits for ${who}: ${askedFor(request)}`);
    io.note(`they type on this host: aegis sign approve ${request.number}`);
  }
  if (key === null)
    io.note(`this account has no execution key: whoever signs types aegis sign --request ${request.number}`);
  io.note(`it expires in ${ageText(Date.now(), request.expires_at)}; stopping here doesn't withdraw it`);
}

/** The names that approval keys have here, as far as this account may read that. */
function approversHere({ env }: Io): string[] {
  try {
    const now = Date.now();
    const names = loadTrust({ rootOnly: false }).flatMap(({ role, name, revoked, notBefore, notAfter }) => {
      const isValid = (notBefore?.getTime() ?? 0) <= now && (notAfter?.getTime() ?? now) >= now;
      return role === "approval" && name !== null && !revoked && isValid ? [name] : [];
    });
    return [...new Set(names)].filter((name) => name !== env["USER"]);
  } catch {
    return [];
  }
}

/**
 * Waits until there is nothing left to wait for: decided, ended, or applied by whoever signed.
 * @throws AegisError `approval_required` at the limit, `stopped`
 */
async function decided(
  request: RequestSummary,
  key: SecretKey | null,
  limitMs: number,
  { socket }: RequestFlags,
  io: Io,
): Promise<RequestSummary> {
  const { number } = request;
  const again = `aegis apply --request ${number} --wait`;
  const controller = new AbortController();
  const stop = () => {
    const why = "you stopped waiting; the request still waits for a decision";
    const hint = `Go on: ${again}; or end it: aegis sign withdraw ${number}`;
    controller.abort(new AegisError("stopped", why, hint));
  };
  const late = () => {
    const why = `nobody has decided about request ${number} yet; it still waits`;
    controller.abort(new AegisError("approval_required", why, `Go on waiting: ${again}`, { number }));
  };
  const timer = Number.isFinite(limitMs) ? setTimeout(late, limitMs) : null;
  process.once("SIGINT", stop);
  try {
    let known = request;
    while (waits(known, key)) {
      const next = await changed(socket, known, controller.signal, io);
      for (const { signer } of next.approvals.slice(known.approvals.length))
        io.note(`approved by ${safe(signer)} (${next.approvals.length} of ${next.approvals_required})`);
      known = next;
    }
    return known;
  } finally {
    if (timer !== null) clearTimeout(timer);
    process.removeListener("SIGINT", stop);
  }
}

/** The request when its revision is another. A front that restarts, or is busy, is asked again: the runner keeps the request. */
async function changed(
  socket: string,
  known: RequestSummary,
  signal: AbortSignal,
  io: Io,
): Promise<RequestSummary> {
  // Nobody may be there to notice that it expires, so it is looked at then.
  const left = Math.max(0, Date.parse(known.expires_at) - Date.now()) + 1000;
  const expired = AbortSignal.timeout(left);
  for (let failures = 0; ; failures++) {
    try {
      await watchRequest(socket, known, AbortSignal.any([signal, expired])).catch((error: unknown) => {
        if (signal.aborted || !expired.aborted) throw error;
      });
      return (await readRequest(socket, known.number, { signal })).request;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof AegisError) || error.exit !== EXIT.unavailable) throw error;
      if (failures === 0) io.note(`still waiting: ${safe(error.message)}`);
      await Bun.sleep(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)] ?? 0);
      signal.throwIfAborted();
    }
  }
}

/** A request that ended without a run, as an error. */
function ended({ number, state, end }: RequestSummary): AegisError {
  const by = end?.by === null || end === null ? "" : ` by ${end.by}`;
  const why = end?.reason === null || end === null ? "" : `: ${end.reason}`;
  const details = { number, state, end };
  if (state === "rejected") {
    const hint = "Nothing was run. Report the reason; don't ask for the same change again unless told to.";
    return new AegisError("rejected", `request ${number} was rejected${by}${why}`, hint, details);
  }
  const hint = "Nothing was run. Plan again, and ask again: aegis apply --request <plan> --reason <why>";
  if (state === "expired") {
    return new AegisError("request_ended", `request ${number} expired before it was applied`, hint, details);
  }
  return new AegisError("request_ended", `request ${number} was ${state}${by}${why}`, hint, details);
}

/** Signs what was approved and applies it. */
async function signAndApply(
  number: number,
  asked: OperationPlan | null,
  key: SecretKey,
  flags: RequestFlags,
  io: Io,
): Promise<ExitStatus> {
  const { request, documents } = await readRequest(flags.socket, number);
  if (documents === null) throw ended(request);
  const now = new Date();
  const { plan, policy, review, approvals } = await signableDocuments({ request, documents }, io, now, asked);
  const own = requireKey(key, "execution", flags["key-id"]);
  if (flags["key-id"] !== undefined) noteOtherId(own, "--key-id", io.note);
  const trust = withOwnKey(userTrust({ execution: [], approval: [] }, io.env), "execution", own);
  const { execution } = await signExecution(
    {
      ...{ plan, policy, review, approvals, trust, now, key: own },
      proofs: flags["snapshot-id"].map((id) => snapshotProof(id, now)),
      signer: signerName(flags.signer, trust, own, "--signer"),
      config: loadPolicyConfig(io.env),
    },
    io,
  );
  io.note(`approved by ${approvals.map(({ signer }) => safe(signer)).join(" and ")}; applying`);
  return submitPlan(canonicalJson(execution), execution.execution_plan_id, flags.socket, io);
}

/** The number and what has to happen next. */
function report(request: RequestSummary, key: SecretKey | null, io: Io): void {
  const names = approversHere(io);
  const needs =
    request.state === "approved"
      ? "approved; it waits for a signature"
      : `${request.approvals.length} of ${request.approvals_required} approvals`;
  io.result(
    { request, approvers: names },
    [
      `Request ${request.number}: ${askedFor(request)}`,
      `Needs       ${request.required_controls.join(", ")} (${needs})`,
      ...(names.length === 0 ? [] : [`Approvers   ${names.map(safe).join(", ")}`]),
      `Expires     in ${ageText(Date.now(), request.expires_at)}`,
      renderSteps(requestSteps(request, request.state === "open" || key !== null), io.terminal),
    ].join("\n"),
  );
}
