import { describe, expect, test } from "bun:test";
import { isCritical } from "../src/policy-packages.ts";

const TABLE: readonly [name: string, kind: "kernel" | "boot" | "sensitive" | "none"][] = [
  ["linux-image-6.1.0-18-amd64", "kernel"],
  ["linux-image-9.9.9-aegis", "kernel"],
  ["linux-modules-extra-5.15.0-100-generic", "kernel"],
  ["linux-headers-generic", "kernel"],
  ["linux-generic-hwe-24.04", "kernel"],
  ["linux-aws", "kernel"],
  ["linux-flavour-of-next-year", "kernel"],
  ["pve-kernel-6.2", "kernel"],
  ["zfs-dkms", "kernel"],
  ["xen-hypervisor-4.17-amd64", "kernel"],
  ["grub-pc", "boot"],
  ["grub-efi-amd64-signed", "boot"],
  ["shim-signed", "boot"],
  ["systemd-boot", "boot"],
  ["u-boot-rpi", "boot"],
  ["initramfs-tools-core", "boot"],
  ["intel-microcode", "boot"],
  ["linux-firmware", "boot"],
  ["sudo", "sensitive"],
  ["openssl", "sensitive"],
  ["libssl3t64", "sensitive"],
  ["openssh-server", "sensitive"],
  ["libpam-modules", "sensitive"],
  ["systemd", "sensitive"],
  ["libsystemd0", "sensitive"],
  ["policykit-1", "sensitive"],
  ["polkitd", "sensitive"],
  ["ca-certificates", "sensitive"],
  ["ca-certificates-java", "sensitive"],
  ["apt", "sensitive"],
  ["dpkg", "sensitive"],
  ["libc6", "sensitive"],
  ["passwd", "sensitive"],
  ["dbus", "sensitive"],
  ["apparmor", "sensitive"],
  ["debian-archive-keyring", "sensitive"],
  ["nftables", "sensitive"],
  ["ufw", "sensitive"],
  ["libgcrypt20", "sensitive"],
  ["zlib1g", "sensitive"],
  ["libtirpc3", "sensitive"],
  ["mount", "sensitive"],
  ["python3.11-minimal", "sensitive"],
  ["cron", "sensitive"],
  ["cronie", "sensitive"],
  ["docker.io", "sensitive"],
  ["wireguard-tools", "sensitive"],
  ["kmod", "boot"],
  ["lvm2", "boot"],
  ["nvidia-kernel-common", "kernel"],
  ["zlib1g-dev", "none"],
  ["at-spi2-core", "none"],
  ["python3.11", "none"],
  ["crontab-editor", "none"],
  ["linux-libc-dev", "none"],
  ["linux-libc-dev-amd64-cross", "none"],
  ["linux-perf", "none"],
  ["linux-doc-6.1", "none"],
  ["linux-tools-generic", "none"],
  ["linuxlogo", "none"],
  ["my-linux-image-viewer", "none"],
  ["grubby", "none"],
  ["shimmer", "none"],
  ["hello", "none"],
  ["sudoku", "none"],
  ["sshguard", "none"],
  ["bash-completion", "none"],
  ["aptitude", "sensitive"],
  ["aptitude-doc-en", "none"],
  ["shadowsocks-libev", "none"],
  ["libsass1", "none"],
];

for (const [name, kind] of TABLE) {
  test(`${name}: ${kind}`, () => {
    expect(isCritical("kernel", "apt", name)).toBe(kind === "kernel");
    expect(isCritical("boot loader", "apt", name)).toBe(kind === "boot");
    if (kind === "sensitive" || kind === "none") {
      expect(isCritical("security-sensitive", "apt", name)).toBe(kind === "sensitive");
    }
  });
}

describe("sensitive_packages of the policy", () => {
  test("a name matches itself only", () => {
    expect(isCritical("security-sensitive", "apt", "postgresql", ["postgresql"])).toBe(true);
    expect(isCritical("security-sensitive", "apt", "postgresql-15", ["postgresql"])).toBe(false);
  });
  test("a trailing * matches names with that prefix", () => {
    expect(isCritical("security-sensitive", "apt", "postgresql-15", ["postgresql*"])).toBe(true);
    expect(isCritical("security-sensitive", "apt", "xpostgresql", ["postgresql*"])).toBe(false);
  });
  test("a dot is a dot", () => {
    expect(isCritical("security-sensitive", "apt", "loginxdefs")).toBe(false);
    expect(isCritical("security-sensitive", "apt", "login.defs")).toBe(true);
  });
});

describe("the tables are for Debian packages", () => {
  const CASES: readonly [what: string, tool: "apt" | "npm" | "cargo", name: string, is: boolean][] = [
    ["npm's openssl is not apt's", "npm", "openssl", false],
    ["a crate called sudo", "cargo", "sudo", false],
    ["apt's openssl", "apt", "openssl", true],
    ["of another architecture", "apt", "openssl:i386", true],
  ];
  for (const [what, tool, name, is] of CASES)
    test(what, () => expect(isCritical("security-sensitive", tool, name)).toBe(is));
  test("the policy's own names neither", () =>
    expect(isCritical("security-sensitive", "npm", "left-pad", ["left-pad"])).toBe(false));
});
