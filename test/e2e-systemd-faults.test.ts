import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { openAuditLog } from "../src/audit-log.ts";
import {
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
  resultOf,
  submit,
} from "./e2e-running.ts";
import {
  describeOnSystemd,
  install,
  mustExec,
  type Production,
  ranTwice,
  SLICE_STOPPER,
  STOPPER,
  startProduction,
  WAYS_TO_STOP,
} from "./systemd-kit.ts";

/*
 * What goes wrong on a production host while a package is being configured, and in the places that the executor relies on.
 * After each: nothing is lost, nothing has run twice, the log verifies.
 */

const GATED = ["front-restarts", "front-dies", "runner-dies", "reboot", "power-failure", "log-fills", "anew"];
const LOG = "/var/log/aegis";
const COMPLETED = ["execution_started", "execution_completed"];
const INTERRUPTED = ["execution_started", "execution_interrupted"];

describeOnSystemd("faults", (suite) => {
  let chain: Production;
  beforeAll(async () => {
    chain = await startProduction(suite);
    // Approvals have their own tests.
    chain.host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await chain.host.repo.publish([...GATED.map(gated), ...plain("quick", 6), STOPPER, SLICE_STOPPER]);
    await chain.host.aptUpdate();
  }, 120_000);
  afterAll(() => chain?.stop());
  /** Executions whose results were lost with an older copy of /var/lib. */
  const lost: string[] = [];
  afterEach(async () => {
    // Whoever looks at the queue sweeps away what the dead have left in it.
    expect((await chain.aegis(["daemon", "status"], { user: "alice" })).status).toBe(0);
    const problems = [...(await brokenInvariants(chain)), ...ranTwice(chain)];
    expect(problems.filter((problem) => !lost.some((id) => problem.startsWith(id)))).toEqual([]);
  });

  const run = async (name: string) => {
    const { execution, path } = await chain.signed("apt", "install", name);
    return { id: execution.execution_plan_id, path };
  };
  /** Submits the installation of a gated package and waits until it is in its postinst. */
  const untilGate = async (name: string) => {
    const { id, path } = await run(name);
    const client = await submit(chain, path);
    await atGate(chain, name);
    return { id, path, client };
  };
  const isInstalled = async (name: string) => (await chain.dpkgStatus(name)) === "install ok installed";
  const refusal = async (path: string) => {
    const { status, stderr } = await chain.apply(path, "alice");
    return `${status} ${/\[(\w+)\]/.exec(stderr)?.[1] ?? stderr}`;
  };

  test("the front is restarted: the run and its client go on", async () => {
    const { id, client } = await untilGate("front-restarts");
    await chain.host.systemctl("restart", "aegisd.service");
    openGate(chain, "front-restarts");
    expect(await client.exited).toBe(0);
    expect(kindsOf(chain, id)).toEqual(COMPLETED);
  });

  test("the front is killed: systemd starts another, the run and its client go on", async () => {
    const { id, client } = await untilGate("front-dies");
    const before = executorProcesses(chain, "front");
    expect(before.length).toBe(1);
    kill(before);
    await eventually(() => executorProcesses(chain, "front").some(({ pid }) => pid !== before[0]?.pid));
    openGate(chain, "front-dies");
    expect(await client.exited).toBe(0);
    expect(kindsOf(chain, id)).toEqual(COMPLETED);
  });

  test("runner and front are killed: apt ends its work, and the run is closed with nobody asking", async () => {
    const { id, path, client } = await untilGate("runner-dies");
    client.kill("SIGKILL");
    kill([...executorProcesses(chain, "runner"), ...executorProcesses(chain, "front")]);
    // Long enough for systemd to end what it takes for a rest of the runner.
    await Bun.sleep(2000);
    openGate(chain, "runner-dies");
    await eventually(() => resultOf(chain, id)?.state === "interrupted");
    expect(await isInstalled("runner-dies")).toBe(true);
    expect(kindsOf(chain, id)).toEqual(INTERRUPTED);
    expect(await refusal(path)).toBe("6 replay");
  });

  test("the runner is told to stop by the very package it installs: systemd refuses, and the run ends well", async () => {
    const { id, path } = await run("stopper");
    expect((await chain.apply(path, "alice")).status).toBe(0);
    expect(kindsOf(chain, id)).toEqual(COMPLETED);
    const said = chain.host.read("/run/stopper");
    process.stderr.write(`${suite}: ${said.replaceAll("\n", "\n  ")}\n`);
    expect(said).toMatch(/^unit aegis-runner@\S+\.service$/m);
    for (const way of WAYS_TO_STOP) expect(said).toMatch(new RegExp(`^[0-9]+ ${way}$`, "m"));
    expect(said).toContain("may be requested by dependency only");
    expect(said).toContain("0 the socket");
  });

  test("the runner is stopped by dependency: it gives way, apt ends its work, and the run is closed", async () => {
    const { id, path } = await run("slice-stopper");
    const { status, stdout } = await chain.apply(path, "alice");
    expect([status, stdout]).toEqual([
      expect.any(Number),
      expect.stringContaining("every package is as planned"),
    ]);
    expect(status).not.toBe(0);
    // It came back; systemd 259 calls what failed while it was stopped a failure to stop.
    expect(chain.host.read("/run/slice-stopper")).toMatch(/^[01]\n$/);
    expect(await isInstalled("slice-stopper")).toBe(true);
    expect(kindsOf(chain, id)).toEqual(INTERRUPTED);
    expect(await refusal(path)).toBe("6 replay");
  });

  test("an orderly reboot waits for the run", async () => {
    const { id } = await untilGate("reboot");
    const before = chain.host.leader();
    await chain.host.beginReboot();
    // Long enough for systemd to end what does not make it wait.
    await Bun.sleep(3000);
    expect((await chain.host.exec(["systemctl", "is-system-running"])).stdout).toBe("stopping\n");
    openGate(chain, "reboot");
    await chain.host.booted(before);
    expect(await isInstalled("reboot")).toBe(true);
    expect(kindsOf(chain, id)).toEqual(COMPLETED);
    expect(resultOf(chain, id)?.state).toBe("completed");
  });

  test("a plan of before a reboot is not run after it", async () => {
    const { path } = await run("quick5");
    // /tmp does not outlive the boot.
    const kept = "/home/alice/earlier-boot.json";
    await mustExec(chain.host, ["cp", path, kept]);
    const before = chain.host.leader();
    await chain.host.beginReboot();
    await chain.host.booted(before);
    expect(await refusal(kept)).toBe("6 expired");
    expect(await isInstalled("quick5")).toBe(false);
    const { execution, path: again } = await chain.signed("apt", "install", "quick5");
    expect((await chain.apply(again, "alice")).status).toBe(0);
    expect(kindsOf(chain, execution.execution_plan_id)).toEqual(COMPLETED);
  });

  test("the power fails: the run is closed at the next boot, and never run again", async () => {
    const { id, path } = await untilGate("power-failure");
    // /tmp does not outlive the boot.
    const kept = "/home/alice/power-failure.json";
    await mustExec(chain.host, ["cp", path, kept]);
    await chain.host.powerCycle();
    await eventually(() => resultOf(chain, id)?.state === "interrupted");
    expect(kindsOf(chain, id)).toEqual(INTERRUPTED);
    expect(lastEvent(chain, "execution_interrupted")).toMatchObject({
      details: { dpkg_audit: expect.stringContaining("power-failure") },
    });
    openGate(chain, "power-failure");
    await mustExec(chain.host, ["dpkg", "--configure", "-a"]);
    expect(await refusal(kept)).toBe("6 replay");
    const next = await run("quick0");
    expect((await chain.apply(next.path, "alice")).status).toBe(0);
  });

  test("the log's disk is full: nothing starts; it fills during a run: its end is written all the same", async () => {
    const [first, second] = [await run("quick1"), await run("quick2")];
    const script = `set -e; cp -a ${LOG} /root/log; mount -t tmpfs -o size=24m tmpfs ${LOG}; cp -a /root/log/. ${LOG}`;
    await mustExec(chain.host, ["sh", "-c", script]);
    const fill = () => chain.host.exec(["sh", "-c", `cat /dev/zero >> ${LOG}/filler`]);
    const free = () => chain.host.exec(["rm", `${LOG}/filler`]);
    expect((await fill()).stderr).toContain("No space left");
    expect(await refusal(first.path)).toBe("1 io");
    expect(await isInstalled("quick1")).toBe(false);
    await free();
    expect((await chain.apply(first.path, "alice")).status).toBe(0);

    const { id, client } = await untilGate("log-fills");
    expect((await fill()).stderr).toContain("No space left");
    openGate(chain, "log-fills");
    expect(await client.exited).toBe(0);
    expect(kindsOf(chain, id)).toEqual(COMPLETED);
    // What was set aside for that end is free again.
    expect((await fill()).stderr).toContain("No space left");
    expect(await refusal(second.path)).toBe("1 io");
    await free();
    expect((await chain.apply(second.path, "alice")).status).toBe(0);
    const back = `set -e; rm -r /root/log; cp -a ${LOG} /root/log; umount ${LOG}; cp -a /root/log/. ${LOG}`;
    await mustExec(chain.host, ["sh", "-c", back]);
  });

  test("the clock is behind what the log has seen: nothing starts until it is right", async () => {
    const { path } = await run("quick3");
    const ahead = Date.now() + 8000;
    openAuditLog(chain.host.path(LOG), {
      now: () => new Date(ahead),
      host: "throwaway",
      mode: 0o640,
    }).append({ kind: "requests_refused", details: { count: 0 } });
    expect(await refusal(path)).toBe("6 clock_behind");
    expect(await isInstalled("quick3")).toBe(false);
    await eventually(() => Date.now() > ahead);
    expect((await chain.apply(path, "alice")).status).toBe(0);
  });

  test("installed anew during a run: the run is finished, settings and records stay", async () => {
    const { id, path, client } = await untilGate("anew");
    const kept = ["/etc/aegis/trusted-keys.toml", "/etc/aegis/policy.toml", "/var/lib/aegis/installed"];
    const before = kept.map((file) => chain.host.read(file));
    const unit = "/etc/systemd/system/aegisd.service";
    const text = chain.host.read(unit);
    chain.host.write(unit, text.replace(/^MemoryMax=.*$/m, "MemoryMax=1G"));
    chain.host.write("/etc/systemd/system/aegisd.service.d/site.conf", "[Service]\nNice=1\n");
    const installing = install(chain.host);
    await Promise.race([installing, Bun.sleep(2000)]);
    expect(resultOf(chain, id)?.state).toBe("running");
    openGate(chain, "anew");
    await installing;
    // Done as planned, and said: the unit is another than when the run began.
    expect(await client.exited).toBe(9);
    expect(resultOf(chain, id)).toMatchObject({ state: "completed", message: expect.stringContaining(unit) });
    expect(kindsOf(chain, id)).toEqual(COMPLETED);
    expect(kept.map((file) => chain.host.read(file))).toEqual(before);
    expect(chain.host.read(unit)).toBe(text);
    expect((await chain.host.systemctl("show", "-P", "Nice", "aegisd.service")).trim()).toBe("1");
    expect(await refusal(path)).toBe("6 replay");
    expect((await chain.aegis(["daemon", "status"], { user: "alice" })).status).toBe(0);
  });

  test("an older copy of /var/lib is put back: what ran since stays used", async () => {
    await mustExec(chain.host, ["cp", "-a", "/var/lib/aegis", "/root/older"]);
    const { id, path } = await run("quick4");
    expect((await chain.apply(path, "alice")).status).toBe(0);
    await mustExec(chain.host, ["rm", "-r", "/var/lib/aegis"]);
    await mustExec(chain.host, ["cp", "-a", "/root/older", "/var/lib/aegis"]);
    lost.push(id);
    // Removed meanwhile, so that the same plan would have something to do.
    await mustExec(chain.host, ["dpkg", "--remove", "quick4"]);
    expect(await refusal(path)).toBe("6 replay");
    expect(await isInstalled("quick4")).toBe(false);
    expect(kindsOf(chain, id).slice(0, 2)).toEqual(COMPLETED);
    const { status } = await chain.aegis(["apply", "--watch", id], { user: "alice" });
    expect(status).not.toBe(0);
  });
});
