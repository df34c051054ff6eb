import { dlopen, ptr, read } from "bun:ffi";
import { chmodSync, closeSync, constants, openSync } from "node:fs";
import { AegisError } from "./errors.ts";

/*
 * Files below a directory that somebody else filled: openat2(2), and by the descriptor that it returns all that is read or set. No link
 * is followed, neither at the end of a path nor on the way, and nothing outside of the directory is reached.
 */

const libc = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i64", "ptr", "ptr", "u64"], returns: "i64" },
  getdents64: { args: ["i32", "ptr", "u64"], returns: "i64" },
  readlinkat: { args: ["i32", "ptr", "ptr", "u64"], returns: "i64" },
  fchownat: { args: ["i32", "ptr", "u32", "u32", "i32"], returns: "i32" },
  mknodat: { args: ["i32", "ptr", "u32", "u64"], returns: "i32" },
  utimensat: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  listxattr: { args: ["ptr", "ptr", "u64"], returns: "i64" },
  getxattr: { args: ["ptr", "ptr", "ptr", "u64"], returns: "i64" },
  setxattr: { args: ["ptr", "ptr", "ptr", "u64", "i32"], returns: "i32" },
  removexattr: { args: ["ptr", "ptr"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

/** The same number on every architecture. */
const SYS_OPENAT2 = 437;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const [RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH] = [0x02, 0x04, 0x08];
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const [ENOENT, ENOTDIR, ELOOP, EXDEV, ENOTSUP] = [2, 20, 40, 18, 95];

const text = (value: string) => Buffer.from(`${value}\0`);
const NOTHING = text("");
/** Acts on what a descriptor was opened for, a link too. */
const procPath = (fd: number) => text(`/proc/self/fd/${fd}`);

function errno(): number {
  const location = libc.__errno_location();
  return location === null ? 0 : read.i32(location);
}

function succeed(result: number | bigint, what: string): number {
  if (result >= 0) return Number(result);
  throw new AegisError("io", `${what} failed (errno ${errno()})`);
}

const HOW = new BigUint64Array([
  BigInt(O_PATH | O_CLOEXEC | constants.O_NOFOLLOW),
  0n,
  BigInt(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS),
]);

/**
 * A descriptor (O_PATH, open(2)) of what is at a path below a directory, "" being that itself; a link is opened and not followed. Null
 * where there is nothing, or nothing that is reached through directories alone.
 * @throws AegisError `io`, also before Linux 5.6, which has no openat2
 */
export function openBeneath(root: number, path: string): number | null {
  const fd = Number(
    libc.syscall(SYS_OPENAT2, root, text(path === "" ? "." : path), ptr(HOW), HOW.byteLength),
  );
  if (fd >= 0) return fd;
  const code = errno();
  if (code === ENOENT || code === ENOTDIR || code === ELOOP || code === EXDEV) return null;
  throw new AegisError("io", `a file can't be opened (openat2, errno ${code})`);
}

/** Opens a regular file or directory, of which `fd` is a descriptor by path, for reading. */
export function reopen(fd: number): number {
  return openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK);
}

const ENTRIES = Buffer.alloc(64 * 1024);
/** Of d_reclen and d_name in a struct linux_dirent64. */
const [LENGTH_AT, NAME_AT] = [16, 19];

/**
 * The names in a directory, as bytes, without `.` and `..`, in the order of the file system and without holding all of them.
 * @throws AegisError `io`
 */
export function* listNames(fd: number): Generator<Buffer> {
  const directory = reopen(fd);
  try {
    for (;;) {
      const length = succeed(libc.getdents64(directory, ENTRIES, ENTRIES.length), "reading a directory");
      if (length === 0) return;
      // A copy, since the caller may list another directory before it asks for the next name.
      const entries = Buffer.from(ENTRIES.subarray(0, length));
      for (let at = 0; at < length; at += entries.readUInt16LE(at + LENGTH_AT)) {
        const name = entries.subarray(at + NAME_AT, entries.indexOf(0, at + NAME_AT));
        const isDots = name.length <= 2 && name.every((byte) => byte === 0x2e);
        if (!isDots) yield name;
      }
    }
  } finally {
    closeSync(directory);
  }
}

/** Where a symbolic link points to (readlinkat(2)), as bytes. */
export function linkTarget(fd: number): Buffer {
  const target = Buffer.alloc(4096);
  return target.subarray(0, succeed(libc.readlinkat(fd, NOTHING, target, target.length), "reading a link"));
}

/** @throws AegisError `io` */
export function setOwner(fd: number, uid: number, gid: number): void {
  succeed(libc.fchownat(fd, NOTHING, uid, gid, AT_EMPTY_PATH), "setting an owner");
}

/** Not of a symbolic link, which has none. */
export function setMode(fd: number, mode: number): void {
  chmodSync(`/proc/self/fd/${fd}`, mode);
}

/**
 * Sets the times of access and of modification, in nanoseconds since 1970.
 * @throws AegisError `io`
 */
export function setTime(fd: number, nanoseconds: bigint): void {
  const second = 1_000_000_000n;
  const rest = ((nanoseconds % second) + second) % second;
  const time = [(nanoseconds - rest) / second, rest];
  succeed(
    libc.utimensat(AT_FDCWD, procPath(fd), ptr(new BigInt64Array([...time, ...time])), 0),
    "setting times",
  );
}

const NAMES = Buffer.alloc(64 * 1024);
const VALUE = Buffer.alloc(64 * 1024);

/**
 * The extended attributes of a file, directory or link, by their names (xattr(7)).
 * @throws AegisError `io`
 */
export function xattrsOf(fd: number): Map<string, Buffer> {
  const path = procPath(fd);
  const length = Number(libc.listxattr(path, NAMES, NAMES.length));
  if (length < 0 && errno() === ENOTSUP) return new Map();
  const names = NAMES.toString("latin1", 0, succeed(length, "listing attributes")).split("\0");
  return new Map(
    names
      .filter((name) => name !== "")
      .map((name) => {
        const size = succeed(
          libc.getxattr(path, Buffer.from(`${name}\0`, "latin1"), VALUE, VALUE.length),
          "reading an attribute",
        );
        return [name, Buffer.from(VALUE.subarray(0, size))];
      }),
  );
}

/** @throws AegisError `io` */
export function setXattr(fd: number, name: string, value: Uint8Array): void {
  // An empty buffer has no address.
  const data = value.length === 0 ? NOTHING : Buffer.from(value);
  succeed(
    libc.setxattr(procPath(fd), Buffer.from(`${name}\0`, "latin1"), data, value.length, 0),
    `setting the attribute ${name}`,
  );
}

/** @throws AegisError `io` */
export function removeXattr(fd: number, name: string): void {
  succeed(
    libc.removexattr(procPath(fd), Buffer.from(`${name}\0`, "latin1")),
    `removing the attribute ${name}`,
  );
}

/** The number of a device as stat(2) gives it (makedev(3)): minor numbers above 8 bits are split. */
export function deviceNumber([major, minor]: readonly [number, number]): bigint {
  return (BigInt(minor) & 0xffn) | (BigInt(major) << 8n) | ((BigInt(minor) & ~0xffn) << 12n);
}

/**
 * Makes a device in a directory (mknodat(2)), with no permissions.
 * @throws AegisError `io`, also where the name is taken
 */
export function makeDevice(
  directory: number,
  name: string,
  kind: "character device" | "block device",
  device: readonly [number, number],
): void {
  const type = kind === "character device" ? constants.S_IFCHR : constants.S_IFBLK;
  succeed(libc.mknodat(directory, text(name), type, deviceNumber(device)), "making a device");
}
