import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { zip } from "./archive-kit.ts";
import type { Planned } from "./e2e-kit.ts";
import { plain } from "./e2e-running.ts";
import { type Answer, epss, kev, tagged, withServer } from "./feeds-kit.ts";
import { type ModelServer, startModelServer } from "./model-server.ts";
import { describeOnSystemd, install, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import type { PackageDefinition } from "./throwaway-packages.ts";

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
    // Each from its sandbox: the monitor records what the sources offer, the runner keeps what it installed.
    expect(host.read("/var/lib/aegis/first-seen").split("\n").length).toBeGreaterThan(3);
    expect((await host.exec(["ls", "-l", "/var/cache/aegis/kept"])).stdout).toMatch(
      /-rw-r----- \d root aegis-admin .* quick0_1\.0_all\.[0-9a-f]{64}\.deb\n/,
    );
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

  /** A restart planned by root, who needs no D-Bus to ask systemd, and handed to alice, who signs it. */
  const planRestart = async (...units: readonly string[]) => {
    const { status, stdout, stderr } = await chain.aegis(["plan", "services", "restart", ...units, "--json"]);
    if (status !== 0) return { status, stderr: `${stdout}${stderr}` };
    const planned: Planned = JSON.parse(stdout);
    const { plan } = chain.edit(planned, {});
    await mustExec(chain.host, [
      "chown",
      "alice",
      `/home/alice/.local/share/aegis/plans/${plan.plan_id}.json`,
    ]);
    return { status, planned, names: plan.transaction.map(({ name }) => name), warnings: plan.warnings };
  };
  const signRestart = async (...units: readonly string[]) => {
    const { planned } = await planRestart(...units);
    if (planned === undefined) throw new Error(`${units} could not be planned`);
    return (await chain.sign(planned)).path;
  };
  const runs = (...units: readonly string[]) =>
    Promise.all(
      units.map((unit) => chain.host.systemctl("show", "--property=InvocationID", "--value", unit)),
    );

  test("a restart: what was signed, with what systemd restarts besides; changed, stopped and failing units are told", async () => {
    const { host } = chain;
    await chain.plan("apt", "update");
    const unit = (name: string, text: string) => host.write(`/etc/systemd/system/${name}`, text);
    const sleeping = "[Service]\nExecStart=/bin/sleep 1000\n";
    unit("web.service", `[Unit]\nWants=idle.service\n${sleeping}[Install]\nAlias=www.service\n`);
    unit("part.service", `[Unit]\nPartOf=web.service\nAfter=web.service\n${sleeping}`);
    unit("idle.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    // One whose end systemctl waits for, and one that systemd takes for started at once.
    unit(
      "breaks-exec.service",
      `[Service]\nExecStartPre=/bin/sh -c 'test -e /run/works'\nExecStart=/bin/sleep 1000\n`,
    );
    unit(
      "breaks-simp.service",
      "[Service]\nExecStart=/bin/sh -c 'sleep 0.5; test -e /run/works && exec sleep 1000'\n",
    );
    host.write("/run/works", "");
    await host.systemctl("daemon-reload");
    await host.systemctl("enable", "web.service");
    await host.systemctl(
      "start",
      "web.service",
      "part.service",
      "breaks-exec.service",
      "breaks-simp.service",
    );

    for (const [asked, why] of [
      ["idle", "isn't running but inactive (dead)"],
      ["aegis-runner@1-2-3.service", "Aegis's own run would end with it"],
      ["web.service;reboot", "shell metacharacters"],
    ] as const)
      expect(await planRestart(asked)).toEqual({ status: 2, stderr: expect.stringContaining(why) });
    expect((await planRestart("-H", "root@evil")).status).toBe(2);
    const asAlice = await chain.aegis(["plan", "services", "restart", "web"], { user: "alice" });
    expect([asAlice.status, asAlice.stdout + asAlice.stderr]).toEqual([3, expect.stringContaining("D-Bus")]);

    const { planned, names, warnings } = await planRestart("www");
    expect(names).toEqual(["web.service", "part.service"]);
    expect(warnings).toEqual([
      expect.stringContaining("may also start what it needs and what doesn't run: idle.service"),
    ]);
    if (planned === undefined) throw new Error("unreachable");
    const { path } = await chain.sign(planned);
    const before = await runs("web.service", "part.service");
    expect(await apply(path)).toEqual([0, ""]);
    const after = await runs("web.service", "part.service");
    expect([after[0] !== before[0], after[1] !== before[1]]).toEqual([true, true]);
    expect(chain.audit().at(-1)).toMatchObject({
      kind: "execution_completed",
      argv: ["systemctl", "restart", "web.service"],
    });

    // Another program behind the same name, known to systemd or not.
    for (const known of ["daemon-reload", "is-system-running"]) {
      const signed = await signRestart("part");
      unit("part.service", `[Unit]\nPartOf=web.service\n${sleeping}# ${known}\n`);
      await host.exec(["systemctl", known]);
      expect(await apply(signed)).toEqual([9, expect.stringContaining("[drift]")]);
      await host.systemctl("daemon-reload");
    }

    const breaking = [await signRestart("breaks-exec"), await signRestart("breaks-simp")];
    rmSync(host.path("/run/works"));
    for (const signed of breaking) {
      const { status, stdout } = await chain.apply(signed, "alice");
      expect([status, stdout]).toEqual([7, expect.stringContaining("journalctl --unit breaks-")]);
    }

    // The front itself: whoever waits loses it, and the run goes on.
    const front = await signRestart("aegisd");
    const [running] = await runs("aegisd.service");
    const waited = await chain.apply(front, "alice");
    expect([waited.status, waited.stderr]).toEqual([0, expect.stringContaining("reattaching")]);
    expect((await runs("aegisd.service"))[0]).not.toBe(running);
  });

  test("old code: named before, after, by the monitor and by status, until the service is restarted", async () => {
    const { host } = chain;
    const [directory = ""] = readdirSync(host.path("/usr/lib")).filter((name) => name.endsWith("-linux-gnu"));
    const library = readFileSync(host.path(`/usr/lib/${directory}/libutil.so.1`));
    // What follows the sections of an ELF file has no meaning.
    const lib = (version: string): PackageDefinition => ({
      ...{ name: "libmapped", version },
      files: { "/usr/lib/mapped/libmapped.so.1": Buffer.concat([library, Buffer.from(version)]) },
    });
    await host.repo.publish([lib("1.0")]);
    await host.aptUpdate();
    await host.aptInstall("libmapped");
    const unit =
      "[Service]\nDynamicUser=yes\nEnvironment=LD_PRELOAD=/usr/lib/mapped/libmapped.so.1\nExecStart=/usr/bin/sleep infinity\n";
    host.write("/etc/systemd/system/mapping.service", unit);
    await host.systemctl("daemon-reload");
    await host.systemctl("start", "mapping.service");
    await host.repo.publish([lib("2.0")]);
    await host.aptUpdate();

    const using = { unit: "mapping.service", packages: ["libmapped"], risky: null };
    const planned = async (user: "alice" | "bob" | "root") => {
      const { status, stdout, stderr } = await chain.aegis(["plan", "apt", "upgrade", "--json"], { user });
      expect(status, stderr).toBe(0);
      const { services } = JSON.parse(stdout).plan.outlook;
      return {
        found: services.units.some((one: object) => Bun.deepEquals(one, using)),
        unseen: services.unseen,
      };
    };
    await host.systemctl("start", "aegis-monitor.service");
    // Root looks for itself, alice reads what the monitor saw, and bob may do neither.
    expect(await planned("root")).toEqual({ found: true, unseen: 0 });
    expect(await planned("alice")).toEqual({ found: true, unseen: 0 });
    const seen = await planned("bob");
    expect(seen.found).toBe(false);
    expect(seen.unseen).toBeGreaterThan(0);

    const { path, execution } = await chain.signed("apt", "install", "libmapped=2.0");
    const applied = await chain.apply(path, "alice");
    expect([applied.status, applied.stderr]).toEqual([0, expect.any(String)]);
    expect(applied.stdout).toContain("! still run the old libmapped: mapping.service");
    expect(applied.stdout).toContain("aegis plan services restart mapping.service");
    const result = JSON.parse(host.read(`/var/lib/aegis/results/${execution.execution_plan_id}.json`));
    expect(result.afterwards.services).toMatchObject({ units: [using], unseen: 0 });
    expect(chain.audit().at(-1)?.["details"]).toMatchObject({ runs_old_code: ["mapping.service"] });

    const told = async () => {
      const { stdout } = await chain.aegis(["daemon", "status"], { user: "alice" });
      return stdout.includes("mapping.service runs code that is no longer on disk: libmapped.so.1");
    };
    const found = () =>
      JSON.stringify(
        chain
          .audit()
          .filter(({ kind }) => kind === "monitor_findings")
          .at(-1),
      );
    await host.systemctl("start", "aegis-monitor.service");
    expect(await told()).toBe(true);
    expect(found()).toContain('"new":["warn old code: mapping.service runs code');
    expect(await apply(await signRestart("mapping.service"))).toEqual([0, ""]);
    expect(await told()).toBe(false);
    await host.systemctl("start", "aegis-monitor.service");
    expect(await told()).toBe(false);
    expect(found()).toContain('"gone":["warn old code: mapping.service runs code');
  });

  test("a kernel: a reboot is told before, after and until it has happened; in a container not", async () => {
    const { host } = chain;
    const kernel = (release: string) => ({ name: `linux-image-${release}`, version: "1" });
    await host.repo.publish([kernel("6.99.0-1-amd64"), kernel("6.99.0-2-amd64")]);
    await host.aptUpdate();
    await host.aptInstall(kernel("6.99.0-1-amd64").name);
    const next = kernel("6.99.0-2-amd64").name;
    const reboot = async () => (await chain.plan("apt", "install", next)).plan.outlook?.reboot;
    expect(await reboot()).toEqual({ reasons: [] });
    // A container has no kernel: this one is made to look like a machine that was started with the older of the two. systemd 252 gives
    // services a /proc of their own.
    rmSync(host.path("/run/systemd/container"));
    host.write("/run/release", "6.99.0-1-amd64\n");
    const [shown, dropIn] = [
      "/proc/sys/kernel/osrelease",
      "/run/systemd/system/aegis-processes.service.d/x.conf",
    ];
    host.write(dropIn, `[Service]\nBindReadOnlyPaths=/run/release:${shown}\n`);
    await mustExec(host, ["mount", "--bind", "/run/release", shown]);
    await host.systemctl("daemon-reload");
    const reason = `${next} is newer than the running kernel, 6.99.0-1-amd64`;
    expect(await reboot()).toEqual({ reasons: [reason] });
    const { path } = await chain.signed("apt", "install", next);
    const applied = await chain.apply(path, "alice");
    expect(applied.stdout, applied.stderr).toContain(`! reboot needed: ${reason}`);
    const status = async () => (await chain.aegis(["daemon", "status"], { user: "alice" })).stdout;
    expect(await status()).toContain(`a reboot is needed: ${reason}`);
    await host.systemctl("start", "aegis-monitor.service");
    const found = () =>
      JSON.stringify(
        chain
          .audit()
          .filter(({ kind }) => kind === "monitor_findings")
          .at(-1),
      );
    expect(found()).toContain('"new":["warn reboot: a reboot is needed');
    expect(await status()).toContain(`a reboot is needed: ${reason}`);
    host.write("/run/release", "6.99.0-2-amd64\n");
    // Since the machine itself wasn't started anew, the package must be older than its boot.
    await mustExec(host, ["touch", "--date=2000-01-01", `/var/lib/dpkg/info/${next}.list`]);
    await host.systemctl("start", "aegis-monitor.service");
    expect(found()).toContain('"gone":["warn reboot: a reboot is needed');
    expect(await status()).not.toContain("a reboot is needed");
    await mustExec(host, ["umount", shown]);
    rmSync(host.path(dropIn));
    await host.systemctl("daemon-reload");
    host.write("/run/systemd/container", "systemd-nspawn");
    await host.repo.publish(plain("quick", 3));
    await host.aptUpdate();
  });

  test("vulnerability data: downloaded as its own account, seen by plans and by the executor; what is broken, full or killed leaves it", async () => {
    const { host } = chain;
    const record = (modified: string) =>
      JSON.stringify({
        ...{ id: "DEBIAN-CVE-2026-0001", modified, upstream: ["CVE-2026-0001"] },
        severity: [{ type: "CVSS_V3", score: "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:L/I:N/A:N" }],
        affected: [
          {
            package: { ecosystem: "Debian:12", name: "quick2" },
            ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }] }],
          },
        ],
      });
    const archive = (modified: string, more = "") => zip([{ name: "a.json", body: record(modified) + more }]);
    const today = new Date().toISOString();
    const answers: Record<string, Answer> = {
      "/osv/Debian/all.zip": tagged(archive(today)),
      "/kev.json": tagged(kev()),
      "/epss.csv.gz": tagged(epss()),
    };
    await withServer(answers, async (address, asked) => {
      const settings = `AEGIS_FEEDS_OSV=${address}/osv\nAEGIS_FEEDS_KEV=${address}/kev.json\nAEGIS_FEEDS_EPSS=${address}/epss.csv.gz\n`;
      host.write("/etc/aegis/feeds.env", settings);
      const timer = async () =>
        (await host.exec(["systemctl", "is-enabled", "aegis-feeds.timer"])).stdout.trim();
      const ended = async () => {
        for (let i = 0; i < 300; i++) {
          const state = await host.systemctl(
            "show",
            "--property=ActiveState",
            "--value",
            "aegis-feeds.service",
          );
          if (state.trim() !== "activating") return;
          await Bun.sleep(100);
        }
        throw new Error("the pass doesn't end");
      };
      const pass = async () => {
        await host.systemctl("start", "aegis-feeds.service");
      };
      const findings = async (): Promise<string[]> => {
        const { stdout } = await chain.aegis(["daemon", "status", "--json"]);
        const all: { check: string; level: string; message: string }[] = JSON.parse(stdout).findings;
        return all
          .filter(({ check }) => check === "feeds")
          .map(({ level, message }) => `${level} ${message}`);
      };
      const known = async () => {
        const { plan } = await chain.plan("apt", "install", "quick2");
        return plan.vulnerability_evidence.map(({ id, known_exploited: one }) => [id, one?.since]);
      };
      const KNOWN = [["DEBIAN-CVE-2026-0001", "2026-01-02"]];

      expect(await timer()).toBe("disabled");
      expect(await known()).toEqual([]);
      const dry = await mustExec(host, ["/root/aegis", "daemon", "install", "--feeds", "--dry-run"]);
      expect(dry).toContain("the vulnerability data: enable aegis-feeds.timer");
      await mustExec(host, ["/root/aegis", "daemon", "install", "--feeds"]);
      // The first pass, which install has only begun.
      await pass();
      // A later install keeps what was chosen.
      await install(host);
      expect(await timer()).toBe("enabled");
      expect(await host.systemctl("show", "--property=NextElapseUSecRealtime", "aegis-feeds.timer")).toMatch(
        /=\w/,
      );
      const owners = await mustExec(host, [
        "sh",
        "-c",
        "stat -c '%U %a %n' /var/lib/aegis/feeds /var/lib/aegis/feeds/*",
      ]);
      expect(
        owners
          .trim()
          .split("\n")
          .map((line) => line.split(" ").slice(0, 2).join(" ")),
      ).toEqual(["aegis-feeds 755", ...Array(4).fill("aegis-feeds 644")]);
      expect((await findings()).map((line) => line.split(",")[0])).toEqual([
        "ok epss: 2 records",
        "ok kev: 2 records",
        "ok osv-Debian: 1 record",
      ]);

      // alice plans, root's runner plans again.
      expect(await known()).toEqual([["DEBIAN-CVE-2026-0001", undefined]]);
      const { path } = await chain.signed("apt", "install", "quick2");
      expect(await apply(path)).toEqual([0, ""]);
      await mustExec(host, ["dpkg", "--remove", "quick2"]);

      const exploited = { count: 1, vulnerabilities: [{ cveID: "CVE-2026-0001", dateAdded: "2026-01-02" }] };
      answers["/kev.json"] = tagged(kev(exploited), '"2"');
      asked.length = 0;
      await pass();
      expect(asked.sort()).toEqual([
        "/epss.csv.gz if changed",
        "/kev.json if changed",
        "/osv/Debian/all.zip if changed",
      ]);

      const failing = async (answer: Answer, said: string, during = pass) => {
        answers["/osv/Debian/all.zip"] = answer;
        await during();
        expect((await findings()).find((line) => line.startsWith("warn osv-Debian: 1 record"))).toContain(
          said,
        );
        expect(await known()).toEqual(KNOWN);
      };
      await failing(() => new Response("no", { status: 503 }), "status 503");
      await failing(tagged(archive(today, "}"), '"2"'), "a.json in it can't be read");
      // Half of a download on a full disk: root's tmpfs over the directory, with what was there.
      const feeds = "/var/lib/aegis/feeds";
      const full = `cp -a ${feeds} /run/saved && mount -t tmpfs -o size=96k,mode=755 tmpfs ${feeds} && cp -a /run/saved/. ${feeds}/ && chown aegis-feeds: ${feeds}`;
      await mustExec(host, ["sh", "-c", full]);
      await failing(() => new Response(new Uint8Array(300_000)), "no space left on the file system");
      await mustExec(host, ["umount", feeds]);
      // Killed in the middle of a download.
      const stalling = () =>
        new Response(new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(1000)) }));
      answers["/osv/Debian/all.zip"] = stalling;
      await host.systemctl("start", "--no-block", "aegis-feeds.service");
      const part = host.path(`${feeds}/.osv-Debian.download`);
      for (let i = 0; i < 100 && !existsSync(part); i++) await Bun.sleep(50);
      const user = await mustExec(host, [
        "sh",
        "-c",
        "stat -c %U /proc/$(systemctl show -p MainPID --value aegis-feeds.service)",
      ]);
      expect(user.trim()).toBe("aegis-feeds");
      await host.systemctl("kill", "--signal=KILL", "aegis-feeds.service");
      await ended();
      expect(existsSync(part)).toBe(true);
      expect(await known()).toEqual(KNOWN);
      answers["/osv/Debian/all.zip"] = tagged(archive(today), '"3"');
      await host.systemctl("reset-failed", "aegis-feeds.service");
      await pass();
      expect(existsSync(part)).toBe(false);
      expect((await findings()).every((line) => line.startsWith("ok"))).toBe(true);

      // As it was, for the tests that follow.
      answers["/kev.json"] = tagged(kev());
      await mustExec(host, ["/root/aegis", "daemon", "install", "--no-feeds"]);
      expect([await timer(), await known(), await findings()]).toEqual(["disabled", [], []]);
      await mustExec(host, ["/root/aegis", "daemon", "install", "--feeds"]);
      await pass();
    });
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
