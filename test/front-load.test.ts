import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { call, RawClient, startRunner, temporaryDirectory } from "./varlink-kit.ts";

const GET_INFO = { method: "org.varlink.service.GetInfo" };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A front in its own process, with a limit on open files. */
async function startProcess(limits: object, files = 1024) {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "front.sock");
  const script = join(import.meta.dir, "front-process.ts");
  const child = Bun.spawn(
    ["prlimit", `--nofile=${files}:${files}`, process.execPath, script, path, JSON.stringify(limits)],
    { stdout: "pipe", stderr: "pipe" },
  );
  cleanups.push(async () => {
    child.kill();
    await child.exited;
  });
  const first = await child.stdout.getReader().read();
  const client = () => {
    const it = new RawClient(path);
    cleanups.push(() => it.socket.destroy());
    return it;
  };
  const proc = (file: string) => readFileSync(`/proc/${child.pid}/${file}`, "utf8");
  return {
    child,
    path,
    ready: new TextDecoder().decode(first.value) === "ready\n",
    client,
    residentKb: () => Number(/VmRSS:\s+(\d+)/.exec(proc("status"))?.[1]),
    /** User and system time so far, in clock ticks (proc_pid_stat(5), fields 14 and 15). */
    cpuTicks: () => {
      const fields = proc("stat")
        .slice(proc("stat").lastIndexOf(")") + 2)
        .split(" ");
      return Number(fields[11]) + Number(fields[12]);
    },
  };
}

test("PEER 21: ten requests of 100 MB leave the memory flat", async () => {
  const { client, residentKb } = await startProcess({});
  const piece = Buffer.alloc(1024 * 1024, "x");
  const flood = async () => {
    const it = client();
    for (let i = 0; i < 100 && !it.socket.destroyed; i++) {
      if (!it.socket.write(piece))
        await new Promise((resolve) => {
          it.socket.once("drain", resolve);
          it.socket.once("close", resolve);
        });
    }
    expect(await it.refusal()).toBe("protocol");
    it.socket.destroy();
  };
  await flood();
  const before = residentKb();
  let most = 0;
  for (let i = 0; i < 9; i++) {
    await flood();
    most = Math.max(most, residentKb());
  }
  expect(most - before).toBeLessThan(50_000);
}, 30_000);

test("PEER 22: 500 silent clients at the open files limit: no busy loop, and service resumes when they are cut off", async () => {
  // 8 clients need 2 * 8 + 16 + 32 descriptors: it may have not one more.
  const { client, cpuTicks, ready } = await startProcess(
    { clients: 8, lingering: 16, watchers: 0, requestMs: 1500 },
    64,
  );
  expect(ready).toBe(true);
  const silent = Array.from({ length: 500 }, client);
  const refused = silent.slice(8);
  await Promise.all(refused.map((it) => it.closed));
  const codes = refused.flatMap((it) => it.messages.map((message) => message.parameters.code));
  expect(new Set(codes)).toEqual(new Set(["busy"]));
  const before = cpuTicks();
  await Bun.sleep(1000);
  // A spinning loop takes all of the 100 ticks of this second.
  expect(cpuTicks() - before).toBeLessThan(50);
  expect(await Promise.all(silent.slice(0, 8).map((it) => it.refusal()))).toEqual(Array(8).fill("timeout"));
  await Promise.all(silent.slice(0, 8).map((it) => it.closed));
  for (let served = false; !served; ) served = (await client().send(GET_INFO).reply()).error === undefined;
}, 30_000);

test("large answers that nobody takes, as many as there may be, fit into the unit's 512 MB", async () => {
  const { client, path, residentKb } = await startProcess({ requestsPerUid: 16, clientsPerUid: 64 });
  const documents = { operation_plan: "x".repeat(4 * 1024 * 1024), policy_result: "{}", approvals: [] };
  const runner = await startRunner(`${path}.no-runner`, (_, reply) =>
    reply({ parameters: { requests: [{ number: 1 }], left_out: 0, documents } }),
  );
  cleanups.push(runner.close);
  for (let n = 0; n < 16; n++) {
    const deaf = client();
    deaf.socket.pause();
    deaf.send(call("Requests", { number: 1 }));
  }
  let most = 0;
  for (const end = performance.now() + 3000; performance.now() < end; await Bun.sleep(20)) {
    most = Math.max(most, residentKb());
    if (runner.calls.length === 16) break;
  }
  await Bun.sleep(500);
  expect(Math.max(most, residentKb())).toBeLessThan(250_000);
  expect(await client().send(call("Requests", {})).refusal()).toBe("busy");
}, 30_000);

test("with too few open files the front does not start", async () => {
  const { child, ready } = await startProcess({}, 128);
  expect(ready).toBe(false);
  expect(await new Response(child.stderr).text()).toContain("the limit of 128 open files is too low");
});
