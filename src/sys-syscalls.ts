import { dlopen, ptr } from "bun:ffi";
import { AegisError } from "./errors.ts";

/*
 * A filter of system calls for what this process starts: seccomp(2), linux/filter.h, linux/seccomp.h. aegis-build@.service has a
 * larger one; this holds where systemd makes no sandbox too.
 */

const libc = dlopen("libc.so.6", { prctl: { args: ["i32", "u64", "ptr"], returns: "i32" } }).symbols;

const [PR_SET_SECCOMP, SECCOMP_MODE_FILTER] = [22, 2];
const ALLOW = 0x7fff0000;
const fail = (errno: number) => 0x00050000 | errno;
const [EPERM, EAFNOSUPPORT] = [1, 97];
const AF_UNIX = 1;
/** Offsets in a struct seccomp_data; of the argument the half that the kernel takes. */
const [NUMBER, ARCHITECTURE, FIRST_ARGUMENT] = [0, 4, 16];
/** AUDIT_ARCH_* and the number of socket(2). */
const NATIVE =
  process.arch === "arm64" ? { audit: 0xc00000b7, socket: 198 } : { audit: 0xc000003e, socket: 41 };
/** A ring can make sockets too, past every filter. Its number is the same everywhere. */
const IO_URING_SETUP = 425;
/** From here on numbers are of the x32 interface, which has a socket(2) of its own. */
const X32 = 0x40000000;

const [LOAD, EQUAL, AT_LEAST, RETURN] = [0x20, 0x15, 0x35, 0x06];
type Instruction = readonly [code: number, then: number, otherwise: number, operand: number];

/** `then` and `otherwise` are instructions to skip. */
const FILTER: readonly Instruction[] = [
  [LOAD, 0, 0, ARCHITECTURE],
  [EQUAL, 0, 7, NATIVE.audit],
  [LOAD, 0, 0, NUMBER],
  [AT_LEAST, 5, 0, X32],
  [EQUAL, 4, 0, IO_URING_SETUP],
  [EQUAL, 0, 2, NATIVE.socket],
  [LOAD, 0, 0, FIRST_ARGUMENT],
  [EQUAL, 2, 0, AF_UNIX],
  [RETURN, 0, 0, ALLOW],
  [RETURN, 0, 0, fail(EPERM)],
  [RETURN, 0, 0, fail(EAFNOSUPPORT)],
];

/**
 * Keeps this thread, and whatever it starts from now on, from making local sockets: neither a network namespace nor a read-only mount
 * keeps anybody from connecting to one that has a name. Pairs of sockets, by which processes speak with their children, stay.
 * @throws AegisError `unavailable` where the kernel has no filters
 */
export function refuseLocalSockets(): void {
  const program = Buffer.alloc(FILTER.length * 8);
  for (const [i, [code, then, otherwise, operand]] of FILTER.entries()) {
    program.writeUInt16LE(code, i * 8);
    program.writeUInt8(then, i * 8 + 2);
    program.writeUInt8(otherwise, i * 8 + 3);
    program.writeUInt32LE(operand, i * 8 + 4);
  }
  const header = Buffer.alloc(16);
  header.writeUInt16LE(FILTER.length, 0);
  header.writeBigUInt64LE(BigInt(ptr(program)), 8);
  if (libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ptr(header)) === 0) return;
  throw new AegisError(
    "unavailable",
    "the sandbox can't be made: the kernel takes no filter of system calls",
  );
}
