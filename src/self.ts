import { statSync } from "node:fs";
import { version } from "../package.json" with { type: "json" };
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";

/** Where Bun keeps the files inside a compiled executable. */
const COMPILED_ROOT = "/$bunfs/";

/** Whether this is the compiled executable rather than bun running the sources. */
export function isCompiled(): boolean {
  return Bun.main.startsWith(COMPILED_ROOT);
}

/** Program and leading arguments that start Aegis again: the executable, or bun with the entry file. */
export function selfCommand(): { program: string; words: string[] } {
  return { program: process.execPath, words: isCompiled() ? [] : [Bun.main] };
}

/** Whether this process's executable has been replaced or removed since it started, as an upgrade does. */
export function selfReplaced(): boolean {
  const now = statSync(process.execPath, { throwIfNoEntry: false });
  const own = statSync("/proc/self/exe");
  return now === undefined || now.dev !== own.dev || now.ino !== own.ino;
}

/** The version of this build, from package.json. */
export const VERSION: string = version;

/** Resolves when a signal asks this process to stop. */
export function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}

/**
 * Required before a secret key is loaded or generated.
 * @throws AegisError `refused` naming the variables
 */
export function assertSafeEnvironment(env: Env): void {
  const dangerous = dangerousEnvironment(env);
  if (dangerous.length === 0) return;
  throw new AegisError(
    "refused",
    `won't use a secret key while ${dangerous.join(", ")} is set: it can run foreign code in this process`,
    `Type: unset ${dangerous.join(" ")}`,
  );
}

/** Names of the variables set that run foreign code in a Bun process, open a debugger, or disable TLS checks. */
export function dangerousEnvironment(env: Env): string[] {
  return Object.keys(env)
    .filter((name) => (env[name] ?? "") !== "")
    .filter((name) => {
      if (name === "NODE_TLS_REJECT_UNAUTHORIZED") return env[name] === "0";
      return (
        ["BUN_OPTIONS", "BUN_BE_BUN", "NODE_OPTIONS", "LD_PRELOAD", "LD_AUDIT"].includes(name) ||
        name.startsWith("BUN_INSPECT") ||
        name.startsWith("BUN_JSC_")
      );
    })
    .sort();
}
