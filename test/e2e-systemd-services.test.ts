import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { plain } from "./e2e-running.ts";
import { type ModelServer, startModelServer } from "./model-server.ts";
import { describeOnSystemd, install, mustExec, type Production, startProduction } from "./systemd-kit.ts";

/*
 * What stands beside the executor on a production host: the reviewer and the monitor in their sandboxes, and the way back.
 */

describeOnSystemd("services", (suite) => {
  let chain: Production;
  let model: ModelServer;
  beforeAll(async () => {
    chain = await startProduction(suite);
    model = startModelServer();
    await chain.host.repo.publish(plain("quick", 3));
    await chain.host.aptUpdate();
  }, 120_000);
  afterAll(async () => {
    model?.stop();
    await chain?.stop();
  });

  const apply = async (path: string) => {
    const { status, stderr } = await chain.apply(path, "alice");
    return [status, status === 0 ? "" : stderr];
  };

  test("the reviewer: asked by a member of its group, signs what a policy that requires reviews takes", async () => {
    const { host } = chain;
    host.write("/etc/aegis/aegis-reviewd.env", `AEGIS_AI_BASE_URL=${model.url}\n`);
    await host.systemctl("restart", "aegis-reviewd.service");
    const planned = await chain.plan("apt", "update");
    const review = (user: "alice" | "bob") =>
      chain.aegis(["review", planned.plan.plan_id, "--json"], { user });
    expect((await review("alice")).status).toBe(8);
    await mustExec(host, ["usermod", "--append", "--groups", "aegis-review", "alice"]);
    const { status, stdout, stderr } = await review("alice");
    expect(status, stderr).toBe(0);
    expect(model.asked.filter(({ method }) => method === "POST").length).toBe(1);
    expect(stdout).toContain('"signature"');
    const key = JSON.parse(host.read("/etc/aegis/review-key.pub")).public_key_hex;
    host.write("/etc/aegis/policy.toml", `[review]\nrequired = true\npublic_keys = ["${key}"]\n`);
    // Nobody approves: the review is what the policy asks for.
    const { plan_id } = planned.plan;
    const out = `/tmp/execution-${plan_id}.json`;
    const words = ["--key", "/home/alice/keys/sign", "--signer", "ops@example", "--out", out];
    const decided = await chain.aegis(["policy", plan_id, "--review", plan_id], { user: "alice" });
    expect([decided.status, decided.stderr]).toEqual([0, ""]);
    const signed = await chain.aegis(["sign", plan_id, "--review", plan_id, ...words], { user: "alice" });
    expect([signed.status, signed.stderr]).toEqual([0, ""]);
    expect(await apply(out)).toEqual([0, ""]);
    const verified = await chain.aegis(["audit", "verify", "--path", "/var/log/aegis/reviewd"]);
    expect(verified.status, verified.stderr).toBe(0);
    host.write("/etc/aegis/policy.toml", "");
  });

  test("the monitor: tells of a package that came by itself, not of one that was signed", async () => {
    const { host } = chain;
    await host.systemctl("start", "aegis-monitor.service");
    const { path } = await chain.signed("apt", "install", "quick0");
    expect(await apply(path)).toEqual([0, ""]);
    await host.aptInstall("quick1");
    await host.systemctl("start", "aegis-monitor.service");
    const changes = chain.audit().filter(({ kind }) => kind === "unmanaged_change");
    expect(changes.length).toBe(1);
    expect(JSON.stringify(changes)).toContain("quick1");
    expect(JSON.stringify(changes)).not.toContain("quick0");
    const verified = await chain.aegis(["audit", "verify", "--system"]);
    expect(verified.status, verified.stderr).toBe(0);
  });

  test("trusted keys: a change holds without a restart, and the monitor tells of a key that ends soon", async () => {
    const { host } = chain;
    const trust = async (...args: readonly string[]) => {
      const { status, stdout, stderr } = await chain.aegis(["sign", "trust", ...args, "--json"]);
      expect(status, stderr).toBe(0);
      return JSON.parse(stdout);
    };
    const { keys, unknown } = await trust("list");
    expect(unknown).toEqual([]);
    const { id } = keys.find(({ role }: { role: string }) => role === "execution");
    const { path } = await chain.signed("apt", "update");
    await trust("expire", id);
    expect(await apply(path)).toEqual([6, expect.stringContaining("[key_untrusted]")]);
    const soon = new Date(Date.now() + 10 * 86_400_000).toISOString().slice(0, 10);
    await trust("expire", id, "--until", soon);
    expect(await apply(path)).toEqual([0, ""]);
    await host.systemctl("start", "aegis-monitor.service");
    const found = chain.audit().filter(({ kind }) => kind === "monitor_findings");
    expect(JSON.stringify(found)).toContain(`expires on ${soon}`);
    const verified = await chain.aegis(["audit", "verify", "--system"]);
    expect(verified.status, verified.stderr).toBe(0);
  });

  test("uninstalled: log, configuration and what was used stay; installed again, the used stays used", async () => {
    const { host } = chain;
    const { path } = await chain.signed("apt", "install", "quick2");
    expect(await apply(path)).toEqual([0, ""]);
    const kept = [
      "/var/log/aegis/audit.ndjson",
      "/etc/aegis/trusted-keys.toml",
      "/var/lib/aegis/spent/spent.ndjson",
    ];
    const before = kept.map((file) => host.read(file));
    const failing = "/run/systemd/system/aegis-monitor.service.d/failing.conf";
    host.write(failing, "[Service]\nExecStartPre=/bin/false\n");
    await host.systemctl("daemon-reload");
    expect((await host.exec(["systemctl", "start", "aegis-monitor.service"])).status).not.toBe(0);
    rmSync(host.path(failing));
    await mustExec(host, ["/root/aegis", "daemon", "uninstall"]);
    expect(kept.map((file) => host.read(file))).toEqual(before);
    for (const gone of [
      "/run/aegis/aegisd.sock",
      "/run/aegis/runner.sock",
      "/etc/systemd/system/aegisd.service",
    ]) {
      expect(existsSync(host.path(gone))).toBe(false);
    }
    expect((await host.exec(["systemctl", "list-units", "--all", "--no-legend", "aegis*"])).stdout).toBe("");
    await install(host);
    await mustExec(host, ["dpkg", "--remove", "quick2"]);
    const again = await chain.apply(path, "alice");
    expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
  });
});
