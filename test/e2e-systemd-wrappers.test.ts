import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SystemdHost } from "./systemd-container.ts";
import { bootSuite, describeOnSystemd } from "./systemd-kit.ts";
import { pick } from "./throwaway-packages.ts";

describeOnSystemd("wrappers", (suite) => {
  let host: SystemdHost;
  const sh = (script: string) => host.exec(["sh", "-c", script]);
  const out = async (script: string) => (await sh(script)).stdout.trim();
  const install = async (...flags: string[]) => {
    const { status, stdout, stderr } = await host.exec([
      "/root/aegis",
      "daemon",
      "install",
      "--json",
      ...flags,
    ]);
    if (status !== 0) throw new Error(stdout + stderr);
    return JSON.parse(stdout);
  };
  beforeAll(async () => {
    host = await bootSuite(suite);
    await host.repo.publish(pick("hello-aegis=1.0"));
    await host.aptUpdate();
    host.write("/usr/local/bin/apt", "#!/bin/sh\necho mine\n", 0o755);
  }, 300_000);
  afterAll(() => host.stop());

  test("are not there unless asked for", async () => {
    await install();
    expect(await out("command -v apt-get")).toBe("/usr/bin/apt-get");
  });

  test("are links to the program, beside what an administrator has there; installing again changes nothing", async () => {
    const { next } = await install("--wrappers");
    expect(next[0]).toContain("apt has no wrapper: /usr/local/bin/apt already exists");
    expect(await out("readlink /usr/local/bin/apt-get")).toBe("/usr/local/bin/aegis");
    expect(await out("apt")).toBe("mine");
    expect(await out("command -v cargo; ls /usr/local/bin")).toBe("aegis\napt\napt-get\napt-mark");
    const { steps } = await install("--wrappers");
    expect(steps.filter(({ done }: { done: string | null }) => done !== null)).toEqual([]);
  });

  test("plan a change, for root and for an agent", async () => {
    for (const user of ["root", "alice"] as const) {
      const { status, stdout } = await host.exec(["apt-get", "install", "-y", "hello-aegis"], { user });
      expect({ status, planned: stdout.includes("Next, you: aegis policy") }).toEqual({
        status: 4,
        planned: true,
      });
    }
  });

  test("do not stand in the way of apt's own timers", async () => {
    for (const unit of ["apt-daily.service", "apt-daily-upgrade.service"]) {
      expect(await out(`systemctl show -p Environment -p NeedDaemonReload ${unit} | sort`)).toBe(
        "Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin\nNeedDaemonReload=no",
      );
    }
    host.write("/etc/apt/apt.conf.d/99periodic", 'APT::Periodic::Update-Package-Lists "always";\n');
    await sh("rm -rf /var/lib/apt/lists/*");
    await host.systemctl("start", "apt-daily.service");
    expect(await out("ls /var/lib/apt/lists | grep -c Packages")).not.toBe("0");
  });

  test("go with uninstall, and nothing else in their places", async () => {
    const { status } = await host.exec(["/root/aegis", "daemon", "uninstall"]);
    expect(status).toBe(0);
    expect(await out("ls /usr/local/bin; ls -d /etc/systemd/system/apt-daily*")).toBe("apt");
    expect(await out("command -v apt-get")).toBe("/usr/bin/apt-get");
  });
});
