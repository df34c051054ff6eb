import { dlopen, ptr } from "bun:ffi";
import type { Socket } from "node:net";
import { AegisError } from "./errors.ts";

/* System calls that Bun has no API for. Needs a JIT, so it fails under MemoryDenyWriteExecute. */

const libc = dlopen("libc.so.6", {
  flock: { args: ["i32", "i32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
  tcflush: { args: ["i32", "i32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  renameat2: { args: ["i32", "ptr", "i32", "ptr", "u32"], returns: "i32" },
  mkfifo: { args: ["ptr", "u32"], returns: "i32" },
  syncfs: { args: ["i32"], returns: "i32" },
}).symbols;

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;

/**
 * Exclusive flock(2) without waiting; true if the lock was taken. It is released when the last copy of the fd is
 * closed.
 */
export function tryFlock(fd: number): boolean {
  return libc.flock(fd, LOCK_EX | LOCK_NB) === 0;
}

/**
 * Whether another open of the file holds an exclusive flock(2). Tests with a shared lock, so that tests don't disturb
 * each other; it is released when the fd is closed.
 */
export function isFlocked(fd: number): boolean {
  return libc.flock(fd, LOCK_SH | LOCK_NB) !== 0;
}

/** Exclusive flock(2). Blocks the whole process: only for locks held for milliseconds. */
export function flock(fd: number): void {
  while (libc.flock(fd, LOCK_EX) !== 0) {
    // EINTR: a signal interrupted the wait.
  }
}

const TCIFLUSH = 0;

/** Discards unread terminal input (tcflush(3)). */
export function flushInput(fd: number): void {
  libc.tcflush(fd, TCIFLUSH);
}

const F_GETLK = 5;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** Whether another process holds a record lock of fcntl(2) on the file, the kind dpkg and apt use. */
export function isFileLocked(fd: number): boolean {
  // struct flock: type and whence, 16 bits each; start and length, 64 bits each (0 and 0: the whole file); then the
  // pid.
  const lock = new Int16Array(16);
  lock[0] = F_WRLCK;
  return libc.fcntl(fd, F_GETLK, ptr(lock)) === 0 && lock[0] !== F_UNLCK;
}

const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_RDLCK = 0;
/** Sent to us when the lease is broken, by someone opening the file. Ignored by default. */
const SIGURG = 23;

/**
 * Whether any process, including this one, has the file open for writing: only if none has does the kernel grant a read
 * lease (fcntl(2), "Leases"). Also true where the file system has no leases. The lease ends when the fd is closed. The
 * fd must be open for reading only, and the file owned by the caller.
 */
export function hasWriter(fd: number): boolean {
  libc.fcntl(fd, F_SETSIG, SIGURG);
  return libc.fcntl(fd, F_SETLEASE, F_RDLCK) !== 0;
}

export interface Peer {
  pid: number;
  uid: number;
  gid: number;
  groups: number[];
}

/**
 * The peer of a unix socket: SO_PEERCRED and SO_PEERGROUPS of unix(7).
 * @throws AegisError `internal`
 */
export function peerOf(fd: number): Peer {
  const credentials = new Int32Array(3);
  const length = new Uint32Array([12]);
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(length)) !== 0) {
    throw new AegisError("internal", "SO_PEERCRED failed on a client's socket");
  }
  const groups = new Uint32Array(65_536);
  const groupsLength = new Uint32Array([groups.byteLength]);
  const ok = libc.getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, ptr(groups), ptr(groupsLength)) === 0;
  const [pid = 0, uid = -1, gid = -1] = credentials;
  return { pid, uid, gid, groups: ok ? [...groups.subarray(0, (groupsLength[0] ?? 0) / 4)] : [] };
}

/** poll(2) reports these without being asked. */
const POLLERR_OR_HUP = 0x08 | 0x10;

/** The descriptor of an accepted socket, which Bun keeps on the handle; null once it is closed. */
function openDescriptorOf(socket: Socket): number | null {
  const handle: unknown = "_handle" in socket ? socket._handle : null;
  if (typeof handle !== "object" || handle === null || !("fd" in handle)) return null;
  return typeof handle.fd === "number" && handle.fd >= 0 ? handle.fd : null;
}

/**
 * The descriptor of an accepted socket.
 * @throws AegisError `internal` if it is closed
 */
export function descriptorOf(socket: Socket): number {
  const fd = openDescriptorOf(socket);
  if (fd === null) throw new AegisError("internal", "a client's socket has no descriptor");
  return fd;
}

/**
 * Whether the peer has closed its socket completely. One that has only shut down its sending side (shutdown(2)) can
 * still read. Bun gives no event for this: on a half-open socket it just closes the descriptor.
 */
export function peerIsGone(socket: Socket): boolean {
  const fd = openDescriptorOf(socket);
  if (fd === null) return true;
  const request = new Int16Array(4);
  new Int32Array(request.buffer)[0] = fd;
  libc.poll(ptr(request), 1, 0);
  return ((request[3] ?? 0) & POLLERR_OR_HUP) !== 0;
}

const AT_FDCWD = -100;
const RENAME_EXCHANGE = 2;

/**
 * Exchanges two directories of one file system in one step: renameat2(2), RENAME_EXCHANGE.
 * @throws AegisError `io`
 */
export function exchangePaths(one: string, other: string): void {
  const path = (text: string) => Buffer.from(`${text}\0`);
  if (libc.renameat2(AT_FDCWD, path(one), AT_FDCWD, path(other), RENAME_EXCHANGE) === 0) return;
  throw new AegisError("io", `can't exchange ${one} and ${other}: one is missing, or the file system can't`);
}

/**
 * Makes a pipe with a name, for its owner alone (mkfifo(3)).
 * @throws AegisError `io`, also if the name is taken
 */
export function makePipe(path: string): void {
  if (libc.mkfifo(Buffer.from(`${path}\0`), 0o600) === 0) return;
  throw new AegisError("io", `can't make the pipe ${path}`);
}

/**
 * Writes everything of the file system that holds the open file to disk (syncfs(2)).
 * @throws AegisError `io`
 */
export function syncFileSystem(fd: number): void {
  if (libc.syncfs(fd) !== 0) throw new AegisError("io", "the file system can't be written to disk");
}

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

/**
 * A listening unix(7) stream socket for a child process to accept on.
 * @throws AegisError `usage` if the path is too long, `io`
 */
export function listenUnix(path: string, backlog = 128): number {
  const name = Buffer.from(path);
  if (name.length > 107) throw new AegisError("usage", `${path} is too long for a socket`);
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  const fd = libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0);
  if (fd < 0 || libc.bind(fd, ptr(address), address.length) !== 0 || libc.listen(fd, backlog) !== 0) {
    throw new AegisError("io", `can't listen on ${path}`);
  }
  return fd;
}
