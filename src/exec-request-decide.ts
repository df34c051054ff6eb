import * as v from "valibot";
import { subjectDetails } from "./audit-subject.ts";
import { parseCanonical } from "./canonical.ts";
import type { Approval } from "./doc.ts";
import {
  approvalSummary,
  isPending,
  planFacts,
  Rejection,
  type RequestSummary,
  requestHash,
} from "./doc-request.ts";
import { AegisError } from "./errors.ts";
import { approvalHash, approvalsNeeded, assertNoReviewer, verifyApprovals } from "./exec-approval.ts";
import { verifyRejection } from "./exec-rejection.ts";
import type { KeptRequest } from "./exec-request-files.ts";
import {
  accountName,
  askedIn,
  checkReason,
  type Judged,
  type Judging,
  judgeDocuments,
  refuseElsewhere,
  refuseUsed,
} from "./exec-request-submit.ts";
import { type RequestStore, withApprovals } from "./exec-requests.ts";
import { substanceOf } from "./exec-substance.ts";

/* What becomes of a decision about a request, once its user is proved: an approval, a rejection, or the end by whoever made it. */

/** As many as an execution plan can hold. */
const MAX_APPROVALS = 16;
/** A key that signs an execution plan can't be an approval key in the same file, and the plan doesn't exist yet. */
const NO_EXECUTION_KEY = "";

/**
 * The request that a decision is about, still waiting, and as it was shown.
 * @throws AegisError `not_found`, `refused` if it has ended, `hash_mismatch`
 */
function decidable(
  store: RequestStore,
  { number, hash }: { number: number; hash: string | null },
): KeptRequest {
  const kept = store.find(number);
  const { state, end } = kept.request;
  if (!isPending(state)) {
    const when = end === null ? "" : ` at ${end.at}`;
    throw new AegisError(
      "refused",
      `request ${number} has ended: ${state}${when}`,
      `See: aegis sign show ${number}`,
    );
  }
  if (hash !== null && hash !== requestHash(kept.request)) {
    throw new AegisError(
      "hash_mismatch",
      `request ${number} is not what was shown: its user, reason, target or plan is another one`,
      `Read it again: aegis sign show ${number}`,
    );
  }
  return kept;
}

/**
 * Adds an approval. With a newer plan of the approver's, that is what the request is about from now on, and earlier approvals stay
 * only if it is the same in substance. `newer` is null to approve the plan that is there.
 * @throws AegisError as {@link decidable} and {@link judgeDocuments}; `refused` for the requester's own account, `drift` if the newer
 * plan asks for something else, `approval_invalid`, `replay`, `exists`
 */
