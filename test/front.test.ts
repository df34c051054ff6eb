import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { AegisError } from "../src/errors.ts";
import { type FrontOptions, rememberUsedPlans, startFront } from "../src/front.ts";
import { listenUnix } from "../src/sys-ffi.ts";
import { FRONT_LIMITS, RUNNER_SLOTS } from "../src/wire-limits.ts";
import { claimSocketPath } from "../src/wire-socket-path.ts";
import {
  call,
  event,
  ID,
  memoryLog,
  PLAN,
  RawClient,
  REFUSED,
  startRunner,
  temporaryDirectory,
  until,
} from "./varlink-kit.ts";

const GET_INFO = { method: "org.varlink.service.GetInfo" };
const UID = process.getuid?.() ?? 0;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Answer = Parameters<typeof startRunner>[1];
const finished: Answer = (_, reply) => reply(event("finished"));

interface Given {
  limits?: FrontOptions["limits"];
  answer?: Answer | null;
  verify?: FrontOptions["verify"];
}

/** A front with a stand-in for the runner (none with `answer: null`). */
async function setUp({ limits = {}, answer = finished, verify = () => null }: Given = {}) {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "front.sock");
  const runnerPath = join(directory.path, "runner.sock");
  const runner = await startRunner(
    answer === null ? join(directory.path, "unused.sock") : runnerPath,
    answer ?? finished,
  );
  cleanups.push(runner.close);
  const log = memoryLog();
  const front = await startFront({
    listen: { path },
    runner: { path: runnerPath },
    states: directory.path,
    limits: { reportMs: 20, lingerMs: 200, ...limits },
    verify,
    log,
  });
  cleanups.push(front.close);
  const client = () => {
    const it = new RawClient(path);
    cleanups.push(() => it.socket.destroy());
    return it;
  };
  const counted = (code: string) =>
    runner.reports.flat().reduce((n, refusal) => n + (refusal.code === code ? refusal.count : 0), 0);
  return { path, directory: directory.path, runnerPath, runner, front, log, client, counted };
}

describe("bad input", () => {
  const BAD: [string, string | Uint8Array][] = [
    ["not JSON", "not json\0"],
    ["nothing before the NUL", "\0"],
    ["not UTF-8", new Uint8Array([0xff, 0xfe, 0])],
    ["a list", "[]\0"],
    ["an unknown member", '{"method":"org.varlink.service.GetInfo","root":true}\0'],
    ["an upgrade", '{"method":"org.varlink.service.GetInfo","upgrade":true}\0'],
    ["a message that is too long", "x".repeat(4 * 1024 * 1024 + 5000)],
  ];
  test.each(BAD)("PEER 14: %s gets a reply, is counted, and the connection is closed", async (_, bytes) => {
    const { client, counted } = await setUp();
    const it = client().send(bytes);
    expect(await it.refusal()).toBe("protocol");
    await it.closed;
    await until(() => counted("protocol") === 1);
  });

  test("PEER 14: an incomplete request gets a reply when the client stops sending", async () => {
    const { client, counted } = await setUp();
    const it = client().send('{"method":');
    it.socket.end();
    expect(await it.refusal()).toBe("protocol");
    await until(() => counted("protocol") === 1);
  });

  const WRONG: [string, object, string][] = [
    ["an unknown interface", { method: "org.example.A" }, "org.varlink.service.InterfaceNotFound"],
    ["an unknown method", call("Run", {}), "org.varlink.service.MethodNotFound"],
    [
      "Report by a client",
      call("Report", { refusals: [{ code: "x", count: 1, uid: 0 }] }),
      "org.varlink.service.MethodNotImplemented",
    ],
    ["a plan that is no string", call("Apply", { plan: {} }), "org.varlink.service.InvalidParameter"],
    [
      "an unknown parameter",
      call("Apply", { plan: PLAN, force: true }),
      "org.varlink.service.InvalidParameter",
    ],
    ["a short id", call("Watch", { execution_id: "0b7b4a3e" }), "org.varlink.service.InvalidParameter"],
  ];
  test.each(WRONG)(
    "%s is refused and counted, and the connection stays open",
    async (_, message, expected) => {
      const { client, counted, runner } = await setUp();
      const it = client().send(message).send(GET_INFO);
      expect(await it.refusal()).toBe(expected);
      expect((await it.reply(2)).parameters).toMatchObject({ product: "aegis" });
      await until(() => counted("protocol") === 1);
      expect(runner.calls).toEqual([]);
    },
  );

  test("a plan that the checks refuse is answered, reported with its digest, and never reaches the runner", async () => {
    const verify = () => {
      throw new AegisError("signature_invalid", "bad signature", "Sign it again.", { key_id: "k" });
    };
    const { client, runner } = await setUp({ verify });
    const it = client().send(call("Apply", { plan: PLAN }, { more: true }));
    expect(await it.reply()).toEqual({
      error: REFUSED,
      parameters: {
        code: "signature_invalid",
        message: "bad signature",
        hint: "Sign it again.",
        details: { key_id: "k" },
      },
    });
    await until(() => runner.reports.length === 1);
    expect<unknown>(runner.reports[0]).toEqual([
      { code: "signature_invalid", count: 1, uid: UID, request_sha256: sha256Hex(PLAN), execution_id: null },
    ]);
    expect(runner.calls).toEqual([]);
  });

  test("an internal error in the checks does not leak details", async () => {
    const verify = () => {
      throw new TypeError("undefined is not a secret");
    };
    const { client } = await setUp({ verify });
    const it = client().send(call("Apply", { plan: PLAN }));
    expect(await it.refusal()).toBe("internal");
    expect(JSON.stringify(it.messages)).not.toContain("secret");
  });

  test("oneway is honoured: no reply, not even a refusal", async () => {
    const { client, counted } = await setUp();
    const it = client()
      .send({ method: "a.B", oneway: true })
      .send({ ...GET_INFO, oneway: true })
      .send(GET_INFO);
    expect((await it.reply()).error).toBeUndefined();
    await until(() => counted("protocol") === 1);
    expect(it.messages.length).toBe(1);
  });

  test("too many pipelined calls: the first are answered, then the connection is refused and closed", async () => {
    const answer: Answer = (_, reply) => {
      setTimeout(() => reply({ parameters: { queued: [], recent: [] } }), 30);
    };
    const { client } = await setUp({ answer });
    const it = client().send(call("Status", {}));
    for (let i = 0; i < 100; i++) it.send(GET_INFO);
    await it.closed;
    expect(it.messages.length).toBeLessThan(100);
    expect(await it.refusal(it.messages.length)).toBe("busy");
  });
});

