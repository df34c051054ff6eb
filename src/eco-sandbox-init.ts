import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readlinkSync, writeFileSync } from "node:fs";
import {
  confinedCommand,
  EXECUTOR_STARTS,
  lineReader,
  type MappedUsers,
  type RegistrySpec,
  requestLine,
  type SandboxEnd,
  type SandboxRequest,
  type SandboxSpec,
  UNPACKING,
  writeBlocking,
} from "./eco-sandbox.ts";
import { exceededLimit, kernelTasks } from "./eco-sandbox-limits.ts";
import { neededProgram } from "./eco-sandbox-namespaces.ts";
import { enterSandboxRoot, USERS_MAPPED } from "./eco-sandbox-root.ts";
import { AegisError, messageOf } from "./errors.ts";
import { VERSION } from "./self.ts";
import { commandAs } from "./sys-account.ts";
import { peerOf, tryFlock } from "./sys-ffi.ts";
import { newSessionKeyring, reapOrphans, refuseNetwork, startLoopback } from "./sys-namespace.ts";
import { expendable } from "./sys-oom.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";
import { refuseLocalSockets } from "./sys-syscalls.ts";

/*
 * The first process inside a sandbox. It gets the specification as one line on its standard input, makes the root, starts the
 * closed registry and the program as their own users, watches the limits, and reports on its standard output. It ends when the
 * program does, or when its standard input ends, since then nobody waits for it; either kills whatever is left inside. Under
 * systemd both are a connection of root's to aegis-build.socket, and the unit's network has a loopback interface already.
 */

const POLL_MS = 200;
/** Most paths reported that the registry lacks. */
const MAX_MISSING = 50;

/** Pids of the processes that this one has started and waits for. */
const children = new Set<number>();

type Report = { missing: string } | { failed: string } | { ended: SandboxEnd };

/** Never returns. @throws AegisError `usage` for whoever types it, `refused` for a request that isn't root's */
export async function runSandboxInit(): Promise<never> {
  // In the host's own namespaces it would take the host's files away.
  if (process.pid !== 1)
    throw new AegisError("usage", "this is the first process inside a sandbox", EXECUTOR_STARTS);
  if (fstatSync(0).isSocket() && peerOf(0).uid !== 0)
    throw new AegisError("refused", "only root's process may say what runs in a sandbox");
  const line = await requestLine();
  try {
    report({ ended: await runRequest(JSON.parse(line)) });
  } catch (error) {
    report({ failed: messageOf(error) });
  }
  process.exit(0);
}

async function runRequest({ version, spec }: SandboxRequest): Promise<SandboxEnd> {
  if (version !== VERSION)
    throw new Error(`Aegis ${version} asks ${VERSION} for a sandbox: install one of them on this host`);
  if (spec?.network !== true) {
    startLoopback();
    refuseNetwork();
  }
  if (spec === null) return { status: 0, exceeded: null };
  // For the directories of the root as well as for the program.
  process.umask(0o022);
  const output = spec.files === null ? ([3, 2] as const) : openFiles(spec.files);
  newSessionKeyring();
  if (spec.registry !== null) await startRegistry(spec.aegis, spec.registry);
  enterSandboxRoot(spec);
  if (!spec.network) refuseLocalSockets();
  return await runProgram(spec, output);
}

/** Opens the program's output, and locks the file that says that something inside is alive. */
function openFiles({ stdout, stderr, alive }: NonNullable<SandboxSpec["files"]>): readonly [number, number] {
  if (!tryFlock(openSync(alive, "a", 0o600))) throw new Error("another sandbox of this run is alive");
  return [openSync(stdout, "a", 0o600), openSync(stderr, "a", 0o600)];
}

/** Synchronous, so that nothing is lost when the process ends. */
function report(what: Report): void {
  writeBlocking(1, Buffer.from(`${JSON.stringify(what)}\n`));
}

/** Starts the closed registry and waits until it listens. It loads its code before the host's files are gone. */
function startRegistry(aegis: string, { account, port, routes }: RegistrySpec): Promise<void> {
  const [own, ...words] = confinedCommand(aegis, "registry");
  const [program, args] = commandAs(account, own, words);
  const child = spawn(program, args, {
    cwd: "/",
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    stdio: ["pipe", "pipe", 2],
  });
  child.stdin?.end(JSON.stringify({ port, routes }));
  children.add(child.pid ?? 0);
  let missing = 0;
  return new Promise((resolve, reject) => {
    const take = lineReader((line) => {
      if (line === "ready") resolve();
      else if (missing++ < MAX_MISSING) report({ missing: line });
    });
    child.stdout?.on("data", take);
    child.on("error", reject);
    child.on("exit", () => reject(new Error("the closed registry ended")));
  });
}

