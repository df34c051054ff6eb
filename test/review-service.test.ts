import { afterEach, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { canonicalHash, canonicalJson, sha256Hex } from "../src/canonical.ts";
import { type AiReview, type Hashed, readDocument, SCHEMA_VERSION } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { AegisError } from "../src/errors.ts";
import { generateKey } from "../src/key-file.ts";
import { reviewIsSignedBy } from "../src/key-review-signature.ts";
import type { MadeReview } from "../src/review.ts";
import { reviewQueue } from "../src/review-queue.ts";
import { type ReviewerOptions, serveReviewer } from "../src/review-service.ts";
import { readModelSettings } from "../src/review-settings.ts";
import { byteBudget } from "../src/wire-budget.ts";
import { REVIEWER_IDL, SERVICE_IDL } from "../src/wire-idl.ts";
import type { ReviewEvent } from "../src/wire-reviewer.ts";
import { UnusableReply } from "../src/wire-reviewer.ts";
import { callReviewer, reviewerStatus } from "../src/wire-reviewer-client.ts";
import { REVIEWER_LIMITS } from "../src/wire-reviewer-limits.ts";
import { VERDICT } from "./model-server.ts";
import { install } from "./policy-plans.ts";
import { memoryLog, RawClient, temporaryDirectory, until } from "./varlink-kit.ts";

const GET_INFO = { method: "org.varlink.service.GetInfo" };
const UID = process.getuid?.() ?? 0;
const REPLY = '{"choices":[]}';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A plan's canonical text; `filler` bytes longer than need be. */
function planText(filler = 0): string {
  const plan_id = randomUUID();
  // Evidence of its own: what was said of the same evidence lately is said again.
  const plan = { ...install(), plan_id, warnings: [plan_id] };
  return canonicalJson(
    filler === 0
      ? plan
      : { ...plan, warnings: [plan_id, ...Array(filler / 50_000).fill("w".repeat(49_997))] },
  );
}

const ask = (plan: unknown, rest: object = { more: true }) => ({
  method: "io.aegis.Reviewer.Review",
  parameters: { plan },
  ...rest,
});

/** One call to the model, as the test sees it: it answers when the test says so. */
interface ModelCall {
  plan: Hashed<OperationPlan>;
  signal: AbortSignal;
  answer(reply?: string): void;
  fail(error: unknown): void;
}

function reviewOf(plan: Hashed<OperationPlan>): AiReview {
  return {
    schema_version: SCHEMA_VERSION,
    plan_id: plan.document.plan_id,
    plan_hash: plan.hash,
    model: "test-model",
    prompt_hash: "a".repeat(64),
    created_at: "2026-01-01T00:00:00Z",
    ...VERDICT,
  };
}

interface Given {
  limits?: ReviewerOptions["limits"];
  record?: ReviewerOptions["record"];
  /** The model answers at once with this. */
  makeReview?: ReviewerOptions["makeReview"];
}

/** A reviewer with a stand-in for the model. */
async function setUp({ limits = {}, record, makeReview }: Given = {}) {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "reviewd.sock");
  const calls: ModelCall[] = [];
  const events: NewAuditEvent[] = [];
  const key = generateKey();
  const log = memoryLog();
  const reviewer = await serveReviewer({
    listen: { path },
    settings: readModelSettings({ AEGIS_AI_MODEL: "test-model" }),
    secret: {
      seed: Buffer.from(key.secret_key_hex, "hex"),
      publicKeyHex: key.public_key_hex,
      keyId: key.key_id,
    },
    makeReview:
      makeReview ??
      ((plan, _settings, { signal }) => {
        const { promise, resolve, reject } = Promise.withResolvers<MadeReview>();
        signal.addEventListener("abort", () => reject(signal.reason));
        const answer = (reply = REPLY) => resolve({ review: reviewOf(plan), reply });
        calls.push({ plan, signal, answer, fail: reject });
        return promise;
      }),
    record: record ?? ((event) => void events.push(event)),
    limits: { reportMs: 20, lingerMs: 200, askingPerUid: 2, ...limits },
    log,
  });
  cleanups.push(reviewer.close);
  const client = () => {
    const it = new RawClient(path);
    cleanups.push(() => it.socket.destroy());
    return it;
  };
  const call = async (index: number): Promise<ModelCall> => {
    await until(() => calls.length > index);
    const it = calls[index];
    if (it === undefined) throw new Error("no such call");
    return it;
  };
  return { path, calls, call, events, key, log, reviewer, client };
}

