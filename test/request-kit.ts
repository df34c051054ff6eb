import { openAuditLog } from "../src/audit-log.ts";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { Approval } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { type RequestSummary, requestHash } from "../src/doc-request.ts";
import { unsignedRejection } from "../src/exec-rejection.ts";
import { addApproval, endRejected, endWithdrawn } from "../src/exec-request-decide.ts";
import type { RequestTexts } from "../src/exec-request-files.ts";
import { type Judging, judgeDocuments, keepSubmitted } from "../src/exec-request-submit.ts";
import { type RequestStore, type RequestWorld, withRequests } from "../src/exec-requests.ts";
import { signDocument } from "../src/key-sign.ts";
import { evaluate } from "../src/policy.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { logged, makeStatePaths, statePathsIn } from "./execution-kit.ts";
import { install } from "./policy-plans.ts";
import { ALICE, configOf, minutesFrom, NOW, TRUST } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/** The requester of these tests, and the account of an approver. */
export const AGENT = 1000;
export const ALICE_UID = 1001;

/** A request for nginx as the inbox shows it. */
export function aSummary(change: Partial<RequestSummary> = {}): RequestSummary {
  return {
    number: 7,
    revision: 1,
    state: "open",
    submitted_at: "2026-01-02T03:05:00.000Z",
    expires_at: "2026-01-03T03:05:00.000Z",
    uid: 1000,
    user: "agent",
    reason: "web server",
    tool: "apt",
    ecosystem: "apt",
    operation: "install",
    targets: ["nginx"],
    targets_left_out: 0,
    asked_plan_hash: "a".repeat(64),
    plan_id: "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50",
    plan_hash: "a".repeat(64),
    planned_at: "2026-01-02T03:04:05.000Z",
    decision: "require_human",
    required_controls: ["human approval"],
    risk_score: 20,
    installed: 3,
    upgraded: 0,
    removed: 0,
    downgraded: 0,
    approvals: [],
    approvals_required: 1,
    end: null,
    ...change,
  };
}

const ids = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

/** The nth plan of the same change: other id and time, same substance. */
export function planned(n: number, change: Partial<OperationPlan> = {}): OperationPlan {
  return { ...install(), plan_id: ids(n), ...change };
}

/** Where requests are kept in a test, with a clock and a policy that it sets. */
export class RequestHost {
  readonly paths: StatePaths;
  readonly world: RequestWorld;
  readonly warnings: string[] = [];
  now = NOW;
  toml = "";
  readonly #remove: () => void;

  constructor(disk?: RequestWorld["disk"]) {
    const { path, remove } = temporaryDirectory();
    this.#remove = remove;
    this.paths = statePathsIn(path);
    makeStatePaths(this.paths);
    this.world = {
      paths: this.paths,
      audit: openAuditLog(this.paths.audit, { now: () => this.now }),
      now: () => this.now,
      warn: (what, problem) => this.warnings.push(`${what}: ${problem}`),
      ...(disk === undefined ? {} : { disk }),
    };
  }

  remove(): void {
    this.#remove();
  }

  pass(minutes: number): void {
    this.now = minutesFrom(this.now, minutes);
  }

  given(change: Partial<Judging> = {}): Judging {
    const policy = { ...configOf(this.toml), source: "test" };
    return { paths: this.paths, trust: TRUST, policy, host: install().host, now: this.now, ...change };
  }

  /** Plan and decision as a requester hands them over. */
  texts(plan: OperationPlan, toml = this.toml): RequestTexts {
    const { config, hash } = configOf(toml);
    const policy = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
    return { operation_plan: canonicalJson(plan), policy_result: canonicalJson(policy), review: null };
  }

  open<T>(action: (store: RequestStore) => T): Promise<T> {
    return withRequests(this.world, new AbortController().signal, action);
  }

  submit(plan: OperationPlan, { uid = AGENT, reason = "web server" } = {}): Promise<RequestSummary> {
    const judged = judgeDocuments(this.texts(plan), this.given());
    return this.open((store) => keepSubmitted(judged, { reason, uid }, store, this.given()));
  }

  approve(
    request: RequestSummary,
    approval: Approval,
    { uid = ALICE_UID, newer = null as OperationPlan | null, hash = requestHash(request) } = {},
  ): Promise<RequestSummary> {
    const judged = newer === null ? null : judgeDocuments(this.texts(newer), this.given());
    const decision = { number: request.number, hash, approval, newer: judged, uid };
    return this.open((store) => addApproval(decision, store, this.given()));
  }

  reject(
    request: RequestSummary,
    {
      key = ALICE,
      ...change
    }: Partial<Parameters<typeof unsignedRejection>[0]> & { key?: typeof ALICE } = {},
  ) {
    const hash = requestHash(request);
    const unsigned = unsignedRejection({
      ...{ request: request.number, requestHash: hash, signer: "alice", reason: "not on a Friday" },
      now: this.now,
      ...change,
    });
    const rejection = signDocument(unsigned, key.seed, key.keyId);
    const given = { number: request.number, hash, rejection: canonicalJson(rejection), uid: ALICE_UID };
    return this.open((store) => endRejected(given, store, this.given()));
  }

  withdraw(request: RequestSummary, uid: number, reason: string | null = null) {
    return this.open((store) => endWithdrawn({ number: request.number, reason, uid }, store));
  }

  find(number: number): Promise<RequestSummary> {
    return this.open((store) => store.find(number).request);
  }

  /** The log's events of requests: `request_submitted 1.1`, with number and revision. */
  events(): string[] {
    return logged(this.paths)
      .filter(({ kind }) => kind.startsWith("request_"))
      .map(({ kind, details }) => `${kind} ${details["request"]}.${details["revision"]}`);
  }
}
