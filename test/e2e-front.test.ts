import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, readdirSync, readFileSync, statSync } from "node:fs";
import { openAuditLog } from "../src/audit-log.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import {
  atGate,
  brokenInvariants,
  eventually,
  executorProcesses,
  gated,
  kindsOf,
  lastEvent,
  openGate,
  plain,
  resultOf,
  submit,
} from "./e2e-running.ts";
import type { ThrowawayHost } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { call, RawClient } from "./varlink-kit.ts";

const LOG = "/var/log/aegis";
const GET_INFO = { method: "org.varlink.service.GetInfo" };

/** Unmounts, waiting for a runner that is about to end: it still has the log's directory open. */
async function unmount(host: ThrowawayHost, path: string): Promise<void> {
  for (const end = performance.now() + 20_000; (await host.exec(["umount", path])).status !== 0; ) {
    if (performance.now() > end) throw new Error(`${path} stays in use`);
    await Bun.sleep(50);
  }
}

describeOnThrowaway("the executor's front and its surroundings", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    chain.host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await chain.host.repo.publish([gated("while-full"), ...plain("some", 10)]);
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  const client = () => new RawClient(chain.host.path("/run/aegis/aegisd.sock"));
  const frontKb = () => {
    const [front] = executorProcesses(chain, "front");
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${front?.pid}/status`, "utf8"))?.[1]);
  };
  const logBytes = () => statSync(chain.host.path(`${LOG}/audit.ndjson`)).size;
  /** How many refusals the log tells of: the front's, added up, and the runner's. */
  const refused = () => {
    let count = 0;
    for (const { kind, details } of chain.audit()) {
      if (kind === "execution_denied") count++;
      if (kind === "requests_refused") count += (details as { count: number }).count;
    }
    return count;
  };
  /** As root does where a log is lost for good: without it a log that begins anew is one that was cut. */
  const forgetNewest = () => chain.host.exec(["rm", "-f", "/var/lib/aegis/newest-event"]);
  const reported = async (atLeast: number) => {
    await eventually(() => refused() >= atLeast, 100);
  };
  const ready = async () => {
    for (;;) {
      const it = client();
      try {
        if ((await it.send(GET_INFO).reply()).error === undefined) return;
      } catch {
        // Turned away without a word: too many linger.
      } finally {
        it.socket.destroy();
      }
      await Bun.sleep(100);
    }
  };

  test("PEER 14: what is no JSON gets a reply and an audit event", async () => {
    const it = client().send("this is no JSON\0");
    expect(await it.refusal()).toBe("protocol");
    await it.closed;
    await reported(1);
    expect(lastEvent(chain, "requests_refused")).toMatchObject({
      details: { count: 1, reported_by: "front", refusals: [{ code: "protocol", count: 1, uid: 0 }] },
    });
  });

  test("half a request and no more: a reply and an audit event", async () => {
    const before = refused();
    const it = client().send('{"method":"io.aegis.Executor.Apply","param');
    it.socket.end();
    expect(await it.refusal()).toBe("protocol");
    await reported(before + 1);
  });

  test("it describes itself to any varlink client", async () => {
    const it = client().send(GET_INFO);
    expect(await it.reply()).toMatchObject({
      parameters: { product: "aegis", interfaces: ["org.varlink.service", "io.aegis.Executor"] },
    });
    it.send({
      ...call("", {}),
      method: "org.varlink.service.GetInterfaceDescription",
      parameters: { interface: "io.aegis.Executor" },
    });
    const { parameters } = await it.reply(2);
    for (const method of ["Apply", "Watch", "Status"])
      expect(parameters["description"]).toContain(`method ${method}(`);
    it.socket.destroy();
  });

  test("a client can't report in the front's name, nor say who it is", async () => {
    const refusals = [{ code: "busy", count: 1000, uid: 1 }];
    const it = client().send(call("Report", { refusals }));
    expect(await it.refusal()).toBe("org.varlink.service.MethodNotImplemented");
    it.socket.destroy();
    const { execution } = await chain.signed("apt", "install", "some0");
    const operation_plan = {
      ...execution.operation_plan,
      host: { ...execution.operation_plan.host, hostname: "other" },
    };
    const text = chain.host.read(await chain.forge({ ...execution, operation_plan }));
    const liar = client().send(call("Apply", { plan: text, caller: { uid: 4711, gid: 1, pid: 1 } }));
    expect(await liar.refusal()).toBe("wrong_host");
    liar.socket.destroy();
    expect(lastEvent(chain, "execution_denied")).toMatchObject({
      details: { code: "wrong_host", caller_reported_by_front: { uid: 0 } },
    });
  });

  test("PEER 16: of 320 refusals at once none is lost without a word", async () => {
    const { path } = await chain.signed("apt", "install", "some1");
    expect((await chain.apply(path)).status).toBe(0);
    await ready();
    const used = chain.host.read(path);
    await Bun.sleep(1500);
    const before = refused();
    const lines = chain.audit().length;
    const clients = Array.from({ length: 320 }, (_, n) =>
      // One of four is a used plan with a good signature, which only the runner can refuse.
      client().send(call("Apply", { plan: n % 4 === 0 ? used : '{"not":"a plan"}' })),
    );
    await reported(before + clients.length);
    for (const it of clients) it.socket.destroy();
    await Bun.sleep(1500);
    expect(refused()).toBe(before + clients.length);
    const runners = chain
      .audit()
      .slice(lines)
      .filter(({ kind }) => kind === "execution_denied").length;
    expect(runners).toBeGreaterThan(0);
    expect(chain.audit().length - lines - runners).toBeLessThan(20);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("PEER 18: a torn last line is repaired by the next event, which says so", async () => {
    appendFileSync(chain.host.path(`${LOG}/audit.ndjson`), '{"schema_version":"1.0","sequence":');
    const before = refused();
    client().send("?\0");
    await reported(before + 1);
    expect(lastEvent(chain, "log_repaired")).toMatchObject({ details: { torn_bytes: 35 } });
    expect((await chain.aegis(["audit", "verify", "--path", LOG])).status).toBe(0);
  });

  test("PEER 21: a request of 100 MB costs neither memory nor log", async () => {
    await ready();
    const [kb, bytes, before] = [frontKb(), logBytes(), refused()];
    const it = client();
    const piece = Buffer.alloc(1024 * 1024, "x");
    let most = kb;
    for (let n = 0; n < 100 && !it.socket.destroyed; n++) {
      if (!it.socket.write(piece)) {
        await new Promise((resolve) => {
          it.socket.once("drain", resolve);
          it.socket.once("close", resolve);
        });
      }
      most = Math.max(most, frontKb());
    }
    expect(await it.refusal()).toBe("protocol");
    expect(most - kb).toBeLessThan(100_000);
    await reported(before + 1);
    expect(logBytes() - bytes).toBeLessThan(16 * 1024);
    it.socket.destroy();
  });

  test("PEER 22: 500 silent clients are cut off in time, and others are served meanwhile", async () => {
    await ready();
    const silent = Array.from({ length: 500 }, client);
    const dripping = setInterval(() => silent[0]?.socket.write("x"), 500);
    const status = await chain.aegis(["daemon", "status"], { user: "alice" });
    expect(status.status).toBe(0);
    await Promise.all(silent.map((it) => it.closed));
    clearInterval(dripping);
    const codes = silent.flatMap((it) => it.messages.map(({ parameters }) => parameters["code"]));
    // Eight of one uid, but for a place that is not quite free again when they come.
    const timedOut = codes.filter((code) => code === "timeout").length;
    expect([6, 7, 8]).toContain(timedOut);
    expect(new Set(codes)).toEqual(new Set(["busy", "timeout"]));
    for (const it of silent) it.socket.destroy();
    await ready();
  });

  test("a full disk: no start without room for its end; the end of what runs is written", async () => {
    const { host } = chain;
    const first = await chain.signed("apt", "install", "some2");
    const second = await chain.signed("apt", "install", "while-full");
    const mount = async (size: string) => {
      await host.exec(["mount", "-t", "tmpfs", "-o", `size=${size},mode=2750`, "tmpfs", LOG]);
      await forgetNewest();
    };
    await mount("6m");
    const refusedStart = await chain.apply(first.path);
    expect([refusedStart.status, refusedStart.stderr]).toEqual([1, expect.stringContaining("[io]")]);
    expect(await chain.dpkgStatus("some2")).toBe("");
    expect(readdirSync(host.path(LOG)).sort()).toEqual(["audit.ndjson", "lock"]);
    expect(lastEvent(chain, "execution_denied")).toMatchObject({ details: { code: "io" } });
    expect(await brokenInvariants(chain)).toEqual([]);
    await unmount(host, LOG);
    // Nothing was used up.
    expect((await chain.apply(first.path)).status).toBe(0);

    await mount("12m");
    const running = await submit(chain, second.path);
    await atGate(chain, "while-full");
    expect((await host.exec(["dd", "if=/dev/zero", `of=${LOG}/filler`, "bs=64k"])).status).not.toBe(0);
    openGate(chain, "while-full");
    expect(await running.exited).toBe(0);
    const id = second.execution.execution_plan_id;
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
    expect(resultOf(chain, id)?.state).toBe("completed");
    await unmount(host, LOG);
  });

  test("a full disk under the runs' own files: said where, refused, and nothing is used up", async () => {
    const { host } = chain;
    const { path, execution } = await chain.signed("apt", "install", "some4");
    const runs = "/var/lib/aegis/runs";
    await host.exec(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=3,mode=700", "tmpfs", runs]);
    await host.exec(["touch", `${runs}/a`, `${runs}/b`]);
    const refused = await chain.apply(path);
    await unmount(host, runs);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringMatching(
        /\[io\] the executor says: no space left under \/var\/lib\/aegis\/runs \(ENOSPC\)\n.* df -i /,
      ),
    ]);
    expect(lastEvent(chain, "execution_denied")).toMatchObject({
      execution_id: execution.execution_plan_id,
      details: { code: "io", message: expect.stringContaining("/var/lib/aegis/runs") },
    });
    expect((await chain.apply(path)).status).toBe(0);
  });

  test("a directory of the runner that others may write to: every call says so, and what to type", async () => {
    const { host } = chain;
    const { path } = await chain.signed("apt", "install", "some5");
    const runs = "/var/lib/aegis/runs";
    await host.exec(["chmod", "1777", runs]);
    const says = expect.stringMatching(
      /\[io\] the executor says: \/var\/lib\/aegis\/runs must be a directory .*\n.* chown root:root \S+ && chmod 00700 \/var/,
    );
    const watch = ["apply", "--watch", crypto.randomUUID()];
    for (const ended of [await chain.apply(path), await chain.aegis(watch)])
      expect([ended.status, ended.stderr]).toEqual([1, says]);
    const socket = ["daemon", "status", "--socket", "/run/aegis/aegisd.sock"];
    expect((await chain.aegis(socket)).stderr).toEqual(says);
    await host.exec(["chmod", "00700", runs]);
    expect((await chain.apply(path)).status).toBe(0);
  });

  test("a clock that is behind the newest event starts nothing", async () => {
    const { host } = chain;
    const { path } = await chain.signed("apt", "install", "some3");
    await host.exec(["mount", "-t", "tmpfs", "-o", "size=12m,mode=2750", "tmpfs", LOG]);
    await forgetNewest();
    const tomorrow = new Date(Date.now() + 86_400_000);
    openAuditLog(host.path(LOG), { now: () => tomorrow, mode: 0o640 }).append({ kind: "checkpoint" });
    const refusedStart = await chain.apply(path);
    expect([refusedStart.status, refusedStart.stderr]).toEqual([
      6,
      expect.stringContaining("[clock_behind]"),
    ]);
    expect(await chain.dpkgStatus("some3")).toBe("");
    await unmount(host, LOG);
    expect((await chain.apply(path)).status).toBe(0);
  });

  test("leaves nothing behind", async () => {
    expect(await brokenInvariants(chain)).toEqual([]);
    expect(executorProcesses(chain, "front").length).toBe(1);
  });
});