/** What stands in the event of the `count`th message. */
async function event(client: RawClient, count: number): Promise<Record<string, unknown>> {
  const { parameters } = await client.reply(count);
  return Object(parameters.event);
}

describe("refused without asking a model", () => {
  const plan = planText();
  const BAD: [string, unknown, string][] = [
    ["no JSON", "nonsense", "not_canonical"],
    ["nothing", "", "not_canonical"],
    ["a plan that was reformatted", JSON.stringify(JSON.parse(plan), null, 1), "not_canonical"],
    ["a plan with something after it", `${plan}\n`, "not_canonical"],
    [
      "a plan with a key twice",
      plan.replace('"operation":', '"operation":"x","operation":'),
      "not_canonical",
    ],
    ["another document", '{"a":1}', "invalid_document"],
    ["a plan with an unknown field", canonicalJson({ ...JSON.parse(plan), root: true }), "invalid_document"],
    ["a list", "[]", "invalid_document"],
    ["a plan that is no string", {}, "org.varlink.service.InvalidParameter"],
  ];
  test.each(BAD)("%s, and the connection stays open", async (_, text, expected) => {
    const { client, calls, events } = await setUp();
    const it = client().send(ask(text)).send(GET_INFO);
    expect(await it.refusal()).toBe(expected);
    expect((await it.reply(2)).parameters).toMatchObject({ product: "aegis" });
    expect(calls).toEqual([]);
    await until(() => events.length === 1);
    const code = expected.startsWith("org.") ? "protocol" : expected;
    expect(events[0]).toMatchObject({
      kind: "requests_refused",
      details: { count: 1, refusals: [{ code, uid: UID, count: 1 }] },
    });
  });

  const BROKEN: [string, string | Uint8Array][] = [
    ["not JSON", "not json\0"],
    ["not UTF-8", new Uint8Array([0xff, 0xfe, 0])],
    ["a request that is too long", "x".repeat(4 * 1024 * 1024 + 5000)],
    ["an upgrade", '{"method":"org.varlink.service.GetInfo","upgrade":true}\0'],
  ];
  test.each(BROKEN)("%s, and the connection is closed", async (_, bytes) => {
    const { client, calls } = await setUp();
    const it = client().send(bytes);
    expect(await it.refusal()).toBe("protocol");
    await it.closed;
    expect(calls).toEqual([]);
  });

  test.each([
    ["another interface", "io.aegis.Executor.Apply", "org.varlink.service.InterfaceNotFound"],
    ["an unknown method", "io.aegis.Reviewer.Approve", "org.varlink.service.MethodNotFound"],
    ["constructor", "io.aegis.Reviewer.constructor", "org.varlink.service.MethodNotFound"],
  ])("%s", async (_, method, expected) => {
    const { client } = await setUp();
    expect(await client().send({ method, parameters: { plan } }).refusal()).toBe(expected);
  });
});