describe("limits", () => {
  test("of one uid, root too: the next connection is refused as busy and closed", async () => {
    const { client, counted } = await setUp({ limits: { clientsPerUid: 2 } });
    for (const it of [client(), client()]) await it.send(GET_INFO).reply();
    const third = client();
    expect(await third.refusal()).toBe("busy");
    await third.closed;
    await until(() => counted("busy") === 1);
  });

  test("in total", async () => {
    const { client } = await setUp({ limits: { clients: 2, clientsPerUid: 9 } });
    for (const it of [client(), client()]) await it.send(GET_INFO).reply();
    expect(await client().refusal()).toBe("busy");
  });

  test("a refused client can read why while still sending a big request", async () => {
    const { client } = await setUp({ limits: { clientsPerUid: 1 } });
    await client().send(GET_INFO).reply();
    expect(
      await client()
        .send(call("Apply", { plan: "x".repeat(3_000_000) }))
        .refusal(),
    ).toBe("busy");
  });

  test("every client of a burst is told why", async () => {
    const { client } = await setUp({ limits: { clientsPerUid: 1 } });
    await client().send(GET_INFO).reply();
    const crowd = Array.from({ length: 60 }, () => client().send(GET_INFO));
    expect(new Set(await Promise.all(crowd.map((it) => it.refusal())))).toEqual(new Set(["busy"]));
  });

  test("incomplete large requests keep out large ones only", async () => {
    const { client } = await setUp({ limits: { bytes: 220_000, bytesPerUid: 220_000 } });
    const greedy = client().send(" ".repeat(200_000));
    await client().send(GET_INFO).reply();
    expect(await client().send(" ".repeat(200_000)).refusal()).toBe("busy");
    const small = client().send(`${JSON.stringify(GET_INFO)}${" ".repeat(30_000)}`);
    // Its beginning has arrived when this one, sent after it, is answered.
    await client().send(GET_INFO).reply();
    small.send("\0");
    expect((await small.reply()).error).toBeUndefined();
    greedy.socket.destroy();
  });

  test("a slot is free again when its client leaves", async () => {
    const { client } = await setUp({ limits: { clientsPerUid: 1 } });
    const first = client();
    await first.send(GET_INFO).reply();
    first.socket.destroy();
    for (let served = false; !served; ) {
      const next = client().send(GET_INFO);
      served = (await next.reply()).error === undefined;
    }
  });

  test("Apply calls at the runner", async () => {
    const { client, counted, runner } = await setUp({ limits: { applies: 1 }, answer: () => {} });
    const first = client().send(call("Apply", { plan: PLAN }, { more: true }));
    await until(() => runner.calls.length === 1);
    expect(
      await client()
        .send(call("Apply", { plan: PLAN }))
        .refusal(),
    ).toBe("busy");
    await until(() => counted("busy") === 1);
    const status = client().send(call("Status", {}));
    await until(() => runner.calls.length === 2);
    expect(status.messages).toEqual([]);
    first.socket.destroy();
  });

  test("PEER 13: a waiting verified submission does not count against its uid's connections; a refused one does", async () => {
    const verify = (plan: string) => {
      if (plan !== PLAN) throw new AegisError("signature_invalid", "refused by the test");
      return null;
    };
    const { client, runner } = await setUp({ limits: { clientsPerUid: 1 }, answer: () => {}, verify });
    for (const n of [1, 2, 3]) {
      client().send(call("Apply", { plan: PLAN }));
      await until(() => runner.calls.length === n);
    }
    expect(
      await client()
        .send(call("Apply", { plan: "{}" }))
        .refusal(),
    ).toBe("signature_invalid");
    expect(await client().send(GET_INFO).refusal()).toBe("busy");
  });

  test("finished Apply calls don't count", async () => {
    const { client, runner } = await setUp({ limits: { applies: 1 } });
    const it = client();
    for (let i = 1; i <= 3; i++)
      expect((await it.send(call("Apply", { plan: PLAN })).reply(i)).error).toBeUndefined();
    expect(runner.calls.length).toBe(3);
  });

  test("a submission whose client left keeps its slot until the runner has finished; limited per uid", async () => {
    const answers: (() => void)[] = [];
    const answer: Answer = (_, reply) => {
      answers.push(() => reply(event("finished")));
    };
    const limits = { applies: 2, appliesPerUid: 1 };
    const { client, path, runner, runnerPath } = await setUp({ limits, answer });
    for (const socket of [path, runnerPath]) chmodSync(socket, 0o666);
    chmodSync(join(path, ".."), 0o755);
    const apply = () => client().send(call("Apply", { plan: PLAN }));
    if (UID === 0) process.seteuid?.(65534);
    try {
      const first = apply();
      await until(() => answers.length === 1);
      first.socket.destroy();
      await client().send(GET_INFO).reply();
      expect(await apply().refusal()).toBe("busy");
    } finally {
      if (UID === 0) process.seteuid?.(0);
    }
    if (UID === 0) {
      for (const n of [2, 3]) {
        const roots = apply();
        if (n === 2) await until(() => answers.length === 2);
        else expect(await roots.refusal()).toBe("busy");
      }
    }
    for (const answerNow of answers.splice(0)) answerNow();
    await until(() => runner.sockets.size === 0);
    apply();
    await until(() => answers.length === 1);
  });

  test("a watcher that leaves at once keeps its slot until the runner is up and can notice", async () => {
    const answers: (() => void)[] = [];
    const answer: Answer = (_, reply) => {
      answers.push(() => reply(event("queued", { place: 0 })));
    };
    const { client, runner } = await setUp({ limits: { watches: 1, noticeMs: 150 }, answer });
    const watch = () => client().send(call("Watch", { execution_id: ID }, { more: true }));
    const first = watch();
    await until(() => answers.length === 1);
    first.socket.destroy();
    await client().send(GET_INFO).reply();
    expect(await watch().refusal()).toBe("busy");
    answers[0]?.();
    await until(() => runner.sockets.size === 0);
    expect(await watch().refusal()).toBe("busy");
    await Bun.sleep(200);
    watch();
    await until(() => answers.length === 2);
  });

  test("watchers: per uid and in total; a slot is free again when its watcher leaves, and none is a plan's", async () => {
    const limits = { watches: 9, watchesPerUid: 2, applies: 1, noticeMs: 1 };
    const answer: Answer = ({ method }, reply) =>
      method.endsWith("Watch") && reply(event("queued", { place: 0 }));
    const { client, counted, runner } = await setUp({ limits, answer });
    const watch = () => client().send(call("Watch", { execution_id: ID }, { more: true }));
    const watchers = [watch(), watch()];
    for (const it of watchers) await it.reply();
    expect(await watch().refusal()).toBe("busy");
    await until(() => counted("busy") === 1);
    client().send(call("Apply", { plan: PLAN }));
    await until(() => runner.calls.length === 3);
    watchers[0]?.socket.destroy();
    await until(() => runner.sockets.size === 2);
    await Bun.sleep(20);
    watch();
    await until(() => runner.calls.length === 4);
    const all = await setUp({ limits: { watches: 1, watchesPerUid: 9 }, answer: () => {} });
    all.client().send(call("Watch", { execution_id: ID }));
    await until(() => all.runner.calls.length === 1);
    const hint = expect.stringContaining("aegis daemon status");
    const second = all.client().send(call("Watch", { execution_id: ID }));
    expect((await second.reply()).parameters).toMatchObject({ code: "busy", hint });
  });

  test("the runner has a slot for everything that the front accepts", () => {
    const { applies, watches, requests } = FRONT_LIMITS;
    const statusAndReport = 2;
    expect(FRONT_LIMITS.appliesPerUid).toBeLessThan(applies);
    expect(applies + watches + requests + statusAndReport).toBeLessThanOrEqual(RUNNER_SLOTS);
    // Each needs a descriptor, and there is one for each client.
    expect(RUNNER_SLOTS).toBeLessThanOrEqual(FRONT_LIMITS.clients);
  });

  test("a silent client is told, closed and counted", async () => {
    const { client, counted } = await setUp({ limits: { requestMs: 30 } });
    const it = client();
    expect(await it.refusal()).toBe("timeout");
    await it.closed;
    await until(() => counted("timeout") === 1);
  });

  test("a client that drips bytes gains no time", async () => {
    const { client } = await setUp({ limits: { requestMs: 100 } });
    const it = client();
    const drip = setInterval(() => it.send(" "), 10);
    expect(await it.refusal()).toBe("timeout");
    clearInterval(drip);
  });

  test("an idle client that was served is closed without a message", async () => {
    const { client, counted } = await setUp({ limits: { requestMs: 30 } });
    const it = client().send(GET_INFO);
    await it.closed;
    expect(it.messages.length).toBe(1);
    expect(counted("timeout")).toBe(0);
  });

  test("a client that waits for its execution is not cut off", async () => {
    let finish = () => {};
    const answer: Answer = (_, reply) => {
      reply(event("started"));
      finish = () => reply(event("finished"));
    };
    const { client } = await setUp({ limits: { requestMs: 20 }, answer });
    const it = client().send(call("Apply", { plan: PLAN }, { more: true }));
    await it.reply();
    await Bun.sleep(100);
    finish();
    expect((await it.reply(2)).parameters).toMatchObject({ event: { kind: "finished" } });
  });

  test("a client that does not read is dropped, and memory does not grow with its unsent replies", async () => {
    const line = event("output", { data: "x".repeat(64 * 1024) });
    let sent = 0;
    const answer: Answer = (_, reply, socket) => {
      const pump = () => {
        if (socket.destroyed) return;
        for (let i = 0; i < 16; i++, sent++) reply(line);
        setTimeout(pump, 1);
      };
      pump();
    };
    const { client, log } = await setUp({ answer });
    const it = client();
    it.socket.pause();
    it.send(call("Apply", { plan: PLAN }, { more: true }));
    await until(() => log.lines.some((entry) => entry.includes("does not read its answers")));
    expect(sent).toBeLessThan(400);
  });
});

