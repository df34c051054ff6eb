import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { PolicyResult } from "../src/doc.ts";
import type { RequestTexts } from "../src/exec-request-files.ts";
import { judgeDocuments, REQUEST_LIMITS } from "../src/exec-request-submit.ts";
import { UsedRecord } from "../src/exec-used.ts";
import { logged } from "./execution-kit.ts";
import { entry, HOST, install } from "./policy-plans.ts";
import { AGENT, planned, RequestHost } from "./request-kit.ts";
import { minutesFrom, NOW, refuses } from "./signing-kit.ts";

let host: RequestHost;
beforeEach(() => {
  host = new RequestHost();
});
afterEach(() => host.remove());

const removing = () =>
  install({ packages_removed: ["hello"], transaction: [entry("hello", { action: "remove" })] });

describe("documents are refused", () => {
  const change = (text: string, edit: (tree: PolicyResult) => object) =>
    canonicalJson(edit(JSON.parse(text)));
  const cases: [string, (texts: RequestTexts) => RequestTexts, string, string | RegExp][] = [
    [
      "a plan with another spelling",
      (t) => ({ ...t, operation_plan: ` ${t.operation_plan}` }),
      "not_canonical",
      "",
    ],
    ["a plan that isn't one", (t) => ({ ...t, operation_plan: "{}" }), "invalid_document", "the plan"],
    [
      "a policy result in place of the plan",
      (t) => ({ ...t, operation_plan: t.policy_result }),
      "invalid_document",
      "policy result",
    ],
    [
      "a result for another plan",
      (t) => ({ ...t, policy_result: host.texts(planned(2)).policy_result }),
      "policy_mismatch",
      "",
    ],
    [
      "a milder decision",
      (t) => ({
        ...t,
        policy_result: change(t.policy_result, (p) => ({
          ...p,
          decision: "allow",
          required_controls: [],
          approvals_required: 0,
        })),
      }),
      "policy_mismatch",
      "differs",
    ],
    [
      "a decision by the requester's own policy file",
      () => host.texts(planned(1), '[apt]\ninstall = "allow"'),
      "policy_mismatch",
      "another policy configuration",
    ],
    [
      "a decision by other rules",
      (t) => ({
        ...t,
        policy_result: change(t.policy_result, (p) => ({ ...p, evaluator_hash: "0".repeat(64) })),
      }),
      "evaluator_mismatch",
      "",
    ],
    ["a plan that policy denies", () => host.texts(removing()), "policy_denied", ""],
    [
      "a plan with nothing to do",
      () => host.texts(planned(1, { nothing_to_do: true, transaction: [] })),
      "nothing_to_do",
      "",
    ],
    [
      "another host's",
      () => host.texts(planned(1, { host: { ...HOST, machine_id_hash: "0".repeat(64) } })),
      "wrong_host",
      "",
    ],
    [
      "from before the last boot",
      () => host.texts(planned(1, { host: { ...HOST, boot_id: "11111111-1111-4111-8111-111111111111" } })),
      "expired",
      "booted",
    ],
  ];
  test.each(cases)("%s", async (_, edit, code, says) => {
    const texts = edit(host.texts(planned(1)));
    await refuses(() => judgeDocuments(texts, host.given()), code as "refused", says);
  });

  test("whose evidence is out of date", async () => {
    host.pass(120);
    await refuses(() => host.submit(planned(1)), "expired", "fresh until");
  });
});

describe("a request is refused", () => {
  test.each([
    ["without a reason", ""],
    ["with spaces as its reason", "  "],
    ["with 501 characters", "x".repeat(501)],
  ])("%s", async (_, reason) => {
    await refuses(() => host.submit(planned(1), { reason }), "usage", "reason");
  });

  test("for a plan that a run has used", async () => {
    const use = { tool: "apt", execution_plan_id: "e", approvals: [], at: "then", audit_sequence: 0 };
    new UsedRecord(host.paths.used).append([{ ...use, operation_plan_hash: canonicalHash(planned(1)) }]);
    await refuses(() => host.submit(planned(1)), "replay", "used at then");
  });

  test("for a plan that somebody has asked for already", async () => {
    await host.submit(planned(1));
    await refuses(
      () => host.submit(planned(1), { uid: 1002 }),
      "exists",
      "request 1 is of this plan already",
    );
    await refuses(() => host.submit(planned(1), { reason: "another" }), "exists");
  });

  test("the 17th of a user, while another user's is kept", async () => {
    for (let n = 1; n <= REQUEST_LIMITS.perUid; n++) await host.submit(planned(n));
    const hint = await refuses(() => host.submit(planned(17)), "busy", "16 of your requests wait");
    expect(hint).toContain("inbox");
    expect((await host.submit(planned(18), { uid: 1002 })).number).toBe(17);
  });

  test("the 201st of all, until one has ended", async () => {
    for (let n = 1; n <= REQUEST_LIMITS.all; n++)
      await host.submit(planned(n), { uid: 2000 + Math.floor(n / 10) });
    await refuses(() => host.submit(planned(201)), "busy", "200 requests wait for a person on this host");
    const first = await host.find(1);
    await host.withdraw(first, first.uid);
    expect((await host.submit(planned(201))).number).toBe(201);
  }, 60_000);
});

describe("a request", () => {
  test("has what was asked, who asked, and how long it waits", async () => {
    host.toml = "[requests]\nhours = 2\n[approvals]\nrequired = 2";
    const request = await host.submit(planned(1), { uid: 0 });
    expect(request).toMatchObject({
      ...{ number: 1, revision: 1, state: "open", uid: 0, user: "root", reason: "web server" },
      ...{ tool: "apt", operation: "install", targets: ["hello"], targets_left_out: 0 },
      ...{ asked_plan_hash: canonicalHash(planned(1)), plan_hash: canonicalHash(planned(1)) },
      ...{ submitted_at: NOW.toISOString(), expires_at: minutesFrom(NOW, 120).toISOString() },
      ...{ decision: "require_human", approvals: [], approvals_required: 2, end: null },
    });
    const [event] = logged(host.paths);
    expect(event).toMatchObject({
      ...{ kind: "request_submitted", actor: "uid 0 (root)", decision: "require_human" },
      details: { request: 1, reason: "web server", operation: "apt install hello", uid: 0 },
    });
  });

  test("submitted again is the same request, without another event", async () => {
    const first = await host.submit(planned(1));
    expect(await host.submit(planned(1))).toEqual(first);
    expect(host.events()).toEqual(["request_submitted 1.1"]);
  });

  test("submitted again after it has ended is another one", async () => {
    const first = await host.submit(planned(1));
    await host.withdraw(first, AGENT);
    expect((await host.submit(planned(1))).number).toBe(2);
  });

  test("that needs no approval is approved", async () => {
    host.toml = '[apt]\ninstall = "allow"';
    expect(await host.submit(planned(1))).toMatchObject({ state: "approved", approvals_required: 0 });
  });

  test("with many targets shows the first, and counts the rest", async () => {
    const targets = Array.from({ length: 20 }, (_, n) => `p${n}`);
    const request = await host.submit(planned(1, { targets, target: targets.join(" ") }));
    expect(request).toMatchObject({ targets: targets.slice(0, 16), targets_left_out: 4 });
  });
});
