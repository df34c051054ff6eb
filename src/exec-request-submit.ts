import * as v from "valibot";
import { subjectDetails } from "./audit-subject.ts";
import { canonicalHash, canonicalJson, parseCanonical, sha256Hex } from "./canonical.ts";
import { type PolicyResult, parseDocument } from "./doc.ts";
import type { Host, OperationPlan } from "./doc-plan.ts";
import { planFacts, RequestReason, type RequestSummary } from "./doc-request.ts";
import type { Grammars } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { approvalsNeeded } from "./exec-approval.ts";
import { assertPermitted, assertSameEvaluator } from "./exec-embedded.ts";
import { assertFresh } from "./exec-plan.ts";
import { checkBoot, checkHost } from "./exec-preflight.ts";
import type { KeptRequest, RequestTexts } from "./exec-request-files.ts";
import type { RequestStore } from "./exec-requests.ts";
import { whyUnusable } from "./exec-used.ts";
import type { Trust } from "./key-trust.ts";
import { evaluate } from "./policy.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { type StatePaths, userName } from "./sys-state.ts";

/*
 * What becomes of a submitted request, once its user is proved. Nothing here lets anything run: the executor checks the signed plan,
 * its approvals and this host again when it is applied.
 */

/** What this host knows, besides its requests. */
export interface Judging {
  paths: StatePaths;
  trust: Trust;
  policy: LoadedPolicyConfig;
  host: Host;
  now: Date;
  /** Other grammars than this program's own, for tests. */
  grammars?: Grammars | undefined;
}

/** Requests that may wait at a time: in total, and of one uid. */
export const REQUEST_LIMITS = { all: 200, perUid: 16 } as const;
/** Documents that may be asked for or approved now. */
export interface Judged {
  plan: OperationPlan;
  planHash: string;
  policy: PolicyResult;
  texts: RequestTexts;
}

/**
 * Proves that the documents are this host's, belong together and are fresh, and that this host's policy decides so and doesn't deny.
 * @throws AegisError `not_canonical`, `invalid_document`, `wrong_host`, `expired`, `evaluator_mismatch`, `policy_denied`,
 * `policy_mismatch`, `nothing_to_do`
 */
export function judgeDocuments(texts: RequestTexts, given: Judging): Judged {
  const { host, policy: own, now, grammars } = given;
  const plan = parseDocument("plan", parseCanonical(texts.operation_plan), "the plan");
  const policy = parseDocument("policy", parseCanonical(texts.policy_result), "the policy result");
  const review =
    texts.review === null
      ? undefined
      : {
          document: parseDocument("review", parseCanonical(texts.review), "the review"),
          hash: sha256Hex(texts.review),
        };
  const planHash = sha256Hex(texts.operation_plan);
  checkHost(plan, host);
  checkBoot(plan, host);
  const decided = evaluate({ plan, planHash, config: own.config, configHash: own.hash, grammars, review });
  assertSameEvaluator(policy, decided);
  assertPermitted(decided);
  if (canonicalJson(decided) !== canonicalJson(policy)) {
    throw new AegisError(
      "policy_mismatch",
      policy.policy_config_hash === own.hash
        ? `this host's policy decides ${decided.decision} on this plan, which differs from the policy result`
        : "the policy result was made under another policy configuration than this host's",
      "Decide by this host's policy: aegis policy <plan>, without a policy file of your own",
    );
  }
  assertFresh(plan, policy, now);
  return { plan, planHash, policy, texts };
}

/** Whose account: the kernel's uid, with its name on this host. */
export function accountName(uid: number): string {
  const name = userName(uid);
  return name === null ? `uid ${uid}` : `uid ${uid} (${name})`;
}

/**
 * Keeps a new request. The same submission by the same user gives the request that waits already, so that it may be repeated
 * when an answer was lost.
 * @throws AegisError `usage` for an unusable reason, `busy` over a limit, `exists`, `replay`
 */
export function keepSubmitted(
  { plan, planHash, policy, texts }: Judged,
  { reason, uid }: { reason: string; uid: number },
  store: RequestStore,
  given: Judging,
): RequestSummary {
  checkReason(reason);
  const submission = canonicalHash({ ...texts, reason, uid });
  const pending = store.pending();
  const same = pending.find((kept) => kept.submission === submission);
  if (same !== undefined) return same.request;
  refuseUsed(planHash, [], given);
  refuseElsewhere(planHash, pending);
  refuseTooMany(pending, uid);
  const { config } = given.policy;
  const number = store.nextNumber();
  const required = approvalsNeeded(policy, config);
  const expires = given.now.getTime() + config.requests.hours * 3_600_000;
  const request: RequestSummary = {
    number,
    revision: 1,
    state: required === 0 ? "approved" : "open",
    submitted_at: given.now.toISOString(),
    expires_at: new Date(expires).toISOString(),
    uid,
    user: userName(uid),
    reason,
    ...planFacts(plan, planHash, policy),
    asked_plan_hash: planHash,
    approvals: [],
    approvals_required: required,
    end: null,
  };
  const details = {
    ...{ uid, user: request.user, reason, plan_hash: planHash, expires_at: request.expires_at },
    ...{ approvals_required: required, required_controls: policy.required_controls, rules: policy.rules },
    ...subjectDetails(plan),
  };
  const event = { kind: "request_submitted", actor: accountName(uid), execution_id: null, details } as const;
  return store.add({ request, submission, asked: askedIn(plan), texts }, event).request;
}

/** Names what a person is asked for: an approver who plans again plans this. */
export function askedIn({ tool, ecosystem, operation, targets }: OperationPlan): string {
  return canonicalHash({ tool, ecosystem, operation, targets });
}

export function checkReason(reason: string): void {
  const checked = v.safeParse(RequestReason, reason);
  if (checked.success) return;
  const [{ message }] = checked.issues;
  throw new AegisError(
    "usage",
    `the reason can't be used: it is ${message}`,
    "Say in a few words why, 500 characters at most.",
  );
}

/** @throws AegisError `replay` */
export function refuseUsed(planHash: string, approvals: readonly string[], { paths, now }: Judging): void {
  const use = { execution_plan_id: "", operation_plan_hash: planHash, approvals: [...approvals] };
  const why = whyUnusable(paths, use, now);
  if (why !== null)
    throw new AegisError("replay", why, "A plan and an approval are good for one run. Plan again.");
}

/** One plan is one request: two would be ended by one run. @throws AegisError `exists` */
export function refuseElsewhere(planHash: string, others: readonly KeptRequest[]): void {
  const other = others.find(
    ({ request }) => request.plan_hash === planHash || request.asked_plan_hash === planHash,
  );
  if (other === undefined) return;
  const { number } = other.request;
  throw new AegisError(
    "exists",
    `request ${number} is of this plan already`,
    `See: aegis sign show ${number}`,
    {
      request: number,
    },
  );
}

/** @throws AegisError `busy` */
function refuseTooMany(pending: readonly KeptRequest[], uid: number): void {
  const { all, perUid } = REQUEST_LIMITS;
  const own = pending.filter(({ request }) => request.uid === uid).length;
  if (own >= perUid) {
    const why = `${own} of your requests wait for a person, which is the limit for one user`;
    throw new AegisError("busy", why, "Withdraw one that is no longer needed: aegis sign inbox");
  }
  if (pending.length >= all) {
    const why = `${pending.length} requests wait for a person on this host, which is the limit`;
    throw new AegisError("busy", why, "Try again when some are decided: aegis sign inbox");
  }
}
