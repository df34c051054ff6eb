import { type Env, SYSTEM } from "./paths.ts";
import { parseEnvironmentFile } from "./sys-environment-file.ts";

/**
 * The host's source of vulnerability data, from aegisd.env. The executor plans with it, and by default so does a user,
 * so that both have the same data. Empty if not set or not readable.
 */
export function hostVulnerabilityData(
  readText: (path: string) => string | null,
): Pick<Env, "AEGIS_OSV_DIR" | "AEGIS_OSV_URL"> {
  const settings = parseEnvironmentFile(readText(SYSTEM.daemonEnv) ?? "", SYSTEM.daemonEnv);
  return { AEGIS_OSV_DIR: settings.get("AEGIS_OSV_DIR"), AEGIS_OSV_URL: settings.get("AEGIS_OSV_URL") };
}

/** The environment for a user's planning: theirs, with the host's vulnerability data unless they configure their own. */
export function userPlanningEnv(env: Env, readText: (path: string) => string | null): Env {
  const isSet = env.AEGIS_OSV_DIR !== undefined || env.AEGIS_OSV_URL !== undefined;
  return isSet ? env : { ...env, ...hostVulnerabilityData(readText) };
}
