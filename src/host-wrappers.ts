import { lstatSync, readlinkSync, rmdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { WRAPPER_NAMES, type WrapperName } from "./eco-names.ts";
import { errnoOf } from "./errors.ts";
import { file, type Step } from "./host-steps.ts";
import { SYSTEM } from "./paths.ts";
import { resolveProgram } from "./sys-spawn.ts";
import { systemd, UNIT_DIRECTORY } from "./sys-systemd.ts";

/** In every user's PATH before /usr/bin, and in sudo's secure_path. */
const WRAPPERS = dirname(SYSTEM.binary);
/** Where administrators put programs of their own. */
const LOCAL = ["/usr/local/bin", "/usr/local/sbin"];

/** apt's own timers call apt-get by name, and systemd's PATH has the wrappers. */
const APT_UNITS = ["apt-daily.service", "apt-daily-upgrade.service"];
const DROP_INS = APT_UNITS.map((unit) => join(UNIT_DIRECTORY, `${unit}.d`, "aegis-wrappers.conf"));
const DROP_IN = `# Written by aegis daemon install --wrappers: this unit calls apt-get by name, and means apt's own.
[Service]
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
`;

/** Puts the wrappers in, for each package manager that is on this host. Made only on request. */
export function wrapperSteps(): Step[] {
  return [
    {
      what: `wrappers in ${WRAPPERS}`,
      needed() {
        const missing = placesIn(WRAPPERS).filter(({ state }) => state === "free");
        return missing.length === 0 ? null : `link ${missing.map(({ name }) => name).join(", ")}`;
      },
      apply: () => installWrappers(WRAPPERS),
    },
    ...DROP_INS.map((path): Step => {
      const step = file(path, DROP_IN);
      return {
        ...step,
        async apply() {
          await step.apply();
          await systemd("systemctl", ["daemon-reload"]);
        },
      };
    }),
  ];
}

/** Package managers that get no wrapper, since something of the administrator's would be in its shadow. In words. */
export function wrappersLeftOut(directory: string = WRAPPERS): string[] {
  return placesIn(directory)
    .filter(({ state }) => state === "taken")
    .map(({ name, by }) => `${name} has no wrapper: ${by} is there already, and was not touched`);
}

/** Links the wrappers into a directory. Whatever is there already stays. */
export function installWrappers(directory: string): void {
  for (const { name, state } of placesIn(directory)) {
    if (state === "free") symlinkSync(SYSTEM.binary, join(directory, name));
  }
}

/** The files that {@link removeWrappers} would remove. */
export function wrapperFiles(directory: string = WRAPPERS): string[] {
  const links = WRAPPER_NAMES.map((name) => join(directory, name)).filter(isOurs);
  return [
    ...links,
    ...DROP_INS.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isFile() === true),
  ];
}

/** Removes the wrappers, and nothing that isn't one. */
export function removeWrappers(directory: string = WRAPPERS): void {
  for (const path of wrapperFiles(directory)) {
    rmSync(path);
    if (!path.startsWith(UNIT_DIRECTORY)) continue;
    try {
      rmdirSync(dirname(path));
    } catch (error) {
      // Somebody else's drop-ins are there too.
      if (errnoOf(error) !== "ENOTEMPTY") throw error;
    }
  }
}

interface Place {
  name: WrapperName;
  state: "ours" | "free" | "taken";
  /** What is there already. */
  by: string;
}

/** Each package manager of this host, and what stands where its wrapper would. */
function placesIn(directory: string): Place[] {
  return WRAPPER_NAMES.flatMap((name): Place[] => {
    const path = join(directory, name);
    if (isOurs(path)) return [{ name, state: "ours", by: path }];
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return [{ name, state: "taken", by: path }];
    const program = resolveProgram(name);
    if (program === null) return [];
    return [{ name, state: LOCAL.includes(dirname(program)) ? "taken" : "free", by: program }];
  });
}

function isOurs(path: string): boolean {
  try {
    return readlinkSync(path) === SYSTEM.binary;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "EINVAL") return false;
    throw error;
  }
}
