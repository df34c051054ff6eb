import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { AegisError } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";
import type { Event } from "../src/wire-executor.ts";
import { needs } from "./needs.ts";
import { event, ID, PLAN, REFUSED, startRunner, temporaryDirectory } from "./varlink-kit.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A socket path with nothing listening yet. */
function socketPath(): string {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  return join(directory.path, "executor.sock");
}

async function executor(answer: Parameters<typeof startRunner>[1]) {
  const path = socketPath();
  const server = await startRunner(path, answer);
  cleanups.push(server.close);
  return { path, server };
}

const apply = (path: string, options: Parameters<typeof callExecutor>[3] = {}) =>
  callExecutor(path, "Apply", { plan: PLAN }, options);

describe("refusals", () => {
  const refusal = (code: string) => ({
    error: REFUSED,
    parameters: { code, message: "why", hint: "what to do", details: { x: 1 } },
  });

  test.each([
    ["replay", "replay", 6],
    ["busy", "busy", 8],
    ["drift", "drift", 9],
    ["code_of_tomorrow", "protocol", 8],
    ["constructor", "protocol", 8],
  ])("Refused %s becomes the error %s with exit status %i", async (code, expected, exit) => {
    const { path } = await executor((_, reply) => reply(refusal(code)));
    const rejected = await apply(path).catch((error: unknown) => error);
    expect(rejected).toBeInstanceOf(AegisError);
    expect(rejected).toMatchObject({
      code: expected,
      exit,
      message: "why",
      hint: "what to do",
      origin: "the executor",
    });
  });

  test.each([
    [
      "an org.varlink.service error",
      { error: "org.varlink.service.MethodNotFound", parameters: { method: "Apply" } },
    ],
    ["a refusal without its parameters", { error: REFUSED, parameters: {} }],
    ["an event of unknown kind", event("resting")],
    ["an event with an unknown field", event("finished", { argv: ["rm"] })],
    ["no event", { parameters: {} }],
    ["an unknown member", { ...event("finished"), uid: 0 }],
  ])("%s is a fault of the protocol", async (_, message) => {
    const { path } = await executor((_call, reply) => reply(message));
    await expect(apply(path)).rejects.toMatchObject({ code: "protocol" });
  });

  test("garbage, and a connection closed without an answer", async () => {
    for (const bytes of ["{\0", ""]) {
      const { path } = await executor((_call, _reply, socket) => void socket.end(bytes));
      await expect(apply(path)).rejects.toMatchObject({
        code: "protocol",
        hint: expect.stringContaining("--watch"),
      });
    }
  });

  test("a refusal that arrives while still sending is read", async () => {
    const path = socketPath();
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end(`${JSON.stringify(refusal("busy"))}\0`);
      socket.resume();
    });
    await new Promise<void>((resolve) => server.listen({ path }, resolve));
    cleanups.push(() => server.close());
    const big = callExecutor(path, "Apply", { plan: "x".repeat(4_000_000) });
    await expect(big).rejects.toMatchObject({ code: "busy" });
  });
});

describe("no executor", () => {
  test("never started: the hint says how to start it", async () => {
    const rejected = apply(socketPath());
    await expect(rejected).rejects.toMatchObject({
      code: "unavailable",
      // Which of the two depends on whether this machine has the service.
      hint: expect.stringMatching(/systemctl start aegisd|aegis daemon install/),
    });
  });

  test("a stale socket: the same", async () => {
    const path = socketPath();
    const script = `require("net").createServer().listen({path:${JSON.stringify(path)}},()=>process.kill(process.pid,"SIGKILL"))`;
    await Bun.spawn([process.execPath, "-e", script]).exited;
    await expect(apply(path)).rejects.toMatchObject({
      code: "unavailable",
      details: { errno: "ECONNREFUSED" },
    });
  });

  needs(process.getuid?.() === 0, "root").test(
    "no permission: the hint names the group to join",
    async () => {
      const { path, server } = await executor(() => {});
      chmodSync(path, 0o600);
      chmodSync(join(path, ".."), 0o755);
      process.seteuid?.(65534);
      try {
        await expect(apply(path)).rejects.toMatchObject({
          code: "unavailable",
          hint: expect.stringContaining("aegis-admin"),
        });
      } finally {
        process.seteuid?.(0);
      }
      expect(server.calls).toEqual([]);
    },
  );

  test("silent: gives up", async () => {
    const { path } = await executor(() => {});
    await expect(apply(path, { silenceMs: 30 })).rejects.toMatchObject({ code: "timeout" });
  });

  test("keeps waiting for one that keeps sending", async () => {
    const { path } = await executor((_, reply) => {
      let n = 0;
      const timer = setInterval(() => {
        if (++n < 10) return reply(event("alive"));
        clearInterval(timer);
        reply(event("finished"));
      }, 20);
    });
    expect((await apply(path, { silenceMs: 100 })).kind).toBe("finished");
  });

  test("an aborted wait rejects with the reason and closes the connection", async () => {
    const { path, server } = await executor((_, reply) => reply(event("started")));
    const controller = new AbortController();
    const reason = new AegisError("interrupted", "stopped by the user");
    const waiting = apply(path, { signal: controller.signal, onEvent: () => controller.abort(reason) });
    await expect(waiting).rejects.toBe(reason);
    while (server.sockets.size > 0) await Bun.sleep(5);
    await expect(apply(path, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe("answers", () => {
  test("Apply sends the plan with more, passes on the events, and resolves with the last", async () => {
    const outcome = {
      execution_id: ID,
      state: "completed",
      exit_status: 0,
      started_at: "2026-01-01T00:00:00Z",
    };
    const { path, server } = await executor((_, reply) => {
      for (const kind of ["queued", "started", "output"]) reply(event(kind));
      reply(event("finished", { outcome }));
    });
    const seen: Event[] = [];
    const last = await apply(path, { onEvent: (it) => seen.push(it) });
    expect(seen.map((it) => it.kind)).toEqual(["queued", "started", "output"]);
    expect(last).toMatchObject({ kind: "finished", outcome: { ...outcome, code: null, ended_at: null } });
    expect(server.calls[0]).toMatchObject({
      method: "io.aegis.Executor.Apply",
      parameters: { plan: PLAN },
      more: true,
    });
  });

  test("an error thrown by the listener ends the call", async () => {
    const { path } = await executor((_, reply) => reply(event("started")));
    const onEvent = () => {
      throw new AegisError("refused", "another host");
    };
    await expect(apply(path, { onEvent })).rejects.toMatchObject({ code: "refused" });
  });

  test("Watch and Status", async () => {
    const { path, server } = await executor((call, reply) =>
      reply(
        call.method.endsWith("Status") ? { parameters: { queued: [ID], recent: [] } } : event("finished"),
      ),
    );
    expect(await callExecutor(path, "Watch", { execution_id: ID })).toMatchObject({ kind: "finished" });
    expect(await callExecutor(path, "Status", {})).toEqual({ running: null, queued: [ID], recent: [] });
    expect(server.calls.map((call) => call.more)).toEqual([true, false]);
  });
});