describe("relaying", () => {
  test("the caller is the kernel's answer, whatever the client claims", async () => {
    const { client, runner } = await setUp();
    const lie = { uid: 4711, gid: 4711, pid: 1 };
    for (const [method, parameters] of [
      ["Apply", { plan: PLAN, caller: lie }],
      ["Watch", { execution_id: ID, caller: lie }],
    ] as const) {
      await client().send(call(method, parameters)).reply();
    }
    const callers = runner.calls.map((entry) => entry.parameters.caller);
    expect(callers).toEqual(Array(2).fill({ uid: UID, gid: process.getgid?.() ?? 0, pid: process.pid }));
  });

  test("with more every event is passed on, without it only the last", async () => {
    const answer: Answer = (_, reply) => {
      for (const kind of ["queued", "checking", "started", "finished"]) reply(event(kind));
    };
    const { client } = await setUp({ answer });
    const all = client().send(call("Apply", { plan: PLAN }, { more: true }));
    await all.reply(4);
    expect(all.messages.map((message) => message.continues === true)).toEqual([true, true, true, false]);
    const last = client()
      .send(call("Apply", { plan: PLAN }))
      .send(GET_INFO);
    await last.reply(2);
    expect(last.messages[0]).toMatchObject({ parameters: { event: { kind: "finished" } } });
  });

  test("the runner's refusal keeps its code", async () => {
    const parameters = { code: "replay", message: "used", hint: "plan again", details: { a: 1 } };
    const { client, runner } = await setUp({ answer: (_, reply) => reply({ error: REFUSED, parameters }) });
    expect(
      await client()
        .send(call("Apply", { plan: PLAN }))
        .reply(),
    ).toEqual({ error: REFUSED, parameters });
    expect(runner.reports).toEqual([]);
  });

  describe("a plan that has expired by the front's clock", () => {
    const outside = () => new AegisError("expired", "the front says so");
    const refusing =
      (code: string, details = {}): Answer =>
      (_, reply) =>
        reply({ error: REFUSED, parameters: { code, message: "the runner says so", hint: "", details } });
    const CASES: [what: string, answer: Answer, code: string, counted: number][] = [
      [
        "was used: it is a replay, the first time and ever after",
        refusing("replay", { used: true }),
        "replay",
        2,
      ],
      ["was not used: it is expired, and the runner is asked once", refusing("expired"), "expired", 2],
      ["the runner is busy: it is asked again", refusing("busy"), "busy", 0],
    ];
    test.each(CASES)("%s", async (_, answer, code, counted) => {
      const front = await setUp({ answer, verify: outside });
      const refusals: unknown[] = [];
      for (let n = 0; n < 3; n++)
        refusals.push(
          await front
            .client()
            .send(call("Apply", { plan: PLAN }))
            .refusal(),
        );
      expect(refusals).toEqual([code, code, code]);
      expect(front.runner.calls.length).toBe(3 - counted);
      if (counted > 0) await until(() => front.counted(code) === counted);
    });
  });

  const BROKEN: [string, Answer][] = [
    ["hangs up", (_, __, socket) => socket.end()],
    ["speaks no JSON", (_, __, socket) => socket.end("?\0")],
    ["sends an event that is none", (_, reply) => reply({ parameters: { event: { kind: "started" } } })],
    ["sends an unknown field", (_, reply) => reply(event("finished", { root: true }))],
    ["sends an unknown error", (_, reply) => reply({ error: "a.B", parameters: {} })],
    ["floods", (_, __, socket) => socket.write("x".repeat(6_000_000))],
  ];
  test.each(BROKEN)("a runner that %s: the client is told, and may continue", async (_, answer) => {
    const { client } = await setUp({ answer });
    const it = client()
      .send(call("Apply", { plan: PLAN }, { more: true }))
      .send(GET_INFO);
    expect(await it.refusal()).toBe("protocol");
    expect((await it.reply(2)).parameters).toMatchObject({ product: "aegis" });
  });

  test.each([
    ["Apply", { plan: PLAN }, true],
    ["Watch", { execution_id: ID }, false],
    ["Status", {}, false],
  ] as const)(
    "an answer to %s that breaks off: the hint says whether a run may continue",
    async (method, parameters, goesOn) => {
      const { client } = await setUp({ answer: (_, __, socket) => socket.destroy() });
      const { hint } = (await client().send(call(method, parameters)).reply()).parameters;
      expect(String(hint).includes(`goes on. Follow it: aegis apply --watch ${ID}`)).toBe(goesOn);
      expect(String(hint).includes("journalctl -u 'aegis-runner*'")).toBe(!goesOn);
    },
  );

  test("no runner: unavailable, with a hint", async () => {
    const { client } = await setUp({ answer: null });
    const it = client().send(call("Status", {}));
    expect(await it.refusal()).toBe("unavailable");
    expect((await it.reply()).parameters.hint).toContain("aegis daemon status");
  });

  test("a silent runner is covered by alive events, only with more", async () => {
    const { client, runner } = await setUp({ limits: { aliveMs: 20 }, answer: () => {} });
    const it = client().send(call("Apply", { plan: PLAN }, { more: true }));
    const quiet = client().send(call("Apply", { plan: PLAN }));
    expect((await it.reply(3)).parameters).toEqual({ event: { execution_id: ID, kind: "alive" } });
    expect(runner.calls.length).toBe(2);
    expect(quiet.messages).toEqual([]);
  });

  test("a client that has left frees its connection at the next event; the runner does not notice", async () => {
    const { client, runner } = await setUp({ limits: { aliveMs: 10, clientsPerUid: 1 }, answer: () => {} });
    const it = client().send(call("Apply", { plan: PLAN }, { more: true }));
    await until(() => runner.calls.length === 1);
    let hungUp = false;
    for (const socket of runner.sockets) socket.on("close", () => (hungUp = true));
    it.socket.destroy();
    for (let served = false; !served; ) served = (await client().send(GET_INFO).reply()).error === undefined;
    expect(hungUp).toBe(false);
  });

  test("a client that shuts down its sending side still gets everything", async () => {
    const { client } = await setUp({
      answer: (_, reply) => void setTimeout(() => reply(event("finished")), 30),
    });
    const it = client().send(call("Apply", { plan: PLAN }, { more: true }));
    it.socket.end();
    expect((await it.reply()).parameters).toMatchObject({ event: { kind: "finished" } });
    await it.closed;
  });
});

