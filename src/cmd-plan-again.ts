import { canonicalHash } from "./canonical.ts";
import type { Io } from "./command.ts";
import type { Approval, Hashed, PolicyResult } from "./doc.ts";
import { type OperationPlan, planCommand } from "./doc-plan.ts";
import { askedOtherwise } from "./doc-request.ts";
import { loadEcosystem } from "./eco-load.ts";
import { AegisError } from "./errors.ts";
import { substanceOf } from "./exec-substance.ts";
import type { FoundRequest } from "./front-requests.ts";
import { contentOfPlan, makePlan } from "./plan.ts";
import { userPlanningEnv } from "./plan-env.ts";
import { openPlanning } from "./plan-world.ts";
import { evaluate } from "./policy.ts";
import { type LoadedPolicyConfig, loadPolicyConfig } from "./policy-config.ts";
import { readText } from "./sys-files.ts";

/** A plan and the decision about it. */
export interface DecidedPlan {
  plan: Hashed<OperationPlan>;
  policy: Hashed<PolicyResult>;
}

/** A signed plan must reach the executor before its evidence is out of date: left for waiting in its queue. */
const MARGIN_MS = 2 * 60_000;

/**
 * Plans the same request again on this host, read-only, and decides about it by the policy in force. No review is made: it
 * would be of this plan alone, and can only make a decision stricter, which a person makes now.
 * @throws AegisError as makePlan and loadPolicyConfig
 */
export async function planAgainHere(
  plan: OperationPlan,
  { env }: Pick<Io, "env">,
): Promise<DecidedPlan & { config: LoadedPolicyConfig }> {
  const planning = openPlanning({ env: userPlanningEnv(env, readText) });
  try {
    const ecosystem = await loadEcosystem(plan.ecosystem);
    const document = await makePlan(ecosystem, plan.operation, plan.targets, planning, contentOfPlan(plan));
    const made = { document, hash: canonicalHash(document) };
    const config = loadPolicyConfig(env);
    const policy = evaluate({
      plan: document,
      planHash: made.hash,
      config: config.config,
      configHash: config.hash,
    });
    return { plan: made, policy: { document: policy, hash: canonicalHash(policy) }, config };
  } finally {
    planning.close();
  }
}

/** Whether a person who has decided about one has decided about the other. */
export function isSameSubstance(a: DecidedPlan, b: DecidedPlan): boolean {
  return substanceOf(a.plan.document, a.policy.document) === substanceOf(b.plan.document, b.policy.document);
}

type RequestDocuments = NonNullable<FoundRequest["documents"]>;
type Approved = { request: FoundRequest["request"]; documents: RequestDocuments };

/**
 * Proves that what is about to be signed was asked for and approved, where the front's word is all that says so: a front in foreign
 * hands would otherwise have another plan signed, one that policy lets through without a person. `asked` is null where the caller
 * knows the request by its number only.
 * @throws AegisError `hash_mismatch`, `approval_required`
 */
function checkAsked({ request: { number }, documents }: Approved, asked: OperationPlan | null): void {
  const { document: plan } = documents.plan;
  const other = asked === null ? undefined : askedOtherwise(plan, asked);
  if (other !== undefined) {
    throw new AegisError(
      "hash_mismatch",
      `the executor's answer for request ${number} has another ${other} than what was asked for; nothing was signed`,
      "The front may not be what was installed: aegis doctor",
    );
  }
  if (documents.approvals.length > 0) return;
  throw new AegisError(
    "approval_required",
    `the executor's answer for request ${number} has no approval that is valid now; nothing was signed`,
    `See: aegis sign show ${number}. What policy allows without a person needs no request: aegis sign --help`,
  );
}

/**
 * A request's documents as they can be signed now: where its plan's evidence is out of date, it is planned again, and the approvals
 * that name the plan's substance stay if that is the same. Expired approvals are left out.
 * @throws AegisError `drift` if planning again gives another change; as {@link checkAsked} and {@link planAgainHere}
 */
export async function signableDocuments(
  { request, documents }: Approved,
  io: Pick<Io, "env" | "note">,
  now: Date,
  asked: OperationPlan | null,
): Promise<RequestDocuments> {
  const approvals = documents.approvals.filter(({ expires_at }) => Date.parse(expires_at) > now.getTime());
  checkAsked({ request, documents: { ...documents, approvals } }, asked);
  const isFresh = Date.parse(documents.policy.document.evidence_fresh_until) > now.getTime() + MARGIN_MS;
  if (isFresh) return { ...documents, approvals };
  io.note(`planning again: the plan of request ${request.number} is from ${request.planned_at}`);
  const again = await planAgainHere(documents.plan.document, io);
  if (!isSameSubstance(documents, again)) throw changedSince(request.number, documents.plan.document);
  return { plan: again.plan, policy: again.policy, review: null, approvals: bySubstance(approvals) };
}

function bySubstance(approvals: readonly Approval[]): Approval[] {
  return approvals.filter(({ substance_hash }) => substance_hash !== undefined);
}

function changedSince(number: number, plan: OperationPlan): AegisError {
  return new AegisError(
    "drift",
    `the host has changed since request ${number} was approved: planned again, it is another change`,
    `Plan again, and ask for an approval of that plan: ${planCommand(plan)}`,
  );
}
