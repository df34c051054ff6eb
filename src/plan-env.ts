import { type Env, SYSTEM } from "./paths.ts";
import { parseEnvironmentFile } from "./sys-environment-file.ts";

/*
 * What planning takes from the host's own settings, aegisd.env: the source of vulnerability data, and the registries. A plan is only
 * carried out if the executor finds the same, and it knows no settings but these.
 */

/** aegisd.env's name for a registry → the variables that the tool reads, the first of which is set. */
const REGISTRIES: Readonly<Record<string, readonly [string, ...string[]]>> = {
  AEGIS_GOPROXY: ["GOPROXY"],
  AEGIS_GOSUMDB: ["GOSUMDB"],
  AEGIS_NPM_REGISTRY: ["npm_config_registry", "NPM_CONFIG_REGISTRY"],
  AEGIS_PIP_INDEX_URL: ["PIP_INDEX_URL"],
  // cargo itself reads a file.
  AEGIS_CARGO_INDEX: ["AEGIS_CARGO_INDEX"],
  // nuget too.
  AEGIS_NUGET_SOURCE: ["AEGIS_NUGET_SOURCE"],
  AEGIS_VSCODE_GALLERY: ["AEGIS_VSCODE_GALLERY", "EXTENSIONS_GALLERY"],
};

type ReadText = (path: string) => string | null;

/**
 * The environment that the executor plans with: this host's settings, and nothing from a user's or root's home.
 * @throws AegisError `invalid_config` for an aegisd.env that can't be used
 */
export function executorPlanningEnv(readText: ReadText): Env {
  const settings = hostSettings(readText);
  return {
    ...{ HOME: "/nonexistent", XDG_CACHE_HOME: "/var/cache", GOENV: "off" },
    ...vulnerabilityData(settings),
    ...registries(settings, {}),
  };
}

/**
 * The environment for a user's planning: theirs, with the host's vulnerability data and registries where it names none of their own.
 * @throws AegisError `invalid_config` for an aegisd.env that can't be used
 */
export function userPlanningEnv(env: Env, readText: ReadText): Env {
  const settings = hostSettings(readText);
  const hasData = env.AEGIS_OSV_DIR !== undefined || env.AEGIS_OSV_URL !== undefined;
  return { ...env, ...(hasData ? {} : vulnerabilityData(settings)), ...registries(settings, env) };
}

function hostSettings(readText: ReadText): ReadonlyMap<string, string> {
  return parseEnvironmentFile(readText(SYSTEM.daemonEnv) ?? "", SYSTEM.daemonEnv);
}

function vulnerabilityData(settings: ReadonlyMap<string, string>): Env {
  return { AEGIS_OSV_DIR: settings.get("AEGIS_OSV_DIR"), AEGIS_OSV_URL: settings.get("AEGIS_OSV_URL") };
}

function registries(settings: ReadonlyMap<string, string>, env: Env): Env {
  const found: Record<string, string> = {};
  for (const [name, variables] of Object.entries(REGISTRIES)) {
    const value = settings.get(name) ?? "";
    if (value !== "" && variables.every((one) => (env[one] ?? "") === "")) found[variables[0]] = value;
  }
  return found;
}
