import { EXECUTOR_STARTS } from "./eco-sandbox.ts";
import { AegisError } from "./errors.ts";

/*
 * The processes of a sandbox that are Aegis itself, each loaded alone: the first one is root's.
 */

/**
 * Runs the process with this role inside a sandbox. Never returns.
 * @throws AegisError `usage` for a name that is no role
 */
export async function runConfined(role: string, readStdin: () => Promise<string>): Promise<never> {
  switch (role) {
    case "init":
      return (await import("./eco-sandbox-init.ts")).runSandboxInit();
    case "registry":
      return (await import("./eco-registry.ts")).serveClosedRegistry(readStdin);
    case "fetch":
      return (await import("./eco-fetch-worker.ts")).runFetchWorker();
    default:
      throw new AegisError("usage", `${JSON.stringify(role)} is no process of a sandbox`, EXECUTOR_STARTS);
  }
}
