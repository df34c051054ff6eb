import { dlopen, ptr } from "bun:ffi";
import type { Socket } from "node:net";
import { AegisError } from "./errors.ts";

/*
 * The system calls that Bun has no API for. Needs a JIT: not usable under MemoryDenyWriteExecute.
 */

const libc = dlopen("libc.so.6", {
  flock: { args: ["i32", "i32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
  tcflush: { args: ["i32", "i32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
}).symbols;

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;

/** flock(2), exclusive, without waiting. Returns whether the lock was taken. It ends with the last close of the fd. */
export function tryFlock(fd: number): boolean {
  return libc.flock(fd, LOCK_EX | LOCK_NB) === 0;
}

/** Whether somebody holds the file by an exclusive flock(2). Any number may look at once. The look ends with the fd's last close. */
export function isFlocked(fd: number): boolean {
  return libc.flock(fd, LOCK_SH | LOCK_NB) !== 0;
}

/** flock(2), exclusive, waiting. Blocks the whole process: only for locks that are held for milliseconds. */
export function flock(fd: number): void {
  while (libc.flock(fd, LOCK_EX) !== 0) {
    // EINTR: a signal came; the lock is still wanted.
  }
}

const TCIFLUSH = 0;

/** Throws away what was typed at a terminal and not read yet (tcflush(3)). */
export function flushInput(fd: number): void {
  libc.tcflush(fd, TCIFLUSH);
}

const F_GETLK = 5;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** Whether another process has a record lock of fcntl(2) on the file, as dpkg and apt take them. */
export function isFileLocked(fd: number): boolean {
  // struct flock: type and whence, 16 bits each; start and length, 64 bits each (0 and 0: all of it); then the pid.
  const lock = new Int16Array(16);
  lock[0] = F_WRLCK;
  return libc.fcntl(fd, F_GETLK, ptr(lock)) === 0 && lock[0] !== F_UNLCK;
}

const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_RDLCK = 0;
/** A signal that nobody dies of: whoever opens the file while the lease lasts has it sent to us. */
const SIGURG = 23;

/**
 * Whether anybody, this process too, has the file open for writing, in whatever way the descriptor reached them: only
 * where nobody does, the kernel gives a read lease (fcntl(2), "Leases"). True also where its file system gives none. The
 * lease ends with the fd's last close. The fd must be open for reading alone, and the file one's own.
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

/** Who is at the other end of a unix socket: SO_PEERCRED and SO_PEERGROUPS of unix(7). */
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

/** Of poll(2); these are reported without being asked for. */
const POLLERR_OR_HUP = 0x08 | 0x10;

/** The descriptor of an accepted socket, which Bun keeps on the handle; null where there is none any more. */
function openDescriptorOf(socket: Socket): number | null {
  const handle: unknown = "_handle" in socket ? socket._handle : null;
  if (typeof handle !== "object" || handle === null || !("fd" in handle)) return null;
  return typeof handle.fd === "number" && handle.fd >= 0 ? handle.fd : null;
}

/**
 * The descriptor of an accepted socket.
 * @throws AegisError `internal` where there is none (any more)
 */
export function descriptorOf(socket: Socket): number {
  const fd = openDescriptorOf(socket);
  if (fd === null) throw new AegisError("internal", "a client's socket has no descriptor");
  return fd;
}

/**
 * Whether the other end of an accepted socket is closed altogether. One that has only shut down its sending side
 * (shutdown(2)) still reads, and is not gone. Bun tells the two apart too, but says nothing of it: on a half-open socket it
 * closes the descriptor without an event.
 */
export function peerIsGone(socket: Socket): boolean {
  const fd = openDescriptorOf(socket);
  if (fd === null) return true;
  const request = new Int16Array(4);
  new Int32Array(request.buffer)[0] = fd;
  libc.poll(ptr(request), 1, 0);
  return ((request[3] ?? 0) & POLLERR_OR_HUP) !== 0;
}

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

/**
 * A listening unix stream socket that this process does not accept on: it is made to be handed to a child. unix(7).
 * @throws AegisError `io`
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
