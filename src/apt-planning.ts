import { parseAptDump, renderAptConfig } from "./apt-config.ts";
import { AegisError } from "./errors.ts";

/*
 * The configuration that planning asks apt with: the host's, frozen from one `apt-config dump`, without whatever would run
 * a program. `apt-get -s` runs AptCli::Hooks as whoever plans, and planning may spawn nothing but its own list of argv.
 */

type Settings = ReturnType<typeof parseAptDump>;

/** Hooks and commands, dpkg's settings (a simulation never comes to dpkg), and what was meant for one program alone. */
const DROPPED = /^(?:AptCli|DPkg|Binary|CommandLine)(?:$|::)|(?:Pre|Post)-Invoke/i;

/** Solvers inside apt itself; any other name is a program that apt would run (EDSP). */
const SOLVERS: readonly string[] = ["", "internal", "3.0"];

/** What planning sets, whatever the host does. */
const OURS: Readonly<Record<string, string>> = {
  "Dir::Etc::main": "/dev/null",
  "Dir::Etc::parts": "/dev/null",
  "Dir::Bin::dpkg": "/usr/bin/dpkg",
  // In a unit with PrivateTmp apt believes it is in a chroot and ignores phasing.
  "Dir::Bin::ischroot": "/bin/false",
};

/**
 * The file for APT_CONFIG of every apt command of one planning, from `apt-config dump`.
 * @throws AegisError `refused` for a dump that can't be carried over exactly, settings for apt-get alone, since apt applies
 * those after every file, and a solver that is a program of its own
 */
export function planningConfig(dump: string): string {
  const host = parseAptDump(dump);
  refuse(host);
  // A key written twice is one setting to apt, whatever its case: the last one counts.
  const settings: Settings = new Map([...host].filter(([key]) => !DROPPED.test(key)));
  for (const [key, value] of Object.entries(OURS)) {
    settings.delete(key);
    settings.set(key, [value]);
  }
  return renderAptConfig(settings);
}

function refuse(host: Settings): void {
  for (const [key, values] of host) {
    if (/^Binary::apt-get::/i.test(key)) {
      throw new AegisError(
        "refused",
        `apt is configured with ${key}, which wins over everything Aegis sets`,
        "Remove the Binary::apt-get settings from /etc/apt/apt.conf.d.",
      );
    }
    const solver = /^APT::Solver$/i.test(key) ? values[0] : undefined;
    if (solver !== undefined && !SOLVERS.includes(solver)) {
      throw new AegisError(
        "refused",
        `apt is configured with the solver ${solver}, a program that planning may not run`,
        "Remove APT::Solver from /etc/apt/apt.conf.d.",
      );
    }
  }
}
