import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";

/**
 * Demanded before a secret key is loaded or made.
 * @throws AegisError `refused` naming what is set
 */
export function assertSafeEnvironment(env: Env): void {
  const dangerous = dangerousEnvironment(env);
  if (dangerous.length === 0) return;
  throw new AegisError(
    "refused",
    `secret keys are not touched while ${dangerous.join(", ")} is set: it can run foreign code in this process`,
    `Type: unset ${dangerous.join(" ")}`,
  );
}

/** Variables that run foreign code in a Bun process, open a debugger, or switch TLS checks off; each name that is set. */
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
