import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import type { Approval } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { type RequestSummary, requestHash } from "../src/doc-request.ts";
import { approvalHash } from "../src/exec-approval.ts";
import { substanceOf } from "../src/exec-substance.ts";
import { UsedRecord, whyUnusable } from "../src/exec-used.ts";
import { logged } from "./execution-kit.ts";
import { entry, HOST, update } from "./policy-plans.ts";
import { AGENT, planned, RequestHost } from "./request-kit.ts";
import { ALICE, approvalOf, BOB, minutesFrom, refuses, SIGNER, STRANGER } from "./signing-kit.ts";

let host: RequestHost;
let request: RequestSummary;
beforeEach(async () => {
  host = new RequestHost();
  request = await host.submit(planned(1));
});
afterEach(() => host.remove());

const substance = (plan: OperationPlan) => substanceOf(plan, JSON.parse(host.texts(plan).policy_result));
/** An approval as a person gives it now: of a plan and its substance. */
const given = (plan: OperationPlan, change: Parameters<typeof approvalOf>[1] = {}) =>
  approvalOf(plan, { substance: substance(plan), now: host.now, ...change });
const APPLIED = { kind: "request_applied", actor: null, execution_id: null, details: {} } as const;
const byBob = { key: BOB, signer: "bob" };

describe("an approval is refused", () => {
  test("of a request that isn't there", async () => {
    const absent = { ...request, number: 2 };
    await refuses(() => host.approve(absent, given(planned(1))), "not_found", "no request 2");
  });

  test.each([
    ["reason", { reason: "another" }],
    ["user", { user: "alice" }],
    ["target", { targets: ["nginx"] }],
    ["plan", { asked_plan_hash: "0".repeat(64) }],
  ])("of a request that was shown with another %s", async (_, change) => {
    const hash = requestHash({ ...request, ...change });
    await refuses(
      () => host.approve(request, given(planned(1)), { hash }),
      "hash_mismatch",
      "not what was shown",
    );
  });

  test("from the account that asked", async () => {
    await refuses(
      () => host.approve(request, given(planned(1)), { uid: AGENT }),
      "refused",
      "can't approve it as well",
    );
  });

  test.each([
    ["a stranger", STRANGER],
    ["the execution key", SIGNER],
  ])("by %s", async (_, key) => {
    await refuses(() => host.approve(request, given(planned(1), { key })), "approval_invalid");
  });

  test("by a key that signs reviews", async () => {
    host.toml = `[review]\npublic_keys = ["${ALICE.publicKeyHex}"]`;
    const other = await host.submit(planned(2), { uid: 1002 });
    await refuses(() => host.approve(other, given(planned(2))), "key_untrusted", "[review] public_keys");
  });

  test("edited", async () => {
    const approval = { ...given(planned(1)), reason: "other" };
    await refuses(() => host.approve(request, approval), "approval_invalid");
  });

  test("expired, or from the future", async () => {
    const old = given(planned(1), { now: minutesFrom(host.now, -61) });
    await refuses(() => host.approve(request, old), "approval_invalid", "expired");
    const early = given(planned(1), { now: minutesFrom(host.now, 5) });
    await refuses(() => host.approve(request, early), "approval_invalid", "not valid before");
  });

  test("of another plan", async () => {
    const other = planned(2, { warnings: ["the source's index is unsigned"] });
    await refuses(() => host.approve(request, given(other)), "approval_invalid", "another plan");
  });

  test("twice by one key, or by one person", async () => {
    host.toml = "[approvals]\nrequired = 3";
    const three = await host.submit(planned(2), { uid: 1002 });
    await host.approve(three, given(planned(2)));
    await refuses(
      () => host.approve(three, given(planned(2))),
      "approval_invalid",
      "key has already approved",
    );
    const again = given(planned(2), { key: BOB });
    await refuses(() => host.approve(three, again), "approval_invalid", "person has already approved");
  });

  test("that a run has used", async () => {
    const approval = given(planned(1));
    const use = {
      tool: "apt",
      execution_plan_id: "e",
      operation_plan_hash: "0",
      at: "then",
      audit_sequence: 0,
    };
    new UsedRecord(host.paths.used).append([{ ...use, approvals: [approvalHash(approval)] }]);
    await refuses(() => host.approve(request, approval), "replay", "approvals was used");
  });

  test("that another request has", async () => {
    const approval = given(planned(1));
    await host.approve(request, approval);
    const second = await host.submit(planned(2), { uid: 1002 });
    await refuses(() => host.approve(second, approval), "replay", "given to another request");
  });

  const others: [string, Partial<OperationPlan>, string][] = [
    ["other targets", { targets: ["hello", "nginx"], target: "hello nginx" }, "drift"],
    ["another operation", update(), "drift"],
    ["another host", { host: { ...HOST, machine_id_hash: "0".repeat(64) } }, "wrong_host"],
    [
      "a removal, which policy denies",
      { packages_removed: ["x"], transaction: [entry("x", { action: "remove" })] },
      "policy_denied",
    ],
  ];
  test.each(others)("with a newer plan of %s", async (_, change, code) => {
    const newer = planned(2, change);
    await refuses(() => host.approve(request, given(newer), { newer }), code as "drift");
  });

  test("with a newer plan that another request is about", async () => {
    await host.submit(planned(2), { uid: 1002 });
    await refuses(
      () => host.approve(request, given(planned(2)), { newer: planned(2) }),
      "exists",
      "request 2",
    );
  });

  test("of a plan that is out of date, without a newer one", async () => {
    host.pass(180);
    await refuses(() => host.approve(request, given(planned(1))), "expired", "fresh until");
  });

  test("after policy has changed to deny it", async () => {
    host.toml = '[apt]\ninstall = "deny"';
    await refuses(() => host.approve(request, given(planned(1))), "policy_denied");
  });

  test("of a request that has ended", async () => {
    await host.withdraw(request, AGENT);
    await refuses(() => host.approve(request, given(planned(1))), "refused", "has ended: withdrawn");
  });

  test("and changes nothing", async () => {
    await refuses(() => host.approve(request, given(planned(1)), { uid: AGENT }), "refused");
    expect(await host.find(1)).toEqual(request);
    expect(host.events()).toEqual(["request_submitted 1.1"]);
  });
});

