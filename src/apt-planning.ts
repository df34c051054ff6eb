import { join } from "node:path";
import { pinnedSettings } from "./apt-pinned.ts";
import { parseAptDump, renderAptConfig, type Settings, setScalar } from "./apt-settings.ts";
import type { ToolSettings } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";

/*
 * The configuration that planning asks apt with: the host's, frozen from one `apt-config dump`, without whatever would run
 * a program. `apt-get -s` runs AptCli::Hooks as whoever plans, and planning may spawn nothing but its own list of argv.
 */

/** Hooks and commands, and dpkg's settings: a simulation never comes to dpkg. */
const DROPPED = /^(?:AptCli|DPkg)(?:$|::)|(?:Pre|Post)-Invoke/i;

/** Solvers inside apt itself; any other name is a program that apt would run (EDSP). */
const SOLVERS: readonly string[] = ["", "internal", "3.0"];

/** Planners inside apt itself; any other name is a program, as with solvers (EIPP). */
const PLANNERS: readonly string[] = ["", "internal"];

/** What planning sets besides what it has in common with the run. */
const OURS: Readonly<Record<string, string>> = {
  // apt logs the whole scenario it gives its planner and solver, in a simulation too. Only an empty name stops it:
  // into /dev/null it wrote 50 MB, a few bytes a call (apt 2.6.1).
  "Dir::Log::Planner": "",
  "Dir::Log::Solver": "",
};

/**
 * The file for APT_CONFIG of every apt command of one planning, from `apt-config dump`. With `aptCache`, an absolute path,
 * apt keeps its binary cache there: the first command that needs it builds it, and the others read it.
 * @throws AegisError `refused` for a dump that can't be carried over exactly, as
 * {@link pinnedSettings}, and for a solver or planner that is a program of its own
 */
export function planningConfig(dump: string, aptCache?: string): string {
  const host = parseAptDump(dump);
  refuse(host);
  const settings: Settings = new Map([...pinnedSettings(host)].filter(([key]) => !DROPPED.test(key)));
  for (const [key, value] of Object.entries(OURS)) setScalar(settings, key, value);
  if (aptCache !== undefined) {
    setScalar(settings, "Dir::Cache::pkgcache", aptCache);
    // What it would be built from if only dpkg's status had changed.
    setScalar(settings, "Dir::Cache::srcpkgcache", "");
  }
  return renderAptConfig(settings);
}

/** How one call of an apt program is given a configuration: as the file that APT_CONFIG names. */
export function aptSettings(config: string): (home: string) => ToolSettings {
  return (home) => ({
    files: { "apt.conf": config },
    variables: { APT_CONFIG: join(home, "apt.conf") },
  });
}

function refuse(host: Settings): void {
  for (const [key, values] of host) {
    const inside = /^APT::Solver$/i.test(key) ? SOLVERS : /^APT::Planner$/i.test(key) ? PLANNERS : null;
    const program = values.find((value) => inside !== null && !inside.includes(value));
    if (program !== undefined) {
      throw new AegisError(
        "refused",
        `apt is configured with the ${key.slice(5).toLowerCase()} ${program}, a program that planning may not run`,
        `Remove ${key} from /etc/apt/apt.conf.d.`,
      );
    }
  }
}