test("what a runner sends after its last answer is ignored", async () => {
  const refusal = { error: REFUSED, parameters: { code: "io", message: "m", hint: "", details: {} } };
  const status = { parameters: { running: null, queued: [], recent: [] } };
  const answer: Answer = ({ method }, reply) => {
    const last = method.endsWith("Status") ? status : refusal;
    for (const _ of [1, 2]) reply({ ...last, continues: true });
  };
  const { client, runner } = await setUp({ limits: { aliveMs: 20 }, answer });
  const it = client();
  it.send(call("Status", {})).send(call("Apply", { plan: PLAN }, { more: true }));
  it.send(call("Watch", { execution_id: ID }, { more: true })).send(GET_INFO);
  await until(() => it.messages.some(({ parameters }) => "vendor" in parameters));
  await Bun.sleep(60);
  expect(runner.sockets.size).toBe(0);
  // On a slow machine there may be signs of life before an answer.
  const answers = it.messages.filter(({ parameters }) => !("event" in parameters));
  expect(answers.map(({ error }) => error)).toEqual([undefined, REFUSED, REFUSED, undefined]);
  expect(it.messages.at(-1)).toBe(answers[3]);
});

describe("the status", () => {
  /** Answers to Status one after the other, each when it is let go. */
  function held() {
    const asked: ((id: string) => void)[] = [];
    const answer: Answer = (_, reply) => {
      asked.push((running) => reply({ parameters: { running, queued: [], recent: [] } }));
    };
    return { asked, answer };
  }
  const other = ID.replace("0b", "1b");
  const third = ID.replace("0b", "2b");

  test("many clients cause one request at a time, and no answer predates its request", async () => {
    const { asked, answer } = held();
    const { client, runner } = await setUp({ answer });
    const first = client().send(call("Status", {}));
    await until(() => asked.length === 1);
    const crowd = [client(), client(), client()].map((it) => it.send(call("Status", {})));
    const left = client().send(call("Status", {}));
    await Promise.all([client().send(GET_INFO).reply(), Bun.sleep(20)]);
    expect([asked.length, runner.sockets.size]).toEqual([1, 1]);
    left.socket.destroy();
    asked[0]?.(ID);
    expect((await first.reply()).parameters).toMatchObject({ running: ID });
    await until(() => asked.length === 2);
    expect(crowd.flatMap((it) => it.messages)).toEqual([]);
    asked[1]?.(other);
    for (const it of crowd) expect((await it.reply()).parameters).toMatchObject({ running: other });
    first.send(call("Status", {}));
    await until(() => asked.length === 3);
    asked[2]?.(third);
    expect((await first.reply(2)).parameters).toMatchObject({ running: third });
    expect(left.messages).toEqual([]);
  });

  test("a runner that does not answer is given up and disconnected", async () => {
    const { client, runner, log } = await setUp({ limits: { statusMs: 30 }, answer: () => {} });
    const current = [client(), client()].map((it) => it.send(call("Status", {})));
    for (const it of current) expect(await it.refusal()).toBe("timeout");
    await until(() => runner.sockets.size === 0);
    expect(log.lines.join()).toContain("did not report its status");
  });

  test.each([
    ["a wrong shape", { parameters: { queued: "all" } }, "protocol"],
    ["a refusal", { error: REFUSED, parameters: { code: "io", message: "m", hint: "", details: {} } }, "io"],
  ])(
    "a runner that answers with %s: so is everybody answered, and the next question is put",
    async (_, reply, code) => {
      const { client, runner } = await setUp({ answer: (_call, send) => send(reply) });
      const it = client().send(call("Status", {})).send(call("Status", {}));
      expect([await it.refusal(1), await it.refusal(2)]).toEqual([code, code]);
      expect(runner.calls.length).toBe(2);
    },
  );
});

