import { expect, test } from "bun:test";
import * as v from "valibot";
import {
  isPending,
  REQUEST_STATES,
  RequestReason,
  type RequestState,
  RequestSummary,
  requestHash,
} from "../src/doc-request.ts";
import { aSummary } from "./request-kit.ts";

const BAD_REASONS: [string, unknown][] = [
  ["nothing", ""],
  ["spaces", " \t\n"],
  ["501 characters", "x".repeat(501)],
  ["no text", null],
];
test.each(BAD_REASONS)("%s is no reason", (_, reason) => {
  expect(v.is(RequestReason, reason)).toBe(false);
});

test("a reason of 500 characters is", () => {
  expect(v.is(RequestReason, "x".repeat(500))).toBe(true);
});

const BAD_SUMMARIES: [string, object][] = [
  ["request 0", { number: 0 }],
  ["revision 0", { revision: 0 }],
  ["an unknown state", { state: "granted" }],
  ["an unknown member", { approved: true }],
  ["17 targets", { targets: Array.from({ length: 17 }, () => "x") }],
];
test.each(BAD_SUMMARIES)("%s is refused", (_, change) => {
  expect(v.is(RequestSummary, { ...aSummary(), ...change })).toBe(false);
});

const SHOWN: [string, Partial<RequestSummary>][] = [
  ["number", { number: 8 }],
  ["time", { submitted_at: "2026-01-02T03:05:01.000Z" }],
  ["expiry", { expires_at: "2026-01-04T03:05:00.000Z" }],
  ["uid", { uid: 0 }],
  ["user", { user: "alice" }],
  ["reason", { reason: "a fix for the database" }],
  ["tool", { tool: "npm" }],
  ["ecosystem", { ecosystem: "npm" }],
  ["operation", { operation: "remove" }],
  ["targets", { targets: ["nginx-light"] }],
  ["number of targets", { targets_left_out: 1 }],
  ["plan that was asked for", { asked_plan_hash: "b".repeat(64) }],
];
test.each(SHOWN)("a decision about a request shown with another %s is about another request", (_, change) => {
  expect(requestHash(aSummary(change))).not.toBe(requestHash(aSummary()));
});

test("a decision stays valid while others approve", () => {
  const later = aSummary({ revision: 3, state: "approved", plan_hash: "c".repeat(64), risk_score: 30 });
  expect(requestHash(later)).toBe(requestHash(aSummary()));
});

test("a request can be decided until it has ended", () => {
  const pending: RequestState[] = ["open", "approved"];
  expect(REQUEST_STATES.filter(isPending)).toEqual(pending);
});
