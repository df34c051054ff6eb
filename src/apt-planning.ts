import { join } from "node:path";
import { pinnedSettings } from "./apt-pinned.ts";
import { parseAptDump, renderAptConfig, type Settings, setScalar } from "./apt-settings.ts";
import type { ToolSettings } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";

/*
 * apt's configuration for planning: the host's, frozen from one `apt-config dump`, without anything that would run a
 * program. `apt-get -s` runs AptCli::Hooks as the caller, and planning may run only its fixed list of commands.
 */

/** Hooks and commands, and dpkg's settings: a simulation never reaches dpkg. */
const DROPPED = /^(?:AptCli|DPkg)(?:$|::)|(?:Pre|Post)-Invoke/i;

/** Built-in solvers; any other name is a program that apt would run (EDSP). */
const SOLVERS: readonly string[] = ["", "internal", "3.0"];

/** Built-in planners; any other name is a program (EIPP). */
const PLANNERS: readonly string[] = ["", "internal"];

/** Settings only for planning. */
const OURS: Readonly<Record<string, string>> = {
  // apt logs the complete scenario for its planner and solver, even in a simulation. Only an empty name prevents that:
  // to /dev/null it wrote 50 MB, a few bytes per call (apt 2.6.1).
  "Dir::Log::Planner": "",
  "Dir::Log::Solver": "",
  // Otherwise what autoremove would take may not be listed.
  "APT::Get::HideAutoRemove": "false",
};

/**
 * The APT_CONFIG file for all apt commands of one planning, from `apt-config dump`. `aptCache`, an absolute path, is
 * where apt keeps its binary cache: the first command that needs it builds it, the others read it.
 * @throws AegisError `refused` for a dump that can't be reproduced exactly, as {@link pinnedSettings}, and for an
 * external solver or planner
 */
export function planningConfig(dump: string, aptCache?: string): string {
  const host = parseAptDump(dump);
  refuse(host);
  const settings: Settings = new Map([...pinnedSettings(host)].filter(([key]) => !DROPPED.test(key)));
  for (const [key, value] of Object.entries(OURS)) setScalar(settings, key, value);
  if (aptCache !== undefined) {
    setScalar(settings, "Dir::Cache::pkgcache", aptCache);
    // Its intermediate, useful only if dpkg's status alone had changed.
    setScalar(settings, "Dir::Cache::srcpkgcache", "");
  }
  return renderAptConfig(settings);
}

/** A configuration with package files as sources of their own, beside the host's (`--with-source` of apt-get(8)). */
export function withFiles(config: string, files: readonly { path: string }[]): string {
  return config + files.map(({ path }) => `APT::Sources::With:: "${path}";\n`).join("");
}

/** Passes a configuration to a call of an apt program, as the file named by APT_CONFIG. */
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