describe("reports of refusals", () => {
  test("a flood is summed up: few messages, every refusal counted, no client kept waiting", async () => {
    const { client, runner, counted } = await setUp({ limits: { reportMs: 300 } });
    const it = client();
    for (let i = 1; i <= 200; i++) await it.send({ method: `a.B${i}` }).reply(i);
    await until(() => counted("protocol") === 200);
    expect(runner.reports.length).toBeLessThan(20);
    const last = runner.reports.at(-1)?.[0];
    expect(last).toMatchObject({ code: "protocol", uid: UID, request_sha256: null });
  });

  test("while the runner can't be reached, counts are kept and delivered later", async () => {
    const { client, runnerPath, log } = await setUp({ answer: null });
    const it = client();
    for (let i = 1; i <= 5; i++) await it.send({ method: "a.B" }).reply(i);
    await until(() => log.lines.some((line) => line.includes("can't report to the runner")));
    const runner = await startRunner(runnerPath, finished);
    cleanups.push(runner.close);
    await until(() => runner.reports.flat().reduce((n, refusal) => n + refusal.count, 0) === 5);
  });

  test("the rest is sent at close", async () => {
    const { client, front, runner } = await setUp({ limits: { reportMs: 3_600_000 } });
    const it = client();
    for (let i = 1; i <= 3; i++) await it.send({ method: "a.B" }).reply(i);
    await front.close();
    expect(runner.reports.flat().map((refusal) => refusal.count)).toEqual([1, 2]);
  });
});

