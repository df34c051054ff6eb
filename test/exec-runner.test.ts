import { dlopen, ptr } from "bun:ffi";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { canonicalJson } from "../src/canonical.ts";
import { type Result, readResult, writeResult } from "../src/doc-result.ts";
import { runDirectory } from "../src/eco-run.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import { Connection } from "../src/exec-connection.ts";
import { waitForRunLock } from "../src/exec-lock.ts";
import { markCurrent } from "../src/exec-recover.ts";
import { recoverRuns, serveRunner } from "../src/exec-runner.ts";
import { UsedRecord } from "../src/exec-used.ts";
import type { RunnerWorld } from "../src/exec-world.ts";
import type { Log } from "../src/log.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { encodeMessage, MAX_MESSAGE, MessageDecoder, parseReply, type Reply } from "../src/wire.ts";
import {
  type Event,
  type ProvenMethod,
  proofText,
  readEvent,
  readRequestEvent,
  readRequests,
  readStatus,
  replyError,
} from "../src/wire-executor.ts";
import { contextOf, logged, makeExecutionHost, signed } from "./execution-kit.ts";
import { type FakeHost, withFake } from "./fake-ecosystem.ts";
import { needs } from "./needs.ts";

/*
 * The runner in this process, on one end of a pair of sockets, with an ecosystem that exists only here, and without root.
 */

const { socketpair } = dlopen("libc.so.6", {
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
}).symbols;
const [AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC] = [1, 1, 0o2000000];

const ID = "aaaaaaaa-0000-4000-8000-000000000000";
const PLAN = "11111111-2222-4333-8444-555555555555";
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

let directory: string;
let remove: () => void;
let host: FakeHost;
let paths: StatePaths;
let lines: string[];
let world: RunnerWorld;
let before: number;
beforeEach(() => {
  ({ directory, remove, host, paths } = makeExecutionHost());
  lines = [];
  const { ecosystems, openPlanning, rules } = contextOf(host, paths, directory);
  world = {
    paths,
    ecosystems,
    openPlanning,
    rules,
    prepare: () => {},
    openLog: () => openAuditLog(paths.audit),
  };
  before = process.listenerCount("SIGTERM");
});
afterEach(() => {
  // A runner is a process of its own, and keeps its handlers.
  for (const signal of SIGNALS)
    for (const listener of process.listeners(signal).slice(before)) process.off(signal, listener);
  remove();
});

const log: Log = {
  error: (message, fields) => lines.push(`error ${message} ${JSON.stringify(fields ?? {})}`),
  warn: (message) => lines.push(`warn ${message}`),
  info: (message) => lines.push(`info ${message}`),
  debug: (message, fields) => lines.push(`debug ${message} ${JSON.stringify(fields ?? {})}`),
};

/** A client with a runner of its own. */
class Client {
  readonly replies: Reply[] = [];
  readonly served: Promise<void>;
  readonly #socket = new Socket();
  readonly #closed = new Promise<void>((resolve) => this.#socket.on("close", () => resolve()));
  #wake = () => {};

  constructor(change: Partial<RunnerWorld> = {}) {
    const fds = new Int32Array(2);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ptr(fds)) !== 0) throw new Error("no socketpair");
    const [own = -1, theirs = -1] = fds;
    const decoder = new MessageDecoder(MAX_MESSAGE);
    this.#socket.on("error", () => {});
    this.#socket.on("data", (chunk: Buffer) => {
      for (const text of decoder.push(chunk)) this.replies.push(parseReply(text));
      this.#wake();
    });
    const options: { path: string; fd: number } = { path: "", fd: own };
    this.#socket.connect(options);
    const bare = { execution: [], approval: [] };
    this.served = serveRunner({ bare, log }, { ...world, ...change }, new Connection(theirs));
  }

  send(data: string | Uint8Array): this {
    this.#socket.write(data);
    return this;
  }

  call(method: string, parameters: object, name = `io.aegis.Executor.${method}`): this {
    return this.send(encodeMessage({ method: name, parameters, more: true }));
  }

  end(): this {
    this.#socket.end();
    return this;
  }

  leave(): void {
    this.#socket.destroy();
  }

  async until(holds: (events: Event[]) => boolean): Promise<void> {
    while (!holds(this.events())) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  events(): Event[] {
    return this.replies.filter(({ error }) => error === null).map(readEvent);
  }

  /** The last reply, once the runner is done. */
  async last(): Promise<Reply> {
    await this.served;
    await this.#closed;
    const last = this.replies.at(-1);
    if (last === undefined) throw new Error("nothing was answered");
    return last;
  }

  async refused(code: ErrorCode, says: string): Promise<void> {
    const error = replyError(await this.last());
    expect(error).toMatchObject({ code });
    expect(error?.message).toContain(says);
  }
}