describe("a model without a usable review", () => {
  test("is down: the client is told why, and the service continues", async () => {
    const { client, call, events } = await setUp();
    const [it, plan] = [client(), planText()];
    it.send(ask(plan));
    (await call(0)).fail(new AegisError("unavailable", "nobody answers at localhost:8000", "Start it."));
    expect((await it.reply(2)).parameters).toEqual({
      code: "unavailable",
      message: "nobody answers at localhost:8000",
      hint: "Start it.",
      details: {},
    });
    await until(() => events.length === 1);
    expect(events[0]).toMatchObject({
      kind: "review_failed",
      details: { count: 1, failures: [{ code: "unavailable", uid: UID, request_sha256: sha256Hex(plan) }] },
    });
    it.send(ask(plan));
    (await call(1)).answer();
    expect(await event(it, 4)).toMatchObject({ kind: "finished" });
  });

  test("keeps failing: the audit log gets few lines, and every failure is counted", async () => {
    const makeReview = () => Promise.reject(new AegisError("unavailable", "down"));
    const { client, events } = await setUp({ makeReview, limits: { reportMs: 200 } });
    const it = client();
    for (let i = 1; i <= 200; i++) await it.send(ask(planText(), {})).reply(i);
    const total = () => events.reduce((sum, { details }) => sum + Number(details?.count), 0);
    await until(() => total() === 200);
    expect(events.length).toBeLessThan(20);
  });

  test("answers without a verdict: the client gets the reply, apart from the message", async () => {
    const error = new UnusableReply(
      new AegisError("model_reply", "no verdict", "Look.", { a: 1 }),
      '{"x":1}',
    );
    const { path, client } = await setUp({ makeReview: () => Promise.reject(error) });
    const raw = await client().send(ask(planText(), {})).reply();
    expect(raw.parameters).toMatchObject({ code: "model_reply", details: { a: 1, reply: '{"x":1}' } });
    const thrown = await callReviewer(path, planText()).catch((it: unknown) => it);
    expect(thrown).toBeInstanceOf(UnusableReply);
    expect(thrown).toMatchObject({ code: "model_reply", reply: '{"x":1}', hint: "Look.", details: { a: 1 } });
    expect(Object(thrown).details).toEqual({ a: 1 });
  });

  test("a hint that names a setting also names the service's file", async () => {
    const hint = async (given: string) => {
      const error = new AegisError("unavailable", "down", given);
      const { path } = await setUp({ makeReview: () => Promise.reject(error) });
      const thrown = await callReviewer(path, planText()).catch((it: unknown) => it);
      return Object(thrown).hint;
    };
    expect(await hint("Check AEGIS_AI_BASE_URL.")).toBe(
      "Check AEGIS_AI_BASE_URL. The service reads it from /etc/aegis/aegis-reviewd.env (edit as root; then: systemctl restart aegis-reviewd.service).",
    );
    expect(await hint("Ask again.")).toBe("Ask again.");
  });

  test("answers with a reply too long to send", async () => {
    const { client, call } = await setUp();
    const it = client().send(ask(planText(), {}));
    (await call(0)).answer(JSON.stringify("x".repeat(1024 * 1024)));
    expect(await it.refusal()).toBe("model_reply");
  });

  test("an internal error does not leak details", async () => {
    const { client, log } = await setUp({
      makeReview: () => Promise.reject(new TypeError("undefined is not a secret")),
    });
    const it = client().send(ask(planText(), {}));
    expect(await it.refusal()).toBe("internal");
    expect(JSON.stringify(it.messages)).not.toContain("secret");
    expect(log.lines).toContain("error a review failed");
  });

  test("a review that can't be logged is not sent", async () => {
    const record = ({ kind }: NewAuditEvent) => {
      if (kind === "review_completed") throw new AegisError("io", "disk full");
    };
    const { client, call } = await setUp({ record });
    const it = client().send(ask(planText(), {}));
    (await call(0)).answer();
    expect(await it.refusal()).toBe("io");
  });
});

