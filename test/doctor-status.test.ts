import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import type { Finding } from "../src/finding.ts";
import { HOST_DIRECTORIES } from "../src/host-accounts.ts";
import { BOOT_LOADER_DROP_IN, NEEDRESTART_FILE, needrestartText } from "../src/host-drop-ins.ts";
import { UNIT_NAMES, unitText } from "../src/host-units.ts";
import { SYSTEM } from "../src/paths.ts";
import { UNIT_DIRECTORY } from "../src/sys-systemd.ts";
import { buildWhereNeeded, ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "./throwaway.ts";

/*
 * What `aegis daemon status` says of a host, on a throw-away one. systemctl is a script with answers; how a real one answers
 * is seen by scripts/e2e-systemd.
 */

const KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const OTHER_KEY = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

const obstacle = throwawayUnavailable();
const here = needs(obstacle === null, `a throw-away host (doctor-status.test.ts): ${obstacle}`);

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
  const systemctl = (inactive = "", more = "DropInPaths=\\nNeedDaemonReload=no\\n", monitor = "active") =>
    host.write(
      "/usr/local/sbin/systemctl",
      `#!/bin/bash
for unit; do case $unit in -* | show) continue ;; esac
  active=active; [ $unit != aegis-monitor.service ] || active=${monitor}; [[ " ${inactive} " = *" $unit "* ]] && active=failed
  printf "LoadState=loaded\\nActiveState=$active\\nUnitFileState=enabled\\nMainPID=0\\n${more}Result=success\\nActiveEnterTimestamp=Thu 9998-12-31 23:59:59 UTC\\n\\n"
done
`,
      0o755,
    );

  beforeAll(async () => {
    buildWhereNeeded();
    host = await startHost({ binary: join(ROOT, "dist/aegis") });
  }, 120_000);
  afterAll(() => host?.stop());

  test("nothing runs and nothing is installed: reported, exit 8", async () => {
    const found = await status();
    expect({ status: found.status, healthy: found.healthy }).toEqual({ status: 8, healthy: false });
    expect(of(found.findings, "executor")[0]).toMatchObject({ level: "fail" });
    expect(of(found.findings, "services")[0]?.message).toContain("systemd does not run this machine");
    expect(found.services).toEqual([]);
  });

  test("systemd, but no installation", async () => {
    await sh("mkdir -p /run/systemd/system");
    systemctl();
    const [services] = of((await status()).findings, "services");
    expect(services).toMatchObject({ level: "warn", fix: "Type as root: aegis daemon install" });
  });

  test("a host as installed: only the executor does not answer", async () => {
    for (const name of UNIT_NAMES) host.write(join(UNIT_DIRECTORY, name), unitText(name));
    host.write(NEEDRESTART_FILE, needrestartText());
    await sh(
      "groupadd -f aegis-review; useradd -rUs /usr/sbin/nologin aegis-reviewd; useradd -rUs /usr/sbin/nologin aegis-front; useradd -rUs /usr/sbin/nologin aegis-notify; useradd -rUs /usr/sbin/nologin aegis-feeds",
    );
    // Five digits, or chmod(1) leaves a directory the set-group-id bit that it had from its parent.
    for (const { path, mode, user, group } of HOST_DIRECTORIES)
      await sh(
        `mkdir -p ${path}; chown ${user}:${group} ${path}; chmod ${mode.toString(8).padStart(5, "0")} ${path}`,
      );
    const { findings, services } = await status();
    // No execution key is trusted yet: the cause, and no advice that leads back here.
    const failed = findings.filter(({ level }) => level === "fail");
    expect(failed.map(({ check }) => check)).toEqual(["executor"]);
    expect(failed[0]?.fix).toContain(`Write an execution key into ${SYSTEM.trustedKeys}`);
    expect(failed[0]?.fix).not.toContain("aegis daemon status");
    expect(services).toHaveLength(UNIT_NAMES.filter((name) => !name.includes("@")).length);
    for (const check of ["services", "units", "directories", "sockets"])
      expect(of(findings, check)[0]?.level).toBe("ok");
  });

  test("a runner told to stop while its apt works: a failure, unless the host shuts down", async () => {
    const before = host.read("/usr/local/sbin/systemctl");
    for (const [state, level] of [
      ["running", "fail"],
      ["stopping", "ok"],
    ] as const) {
      const answers = `case "$*" in
*SystemState*) echo SystemState=${state}; exit ;;
*Id,ActiveState,Job*) printf 'Id=aegis-runner@1-2-3.service\\nActiveState=deactivating\\nJob=7\\n'; exit ;; esac
`;
      host.write(
        "/usr/local/sbin/systemctl",
        before.replace("#!/bin/bash\n", `#!/bin/bash\n${answers}`),
        0o755,
      );
      const found = await status();
      const [told] = of(found.findings, "services").filter(({ message }) =>
        message.includes("aegis-runner@1-2-3"),
      );
      expect(told?.level).toBe(level);
      expect(told?.fix ?? "").toContain(level === "fail" ? "systemctl cancel" : "");
    }
    systemctl();
  });

  test("needrestart's override gone: a warning that names it", async () => {
    await sh(`rm ${NEEDRESTART_FILE}`);
    expect(of((await status()).findings, "units")[0]).toMatchObject({
      level: "warn",
      message: expect.stringContaining(NEEDRESTART_FILE),
    });
    host.write(NEEDRESTART_FILE, needrestartText());
  });

  const trust = (...roles: readonly string[]) =>
    host.write(
      SYSTEM.trustedKeys,
      roles
        .map(
          (role, n) =>
            `[[key]]\nid = "k${n}"\npublic_key_hex = "${n === 0 ? KEY : OTHER_KEY}"\nrole = "${role}"\n`,
        )
        .join("\n"),
      0o644,
    );

  test("trusted keys: their number, and a warning if nobody can approve", async () => {
    trust("execution", "approval");
    expect(of((await status()).findings, "keys")).toMatchObject([
      { level: "ok", message: "1 execution key and 1 approval key trusted" },
    ]);
    trust("execution");
    expect(of((await status()).findings, "keys")).toMatchObject([
      { level: "warn", message: "1 execution key and 0 approval keys trusted" },
    ]);
  });

  test("installed, a key trusted, but nothing listens: doctor fails like status, and both say what to type", async () => {
    const doctor = async () => {
      const { status: exit, stdout } = await host.exec(["aegis", "doctor", "--json"]);
      return { exit, executor: of(JSON.parse(stdout).findings, "executor") };
    };
    trust("execution");
    expect(await doctor()).toMatchObject({
      exit: 8,
      executor: [{ level: "fail", fix: expect.stringContaining("systemctl start aegisd.service") }],
    });
    expect(of((await status()).findings, "executor")[0]?.fix).toContain("systemctl start aegisd.service");
    await sh(`rm ${SYSTEM.trustedKeys}`);
    expect((await doctor()).executor).toMatchObject([
      { level: "warn", fix: expect.stringContaining("aegis daemon install") },
    ]);
    // After `aegis daemon uninstall` there is nothing to start.
    const unit = join(UNIT_DIRECTORY, "aegisd.service");
    await sh(`rm ${unit}`);
    const [executor] = of((await status()).findings, "executor");
    expect(executor?.fix).toContain("aegis daemon install");
    expect(executor?.fix).not.toContain("systemctl");
    expect((await doctor()).executor).toMatchObject([
      { level: "warn", fix: expect.stringContaining("aegis daemon install") },
    ]);
    host.write(unit, unitText("aegisd.service"));
  });

  test("a monitor that has not run: when it will, and how to start it now", async () => {
    openAuditLog(host.path(SYSTEM.auditDir), { mode: 0o640 }).append({ kind: "checkpoint" });
    const unmanaged = async () => of((await status()).findings, "unmanaged")[0];
    expect(await unmanaged()).toMatchObject({
      level: "warn",
      message: expect.stringMatching(/it will by \d{4}-\d\d-\d\d \d\d:\d\dZ$/),
      fix: "Or type as root: systemctl start aegis-monitor.service",
    });
    systemctl("aegis-monitor.timer");
    expect((await unmanaged())?.fix).toStartWith("Type as root: systemctl enable --now aegis-monitor.timer");
    systemctl("", "DropInPaths=\\nNeedDaemonReload=no\\n", "activating");
    expect((await unmanaged())?.message).toEndWith(": its first look is running");
    systemctl();
    await sh(`rm -r ${SYSTEM.auditDir}/audit.ndjson ${SYSTEM.auditDir}/lock`);
  });

  test("it needs no root, although only root may see a process's program", async () => {
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

  test("a boot loader, whose packages need block devices", async () => {
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
    ["a policy with a mistake", "printf '[apt]\\ninstal = \"allow\"\\n' >/etc/aegis/policy.toml", "policy"],
    ["a policy that the front can't read", "install -m 600 /dev/null /etc/aegis/policy.toml", "policy"],
    ["a policy that is none", "mkdir /etc/aegis/policy.toml", "policy"],
    [
      "a key that is nobody's",
      `printf '[[key]]\\nid = "x"\\nname = "<owner>"\\npublic_key_hex = "${KEY}"\\nrole = "execution"\\n' >${SYSTEM.trustedKeys}`,
      "keys",
    ],
    ["settings that the front can't read", "install -m 600 /dev/null /etc/aegis/aegisd.env", "keys"],
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
      // Doctor says the same of what keeps the executor from deciding.
      if (check === "policy" && !what.includes("front")) {
        const doctor = JSON.parse((await host.exec(["aegis", "doctor", "--json"])).stdout);
        expect(of(doctor.findings, check)).toMatchObject([{ message: of(findings, check)[0]?.message }]);
        expect(of(doctor.findings, "keys").filter(({ level }) => level === "fail")).toEqual([]);
      }
      await sh("rm -rf /etc/aegis/*.env /etc/aegis/*.toml");
    });
  }
});