const install = () => signed(host, paths, directory, "install", "acme.tool@1.0.0");
const CALLER = { uid: 1000, gid: 1000, pid: 7 };
const outcome = (change: Partial<Result> = {}): Result => ({
  schema_version: "1.0",
  execution_plan_id: ID,
  plan_id: PLAN,
  tool: "vscode",
  argv: ["code", "x y"],
  state: "completed",
  ...{ exit_status: 0, code: null, message: null, actor: "ops", turn_at: null },
  started_at: "2026-01-02T03:04:05Z",
  ended_at: "2026-01-02T03:05:05Z",
  submitted_by_uid: 1000,
  ...{ not_as_planned: [], changed_besides: [], inverse: [] },
  ...change,
});
const running = (change: Partial<Result> = {}) =>
  outcome({ state: "running", exit_status: null, ended_at: null, inverse: null, ...change });
/** Marks a run as under way, as if its runner had died. */
const leave = () => {
  markCurrent({ result: running(), transaction: [], before: {}, actor: "ops", about: {} }, paths);
  mkdirSync(runDirectory(ID, paths));
  for (const name of ["stdout", "stderr", "status"]) writeFileSync(join(runDirectory(ID, paths), name), "");
  openAuditLog(paths.audit).append({ kind: "execution_started", execution_id: ID, actor: "ops" });
  writeResult(running(), paths);
};

describe("invalid requests are answered, and the runner ends", () => {
  test("half of one: whoever ends its side has gone, and that is logged", async () => {
    const client = new Client().send('{"method":').end();
    await client.served;
    expect(client.replies).toEqual([]);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^debug a request failed .*the connection ended before the request did/);
  });
  test("no JSON", async () => {
    expect(replyError(await new Client().send("nonsense\0").last())).not.toBeNull();
  });
  test("more than a request may have", async () => {
    const client = new Client().send(new Uint8Array(MAX_MESSAGE + 1).fill(0x20));
    await client.refused("protocol", "");
  });
  for (const method of ["Nothing", "constructor", "Execute"]) {
    test(`the method ${method}`, async () => {
      expect((await new Client().call(method, {}).last()).error).toBe("org.varlink.service.MethodNotFound");
    });
  }
  test("wrong parameters", async () => {
    const reply = await new Client().call("Watch", { execution_id: "../../x" }).last();
    expect(reply.error).toBe("org.varlink.service.InvalidParameter");
  });
  test("introspection is answered", async () => {
    const reply = await new Client().call("", {}, "org.varlink.service.GetInfo").last();
    expect(reply).toMatchObject({
      error: null,
      parameters: { interfaces: expect.arrayContaining(["io.aegis.Executor"]) },
    });
  });
});

describe("a host on which nothing works: the client is told, and it is logged as a fault", () => {
  const fails = () => {
    throw new AegisError("io", "/var/lib/aegis isn't root's");
  };
  for (const change of [{ prepare: fails }, { openLog: fails }]) {
    test(Object.keys(change).join(), async () => {
      await new Client(change).call("Status", {}).refused("io", "isn't root's");
      expect(lines[0]).toStartWith("error a request failed");
    });
  }
});