describe("limits", () => {
  test("PEER 23: silent clients block nobody, and are dropped after the time limit", async () => {
    const { client, call } = await setUp({ limits: { requestMs: 300 } });
    const silent = [client(), client(), client()];
    const it = client().send(ask(planText(), {}));
    (await call(0)).answer();
    expect(await event(it, 1)).toMatchObject({ kind: "finished" });
    expect(await Promise.all(silent.map((one) => one.refusal()))).toEqual(Array(3).fill("timeout"));
    await Promise.all(silent.map((one) => one.closed));
  });

  test("connections of one uid", async () => {
    const { client } = await setUp({ limits: { clientsPerUid: 2 } });
    for (const it of [client(), client()]) await it.send(GET_INFO).reply();
    expect(await client().refusal()).toBe("busy");
  });

  test("waiting plans", async () => {
    const { client, calls } = await setUp({ limits: { asking: 1, waiting: 2 } });
    for (let i = 0; i < 3; i++) await client().send(ask(planText())).reply();
    const it = client().send(ask(planText()));
    expect(await it.refusal()).toBe("busy");
    expect((await it.reply()).parameters.message).toContain("there are too many plans");
    expect(calls.length).toBe(1);
  });

  test("plans of one uid; asking again about the same plan does not count", async () => {
    const { client } = await setUp({ limits: { asking: 1, plansPerUid: 2 } });
    const plans = [planText(), planText()];
    for (const plan of plans) await client().send(ask(plan)).reply();
    const it = client().send(ask(planText()));
    expect((await it.reply()).parameters.message).toContain("you have too many plans");
    expect(await event(client().send(ask(plans[1])), 1)).toMatchObject({ kind: "waiting", place: 1 });
  });

  test("memory for incomplete requests: one too many is refused, the others are served", async () => {
    const { client, call } = await setUp({ limits: { bytes: 180_000, bytesPerUid: 150_000 } });
    const slow = client();
    const plan = planText();
    const text = JSON.stringify(ask(plan, {}));
    slow.send(`${text}${" ".repeat(150_000)}`);
    // It has arrived when this one, sent after it, is answered.
    await client().send(GET_INFO).reply();
    const it = client().send(" ".repeat(150_000));
    expect(await it.refusal()).toBe("busy");
    await it.closed;
    slow.send("\0");
    (await call(0)).answer();
    expect(await event(slow, 1)).toMatchObject({ kind: "finished" });
    // What was refused or is through holds nothing any more.
    const next = client().send(`${JSON.stringify(GET_INFO)}${" ".repeat(150_000)}\0`);
    expect((await next.reply()).error).toBeUndefined();
  });

  test("memory for waiting plans: each plan is kept once, then released", async () => {
    const { client, call } = await setUp({ limits: { bytes: 1_500_000, bytesPerUid: 1_500_000, asking: 1 } });
    const plan = planText(500_000);
    const first = Array.from({ length: 10 }, () => client());
    for (const it of first) await it.send(ask(plan)).reply();
    const other = client().send(ask(planText(500_000)));
    expect(await event(other, 1)).toMatchObject({ kind: "waiting", place: 1 });
    expect(
      await client()
        .send(ask(planText(500_000)))
        .refusal(),
    ).toBe("busy");
    (await call(0)).answer();
    await Promise.all(first.map((it) => it.reply(2)));
    const late = client().send(ask(planText(500_000)));
    expect(await event(late, 1)).toMatchObject({ kind: "waiting" });
  });

  test("a client that does not read its answer is dropped; the others get theirs", async () => {
    const { client, call, log } = await setUp({ limits: { unreadBytes: 800_000 } });
    const plans = [planText(), planText()];
    const [slow, it] = [client(), client()];
    slow.socket.pause();
    for (const one of [slow, it]) for (const plan of plans) one.send(ask(plan, {}));
    for (const [n, plan] of plans.entries()) {
      const model = await call(n);
      // Both have joined before it answers.
      await client().send(ask(plan)).reply();
      model.answer(JSON.stringify("x".repeat(900_000)));
      expect(String((await event(it, n + 1)).reply).length).toBeGreaterThan(900_000);
    }
    await until(() => log.lines.some((line) => line.includes("does not read its answers")));
    expect(log.lines.filter((line) => line.includes("does not read its answers")).length).toBe(1);
  });
});

