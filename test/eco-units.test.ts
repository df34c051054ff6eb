import { describe, expect, test } from "bun:test";
import { isUnitNamed, restartRisk } from "../src/eco-units.ts";

const NEVER = [
  ...[
    "dbus.service",
    "dbus.socket",
    "dbus-broker.service",
    "systemd-logind.service",
    "gdm3.service",
    "user@1000.service",
  ],
  "systemd-cryptsetup@data.service",
];
const RISKY = [
  ...[
    "ssh.service",
    "sshd.service",
    "ssh.socket",
    "sshd@3-10.0.0.1:22-10.0.0.2:5.service",
    "systemd-networkd.service",
  ],
  ...[
    "NetworkManager.service",
    "networking.service",
    "systemd-resolved.service",
    "wg-quick@wg0.service",
    "getty@tty1.service",
  ],
  ...[
    "docker.service",
    "containerd.service",
    "postgresql@15-main.service",
    "mariadb.service",
    "redis-server.service",
  ],
  ...[
    "nfs-server.service",
    "unattended-upgrades.service",
    "aegisd.service",
    "sssd.service",
    "cloud-init.service",
  ],
];
const HARMLESS = [
  ...[
    "nginx.service",
    "apache2.service",
    "cron.service",
    "rsyslog.service",
    "sshguard.service",
    "dbusy.service",
    "mydbus.service",
  ],
  ...[
    "systemd-journald.service",
    "aegis-reviewd.service",
    "exim4.service",
    "DBUS.service",
    "ssh.service.service",
  ],
  // What is no service or socket is not restarted.
  ...["dbus", "ssh", "ssh.target", "user@1000.slice", ""],
];

describe("what a restart does besides", () => {
  for (const unit of NEVER) test(`${unit}: never`, () => expect(restartRisk(unit)?.isNever).toBe(true));
  for (const unit of RISKY)
    test(`${unit}: said`, () => expect(restartRisk(unit)).toMatchObject({ isNever: false }));
  for (const unit of HARMLESS) test(`${unit}: nothing`, () => expect(restartRisk(unit)).toBeNull());
});

test("names in the policy: whole, or up to a star", () => {
  expect(isUnitNamed("web.service", ["web.service"])).toBe(true);
  expect(isUnitNamed("web.service", ["we*"])).toBe(true);
  expect(isUnitNamed("web.service", ["web", "web.socket", "eb.service", "w*b.service"])).toBe(false);
});
