import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Chain, startChain } from "./e2e-kit.ts";
import {
  AEGIS,
  atGate,
  brokenInvariants,
  eventually,
  executorProcesses,
  gated,
  kill,
  kindsOf,
  lastEvent,
  openGate,
  plain,
  processes,
  resultOf,
  spinUntil,
  submit,
} from "./e2e-running.ts";
import type { Running } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

const GATED = [
  "front-dies",
  "runner-dies",
  "both-die",
  "all-die",
  "apt-dies",
  "apt-dies-alone",
  "daemon-dies",
  "daemon-stops",
  "somebody-waits",
  "nobody-watches",
  "somebody-looks",
  "at-the-end",
  "at-the-very-end",
].map(gated);

describeOnThrowaway("SIGKILL", () => {
  let chain: Chain;
  let daemon: Running;
  beforeAll(async () => {
    chain = await startChain();
    // Approvals have their own tests.
    chain.host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await chain.host.repo.publish([...GATED, ...plain("quick", 24)]);
    await chain.host.aptUpdate();
    daemon = await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  const sound = async () => expect(await brokenInvariants(chain)).toEqual([]);
  /** Submits the installation of a gated package and waits until it is in its postinst. */
  const untilGate = async (name: string) => {
    const { execution, path } = await chain.signed("apt", "install", name);
    const client = await submit(chain, path);
    await atGate(chain, name);
    return { id: execution.execution_plan_id, path, client };
  };
  const apt = () => processes(chain).filter(({ name }) => name === "apt-get" || name === "dpkg");

  test("to the front: the run ends well, its client finds back by itself, a new front is started", async () => {
    const { id, client } = await untilGate("front-dies");
    const before = executorProcesses(chain, "front");
    expect(before.length).toBe(1);
    kill(before);
    const [after] = await eventually(() => {
      const now = executorProcesses(chain, "front").filter(({ pid }) => pid !== before[0]?.pid);
      return now.length === 1 && now;
    });
    expect(after).toBeDefined();
    const watcher = await chain.host.spawn([AEGIS, "apply", "--watch", id]);
    await eventually(() => watcher.stderr().includes("said by front-dies"));
    openGate(chain, "front-dies");
    expect(await client.exited).toBe(0);
    expect(client.stderr()).toContain("reattaching");
    expect(client.stdout()).toContain("done");
    expect(await watcher.exited).toBe(0);
    expect((await chain.aegis(["apply", "--watch", id])).status).toBe(0);
    expect(await chain.dpkgStatus("front-dies")).toBe("install ok installed");
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
    await sound();
  });

  test("to the runner: apt goes on, the outcome is interrupted, the plan is not run again", async () => {
    const { id, path, client } = await untilGate("runner-dies");
    kill(executorProcesses(chain, "runner").filter(({ argv }) => argv.includes("--runner")));
    const watcher = await chain.host.spawn([AEGIS, "apply", "--watch", id]);
    // Status and a watcher are answered while apt still runs, and nobody closes the run before its time.
    await eventually(() => watcher.stderr().includes("said by runner-dies"));
    expect((await chain.json(["daemon", "status"])).document).toMatchObject({ running: id });
    expect(apt().length).toBeGreaterThan(1);
    expect(resultOf(chain, id)?.state).toBe("running");
    openGate(chain, "runner-dies");
    for (const it of [client, watcher]) {
      expect(await it.exited).toBe(7);
      expect(it.stdout()).toContain("interrupted; every package is as planned");
    }
    expect(await chain.dpkgStatus("runner-dies")).toBe("install ok installed");
    expect(resultOf(chain, id)).toMatchObject({ state: "interrupted", code: "interrupted" });
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_interrupted"]);
    const again = await chain.apply(path, "alice");
    expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
    await sound();
  });

  test("to the runner and the supervisor: the next daemon compares and says interrupted", async () => {
    const { id, path, client } = await untilGate("both-die");
    kill([...executorProcesses(chain, "supervisor"), ...executorProcesses(chain, "runner")]);
    await eventually(() => executorProcesses(chain, "front").length === 0);
    expect(await daemon.exited).toBe(137);
    daemon = await chain.startDaemon();
    expect(resultOf(chain, id)?.state).toBe("running");
    openGate(chain, "both-die");
    expect(await client.exited).toBe(7);
    expect(await chain.dpkgStatus("both-die")).toBe("install ok installed");
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_interrupted"]);
    expect((await chain.apply(path)).status).toBe(6);
    await sound();
  });

  test("to the runner and the supervisor, with somebody looking just then: the recovery waits for the lock, then for apt", async () => {
    const { id } = await untilGate("somebody-looks");
    kill([...executorProcesses(chain, "supervisor"), ...executorProcesses(chain, "runner")]);
    await daemon.exited;
    const lock = "/var/lib/aegis/lock/run";
    const look = await chain.host.spawn(["flock", "--no-fork", lock, "sleep", "1"]);
    const isHeld = async () => (await chain.host.exec(["flock", "--nonblock", lock, "true"])).status !== 0;
    while (!(await isHeld())) await Bun.sleep(10);
    const recovery = await chain.host.spawn([AEGIS, "daemon", "--recover"]);
    await eventually(() => recovery.stderr().includes("waiting for it"));
    openGate(chain, "somebody-looks");
    expect([await recovery.exited, await look.exited]).toEqual([0, 0]);
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_interrupted"]);
    daemon = await chain.startDaemon();
    await sound();
  });

  test("to runner, apt and dpkg: interrupted, dpkg's state told; the next plan and doctor say what to do", async () => {
    const { id, path, client } = await untilGate("all-die");
    kill([...executorProcesses(chain, "runner"), ...apt()]);
    expect(await client.exited).toBe(7);
    expect(client.stdout()).toContain("1 of 1 packages are not as planned");
    expect(await chain.dpkgStatus("all-die")).toBe("install ok half-configured");
    expect(resultOf(chain, id)).toMatchObject({
      state: "interrupted",
      not_as_planned: [{ package: "all-die" }],
    });
    const event = lastEvent(chain, "execution_interrupted");
    expect(event).toMatchObject({
      execution_id: id,
      details: { dpkg_audit: expect.stringContaining("all-die") },
    });
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_interrupted"]);
    expect((await chain.apply(path)).status).toBe(6);

    const doctor = await chain.aegis(["doctor"]);
    expect(doctor.status).toBe(8);
    expect(doctor.stdout).toContain("dpkg --audit");
    const next = await chain.signed("apt", "install", "quick0");
    expect(next.planned.plan.warnings.join("\n")).toContain("dpkg --configure -a");
    const refused = await chain.apply(next.path);
    expect([refused.status, refused.stderr]).toEqual([8, expect.stringContaining("dpkg --configure -a")]);
    expect(await chain.dpkgStatus("quick0")).not.toBe("install ok installed");

    openGate(chain, "all-die");
    expect((await chain.host.exec(["dpkg", "--configure", "-a"])).status).toBe(0);
    expect((await chain.apply(next.path)).status).toBe(0);
    await sound();
  });

  test("to apt and dpkg alone: failed, with what dpkg has unfinished", async () => {
    const { id, client } = await untilGate("apt-dies");
    kill(apt());
    expect(await client.exited).toBe(7);
    expect(client.stdout()).toMatch(/ended with a signal; dpkg has unfinished packages: apt-dies/);
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
    openGate(chain, "apt-dies");
    expect((await chain.host.exec(["dpkg", "--configure", "-a"])).status).toBe(0);
    await sound();
  });

  test("to apt alone: the run lasts as long as its dpkg, and whatever that did is compared", async () => {
    const { id, client } = await untilGate("apt-dies-alone");
    const { execution, path } = await chain.signed("apt", "install", "quick23");
    kill(apt().filter(({ name }) => name === "apt-get"));
    await eventually(() => !apt().some(({ name, state }) => name === "apt-get" && state !== "Z"));
    const waiting = await submit(chain, path);
    await eventually(() => waiting.stderr().includes("waiting: 1 before"));
    // Longer than the runner takes to see that apt has ended.
    await Bun.sleep(1000);
    expect(apt().map(({ name }) => name)).toContain("dpkg");
    expect([kindsOf(chain, id), resultOf(chain, id)?.state]).toEqual([["execution_started"], "running"]);
    openGate(chain, "apt-dies-alone");
    expect(await client.exited).toBe(7);
    expect(client.stdout()).toContain("apt-get ended with a signal");
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
    // What waited has had its turn: it runs, or dpkg is named that has to be repaired first.
    expect([0, 8]).toContain(await waiting.exited);
    expect(kindsOf(chain, execution.execution_plan_id)).not.toEqual([]);
    expect((await chain.host.exec(["dpkg", "--configure", "-a"])).status).toBe(0);
    await sound();
  });

  test("to the supervisor alone: the run goes on, its client finds the next daemon", async () => {
    const { id, client } = await untilGate("daemon-dies");
    kill(executorProcesses(chain, "supervisor"));
    await eventually(() => executorProcesses(chain, "front").length === 0);
    daemon = await chain.startDaemon();
    openGate(chain, "daemon-dies");
    expect(await client.exited).toBe(0);
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
    await sound();
  });

  test("to the front while others wait: they keep their place, whatever becomes of them", async () => {
    const { client } = await untilGate("somebody-waits");
    const { execution, path } = await chain.signed("apt", "install", "quick17");
    const other = crypto.randomUUID();
    const twin = await chain.forge({ ...execution, execution_plan_id: other }, other);
    const waiting = [await submit(chain, path, "root")];
    await eventually(() => waiting[0]?.stderr().includes("waiting: 1 before"));
    // The same wish, signed once more: it will be refused when its turn comes.
    waiting.push(await submit(chain, twin, "root"));
    await eventually(() => waiting[1]?.stderr().includes("waiting: 2 before"));
    kill(executorProcesses(chain, "front"));
    await eventually(() => waiting.every((it) => it.stderr().includes("reattaching")));
    // Whoever comes back after its plan was refused hears why, too.
    openGate(chain, "somebody-waits");
    expect(await client.exited).toBe(0);
    expect(await Promise.all(waiting.map((it) => it.exited))).toEqual([0, 6]);
    expect(waiting[1]?.stderr()).toContain("[replay]");
    expect(kindsOf(chain, other)).toEqual(["execution_denied"]);
    await sound();
  });

  test("SIGINT to the client ends the watching, not the run", async () => {
    const { id, client } = await untilGate("nobody-watches");
    client.kill("SIGINT");
    expect(await client.exited).toBe(130);
    expect(client.stderr()).toContain(`aegis apply --watch ${id}`);
    openGate(chain, "nobody-watches");
    expect((await chain.aegis(["apply", "--watch", id])).status).toBe(0);
    await sound();
  });

  test("SIGTERM to the daemon: the run goes on, its outcome is there for the next one", async () => {
    const { id, client } = await untilGate("daemon-stops");
    const runner = executorProcesses(chain, "runner").map(({ pid }) => pid);
    daemon.kill("SIGTERM");
    expect(await daemon.exited).toBe(0);
    await eventually(() => executorProcesses(chain, "front").length === 0);
    expect(executorProcesses(chain, "runner").map(({ pid }) => pid)).toEqual(expect.arrayContaining(runner));
    daemon = await chain.startDaemon();
    openGate(chain, "daemon-stops");
    expect(await client.exited).toBe(0);
    expect((await chain.aegis(["apply", "--watch", id])).status).toBe(0);
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
    await sound();
  });

  test("PEER 24: a second daemon does not take over", async () => {
    const second = await chain.aegis(["daemon", "--executor"]);
    expect([second.status, second.stderr]).toEqual([2, expect.stringContaining("[exists]")]);
    expect((await chain.aegis(["daemon", "status"])).status).toBe(0);
  });

  // Rounds up to 10 are spread over the life of a run; in the others the runner dies while it marks, uses up and audits.
  test.each(Array.from({ length: 16 }, (_, n) => n + 1))(
    "to the runner at any moment: round %d",
    async (round) => {
      const name = `quick${round}`;
      const { execution, path } = await chain.signed("apt", "install", name);
      const id = execution.execution_plan_id;
      const client = await submit(chain, path, "root");
      const runners = await eventually(() => {
        const found = executorProcesses(chain, "runner");
        return found.length > 0 && found;
      }, 1);
      if (round <= 10) await Bun.sleep(round * 110);
      else {
        const marker = chain.host.path("/var/lib/aegis/lock/current.json");
        spinUntil(() => existsSync(marker));
        Bun.sleepSync((round - 11) * 3);
      }
      kill(runners);
      const status = await client.exited;
      await sound();
      const installed = (await chain.dpkgStatus(name)) === "install ok installed";
      const started = kindsOf(chain, id).includes("execution_started");
      // It has ended well, was interrupted, or never began; and then nothing was done.
      expect([0, 7, 8]).toContain(status);
      if (status === 0) expect(installed).toBe(true);
      if (!started) expect([status, installed]).toEqual([8, false]);
      // Used up before it was started: it does not run then.
      const used = chain.host.read("/var/lib/aegis/spent/spent.ndjson").includes(id);
      if (started) expect(used).toBe(true);
      // Nothing that was left behind stands in the way of the next one.
      expect((await chain.apply(path)).status).toBe(used ? 6 : 0);
    },
  );

  test.each(["at-the-end", "at-the-very-end"])(
    "to the runner when it has just audited the end: %s",
    async (name) => {
      const { id, client } = await untilGate(name);
      const runners = executorProcesses(chain, "runner");
      openGate(chain, name);
      spinUntil(() => kindsOf(chain, id).includes("execution_completed"));
      if (name === "at-the-very-end") Bun.sleepSync(3);
      kill(runners);
      expect(await client.exited).toBe(0);
      expect(resultOf(chain, id)).toMatchObject({ state: "completed", exit_status: 0, code: null });
      await sound();
    },
  );

  test("leaves nothing behind", sound);
});
