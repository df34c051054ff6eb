import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Chain, startChain } from "./e2e-kit.ts";
import { plain } from "./e2e-running.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * /var/log as rsyslog has it on Ubuntu, and somebody of the group syslog in it: they can't change root's log, and can put it
 * away.
 */

describeOnThrowaway("the log is moved away by whoever may write /var/log", () => {
  let chain: Chain;
  const asSyslog = async (script: string) => {
    const { status, stderr } = await chain.host.exec([
      ...["setpriv", "--reuid=61002", "--regid=syslog", "--clear-groups"],
      ...["sh", "-c", script],
    ]);
    if (status !== 0) throw new Error(stderr);
  };
  beforeAll(async () => {
    chain = await startChain();
    const { host } = chain;
    host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await host.exec(["sh", "-c", "groupadd -f -r syslog; chgrp syslog /var/log; chmod 775 /var/log"]);
    await host.repo.publish(plain("quick", 4));
    await host.aptUpdate();
    await chain.startDaemon();
  }, 120_000);
  afterAll(() => chain?.stop());

  test("nothing runs until it is back, no other log is begun, and status says why", async () => {
    const first = await chain.signed("apt", "install", "quick0");
    expect((await chain.apply(first.path, "alice")).status).toBe(0);
    const events = chain.audit().length;
    await asSyslog("mv /var/log/aegis /var/log/elsewhere");

    const second = await chain.signed("apt", "install", "quick1");
    const refused = await chain.apply(second.path, "alice");
    expect([refused.status, refused.stderr]).toEqual([6, expect.stringContaining("[log_tampered]")]);
    expect(await chain.dpkgStatus("quick1")).not.toContain("installed");
    expect(existsSync(chain.host.path("/var/log/aegis/audit.ndjson"))).toBe(false);
    const status = await chain.aegis(["daemon", "status"]);
    expect([status.status, status.stdout]).toEqual([
      8,
      expect.stringContaining("replaced by another directory"),
    ]);

    await asSyslog("mv /var/log/aegis /var/log/empty; mv /var/log/elsewhere /var/log/aegis");
    expect((await chain.apply(second.path, "alice")).status).toBe(0);
    expect(chain.audit().length).toBeGreaterThan(events);
    expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
  });

  test("a directory of their own in its place: refused, and nothing of root's is written there", async () => {
    const { path } = await chain.signed("apt", "install", "quick2");
    await asSyslog("mv /var/log/aegis /var/log/elsewhere; mkdir -m 777 /var/log/aegis");
    const refused = await chain.apply(path, "alice");
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining("/var/log/aegis")]);
    const { stdout } = await chain.host.exec(["find", "/var/log/aegis", "-mindepth", "1"]);
    expect(stdout).toBe("");
    await asSyslog("mv /var/log/aegis /var/log/theirs; mv /var/log/elsewhere /var/log/aegis");
    expect((await chain.apply(path, "alice")).status).toBe(0);
  });
});