describe("an approval", () => {
  test("of the plan that was asked for", async () => {
    const approved = await host.approve(request, given(planned(1)));
    expect(approved).toMatchObject({
      state: "approved",
      revision: 2,
      approvals: [{ signer: "alice", uid: 1001 }],
    });
    const event = logged(host.paths).at(-1);
    expect(event).toMatchObject({
      ...{ kind: "request_approved", actor: `alice (key ${ALICE.keyId})` },
      details: { request: 1, revision: 2, reason: "looked at it", planned_again: false },
    });
    expect(event?.details).not.toHaveProperty("same_user");
  });

  test("of a newer plan, hours later", async () => {
    host.pass(180);
    const newer = planned(2, { created_at: host.now.toISOString() });
    const approved = await host.approve(request, given(newer), { newer });
    expect(approved).toMatchObject({
      ...{ state: "approved", plan_hash: canonicalHash(newer), asked_plan_hash: canonicalHash(planned(1)) },
    });
    const kept = await host.open((store) => store.texts(store.find(1)));
    expect(kept).toEqual(host.texts(newer));
  });

  test("of another person's stays when the newer plan is the same in substance", async () => {
    host.toml = "[approvals]\nrequired = 2";
    const two = await host.submit(planned(2), { uid: 1002 });
    expect(await host.approve(two, given(planned(2)))).toMatchObject({ state: "open" });
    const both = await host.approve(two, given(planned(3), byBob), { newer: planned(3) });
    expect(both).toMatchObject({ state: "approved", approvals: [{ signer: "alice" }, { signer: "bob" }] });
  });

  test("of another person's falls away when it is not, and that is said", async () => {
    host.toml = "[approvals]\nrequired = 2";
    const two = await host.submit(planned(2), { uid: 1002 });
    const first = given(planned(2));
    await host.approve(two, first);
    const newer = planned(3, {
      transaction: [entry("hello", { action: "install", from_version: null, to_version: "2" })],
    });
    const left = await host.approve(two, given(newer, byBob), { newer });
    expect(left).toMatchObject({ state: "open", approvals: [{ signer: "bob" }] });
    expect(logged(host.paths).at(-1)?.details).toMatchObject({
      dropped: [{ name: "alice", approval_id: first.approval_id }],
    });
  });

  test("from the account that asked, where policy says so, is logged as such", async () => {
    host.toml = "[approvals]\nsame_user = true";
    const own = await host.submit(planned(2));
    expect(await host.approve(own, given(planned(2)), { uid: AGENT })).toMatchObject({ state: "approved" });
    expect(logged(host.paths).at(-1)?.details).toMatchObject({ same_user: true });
  });
});

describe("a rejection is refused", () => {
  test("by a stranger", async () => {
    await refuses(() => host.reject(request, { key: STRANGER }), "key_untrusted");
  });

  test("of another request", async () => {
    await refuses(() => host.reject(request, { request: 2 }), "hash_mismatch");
  });

  test("of a request that has ended", async () => {
    await host.reject(request);
    await refuses(() => host.reject(request), "refused", "has ended: rejected");
  });
});

