import { dlopen, ptr, read } from "bun:ffi";
import { AegisError } from "./errors.ts";

/*
 * Extended attributes of files, of links themselves too: xattr(7), listxattr(2), getxattr(2), setxattr(2). Those called
 * `trusted.` are seen with CAP_SYS_ADMIN only.
 */

const libc = dlopen("libc.so.6", {
  llistxattr: { args: ["ptr", "ptr", "u64"], returns: "i64" },
  lgetxattr: { args: ["ptr", "ptr", "ptr", "u64"], returns: "i64" },
  lsetxattr: { args: ["ptr", "ptr", "ptr", "u64", "i32"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

/** XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h. */
const ROOM = Buffer.alloc(64 * 1024);
const ENOTSUP = 95;
const NONE: ReadonlyMap<string, Buffer> = new Map();
const text = (value: string) => Buffer.from(`${value}\0`);

function failed(what: string, path: string): AegisError {
  return new AegisError("io", `can't ${what} of ${JSON.stringify(path)} (errno ${errno()})`);
}

function errno(): number {
  const location = libc.__errno_location();
  return location === null ? 0 : read.i32(location);
}

/** The extended attributes of a file by name, sorted. A file system without any has none. @throws AegisError `io` */
export function xattrsOf(path: string): ReadonlyMap<string, Buffer> {
  const at = text(path);
  const length = Number(libc.llistxattr(at, ptr(ROOM), ROOM.length));
  if (length < 0 && errno() !== ENOTSUP) throw failed("list the attributes", path);
  if (length <= 0) return NONE;
  const names = ROOM.toString("utf8", 0, length - 1).split("\0");
  return new Map(
    names.sort().map((name): [string, Buffer] => {
      const size = Number(libc.lgetxattr(at, text(name), ptr(ROOM), ROOM.length));
      if (size < 0) throw failed(`read the attribute ${name}`, path);
      return [name, Buffer.from(ROOM.subarray(0, size))];
    }),
  );
}

/** @throws AegisError `io` */
export function setXattr(path: string, name: string, value: Uint8Array): void {
  // No pointer to nothing: an empty value still needs an address.
  const room = value.length === 0 ? ROOM : Buffer.from(value);
  if (libc.lsetxattr(text(path), text(name), ptr(room), value.length, 0) !== 0)
    throw failed(`set the attribute ${name}`, path);
}
