import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Finding } from "../src/finding.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { pick } from "./throwaway-packages.ts";
import { type Repository, startRepository } from "./throwaway-repo.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * The monitor on a host with the real apt and dpkg: what goes around Aegis is seen, once, and what Aegis does is not told
 * as if it had gone around it.
 */

const MONITOR = ["daemon", "--monitor"];
const STATE = "/var/lib/aegis/monitor/state.json";
const KINDS = ["unmanaged_change", "repository_drift", "monitor_findings", "monitor_baseline"];

describeOnThrowaway("the monitor", () => {
  let chain: Chain;

  const sh = async (script: string, env: Record<string, string> = {}) => {
    const how = { env: { DEBIAN_FRONTEND: "noninteractive", ...env } };
    const { status, stderr, stdout } = await chain.host.exec(["bash", "-ec", script], how);
    if (status !== 0) throw new Error(`${script}: ${status}\n${stdout}${stderr}`);
  };
  const events = () => chain.audit().filter(({ kind }) => KINDS.includes(String(kind)));
  /** Runs the monitor; returns what it wrote to the log, newest last. */
  const monitor = async () => {
    const before = events().length;
    const { status, stderr } = await chain.aegis(MONITOR);
    if (status !== 0) throw new Error(`the monitor failed: ${status} ${stderr}`);
    return events().slice(before);
  };
  const purge = async (...names: string[]) => {
    await sh(`dpkg --purge ${names.join(" ")}`);
    await monitor();
  };

  beforeAll(async () => {
    chain = await startChain();
    const keys = ["hello-aegis=1.0", "hello-aegis=1.1", "app=1.0", "libapp=1.0", "bystander=1.0"] as const;
    await chain.offer(...keys, "postinst-fails=1.0", "behind-our-back=1.0", "sleeper=1.0");
    chain.host.write("/etc/aegis/policy.toml", "[snapshot]\naccept_declared = true\n");
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  test("is for root", async () => {
    const { status, stderr } = await chain.aegis(MONITOR, { user: "alice" });
    expect([status, stderr]).toEqual([2, expect.stringContaining("sudo aegis daemon --monitor")]);
  });

  test("takes the host as it finds it, says so once, and then nothing", async () => {
    expect(await monitor()).toMatchObject([
      { kind: "monitor_baseline", details: { message: expect.stringContaining("the monitor starts") } },
    ]);
    expect(await monitor()).toEqual([]);
    expect((await chain.host.exec(["stat", "-c", "%a %U", "/var/lib/aegis/monitor", STATE])).stdout).toBe(
      "700 root\n600 root\n",
    );
  });

  test("apt by hand is one event, with who and what; the next run has nothing to add", async () => {
    await sh("apt-get install -y app", { SUDO_UID: "61001", SUDO_USER: "alice" });
    expect(await monitor()).toMatchObject([
      {
        kind: "unmanaged_change",
        details: {
          program: "apt-get",
          command: "apt-get install -y app",
          requested_by: "alice (61001)",
          count: 2,
          changes: ["install libapp:all none 1.0", "install app:all none 1.0"],
          during_executions: [],
        },
      },
    ]);
    expect(await monitor()).toEqual([]);
  });

  test("an execution is no event, nor is one that fails, nor one whose files are gone", async () => {
    const first = await chain.signed("apt", "install", "hello-aegis=1.0");
    expect((await chain.apply(first.path)).status).toBe(0);
    const second = await chain.signed("apt", "upgrade");
    expect((await chain.apply(second.path)).status).toBe(0);
    const third = await chain.signed("apt", "install", "postinst-fails");
    expect((await chain.apply(third.path)).status).toBe(7);
    await sh(`rm -r /var/lib/aegis/runs/${second.execution.execution_plan_id}`);
    expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");
    expect((await monitor()).filter(({ kind }) => kind === "unmanaged_change")).toEqual([]);
    await sh("dpkg --purge postinst-fails");
    expect((await monitor()).filter(({ kind }) => kind === "unmanaged_change")).toMatchObject([
      { details: { program: "dpkg", changes: ["remove postinst-fails:all 1.0 none"] } },
    ]);
    await purge("hello-aegis");
  });

  test("a run that the hook refused explains nothing, since it changed nothing", async () => {
    const { execution, path } = await chain.signed("apt", "install", "hello-aegis=1.0");
    expect((await chain.apply(path)).status).toBe(0);
    // As if the hook had refused it, and somebody had installed just that meanwhile.
    await sh(
      `sed -i 's/"ok":true/"ok":false/' /var/lib/aegis/runs/${execution.execution_plan_id}/receipt.json`,
    );
    expect(await monitor()).toMatchObject([
      { kind: "unmanaged_change", details: { changes: ["install hello-aegis:all none 1.0"] } },
    ]);
    await purge("hello-aegis");
  });

  test("an execution is no event where dpkg keeps no log", async () => {
    await monitor();
    await sh("cp /etc/dpkg/dpkg.cfg /root/dpkg.cfg; sed -i '/^log /d' /etc/dpkg/dpkg.cfg");
    const { path } = await chain.signed("apt", "install", "hello-aegis=1.0");
    expect((await chain.apply(path)).status).toBe(0);
    await sh("sleep 2; cp /root/dpkg.cfg /etc/dpkg/dpkg.cfg");
    expect(await monitor()).toEqual([]);
    await purge("hello-aegis");
  });

  test("what somebody does while an execution runs is an event", async () => {
    await sh("apt-get install -y bystander");
    await monitor();
    const { path, execution } = await chain.signed("apt", "install", "behind-our-back");
    // It says itself that something else changed meanwhile.
    expect((await chain.apply(path)).status).toBe(9);
    expect(await monitor()).toMatchObject([
      {
        kind: "unmanaged_change",
        details: {
          count: 1,
          changes: [expect.stringMatching(/^remove bystander:all/)],
          during_executions: [execution.execution_plan_id],
        },
      },
    ]);
    await purge("behind-our-back");
  });

  test("the same package at the same version, by hand after the execution, is an event", async () => {
    const { path } = await chain.signed("apt", "install", "hello-aegis=1.0");
    expect((await chain.apply(path)).status).toBe(0);
    await sh("sleep 1.1; dpkg -r hello-aegis; apt-get install -y hello-aegis=1.0");
    const found = (await monitor()).map(({ details }) => Object(details).changes);
    expect(found).toEqual([["remove hello-aegis:all 1.0 none"], ["install hello-aegis:all none 1.0"]]);
  });

  test("unattended-upgrades is named", async () => {
    // As that program appears in apt's history (test/fixtures/monitor): by the name it was called by.
    await sh("exec -a /usr/bin/unattended-upgrade apt-get install -y hello-aegis=1.1");
    expect(await monitor()).toMatchObject([
      { kind: "unmanaged_change", details: { program: "unattended-upgrades", count: 1 } },
    ]);
  });

  test("dpkg alone is an event, also where it was told to keep no log", async () => {
    await sh("dpkg -r hello-aegis");
    expect(await monitor()).toMatchObject([{ details: { program: "dpkg", command: null, count: 1 } }]);
    await sh(
      "cd /tmp && apt-get download hello-aegis=1.0 && dpkg --log=/dev/null -i hello-aegis_1.0_all.deb",
    );
    expect(await monitor()).toMatchObject([
      { details: { program: "unknown", changes: ["changed hello-aegis:all none 1.0"] } },
    ]);
    expect(await monitor()).toEqual([]);
    await purge("hello-aegis");
  });

  test("apt that is at work is waited for: one event, complete", async () => {
    chain.host.write("/etc/sleeper-seconds", "3");
    const apt = await chain.host.spawn(["apt-get", "install", "-y", "sleeper", "hello-aegis"]);
    while ((await chain.host.exec(["grep", "-q", "install sleeper", "/var/log/dpkg.log"])).status !== 0)
      await Bun.sleep(50);
    expect(await monitor()).toMatchObject([{ details: { count: 2 } }]);
    expect(await apt.exited).toBe(0);
    expect(await monitor()).toEqual([]);
    await purge("sleeper", "hello-aegis");
  });

  test("logs that are rotated and compressed meanwhile: nothing is lost, nothing told twice", async () => {
    await sh("apt-get install -y hello-aegis=1.0");
    await sh("cd /var/log && mv dpkg.log dpkg.log.1 && gzip -c dpkg.log.1 > dpkg.log.2.gz && rm dpkg.log.1");
    await sh("cd /var/log/apt && gzip -c history.log > history.log.1.gz && rm history.log");
    await sh("apt-get install -y hello-aegis=1.1");
    expect((await monitor()).map(({ details }) => Object(details).command)).toEqual([
      "apt-get install -y hello-aegis=1.0",
      "apt-get install -y hello-aegis=1.1",
    ]);
    expect(await monitor()).toEqual([]);
    await purge("hello-aegis");
  });

  test("a log that was cut is told, and what it hid is seen all the same", async () => {
    await sh(
      "apt-get install -y hello-aegis; rm /var/log/dpkg.log* /var/log/apt/history.log*; touch /var/log/dpkg.log",
    );
    expect(await monitor()).toMatchObject([
      {
        kind: "unmanaged_change",
        details: { program: "unknown", changes: ["changed hello-aegis:all none 1.1"] },
      },
      {
        kind: "monitor_findings",
        details: { not_looked_at: [expect.stringContaining("/var/log/dpkg.log no longer has")] },
      },
    ]);
    await purge("hello-aegis");
  });

  test("a log of which something was taken out is told, and what was in it before is not told again", async () => {
    await sh("sed -i 1d /var/log/dpkg.log; sleep 1.1; apt-get install -y hello-aegis=1.0");
    expect(await monitor()).toMatchObject([
      { kind: "unmanaged_change", details: { command: "apt-get install -y hello-aegis=1.0", count: 1 } },
      {
        kind: "monitor_findings",
        details: { not_looked_at: [expect.stringContaining("/var/log/dpkg.log")] },
      },
    ]);
    await purge("hello-aegis");
  });

  test.each([
    ["lost", `rm ${STATE}`],
    ["damaged", `echo nonsense > ${STATE}`],
    ["put back to an older copy", `cp /root/state.old ${STATE}`],
  ])("state that was %s: one note, no duplicate, and nothing missed", async (_, harm) => {
    await sh(`cp ${STATE} /root/state.old; apt-get install -y hello-aegis`);
    expect(await monitor()).toHaveLength(1);
    await sh(`dpkg -r hello-aegis; ${harm}`);
    expect(await monitor()).toMatchObject([
      { kind: "unmanaged_change", details: { changes: [expect.stringMatching(/^remove hello-aegis:all/)] } },
      { kind: "monitor_baseline", details: { repositories_as_last_seen: true } },
    ]);
    expect(await monitor()).toEqual([]);
  });

  test("repositories: added, keyring changed, trusted without a signature, removed", async () => {
    const other: Repository = await startRepository({ origin: "Other" });
    try {
      await other.publish(pick("hello-aegis=1.0"));
      const uri = chain.host.addSource("other", other);
      const drift = async () => {
        const [event, ...more] = await monitor();
        expect([event?.["kind"], more]).toEqual(["repository_drift", []]);
        return Object(event?.["details"]).changes as Record<string, string>[];
      };
      expect(await drift()).toMatchObject([{ repository: `${uri} ${other.suite}`, change: "added" }]);
      await chain.host.aptUpdate();
      expect((await drift()).map(({ property }) => property)).toEqual([
        "key_fingerprints",
        "problems",
        "trust",
      ]);
      await sh("cat /usr/share/keyrings/throwaway.gpg >> /usr/share/keyrings/other.gpg");
      expect((await drift()).map(({ property }) => property)).toEqual(["keyrings_sha256"]);
      await sh("echo 'Trusted: yes' >> /etc/apt/sources.list.d/other.sources");
      expect((await drift()).map(({ property }) => property)).toContain("trusted_option");
      await sh("rm /etc/apt/sources.list.d/other.sources");
      expect(await drift()).toMatchObject([{ change: "removed" }]);
      expect(await monitor()).toEqual([]);
    } finally {
      await other.stop();
    }
  });

  test("findings are told when they come and when they go", async () => {
    chain.host.write("/etc/sudoers.d/careless", "Defaults env_keep += BUN_OPTIONS\n");
    expect(await monitor()).toMatchObject([
      {
        kind: "monitor_findings",
        details: { new: [expect.stringContaining("keeps BUN_OPTIONS")], gone: [] },
      },
    ]);
    expect(await monitor()).toEqual([]);
    await sh("rm /etc/sudoers.d/careless");
    expect(await monitor()).toMatchObject([
      { details: { new: [], gone: [expect.stringContaining("BUN_OPTIONS")] } },
    ]);
  });

  test("hundreds of dpkg runs by hand are a bounded number of events", async () => {
    const line = (n: number) =>
      `2026-11-22 ${String(n % 24).padStart(2, "0")}:00:00 install many${n}:all <none> 1.0\n`;
    const log = Array.from({ length: 300 }, (_, n) => line(n)).join("");
    chain.host.write("/var/log/dpkg.log", chain.host.read("/var/log/dpkg.log") + log);
    const found = await monitor();
    expect(found.length).toBe(51);
    expect(found.at(-1)).toMatchObject({ details: { program: "several", runs: 250, count: 250 } });
    expect(await monitor()).toEqual([]);
  });

  test("doctor shows it, and the log verifies", async () => {
    const { stdout } = await chain.aegis(["doctor"]);
    expect(stdout).toMatch(
      /unmanaged {2,}\d+ package changes outside Aegis since the monitor's first look, \d{4}-\d\d-\d\d \d\d:\d\dZ \(.*unattended-upgrades 1/,
    );
    expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
  });

  test("a log that was changed in the middle: the next look finds it, and the status fails until it is put right", async () => {
    const status = async (user: "root" | "alice") => {
      const { document } = await chain.json(["daemon", "status"], user);
      const { findings } = document as { findings: Finding[] };
      return findings.filter(({ check }) => check === "monitor");
    };
    const path = "/var/log/aegis/audit.ndjson";
    const good = chain.host.read(path);
    await sh(`sed -i '2s/"host":"./"host":"~/' ${path}`);
    expect(await status("root")).toMatchObject([{ level: "ok" }]);
    expect(await monitor()).toMatchObject([
      { kind: "monitor_findings", details: { new: [expect.stringContaining(`audit: ${path}, line 2: `)] } },
    ]);
    for (const user of ["root", "alice"] as const)
      expect(await status(user)).toMatchObject([
        {
          level: "fail",
          message: expect.stringMatching(
            /audit\.ndjson, line 2: the line was changed: .* \(the monitor, \d{4}-/,
          ),
          fix: expect.stringContaining("aegis audit verify --system"),
        },
      ]);
    const added = chain.host.read(path).slice(good.length);
    chain.host.write(path, good + added, 0o640);
    await sh(`chgrp aegis-admin ${path}`);
    expect(await monitor()).toMatchObject([{ details: { gone: [expect.stringContaining("line 2")] } }]);
    expect(await status("root")).toMatchObject([{ level: "ok" }]);
  });
});
