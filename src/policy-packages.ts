import type { Tool } from "./doc-plan.ts";

/*
 * Critical apt packages, by binary package name without `:arch`. Tables of patterns in which `*` matches any characters; a
 * pattern must match the whole name.
 */

/**
 * Every `linux-*` package counts as a kernel unless it is listed below: there are dozens of flavours (linux-aws,
 * linux-nvidia-tegra, …), new ones in each release, and an unlisted one must count as a kernel.
 */
const KERNEL = [
  "linux-*",
  "pve-kernel-*",
  "proxmox-kernel-*",
  "proxmox-default-kernel",
  "raspberrypi-kernel*",
  "xen-hypervisor-*",
  "kernel-image-*",
  "canonical-livepatch*",
  "nvidia-kernel-*",
  "dkms",
  "*-dkms",
];

/** `linux-*` packages that are not a kernel and add no code to one: user-space headers, tools, documentation. */
const NOT_KERNEL = [
  "linux-base*",
  "linux-bpf-dev",
  "linux-buildinfo-*",
  "linux-cloud-tools-*",
  "linux-compiler-*",
  "linux-config-*",
  "linux-cpupower",
  "linux-doc*",
  "linux-exploit-suggester",
  "linux-igd",
  "linux-kbuild-*",
  "linux-libc-dev*",
  "linux-patch-*",
  "linux-perf*",
  "linux-show-player*",
  "linux-sound-base",
  "linux-source*",
  "linux-support-*",
  "linux-sysctl-defaults",
  "linux-tools-*",
  "linux-user-chroot",
  "linux-wlan-ng*",
];

/** What else a machine needs to boot: boot loader, signed shims, initramfs and its contents, firmware. */
const BOOTLOADER = [
  "amd64-microcode",
  "busybox-initramfs",
  "dmsetup",
  "dracut*",
  "efibootmgr",
  "elilo",
  "extlinux",
  "firmware-*",
  "flash-kernel",
  "fwupd*",
  "grub",
  "grub-*",
  "grub2*",
  "initramfs-tools*",
  "intel-microcode",
  "klibc-utils",
  "kmod",
  "libkmod2",
  "lilo",
  "linux-firmware*",
  "lvm2",
  "mdadm",
  "mokutil",
  "os-prober",
  "proxmox-boot*",
  "raspberrypi-bootloader*",
  "raspi-firmware",
  "rpi-eeprom*",
  "sbsigntool",
  "secureboot-db",
  "shim",
  "shim-*",
  "silo",
  "syslinux*",
  "systemd-boot*",
  "systemd-ukify",
  "u-boot*",
  "yaboot",
  "zfs-initramfs",
  "zipl*",
];

/**
 * Packages that control access or trust. Includes the runtime libraries of systemd and of the TLS and crypto stacks, which
 * sshd and other root services load (the way the xz backdoor of 2024 came in), so a malicious one is as serious as a
 * malicious daemon.
 */
