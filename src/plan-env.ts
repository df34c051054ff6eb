import { type Env, SYSTEM } from "./paths.ts";
import { parseEnvironmentFile } from "./sys-environment-file.ts";

/**
 * Where this host's own vulnerability data comes from, by aegisd.env: the executor plans with it, and so does a user who has
 * set nothing else, so that both know the same. Empty where nothing is set or the file is not to be read.
 */
export function hostVulnerabilityData(
  readText: (path: string) => string | null,
): Pick<Env, "AEGIS_OSV_DIR" | "AEGIS_OSV_URL"> {
  const settings = parseEnvironmentFile(readText(SYSTEM.daemonEnv) ?? "", SYSTEM.daemonEnv);
  return { AEGIS_OSV_DIR: settings.get("AEGIS_OSV_DIR"), AEGIS_OSV_URL: settings.get("AEGIS_OSV_URL") };
}

/** The environment a user's plan is made with: theirs, with the host's vulnerability data where they name none. */
export function userPlanningEnv(env: Env, readText: (path: string) => string | null): Env {
  const isSet = env.AEGIS_OSV_DIR !== undefined || env.AEGIS_OSV_URL !== undefined;
  return isSet ? env : { ...env, ...hostVulnerabilityData(readText) };
}
