import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Finding } from "../src/finding.ts";
import { SYSTEM } from "../src/paths.ts";
import { BOOT_LOADER_DROP_IN, HOST_DIRECTORIES, UNIT_DIRECTORY, UNIT_NAMES, unitText } from "../src/units.ts";
import { buildWhereNeeded, ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "./throwaway.ts";

/*
 * What `aegis daemon status` says of a host, on a throw-away one. systemctl is a script with answers; how a real one answers
 * is seen by scripts/e2e-systemd.
 */

const obstacle = throwawayUnavailable();
const here = needs(obstacle === null, `a throw-away host (host-status.test.ts): ${obstacle}`);

here.describe("aegis daemon status", () => {
  let host: ThrowawayHost;
  const status = async (user: "root" | "alice" = "root") => {
    const ended = await host.exec(["aegis", "daemon", "status", "--json"], { user });
    const document: { findings: Finding[]; healthy: boolean; services: unknown[] } = JSON.parse(ended.stdout);
    return { status: ended.status, ...document };
  };
  const of = (findings: readonly Finding[], check: string) => findings.filter((one) => one.check === check);
  const sh = (script: string) => host.exec(["bash", "-c", script]);
  /** Every unit is `active`, except those named. */
  const systemctl = (inactive = "", more = "DropInPaths=\\nNeedDaemonReload=no\\n") =>
    host.write(
      "/usr/local/sbin/systemctl",
      `#!/bin/bash
for unit; do case $unit in -* | show) continue ;; esac
  active=active; [[ " ${inactive} " = *" $unit "* ]] && active=failed
  printf "LoadState=loaded\\nActiveState=$active\\nUnitFileState=enabled\\nMainPID=0\\n${more}Result=success\\nActiveEnterTimestamp=Fri 9999-12-31 23:59:59 UTC\\n\\n"
done
`,
      0o755,
    );

  beforeAll(async () => {
    buildWhereNeeded();
    host = await startHost({ binary: join(ROOT, "dist/aegis") });
  }, 120_000);
  afterAll(() => host?.stop());

  test("nothing runs and nothing is installed: said, exit 8", async () => {
    const found = await status();
    expect({ status: found.status, healthy: found.healthy }).toEqual({ status: 8, healthy: false });
    expect(of(found.findings, "executor")[0]).toMatchObject({ level: "fail" });
    expect(of(found.findings, "services")[0]?.message).toContain("systemd does not run this machine");
    expect(found.services).toEqual([]);
  });

  test("systemd, and no installation", async () => {
    await sh("mkdir -p /run/systemd/system");
    systemctl();
    const [services] = of((await status()).findings, "services");
    expect(services).toMatchObject({ level: "warn", fix: "Type as root: aegis daemon install" });
  });

  test("a host that is as installed: only the executor does not answer here", async () => {
    for (const name of UNIT_NAMES) host.write(join(UNIT_DIRECTORY, name), unitText(name));
    await sh(
      "groupadd -f aegis-review; useradd -rUs /usr/sbin/nologin aegis-reviewd; useradd -rUs /usr/sbin/nologin aegis-front",
    );
    // Five digits, or chmod(1) leaves a directory the set-group-id bit that it had from its parent.
    for (const { path, mode, user, group } of HOST_DIRECTORIES)
      await sh(
        `mkdir -p ${path}; chown ${user}:${group} ${path}; chmod ${mode.toString(8).padStart(5, "0")} ${path}`,
      );
    const { findings, services } = await status();
    expect(findings.filter(({ level }) => level === "fail")).toMatchObject([{ check: "executor" }]);
    expect(services).toHaveLength(UNIT_NAMES.length - 1);
    for (const check of ["services", "units", "directories", "sockets"])
      expect(of(findings, check)[0]?.level).toBe("ok");
  });

  test("it needs no root, which alone may see what program a process runs", async () => {
    systemctl("", "DropInPaths=\\nNeedDaemonReload=no\\nMainPID=1\\n");
    const { findings } = await status("alice");
    systemctl();
    expect(of(findings, "services")[0]?.level).toBe("ok");
    expect(of(findings, "directories")[0]?.level).toBe("ok");
  });

  test("a unit that is down", async () => {
    systemctl("aegis-runner.socket");
    const [services] = of((await status()).findings, "services");
    expect(services).toMatchObject({ level: "fail", message: "aegis-runner.socket is failed (success)" });
    expect(services?.fix).toContain("journalctl -b -u aegis-runner.socket");
    systemctl();
  });

  test("systemctl that does not answer", async () => {
    host.write("/usr/local/sbin/systemctl", "#!/bin/sh\necho no bus >&2; exit 1\n", 0o755);
    const [services] = of((await status("alice")).findings, "services");
    expect(services).toMatchObject({ level: "warn", message: expect.stringContaining("no bus") });
    systemctl();
  });

  test("an edited unit, a drop-in, and units of an older installation", async () => {
    host.write(join(UNIT_DIRECTORY, "aegisd.service"), `${unitText("aegisd.service")}#\n`);
    host.write("/usr/lib/systemd/system/aegis-watch.service", "[Service]\nExecStart=/usr/libexec/aegis/x\n");
    host.write(
      join(UNIT_DIRECTORY, "aegisd.service.d/a.conf"),
      "[Service]\nExecStart=/usr/bin/aegis daemon\n",
    );
    systemctl("", "DropInPaths=/x.conf\\nNeedDaemonReload=no\\n");
    const { findings } = await status();
    expect(of(findings, "units")[0]).toMatchObject({
      level: "warn",
      message: expect.stringContaining("aegisd.service"),
    });
    const stale = of(findings, "stale").map(({ message }) => message.split(" ")[0] ?? "");
    expect(stale.toSorted()).toEqual([
      "/etc/systemd/system/aegisd.service.d/a.conf",
      "/usr/lib/systemd/system/aegis-watch.service",
    ]);
    expect(of(findings, "services").some(({ message }) => message.includes("/x.conf"))).toBe(true);
  });

  test("a boot loader, whose packages want block devices", async () => {
    systemctl();
    await sh("touch /usr/sbin/update-grub; chmod 755 /usr/sbin/update-grub");
    const found = of((await status()).findings, "services").filter(({ level }) => level === "warn");
    expect(found).toMatchObject([{ message: expect.stringContaining("/usr/sbin/update-grub may fail") }]);
    // What it says to type does it.
    await sh(found[0]?.fix.split("type as root: ")[1] ?? "false");
    const { path, lines } = BOOT_LOADER_DROP_IN;
    expect(host.read(path)).toBe(`${lines.join("\n")}\n`);
    await sh("rm /usr/sbin/update-grub");
  });

  const ODD = [
    ["a state directory that others can write", `chmod 777 ${SYSTEM.state}`, "directories"],
    ["a log that lost its group", `chgrp root ${SYSTEM.auditDir}`, "directories"],
    ["a setting that nobody knows", "echo FOO=1 >/etc/aegis/aegisd.env", "keys"],
    ["a setting that the reviewer doesn't know", "echo FOO=1 >/etc/aegis/aegis-reviewd.env", "settings"],
    ["a missing directory", `rmdir ${SYSTEM.reviewerAudit}`, "directories"],
    [
      "keys that the front can't read",
      `touch ${SYSTEM.trustedKeys}; chmod 600 ${SYSTEM.trustedKeys}`,
      "keys",
    ],
    [
      "a socket that anybody may use",
      `exec 3<>/dev/null; perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local=>"${SYSTEM.reviewerSocket}",Listen=>1)'; chmod 666 ${SYSTEM.reviewerSocket}`,
      "sockets",
    ],
  ] as const;
  for (const [what, change, check] of ODD) {
    test(what, async () => {
      await sh(change);
      const { status: exit, findings } = await status();
      expect(exit).toBe(8);
      expect(of(findings, check)[0]).toMatchObject({ level: "fail" });
      expect(of(findings, check)[0]?.fix).not.toBe("");
      await sh("rm -f /etc/aegis/*.env");
    });
  }
});