describe("the socket", () => {
  const start = (path: string, mode?: number) =>
    startFront({
      listen: { path, ...(mode === undefined ? {} : { mode }) },
      runner: { path: "/nonexistent" },
      states: "/nonexistent",
      verify: () => null,
      log: memoryLog(),
    });

  test("PEER 24: a second daemon does not take over a live socket, not even one without a lock", async () => {
    const { path, client } = await setUp();
    const inode = statSync(path).ino;
    await expect(start(path)).rejects.toMatchObject({ code: "exists" });
    const other = `${path}.other`;
    const foreign = await startRunner(other, finished);
    cleanups.push(foreign.close);
    await expect(start(other)).rejects.toMatchObject({ code: "exists" });
    expect(existsSync(other)).toBe(true);
    expect(statSync(path).ino).toBe(inode);
    expect((await client().send(GET_INFO).reply()).parameters).toMatchObject({ product: "aegis" });
  });

  test("PEER 24: of two that start at once on a dead socket, one gets it", async () => {
    const { path } = await setUp();
    const dead = `${path}.dead`;
    await leaveDeadSocket(dead);
    const results = await Promise.allSettled([start(dead), start(dead)]);
    for (const result of results) if (result.status === "fulfilled") cleanups.push(result.value.close);
    expect(results.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
    const it = new RawClient(dead).send(GET_INFO);
    cleanups.push(() => it.socket.destroy());
    expect((await it.reply()).error).toBeUndefined();
  });

  test("PEER 24: a path claimed by one that does not listen yet can't be taken", async () => {
    const { path } = await setUp();
    const claim = await claimSocketPath(`${path}.new`);
    await expect(claimSocketPath(`${path}.new`)).rejects.toMatchObject({ code: "exists" });
    claim.release();
    (await claimSocketPath(`${path}.new`)).release();
  });

  test("a dead socket is replaced, with the requested mode", async () => {
    const { path } = await setUp();
    const dead = `${path}.dead`;
    await leaveDeadSocket(dead);
    const front = await start(dead, 0o660);
    cleanups.push(front.close);
    expect(statSync(dead).mode & 0o777).toBe(0o660);
    expect(process.umask()).not.toBe(0o177);
  });

  test("a file that is not a socket is left alone", async () => {
    const { path } = await setUp();
    writeFileSync(`${path}.txt`, "mine");
    await expect(start(`${path}.txt`)).rejects.toMatchObject({ code: "exists" });
    expect(readFileSync(`${path}.txt`, "utf8")).toBe("mine");
  });

  test("a socket passed as a descriptor is served", async () => {
    const { path } = await setUp();
    const handed = `${path}.handed`;
    const front = await startFront({
      listen: { fd: listenUnix(handed) },
      runner: { path: "/nonexistent" },
      states: "/nonexistent",
      verify: () => null,
      log: memoryLog(),
    });
    cleanups.push(front.close);
    const it = new RawClient(handed).send(GET_INFO);
    cleanups.push(() => it.socket.destroy());
    expect((await it.reply()).parameters).toMatchObject({ product: "aegis" });
  });
});

/** A socket file that nobody listens on, as a killed daemon leaves it. */
async function leaveDeadSocket(path: string): Promise<void> {
  const script = `require("net").createServer().listen({path:${JSON.stringify(path)}},()=>process.kill(process.pid,"SIGKILL"))`;
  await Bun.spawn([process.execPath, "-e", script]).exited;
  expect(existsSync(path)).toBe(true);
}

const used = new AegisError("replay", "it was used", "", { used: true });
const expired = new AegisError("expired", "it has expired");

test("a used plan gets the runner's refusal again, even once it has expired", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", used);
  expect(() => plans.check("a", null)).toThrow("it was used");
  expect(() => plans.check("a", expired)).toThrow("it was used");
  expect(() => plans.check("b", null)).not.toThrow();
});

test("temporary refusals are not remembered: a waiting plan, drift, a busy executor", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", new AegisError("replay", "it waits already"));
  plans.learn("a", new AegisError("drift", "changed", "", { used: true }));
  plans.learn("a", new AegisError("busy", "later"));
  expect(() => plans.check("a", null)).not.toThrow();
});

