import { canonicalJson } from "./canonical.ts";
import { askOn } from "./cmd-approve-ask.ts";
import { renderApproval, renderQuestion, snapshotText } from "./cmd-approve-view.ts";
import { signApproval, unlockApprover } from "./cmd-approver.ts";
import { renderSteps } from "./cmd-next.ts";
import { type DecidedPlan, isSameSubstance } from "./cmd-plan-again.ts";
import {
  askerOf,
  changesSince,
  renderRequest,
  renderRequestReview,
  requestSteps,
} from "./cmd-request-view.ts";
import type { PendingRequest } from "./cmd-requests.ts";
import { minutesOf, noteShorter } from "./cmd-sign-args.ts";
import { requestsOf } from "./cmd-via.ts";
import type { Io } from "./command.ts";
import type { PolicyResult } from "./doc.ts";
import { requestHash } from "./doc-request.ts";
import { loadEcosystem } from "./eco-load.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { MAX_LIFETIME_MINUTES } from "./exec-approval.ts";
import { assertPermitted } from "./exec-embedded.ts";
import { assertFresh } from "./exec-plan.ts";
import { acceptedSnapshot } from "./exec-snapshot-id.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import type { Screen } from "./sys-tty.ts";
import { paint, plural, safe, type Terminal, wrap } from "./terminal.ts";

/** The flags of `aegis sign approve` that matter for a request. */
interface RequestFlags {
  reason?: string | undefined;
  via?: string | undefined;
  key?: string | undefined;
  "ssh-key"?: string | undefined;
  "approval-secret-key-hex"?: string | undefined;
  "key-id"?: string | undefined;
  signer?: string | undefined;
  "accept-snapshot": string[];
  "expires-in-minutes"?: string | undefined;
  socket: string;
}

/**
 * Approves a request: plans it again on its host, shows what it would do now and what has changed since it was asked for, asks on
 * the terminal, signs, and hands the approval and the newer plan over.
 * @throws AegisError `refused` without a terminal, for another answer than the hash, or for a request that has ended; `policy_denied`,
 * `nothing_to_do`; as planning, unlockApprover and decideRequest
 */
export async function approveRequest(
  number: number,
  values: RequestFlags,
  io: Io,
  open: () => Screen | null,
): Promise<ExitStatus> {
  const asked = minutesOf(values["expires-in-minutes"]);
  const requests = requestsOf(values, io);
  const approver = await unlockApprover(values, io, new Date());
  const found = await requests.readAgain(number);
  const { request, again } = found;
  const { review } = found.documents;
  const { plan, policy } = again;
  assertFresh(plan.document, policy.document, new Date());
  assertPermitted(policy.document);
  const accepted = values["accept-snapshot"].map((id) => acceptedSnapshot(id, new Date()));
  const argv = (await loadEcosystem(plan.document.tool)).signedArgv(plan.document);
  const { config } = loadPolicyConfig(io.env);
  // What asks has scrolled away by the time of the question.
  const told = {
    asked: `${askerOf(request)} (uid ${request.uid}), in request ${number}`,
    snapshot: snapshotText(policy.document, config, accepted),
  };
  const view = (terminal: Terminal) => ({
    screen: [
      renderRequest(request, new Date(), terminal),
      ...(review === null ? [] : [renderRequestReview(review.document, config.review.public_keys, terminal)]),
      ...(requests.via === null ? [] : [viaNote(requests.via, terminal)]),
      renderApproval(plan.document, policy.document, config, terminal),
    ].join("\n\n"),
    question: `${sinceThen(found, again, terminal)}\n\n${renderQuestion(plan.document, policy.document, argv, terminal, told)}`,
  });
  const elsewhere = `Approve on a terminal, here or on your own machine: aegis sign approve ${number} --via <user@host>`;
  await askOn(open(), view, plan.hash, elsewhere, io);

  const now = new Date();
  assertStillFresh(number, policy.document, now);
  const left = Math.floor((Date.parse(request.expires_at) - now.getTime()) / 60_000);
  const most = Math.max(1, Math.min(left, MAX_LIFETIME_MINUTES));
  noteShorter(asked, most, io.note);
  const minutes = Math.min(asked ?? most, most);
  const reason = values.reason ?? `request ${number}: ${request.reason}`;
  const approval = await signApproval(
    approver,
    { plan, policy: policy.document, argv, accepted, reason, now, minutes },
    io,
  );
  const after = await requests.decide({
    ...{ number, request_hash: requestHash(request), approval: canonicalJson(approval) },
    newer: {
      operation_plan: canonicalJson(plan.document),
      policy_result: canonicalJson(policy.document),
      review: null,
    },
  });
  io.result(
    { request: after, approval, public_key_hex: approver.key.publicKeyHex },
    [
      `Approved by ${safe(approver.signer)} (key ${safe(approver.key.keyId)}) until ${approval.expires_at}`,
      ...accepted.map((id) => `Accepts     snapshot ${safe(id)}, which nothing looks up`),
      after.state === "open"
        ? `Request ${number} has ${after.approvals.length} of ${after.approvals_required} approvals.`
        : `Request ${number} is ${after.state}: ${askerOf(after)} can apply it, and does so now if they wait.`,
      ...(after.state === "applied"
        ? []
        : [renderSteps(requestSteps(after, true, requests.via), io.terminal)]),
    ].join("\n"),
  );
  return EXIT.ok;
}

/**
 * The plan was fresh when it was shown, but people take their time.
 * @throws AegisError `expired`
 */
function assertStillFresh(number: number, { evidence_fresh_until: until }: PolicyResult, now: Date): void {
  if (Date.parse(until) > now.getTime()) return;
  throw new AegisError(
    "expired",
    `the plan was good until ${until}, and went out of date while it was read; nothing was approved`,
    `Approve it once more, which plans again: aegis sign approve ${number}`,
  );
}

/** What is shown was said by that host, and the approval counts there only. */
function viaNote(via: string, terminal: Terminal): string {
  const text = `Everything here is the word of ${safe(via)}, reached by ssh. What you approve is bound to the host named below, and its executor plans once more.`;
  return wrap(text, terminal.width, "  ")
    .map((line) => paint(terminal, "yellow", line))
    .join("\n");
}

/** What changed since the request, and what that costs. */
function sinceThen({ request, documents }: PendingRequest, again: DecidedPlan, terminal: Terminal): string {
  const changes = changesSince(documents, again, request.planned_at, terminal);
  const lost = isSameSubstance(documents, again) ? 0 : documents.approvals.length;
  if (lost === 0) return changes;
  const text = `${plural(lost, "earlier approval")} of that plan won't count for this one.`;
  return `${changes}\n${wrap(text, terminal.width, "  ").join("\n")}`;
}