describe("one call to the model per plan", () => {
  test("shared by all clients that ask meanwhile; another plan has its own", async () => {
    const { client, calls, call, events } = await setUp();
    const [plan, other] = [planText(), planText()];
    const askers = Array.from({ length: 20 }, () => client().send(ask(plan)));
    await Promise.all(askers.map((it) => it.reply()));
    const late = client().send(ask(plan));
    expect(await event(late, 1)).toMatchObject({
      kind: "asking",
      elapsed_s: 0,
      estimate_s: expect.any(Number),
    });
    const another = client().send(ask(other));
    await another.reply();
    (await call(0)).answer();
    const answers = await Promise.all([...askers, late].map((it) => event(it, 2)));
    expect(new Set(answers.map((it) => it.review)).size).toBe(1);
    expect(calls.length).toBe(2);
    (await call(1)).answer();
    expect(JSON.parse(String((await event(another, 2)).review))).toMatchObject({
      plan_hash: sha256Hex(other),
    });
    expect(events.map(({ kind }) => kind)).toEqual(["review_completed", "review_completed"]);
  });

  test("the same evidence gets the same answer, even under another plan id", async () => {
    const { client, call, calls, events, key } = await setUp();
    const text = planText();
    const other = canonicalJson({ ...JSON.parse(text), plan_id: randomUUID() });
    const it = client().send(ask(text, {}));
    (await call(0)).answer();
    await event(it, 1);
    for (const [n, plan] of [text, other].entries()) {
      const { kind, review: said, reply } = await event(it.send(ask(plan, {})), n + 2);
      expect([kind, reply]).toEqual(["finished", REPLY]);
      const { document } = readDocument("review", String(said));
      expect(document).toMatchObject({ plan_hash: sha256Hex(plan), plan_id: JSON.parse(plan).plan_id });
      expect(reviewIsSignedBy(document, [key.public_key_hex])).toBe(true);
    }
    expect(calls.length).toBe(1);
    expect(events.map(({ details }) => details?.remembered)).toEqual([false, true, true]);
  });

  test("a failure is not remembered", async () => {
    const { client, call } = await setUp();
    const [it, plan] = [client(), planText()];
    it.send(ask(plan, {}));
    (await call(0)).fail(new AegisError("unavailable", "down"));
    expect((await it.reply(1)).error).toContain("Refused");
    it.send(ask(plan, {}));
    (await call(1)).answer();
    expect(await event(it, 2)).toMatchObject({ kind: "finished" });
  });

  test("another uid's plan gets its turn between one uid's plans", async () => {
    const limits = { ...REVIEWER_LIMITS, asking: 2 };
    const started: string[] = [];
    const queue = reviewQueue({
      limits,
      budget: byteBudget(limits),
      estimate: () => 1,
      ask: ({ hash }) => {
        started.push(hash);
        return new Promise(() => {});
      },
    });
    const asker = { event() {}, end() {} };
    const [first, second, theirs] = [planText(), planText(), planText()];
    queue.join(first, 1, asker);
    queue.join(second, 1, asker);
    queue.join(theirs, 2, asker);
    expect(started).toEqual([first, theirs].map(sha256Hex));
    expect(queue.count()).toEqual({ asking: 2, waiting: 1 });
  });

  test("two at once; the others wait in order and know their place", async () => {
    const { client, calls, call } = await setUp();
    const clients: RawClient[] = [];
    for (const _ of Array(5)) {
      const it = client().send(ask(planText()));
      await it.reply();
      clients.push(it);
    }
    const firsts = await Promise.all(clients.map((it) => event(it, 1)));
    expect(firsts.map(({ kind, place }) => [kind, place])).toEqual([
      ["asking", undefined],
      ["asking", undefined],
      ["waiting", 1],
      ["waiting", 2],
      ["waiting", 3],
    ]);
    expect(calls.length).toBe(2);
    clients[3]?.socket.destroy();
    expect(await event(clients[4] ?? client(), 2)).toEqual({ kind: "waiting", place: 2 });
    (await call(1)).answer();
    expect(await event(clients[2] ?? client(), 2)).toMatchObject({ kind: "asking" });
    expect(await event(clients[4] ?? client(), 3)).toEqual({ kind: "waiting", place: 1 });
    (await call(0)).answer();
    await call(3);
    expect(calls.length).toBe(4);
  });

  test("is aborted once all its clients are gone, and makes room for the next", async () => {
    const { client, calls, call } = await setUp({ limits: { asking: 1 } });
    const plan = planText();
    const [a, b] = [client().send(ask(plan)), client().send(ask(plan))];
    await Promise.all([a.reply(), b.reply()]);
    const next = client().send(ask(planText()));
    await next.reply();
    a.socket.destroy();
    await client().send(GET_INFO).reply();
    const model = await call(0);
    expect(model.signal.aborted).toBe(false);
    b.socket.destroy();
    await call(1);
    expect(model.signal.aborted).toBe(true);
    expect(calls.length).toBe(2);
  });

  test("a client without events is noticed when it leaves; one that only stops sending has not left", async () => {
    const { client, call, calls } = await setUp();
    const [silent, listening] = [client().send(ask(planText(), {})), client().send(ask(planText(), {}))];
    listening.socket.end();
    await call(1);
    silent.socket.destroy();
    await until(() => calls.some(({ signal }) => signal.aborted));
    const [other] = calls.filter(({ signal }) => !signal.aborted);
    other?.answer();
    expect(await event(listening, 1)).toMatchObject({ kind: "finished" });
    await listening.closed;
    const late = client().send(ask(planText(), {}));
    late.socket.end();
    const model = await call(2);
    late.socket.destroy();
    await until(() => model.signal.aborted);
  });

  test("the connection of a client that has left no longer counts", async () => {
    const { client, call } = await setUp({ limits: { clientsPerUid: 1 } });
    for (const n of [0, 1, 2]) {
      const it = client().send(ask(planText(), {}));
      if (n === 1) it.socket.end();
      const model = await call(n);
      it.socket.destroy();
      await until(() => model.signal.aborted);
    }
  });

  test("an aborted call counts until it ends; its plan can be asked about again", async () => {
    const started: AbortSignal[] = [];
    const stubborn = Promise.withResolvers<MadeReview>();
    const makeReview: ReviewerOptions["makeReview"] = (plan, _, { signal }) => {
      started.push(signal);
      return started.length === 1
        ? stubborn.promise
        : Promise.resolve({ review: reviewOf(plan), reply: REPLY });
    };
    const { client } = await setUp({ limits: { asking: 1 }, makeReview });
    const plan = planText();
    const gone = client().send(ask(plan));
    await gone.reply();
    gone.socket.destroy();
    await until(() => started[0]?.aborted === true);
    const it = client().send(ask(plan));
    expect(await event(it, 1)).toEqual({ kind: "waiting", place: 1 });
    stubborn.reject(started[0]?.reason);
    expect(await event(it, 3)).toMatchObject({ kind: "finished" });
    expect(started.length).toBe(2);
  });
});

