import type { Tool } from "./doc-plan.ts";

/*
 * Which apt packages deserve a second look, by binary package name without `:arch`. Tables of shell-like patterns in
 * which `*` stands for any characters; a name is in a table when one pattern fits all of it.
 */

/**
 * Every `linux-*` package is taken for a kernel unless it is listed below: there are dozens of flavours (linux-aws,
 * linux-nvidia-tegra, …) with new ones each release, and one that nobody listed must count as a kernel.
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

/** `linux-*` packages that neither are a kernel nor put code into one: headers for user space, tools, documents. */
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

/** The rest of what a machine needs to start: boot loader, signed shims, initramfs and what goes into it, firmware. */
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
 * Packages that decide who may do what, or whom the host believes. The runtime libraries of systemd and of the TLS and
 * crypto stacks are included: they are loaded into sshd and other root services (which is how the xz backdoor of 2024
 * came in), so a bad one is as grave as a bad daemon.
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
  // What sshd is linked with besides, directly or through its libraries.
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
  // What pam_unix is linked with.
  "libtirpc3*",
  "libnsl2",
  "libdb5.3*",
  "libcrypt1",
  "base-passwd",
  // Logging in, from here and elsewhere.
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
  // The base that every process runs on.
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
  // What runs programs as root by itself, or gives a way to root.
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
  // Confinement, filtering, watching.
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

/** Why a change of a package can take a host down or open it. */
export type CriticalKind = "kernel" | "boot loader" | "security-sensitive";

const IS_KIND: Readonly<Record<CriticalKind, (name: string, extra: readonly string[]) => boolean>> = {
  /** A kernel, its modules and headers, and anything else that runs inside it. */
  kernel: (name) => kernel.test(name) && !notKernel.test(name) && !bootloader.test(name),
  /** What the machine needs to start besides its kernel. */
  "boot loader": (name) => bootloader.test(name),
  "security-sensitive": (name, extra) =>
    sensitive.test(name) ||
    extra.some((e) => (e.endsWith("*") ? name.startsWith(e.slice(0, -1)) : name === e)),
};

/**
 * Whether a package is critical in this way: for rules, signals, the reviewer's prompt and the approver's screen. The tables
 * hold names of Debian binary packages, so nothing of another tool is: npm's openssl is not apt's. `name` may carry `:arch`.
 * `extra` has further sensitive names, which may end in `*` (`[apt] sensitive_packages` of the policy).
 */
export function isCritical(
  kind: CriticalKind,
  tool: Tool,
  name: string,
  extra: readonly string[] = [],
): boolean {
  return tool === "apt" && IS_KIND[kind](name.replace(/:.*$/, ""), extra);
}

/** One regular expression for a whole table: names come by the thousand. */
function matcher(patterns: readonly string[]): RegExp {
  const alternatives = patterns.map((p) => p.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*"));
  return new RegExp(`^(?:${alternatives.join("|")})$`, "u");
}
