import { type ChildProcess, spawn } from "node:child_process";
import { writeSync } from "node:fs";
import {
  confinedCommand,
  eachLine,
  neededProgram,
  type RegistrySpec,
  type SandboxEnd,
  type SandboxSpec,
} from "./eco-sandbox.ts";
import { exceededLimit } from "./eco-sandbox-limits.ts";
import { enterSandboxRoot } from "./eco-sandbox-root.ts";
import { messageOf } from "./errors.ts";
import { commandAs } from "./sys-account.ts";
import { loopbackUp, newSessionKeyring } from "./sys-namespace.ts";
import { expendable } from "./sys-oom.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The first process inside a sandbox. It gets the specification as one line on its standard input, makes the root, starts the
 * closed registry and the program as their own users, watches the limits, and reports on its standard output. It ends when the
 * program does, or when its standard input ends, since then nobody waits for it; either kills whatever is left inside.
 */

const POLL_MS = 200;
/** Most paths reported that the registry lacks. */
const MAX_MISSING = 50;

type Report = { missing: string } | { failed: string } | { ended: SandboxEnd };

/** Never returns. */
export async function runSandboxInit(): Promise<never> {
  try {
    const spec = await readSpec();
    newSessionKeyring();
    if (!spec.network) loopbackUp();
    if (spec.registry !== null) await startRegistry(spec.aegis, spec.registry);
    enterSandboxRoot(spec);
    report({ ended: await runProgram(spec) });
  } catch (error) {
    report({ failed: messageOf(error) });
  }
  process.exit(0);
}

/** Synchronous, so that nothing is lost when the process ends. */
function report(what: Report): void {
  writeSync(1, `${JSON.stringify(what)}\n`);
}

/** The specification comes from root's own process, over a pipe that only root can write. */
function readSpec(): Promise<SandboxSpec> {
  return new Promise((resolve) => {
    let text = "";
    let isWhole = false;
    process.stdin.setEncoding("utf8");
    process.stdin.on("data", (data: string) => {
      if (isWhole) return;
      text += data;
      isWhole = text.includes("\n");
      if (isWhole) resolve(JSON.parse(text));
    });
    process.stdin.on("end", () => process.exit(1));
  });
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
  let missing = 0;
  return new Promise((resolve, reject) => {
    eachLine(child.stdout, (line) => {
      if (line === "ready") resolve();
      else if (missing++ < MAX_MISSING) report({ missing: line });
    });
    child.on("error", reject);
    child.on("exit", () => reject(new Error("the closed registry ended")));
  });
}

/** Runs the program to its end, or until it exceeds a limit. */
function runProgram(spec: SandboxSpec): Promise<SandboxEnd> {
  const started = startProgram(spec);
  const { child } = started;
  return new Promise((resolve, reject) => {
    const watched = spec.binds.filter(({ writable }) => writable).map(({ to }) => to);
    const look = exceededLimit(spec.limits, watched);
    const timer = setInterval(() => {
      const exceeded = look();
      if (exceeded !== null) resolve({ status: null, exceeded });
    }, POLL_MS);
    child.on("error", (error) => {
      clearInterval(timer);
      reject(new Error(`can't start ${spec.program}: ${messageOf(error)}`));
    });
    child.on("exit", (status) => {
      clearInterval(timer);
      // Once more: what it used up last may be why it failed.
      resolve({ status, exceeded: look() });
    });
  });
}

function startProgram(spec: SandboxSpec): { child: ChildProcess } {
  const { memory, tasks, disk } = spec.limits;
  // Our own program, which fetches, reserves more than it uses: without that its engine falls back to an interpreter.
  const data = spec.network ? [] : [`--data=${memory}`];
  const limits = [`--nproc=${tasks}`, `--fsize=${disk}`, ...data, "--core=0"];
  const [program, args] = commandAs(spec.account, spec.program, spec.args);
  process.umask(0o022);
  // The kernel takes these processes first when the host runs out of memory.
  const restore = expendable();
  const child = spawn(neededProgram("prlimit"), [...limits, "--", program, ...args], {
    cwd: spec.cwd,
    env: { ...spec.environment },
    stdio: [spec.input === null ? "ignore" : "pipe", 3, 4],
    detached: true,
  });
  restore();
  child.stdin?.on("error", () => {}); // It didn't want it.
  child.stdin?.end(spec.input);
  return { child };
}
