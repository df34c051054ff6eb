import { type UnitName, WAIT_FOR_APT } from "./host-units.ts";
import { UNIT_DIRECTORY } from "./sys-systemd.ts";

/*
 * Configuration of others that the units need: needrestart's, which `aegis daemon install` writes, and a drop-in for machines with a boot
 * loader, which it only names.
 */

/** Written even if needrestart is not installed: a later run may install it. */
export const NEEDRESTART_FILE = "/etc/needrestart/conf.d/aegis.conf";

/**
 * What boot loader, EFI and RAID packages need beyond the runner's unit: block devices, EFI variables, and the privileges
 * to query the kernel about them. A drop-in, since most virtual machines don't need it.
 */
export const BOOT_LOADER_DROP_IN = {
  path: `${UNIT_DIRECTORY}/aegis-runner@.service.d/boot-loader.conf`,
  lines: [
    "[Service]",
    "PrivateDevices=no",
    "DevicePolicy=auto",
    "ProtectKernelTunables=no",
    "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_RAWIO CAP_LINUX_IMMUTABLE CAP_MKNOD",
  ],
} as const;

/** Restarted, these would end the run that they work for. */
const LEFT_ALONE = [
  ...WAIT_FOR_APT,
  "aegis-fetch@.service",
  "aegis-build@.service",
  "aegis-unpack@.service",
] as const satisfies readonly UnitName[];

/**
 * Keeps needrestart from restarting the services that wait for apt or work for a run. apt calls needrestart as a hook, Ubuntu's restarts
 * services without asking, and after an upgrade of libc6 that is all of them. Perl, read by needrestart.conf, which excludes
 * apt-daily.service for the same reason.
 */
export function needrestartText(): string {
  const names = LEFT_ALONE.map((name) => name.replace(/^aegis-(\w+).*$/, "$1")).join("|");
  return `# Written by \`aegis daemon install\`. These services wait for the apt that calls needrestart, or work for a run.\n$nrconf{override_rc}{qr(^aegis-(?:${names})\\b)} = 0;\n`;
}
