import { dlopen, ptr } from "bun:ffi";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { AegisError } from "./errors.ts";

const libc = dlopen("libc.so.6", {
  execve: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  signal: { args: ["i32", "ptr"], returns: "ptr" },
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  setrlimit: { args: ["i32", "ptr"], returns: "i32" },
}).symbols;

const SIGPIPE = 13;
const SIGXFSZ = 25;
const F_SETFD = 2;
const RLIMIT_NOFILE = 7;

/** The words that this process was started with, as bytes: proc_pid_cmdline(5). */
export function ownArgv(): Buffer[] {
  return strings(readFileSync("/proc/self/cmdline"));
}

/** The environment that this process was started with, as bytes: proc_pid_environ(5). */
export function ownEnvironment(): Buffer[] {
  return strings(readFileSync("/proc/self/environ"));
}

/** Zero-terminated strings, without their zeros. */
function strings(bytes: Buffer): Buffer[] {
  const out: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const zero = bytes.indexOf(0, start);
    const end = zero < 0 ? bytes.length : zero;
    out.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return out;
}

/**
 * Turns this process into another program: execve(2). Bun's own `process.execve` takes no bytes that aren't UTF-8, and
 * hands on what Bun has changed in the process; here that is put back: ignored signals, inherited descriptors that would
 * close, and the raised limit of open files.
 * @throws AegisError `not_run`, only if it fails
 */
export function exec(program: string, argv: readonly Buffer[], environment: readonly Buffer[]): never {
  for (const signal of [SIGPIPE, SIGXFSZ]) libc.signal(signal, null);
  keepInheritedDescriptors();
  restoreOpenFilesLimit();
  const path = Buffer.from(`${program}\0`);
  const [words, variables] = [vector(argv), vector(environment)];
  libc.execve(ptr(path), ptr(words.pointers), ptr(variables.pointers));
  throw new AegisError("not_run", `can't run ${program}`, `Look: ls -lL ${program}`);
}

/** Strings as C wants them: an array of pointers that ends in a null pointer. `bytes` must live as long as it. */
function vector(words: readonly Buffer[]): { pointers: BigUint64Array; bytes: Buffer } {
  const zero = Buffer.from([0]);
  const bytes = Buffer.concat([...words.flatMap((word) => [word, zero]), zero]);
  const pointers = new BigUint64Array(words.length + 1);
  let address: number = ptr(bytes);
  for (const [i, word] of words.entries()) {
    pointers[i] = BigInt(address);
    address += word.length + 1;
  }
  return { pointers, bytes };
}

/** Bun has all but the first descriptors close on exec. Its own are anonymous; the rest came from outside. */
function keepInheritedDescriptors(): void {
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    if (fd > 2 && !linkOf(name).startsWith("anon_inode:")) libc.fcntl(fd, F_SETFD, 0);
  }
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // That of the directory that was read is closed by now.
    return "anon_inode:";
  }
}

/** Bun raises its soft limit to the hard one. What it was is not to be had; the parent's is the best guess. */
function restoreOpenFilesLimit(): void {
  let text: string;
  try {
    text = readFileSync(`/proc/${process.ppid}/limits`, "utf8");
  } catch {
    return;
  }
  const soft = /^Max open files +(\d+) /m.exec(text)?.[1];
  const limit = new BigUint64Array(2);
  if (soft === undefined || libc.getrlimit(RLIMIT_NOFILE, ptr(limit)) !== 0) return;
  if (BigInt(soft) >= (limit[1] ?? 0n)) return;
  limit[0] = BigInt(soft);
  libc.setrlimit(RLIMIT_NOFILE, ptr(limit));
}