const SENSITIVE = [
  // Cryptography and certificates.
  "openssl*",
  "libssl*",
  "ca-certificates*",
  "gnutls-bin",
  "libgnutls*",
  "libgcrypt*",
  "libnss3*",
  "libnettle*",
  "libhogweed*",
  "liblzma*",
  "gnupg*",
  "gpg",
  "gpg-*",
  "gpgconf",
  "gpgsm",
  "gpgv*",
  "sqv",
  "dirmngr",
  "cryptsetup*",
  "libcryptsetup*",
  "tpm2-*",
  "p11-kit",
  "libp11-kit0",
  "libk5crypto3",
  "libgpg-error0",
  // Other libraries that sshd links, directly or indirectly.
  "zlib1g",
  "libzstd1",
  "liblz4-1",
  "libwrap0",
  "libcom-err2",
  "libkeyutils1",
  // Becoming another user.
  "sudo",
  "sudo-*",
  "doas",
  "opendoas",
  "su-exec",
  "libpam*",
  "polkit*",
  "libpolkit*",
  "policykit*",
  "pkexec",
  "passwd",
  "login",
  "login.defs",
  "libsubid*",
  "uidmap",
  "util-linux",
  "util-linux-extra",
  "mount",
  "bsdutils",
  // Libraries that pam_unix links.
  "libtirpc3*",
  "libnsl2",
  "libdb5.3*",
  "libcrypt1",
  "base-passwd",
  // Local and remote login.
  "ssh",
  "ssh-*",
  "openssh-*",
  "libssh*",
  "dropbear*",
  "fail2ban",
  "krb5-*",
  "libkrb5*",
  "libgssapi-krb5*",
  "sssd*",
  "libnss-*",
  "nslcd",
  "slapd",
  "libldap*",
  "winbind",
  "realmd",
  "cloud-init",
  "cockpit*",
  "tailscale",
  "openvpn",
  "wireguard*",
  // The service manager and the message bus.
  "systemd*",
  "libsystemd*",
  "udev",
  "libudev1",
  "libmount1",
  "libblkid1",
  "init",
  "init-*",
  "sysvinit*",
  "dbus",
  "dbus-*",
  "libdbus-*",
  // Package management and the keys it trusts.
  "apt",
  "apt-*",
  "aptitude",
  "libapt-*",
  "dpkg",
  "debconf",
  "unattended-upgrades",
  "software-properties-*",
  "snapd",
  "flatpak",
  "*-archive-keyring*",
  "*-keyring",
  "debsig-verify",
  "debian-security-support",
  // The base system that every process uses.
  "libc6",
  "libc6-i386",
  "libc-bin",
  "libc-l10n",
  "base-files",
  "bash",
  "dash",
  "coreutils",
  "perl-base",
  "python3*-minimal",
  // Programs that run others as root on their own, or give access to root.
  "cron",
  "cron-daemon-common",
  "cronie",
  "anacron",
  "at",
  "logrotate",
  "needrestart",
  "packagekit",
  "docker*",
  "containerd*",
  "runc",
  "podman",
  "lxd",
  "libvirt-daemon*",
  // Confinement, filtering, monitoring.
  "apparmor*",
  "libapparmor*",
  "selinux*",
  "libselinux*",
  "policycoreutils*",
  "libseccomp*",
  "libcap-ng0",
  "libcap2*",
  "bubblewrap",
  "firejail*",
  "nftables",
  "libnftables*",
  "iptables*",
  "libxtables*",
  "ebtables",
  "firewalld",
  "ufw",
  "auditd",
  "libaudit*",
  "aide*",
  "rsyslog*",
];

const kernel = matcher(KERNEL);
const notKernel = matcher(NOT_KERNEL);
const bootloader = matcher(BOOTLOADER);
const sensitive = matcher(SENSITIVE);

/** Why a change of a package can break or expose the host. */
export type CriticalKind = "kernel" | "boot loader" | "security-sensitive";

const IS_KIND: Readonly<Record<CriticalKind, (name: string, extra: readonly string[]) => boolean>> = {
  /** A kernel, its modules and headers, and other code that runs in it. */
  kernel: (name) => kernel.test(name) && !notKernel.test(name) && !bootloader.test(name),
  /** What else the machine needs to boot. */
  "boot loader": (name) => bootloader.test(name),
  "security-sensitive": (name, extra) =>
    sensitive.test(name) ||
    extra.some((e) => (e.endsWith("*") ? name.startsWith(e.slice(0, -1)) : name === e)),
};

/**
 * Whether a package is critical in this way, for rules, signals, the reviewer's prompt and the approver's screen. The tables
 * have names of Debian binary packages, so packages of other tools never match: npm's openssl is not apt's. `name` may have
 * `:arch`. `extra` has more sensitive names, which may end in `*` (the policy's `[apt] sensitive_packages`).
 */
export function isCritical(
  kind: CriticalKind,
  tool: Tool,
  name: string,
  extra: readonly string[] = [],
): boolean {
  return tool === "apt" && IS_KIND[kind](name.replace(/:.*$/, ""), extra);
}

/** One regular expression per table, for speed: a plan may have thousands of names. */
function matcher(patterns: readonly string[]): RegExp {
  const alternatives = patterns.map((p) => p.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*"));
  return new RegExp(`^(?:${alternatives.join("|")})$`, "u");
}
