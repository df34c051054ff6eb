import { expect, test } from "bun:test";
import { riskOf } from "../src/sys-unit-risk.ts";

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