describe("Apply", () => {
  test("checked, run and finished; the front's word for the caller is kept", async () => {
    const plan = await install();
    const client = new Client().call("Apply", { plan: canonicalJson(plan), caller: CALLER });
    const { continues } = await client.last();
    expect(continues).toBe(false);
    const kinds = client.events().map(({ kind }) => kind);
    expect([kinds[0], kinds.at(-1)]).toEqual(["checking", "finished"]);
    expect(client.events().at(-1)?.outcome).toMatchObject({ state: "completed", exit_status: 0 });
    expect(readResult(plan.execution_plan_id, paths)?.submitted_by_uid).toBe(1000);
    expect(logged(paths)[0]?.details).toMatchObject({ caller_reported_by_front: CALLER });
  });
  test("refused: the code and words of the check, and the next one waits a little longer", async () => {
    await new Client().call("Apply", { plan: "{}", caller: CALLER }).refused("invalid_document", "");
    expect(logged(paths)).toMatchObject([
      { kind: "execution_denied", details: { code: "invalid_document" } },
    ]);
    expect(Number(readFileSync(join(paths.lock, "refused"), "utf8"))).toBeGreaterThan(0);
  });
  test("the client leaves: the run continues to its end", async () => {
    const plan = await install();
    host.mode("waits");
    const client = new Client().call("Apply", { plan: canonicalJson(plan) });
    await client.until((events) => events.some(({ kind }) => kind === "progress"));
    client.leave();
    writeFileSync(join(directory, "mode.go"), "");
    await client.served;
    expect(readResult(plan.execution_plan_id, paths)).toMatchObject({ state: "completed" });
  });
});

describe("Status", () => {
  test("of an executor that has done nothing", async () => {
    expect(readStatus(await new Client().call("Status", {}).last())).toEqual({
      running: null,
      queued: [],
      recent: [],
    });
  });
  test("what runs, what waits, and what was", async () => {
    writeResult(outcome(), paths);
    writeResult(running({ execution_plan_id: PLAN, started_at: "2026-01-03T03:04:05Z" }), paths);
    const waiter = { execution: ID.replaceAll("a", "b"), uid: 1 };
    const lock = await waitForRunLock(waiter, { all: 9, perUid: 9 }, () => {}, undefined, paths);
    const status = readStatus(await new Client().call("Status", {}).last());
    lock.release();
    expect(status).toMatchObject({ running: PLAN, queued: [waiter.execution] });
    expect(status.recent.map(({ execution_id, command }) => [execution_id, command])).toEqual([
      [PLAN, "code 'x y'"],
      [ID, "code 'x y'"],
    ]);
  });
  test("a run whose runner died is closed first", async () => {
    leave();
    const status = readStatus(await new Client().call("Status", {}).last());
    expect(status).toMatchObject({ running: null, recent: [{ state: "interrupted" }] });
  });
});

