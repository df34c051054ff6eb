import { dlopen, ptr } from "bun:ffi";
import { closeSync, constants, fstatSync, openSync } from "node:fs";

/*
 * Asks btrfs about a subvolume with the ioctl BTRFS_IOC_GET_SUBVOL_INFO (linux/btrfs.h), which needs neither privileges nor
 * btrfs-progs. As root, `btrfs subvolume show` uses another ioctl that needs CAP_SYS_ADMIN (measured with 6.2), which the
 * executor's unit does not have.
 */

const libc = dlopen("libc.so.6", {
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
}).symbols;

/** _IOR(0x94, 60, struct btrfs_ioctl_get_subvol_info_args); the same number on x86-64 and arm64. */
const GET_SUBVOL_INFO = 0x81f8943cn;
/** Size and offsets of that structure, in bytes. */
const INFO = { size: 504, name: 8, uuid: 296, parentUuid: 312, otime: 392 } as const;
const NAME_BYTES = 256;
/** Every subvolume's top directory has this inode number (BTRFS_FIRST_FREE_OBJECTID). */
const TOP_INODE = 256;

export interface Subvolume {
  /** Its name in its parent directory; empty for the top of the file system. */
  name: string;
  /** Hex without dashes. */
  uuid: string;
  /** UUID of the subvolume that it is a snapshot of; null if it is not a snapshot. */
  parentUuid: string | null;
  /** When it was made, by the kernel's clock; it can't be changed later. */
  created: Date;
  /** Whether the path is the subvolume itself, not something in it. */
  isTop: boolean;
}

/** The subvolume of a directory; null if the path is not a directory on btrfs. Does not follow a symbolic link. */
export function subvolumeOf(directory: string): Subvolume | null {
  let fd: number;
  try {
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch {
    return null;
  }
  try {
    const info = Buffer.alloc(INFO.size);
    // Other file systems return ENOTTY. Kernel 6.18 returns 1 for success.
    if (libc.ioctl(fd, GET_SUBVOL_INFO, ptr(info)) < 0) return null;
    const uuid = (at: number) => info.toString("hex", at, at + 16);
    const parentUuid = uuid(INFO.parentUuid);
    const seconds = Number(info.readBigUInt64LE(INFO.otime));
    return {
      name: info.toString("utf8", INFO.name, INFO.name + NAME_BYTES).split("\0", 1)[0] ?? "",
      uuid: uuid(INFO.uuid),
      parentUuid: /^0+$/.test(parentUuid) ? null : parentUuid,
      created: new Date(seconds * 1000 + Math.floor(info.readUInt32LE(INFO.otime + 8) / 1e6)),
      isTop: fstatSync(fd).ino === TOP_INODE,
    };
  } finally {
    closeSync(fd);
  }
}