export function addApproval(
  decision: { number: number; hash: string; approval: Approval; newer: Judged | null; uid: number },
  store: RequestStore,
  given: Judging,
): RequestSummary {
  const { number, hash, approval, newer, uid } = decision;
  const kept = decidable(store, { number, hash });
  const isSameUser = uid === kept.request.uid;
  if (isSameUser && !given.policy.config.approvals.same_user) {
    throw new AegisError(
      "refused",
      `${accountName(uid)} made request ${number} and can't approve it as well`,
      "Another person approves it, from an account of their own. [approvals] same_user allows it on a host of one person.",
    );
  }
  const { plan, planHash, policy, texts } = newer ?? judgeDocuments(store.texts(kept), given);
  if (askedIn(plan) !== kept.asked) {
    throw new AegisError("drift", `the newer plan is of something else than request ${number} asks for`);
  }
  const others = store.pending().filter((other) => other !== kept);
  if (newer !== null) refuseElsewhere(planHash, others);
  refuseUsed(planHash, [approvalHash(approval)], given);
  if (others.some(({ approvals }) => approvals.some((one) => approvalHash(one) === approvalHash(approval))))
    throw new AegisError(
      "replay",
      "the approval was given to another request",
      "Approve this one for itself.",
    );
  const substance = substanceOf(plan, policy, given.grammars);
  const verify = (approvals: readonly Approval[]) =>
    verifyApprovals(
      approvals,
      { planHash, substance: () => substance },
      given.trust,
      NO_EXECUTION_KEY,
      given.now,
    );
  const stays = (one: Approval) => {
    try {
      return verify([one]).length === 1;
    } catch {
      return false;
    }
  };
  const earlier = kept.approvals.filter(stays);
  const approvals = [...earlier, approval];
  const approvers = verify(approvals);
  assertNoReviewer(approvers, given.policy.config);
  if (approvals.length > MAX_APPROVALS)
    throw new AegisError("approval_invalid", `request ${number} has ${MAX_APPROVALS} approvals already`);
  const dropped = kept.approvals.filter((one) => !earlier.includes(one));
  const request = withApprovals(
    {
      ...kept.request,
      ...planFacts(plan, planHash, policy),
      approvals: [...kept.request.approvals, approvalSummary(approval, uid)],
      approvals_required: approvalsNeeded(policy, given.policy.config),
    },
    approvals,
  );
  const details = {
    ...{ approval_id: approval.approval_id, plan_hash: planHash, reason: approval.reason },
    ...{ uid, planned_again: newer !== null, expires_at: approval.expires_at },
    ...(isSameUser ? { same_user: true } : {}),
    ...(dropped.length === 0
      ? {}
      : { dropped: dropped.map(({ signer, approval_id }) => ({ name: signer, approval_id })) }),
    ...{ approvals: approvals.length, approvals_required: request.approvals_required },
    ...subjectDetails(plan),
  };
  const actor = `${approval.signer} (key ${approvers.at(-1)?.key})`;
  const event = { kind: "request_approved", actor, execution_id: null, details } as const;
  const changes = {
    ...{ request, approvals, void: dropped.map(approvalHash) },
    ...(newer === null ? {} : { texts }),
  };
  return store.change(kept, changes, event).request;
}

/**
 * Ends a request by a signed rejection.
 * @throws AegisError as {@link decidable} and verifyRejection; `not_canonical`, `invalid_document`
 */
export function endRejected(
  { number, hash, rejection: text, uid }: { number: number; hash: string; rejection: string; uid: number },
  store: RequestStore,
  given: Judging,
): RequestSummary {
  const kept = decidable(store, { number, hash });
  const parsed = v.safeParse(Rejection, parseCanonical(text), { abortEarly: true });
  if (!parsed.success) {
    const where = v.getDotPath(parsed.issues[0]) ?? "(document)";
    throw new AegisError(
      "invalid_document",
      `this is not a valid rejection: ${where}`,
      "See: aegis sign reject --help",
    );
  }
  const { signer, reason, rejection_id } = parsed.output;
  const key = verifyRejection(
    parsed.output,
    { number, hash: requestHash(kept.request) },
    given.trust,
    given.now,
  );
  const actor = `${signer} (key ${key})`;
  const details = { rejection_id, reason, uid };
  const event = { kind: "request_rejected", actor, execution_id: null, details } as const;
  return store.end(kept, "rejected", { by: actor, uid, reason }, event).request;
}

/**
 * Ends a request by whoever made it, or by root.
 * @throws AegisError as {@link decidable}; `refused` for others, `usage`
 */
export function endWithdrawn(
  { number, reason, uid }: { number: number; reason: string | null; uid: number },
  store: RequestStore,
): RequestSummary {
  const kept = decidable(store, { number, hash: null });
  if (reason !== null) checkReason(reason);
  if (uid !== kept.request.uid && uid !== 0) {
    const hint = `An approver may reject it: aegis sign reject ${number} --reason <why>`;
    throw new AegisError(
      "refused",
      `only ${accountName(kept.request.uid)}, who made request ${number}, or root can withdraw it`,
      hint,
    );
  }
  const actor = accountName(uid);
  const event = { kind: "request_withdrawn", actor, execution_id: null, details: { uid, reason } } as const;
  return store.end(kept, "withdrawn", { by: actor, uid, reason }, event).request;
}