describe("Watch", () => {
  const watch = (caller: object | null = CALLER) => new Client().call("Watch", { execution_id: ID, caller });

  test("an unknown execution", async () => {
    await watch().refused("not_found", `there is no execution ${ID} here`);
  });
  const LATELY: [what: string, details: Record<string, unknown>, code: ErrorCode, says: string][] = [
    [
      "refused lately: why",
      { code: "drift", message: "the host has changed" },
      "drift",
      "the host has changed",
    ],
    [
      "refused for a reason in words that are none",
      { code: "x", message: "y" },
      "not_found",
      "there is no execution",
    ],
    ["refused without a verified signature", { code: "key_untrusted" }, "not_found", "there is no execution"],
  ];
  for (const [what, details, code, says] of LATELY) {
    test(what, async () => {
      openAuditLog(paths.audit).append({ kind: "execution_denied", execution_id: ID, details });
      await watch().refused(code, says);
    });
  }
  test("refused long ago: the log is not read for that", async () => {
    const now = () => new Date(Date.now() - 11 * 60_000);
    const details = { code: "drift", message: "the host has changed" };
    openAuditLog(paths.audit, { now }).append({ kind: "execution_denied", execution_id: ID, details });
    await watch().refused("not_found", "there is no execution");
  });
  test("ended: its outcome, at once", async () => {
    writeResult(outcome(), paths);
    const client = watch();
    await client.last();
    expect(client.events()).toMatchObject([{ kind: "finished", outcome: { state: "completed" } }]);
  });

  const READERS: [what: string, caller: object | null, mayRead: boolean][] = [
    ["whoever submitted it", CALLER, true],
    ["root", { uid: 0, gid: 0, pid: 7 }, true],
    ["another user", { uid: 1001, gid: 1000, pid: 7 }, false],
    ["a caller whom the front did not name", null, false],
  ];
  for (const [what, caller, mayRead] of READERS) {
    test(`under way, watched by ${what}: ${mayRead ? "with" : "without"} its output`, async () => {
      mkdirSync(runDirectory(ID, paths));
      writeFileSync(join(runDirectory(ID, paths), "stdout"), "secret\n");
      writeFileSync(join(runDirectory(ID, paths), "status"), "10 fetching\n");
      writeResult(running(), paths);
      const client = watch(caller);
      await client.until((events) => events.some(({ kind }) => kind === "progress"));
      appendFileSync(join(runDirectory(ID, paths), "stdout"), "more\n");
      writeResult(outcome(), paths);
      await client.last();
      const [first] = client.events();
      expect(first?.kind).toBe("started");
      const output = client.events().filter(({ kind }) => kind === "output");
      expect(output.map(({ data }) => data).join("")).toBe(mayRead ? "secret\nmore\n" : "");
      expect(client.events().at(-1)?.kind).toBe("finished");
    });
  }
  test("its runner died meanwhile: closed, and told", async () => {
    leave();
    const client = watch();
    await client.last();
    expect(client.events().at(-1)).toMatchObject({ kind: "finished", outcome: { state: "interrupted" } });
    expect(existsSync(join(paths.lock, "current.json"))).toBe(false);
  });
  test("it waits: its place; and it went away without having started", async () => {
    const limits = { all: 9, perUid: 9 };
    const first = await waitForRunLock({ execution: PLAN, uid: 1 }, limits, () => {}, undefined, paths);
    const stop = new AbortController();
    const second = waitForRunLock({ execution: ID, uid: 1 }, limits, () => {}, stop.signal, paths);
    const client = watch();
    await client.until((events) => events.some(({ kind, place }) => kind === "queued" && place === 1));
    stop.abort(new AegisError("unavailable", "gone"));
    await expect(second).rejects.toThrow("gone");
    await client.refused("not_found", `execution ${ID} ended before it started anything`);
    first.release();
  });
  test("asked to stop: watching ends, and the run continues", async () => {
    writeResult(running(), paths);
    mkdirSync(runDirectory(ID, paths));
    const client = watch();
    await client.until((events) => events.length > 0);
    for (const listener of process.listeners("SIGTERM").slice(before)) listener("SIGTERM");
    await client.refused("unavailable", "the executor is being stopped");
    expect(readResult(ID, paths)?.state).toBe("running");
  });
  test("the watcher leaves: this process ends, and the run continues", async () => {
    writeResult(running(), paths);
    mkdirSync(runDirectory(ID, paths));
    const client = watch();
    await client.until((events) => events.length > 0);
    client.leave();
    await client.served;
    expect(lines.at(-1)).toContain("whoever watched has gone");
    expect(readResult(ID, paths)?.state).toBe("running");
  });
});

