import { spawn } from "node:child_process";
import { AegisError, messageOf } from "./errors.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * A sandbox by hand, where no unit of systemd's makes it: namespaces by unshare(1), which die with this process by setpriv(1).
 */

/** How long the first process inside may take to notice that nobody waits for it. */
const PATIENCE_MS = 5000;

/**
 * Starts the first process, `command`, by unshare(1), and resolves when everything inside has ended.
 * @throws AegisError `unavailable`; what `take` throws; the reason of `stop`
 */
export function callNamespaces(
  network: boolean,
  command: readonly string[],
  request: string,
  take: { report(data: Buffer): void; output(data: Buffer): void },
  stop: AbortSignal,
): Promise<void> {
  const [program, args] = namespaced(network, command);
  const child = spawn(program, args, {
    cwd: "/",
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    stdio: ["pipe", "pipe", 2, "pipe"],
  });
  let failure: unknown = null;
  const fail = (error: unknown) => {
    failure ??= error;
    // The first process inside ends then, and unshare waits until the kernel has killed the rest. A kill wouldn't wait.
    child.stdin?.end();
    setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS).unref();
  };
  const guarded = (use: (data: Buffer) => void) => (data: Buffer) => {
    try {
      if (failure === null) use(data);
    } catch (error) {
      fail(error);
    }
  };
  const aborted = () => fail(stop.reason);
  if (stop.aborted) aborted();
  stop.addEventListener("abort", aborted);
  child.stdout?.on("data", guarded(take.report));
  const output = child.stdio[3];
  if (output !== null && output !== undefined && "on" in output) output.on("data", guarded(take.output));
  child.stdin?.on("error", () => {}); // It has ended, which is seen below.
  // The pipe stays open: its end tells the first process inside that nobody waits for it any more.
  child.stdin?.write(request);
  return new Promise((resolve, reject) => {
    child.on("error", (error) =>
      reject(new AegisError("unavailable", `can't start ${program}: ${messageOf(error)}`)),
    );
    child.on("close", () => {
      stop.removeEventListener("abort", aborted);
      if (failure === null) resolve();
      else reject(failure);
    });
  });
}

/**
 * A command in new namespaces (unshare(1)) that dies with this process (setpriv(1), `--pdeathsig`).
 * @throws AegisError `unavailable` where util-linux's programs are missing
 */
export function namespaced(network: boolean, command: readonly string[]): [string, string[]] {
  const [setpriv, unshare] = [neededProgram("setpriv"), neededProgram("unshare")];
  const spaces = ["--mount", "--pid", "--ipc", "--uts", ...(network ? [] : ["--net"])];
  return [
    setpriv,
    ["--pdeathsig", "KILL", "--", unshare, ...spaces, "--fork", "--kill-child", "--", ...command],
  ];
}

/** @throws AegisError `unavailable` */
export function neededProgram(name: string): string {
  const path = resolveProgram(name);
  if (path !== null) return path;
  throw new AegisError("unavailable", `${name} is not installed`, "Install util-linux.");
}