describe("answers", () => {
  test("the review is signed, bound to the plan, and in the audit log", async () => {
    const { client, call, key, events } = await setUp();
    const plan = planText();
    const it = client().send(ask(plan));
    (await call(0)).answer();
    const { review, reply } = await event(it, 2);
    const made = readDocument("review", String(review));
    expect(canonicalJson(made.document)).toBe(String(review));
    expect(made.document).toMatchObject({ plan_hash: sha256Hex(plan), risk: "low" });
    expect(reviewIsSignedBy(made.document, [key.public_key_hex])).toBe(true);
    expect(reply).toBe(REPLY);
    expect(events).toEqual([
      {
        kind: "review_completed",
        plan_id: made.document.plan_id,
        decision: "auto_approve",
        details: {
          plan_hash: sha256Hex(plan),
          ai_review_hash: canonicalHash(made.document),
          model: "test-model",
          prompt_hash: "a".repeat(64),
          risk: "low",
          recommendation: "auto_approve",
          key_id: key.key_id,
          remembered: false,
          requested_by: `uid ${UID}`,
          seconds: 0,
        },
      },
    ]);
  });

  test("alive events during a long call, only with more", async () => {
    const { client } = await setUp({ limits: { aliveMs: 20, asking: 1 } });
    const plan = planText();
    const [it, quiet] = [client().send(ask(plan)), client().send(ask(plan, {}))];
    expect(await event(it, 3)).toEqual({ kind: "alive", elapsed_s: 0, estimate_s: expect.any(Number) });
    const second = client().send(ask(planText()));
    expect(await event(second, 2)).toEqual({ kind: "alive", place: 1 });
    expect(quiet.messages).toEqual([]);
  });

  test("introspection", async () => {
    const { client } = await setUp();
    const describe = (name: string) => ({
      method: "org.varlink.service.GetInterfaceDescription",
      parameters: { interface: name },
    });
    const it = client().send(GET_INFO);
    for (const name of ["io.aegis.Reviewer", "org.varlink.service", "io.aegis.Executor"])
      it.send(describe(name));
    expect((await it.reply(1)).parameters).toMatchObject({
      product: "aegis",
      interfaces: ["org.varlink.service", "io.aegis.Reviewer"],
    });
    expect((await it.reply(2)).parameters).toEqual({ description: REVIEWER_IDL });
    expect((await it.reply(3)).parameters).toEqual({ description: SERVICE_IDL });
    expect(await it.refusal(4)).toBe("org.varlink.service.InterfaceNotFound");
  });
});

