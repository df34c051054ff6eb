import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { ROOT } from "./kit.ts";
import { mirror, suiteRoot } from "./systemd-root.ts";
import { ROOT_ENV } from "./throwaway-inside.ts";
import { Vm, type VmFiles } from "./vm-machine.ts";

/*
 * A disk for a virtual machine: Debian 12 with Debian's kernel, its root on the LVM volume vg/root, with free space in the
 * group. Made once and kept in the checkout; every test works on a copy.
 */

const PROGRAMS = ["qemu-system-x86_64", "ssh", "ssh-keygen", "mke2fs", "setpriv", "unshare"];
const PACKAGES =
  "linux-image-amd64 initramfs-tools zstd lvm2 thin-provisioning-tools grub-pc openssh-server iproute2 kmod udev fdisk procps apparmor";
/** The root device. */
export const VM_ROOT = "/dev/mapper/vg-root";

/** In a mount namespace: turns a copy of the suite's root into a file system that boots. */
const MAKE_SEED = `
set -euo pipefail
lower=$1 work=$2 mirror=$3
rm -rf "$work"; mkdir -p "$work"
root=$work/root
cp -a "$lower" "$root"
cd "$root"
echo "deb $mirror bookworm main" > etc/apt/sources.list
printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d; chmod 755 usr/sbin/policy-rc.d
cp --remove-destination /etc/resolv.conf etc/resolv.conf
echo vm > etc/hostname; printf '127.0.0.1 localhost vm\\n' > etc/hosts
mkdir -p etc/initramfs-tools/conf.d
# Few modules: making an initramfs takes the machine ten minutes otherwise.
mount -t proc proc proc; mount --rbind /dev dev
inside() { chroot . env -i DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
inside apt-get update
inside apt-get install -y --no-install-recommends ${PACKAGES}
printf 'MODULES=list\\n' > etc/initramfs-tools/conf.d/vm
printf '%s\\n' virtio_blk virtio_pci virtio_net ext4 dm_mod dm_snapshot > etc/initramfs-tools/modules
inside update-initramfs -u
inside apt-get clean
umount -l dev proc
rm -rf usr/sbin/policy-rc.d etc/apt/sources.list var/lib/apt/lists/*
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
install -D -m 600 "$work/key.pub" root/.ssh/authorized_keys; chmod 700 root/.ssh
printf 'UsePAM no\\nUseDNS no\\nMaxSessions 100\\nHostKey /etc/ssh/ssh_host_ed25519_key\\n' > etc/ssh/sshd_config.d/vm.conf
printf '[Match]\\nName=e*\\n[Network]\\nAddress=10.0.2.15/24\\nGateway=10.0.2.2\\nDNS=10.0.2.3\\n' > etc/systemd/network/vm.network
ln -sf /lib/systemd/system/systemd-networkd.service etc/systemd/system/multi-user.target.wants/
echo nameserver 10.0.2.3 > etc/resolv.conf
# The clock is the tests' own, and no tick of apt's or systemd's timers disturbs them.
ln -sf /dev/null etc/systemd/system/systemd-timesyncd.service
for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do ln -sf /dev/null "etc/systemd/system/$timer.timer"; done
: > etc/fstab; : > etc/machine-id
cp boot/vmlinuz-* "$work/kernel"; cp boot/initrd.img-* "$work/initrd"
truncate -s 2200M "$work/seed"; mke2fs -q -t ext4 -d . "$work/seed"
truncate -s 8G "$work/disk"
cd /; rm -rf "$root"
`;

/** Inside, from the seed: the first disk gets a partition, a volume group on it, and the root in that. */
const MAKE_DISK = `
echo '2048,,8e,*' | sfdisk -q /dev/vda
udevadm settle
pvcreate -q /dev/vda1
vgcreate -q vg /dev/vda1
lvcreate -q -y -Wn -L 2200M -n root vg
dd if=/dev/vdb of=/dev/vg/root bs=4M conv=sparse,fsync status=none
e2fsck -fy /dev/vg/root >/dev/null || [ $? = 1 ]
mount /dev/vg/root /mnt
echo '/dev/mapper/vg-root / ext4 defaults 0 1' > /mnt/etc/fstab
systemd-machine-id-setup --root=/mnt
umount /mnt
`;

/** A changed recipe gives a new disk; the old one stays until it is deleted by hand. */
const CACHE = join(ROOT, `node_modules/.cache/vm-${sha256Hex(MAKE_SEED + MAKE_DISK).slice(0, 8)}`);
const at = (name: string) => join(CACHE, name);

/** Why there can be no virtual machine here, or null. */
export function vmUnavailable(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return "it needs Linux on x86-64";
  if (process.getuid?.() !== 0) return "it needs root, to make the machine's disk";
  const missing = PROGRAMS.filter((name) => Bun.which(name, { PATH: ROOT_ENV.PATH }) === null);
  return missing.length > 0
    ? `${missing.join(", ")} not installed (qemu-system-x86, openssh-client, e2fsprogs)`
    : null;
}

/**
 * A machine, not booted, on a copy of the disk. The first call makes the disk, in five minutes and with the network.
 * @throws Error with the output of the failed command, for example an unavailable kernel package
 */
export async function newVm(directory: string): Promise<Vm> {
  if (!existsSync(CACHE)) await makeImage();
  const disk = join(directory, "disk");
  run("cp", ["--sparse=always", at("disk"), disk]);
  return new Vm(files(CACHE, [disk]));
}

async function makeImage(): Promise<void> {
  const work = `${CACHE}.new`;
  mkdirSync(join(CACHE, ".."), { recursive: true });
  const words = ["--mount", "--propagation", "private", "bash", "-c", MAKE_SEED, "bash"];
  run("unshare", [...words, suiteRoot("bookworm"), work, mirror("bookworm")]);
  const vm = new Vm(files(work, [join(work, "disk"), join(work, "seed")]));
  try {
    await vm.boot("/dev/vdb");
    await vm.sh(MAKE_DISK);
    await vm.powerOff();
  } finally {
    await vm.stop();
  }
  rmSync(join(work, "seed"));
  renameSync(work, CACHE);
}

function files(directory: string, disks: readonly string[]): VmFiles {
  return {
    kernel: join(directory, "kernel"),
    initrd: join(directory, "initrd"),
    key: join(directory, "key"),
    disks,
  };
}

function run(program: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args, {
    env: ROOT_ENV,
    encoding: "utf8",
    timeout: 900_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr.trim().split("\n").at(-1)}`);
}
