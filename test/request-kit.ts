import type { RequestSummary } from "../src/doc-request.ts";

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