describe("closing, and the socket path", () => {
  test("waiting clients get an error, calls are aborted, and nothing is left behind", async () => {
    const { client, call, reviewer, path, events } = await setUp({
      limits: { asking: 1, reportMs: 3_600_000 },
    });
    const [asked, waiting] = [client().send(ask(planText(), {})), client().send(ask(planText(), {}))];
    const model = await call(0);
    await until(() => asked.socket.writableLength + waiting.socket.writableLength === 0);
    await reviewer.close();
    expect(model.signal.aborted).toBe(true);
    expect(await asked.refusal()).toBe("unavailable");
    expect(await waiting.refusal()).toBe("unavailable");
    expect(events).toMatchObject([{ kind: "review_failed", details: { count: 1 } }]);
    await expect(reviewerStatus(path)).rejects.toMatchObject({ code: "unavailable" });
  });

  test("a second service on the same path is refused", async () => {
    const { path, client } = await setUp();
    const second = serveReviewer({
      listen: { path },
      settings: readModelSettings({}),
      secret: { seed: Buffer.alloc(32), publicKeyHex: "", keyId: "" },
      makeReview: () => Promise.reject(new Error("never asked")),
      record: () => {},
      log: memoryLog(),
    });
    await expect(second).rejects.toMatchObject({ code: "exists" });
    expect((await client().send(GET_INFO).reply()).error).toBeUndefined();
  });
});

describe("the client", () => {
  test("passes on the events and resolves with review and reply", async () => {
    const { path, call } = await setUp();
    const seen: ReviewEvent[] = [];
    const plan = planText();
    const waiting = callReviewer(path, plan, { onEvent: (it) => seen.push(it) });
    (await call(0)).answer();
    const { review, reply } = await waiting;
    expect(readDocument("review", review).document).toMatchObject({ plan_hash: sha256Hex(plan) });
    expect(reply).toBe(REPLY);
    expect(seen).toEqual([
      {
        kind: "asking",
        place: null,
        elapsed_s: 0,
        estimate_s: expect.any(Number),
        review: null,
        reply: null,
      },
    ]);
  });

  test("aborting it aborts the call to the model", async () => {
    const { path, call } = await setUp();
    const controller = new AbortController();
    const waiting = callReviewer(path, planText(), { signal: controller.signal });
    const model = await call(0);
    const reason = new AegisError("interrupted", "Ctrl-C");
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await until(() => model.signal.aborted);
  });

  test("no reviewer: the hint says how to start it or do without", async () => {
    const { path } = temporaryDirectory();
    await expect(callReviewer(join(path, "none.sock"), planText())).rejects.toMatchObject({
      code: "unavailable",
      hint: expect.stringContaining("--direct"),
    });
  });

  test("the reviewer's status", async () => {
    const { path, client, key } = await setUp({ limits: { asking: 1 } });
    for (let i = 0; i < 3; i++) await client().send(ask(planText())).reply();
    expect(await reviewerStatus(path)).toEqual({
      model: "test-model",
      public_key_hex: key.public_key_hex,
      asking: 1,
      waiting: 2,
    });
  });
});