test("a rejection ends the request, with its reason", async () => {
  const { state, end } = await host.reject(request);
  expect({ state, end }).toMatchObject({
    state: "rejected",
    end: { by: `alice (key ${ALICE.keyId})`, uid: 1001, reason: "not on a Friday" },
  });
  expect(host.events()).toEqual(["request_submitted 1.1", "request_rejected 1.2"]);
});

describe("what was approved can't be run or approved elsewhere with copies", () => {
  /** Why a run of this plan with this approval is refused. */
  const why = (plan: OperationPlan, approval: Approval) =>
    whyUnusable(
      host.paths,
      {
        ...{ execution_plan_id: "", operation_plan_hash: canonicalHash(plan) },
        approvals: [approvalHash(approval)],
      },
      host.now,
    );
  /** The approval of the first request, handed over for the same change again. */
  const reused = async (approval: Approval) => {
    const next = await host.submit(planned(9), { uid: 1002 });
    await refuses(
      () => host.approve(next, approval, { newer: planned(8) }),
      "replay",
      `request ${request.number}`,
    );
  };

  test("after another person's rejection", async () => {
    const approval = given(planned(1));
    await host.approve(request, approval);
    expect(why(planned(1), approval)).toBeNull();
    await host.reject(request, { key: BOB, signer: "bob" });
    expect(why(planned(1), approval)).toContain(
      "request 1, which it or an approval of it belongs to, has ended: rejected",
    );
    // Nor the plan with another approval, nor the approval with another plan.
    expect(why(planned(1), given(planned(1), byBob))).toContain("rejected");
    expect(why(planned(7), approval)).toContain("rejected");
    await refuses(() => host.submit(planned(1), { reason: "please" }), "replay", "has ended: rejected");
    await reused(approval);
  });

  test("after it was withdrawn, though the plan may be asked for again", async () => {
    const approval = given(planned(1));
    await host.approve(request, approval);
    await host.withdraw(request, AGENT);
    expect(why(planned(1), approval)).toContain("has ended: withdrawn");
    await reused(approval);
    expect(await host.submit(planned(1))).toMatchObject({ state: "open" });
  });

  test("after it has expired", async () => {
    host.toml = "[requests]\nhours = 1";
    const short = await host.submit(planned(2), { uid: 1002 });
    const approval = given(planned(2), { minutes: 24 * 60 });
    await host.approve(short, approval);
    host.pass(61);
    expect(await host.find(short.number)).toMatchObject({ state: "expired" });
    expect(why(planned(2), approval)).toContain("has ended: expired");
  });

  test("after an approver planned another change", async () => {
    host.toml = "[approvals]\nrequired = 2";
    const two = await host.submit(planned(2), { uid: 1002 });
    const first = given(planned(2));
    await host.approve(two, first);
    const newer = planned(3, {
      transaction: [entry("hello", { action: "install", from_version: null, to_version: "2" })],
    });
    await host.approve(two, given(newer, byBob), { newer });
    expect(why(planned(2), first)).toContain(`request ${two.number} was planned again since`);
  });

  test("but after its run that is what is said", async () => {
    const approval = given(planned(1));
    await host.approve(request, approval);
    await host.open((store) => store.end(store.find(1), "applied", {}, APPLIED));
    expect(why(planned(1), approval)).toBeNull();
  });

  test("however many requests end afterwards", async () => {
    const approval = given(planned(1));
    await host.approve(request, approval);
    await host.reject(request);
    const ended = await Bun.file(join(host.paths.requests, "1.ended.json")).text();
    for (let n = 2; n <= 1003; n++) {
      const other = JSON.parse(ended);
      other.request.number = n;
      writeFileSync(join(host.paths.requests, `${n}.ended.json`), JSON.stringify({ ...other, void: [] }));
    }
    await host.submit(planned(9), { uid: 1002 });
    expect(why(planned(1), approval)).toContain("request 1,");
    expect(existsSync(join(host.paths.requests, "2.ended.json"))).toBe(false);
  });
});

describe("withdrawing", () => {
  test("somebody else's request is refused", async () => {
    await refuses(() => host.withdraw(request, 1002), "refused", "can withdraw it");
  });

  test("for a reason that can't be used is refused", async () => {
    await refuses(() => host.withdraw(request, AGENT, " "), "usage");
  });

  test.each([AGENT, 0])("by uid %i ends it", async (uid) => {
    expect(await host.withdraw(request, uid, "done by hand")).toMatchObject({
      state: "withdrawn",
      end: { uid, reason: "done by hand" },
    });
  });
});