test("an expired plan goes to the runner once: only it knows whether the plan was used", () => {
  const plans = rememberUsedPlans();
  expect(() => plans.check("a", expired)).not.toThrow();
  plans.learn("a", new AegisError("expired", "so says the runner"));
  expect(() => plans.check("a", expired)).toThrow("it has expired");
  expect(() => plans.check("b", expired)).not.toThrow();
});

test("a plan that is valid after all goes to the runner, which is asked again once it has expired", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", new AegisError("not_yet_valid", "so says the runner"));
  expect(() => plans.check("a", null)).not.toThrow();
  expect(() => plans.check("a", expired)).not.toThrow();
});

test("memory is bounded, the oldest are forgotten first", () => {
  const plans = rememberUsedPlans();
  for (let i = 0; i <= 1000; i++) plans.learn(String(i), used);
  expect(() => plans.check("0", null)).not.toThrow();
  expect(() => plans.check("1", null)).toThrow();
  expect(() => plans.check("1000", null)).toThrow();
});

describe("calls about requests", () => {
  const SUBMIT = { operation_plan: "{}", policy_result: "{}", reason: "web server" };
  const done: Answer = (_, reply) =>
    reply({ parameters: { event: { kind: "done", request: { number: 1 } } } });

  const wrong: [string, object, string][] = [
    [
      "without its plan",
      call("Submit", { ...SUBMIT, operation_plan: undefined }, { more: true }),
      "InvalidParameter",
    ],
    [
      "with an unknown member",
      call("Submit", { ...SUBMIT, approved: true }, { more: true }),
      "InvalidParameter",
    ],
    [
      "with a request that is no number",
      call("Withdraw", { number: "1" }, { more: true }),
      "InvalidParameter",
    ],
    ["with request 0", call("Withdraw", { number: 0 }, { more: true }), "InvalidParameter"],
    [
      "with another hash",
      call("Decide", { number: 1, request_hash: "x" }, { more: true }),
      "InvalidParameter",
    ],
  ];
  test.each(wrong)("%s are refused and counted, and reach no runner", async (_, message, error) => {
    const { client, counted, runner } = await setUp({ answer: done });
    expect(await client().send(message).refusal()).toBe(`org.varlink.service.${error}`);
    await until(() => counted("protocol") === 1);
    expect(runner.calls).toEqual([]);
  });

  test.each([
    ["Submit", SUBMIT],
    ["Withdraw", { number: 1 }],
    ["Decide", { number: 1, request_hash: "a".repeat(64) }],
    ["WatchRequests", {}],
  ])("%s needs more replies than one", async (method, parameters) => {
    const { client, runner } = await setUp({ answer: done });
    expect(await client().send(call(method, parameters)).refusal()).toBe("protocol");
    expect(runner.calls).toEqual([]);
  });

  test("more than 4 MiB are refused", async () => {
    const { client, runner } = await setUp({ answer: done });
    const big = call(
      "Submit",
      { ...SUBMIT, operation_plan: "x".repeat(4 * 1024 * 1024 + 4096) },
      { more: true },
    );
    expect(await client().send(big).refusal()).toBe("protocol");
    expect(runner.calls).toEqual([]);
  });

  test("of one user beyond the limit are refused, and others of theirs served as soon as one is answered", async () => {
    const replies: ((message: object) => void)[] = [];
    const { client, runner } = await setUp({
      limits: { requestsPerUid: 2 },
      answer: (_, reply) => replies.push(reply),
    });
    const two = [client(), client()].map((it) => it.send(call("Submit", SUBMIT, { more: true })));
    await until(() => runner.calls.length === 2);
    expect(await client().send(call("Requests", {})).refusal()).toBe("busy");
    for (const reply of replies) reply({ parameters: { event: { kind: "done", request: {} } } });
    await Promise.all(two.map((it) => it.reply()));
    const third = client().send(call("Requests", {}));
    await until(() => runner.calls.length === 3);
    replies[2]?.({ parameters: { requests: [], left_out: 0 } });
    expect((await third.reply()).parameters).toMatchObject({ requests: [] });
  });

  test("of a client that left stay counted until the runner has ended them", async () => {
    const replies: ((message: object) => void)[] = [];
    const { client, runner } = await setUp({
      limits: { requestsPerUid: 1 },
      answer: (_, reply) => replies.push(reply),
    });
    const gone = client().send(call("Submit", SUBMIT, { more: true }));
    await until(() => runner.calls.length === 1);
    gone.socket.destroy();
    await Bun.sleep(20);
    expect(await client().send(call("Requests", {})).refusal()).toBe("busy");
    replies[0]?.({ parameters: { event: { kind: "done", request: {} } } });
    await until(() => runner.sockets.size === 0);
    client().send(call("Requests", {}));
    await until(() => runner.calls.length === 2);
  });

  test("go to the runner with the kernel's identity instead of the claimed one, and its events come back", async () => {
    const proof = "0".repeat(32);
    const { client, runner } = await setUp({
      answer: (_, reply) => {
        reply({ parameters: { event: { kind: "proof", proof } }, continues: true });
        reply({ parameters: { event: { kind: "done", request: { number: 1 } } } });
      },
    });
    const caller = { uid: 4242, gid: 0, pid: 1 };
    const it = client().send(call("Submit", { ...SUBMIT, caller }, { more: true }));
    expect((await it.reply(1)).parameters).toMatchObject({ event: { kind: "proof", proof } });
    expect((await it.reply(2)).parameters).toMatchObject({ event: { kind: "done", request: { number: 1 } } });
    expect(runner.calls[0]?.parameters).toMatchObject({ ...SUBMIT, caller: { uid: UID } });
  });

  test("a refusal of the runner is passed on", async () => {
    const parameters = { code: "refused", message: "m", hint: "h", details: {} };
    const { client } = await setUp({ answer: (_, reply) => reply({ error: REFUSED, parameters }) });
    const it = client().send(call("Withdraw", { number: 1 }, { more: true }));
    expect((await it.reply()).parameters).toEqual(parameters);
  });

  test("documents larger than what a client may leave unread arrive whole", async () => {
    const operation_plan = "x".repeat(4 * 1024 * 1024);
    const documents = { operation_plan, policy_result: "{}", approvals: [] };
    const { client } = await setUp({
      answer: (_, reply) => reply({ parameters: { requests: [{ number: 1 }], left_out: 0, documents } }),
    });
    const { requestDocuments } = await (async () => {
      const it = client().send(call("Requests", { number: 1 }));
      const { parameters } = await it.reply();
      return { requestDocuments: parameters["documents"] };
    })();
    expect(requestDocuments).toMatchObject({ operation_plan });
  });

  test("a client that takes no answer keeps its place, and is cut off", async () => {
    const documents = { operation_plan: "x".repeat(4 * 1024 * 1024), policy_result: "{}", approvals: [] };
    const { client, runner } = await setUp({
      limits: { requestsPerUid: 1, requestMs: 300 },
      answer: (_, reply) => reply({ parameters: { requests: [{ number: 1 }], left_out: 0, documents } }),
    });
    const deaf = client();
    deaf.socket.pause();
    deaf.send(call("Requests", { number: 1 }));
    await until(() => runner.calls.length === 1);
    await Bun.sleep(50);
    expect(await client().send(call("Requests", {})).refusal()).toBe("busy");
    let served = false;
    while (!served) {
      const it = client().send(call("Requests", {}));
      served = (await it.reply()).error === undefined;
    }
  });
});

