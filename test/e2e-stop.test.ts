import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Chain, startChain } from "./e2e-kit.ts";
import {
  AEGIS,
  atGate,
  brokenInvariants,
  eventually,
  executorProcesses,
  gated,
  kindsOf,
  lastEvent,
  openGate,
  plain,
  submit,
} from "./e2e-running.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * What a shutdown and an upgrade do to runs: systemd sends SIGTERM to every runner when the host goes down, and an install puts
 * a new program where apt looks for its hook. What has begun ends as it would have; what has not begun does not begin.
 */

describeOnThrowaway("a host that goes down, or is upgraded", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    chain.host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await chain.host.repo.publish([...["goes-down", "upgraded"].map(gated), ...plain("later", 3)]);
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  /** A run in its postinst, and another request that waits for it. */
  const oneRunsOneWaits = async (running: string, waiting: string) => {
    const [first, second] = [
      await chain.signed("apt", "install", running),
      await chain.signed("apt", "install", waiting),
    ];
    const runs = await submit(chain, first.path);
    await atGate(chain, running);
    const waits = await submit(chain, second.path);
    await eventually(() => waits.stderr().includes("waiting"));
    return { first: { ...first, client: runs }, second: { ...second, client: waits } };
  };
  const idOf = ({ execution }: { execution: { execution_plan_id: string } }) => execution.execution_plan_id;

  test("SIGTERM to the runners: the run goes on to its end, what waits is refused and can be applied later", async () => {
    const { first, second } = await oneRunsOneWaits("goes-down", "later0");
    for (const { pid } of executorProcesses(chain, "runner")) process.kill(pid, "SIGTERM");
    expect(await second.client.exited).toBe(8);
    expect(second.client.stderr()).toContain("the executor is being stopped");
    expect(lastEvent(chain, "execution_denied")).toMatchObject({
      execution_id: idOf(second),
      details: { code: "unavailable" },
    });
    openGate(chain, "goes-down");
    expect(await first.client.exited).toBe(0);
    expect(kindsOf(chain, idOf(first))).toEqual(["execution_started", "execution_completed"]);
    expect((await chain.apply(second.path)).status).toBe(0);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("a new program: a run ends with the old one, what waited with the old one is refused and can be applied", async () => {
    const { first, second } = await oneRunsOneWaits("upgraded", "later1");
    await chain.host.exec(["sh", "-c", `cp ${AEGIS} ${AEGIS}.new && mv ${AEGIS}.new ${AEGIS}`]);
    openGate(chain, "upgraded");
    // All as planned; that somebody replaced the program meanwhile is said.
    expect(await first.client.exited).toBe(9);
    expect(first.client.stdout()).toContain(`files of Aegis itself changed during the run: ${AEGIS}`);
    expect(await second.client.exited).toBe(8);
    expect(second.client.stderr()).toContain("aegis was reinstalled while this request waited");
    expect(kindsOf(chain, idOf(second))).toEqual(["execution_denied"]);
    expect((await chain.apply(second.path)).status).toBe(0);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("what was signed before this host was set up does not run on it", async () => {
    const { path } = await chain.signed("apt", "install", "later2");
    chain.host.write("/var/lib/aegis/installed", `${new Date().toISOString()}\n`);
    const refused = await chain.apply(path);
    expect(refused.status).toBe(6);
    expect(refused.stderr).toContain("[expired]");
    expect(await chain.dpkgStatus("later2")).toBe("");
    chain.host.write("/var/lib/aegis/installed", "yesterday\n");
    expect((await chain.apply(path)).stderr).toContain("does not hold the installation time");
    await chain.host.exec(["rm", "/var/lib/aegis/installed"]);
  });
});
