import { dlopen, ptr, read } from "bun:ffi";
import { existsSync, readFileSync } from "node:fs";
import { AegisError } from "./errors.ts";

/*
 * Mounts and the root directory of a process in namespaces of its own: mount(2), pivot_root(2), chroot(2), netdevice(7). Only
 * root's process inside a sandbox calls these.
 */

const libc = dlopen("libc.so.6", {
  mount: { args: ["ptr", "ptr", "ptr", "u64", "ptr"], returns: "i32" },
  umount2: { args: ["ptr", "i32"], returns: "i32" },
  pivot_root: { args: ["ptr", "ptr"], returns: "i32" },
  chroot: { args: ["ptr"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  waitid: { args: ["i32", "u32", "ptr", "i32"], returns: "i32" },
  waitpid: { args: ["i32", "ptr", "i32"], returns: "i32" },
  syscall: { args: ["i64", "i64", "ptr"], returns: "i64" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_MOVE = 8192;
const MS_REC = 16_384;
const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;

const text = (value: string) => Buffer.from(`${value}\0`);

function succeed(result: number, what: string): void {
  if (result === 0) return;
  const location = libc.__errno_location();
  const errno = location === null ? 0 : read.i32(location);
  throw new AegisError("unavailable", `the sandbox can't be made: ${what} failed (errno ${errno})`);
}

/** Keeps every mount of this process's namespace to itself. */
export function privateMounts(): void {
  succeed(libc.mount(text("none"), text("/"), null, MS_REC | MS_PRIVATE, null), "making mounts private");
}

/** A file system in memory of at most `size` (as in tmpfs(5)), without devices and set-user-id programs. */
export function mountTmpfs(path: string, size: string): void {
  const options = text(`mode=0755,size=${size},nr_inodes=4096`);
  succeed(libc.mount(text("tmpfs"), text(path), text("tmpfs"), MS_NOSUID | MS_NODEV, options), path);
}

/** The processes of this PID namespace, and of no other. */
export function mountProc(path: string): void {
  const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  succeed(libc.mount(text("proc"), text(path), text("proc"), flags, text("hidepid=2")), path);
}

/**
 * Shows a file or directory at a second place, alone: without what is mounted below it, without set-user-id programs, and without
 * devices unless it is one.
 */
export function bind(from: string, to: string, how: "read-only" | "writable" | "device"): void {
  succeed(libc.mount(text(from), text(to), null, MS_BIND, null), `binding ${from}`);
  const device = how === "device" ? 0 : MS_NODEV;
  const flags = MS_BIND | MS_REMOUNT | MS_NOSUID | device | (how === "writable" ? 0 : MS_RDONLY);
  succeed(libc.mount(text("none"), text(to), null, how === "device" ? flags & ~MS_RDONLY : flags, null), to);
}

/** Makes a mount read-only. */
export function sealMount(path: string): void {
  const flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV;
  succeed(libc.mount(text("none"), text(path), null, flags, null), `sealing ${path}`);
}

/** Makes a directory a mount, so that it can become the root of a namespace. */
export function mountOnItself(path: string): void {
  succeed(libc.mount(text(path), text(path), null, MS_BIND, null), `binding ${path}`);
}

/**
 * Makes `root`, a mount, the root of this mount namespace and takes the old one away; then `inner`, a directory below it, the root
 * directory of this process. A process whose root isn't the namespace's can't make user namespaces (user_namespaces(7), EPERM): with
 * `isOnTop`, `inner`, then a mount as well, covers the namespace's root and counts as that.
 */
export function enterRoot(root: string, inner: string, isOnTop: boolean): void {
  process.chdir(root);
  // The old root goes on top of the new one, and off it: pivot_root(2), "pivot_root(".", ".")".
  succeed(libc.pivot_root(text("."), text(".")), "pivot_root");
  succeed(libc.umount2(text("."), MNT_DETACH), "taking the host's files away");
  process.chdir(inner);
  if (isOnTop) succeed(libc.mount(text("."), text("/"), null, MS_MOVE, null), "covering the root");
  succeed(libc.chroot(text(".")), "chroot");
  process.chdir("/");
}

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
/** Of `ifr_flags` in a struct ifreq. */
const FLAGS_AT = 16;
const IFF_UP = 1;

/** Switches the loopback interface of this network namespace on, if it isn't. */
export function startLoopback(): void {
  const socket = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  const request = Buffer.alloc(40);
  request.write("lo");
  const found = libc.ioctl(socket, SIOCGIFFLAGS, request);
  const flags = request.readUInt16LE(FLAGS_AT);
  request.writeUInt16LE(flags | IFF_UP, FLAGS_AT);
  // The interface that systemd has switched on needs no capability.
  const result = found === 0 && (flags & IFF_UP) !== 0 ? 0 : libc.ioctl(socket, SIOCSIFFLAGS, request);
  libc.close(socket);
  succeed(result, "switching loopback on");
}

/**
 * Checks that nothing but the loopback interface can be reached from this network namespace.
 * @throws AegisError `refused`
 */
export function refuseNetwork(): void {
  const [, ...routes] = linesOf("/proc/self/net/route");
  const ipv6 = "/proc/self/net/ipv6_route";
  const others = existsSync(ipv6) ? linesOf(ipv6).filter((line) => !/\slo$/.test(line)) : [];
  if (routes.length + others.length > 0)
    throw new AegisError("refused", "the sandbox has a network, and must have none");
}

function linesOf(path: string): string[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "");
}

const P_ALL = 0;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x1000000;
/** Of `si_pid` in a siginfo_t of 128 bytes. */
const SI_PID = 16;

/** Most that are taken away at once. */
const MAX_REAPED = 2000;

/**
 * As the first process of a PID namespace: takes away the ended processes whose parents ended before them, which otherwise count as
 * processes of their user. `own` are this process's children, which are waited for elsewhere. Returns also while others end as fast as
 * they are taken away, as those of a fork bomb do.
 */
export function reapOrphans(own: ReadonlySet<number>): void {
  for (let n = 0; n < MAX_REAPED; n++) {
    const info = Buffer.alloc(128);
    if (libc.waitid(P_ALL, 0, ptr(info), WEXITED | WNOHANG | WNOWAIT) !== 0) return;
    const pid = info.readInt32LE(SI_PID);
    if (pid === 0 || own.has(pid)) return;
    libc.waitpid(pid, null, WNOHANG);
  }
}

/** keyctl(2) has no function in libc. */
const SYS_KEYCTL = process.arch === "arm64" ? 219 : 250;
const KEYCTL_JOIN_SESSION_KEYRING = 1;

/** Leaves the keys of whoever started this process behind (session-keyring(7)); where the kernel has none, there are none to leave. */
export function newSessionKeyring(): void {
  libc.syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, null);
}