describe("waiting for requests", () => {
  const states = (directory: string, text: string) => {
    writeFileSync(join(directory, ".new"), text);
    renameSync(join(directory, ".new"), join(directory, "requests.state"));
  };
  const wait = (number?: number) =>
    call("WatchRequests", number === undefined ? {} : { number }, { more: true });
  const eventsOf = (it: RawClient) => it.messages.map(({ parameters }) => parameters["event"]);

  test("too many of one user, and too many in all, are refused; calls are served beside them", async () => {
    const { client, runner } = await setUp({
      limits: { watchers: 12, watchersPerUid: 10, clients: 4, clientsPerUid: 4 },
      answer: (_, reply) => reply({ parameters: { requests: [], left_out: 0 } }),
    });
    for (let n = 0; n < 10; n++) await client().send(wait()).reply();
    expect(await client().send(wait()).refusal()).toBe("busy");
    expect((await client().send(call("Requests", {})).reply()).error).toBeUndefined();
    // None of them held a runner.
    expect(runner.calls.map(({ method }) => method)).toEqual(["io.aegis.Executor.Requests"]);
  });

  test("one that isn't there", async () => {
    const { client } = await setUp();
    const it = client().send(wait(3));
    await it.reply(2);
    expect(eventsOf(it)).toEqual([{ kind: "none", number: 3 }, { kind: "current" }]);
  });

  test("malformed lines are left out", async () => {
    const { client, directory } = await setUp();
    states(directory, "1 1 open\nx\n2 2\n3 1 open; rm\n");
    const it = client().send(wait());
    await it.reply(2);
    expect(eventsOf(it)).toEqual([
      { kind: "state", number: 1, revision: 1, state: "open" },
      { kind: "current" },
    ]);
  });

  test("all states come first, then changes, each to those who wait for it", async () => {
    const { client, directory } = await setUp();
    states(directory, "2 1 open\n1 1 open\n");
    const [all, one] = [client().send(wait()), client().send(wait(1))];
    await Promise.all([all.reply(3), one.reply(2)]);
    states(directory, "2 2 approved\n1 1 open\n");
    await all.reply(4);
    states(directory, "2 2 approved\n1 2 rejected\n");
    await Promise.all([all.reply(5), one.reply(3)]);
    expect(eventsOf(all).slice(3)).toEqual([
      { kind: "state", number: 2, revision: 2, state: "approved" },
      { kind: "state", number: 1, revision: 2, state: "rejected" },
    ]);
    expect(eventsOf(one)).toEqual([
      { kind: "state", number: 1, revision: 1, state: "open" },
      { kind: "current" },
      { kind: "state", number: 1, revision: 2, state: "rejected" },
    ]);
  });

  test("a sign of life comes while nothing changes, and a missed event is made up for", async () => {
    const { client, directory } = await setUp({ limits: { aliveMs: 30 } });
    const it = client().send(wait());
    await until(() => eventsOf(it).some((event) => JSON.stringify(event) === '{"kind":"alive"}'));
    states(directory, "1 1 open\n");
    await until(() => JSON.stringify(eventsOf(it)).includes('"state":"open"'));
  });

  test("a client that leaves makes room", async () => {
    const { client } = await setUp({ limits: { watchersPerUid: 1 } });
    const first = client().send(wait());
    await first.reply();
    first.socket.destroy();
    let served = false;
    while (!served) served = (await client().send(wait()).reply()).error === undefined;
  });
});