describe("Report", () => {
  const refusal = (n: number, code = "busy") => ({ code, count: n, uid: n });
  test("written down in one event of bounded size: the most frequent ones, and numbers", async () => {
    const refusals = Array.from({ length: 12 }, (_, n) =>
      refusal(n + 1, n === 11 ? "words of a hostile front" : "busy"),
    );
    expect(await new Client().call("Report", { refusals }).last()).toMatchObject({ error: null });
    const [event] = logged(paths);
    expect(event).toMatchObject({
      kind: "requests_refused",
      details: { count: 78, reported_by: "front", others: 4 },
    });
    const kept = event?.details.refusals;
    expect(kept).toMatchObject([
      { code: "refused", count: 12 },
      { code: "busy", count: 11 },
      ...[{}, {}, {}, {}, {}, {}],
    ]);
    expect(existsSync(join(paths.lock, "report"))).toBe(true);
  });
  test("the pace counts also where its file is nonsense or can't be written", async () => {
    writeFileSync(join(paths.lock, "report"), "x");
    expect(await new Client().call("Report", { refusals: [refusal(1)] }).last()).toMatchObject({
      error: null,
    });
    expect(Number(readFileSync(join(paths.lock, "report"), "utf8"))).toBeGreaterThan(0);
  });
});

describe("requests", () => {
  const own = { uid: process.getuid?.() ?? 0, gid: 0, pid: 7 };
  const asked = async () => {
    const plan = await install();
    const texts = {
      operation_plan: canonicalJson(plan.operation_plan),
      policy_result: canonicalJson(plan.policy_result),
    };
    return { plan, parameters: { ...texts, reason: "an editor's extension", caller: own } };
  };
  /** Makes a call and answers the proof as its client would; `text` is what it writes. */
  const proved = async (method: ProvenMethod, parameters: object, text = proofText): Promise<Reply> => {
    const client = new Client();
    const answer = async () => {
      for (;;) {
        const [name] = readdirSync(paths.proofs);
        if (name !== undefined)
          return writeFileSync(join(paths.proofs, name), text(method, parameters, name));
        await Bun.sleep(2);
      }
    };
    const [last] = await Promise.all([client.call(method, parameters).last(), answer()]);
    expect(readdirSync(paths.proofs)).toEqual([]);
    return last;
  };
  const refusals = () =>
    logged(paths)
      .filter(({ kind }) => kind === "request_denied")
      .map(({ details }) => `${details["method"]} ${details["code"]}`);

  test("those who wait are the front's", async () => {
    const reply = await new Client().call("WatchRequests", {}).last();
    expect(reply.error).toBe("org.varlink.service.MethodNotImplemented");
  });
  test("a front that doesn't say who calls is refused, and that is logged", async () => {
    await new Client().call("Withdraw", { number: 1 }).refused("protocol", "who calls");
    expect(refusals()).toEqual(["Withdraw protocol"]);
    expect(logged(paths)[0]).toMatchObject({
      actor: null,
      details: { request: 1, caller_reported_by_front: null },
    });
  });
  test("one that isn't there", async () => {
    await new Client().call("Requests", { number: 4 }).refused("not_found", "no request 4");
  });

  // The runner and its client are one process here, and only root may be its own front.
  const asRoot = needs(own.uid === 0, "root");
  asRoot.test("another call than the client's is refused, and nothing is kept", async () => {
    const { parameters } = await asked();
    const reply = await proved("Submit", parameters, (method, given, name) =>
      proofText(method, { ...given, reason: "another" }, name),
    );
    expect(replyError(reply)).toMatchObject({
      code: "refused",
      message: expect.stringContaining("another one"),
    });
    expect(refusals()).toEqual(["Submit refused"]);
    expect(readdirSync(paths.requests)).toEqual([]);
  });
  const hash = "0".repeat(64);
  const odd: [string, ProvenMethod, object, ErrorCode][] = [
    [
      "a decision that is both",
      "Decide",
      { number: 1, request_hash: hash, approval: "{}", rejection: "{}" },
      "usage",
    ],
    ["a decision that is neither", "Decide", { number: 1, request_hash: hash }, "usage"],
    [
      "a newer plan alone",
      "Decide",
      { number: 1, request_hash: hash, approval: "{}", operation_plan: "{}" },
      "usage",
    ],
    [
      "an approval that is none",
      "Decide",
      { number: 1, request_hash: hash, approval: "{}" },
      "invalid_document",
    ],
    [
      "a rejection of what isn't there",
      "Decide",
      { number: 1, request_hash: hash, rejection: "{}" },
      "not_found",
    ],
    ["what isn't there", "Withdraw", { number: 1 }, "not_found"],
    ["no plan", "Submit", { operation_plan: "{}", policy_result: "{}", reason: "x" }, "invalid_document"],
  ];
  for (const [what, method, parameters, code] of odd) {
    asRoot.test(`${what} is refused, in the name of who is proved`, async () => {
      const reply = await proved(method, { ...parameters, caller: own });
      expect(replyError(reply)).toMatchObject({ code });
      expect(logged(paths).at(-1)).toMatchObject({
        kind: "request_denied",
        actor: "uid 0 (root)",
        details: { code },
      });
    });
  }

  asRoot.test("asked, listed, read, and ended by the run of its plan", async () => {
    const { plan, parameters } = await asked();
    const kept = readRequestEvent(await proved("Submit", parameters)).request;
    expect(kept).toMatchObject({
      number: 1,
      state: "open",
      uid: own.uid,
      plan_hash: plan.operation_plan_hash,
    });
    const listed = readRequests(await new Client().call("Requests", {}).last());
    expect(listed).toEqual({ requests: [kept], left_out: 0, documents: null });
    const { documents } = readRequests(await new Client().call("Requests", { number: 1 }).last());
    const { reason: _, caller: __, ...texts } = parameters;
    expect(documents).toEqual({ ...texts, review: null, approvals: [] });
    expect(readFileSync(join(paths.run, "requests.state"), "utf8")).toBe("1 1 open\n");
    await new Client().call("Apply", { plan: canonicalJson(plan), caller: CALLER }).last();
    const after = readRequests(await new Client().call("Requests", { number: 1 }).last());
    expect(after.requests).toMatchObject([
      { state: "applied", end: { execution_id: plan.execution_plan_id } },
    ]);
    expect(logged(paths).map(({ kind }) => kind)).toEqual([
      ...["request_submitted", "execution_started", "request_applied", "execution_completed"],
    ]);
  });

  asRoot.test("a run whose runner died ends its request when it is closed", async () => {
    const { plan, parameters } = await asked();
    await proved("Submit", parameters);
    leave();
    const use = { tool: "vscode", at: "then", approvals: [], audit_sequence: 0, execution_plan_id: ID };
    new UsedRecord(paths.used).append([{ ...use, operation_plan_hash: plan.operation_plan_hash }]);
    await recoverRuns(log, world);
    expect(logged(paths).map(({ kind }) => kind)).toEqual([
      ...["request_submitted", "execution_started", "execution_interrupted", "request_applied"],
    ]);
  });
});

describe("a start of the host's recovery", () => {
  test("closes a run whose runner died", async () => {
    leave();
    await recoverRuns(log, world);
    expect(logged(paths).map(({ kind }) => kind)).toEqual(["execution_started", "execution_interrupted"]);
    expect(readdirSync(paths.lock)).not.toContain("current.json");
  });
  test("waits for its tool, and says so once", async () => {
    leave();
    let left = 2;
    const ecosystems = withFake(host, paths, { isAlive: () => left-- > 0 });
    await recoverRuns(log, { ...world, ecosystems });
    expect(lines.filter((line) => line.startsWith("warn"))).toEqual([
      "warn the runner of an execution died, and its tool is at work: waiting for it",
      "warn execution interrupted",
    ]);
    expect(logged(paths).at(-1)?.kind).toBe("execution_interrupted");
  });
  test("has nothing to do", async () => {
    await recoverRuns(log, world);
    expect(existsSync(join(paths.audit, "audit.ndjson"))).toBe(false);
  });
});
