import { dlopen, ptr } from "bun:ffi";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { processIo } from "./cmd-io.ts";
import type { Io } from "./command.ts";
import { NOT_BUILT } from "./eco-load.ts";
import type { WrapperName } from "./eco-names.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { resolveProgram } from "./sys-spawn.ts";
import { safe, showArgv } from "./terminal.ts";
import { judge } from "./wrap-judge.ts";
import { PROGRAMS } from "./wrap-table.ts";

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

/** This process's arguments, as bytes: proc_pid_cmdline(5). */
function ownArgv(): Buffer[] {
  return strings(readFileSync("/proc/self/cmdline"));
}

/** This process's initial environment, as bytes: proc_pid_environ(5). */
function ownEnvironment(): Buffer[] {
  return strings(readFileSync("/proc/self/environ"));
}

/** Splits null-terminated strings. */
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
 * Replaces this process by another program: execve(2). Unlike Bun's `process.execve`, it takes bytes that aren't UTF-8 and
 * undoes what Bun changed in the process: ignored signals, close-on-exec on inherited descriptors, the raised limit on open
 * files.
 * @throws AegisError `not_run` if it fails; otherwise it never returns
 */
function exec(program: string, argv: readonly Buffer[], environment: readonly Buffer[]): never {
  for (const signal of [SIGPIPE, SIGXFSZ]) libc.signal(signal, null);
  keepInheritedDescriptors();
  restoreOpenFilesLimit();
  const path = Buffer.from(`${program}\0`);
  const [words, variables] = [vector(argv), vector(environment)];
  libc.execve(ptr(path), ptr(words.pointers), ptr(variables.pointers));
  throw new AegisError("not_run", `can't run ${program}`, `Type: ls -lL ${program}`);
}

/** A C string vector: an array of pointers that ends in a null pointer. `bytes` must outlive `pointers`. */
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

/** Bun sets close-on-exec on all descriptors above 2. Its own are anonymous inodes; the others were inherited. */
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
    // The descriptor of the directory listing itself, closed by now.
    return "anon_inode:";
  }
}

/** Bun raises its soft limit to the hard limit. The original is unknown; the parent's is the best guess. */
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

/** Counts the wrappers among this process's ancestors. */
const DEPTH = "AEGIS_WRAPPER_DEPTH";
/** More than nested calls ever need. */
const MAX_DEPTH = 8;

/**
 * Stands in for a package manager: a read-only call runs the real program, a change becomes a plan, and the rest is refused,
 * including what this version can't plan yet. A guard rail, not a boundary: typing the program's full path bypasses it.
 * Calls by maintainer scripts pass, since dpkg runs them as part of a transaction already decided.
 * @returns for a plan, what policy would decide: `denied`, `snapshot` or `approval`, since the change was not made; `ok` if
 *   there is nothing to do
 * @throws AegisError `not_run` for a refused call; errors of planning
 */
export async function runWrapped(name: WrapperName): Promise<ExitStatus> {
  const argv = ownArgv();
  const words = argv.slice(1).map((word) => word.toString("utf8"));
  const verdict =
    process.env.DPKG_MAINTSCRIPT_NAME === undefined ? judge(name, words) : { does: "pass" as const };
  if (verdict.does === "pass") return become(name, argv);
  if (verdict.does === "refuse") {
    const instead = verdict.instead === null ? `aegis plan --help` : showArgv(["aegis", ...verdict.instead]);
    throw new AegisError(
      "not_run",
      `${[name, verdict.what].filter((word) => word !== "").join(" ")} was not run: ${verdict.why}`,
      `On this host Aegis lets only read-only calls of ${name} through. To learn what a change would do: ${instead}`,
    );
  }
  const { ecosystem, operation, targets } = verdict;
  if (NOT_BUILT.includes(ecosystem)) {
    throw new AegisError(
      "not_run",
      `${name} was not run: this version of Aegis can't plan ${ecosystem} ${operation} yet`,
      `On this host Aegis lets only read-only calls of ${name} through. Ask the administrator.`,
    );
  }
  const io = processIo(false);
  io.note(
    `${name} was not run; Aegis plans the change instead: ${safe(showArgv(["aegis", "plan", ecosystem, operation, ...targets]))}`,
  );
  const { plan } = await import("./cmd-plan.ts");
  let written: unknown = null;
  await plan.run(
    {
      ...{ ecosystem, operation, targets, summary: false, changelog: false, security: false },
      ...{
        out: undefined,
        sbom: undefined,
        html: undefined,
        runtime: undefined,
        stanza: undefined,
        key: undefined,
      },
    },
    {
      ...io,
      result(document, text) {
        if (typeof document === "object" && document !== null && "plan" in document) written = document.plan;
        io.result(document, text);
      },
    },
  );
  return statusOf(written, io);
}

/** The exit status for a plan: `ok` if there is nothing to do, else by the decision of the user's policy. */
async function statusOf(written: unknown, io: Io): Promise<ExitStatus> {
  // Imported here, since top-level imports would delay every call that passes.
  const [{ canonicalHash }, { parseDocument }, { evaluate, policyExit }, { loadPolicyConfig }] =
    await Promise.all([
      import("./canonical.ts"),
      import("./doc.ts"),
      import("./policy.ts"),
      import("./policy-config.ts"),
    ]);
  const plan = parseDocument("plan", written);
  if (plan.nothing_to_do) return EXIT.ok;
  const { config, hash } = loadPolicyConfig(io.env);
  const { decision } = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
  // An allowed plan still needs a signature.
  return decision === "allow" ? EXIT.approval : policyExit(decision);
}

/** Runs the real program with the same arguments and environment, except for the depth and its table's variables. */
function become(name: WrapperName, argv: readonly Buffer[]): never {
  const depth = Number(process.env[DEPTH] ?? "0");
  if (!(depth < MAX_DEPTH)) {
    throw new AegisError(
      "not_run",
      `Aegis's wrappers call each other: ${name} is nested ${MAX_DEPTH + 1} deep`,
      `The program behind the wrapper is not a package manager. Type: type -a ${name}`,
    );
  }
  const program = resolveProgram(name);
  if (program === null) {
    throw new AegisError("not_run", `${name} is not installed; this is only Aegis's wrapper of it`);
  }
  const set = Object.entries({ ...PROGRAMS[name].environment, [DEPTH]: `${depth + 1}` });
  const kept = ownEnvironment().filter((variable) => {
    const text = variable.toString("latin1");
    return !set.some(([key]) => text.startsWith(`${key}=`));
  });
  exec(program, argv, [...kept, ...set.map(([key, value]) => Buffer.from(`${key}=${value}`))]);
}
