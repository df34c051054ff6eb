import { dlopen, ptr } from "bun:ffi";
import { closeSync, constants, fstatSync, openSync } from "node:fs";

/*
 * What btrfs itself says of a subvolume: the ioctl BTRFS_IOC_GET_SUBVOL_INFO (linux/btrfs.h), which needs no privilege and
 * no btrfs-progs. `btrfs subvolume show` asks in another way when it runs as root, and fails without CAP_SYS_ADMIN
 * (measured with 6.2): the executor's unit does not have it.
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
  /** Its name in the directory that holds it; empty for the top of the file system. */
  name: string;
  /** Hex without dashes. */
  uuid: string;
  /** Of the subvolume that it is a snapshot of; null where it is none. */
  parentUuid: string | null;
  /** When it was made, by the kernel's clock; nothing can change it later. */
  created: Date;
  /** Whether the path is the subvolume itself, not something in it. */
  isTop: boolean;
}

/** The subvolume that a directory is on; null where the path is no directory of a btrfs. The last part may be no link. */
export function subvolumeOf(directory: string): Subvolume | null {
  let fd: number;
  try {
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch {
    return null;
  }
  try {
    const info = Buffer.alloc(INFO.size);
    // Other file systems answer ENOTTY. A kernel 6.18 answers 1 for success.
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
