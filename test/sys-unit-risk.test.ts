import { expect, test } from "bun:test";
import { isUnitNamed, restartRisk, riskOf } from "../src/sys-unit-risk.ts";

const RISKY: readonly [unit: string, word: string][] = [
  ["ssh.service", "remote logins"],
  ["sshd.service", "remote logins"],
  ["ssh@3-10.0.0.1:22-10.0.0.2:4711.service", "remote logins"],
  ["ssh.socket", "remote logins"],
  ["networking.service", "network"],
  ["systemd-networkd.service", "network"],
  ["systemd-resolved.service", "network"],
  ["NetworkManager.service", "network"],
  ["wpa_supplicant@wlan0.service", "network"],
  ["ifup@eth0.service", "network"],
  ["wg-quick@wg0.service", "tunnels"],
  ["dbus.service", "reboot instead"],
  ["systemd-logind.service", "logins"],
  ["init.scope", "daemon-reexec"],
  ["user@1000.service", "logging in again"],
  ["user-1000.slice", "logging in again"],
  ["gdm3.service", "graphical"],
  ["getty@tty1.service", "terminal"],
  ["docker.service", "containers"],
  ["containerd.service", "containers"],
  ["libvirtd.service", "virtual machines"],
  ["postgresql@15-main.service", "database"],
  ["mariadb.service", "database"],
  ["aegis-runner@3.service", "by itself"],
  ["nfs-server.service", "storage"],
  ["sssd.service", "directory"],
  ["cloud-init.service", "network"],
  ["unattended-upgrades.service", "change of packages"],
  ["snap.lxd.daemon.service", "containers"],
];
for (const [unit, word] of RISKY) {
  test(`${unit} is risky`, () => expect(riskOf(unit)).toContain(word));
}

for (const unit of [
  "nginx.service",
  "cron.service",
  "aegisd.service",
  "sshguard.service",
  "not-ssh.service",
  "systemd-journald.service",
  "dbus-monitor.service",
  "userdbd.service",
  "postgresql-exporter.service",
]) {
  test(`${unit} is not`, () => expect(riskOf(unit)).toBeNull());
}

const NEVER = [
  ...["dbus.service", "dbus.socket", "dbus-broker.service", "systemd-logind.service", "gdm3.service"],
  ...[
    "user@1000.service",
    "systemd-cryptsetup@data.service",
    "blk-availability.service",
    "zfs-mount.service",
    "init.scope",
    "aegis-runner@3.service",
  ],
];
for (const unit of NEVER)
  test(`${unit} is never restarted`, () => expect(restartRisk(unit)?.isNever).toBe(true));
for (const unit of ["ssh.service", "docker.service", "systemd-networkd.service", "getty@tty1.service"])
  test(`${unit} is restarted where a person says so`, () => expect(restartRisk(unit)?.isNever).toBe(false));

test("names in the policy: whole, or up to a star", () => {
  expect(isUnitNamed("web.service", ["web.service"])).toBe(true);
  expect(isUnitNamed("web.service", ["we*"])).toBe(true);
  expect(isUnitNamed("web.service", ["web", "web.socket", "eb.service", "w*b.service"])).toBe(false);
});
