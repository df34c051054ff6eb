import { spawn } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { ThrowawayHost } from "./throwaway.ts";

/*
 * Aegis as people start it, for tests of whole commands.
 */

export const ROOT = join(import.meta.dir, "..");
const BINARY = join(ROOT, "dist/aegis");

/** The two ways to start it; every command must behave the same in both. */
export const PROGRAMS = {
  sources: [process.execPath, join(ROOT, "src/cli.ts")],
  binary: [BINARY],
} as const;

/** Builds the executable if there is none or the sources have changed since. */
export function buildWhereNeeded(): void {
  const built = statSync(BINARY, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const newest = Math.max(
    ...readdirSync(join(ROOT, "src")).map((name) => statSync(join(ROOT, "src", name)).mtimeMs),
  );
  if (built > newest) return;
  const { exitCode, stderr } = Bun.spawnSync([join(ROOT, "scripts/build")], { stdout: "ignore" });
  if (exitCode !== 0) throw new Error(`scripts/build failed:\n${stderr}`);
}

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface StartOptions {
  /** The whole environment. */
  env: Readonly<Record<string, string>>;
  cwd: string;
  stdin?: string;
  /** Closes our end of standard output before anything is written. */
  closeStdout?: boolean;
  /** argv[0], if not the program's name. */
  argv0?: string;
}

/** Runs a command to its end, in a new session without a terminal. */
export function start(argv: readonly string[], options: StartOptions): Promise<Ended> {
  const [program = "", ...args] = argv;
  const { env, cwd, stdin = "", closeStdout, argv0 } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env,
      cwd,
      detached: true,
      ...(argv0 === undefined ? {} : { argv0 }),
    });
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    if (closeStdout) child.stdout.destroy();
    else child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    // A command that reads nothing may exit before its input is written.
    child.stdin.on("error", () => {});
    child.stdin.end(stdin);
    child.once("error", reject);
    child.once("close", (status) =>
      resolve({ status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

/** Bundles test/state-worker.ts onto a throw-away host. Returns the argv that starts it there. */
export async function installStateWorker(host: Pick<ThrowawayHost, "write">): Promise<string[]> {
  const built = await Bun.build({ entrypoints: [join(ROOT, "test/state-worker.ts")], target: "bun" });
  const [output] = built.outputs;
  if (output === undefined) throw new Error(built.logs.join("\n"));
  host.write("/root/state-worker.js", await output.text());
  return [process.execPath, "/root/state-worker.js"];
}