/** Runs the program to its end, or until it exceeds a limit. */
async function runProgram(spec: SandboxSpec, output: readonly [number, number]): Promise<SandboxEnd> {
  const lock = spec.users === undefined ? null : openSync(USERS_MAPPED, "r");
  if (lock !== null && !tryFlock(lock)) throw new Error("something else is in this sandbox");
  const started = startProgram(spec, output);
  const { child } = started;
  if (lock !== null && spec.users !== undefined) await mapUsers(child, spec.users, lock);
  return new Promise((resolve, reject) => {
    const watched = spec.binds.filter(({ writable }) => writable).map(({ to }) => to);
    const look = exceededLimit(spec.limits, watched);
    const guarded = (action: () => void) => {
      try {
        action();
      } catch (error) {
        reject(error);
      }
    };
    const timer = setInterval(
      () =>
        guarded(() => {
          reapOrphans(children);
          const exceeded = look();
          if (exceeded !== null) resolve({ status: null, exceeded });
        }),
      POLL_MS,
    );
    child.on("error", (error) => {
      clearInterval(timer);
      reject(new Error(`can't start ${spec.program}: ${messageOf(error)}`));
    });
    child.on("exit", (status) => {
      clearInterval(timer);
      // Once more: what it used up last may be why it failed.
      guarded(() => resolve({ status, exceeded: look() }));
    });
  });
}

function startProgram(spec: SandboxSpec, output: readonly [number, number]): { child: ChildProcess } {
  const { memory, tasks, disk } = spec.limits;
  // Our own program, which fetches, reserves more than it uses: without that its engine falls back to an interpreter.
  const data = spec.network ? [] : [`--data=${memory}`];
  const limits = [`--nproc=${kernelTasks(tasks)}`, `--fsize=${disk}`, ...data, "--core=0"];
  const [program, args] =
    spec.users === undefined
      ? commandAs(spec.account, spec.program, spec.args)
      : asRootOfUsers(spec.program, spec.args);
  // The kernel takes these processes first when the host runs out of memory.
  const restore = expendable();
  const child = spawn(neededProgram("prlimit"), [...limits, "--", program, ...args], {
    cwd: spec.cwd,
    env: { ...spec.environment },
    stdio: [spec.input === null ? "ignore" : "pipe", ...output],
    detached: true,
  });
  restore();
  child.stdin?.on("error", () => {}); // It didn't want it.
  if (spec.input !== null) child.stdin?.write(spec.input);
  children.add(child.pid ?? 0);
  return { child };
}

/**
 * The command line that runs a program as the root of a new user namespace, with a mount namespace that belongs to it: unshare(1) keeps
 * its capabilities, flock(1) waits until there is a user 0, setpriv(1) becomes that and gives up all but {@link UNPACKING}.
 */
function asRootOfUsers(program: string, args: readonly string[]): [string, string[]] {
  const namespaces = ["--user", "--mount", "--keep-caps", "--"];
  const bounding = ["-all", ...UNPACKING.map((name) => `+${name}`)].join();
  const root = ["--reuid", "0", "--regid", "0", "--clear-groups", `--bounding-set=${bounding}`];
  return [
    neededProgram("unshare"),
    [
      ...[...namespaces, neededProgram("flock"), "--close", USERS_MAPPED],
      ...[neededProgram("setpriv"), ...root, "--inh-caps=-all", "--no-new-privs", "--", program, ...args],
    ],
  ];
}

/** How long unshare(1) may take to start. */
const UNSHARED_MS = 10_000;

/** Gives the namespace that a child of ours makes its users, and lets the child go on. */
async function mapUsers(child: ChildProcess, { first, count }: MappedUsers, lock: number): Promise<void> {
  const namespace = (pid: number | "self" | undefined) => readlinkSync(`/proc/${pid}/ns/user`);
  const until = performance.now() + UNSHARED_MS;
  while (namespace(child.pid) === namespace("self")) {
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > until)
      throw new Error("unshare made no user namespace");
    await Bun.sleep(5);
  }
  for (const map of ["uid_map", "gid_map"])
    writeFileSync(`/proc/${child.pid}/${map}`, `0 ${first} ${count}\n`);
  closeSync(lock);
}
